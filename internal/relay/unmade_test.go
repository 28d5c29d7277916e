package relay

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// lists are the rooms that alice is told of: their states, and who is awaited in them.
func (p *pair) lists(t *testing.T) (out []string) {
	t.Helper()
	rooms, err := p.a.relay.RoomsOf(context.Background(), p.alice)
	must0(t, err)
	for _, r := range rooms {
		out = append(out, strings.TrimSpace(r.State+" "+strings.Join(r.Awaited, " ")))
	}
	return out
}

// A chat with somebody who does not answer is shown as what it is, while it is waited and afterwards; what is said in it is not lost
// without a word, and it can be asked for again.
func TestStartChatWithoutAnAnswer(t *testing.T) {
	for name, end := range map[string]func(p *pair){
		"the provider is gone": func(p *pair) { p.a.giveUp("mimi:b.example") },
		"no consent":           func(p *pair) { p.pass(p.a.relay.cfg.InviteTimeout + time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, warm)
			back := func() { p.b.relay.Consent = func(string) bool { return true } }
			p.b.relay.Consent = func(string) bool { return false }
			if name == "the provider is gone" {
				away := true
				p.fault = func(_, to, _ string, _ []byte) fault {
					if away && to == "b.example" {
						return dropRequest
					}
					return deliver
				}
				back = func() { away = false; p.b.relay.Consent = func(string) bool { return true } }
			}
			p.start(t, bobURI)
			p.room = p.a.hs.roomOf(p.alice, "invite")
			if p.room == nil {
				t.Fatalf("alice was not invited: %q", p.a.hs.rows)
			}
			p.a.hs.join(p.room, p.alice)
			p.settle()
			p.equal("while it is waited", p.lists(t), []string{"opening " + bobURI})
			p.a.hs.say(p.room, p.alice, "are you there?")
			p.settle()
			if !p.heard(p.room, p.a, whyNobodyYet) {
				t.Errorf("alice is not told that nobody hears her: %q", p.a.hs.texts(p.room))
			}
			end(p)
			p.settle()
			p.equal("afterwards", p.lists(t), []string{StateUnmade})
			if !p.heard(p.room, p.a, "could not be invited") {
				t.Errorf("alice is not told: %q", p.a.hs.texts(p.room))
			}
			back()
			p.pass(time.Minute)
			p.start(t, bobURI)
			p.equal("asked for again", p.lists(t), []string{stateActive})
			p.equal("rooms of alice", len(p.a.hs.rooms), 1)
		})
	}
}

// Who leaves a chat that is being made has given it up: the other is not invited to it any more.
func TestStartChatIsGivenUpByLeaving(t *testing.T) {
	p := newPair(t, warm)
	p.b.relay.Consent = func(string) bool { return false }
	p.start(t, bobURI)
	p.room = p.a.hs.roomOf(p.alice, "invite")
	p.a.hs.join(p.room, p.alice)
	p.settle()
	p.a.hs.leave(p.room, p.alice)
	p.settle()
	p.equal("list", p.lists(t), []string(nil))
	chat := p.b.hs.roomOf(p.bob, "invite")
	if chat == nil || !p.heard(chat, p.b, "does not ask you any more") {
		t.Errorf("bob is asked still: %q", p.b.hs.rows)
	}
	must0(t, p.b.relay.GrantConsent(context.Background(), p.bob, aliceURI))
	p.settle()
	p.equal("rooms of bob", len(p.b.hs.rooms), 1)
	p.equal("alice", p.room.members[p.alice], "leave")
}

// A homeserver that does not make the room of a chat is asked again with the next command.
func TestStartChatWhoseRoomIsNotMade(t *testing.T) {
	p := newPair(t, warm)
	chat := p.botChat(t)
	p.a.hs.refuse = func(verb string, _ event.Object) bool { return verb == string(event.VerbCreateRoom) }
	p.start(t, bobURI)
	if !p.heard(chat, p.a, "the homeserver did not make the room") {
		t.Errorf("alice is not told: %q", p.a.hs.texts(chat))
	}
	p.equal("list", p.lists(t), []string(nil))
	p.a.hs.refuse = nil
	p.start(t, bobURI)
	p.equal("asked for again", p.lists(t), []string{stateActive})
	if p.b.hs.roomOf(p.bob, "invite") == nil {
		t.Errorf("bob was not invited: %q", p.a.hs.rows)
	}
	if p.a.hs.roomOf(p.alice, "invite") == nil {
		t.Errorf("alice was not invited: %q", p.a.hs.rows)
	}
}

// A room of Matrix into which nobody could be invited is not joined to MIMI, and can be later.
func TestRoomWithNobodyIsNotJoined(t *testing.T) {
	for name, end := range map[string]func(p *pair, nobody string){
		"refused":    func(*pair, string) {},
		"taken back": func(p *pair, nobody string) { p.a.hs.kick(p.room, p.alice, nobody) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, warm)
			nobody := p.a.ghost("mimi://b.example/u/nobody")
			if name == "taken back" {
				nobody = p.bobAtA
				p.b.relay.Consent = func(string) bool { return false }
			}
			p.room = p.a.hs.create(p.alice, "Tea", "")
			p.a.hs.invite(p.room, p.alice, nobody)
			p.settle()
			end(p, nobody)
			p.settle()
			p.equal("list", p.lists(t), []string(nil))
			if i, err := p.a.relay.RoomOf(context.Background(), p.room.id); err != nil || i.URI != "" {
				t.Errorf("the room is %+v, %v", i, err)
			}
			p.b.relay.Consent = nil
			p.a.hs.invite(p.room, p.alice, p.bobAtA)
			p.settle()
			p.bobJoins()
			p.talk(1)
			if !slices.Equal(p.lists(t), []string{stateActive}) {
				t.Errorf("list %q", p.lists(t))
			}
		})
	}
}
