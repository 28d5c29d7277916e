package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// start lets alice begin a direct chat by a command.
func (p *pair) start(t *testing.T, users ...string) {
	t.Helper()
	must0(t, p.a.relay.StartChat(context.Background(), p.alice, users...))
	p.settle()
}

// direct demands that a room is of fixed membership, of exactly these users.
func (p *pair) direct(n *node, r *hsRoom, users ...string) {
	p.t.Helper()
	v := n.view(r)
	if v.policy == nil || !v.policy.Base.FixedMembership {
		p.t.Errorf("%s: the room is not of fixed membership", n.domain)
		return
	}
	var got []string
	for _, x := range v.policy.Participants {
		got = append(got, x.User)
		if x.Role != policy.RoleMember {
			p.t.Errorf("%s: %s has role %d", n.domain, x.User, x.Role)
		}
	}
	p.equal("participants at "+n.domain, got, users)
	if n := len(v.leaves.Of("mimi://a.example/u/mimibot")); n != 0 {
		p.t.Errorf("the bot has %d clients in a direct chat", n)
	}
}

// isDirect demands that somebody was invited to a chat of two.
func (p *pair) isDirect(n *node, r *hsRoom, who string) {
	p.t.Helper()
	for i, row := range n.hs.rows {
		if strings.HasPrefix(row, "invite ") && strings.HasSuffix(row, " "+who) && n.hs.direct[i] {
			return
		}
	}
	p.t.Errorf("%s: the invitation of %s does not say that it is a direct chat: %q", n.domain, who, n.hs.rows)
}

// botChat is a chat of alice with the bot.
func (p *pair) botChat(t *testing.T) *hsRoom {
	t.Helper()
	chat := p.a.hs.create(p.alice, "", "")
	p.a.hs.invite(chat, p.alice, p.a.hs.mxid("mimibot"))
	p.settle()
	must0(t, p.a.relay.Store.Tx(context.Background(), func(tx *store.Tx) error {
		return tx.SetManagementRoom(context.Background(), p.alice, chat.id)
	}))
	return chat
}

// A chat with somebody who is not there is told of where it was asked for, and its empty room is taken back.
func TestStartChatWithNobody(t *testing.T) {
	p := newPair(t, warm)
	chat := p.botChat(t)
	p.start(t, "mimi://b.example/u/nobody")
	said := fmt.Sprint(p.a.hs.texts(chat))
	if !strings.Contains(said, "could not be invited: nobody is known by this name") {
		t.Errorf("the bot's chat says %q", said)
	}
	if room := p.a.hs.roomOf(p.alice, "invite"); room != nil {
		t.Error("alice is still invited to the empty room")
	}
	if rooms, err := p.a.relay.RoomsOf(context.Background(), p.alice); err != nil || len(rooms) != 0 {
		t.Errorf("alice's rooms: %+v %v", rooms, err)
	}
	// And it can be asked for again.
	p.start(t, "mimi://b.example/u/nobody")
	p.equal("told", strings.Count(fmt.Sprint(p.a.hs.texts(chat)), "could not be invited"), 2)
}

// A pair has one chat, however often it is begun.
func TestStartChatUsesTheChatThatIsThere(t *testing.T) {
	modes(t, func(t *testing.T, m mode) {
		p := newPair(t, m)
		p.start(t, bobURI)
		p.room = p.a.hs.roomOf(p.alice, "invite")
		p.portal = p.b.hs.roomOf(p.bob, "invite")
		if p.room == nil || p.portal == nil {
			t.Fatalf("no chat was made; rows at A %q", p.a.hs.rows)
		}
		p.isDirect(p.b, p.portal, p.bob)
		if want := "invite " + p.b.ghost(aliceURI) + " " + p.bob; !slices.Contains(p.b.hs.rows, want) {
			t.Errorf("bob was not invited by the ghost of alice: %q", p.b.hs.rows)
		}
		if power := p.b.view(p.portal).matrix.power(); power.Invite <= power.UsersDefault {
			t.Error("people can be invited into a chat of two")
		}
		p.a.hs.join(p.room, p.alice)
		p.b.hs.join(p.portal, p.bob)
		p.settle()
		p.talk(1)
		p.direct(p.a, p.room, aliceURI, bobURI)
		p.direct(p.b, p.portal, aliceURI, bobURI)
		p.start(t, bobURI)
		p.equal("rooms of alice", len(p.a.hs.rooms), 1)
		p.a.hs.leave(p.room, p.alice)
		p.settle()
		p.start(t, bobURI)
		p.equal("alice", p.room.members[p.alice], "invite")
		p.a.hs.join(p.room, p.alice)
		p.settle()
		p.talk(2)
		p.equal("rooms of alice", len(p.a.hs.rooms), 1)
		// bob asks for the same two people: it is the same chat, although the other bridge leads it.
		must0(t, p.b.relay.StartChat(context.Background(), p.bob, aliceURI))
		p.settle()
		p.equal("rooms of bob", len(p.b.hs.rooms), 1)
		p.pass(2 * time.Hour) // the hourly comparison changes nothing
		p.direct(p.a, p.room, aliceURI, bobURI)
		p.talk(3)
		p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
		p.noTrouble()
	})
}

// A room that Matrix calls direct becomes one of fixed membership; a second one with the same ghost leads back to the first.
func TestDirectRoomOfMatrix(t *testing.T) {
	modes(t, func(t *testing.T, m mode) {
		p := newPair(t, m)
		p.room = p.a.hs.create(p.alice, "", "")
		p.a.hs.inviteDirect(p.room, p.alice, p.bobAtA)
		p.settle()
		p.bobJoins()
		p.talk(1)
		p.direct(p.a, p.room, aliceURI, bobURI)
		second := p.a.hs.create(p.alice, "", "")
		p.a.hs.inviteDirect(second, p.alice, p.bobAtA)
		p.settle()
		p.equal("bob in the second room", second.members[p.bobAtA], "leave")
		p.equal("portals", len(p.b.hs.rooms), 1)
		// Nobody can be added, put out or leave for good.
		eve := p.a.ghost("mimi://b.example/u/eve")
		p.b.hs.users[p.b.hs.mxid("eve")] = true
		p.a.hs.invite(p.room, p.alice, eve)
		p.a.hs.kick(p.room, p.alice, p.bobAtA)
		p.settle()
		p.equal("eve", p.room.members[eve], "leave")
		p.equal("bob", p.room.members[p.bobAtA], "join")
		p.talk(2)
		carol := p.a.hs.mxid("carol")
		p.a.hs.invite(p.room, p.alice, carol)
		p.a.hs.join(p.room, carol)
		p.a.hs.say(p.room, carol, "may I?")
		p.settle()
		p.last("B", p.b.hs.texts(p.portal), "bob: pong 2")
		p.b.hs.leave(p.portal, p.bob)
		p.settle()
		p.a.hs.say(p.room, p.alice, "come back")
		p.settle()
		p.equal("bob", p.portal.members[p.bob], "invite")
		p.b.hs.join(p.portal, p.bob)
		p.settle()
		p.talk(3)
		p.direct(p.b, p.portal, aliceURI, bobURI)
		p.noTrouble()
	})
}

// A direct room of Matrix with more than two people is an ordinary one.
func TestDirectRoomOfManyIsOrdinary(t *testing.T) {
	p := newPair(t, warm)
	p.room = p.a.hs.create(p.alice, "", "")
	p.a.hs.inviteDirect(p.room, p.alice, p.a.hs.mxid("carol"))
	p.a.hs.inviteDirect(p.room, p.alice, p.bobAtA)
	p.settle()
	if v := p.a.view(p.room); v.policy == nil || v.policy.Base.FixedMembership {
		t.Error("the room cannot change its members")
	}
}

// Exactly these people have one chat: asked for again, in whatever order, by whomever, it is the same.
func TestGroupOfFixedMembership(t *testing.T) {
	modes(t, func(t *testing.T, m mode) {
		p := newPair(t, m, "c.example")
		c := p.nodes["c.example"]
		eve, eveURI := c.hs.mxid("eve"), "mimi://c.example/u/eve"
		c.hs.users[eve] = true
		p.start(t, eveURI, bobURI)
		p.room, p.portal = p.a.hs.roomOf(p.alice, "invite"), p.b.hs.roomOf(p.bob, "invite")
		at := c.hs.roomOf(eve, "invite")
		if p.room == nil || p.portal == nil || at == nil {
			t.Fatalf("not everybody was invited: %q", p.a.hs.rows)
		}
		p.a.hs.join(p.room, p.alice)
		p.b.hs.join(p.portal, p.bob)
		c.hs.join(at, eve)
		p.settle()
		c.hs.say(at, eve, "all three")
		p.settle()
		p.talk(1)
		for n, r := range map[*node]*hsRoom{p.a: p.room, p.b: p.portal, c: at} {
			p.direct(n, r, aliceURI, bobURI, eveURI)
		}
		p.start(t, bobURI, eveURI, bobURI)
		p.equal("rooms of alice", len(p.a.hs.rooms), 1)
		must0(t, c.relay.StartChat(context.Background(), eve, bobURI, aliceURI))
		p.settle()
		p.equal("rooms of eve", len(c.hs.rooms), 1)
		p.start(t, bobURI) // another set
		p.equal("rooms of alice", len(p.a.hs.rooms), 2)
		p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal, c: at})
		p.noTrouble()
	})
}

// When one of the set cannot be reached there is no chat, and the next try makes it.
func TestGroupOfFixedMembershipComesWhole(t *testing.T) {
	p := newPair(t, warm, "c.example")
	eve := p.nodes["c.example"].hs.mxid("eve")
	p.start(t, bobURI, "mimi://c.example/u/eve")
	if r := p.b.hs.roomOf(p.bob, "invite"); r != nil {
		t.Fatal("bob was invited although eve is nobody")
	}
	p.nodes["c.example"].hs.users[eve] = true
	p.start(t, bobURI, "mimi://c.example/u/eve")
	if r := p.b.hs.roomOf(p.bob, "invite"); r == nil {
		t.Fatalf("bob was not invited at the second try: %q", p.a.hs.rows)
	}
	p.equal("rooms of alice", len(p.a.hs.rooms), 1)
	p.noTrouble()
}

// Who declines a direct chat has no client in it any more, and stays on the list.
func TestDirectChatDeclined(t *testing.T) {
	p := newPair(t, warm)
	p.room = p.a.hs.create(p.alice, "", "")
	p.a.hs.inviteDirect(p.room, p.alice, p.bobAtA)
	p.settle()
	p.portal = p.b.hs.roomOf(p.bob, "invite")
	p.b.hs.leave(p.portal, p.bob)
	p.settle()
	p.pass(time.Minute)
	p.equal("state at B", p.b.room(p.portal).State, stateClosed)
	v := p.a.view(p.room)
	p.equal("clients", len(v.leaves.Of("mimi://b.example/u/bob")), 0)
	p.equal("role", v.policy.RoleIndex(bobURI), policy.RoleMember)
	p.equal("kind", p.a.room(p.room).Kind, store.RoomHub)
	p.a.hs.say(p.room, p.alice, "nobody?")
	p.a.hs.say(p.room, p.alice, "nobody.")
	p.settle()
	p.last("alice is told once", p.a.hs.texts(p.room), "alice: nobody?", "alice: nobody.", "notice mimibot: Nobody else has a client in this conversation now: what you write reaches nobody.")
	p.noTrouble()
}
