package relay

import (
	"context"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// A user of another provider joins a public room by its address.
func TestJoinByURI(t *testing.T) { modes(t, testJoinByURI) }

func testJoinByURI(t *testing.T, m mode) {
	p := newPair(t, m)
	p.room = p.a.hs.create(p.alice, "Open", "")
	p.a.hs.set(p.room, p.alice, "m.room.join_rules", map[string]string{"join_rule": "public"})
	p.a.hs.invite(p.room, p.alice, p.a.hs.mxid("mimibot"))
	p.settle()
	if err := p.a.relay.Plumb(context.Background(), p.room.id, p.alice, ""); err != nil {
		t.Fatal(err)
	}
	p.settle()
	uri := p.a.room(p.room).URI
	if err := p.b.relay.Join(context.Background(), p.bob, uri, ""); err != nil {
		t.Fatal(err)
	}
	p.settle()
	p.bobJoins()
	p.equal("bob's ghost", p.room.members[p.bobAtA], "join")
	p.talk(1)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}

// A private room does not let anybody in by its address, and says no more than a room that is not there.
func TestJoinOfPrivateRoomIsRefused(t *testing.T) {
	p := newPair(t, warm).begin()
	eve := p.b.hs.mxid("eve")
	chat := p.b.hs.create(eve, "", "")
	p.b.hs.invite(chat, eve, p.b.hs.mxid("mimibot"))
	p.settle()
	uri := p.a.room(p.room).URI
	dave := p.nodesUser("b.example", "dave")
	if err := p.b.relay.Join(context.Background(), dave, "mimi://a.example/r/nothing", ""); err != nil {
		t.Fatal(err)
	}
	p.settle()
	if r := p.b.hs.roomOf(dave, "invite"); r != nil {
		t.Error("dave got into a room that is not there")
	}
	if err := p.b.relay.Join(context.Background(), eve, uri, ""); err != nil {
		t.Fatal(err)
	}
	p.settle()
	if p.portal.members[eve] != "" {
		t.Error("eve got into a private room")
	}
	p.talk(1)
	p.noTrouble()
}

func (w *world) nodesUser(domain, name string) string { return w.nodes[domain].hs.mxid(name) }

func TestStartChat(t *testing.T) { modes(t, testStartChat) }

func testStartChat(t *testing.T, m mode) {
	p := newPair(t, m)
	if err := p.a.relay.StartChat(context.Background(), p.alice, "mimi://b.example/u/bob"); err != nil {
		t.Fatal(err)
	}
	p.settle()
	p.room = p.a.hs.roomOf(p.alice, "invite")
	if p.room == nil {
		t.Fatalf("alice was not invited: %q", p.a.hs.rows)
	}
	p.a.hs.join(p.room, p.alice)
	p.settle()
	p.bobJoins()
	p.talk(1)
	p.noTrouble()
}

func TestInviteByCommand(t *testing.T) {
	p := newPair(t, warm)
	p.room = p.a.hs.create(p.alice, "Tea", "")
	p.a.hs.invite(p.room, p.alice, p.a.hs.mxid("mimibot"))
	p.settle()
	p.a.hs.say(p.room, p.alice, "!mimi invite mimi://b.example/u/bob")
	p.a.hs.say(p.room, p.alice, "!mimikry is no command")
	p.settle()
	if len(p.a.cmds) == 0 || p.a.cmds[0].Text != "invite mimi://b.example/u/bob" {
		t.Fatalf("commands: %+v", p.a.cmds)
	}
	if err := p.a.relay.Invite(context.Background(), p.room.id, p.alice, "mimi://b.example/u/bob", ""); err != nil {
		t.Fatal(err)
	}
	p.settle()
	p.bobJoins()
	p.talk(1)
	p.noTrouble()
}

// Several are invited at once, one of whom is not there.
func TestInvitesAtOnce(t *testing.T) { modes(t, testInvitesAtOnce) }

func testInvitesAtOnce(t *testing.T, m mode) {
	p := newPair(t, m, "c.example")
	c := p.nodes["c.example"]
	eve := c.hs.mxid("eve")
	c.hs.users[eve] = true
	nobody := p.a.ghost("mimi://c.example/u/nobody")
	p.room = p.a.hs.create(p.alice, "All", "")
	for _, u := range []string{nobody, p.bobAtA, p.a.ghost("mimi://c.example/u/eve")} {
		p.a.hs.invite(p.room, p.alice, u)
	}
	p.settle()
	p.equal("nobody", p.room.members[nobody], "leave")
	p.portal = p.b.hs.roomOf(p.bob, "invite")
	other := c.hs.roomOf(eve, "invite")
	if p.portal == nil || other == nil {
		t.Fatal("somebody was not invited")
	}
	p.b.hs.join(p.portal, p.bob)
	c.hs.join(other, eve)
	p.settle()
	p.talk(1)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal, c: other})
	p.noTrouble()
}

// The homeserver does not make the portal at first: what is said meanwhile is shown when it does.
func TestPortalIsMadeLater(t *testing.T) {
	p := newPair(t, warm)
	refusals := 0
	p.b.hs.refuse = func(verb string, args event.Object) bool {
		if verb != "create_room" || refusals == 2 {
			return false
		}
		refusals++
		return true
	}
	p.room = p.a.hs.create(p.alice, "Tea", "")
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	p.a.hs.say(p.room, p.alice, "are you there?")
	p.settle()
	p.pass(10 * time.Minute)
	p.bobJoins()
	p.equal("B", p.b.hs.texts(p.portal), []string{local(p.aliceAtB) + ": are you there?"})
	p.talk(1)
	p.equal("alerts", len(p.b.alerts), 2)
}

func TestUnplumbAndPlumbAgain(t *testing.T) {
	p := newPair(t, warm).begin()
	if err := p.a.relay.Unplumb(context.Background(), p.room.id, p.alice, ""); err != nil {
		t.Fatal(err)
	}
	p.settle()
	p.equal("bob's ghost", p.room.members[p.bobAtA], "leave")
	p.equal("bob", p.portal.members[p.bob], "leave")
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	p.b.hs.join(p.portal, p.bob)
	p.settle()
	p.talk(1)
	p.noTrouble()
}
