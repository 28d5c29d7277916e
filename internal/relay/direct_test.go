package relay

import (
	"context"
	"testing"
)

// A pair has one chat, however often it is begun.
func TestStartChatUsesTheChatThatIsThere(t *testing.T) {
	modes(t, func(t *testing.T, m mode) {
		p := newPair(t, m)
		start := func() {
			t.Helper()
			must0(t, p.a.relay.StartChat(context.Background(), p.alice, bobURI))
			p.settle()
		}
		start()
		p.room = p.a.hs.roomOf(p.alice, "invite")
		p.portal = p.b.hs.roomOf(p.bob, "invite")
		if p.room == nil || p.portal == nil {
			t.Fatalf("no chat was made; rows at A %q", p.a.hs.rows)
		}
		p.a.hs.join(p.room, p.alice)
		p.b.hs.join(p.portal, p.bob)
		p.settle()
		p.talk(1)
		start()
		p.equal("rooms of alice", len(p.a.hs.rooms), 1)
		p.a.hs.leave(p.room, p.alice)
		p.settle()
		start()
		p.equal("alice", p.room.members[p.alice], "invite")
		p.a.hs.join(p.room, p.alice)
		p.settle()
		p.talk(2)
		p.equal("rooms of alice", len(p.a.hs.rooms), 1)
		p.noTrouble()
	})
}
