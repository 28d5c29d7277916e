package follower

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Kind says what an item turned out to be.
type Kind int

// The kinds of outcomes.
const (
	// Nothing: a repetition, an own message that came back, or something that has no meaning any more.
	Nothing Kind = iota
	// Message: an application message was decrypted.
	Message
	// Proposals: one or more were verified and cached.
	Proposals
	// Commit: another member's commit was verified; merge it.
	Commit
	// OwnCommit: our own pending commit came back; merge it.
	OwnCommit
	// Stale: a commit of somebody else for an epoch that is over. It may have been overtaken, or the hub has gone back
	// to an earlier state: compare.
	Stale
	// Early: the item needs something that has not come yet. It waits.
	Early
	// Unreadable: a message that cannot be decrypted, now or later. Tell the room.
	Unreadable
	// Invalid: refused for good. A commit of the present epoch that is invalid for us and that the hub took means that we are
	// out of step with the room: see Desync.
	Invalid
	// Desync: the group cannot go on; join anew.
	Desync
)

// Outcome is what one item of the fan-out leads to.
type Outcome struct {
	Kind Kind
	// Application is the message of kind Message.
	Application *mls.Application
	// Staged is the commit of kind Commit, to be merged.
	Staged *mls.Staged
	// Changes are what the group changed in memory by taking the item (docs/flow.md, T4, T10), to be stored in the order given.
	Changes []mls.Changes
	// Err says why, for Unreadable, Invalid, Early and Desync.
	Err error
}

// Take applies one item that is not a Welcome to the group. pending is our commit under way, nil when there is none.
// The group changes in memory (ratchets, cached proposals) but is not moved to another epoch: the caller merges.
func Take(now time.Time, g *mls.Group, pending *Pending, item *wire.FanoutMessage) Outcome {
	m := item.Message
	switch place := PlaceOf(m, g.GroupID(), g.Epoch()); {
	case place == Foreign:
		return Outcome{Kind: Invalid, Err: errors.New("take fan-out item: it is of another group")}
	case place == Later:
		return Outcome{Kind: Early, Err: fmt.Errorf("take fan-out item: epoch %d has not come", m.Epoch())}
	case m.Format() == mls.WireFormatPrivateMessage:
		return takeMessage(now, g, m)
	case m.Format() != mls.WireFormatPublicMessage:
		return Outcome{Kind: Invalid, Err: fmt.Errorf("take fan-out item: wire format 0x%04x", uint16(m.Format()))}
	case place == Past:
		return Outcome{Kind: pastKind(g, m)}
	case m.Content() == mls.ContentProposal:
		return takeProposals(now, g, append([]wire.Message{m}, item.MoreProposals...))
	default:
		return takeCommit(now, g, pending, m)
	}
}

func takeMessage(now time.Time, g *mls.Group, m wire.Message) Outcome {
	app, changes, err := g.Unprotect(now, m.Raw)
	switch {
	case err == nil:
		return Outcome{Kind: Message, Application: app, Changes: []mls.Changes{changes}}
	case errors.Is(err, mls.ErrOwnMessage), mls.KindOf(err) == mls.KindReplay && !errors.Is(err, mls.ErrForgotten):
		return Outcome{Kind: Nothing, Err: err}
	default:
		return Outcome{Kind: Unreadable, Err: err}
	}
}

// takeProposals caches proposals. One that does not verify is passed over: the hub took it, and a commit that refers to it
// will show whether it matters.
func takeProposals(now time.Time, g *mls.Group, list []wire.Message) Outcome {
	out := Outcome{Kind: Proposals}
	var errs []error
	for _, m := range list {
		_, changes, err := g.ReceiveProposal(now, m.Raw)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out.Changes = append(out.Changes, changes)
	}
	if len(out.Changes) == 0 {
		out.Kind = Invalid
	}
	out.Err = errors.Join(errs...)
	return out
}

// pastKind tells what a handshake message of an epoch that is over is: our own commits come back as well.
func pastKind(g *mls.Group, m wire.Message) Kind {
	if m.Content() != mls.ContentCommit || m.MLS == nil || m.MLS.Public == nil {
		return Nothing
	}
	from := m.MLS.Public.Content.Sender
	if from.Type != mls.SenderMember || slices.Contains(g.OwnLeaves(), from.Leaf) {
		return Nothing
	}
	return Stale
}

func takeCommit(now time.Time, g *mls.Group, pending *Pending, m wire.Message) Outcome {
	hash := m.Hash()
	if pending != nil && pending.OnCommit(m.Epoch(), hash[:]) == Merge {
		return Outcome{Kind: OwnCommit}
	}
	staged, err := g.StageReceived(now, m.Raw)
	switch {
	case err == nil:
		return Outcome{Kind: Commit, Staged: staged}
	case errors.Is(err, mls.ErrUnknownProposalRef):
		return Outcome{Kind: Early, Err: err}
	case errors.Is(err, mls.ErrOwnMessage):
		// A commit of an own leaf that we do not have pending: an earlier life of this database made it.
		return Outcome{Kind: Desync, Err: err}
	default:
		return Outcome{Kind: Desync, Err: err}
	}
}
