package relay

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// newSecretAP is a bridge that takes part in encrypted rooms and makes such.
func newSecretAP(t *testing.T, w *world, places map[string]string, domain string) *apNode {
	t.Helper()
	return newAPNodeOf(t, w, places, domain, func(n *node) {
		n.conf.Encryption = Encryption{Portals: true, RotateMessages: 50, RotateAfter: time.Hour}
		n.crypt = &fakeCrypt{keys: map[string]bool{"one": true}}
		n.start()
	})
}

// TestEncryptedChannels: an encrypted Matrix room is a channel, and its portal is encrypted where the settings want that; what is said encrypted goes over, both ways, commands are
// understood, an event whose key is late waits for it, and people are told once that the bridge is an end of the encryption.
func TestEncryptedChannels(t *testing.T) {
	w, places := newWorld(t, "sqlite"), map[string]string{}
	c := &channelWorld{t: t, w: w, a: newSecretAP(t, w, places, "a.example"), b: newSecretAP(t, w, places, "b.example")}
	c.alice, c.bob = c.a.hs.mxid("alice"), c.b.hs.mxid("bob")
	c.a.hs.users, c.b.hs.users = map[string]bool{c.alice: true}, map[string]bool{c.bob: true}
	c.room = c.a.hs.create(c.alice, "Club", "")
	c.a.hs.set(c.room, c.alice, event.TypeEncryption, map[string]string{"algorithm": "m.megolm.v1.aes-sha2"})
	c.a.hs.invite(c.room, c.alice, c.a.hs.mxid("mimibot"))
	c.settle()
	c.must(c.a.face.OfferChannel(context.Background(), c.room.id, c.alice, ""))
	c.settle()
	c.invite()
	if got := c.there.state[event.TypeEncryption+"\x00"]; !strings.Contains(string(got), `"rotation_period_msgs":50`) {
		t.Errorf("the portal's encryption is %s", got)
	}
	c.a.hs.whisper(c.room, c.alice, "one", "for the club only")
	c.b.hs.whisper(c.there, c.bob, "one", "it hears you")
	c.a.hs.whisper(c.room, c.alice, "late", "wait for me")
	c.a.hs.whisper(c.room, c.alice, "one", "I did")
	c.settle()
	c.hears(c.b.hs, c.there, "for the club only", 1)
	c.hears(c.a.hs, c.room, "it hears you", 1)
	c.hears(c.b.hs, c.there, "wait for me", 0)
	c.a.crypt.keys["late"] = true
	c.must(c.a.relay.KeyCame(context.Background(), c.room.id, "late"))
	c.settle()
	c.hears(c.b.hs, c.there, "wait for me", 1)
	c.hears(c.b.hs, c.there, "I did", 1)
	for n, room := range map[*apNode]*hsRoom{c.a: c.room, c.b: c.there} {
		if got := count(n.hs.texts(room), "an end of the encryption"); got != 1 {
			t.Errorf("%s tells %d times what the bridge can read: %q", n.domain, got, n.hs.texts(room))
		}
	}
}

// TestEncryptedConversations: the room of a conversation is encrypted where the settings want that.
func TestEncryptedConversations(t *testing.T) {
	w, places := newWorld(t, "sqlite"), map[string]string{}
	a, b := newSecretAP(t, w, places, "a.example"), newSecretAP(t, w, places, "b.example")
	alice, bob := a.hs.mxid("alice"), b.hs.mxid("bob")
	a.hs.users, b.hs.users = map[string]bool{alice: true}, map[string]bool{bob: true}
	if err := a.face.StartChat(context.Background(), alice, "@bob@b.example"); err != nil {
		t.Fatal(err)
	}
	settleAP(t, a, b)
	at, bt := a.hs.roomOf(alice, "invite"), b.hs.roomOf(bob, "invite")
	for n, room := range map[*apNode]*hsRoom{a: at, b: bt} {
		if room == nil || !strings.Contains(string(room.state[event.TypeEncryption+"\x00"]), "megolm") {
			t.Fatalf("the room at %s is not encrypted", n.domain)
		}
	}
	a.hs.join(at, alice)
	b.hs.join(bt, bob)
	settleAP(t, a, b)
	a.hs.whisper(at, alice, "one", "between us")
	b.hs.whisper(bt, bob, "one", "nobody else")
	settleAP(t, a, b)
	if got := count(b.hs.texts(bt), ": between us") + count(a.hs.texts(at), ": nobody else"); got != 2 {
		t.Errorf("%q %q", a.hs.texts(at), b.hs.texts(bt))
	}
	for n, room := range map[*apNode]*hsRoom{a: at, b: bt} {
		if got := count(n.hs.texts(room), "an end of the encryption"); got != 1 {
			t.Errorf("%s tells %d times what the bridge can read", n.domain, got)
		}
	}
}
