package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// fakeCrypt opens events whose ciphertext is the clear event, for the sessions whose keys came.
type fakeCrypt struct {
	keys map[string]bool
	lost bool // no event can be opened
}

type fakeSealed struct {
	Algorithm string          `json:"algorithm"`
	Session   string          `json:"session_id"`
	Type      string          `json:"type"`
	Content   json.RawMessage `json:"ciphertext"`
}

func (c *fakeCrypt) Decrypt(_ context.Context, ev event.Event) (event.Event, error) {
	var sealed fakeSealed
	if err := json.Unmarshal(ev.Content.Encode(), &sealed); err != nil || c.lost {
		return event.Event{}, fmt.Errorf("%w: it is broken", ErrUnreadable)
	}
	if !c.keys[sealed.Session] {
		return event.Event{}, &NoKeyError{sealed.Session}
	}
	o, err := event.ParseObject(ev.Raw)
	if err != nil {
		return event.Event{}, err
	}
	return event.ParseChecked(event.Merge(o, event.Object{"type": mustJSON(sealed.Type), "content": sealed.Content}).Encode())
}

func (c *fakeCrypt) Known(_ context.Context, _, session string) (bool, error) {
	return c.keys[session], nil
}

// whisper says something encrypted.
func (h *fakeHS) whisper(r *hsRoom, user, session, text string) string {
	return h.emit(r, user, event.TypeEncrypted, nil, fakeSealed{"fake", session, event.TypeMessage,
		event.Message{MsgType: event.MsgText, Body: text}.Encode()}, 0)
}

// newSecret is a conversation in which both bridges take part in encrypted rooms, with one key there.
func newSecret(t *testing.T, m mode, conf Encryption) *pair {
	t.Helper()
	p := newPair(t, m)
	for _, n := range p.nodes {
		n.conf.Encryption = conf
		n.crypt = &fakeCrypt{keys: map[string]bool{"one": true}}
		n.start()
	}
	return p
}

func (p *pair) heard(r *hsRoom, n *node, text string) bool {
	return slices.ContainsFunc(n.hs.texts(r), func(s string) bool { return strings.Contains(s, text) })
}

// What is said in an encrypted room reaches the other side, in whatever way the bridge is restarted meanwhile, and the room
// is told once that the bridge is an end of the encryption.
func TestEncryptedRoomIsBridged(t *testing.T) {
	for name, m := range map[string]mode{"warm": warm, "restarting": restarting} {
		t.Run(name, func(t *testing.T) {
			p := newSecret(t, m, Encryption{Portals: true, RotateMessages: 50, RotateAfter: time.Hour})
			p.begin()
			if got := p.portal.state[event.TypeEncryption+"\x00"]; !strings.Contains(string(got), `"rotation_period_msgs":50`) {
				t.Errorf("the portal's encryption is %s", got)
			}
			p.a.hs.set(p.room, p.alice, event.TypeEncryption, map[string]string{"algorithm": "m.megolm.v1.aes-sha2"})
			p.settle()
			p.a.hs.whisper(p.room, p.alice, "one", "secret of alice")
			p.settle()
			p.b.hs.whisper(p.portal, p.bob, "one", "secret of bob")
			p.settle()
			if !p.heard(p.portal, p.b, "secret of alice") || !p.heard(p.room, p.a, "secret of bob") {
				t.Errorf("A: %q, B: %q", p.a.hs.texts(p.room), p.b.hs.texts(p.portal))
			}
			for r, n := range map[*hsRoom]*node{p.room: p.a, p.portal: p.b} {
				told := 0
				for _, s := range n.hs.texts(r) {
					if strings.Contains(s, "it is an end of the encryption") {
						told++
					}
				}
				if told != 1 {
					t.Errorf("%s was told %d times that the bridge reads along: %q", n.domain, told, n.hs.texts(r))
				}
			}
			p.noTrouble()
		})
	}
}

// An event without key waits by itself: others overtake it, and it gets through when the key comes.
func TestEncryptedEventWaitsForItsKey(t *testing.T) {
	p := newSecret(t, warm, Encryption{}).begin()
	p.a.hs.whisper(p.room, p.alice, "two", "early")
	p.a.hs.whisper(p.room, p.alice, "one", "later")
	p.settle()
	if p.heard(p.portal, p.b, "early") || !p.heard(p.portal, p.b, "later") {
		t.Fatalf("before the key: %q", p.b.hs.texts(p.portal))
	}
	p.a.crypt.keys["two"] = true
	if err := p.a.relay.KeyCame(context.Background(), p.room.id, "two"); err != nil {
		t.Fatal(err)
	}
	p.settle()
	if !p.heard(p.portal, p.b, "early") {
		t.Fatalf("after the key: %q", p.b.hs.texts(p.portal))
	}
	// Without the call the event is found too, a little later.
	p.a.hs.whisper(p.room, p.alice, "three", "uncalled")
	p.settle()
	p.a.crypt.keys["three"] = true
	p.pass(10 * time.Second)
	if !p.heard(p.portal, p.b, "uncalled") {
		t.Fatalf("without a call: %q", p.b.hs.texts(p.portal))
	}
	p.noTrouble()
}

// A sender learns when an event cannot be opened: at once when that is certain, else after the patience.
func TestEncryptedEventIsGivenUp(t *testing.T) {
	p := newSecret(t, warm, Encryption{}).begin()
	p.a.hs.whisper(p.room, p.alice, "never", "nobody hears this")
	p.pass(keyPatience / 2)
	if p.heard(p.room, p.a, "could not decrypt") {
		t.Fatal("given up too early")
	}
	p.pass(keyPatience)
	if !p.heard(p.room, p.a, "its key did not come") {
		t.Fatalf("the sender was not told: %q", p.a.hs.texts(p.room))
	}
	p.a.crypt.lost = true
	p.a.hs.whisper(p.room, p.alice, "one", "nor this")
	p.settle()
	if !p.heard(p.room, p.a, "it is broken") {
		t.Fatalf("the sender was not told: %q", p.a.hs.texts(p.room))
	}
	p.noTrouble()
}

// Commands are understood when they come encrypted, in the room and in a chat with the bot.
func TestEncryptedCommand(t *testing.T) {
	p := newSecret(t, warm, Encryption{}).begin()
	p.a.hs.whisper(p.room, p.alice, "one", "!mimi help")
	p.settle()
	if p.heard(p.portal, p.b, "help") {
		t.Error("a command was said on the other side")
	}
	chat := p.a.hs.create(p.alice, "", "")
	p.a.hs.invite(chat, p.alice, p.a.conf.Bot)
	p.settle()
	p.a.hs.whisper(chat, p.alice, "one", "whoami")
	p.settle()
	var got []string
	for _, c := range p.a.cmds {
		got = append(got, c.Text)
	}
	p.equal("commands", got, []string{"help", "whoami"})
}

// Where encryption is required, what is said in clear stays where it is.
func TestEncryptionIsRequired(t *testing.T) {
	p := newSecret(t, warm, Encryption{Require: true}).begin()
	p.a.hs.say(p.room, p.alice, "in clear")
	p.a.hs.whisper(p.room, p.alice, "one", "in secret")
	p.settle()
	if p.heard(p.portal, p.b, "in clear") || !p.heard(p.portal, p.b, "in secret") {
		t.Errorf("B hears %q", p.b.hs.texts(p.portal))
	}
	if !p.heard(p.room, p.a, "only messages of encrypted rooms") {
		t.Errorf("the sender was not told: %q", p.a.hs.texts(p.room))
	}
}

// A bridge that takes no part in encrypted rooms says so.
func TestEncryptionIsNotAllowed(t *testing.T) {
	p := newPair(t, warm).begin()
	p.a.hs.set(p.room, p.alice, event.TypeEncryption, map[string]string{"algorithm": "m.megolm.v1.aes-sha2"})
	p.a.hs.whisper(p.room, p.alice, "one", "unheard")
	p.settle()
	if !p.heard(p.room, p.a, "does not take part in encrypted rooms") {
		t.Errorf("the room was not told: %q", p.a.hs.texts(p.room))
	}
	p.noTrouble()
}
