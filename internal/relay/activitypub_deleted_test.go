package relay

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// total is how many activities a box of an actor holds for itself.
func (n *apNode) total(t *testing.T, box ap.Box, actor string) int {
	t.Helper()
	l, err := n.face.List(context.Background(), box, actor, actor, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	return l.Total
}

// TestADeletedUserLeavesActivityPub (S004-059): whose account is gone leaves conversations, is found by nobody and offers no keys; when the others have had time to check that it
// leaves, they get a Delete of the actor, and what is left of it here goes.
func TestADeletedUserLeavesActivityPub(t *testing.T) {
	for name, left := range map[string]bool{"still in its rooms": false, "out of its rooms already": true} {
		t.Run(name, func(t *testing.T) { testDeletedActor(t, left) })
	}
}

func testDeletedActor(t *testing.T, left bool) {
	g, ctx := newAPGroup(t), context.Background()
	actor := g.a.face.Site.User("alice")
	g.a.hs.say(g.at, g.alice, "farewell")
	g.settle()
	if left {
		g.a.hs.leave(g.at, g.alice)
		g.settle()
	}
	if err := g.a.relay.DeleteUser(ctx, g.alice); err != nil {
		t.Fatal(err)
	}
	g.settle()
	if _, err := g.a.face.Find(ctx, "acct:alice@a.example"); !errors.Is(err, ap.ErrNotFound) {
		t.Errorf("found: %v", err)
	}
	if _, err := g.a.face.Claim(ctx, "alice", "https://x.example/u/1"); !errors.Is(err, ap.ErrNotFound) {
		t.Errorf("gives out keys: %v", err)
	}
	if _, err := g.a.face.User(ctx, "alice"); err != nil {
		t.Errorf("others cannot check that it leaves: %v", err)
	}
	g.a.w.now = g.a.w.now.Add(timeToCommit)
	g.settle()
	if m := g.bt.members[g.ghost(g.b, "alice", "a.example")]; m != "leave" {
		t.Errorf("alice is %q at b", m)
	}
	if now := g.a.epochOfRoom(t, g.at); now != -1 {
		t.Errorf("the group is still here in epoch %d", now)
	}
	gone := "Delete " + actor
	if slices.Contains(g.a.sent, gone) || g.a.total(t, ap.BoxOut, actor) == 0 {
		t.Errorf("gone too soon: sent %q", g.a.sent)
	}
	g.a.w.now = g.a.w.now.Add(goneAfter)
	g.settle()
	sent := 0
	for _, s := range g.a.sent {
		if s == gone {
			sent++
		}
	}
	g.equalInt("Deletes sent", sent, 1)
	g.equalInt("activities in the outbox", g.a.total(t, ap.BoxOut, actor), 0)
	g.equalInt("activities received", g.a.total(t, ap.BoxIn, actor), 0)
	if _, err := g.a.face.User(ctx, "alice"); !errors.Is(err, ap.ErrDeleted) {
		t.Errorf("the actor: %v", err)
	}
	// Who comes back is somebody again, when the others ask anew.
	g.a.w.now = g.a.w.now.Add(2 * time.Hour)
	if err := g.a.face.StartChat(ctx, g.alice, "@bob@b.example"); err != nil {
		t.Fatal(err)
	}
	g.settle()
	if _, err := g.a.face.User(ctx, "alice"); err != nil {
		t.Errorf("the actor that came back: %v", err)
	}
}

func (g *apGroup) equalInt(what string, got, want int) {
	g.t.Helper()
	if got != want {
		g.t.Errorf("%s: %d, want %d", what, got, want)
	}
}

// TestADeletedUserAmongOthers: where others of the same bridge stay, one of them commits the leave, and the conversation goes on.
func TestADeletedUserAmongOthers(t *testing.T) {
	g := newAPGroup(t)
	g.a.hs.invite(g.at, g.alice, g.dave)
	g.a.hs.join(g.at, g.dave)
	g.settle()
	if err := g.a.relay.DeleteUser(context.Background(), g.alice); err != nil {
		t.Fatal(err)
	}
	g.settle()
	if m := g.bt.members[g.ghost(g.b, "alice", "a.example")]; m != "leave" {
		t.Errorf("alice is %q at b", m)
	}
	if m := g.at.members[g.alice]; m != "leave" {
		t.Errorf("alice is %q in the room", m)
	}
	g.a.hs.say(g.at, g.dave, "without her")
	g.settle()
	g.heard("without her", map[*apNode]*hsRoom{g.b: g.bt})
	if err := g.a.relay.DeleteUser(context.Background(), g.a.hs.mxid("nobody")); !errors.Is(err, ErrNobody) {
		t.Errorf("nobody: %v", err)
	}
}

// TestADeletedUserLeavesChannels: channels of ours and of other servers.
func TestADeletedUserLeavesChannels(t *testing.T) {
	c := newChannelWorld(t)
	c.invite()
	ctx := context.Background()
	members := func() []string {
		t.Helper()
		list, err := c.a.face.Members(ctx, c.token())
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	bob := c.b.face.Site.User("bob")
	if !slices.Contains(members(), bob) {
		t.Fatalf("bob is not in: %q", members())
	}
	if err := c.b.relay.DeleteUser(ctx, c.bob); err != nil {
		t.Fatal(err)
	}
	c.settle()
	if slices.Contains(members(), bob) {
		t.Errorf("bob is still in: %q", members())
	}
	if err := c.a.relay.DeleteUser(ctx, c.alice); err != nil {
		t.Fatal(err)
	}
	c.settle()
	if alice := c.a.face.Site.User("alice"); slices.Contains(members(), alice) {
		t.Errorf("alice is still in: %q", members())
	}
}

// A Welcome made with a KeyPackage of somebody who was deleted leads nowhere.
func TestKeyPackagesOfADeletedActorGo(t *testing.T) {
	g, ctx := newAPGroup(t), context.Background()
	offer, err := g.a.face.Claim(ctx, "alice", "https://x.example/u/1")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.a.relay.DeleteUser(ctx, g.alice); err != nil {
		t.Fatal(err)
	}
	if _, err := g.a.face.Offered(ctx, "alice", offer.Token, "https://x.example/u/1"); !errors.Is(err, ap.ErrNotFound) {
		t.Errorf("still offered: %v", err)
	}
	stock, err := g.a.db.EndingKeyPackages(ctx, g.a.face.Site.User("alice"), 1<<60, 10)
	if err != nil || len(stock) != 0 {
		t.Errorf("%+v %v", stock, err)
	}
}
