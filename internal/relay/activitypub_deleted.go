package relay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// A user who was deleted leaves its conversations and channels first. Its actor is served until goneAfter: the others need its key to check that it leaves. Then those who
// shared a conversation with it get a Delete of the actor (ActivityPub §6.4), what it sent and received is dropped, and its address answers 410.

// goneAfter is how long after a deletion that is. It is longer than others wait before they commit a proposal to leave.
const goneAfter = 10 * time.Minute

// What is known of an actor of ours that was deleted: a setting of the scope, by the actor's id. It goes when the user comes back.
const (
	scopeDeleted = "ap-deleted"
	actorLeaves  = "leaves"
	actorIsGone  = "gone"
)

// endUser implements threads.
func (a *ActivityPub) endUser(ctx context.Context, mxid string, rooms []store.Member) ([]store.NewInput, func(*store.Tx) error, error) {
	nothing := func(*store.Tx) error { return nil }
	actor, err := a.actorID(mxid)
	if err != nil {
		return nil, nothing, nil //nolint:nilerr // it has no name in the ActivityPub world
	}
	peers, err := a.peers(ctx, mxid)
	if err != nil {
		return nil, nothing, err
	}
	var work []store.NewInput
	now := a.Clock()
	for _, m := range rooms {
		in := store.NewInput{Room: m.Room, Kind: inputThreadTask, Source: "task", Epoch: -1, Body: mustJSON(threadTask{By: actor, Leave: true}), CreatedMS: now.UnixMilli()}
		c, err := a.channelOf(ctx, m.Room)
		if err != nil {
			return nil, nothing, err
		}
		if c != nil {
			t := channelTask{Do: taskRemove, By: actor, Actor: actor}
			if c.Hub {
				t.By = c.ID
			}
			in.Kind, in.Source, in.Body = inputChannel, t.Do, mustJSON(t)
		}
		work = append(work, in)
	}
	if _, err := a.Store.Secret(ctx, "ap-key:"+actor); errors.Is(err, store.ErrNotFound) && len(work) == 0 {
		return nil, nothing, nil // nobody of that world ever saw it
	} else if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, nothing, err
	}
	room, err := a.actorRoom(ctx, actor)
	if err != nil {
		return nil, nothing, err
	}
	work = append(work, store.NewInput{Room: room, Kind: inputThreadTask, Source: "task", Epoch: -1, Body: mustJSON(threadTask{By: actor, Delete: true, Add: peers}),
		NotBefore: now.Add(goneAfter).UnixMilli(), CreatedMS: now.UnixMilli()})
	return work, func(tx *store.Tx) error {
		return errors.Join(tx.SetSetting(ctx, scopeDeleted, actor, actorLeaves), tx.DeleteKeyPackagesOf(ctx, actor))
	}, nil
}

// deletion is what is known of an actor's end: "", actorLeaves or actorIsGone.
func (a *ActivityPub) deletion(ctx context.Context, actor string) (string, error) {
	return a.Store.Setting(ctx, scopeDeleted, actor)
}

// comesBack notes that an actor of ours takes part again.
func (a *ActivityPub) comesBack(ctx context.Context, actor string) error {
	if was, err := a.deletion(ctx, actor); err != nil || was == "" {
		return err
	}
	return a.Store.Tx(ctx, func(tx *store.Tx) error { return tx.SetSetting(ctx, scopeDeleted, actor, "") })
}

// leaveDeleted takes an actor of ours whose user was deleted out of a conversation. The last of ours waits for the others as in a leave because of a block.
func (x *apStep) leaveDeleted(actor string) error {
	own := x.ownActors()
	if !slices.Contains(own, actor) || x.room.st.LeftMS > 0 {
		return nil
	}
	mxid, _, err := x.mxid(actor)
	if err != nil {
		return err
	}
	x.notice("The account of "+mxid+" was deleted: it leaves this conversation.", "")
	if len(own) > 1 {
		if err := x.leaveThread(actor); err != nil {
			return err
		}
		return x.enterAll()
	}
	x.startLeaving()
	m, _ := x.room.members.of(mxid)
	m.Membership = string(event.Leave)
	x.setMember(m)
	return x.goOut()
}

// deleteActor tells the others that an actor of ours is gone, and drops what it sent and received.
func (a *ActivityPub) deleteActor(ctx context.Context, t threadTask) (func(*apStep) error, error) {
	nothing := func(*apStep) error { return nil }
	if was, err := a.deletion(ctx, t.By); err != nil || was != actorLeaves {
		return nothing, err // the user came back
	}
	var peers []string
	for _, peer := range t.Add {
		if _, err := a.person(ctx, peer); err == nil { // else its server is gone: it learns of this when it asks
			peers = append(peers, peer)
		}
	}
	sum := sha256.Sum256([]byte(t.By + strconv.FormatInt(a.Clock().UnixMilli(), 10)))
	body := a.Site.ActorDelete(ap.Envelope{ID: "gone-" + hex.EncodeToString(sum[:12]), Actor: t.By, Published: a.Clock()})
	return func(x *apStep) error {
		list, err := x.recipients(peers)
		if err != nil {
			return err
		}
		x.post(ap.Spread(list, body))
		x.fx.activities = nil // the Delete itself is for those who get it
		x.fx.goneActor = t.By
		x.fx.settings = append(x.fx.settings, setting{scopeDeleted, t.By, actorIsGone})
		return nil
	}, nil
}
