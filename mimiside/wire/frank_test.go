package wire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// The way of a frank: sender, hub, receiver, reporter, hub.
func TestFranking(t *testing.T) {
	salt, data := bytes.Repeat([]byte{7}, 16), []byte("application data")
	tag := NewFrankingTag(salt, data)
	got, ok := FrankingTagOf(tag.AuthenticatedData())
	if !ok || got != tag {
		t.Fatalf("tag %x came back as %x", tag, got)
	}
	c := FrankingContext{"mimi://b.example/u/bob", "mimi://a.example/r/x", 1000}
	old, current := mls.Secret(bytes.Repeat([]byte{1}, 32)), mls.Secret(bytes.Repeat([]byte{2}, 32))
	for _, key := range testKeys() {
		frank, err := NewFrank(current, key, tag, c)
		if err != nil {
			t.Fatal(err)
		}
		f, err := UnmarshalFrank(frank.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Verify(key.Suite(), key.Public(), c); err != nil {
			t.Errorf("suite %d: %v", key.Suite(), err)
		}
		if !f.Made([]mls.Secret{old, current}, tag, c) || f.Made([]mls.Secret{old}, tag, c) || f.Made(nil, tag, c) {
			t.Error("the hub does not know its own frank, or another's as its own")
		}
		for name, other := range map[string]FrankingContext{"sender": {"mimi://b.example/u/eve", c.RoomURI, 1000}, "room": {c.SenderURI, "mimi://a.example/r/y", 1000},
			"time": {c.SenderURI, c.RoomURI, 1001}} {
			if f.Verify(key.Suite(), key.Public(), other) == nil || f.Made([]mls.Secret{current}, tag, other) {
				t.Errorf("suite %d: another %s passed", key.Suite(), name)
			}
		}
		if f.Made([]mls.Secret{current}, NewFrankingTag(salt, []byte("other data")), c) {
			t.Error("a frank for another message passed")
		}
		if err := f.Verify(key.Suite()+1, key.Public(), c); !errors.Is(err, ErrSignature) {
			t.Errorf("another suite than the group's: %v", err)
		}
	}
	if _, ok := FrankingTagOf([]byte{0}); ok {
		t.Error("an empty SafeAAD has a tag")
	}
	if _, ok := FrankingTagOf([]byte("no safe AAD")); ok {
		t.Error("garbage has a tag")
	}
	agent := &FrankingAgent{testKeys()[0].Public(), mls.BasicCredential([]byte("mimi://a.example"))}
	if again, err := UnmarshalFrankingAgent(agent.Marshal()); err != nil || !bytes.Equal(again.Marshal(), agent.Marshal()) {
		t.Errorf("franking agent: %v", err)
	}
}
