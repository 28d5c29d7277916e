package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/matrix-mimi/bridge/internal/store"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// receiveChannel takes an activity that concerns a channel: one of ours, or one of another server in which users of ours are or to which they are added. handled
// is false for everything else.
func (a *ActivityPub) receiveChannel(ctx context.Context, d ap.Delivered) (handled, fresh bool, err error) {
	act := d.Activity
	if d.Forwarded != nil {
		act = d.Forwarded
	}
	if room, ok, err := a.ownChannel(ctx, act, d); err != nil || ok {
		if err == nil && d.Forwarded != nil {
			err = ap.ErrForbidden // nobody speaks for members of our own channels
		}
		if err == nil {
			fresh, err = a.receiveHub(ctx, room, d)
		}
		return true, fresh, err
	}
	room, err := a.otherChannel(ctx, d, act)
	if err != nil || room.IsZero() {
		return err != nil, false, err
	}
	if t := d.Activity.Type; t == "Accept" || t == "Reject" {
		return true, true, a.Store.Tx(ctx, func(tx *store.Tx) error {
			return a.task(ctx, tx, room, channelTask{Do: taskAnswer, ID: d.Activity.ObjectID, Text: t}, d.Activity.ID)
		})
	}
	fresh, err = a.receiveMember(ctx, room, d, act)
	return true, fresh, err
}

// ownChannel finds the channel of ours that an activity is for: by its target, or by the group of its MLS bytes.
func (a *ActivityPub) ownChannel(ctx context.Context, act *ap.Activity, d ap.Delivered) (store.RoomID, bool, error) {
	channel := act.ChannelOf()
	if act.Type == "Undo" && act.Object != nil && act.Object.Str("type") == "Follow" {
		channel = act.Object.Str("object")
	}
	if kind, token := a.Site.Parse(channel); kind == ap.KindRoom {
		room, _, err := a.hostedRoom(ctx, token)
		return room.ID, true, err
	}
	if act.Type == "Follow" {
		return store.RoomID{}, false, nil
	}
	octets := mlsOf(act, d.MLS)
	if octets == nil {
		return store.RoomID{}, false, nil
	}
	room, c, err := a.groupChannel(ctx, octets)
	return room, c != nil && c.Hub, err
}

// groupChannel finds the channel whose group MLS bytes are of; nil when there is none.
func (a *ActivityPub) groupChannel(ctx context.Context, octets []byte) (store.RoomID, *channelState, error) {
	m, _, err := ap.ParseMLS(octets)
	if err != nil {
		return store.RoomID{}, nil, err
	}
	var group []byte
	switch {
	case m == nil:
	case m.Private != nil:
		group = m.Private.GroupID
	case m.Public != nil:
		group = m.Public.Content.GroupID
	}
	if group == nil {
		return store.RoomID{}, nil, nil
	}
	room, err := a.Store.RoomByName(ctx, store.NameGroup, fmt.Sprintf("%x", group))
	if errors.Is(err, store.ErrNotFound) || err == nil && room.State != stateAP {
		return store.RoomID{}, nil, nil
	}
	if err != nil {
		return store.RoomID{}, nil, err
	}
	c, err := a.channelOf(ctx, room.ID)
	return room.ID, c, err
}

// otherChannel finds the room of a channel of another server that an activity comes from, and makes it when users of ours are added to a new one. The zero id: it is none.
// What is said of a channel counts only from its own server.
func (a *ActivityPub) otherChannel(ctx context.Context, d ap.Delivered, act *ap.Activity) (store.RoomID, error) {
	signer := d.Activity.Actor
	room, err := a.Store.RoomIDByName(ctx, store.NameActor, signer)
	if err == nil || !errors.Is(err, store.ErrNotFound) {
		return room, err
	}
	channel := act.ChannelOf()
	if channel == "" || originOf(channel) != originOf(signer) || act.Welcome == nil {
		return a.strayMLS(ctx, d, act)
	}
	if room, err = a.Store.RoomIDByName(ctx, store.NameActor, channel); err == nil || !errors.Is(err, store.ErrNotFound) {
		return room, err
	}
	m, _, err := ap.ParseMLS(act.Welcome)
	if err != nil || m == nil || m.Welcome == nil {
		return store.RoomID{}, fmt.Errorf("%w: no Welcome", ap.ErrActivity)
	}
	if keys, _, err := a.joinKeysOf(ctx, m.Welcome); err != nil || len(keys) == 0 {
		return store.RoomID{}, err // nobody of ours
	}
	them, err := a.People.Actor(ctx, channel, false)
	if err != nil {
		return store.RoomID{}, fmt.Errorf("channel %s: %w", channel, err)
	}
	if !them.IsChannel() {
		return store.RoomID{}, fmt.Errorf("%w: %s is no channel", ap.ErrActivity, channel)
	}
	return a.openChannel(ctx, channel, them.Inbox)
}

// strayMLS refuses bytes of a channel's group that come from another than the channel: only it puts them in order.
func (a *ActivityPub) strayMLS(ctx context.Context, d ap.Delivered, act *ap.Activity) (store.RoomID, error) {
	octets := mlsOf(act, d.MLS)
	if octets == nil {
		return store.RoomID{}, nil
	}
	_, c, err := a.groupChannel(ctx, octets)
	if err == nil && c != nil {
		err = fmt.Errorf("%w: only the channel sends what happens in it", ap.ErrForbidden)
	}
	return store.RoomID{}, err
}

// openChannel makes the room of a channel of another server, or finds it.
func (a *ActivityPub) openChannel(ctx context.Context, channel, inbox string) (store.RoomID, error) {
	room := store.Room{ID: store.DerivedRoomID("channel", channel), Kind: store.RoomUser, State: stateAP, Epoch: -1, CreatedMS: a.Clock().UnixMilli()}
	err := a.Store.Tx(ctx, func(tx *store.Tx) error {
		found, fresh, err := tx.FindOrCreateRoom(ctx, store.NameActor, channel, room)
		if err != nil || !fresh {
			room = found
			return err
		}
		return tx.SetRoomState(ctx, room.ID, keyState, string(mustJSON(roomState{Channel: &channelState{ID: channel, Inbox: inbox}})), a.Clock().UnixMilli())
	})
	return room.ID, err
}

// receiveMember takes what a channel of another server passed on. d.Activity is the channel's, act that of the member inside, or the same.
func (a *ActivityPub) receiveMember(ctx context.Context, room store.RoomID, d ap.Delivered, act *ap.Activity) (fresh bool, err error) {
	err = a.run(ctx, room, func(x *apStep) error {
		c := x.room.st.Channel
		if c == nil || c.Hub {
			return ap.ErrNotFound
		}
		if d.Activity.Actor != c.ID && !(act.Welcome != nil && originOf(d.Activity.Actor) == originOf(c.ID)) {
			return ap.ErrForbidden
		}
		if t := act.ChannelOf(); t != "" && t != c.ID {
			return fmt.Errorf("%w: it is about another channel", ap.ErrForbidden)
		}
		octets := mlsOf(act, d.MLS)
		if act.Type == "Update" && octets == nil {
			fresh, err = x.onChannelChanged(d.Activity.ID, act.Object)
			return err
		}
		welcome := welcomeIn(act.Welcome)
		if w := welcomeIn(octets); w != nil {
			welcome, octets = w, nil
		}
		// What another of the channel's server sends lets in who is added; only the channel puts commits in order.
		if x.thread != nil && octets != nil && d.Activity.Actor == c.ID {
			if fresh, err = x.followBytes(octets); err != nil {
				return err
			}
		}
		if welcome != nil {
			joined, err := x.joinChannel(d.Activity.Actor, welcome, act.Object)
			if err != nil {
				return err
			}
			fresh = fresh || joined
		}
		return x.advanceChannel()
	})
	if err == nil && fresh {
		a.Wake(room)
	}
	return fresh, err
}

// onChannelChanged shows what a channel of another server says of itself; id is that of the activity.
func (x *apStep) onChannelChanged(id string, object ap.Object) (fresh bool, err error) {
	if fresh, err = x.fresh("ap-activity", id); err != nil || !fresh || x.thread == nil {
		return fresh, err
	}
	change, err := ap.ReadChannelChange(object)
	if err != nil {
		return fresh, err
	}
	x.face.forget(x.room.st.Channel.ID)
	x.showChange(change, x.cfg.Bot)
	return fresh, nil
}

// welcomeIn is the Welcome that MLS bytes are, nil when they are something else.
func welcomeIn(octets []byte) *mls.Welcome {
	m, _, err := ap.ParseMLS(octets)
	if err != nil || m == nil {
		return nil
	}
	return m.Welcome
}

// followBytes takes MLS bytes of the channel's group in the order in which the channel sends them.
func (x *apStep) followBytes(octets []byte) (bool, error) {
	if p := x.room.pending; p != nil && string(p.CommitHash) == string(ap.HashBytes(octets)) {
		return true, x.settleChannel()
	}
	fresh, err := x.fresh("ap", hashKey(octets))
	if err != nil || !fresh {
		return false, err
	}
	epoch := x.thread.Group.Epoch()
	e, err := x.thread.Follow(x.now, octets)
	switch {
	case errors.Is(err, ap.ErrOld):
		return true, nil
	case errors.Is(err, ap.ErrEarly):
		if m, _, parseErr := ap.ParseMLS(octets); parseErr == nil && epochOf(m) < epoch {
			return true, nil // from before we came
		}
		return false, err // the commits before it are on their way
	case err != nil:
		return false, fmt.Errorf("%w: %w", ap.ErrActivity, err)
	}
	x.apply(e)
	if e.Said != nil {
		return true, x.hear(e.Said)
	}
	if x.thread.Group.Epoch() == epoch {
		return true, nil // a proposal, which the channel commits
	}
	if x.room.pending != nil {
		x.dropChannelPending()
	}
	x.release(int64(x.thread.Group.Epoch()))
	if err := x.place(e.Joined, e.Left, e.By); err != nil {
		return true, err
	}
	if e.Gone {
		return true, x.overChannel()
	}
	return true, nil
}

func epochOf(m *mls.MLSMessage) uint64 {
	switch {
	case m == nil:
	case m.Private != nil:
		return m.Private.Epoch
	case m.Public != nil:
		return m.Public.Content.Epoch
	}
	return 0
}

// joinChannel joins the group of a channel with those of ours whom a Welcome is for. They are invited; nothing is said for them before they come.
func (x *apStep) joinChannel(signer string, w *mls.Welcome, object ap.Object) (bool, error) {
	keys, refs, err := x.joinKeys(w)
	if err != nil || len(keys) == 0 {
		return false, err // for others, or used already
	}
	c := x.room.st.Channel
	x.fx.usedKeys = append(x.fx.usedKeys, refs...)
	if x.thread != nil {
		e, err := x.thread.JoinMore(x.now, w, keys)
		if err != nil {
			return false, fmt.Errorf("%w: %w", ap.ErrActivity, err)
		}
		x.apply(e)
		return true, x.place(x.thread.Actors(), nil, c.ID)
	}
	t, e, err := ap.JoinThread(x.now, x.face.mls, w, keys)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ap.ErrActivity, err)
	}
	if x.face.blocked(c.ID) {
		return false, fmt.Errorf("%w: %w", ap.ErrForbidden, ap.ErrBlocked)
	}
	if actors := t.Actors(); !slices.Contains(actors, signer) && !slices.Contains(actors, c.ID) {
		return false, fmt.Errorf("%w: neither the channel nor who sends the Welcome is in its group", ap.ErrForbidden)
	}
	group := t.Group.GroupID()
	if other, err := x.Store.RoomIDByName(x.ctx, store.NameGroup, fmt.Sprintf("%x", group)); err == nil && other != x.room.head.ID {
		return false, fmt.Errorf("%w: the group is another room's", ap.ErrForbidden)
	}
	x.thread = t
	x.room.head.Group++
	if string(x.room.head.GroupID) != string(group) {
		if len(x.room.head.GroupID) > 0 {
			x.fx.unbind = append(x.fx.unbind, name{store.NameGroup, fmt.Sprintf("%x", x.room.head.GroupID)})
		}
		x.room.head.GroupID = group
		x.fx.names = append(x.fx.names, name{store.NameGroup, fmt.Sprintf("%x", group)})
	}
	x.apply(e)
	c.Asking, x.room.st.LeftMS = nil, 0
	if err := x.channelPortal(object); err != nil {
		return false, err
	}
	return true, x.place(t.Actors(), nil, c.ID)
}

// originOf is scheme and host of an address.
func originOf(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return ""
	}
	host, _, _ := strings.Cut(rest, "/")
	return scheme + "://" + strings.ToLower(host)
}
