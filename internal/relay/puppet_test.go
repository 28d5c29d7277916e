package relay

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// puppeting lets B act as its users.
func puppeting(t *testing.T, m mode) *pair {
	p := newPair(t, m)
	p.b.conf.DoublePuppet = true
	p.b.start()
	return p
}

// Without a word of the user it is invited only; with one, it is in the room at once.
func TestPuppetJoinsWhatItsUserAgreedTo(t *testing.T) {
	modes(t, func(t *testing.T, m mode) {
		ctx := context.Background()
		p := puppeting(t, m)
		p.room = p.a.hs.create(p.alice, "Tea", "")
		p.a.hs.invite(p.room, p.alice, p.bobAtA)
		p.settle()
		if p.portal = p.b.hs.roomOf(p.bob, "invite"); p.portal == nil {
			t.Fatal("bob was not invited")
		}
		must0(t, p.b.relay.GrantConsent(ctx, p.bob, aliceURI))
		p.settle()
		other := p.a.hs.create(p.alice, "Coffee", "")
		p.a.hs.invite(other, p.alice, p.bobAtA)
		p.settle()
		if r := p.b.hs.roomOf(p.bob, "join"); r == nil || r.str("m.room.name", "name") != "Coffee" {
			t.Errorf("bob is not in the room although he lets alice invite him: %q", p.b.hs.rows)
		}
		p.noTrouble()
	})
}

// A room that a user joins by its address is one that it is in.
func TestPuppetJoinsByURI(t *testing.T) {
	p := puppeting(t, warm).begin()
	p.a.hs.set(p.room, p.alice, "m.room.join_rules", map[string]string{"join_rule": "public"})
	p.settle()
	if !p.a.view(p.room).policy.Role(policy.RoleNone).Has(policy.CanOpenJoin) {
		t.Fatal("the room is not open")
	}
	dave := p.b.hs.mxid("dave")
	p.b.hs.users[dave] = true
	must0(t, p.b.relay.Join(context.Background(), dave, p.a.room(p.room).URI, ""))
	p.settle()
	p.equal("dave", p.portal.members[dave], "join")
	p.noTrouble()
}

// Direct chats are marked, and one that a user began by a command is joined.
func TestPuppetMarksDirectChats(t *testing.T) {
	modes(t, func(t *testing.T, m mode) {
		p := puppeting(t, m)
		p.a.hs.users[p.alice] = true
		must0(t, p.b.relay.StartChat(context.Background(), p.bob, aliceURI))
		p.settle()
		p.portal = p.b.hs.roomOf(p.bob, "join")
		if p.portal == nil {
			t.Fatalf("bob is not in the chat that he began: %q", p.b.hs.rows)
		}
		if !slices.ContainsFunc(p.b.hs.rows, func(r string) bool { return strings.HasPrefix(r, "mark_direct") }) {
			t.Errorf("the chat is not marked: %q", p.b.hs.rows)
		}
		p.room = p.a.hs.roomOf(p.alice, "invite")
		p.a.hs.join(p.room, p.alice)
		p.settle()
		p.talk(1)
		if slices.ContainsFunc(p.a.hs.rows, func(r string) bool { return strings.HasPrefix(r, "mark_direct") }) {
			t.Error("a bridge that may not acts as alice")
		}
		p.noTrouble()
	})
}

// A second user of a bridge joins a room by its address where the room lets everybody in, and is told where it does not.
func TestSecondUserJoinsByURI(t *testing.T) {
	modes(t, func(t *testing.T, m mode) {
		p := newPair(t, m).begin()
		dave := p.b.hs.mxid("dave")
		p.b.hs.users[dave] = true
		chat := p.b.hs.create(dave, "", "")
		p.b.hs.invite(chat, dave, p.b.hs.mxid("mimibot"))
		p.settle()
		must0(t, p.b.relay.Join(context.Background(), dave, p.a.room(p.room).URI, ""))
		p.settle()
		p.last("dave is told", p.b.hs.texts(chat), "notice mimibot: The room "+p.a.room(p.room).URI+" could not be joined: the room does not let you in.")
		p.talk(1)
		p.a.hs.set(p.room, p.alice, "m.room.join_rules", map[string]string{"join_rule": "public"})
		p.settle()
		p.pass(2 * time.Hour) // questions for the group's state are bounded by the hour
		must0(t, p.b.relay.Join(context.Background(), dave, p.a.room(p.room).URI, ""))
		p.settle()
		p.equal("dave", p.portal.members[dave], "invite")
		p.b.hs.join(p.portal, dave)
		p.settle()
		p.b.hs.say(p.portal, dave, "in at last")
		p.settle()
		p.last("A", p.a.hs.texts(p.room), local(p.a.ghost("mimi://b.example/u/dave"))+": in at last")
		p.talk(2)
		p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
		p.noTrouble()
	})
}
