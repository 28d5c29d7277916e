package relay

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// TestNobodyIsMadeByALeaf (row "Ghost members" of docs/activitypub.md): a leaf in the name of an actor of ours who has no client is refused, and makes nothing of it.
func TestNobodyIsMadeByALeaf(t *testing.T) {
	n, ctx := newAPNode(t, newWorld(t, "sqlite"), map[string]string{}, "a.example"), context.Background()
	actor := n.face.Site.User("nobody")
	if err := n.face.validator().Verify(actor, make([]byte, 32)); !errors.Is(err, ap.ErrActor) {
		t.Errorf("a leaf in the name of %s: %v", actor, err)
	}
	if _, err := n.db.Secret(ctx, clientKeyName(actor)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a key was made: %v", err)
	}
}

// TestStrangersLeaveNothing: what actors with whom nobody of ours has to do say of KeyPackages and of other things is not kept.
func TestStrangersLeaveNothing(t *testing.T) {
	n, ctx := newAPNode(t, newWorld(t, "sqlite"), map[string]string{}, "a.example"), context.Background()
	const eve = "https://c.example/u/eve"
	alice := n.face.Site.User("alice")
	key, err := mls.GenerateSignatureKey(n.relay.Rand, apSuite)
	if err != nil {
		t.Fatal(err)
	}
	kp, _, err := mls.NewKeyPackage(n.relay.Rand, mls.KeyPackageParams{Suite: apSuite, Credential: mls.BasicCredential([]byte(eve)), SignatureKey: key, Capabilities: ap.Capabilities(),
		Lifetime: mls.Lifetime{NotBefore: uint64(n.w.now.Add(-time.Hour).Unix()), NotAfter: uint64(n.w.now.Add(time.Hour).Unix())}})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []ap.Delivered{
		{MLS: &ap.MLSObject{KeyPackage: kp}, Activity: &ap.Activity{ID: eve + "/1", Type: "Create", Actor: eve, To: []string{alice}}, Body: []byte(`{}`)},
		{Activity: &ap.Activity{ID: eve + "/2", Type: "Delete", Actor: eve, ObjectID: eve + "/note"}},
	} {
		if _, err := n.face.Receive(ctx, d); err != nil {
			t.Error(err)
		}
	}
	if l, err := n.face.List(ctx, ap.BoxIn, alice, alice, "", 10); err != nil || len(l.Items) != 0 {
		t.Errorf("kept among the messages: %+v %v", l, err)
	}
	if at, err := n.db.Spent(ctx, eve, []byte(eve+"/note")); err != nil || at != 0 {
		t.Errorf("a deleted note is kept: %d %v", at, err)
	}
}

// TestForksGo: what remains of earlier epochs of a conversation goes in time, also when nothing happens in it any more.
func TestForksGo(t *testing.T) {
	n := newAPNode(t, newWorld(t, "sqlite"), map[string]string{}, "a.example")
	one, two := store.DerivedRoomID("activitypub", "one"), store.DerivedRoomID("activitypub", "two")
	n.face.keepFork(one, &ap.Fork{At: n.w.now}, n.w.now)
	n.face.keepFork(two, nil, n.w.now.Add(time.Minute))
	if n.face.forkOf(one) == nil {
		t.Error("gone too early")
	}
	n.face.keepFork(two, nil, n.w.now.Add(time.Hour))
	if n.face.forkOf(one) != nil {
		t.Error("kept for ever")
	}
}

// TestOnlyTheChannelPutsCommitsInOrder: a commit that a member sends past the channel, beside a Welcome, does not move the group; and nobody else gets a leaf in the name of the
// channel, which is not shown among the people of the room.
func TestOnlyTheChannelPutsCommitsInOrder(t *testing.T) {
	c, ctx := newChannelWorld(t), context.Background()
	c.invite()
	site, bob, alice := c.a.face.Site, c.b.face.Site.User("bob"), c.a.face.Site.User("alice")
	channel := site.Room(c.token())
	before := c.epoch(c.b, store.NameActor, channel)
	id, err := c.a.db.RoomIDByName(ctx, store.NameChannel, c.room.id)
	c.must(err)
	thread, err := c.a.face.threadOf(ctx, id)
	c.must(err)
	staged, err := thread.Stage(c.a.relay.Rand, c.w.now, alice, nil, nil)
	c.must(err)
	key, err := mls.GenerateSignatureKey(c.a.relay.Rand, apSuite)
	c.must(err)
	kp, _, err := mls.NewKeyPackage(c.a.relay.Rand, mls.KeyPackageParams{Suite: apSuite, Credential: mls.BasicCredential([]byte(channel)), SignatureKey: key, Capabilities: ap.Capabilities(),
		Lifetime: mls.Lifetime{NotBefore: uint64(c.w.now.Add(-time.Hour).Unix()), NotAfter: uint64(c.w.now.Add(time.Hour).Unix())}})
	c.must(err)
	own, err := mls.GenerateSignatureKey(c.a.relay.Rand, apSuite)
	c.must(err)
	_, e, err := ap.StartThread(c.a.relay.Rand, c.w.now, mls.Config{Validator: ap.Validator{}}, "other", alice, own, []*mls.KeyPackage{kp}, false)
	c.must(err)
	add := site.ChannelAdd(ap.Envelope{ID: "past", Actor: alice, To: []string{bob}}, channel, site.User("dave"), staged.Commit(), e.Welcome)
	c.push(c.a, alice, bob+"/inbox", add.Marshal())
	if now := c.epoch(c.b, store.NameActor, channel); now != before {
		t.Errorf("epoch %d became %d", before, now)
	}
	if err := c.b.face.learnKey(ctx, needKey{channel, key.Public()}); !errors.Is(err, ap.ErrForbidden) {
		t.Errorf("a second key of a channel: %v", err)
	}
}

// TestWhoAsksIsWrittenDown: a server that is gone after it asked to be let into a channel keeps nothing in the channel waiting.
func TestWhoAsksIsWrittenDown(t *testing.T) {
	c := newChannelWorld(t)
	carol, channel := c.b.face.Site.User("carol"), c.a.face.Site.Room(c.token())
	follow := c.b.face.Site.Follow(ap.Envelope{ID: "f", Actor: carol}, channel)
	if code := c.push(c.b, carol, channel+"/inbox", follow.Marshal()); code != 202 {
		t.Fatal(code)
	}
	if v, err := c.a.db.Setting(context.Background(), scopePeople, carol); err != nil || v == "" {
		t.Errorf("%q %v", v, err)
	}
}

// TestPeopleOfAServerDoNotRemoveEachOther: only a bridge, which has the keys of all its people, takes one of them out by the leaf of another.
func TestPeopleOfAServerDoNotRemoveEachOther(t *testing.T) {
	c, ctx := newChannelWorld(t), context.Background()
	c.invite()
	c.b.hs.invite(c.there, c.bob, c.carol)
	c.b.hs.join(c.there, c.carol)
	c.settle()
	site, bob, carol := c.b.face.Site, c.b.face.Site.User("bob"), c.b.face.Site.User("carol")
	channel := c.a.face.Site.Room(c.token())
	thread, err := c.b.face.threadOf(ctx, store.DerivedRoomID("channel", channel))
	c.must(err)
	staged, err := thread.Stage(c.b.relay.Rand, c.w.now, bob, nil, []string{carol})
	c.must(err)
	remove := site.ChannelRemove(ap.Envelope{ID: "r", Actor: bob}, channel, carol, staged.Commit())
	p, err := c.a.face.person(ctx, bob)
	c.must(err)
	p.Dialect = ap.DialectE2EE
	c.a.face.noteKnown(p)
	if code := c.push(c.b, bob, channel+"/inbox", remove.Marshal()); code != 403 {
		t.Errorf("bob removes carol: %d", code)
	}
	p.Dialect = ap.DialectAIM
	c.a.face.noteKnown(p)
	if code := c.push(c.b, bob, channel+"/inbox", remove.Marshal()); code != 202 {
		t.Errorf("carol's bridge takes her out: %d", code)
	}
}

// TestNamesOfChannelsNeedPower: what a member without power says inside the group renames nothing.
func TestNamesOfChannelsNeedPower(t *testing.T) {
	c, ctx := newChannelWorld(t), context.Background()
	c.invite()
	c.a.hs.set(c.room, c.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{c.alice: 100, c.a.hs.mxid("mimibot"): 100}})
	c.settle()
	bob, channel := c.b.face.Site.User("bob"), c.a.face.Site.Room(c.token())
	thread, err := c.b.face.threadOf(ctx, store.DerivedRoomID("channel", channel))
	c.must(err)
	naming := ap.Naming([32]byte{1}, bob, string(thread.Group.GroupID()), "Bob's", "mine")
	e, err := thread.Say(c.b.relay.Rand, bob, naming.Marshal(false))
	c.must(err)
	said := c.b.face.Site.ChannelMessage(ap.Envelope{ID: "n", Actor: bob}, channel, e.Message)
	if code := c.push(c.b, bob, channel+"/inbox", said.Marshal()); code != 202 {
		t.Fatal(code)
	}
	c.settle()
	if got := c.room.str(event.TypeName, "name"); got != "Garden" {
		t.Errorf("the room is called %q", got)
	}
}
