package follower

import (
	"bytes"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Pending is what is known of a commit of ours that was sent to the hub (docs/flow.md, T6 to T9).
type Pending struct {
	BaseEpoch  uint64
	CommitHash []byte // SHA-256 of the MLSMessage
	Transcript []byte // confirmed transcript hash of the epoch that it leads to
}

// Fate is what becomes of a pending commit. Only evidence decides; a timeout is none.
type Fate int

// The fates.
const (
	// Keep: nothing is known yet.
	Keep Fate = iota
	// Merge: the hub took it (T7).
	Merge
	// Lost: another commit took the epoch (T8). The intents stay open.
	Lost
	// Refused: the hub will not take it; its intents fail.
	Refused
	// Ask: the hub is in another epoch and the commit that took ours has not come. Wait for it a moment, then
	// compare with the hub's GroupInfo (T9).
	Ask
	// Behind: the group moved on by more than one epoch; neither can be told. Discard and join anew.
	Behind
)

// OnAnswer judges the hub's answer to the update.
func (p Pending) OnAnswer(a *wire.UpdateRoomResponse) Fate {
	switch a.ResponseCode {
	case wire.UpdateSuccess:
		return Merge
	case wire.UpdateWrongEpoch:
		return Ask
	default:
		return Refused
	}
}

// OnCommit judges a commit that came by notify, of the hash and made in the epoch.
func (p Pending) OnCommit(epoch uint64, hash []byte) Fate {
	switch {
	case epoch != p.BaseEpoch:
		return Keep
	case bytes.Equal(hash, p.CommitHash):
		return Merge
	default:
		return Lost
	}
}

// OnGroupInfo judges the hub's present GroupContext: the confirmed transcript hash names the commits that led to it.
func (p Pending) OnGroupInfo(c *mls.GroupContext) Fate {
	switch {
	case c.Epoch <= p.BaseEpoch:
		return Keep
	case c.Epoch > p.BaseEpoch+1:
		return Behind
	case bytes.Equal(c.ConfirmedTranscriptHash, p.Transcript):
		return Merge
	default:
		return Lost
	}
}

// MaxTries is how often an intent is put into a new commit after the one before lost (docs/mapping.md §11, wrongEpoch).
const MaxTries = 10

// MaxResends is how often a message is said again in a newer epoch (docs/mapping.md §11, epochTooOld).
const MaxResends = 5

// Resend is what follows from the hub's answer to a message.
type Resend int

// What follows.
const (
	// Delivered: the hub took it.
	Delivered Resend = iota
	// Again: the epoch was too old; catch up and encrypt the same content in the new epoch (T3).
	Again
	// Failed: the hub will never take it.
	Failed
)

// OnSubmit judges the answer to a message that was said tries times.
func OnSubmit(a *wire.SubmitMessageResponse, tries int) Resend {
	switch {
	case a.StatusCode == wire.SubmitAccepted:
		return Delivered
	case a.StatusCode == wire.SubmitEpochTooOld && tries < MaxResends:
		return Again
	default:
		return Failed
	}
}
