package relay

import (
	"encoding/binary"
	"encoding/hex"
	"io"
	"slices"
	"time"

	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// Cover messages say nothing, at random times: servers see that something was said more often than it was (MLS over ActivityPub, "Timestamps"; S001-106). Each conversation
// and channel has one on its way, as a timer.

// timerThreadCover is the timer of the next cover message.
const timerThreadCover = timerThread + "cover"

// maxCoverText is up to how many octets a cover message is filled, so that it is as long as short messages are.
const maxCoverText = 400

// random is a number below n.
func (x *apStep) random(n uint64) (uint64, error) {
	var b [8]byte
	_, err := io.ReadFull(x.Rand, b[:])
	return binary.BigEndian.Uint64(b[:]) % n, err
}

// planCover puts the time of the next cover message, up to twice the mean away, when there is none yet.
func (x *apStep) planCover() error {
	every, st := x.face.CoverEvery, &x.room.st
	if every <= 0 || x.thread == nil || st.LeftMS > 0 || st.CoverMS > x.nowMS() || x.thread.Group.OwnCount() == 0 {
		return nil
	}
	wait, err := x.random(uint64(2 * every))
	if err != nil {
		return err
	}
	st.CoverMS = x.now.Add(max(time.Duration(wait), time.Second)).UnixMilli()
	x.later(timerThreadCover, st.CoverMS)
	return nil
}

// sayNothing sends a cover message in the name of one of ours who has joined, when its time has come.
func (x *apStep) sayNothing() error {
	if x.face.CoverEvery <= 0 || x.thread == nil || x.room.st.LeftMS > 0 || x.room.pending != nil || x.nowMS() < x.room.st.CoverMS {
		return nil
	}
	own := slices.DeleteFunc(x.ownActors(), func(actor string) bool {
		m, ok := x.memberOfActor(actor)
		return !ok || m.Membership != string(event.Join)
	})
	if len(own) == 0 {
		return nil
	}
	who, err := x.random(uint64(len(own)))
	if err != nil {
		return err
	}
	length, err := x.random(maxCoverText / 2)
	if err != nil {
		return err
	}
	fill := make([]byte, length)
	if _, err := io.ReadFull(x.Rand, fill); err != nil {
		return err
	}
	var id content.MessageID
	if _, err := io.ReadFull(x.Rand, id[:]); err != nil {
		return err
	}
	nothing := &ap.Content{Type: "IntransitiveActivity", ID: ap.NewID(id), Actor: own[who], Text: hex.EncodeToString(fill)}
	e, err := x.thread.Say(x.Rand, own[who], nothing.Marshal(false))
	if err != nil {
		return err
	}
	x.apply(e)
	return x.sendMLS(own[who], e.Message, x.thread.Actors())
}
