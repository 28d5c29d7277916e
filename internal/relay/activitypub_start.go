package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// maxStart bounds the people with whom a conversation is begun.
const maxStart = 50

// StartChat begins a conversation of a Matrix user with one or several others by @user@domain: KeyPackages are fetched and checked, the group is made, the
// Welcome sent, and the Matrix room made. A set of people has one conversation (AIM §3.3, §5.3): where there is one, it is that. S001-023, S000-042, S000-020, S000-080.
func (a *ActivityPub) StartChat(ctx context.Context, by string, handles ...string) error {
	return a.tell(a.startChat(ctx, by, handles...))
}

func (a *ActivityPub) startChat(ctx context.Context, by string, handles ...string) error {
	me, err := a.actorID(by)
	if err == nil {
		err = a.comesBack(ctx, me)
	}
	if err != nil {
		return err
	}
	if len(handles) > maxStart {
		return fmt.Errorf("%w: more than %d people at once", ErrRefused, maxStart)
	}
	actors := []string{me}
	for _, handle := range handles {
		acct, err := mapping.Handle(handle)
		if err != nil {
			return err
		}
		them, err := a.People.Resolve(ctx, acct)
		if err != nil {
			return err
		}
		if ap.DialectOf(them, false) != ap.DialectE2EE || them.IsChannel() {
			return fmt.Errorf("%w: %s cannot take encrypted messages", ErrRefused, handle)
		}
		if _, err := a.person(ctx, them.ID); err != nil {
			return err
		}
		if !slices.Contains(actors, them.ID) {
			actors = append(actors, them.ID)
		}
	}
	if room, err := a.Store.RoomIDByName(ctx, store.NameSet, ap.SetKey(actors)); !errors.Is(err, store.ErrNotFound) {
		if err != nil {
			return err
		}
		return a.run(ctx, room, func(x *apStep) error { return x.comeBack(by, me) })
	}
	return a.begin(ctx, actors)
}

// begin makes the group of the first of some actors, who is ours, with the others.
func (a *ActivityPub) begin(ctx context.Context, actors []string) error {
	me, others := actors[0], actors[1:]
	if len(others) == 0 {
		return fmt.Errorf("%w: there is nobody else", ErrRefused)
	}
	var packages []*mls.KeyPackage
	for _, actor := range others {
		kp, err := a.freshPackage(ctx, actor, me)
		if err != nil {
			return err
		}
		packages = append(packages, kp)
	}
	key, err := a.clientKey(ctx, me)
	if err != nil {
		return err
	}
	token, err := mapping.NewToken(a.Rand)
	if err != nil {
		return err
	}
	group, err := a.Naming.GroupURI(token)
	if err != nil {
		return err
	}
	room, err := a.open(ctx, []byte(group))
	if err != nil {
		return err
	}
	return a.run(ctx, room, func(x *apStep) error {
		t, e, err := ap.StartThread(x.Rand, x.now, a.mls, string(group), me, key, packages, true)
		if err != nil {
			return err
		}
		x.thread = t
		x.room.head.Group++
		x.apply(e)
		x.portal()
		if err := x.enterAll(); err != nil {
			return err
		}
		return x.sendMLS(me, e.Welcome, others)
	})
}

// comeBack brings a user of ours to a conversation that is there.
func (x *apStep) comeBack(mxid, actor string) error {
	if x.thread == nil {
		return fmt.Errorf("%w: the conversation is not ready", ErrRefused)
	}
	if m, _ := x.room.members.of(mxid); m.Membership != string(event.Join) {
		x.matrix(event.InviteUser{Target: userID(mxid)})
		m.Membership, m.URI = string(event.Invite), actor
		x.setMember(m)
		return nil
	}
	x.notice("This is the conversation of exactly these people.", "")
	return nil
}

// nameSet lets the set of people of a conversation mean it, when no other conversation is that of the same set. A channel has no set: several may have the same people.
func (x *apStep) nameSet() {
	v := x.room
	if v.st.Channel != nil || x.thread == nil {
		return
	}
	key := ap.SetKey(x.thread.Actors())
	if v.st.Set == key {
		return
	}
	if v.st.Set != "" {
		x.fx.unbind = append(x.fx.unbind, name{store.NameSet, v.st.Set})
		v.st.Set = ""
	}
	if _, err := x.Store.RoomIDByName(x.ctx, store.NameSet, key); errors.Is(err, store.ErrNotFound) {
		v.st.Set = key
		x.fx.names = append(x.fx.names, name{store.NameSet, key})
	}
}
