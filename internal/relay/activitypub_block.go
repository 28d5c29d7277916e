package relay

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// leaveTime is how long the others have for committing that ours leave; after that the group is forgotten here.
const leaveTime = 7 * 24 * time.Hour

// blocked tells whether an actor is of a server that is not spoken with.
func (a *ActivityPub) blocked(actor string) bool {
	return a.Blocked != nil && !a.Site.Own(actor) && a.Blocked(hostOnly(actor))
}

// blockedAmong are those of some actors who are of servers that are not spoken with.
func (a *ActivityPub) blockedAmong(actors []string) []string {
	return slices.DeleteFunc(slices.Clone(actors), func(actor string) bool { return !a.blocked(actor) })
}

// roomsAtOnce is how many rooms are looked at by one query.
const roomsAtOnce = 500

// LeaveBlocked looks for conversations and channels with people of blocked servers, and lets ours leave the conversations and the channels that such a server
// leads; from channels of ours those people are removed (docs/activitypub.md, "Blocked origins"). It is to be called when a server was blocked, and at the start.
// Rooms that are being left are passed over. What it decides is stored when it returns.
func (a *ActivityPub) LeaveBlocked(ctx context.Context) error {
	for after := (store.RoomID{}); ; {
		rooms, err := a.Store.Rooms(ctx, after, roomsAtOnce)
		if err != nil || len(rooms) == 0 {
			return err
		}
		after = rooms[len(rooms)-1].ID
		for _, r := range rooms {
			if r.State != stateAP || r.Epoch < 0 {
				continue
			}
			if err := a.leaveIfBlocked(ctx, r.ID); err != nil {
				return err
			}
		}
	}
}

func (a *ActivityPub) leaveIfBlocked(ctx context.Context, room store.RoomID) error {
	st, err := a.stateOf(ctx, room)
	if err != nil || st.LeftMS > 0 {
		return err
	}
	if concerns, err := a.blockConcerns(ctx, room, st.Channel); err != nil || !concerns {
		return err
	}
	if st.Channel == nil {
		return a.threadTask(ctx, room, threadTask{Block: true})
	}
	err = a.Store.Tx(ctx, func(tx *store.Tx) error { return a.task(ctx, tx, room, channelTask{Do: taskBlock}, "") })
	a.Wake(room)
	return err
}

// blockConcerns tells whether a blocked server leads a channel, or has people in a channel of ours or, with c nil, in a conversation.
func (a *ActivityPub) blockConcerns(ctx context.Context, room store.RoomID, c *channelState) (bool, error) {
	if c != nil && !c.Hub {
		return a.blocked(c.ID), nil
	}
	members, err := a.Store.Members(ctx, room)
	return slices.ContainsFunc(members, func(m store.Member) bool {
		return m.URI != "" && m.Membership != string(event.Leave) && a.blocked(m.URI)
	}), err
}

// leaveBlocked does what LeaveBlocked found to be done in a room.
func (x *apStep) leaveBlocked() error {
	if x.thread == nil || x.room.st.LeftMS > 0 {
		return nil
	}
	c, actors := x.room.st.Channel, x.face.blockedAmong(x.thread.Actors())
	if len(actors) == 0 {
		return nil
	}
	var hosts []string
	for _, actor := range actors {
		if h := hostOnly(actor); !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	why := "The operator of this bridge has blocked " + strings.Join(hosts, ", ") + ". "
	if c != nil && c.Hub {
		x.notice(why+"The people of that server were removed from the channel.", "")
		return x.commitNow(c.ID, nil, nil, actors)
	}
	x.startLeaving()
	x.notice(why+"Everybody of this bridge leaves this conversation: what is said here from now on is heard by nobody outside.", "")
	if c != nil {
		for _, actor := range x.ownActors() {
			x.wish(intentRemove, actor, actor, intentData{By: actor})
		}
		return x.advanceChannel()
	}
	return x.goOut()
}

// startLeaving notes that all of ours leave.
func (x *apStep) startLeaving() {
	x.room.st.LeftMS = x.nowMS()
	x.later(timerThreadLeft, x.now.Add(leaveTime).UnixMilli())
	if x.room.st.Set != "" { // a new conversation of the same people is another
		x.fx.unbind = append(x.fx.unbind, name{store.NameSet, x.room.st.Set})
		x.room.st.Set = ""
	}
}

// ownActors are the actors of ours with a leaf in the group.
func (x *apStep) ownActors() []string {
	return slices.DeleteFunc(x.thread.Actors(), func(actor string) bool { _, own := x.thread.Leaf(actor); return !own })
}

// goOut takes ours out of a conversation: all but one by a commit, and the last by a proposal, which is made anew in each epoch until one of the others has
// committed it.
func (x *apStep) goOut() error {
	own := x.ownActors()
	if len(own) == 0 {
		x.forgetGroup()
		return nil
	}
	last := own[0]
	if len(own) > 1 {
		others := x.thread.Actors()
		e, err := x.thread.Commit(x.Rand, x.now, last, nil, own[1:], true)
		if err != nil {
			return err
		}
		x.apply(e)
		if err := x.sendMLS(last, e.Commit, others); err != nil {
			return err
		}
	}
	e, err := x.thread.Leave(x.Rand, x.now, last, true)
	if err != nil {
		return err
	}
	x.apply(e)
	return x.sendMLS(last, e.Proposal, x.thread.Actors())
}

// leftBehind ends a leave that nobody committed in time.
func (x *apStep) leftBehind() error {
	since := x.room.st.LeftMS
	if x.thread == nil || since == 0 || x.nowMS() < since+leaveTime.Milliseconds() {
		return nil
	}
	if x.room.st.Channel != nil {
		return x.overChannel()
	}
	x.forgetGroup()
	return nil
}

// forgetGroup drops a group in which nobody of ours is any more.
func (x *apStep) forgetGroup() {
	x.fx.dropGroup, x.fx.newGroup, x.fx.changes = true, nil, nil
	x.room.head.Epoch, x.thread = -1, nil
	x.room.st.Thread = nil
	x.releaseAll()
}

// leftAlready tells whether a room is left because of a block; who says something there hears so.
func (x *apStep) leftAlready(ev event.Event) bool {
	if x.room.st.LeftMS == 0 {
		return false
	}
	if ev.StateKey == nil && x.exported(string(ev.Sender)) {
		x.failed(string(ev.ID), string(ev.Sender), "this bridge has left the conversation", false)
	}
	return true
}

// Leaving implements activitypub.Backend.
func (a *ActivityPub) Leaving(ctx context.Context, group []byte) (bool, error) {
	room, err := a.Store.RoomByName(ctx, store.NameGroup, hex.EncodeToString(group))
	if errors.Is(err, store.ErrNotFound) || err == nil && (room.State != stateAP || room.Epoch < 0) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	st, err := a.stateOf(ctx, room.ID)
	return st.LeftMS > 0, err
}

// Deliver sends an activity of ours to an inbox, signed by its actor. A blocked server gets nothing but the handshakes of groups that ours are leaving.
func (a *ActivityPub) Deliver(ctx context.Context, s *ap.Sender, inbox string, body []byte) (ap.Delivery, error) {
	key, err := a.KeyOf(ctx, body)
	if err != nil {
		return ap.Delivery{}, err
	}
	d, err := s.Deliver(ctx, key, inbox, body)
	if !errors.Is(err, ap.ErrBlocked) {
		return d, err
	}
	if leaves, lookErr := a.onlyLeaves(ctx, body); lookErr != nil || !leaves {
		return d, cmp.Or(lookErr, err)
	}
	return s.Despite().Deliver(ctx, key, inbox, body)
}

// onlyLeaves tells whether an activity of ours is nothing but handshakes of groups that ours are leaving.
func (a *ActivityPub) onlyLeaves(ctx context.Context, body []byte) (bool, error) {
	sent, err := ap.ReadActivity(body)
	if err != nil {
		return false, nil // it stays blocked
	}
	groups := sent.HandshakesOf()
	for _, group := range groups {
		if leaving, err := a.Leaving(ctx, group); err != nil || !leaving {
			return false, err
		}
	}
	return len(groups) > 0, nil
}
