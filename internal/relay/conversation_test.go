package relay

import (
	"testing"
)

// The smallest conversation: a Matrix user of A invites one of B; they talk both ways.
func TestInviteAndTalk(t *testing.T) {
	w := newWorld(t, "a.example", "b.example")
	a, b := w.nodes["a.example"], w.nodes["b.example"]
	alice, bob := a.hs.mxid("alice"), b.hs.mxid("bob")
	b.hs.users[bob] = true

	room := a.hs.create(alice, "Tea", "about tea")
	bobAtA := a.ghost("mimi://b.example/u/bob")
	a.hs.invite(room, alice, bobAtA)
	w.settle()

	w.equal("joined at A", a.hs.joined(room), []string{alice, bobAtA, a.hs.mxid("mimibot")})
	portal := b.hs.roomOf(bob, "invite")
	if portal == nil {
		t.Fatalf("bob was not invited; rows at B %q, rows at A %q, alerts %q", b.hs.rows, a.hs.rows, b.alerts)
	}
	w.equal("name", portal.str("m.room.name", "name"), "Tea")
	w.equal("topic", portal.str("m.room.topic", "topic"), "about tea")
	b.hs.join(portal, bob)
	w.settle()

	a.hs.say(room, alice, "hello bob")
	w.settle()
	b.hs.say(portal, bob, "hello alice")
	w.settle()
	aliceAtB := b.ghost("mimi://a.example/u/alice")
	w.equal("A sees", a.hs.texts(room), []string{"alice: hello bob", local(bobAtA) + ": hello alice"})
	w.equal("B sees", b.hs.texts(portal), []string{local(aliceAtB) + ": hello bob", "bob: hello alice"})
	w.noTrouble()
}

func local(mxid string) string {
	for i := range mxid {
		if mxid[i] == ':' {
			return mxid[1:i]
		}
	}
	return mxid
}
