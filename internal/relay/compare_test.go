package relay

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

// What the homeserver lost is made up for within the hour.
func TestHourlyComparison(t *testing.T) {
	p := newPair(t, warm).begin()
	// Events that never reached the bridges: carol joined, the name changed, a ghost fell out of the portal.
	carol := p.a.hs.mxid("carol")
	p.a.hs.invite(p.room, p.alice, carol)
	p.a.hs.join(p.room, carol)
	p.a.hs.set(p.room, p.alice, "m.room.name", map[string]string{"name": "Lost and found"})
	p.a.hs.queue = nil
	p.b.hs.member(p.portal, p.aliceAtB, p.aliceAtB, "leave", "")
	p.b.hs.queue = nil
	p.settle()
	p.pass(2 * time.Hour)
	p.equal("carol's ghost", p.portal.members[p.b.ghost("mimi://a.example/u/carol")], "join")
	p.equal("name at B", p.portal.str("m.room.name", "name"), "Lost and found")
	p.equal("alice's ghost", p.portal.members[p.aliceAtB], "join")
	p.talk(1)
	p.noTrouble()
}

// What the comparison reads before the homeserver has told of it is news: nobody who was put out comes back, and nobody's invitation
// is lost.
func TestComparisonBeforeTheNews(t *testing.T) {
	p := newPair(t, warm).begin()
	carol := p.b.hs.mxid("carol")
	p.b.hs.users[carol] = true
	carolAtA := p.a.ghost("mimi://b.example/u/carol")
	p.a.hs.kick(p.room, p.alice, p.bobAtA)
	p.a.hs.invite(p.room, p.alice, carolAtA)
	late := p.a.hs.queue
	p.a.hs.queue = nil
	p.a.hs.rows = nil
	p.pass(2 * time.Hour)
	p.a.hs.queue = late
	p.settle()
	p.pass(2 * time.Hour)
	p.equal("bob's ghost", p.room.members[p.bobAtA], "leave")
	p.equal("bob", p.portal.members[p.bob], "leave")
	for _, row := range p.a.hs.rows {
		if strings.HasPrefix(row, "join "+p.bobAtA) {
			t.Error("bob's ghost came back")
		}
	}
	p.equal("carol's ghost", p.room.members[carolAtA], "join")
	if r := p.b.hs.roomOf(carol, "invite"); r == nil {
		t.Error("carol was not invited")
	}
}

// While something that was decided is not done in the Matrix room yet, what is read there is old.
func TestComparisonWhileSomethingWaits(t *testing.T) {
	p := newPair(t, warm).begin()
	ctx, head := context.Background(), p.a.room(p.room)
	old, err := p.a.hs.RoomState(ctx, p.a.hs.mxid("mimibot"), p.room.id)
	must0(t, err)
	_, err = p.a.relay.runStep(ctx, head.ID, nil, store.Settle{}, func(s *step) error {
		s.matrix(event.State{Type: event.TypeName, Content: mustJSON(map[string]string{"name": "Park"})})
		s.room.matrix.Name = "Park"
		return nil
	})
	must0(t, err)
	_, err = p.a.relay.runStep(ctx, head.ID, nil, store.Settle{}, func(s *step) error { return s.onRead(old) })
	must0(t, err)
	p.equal("name as decided", p.a.view(p.room).matrix.Name, "Park")
}

// However often a room was left and joined anew, it is compared once an hour.
func TestOneComparisonAnHour(t *testing.T) {
	p := newPair(t, warm).begin()
	for range 2 {
		p.a.hs.kick(p.room, p.alice, p.bobAtA)
		p.settle()
		p.a.hs.invite(p.room, p.alice, p.bobAtA)
		p.settle()
		p.b.hs.join(p.portal, p.bob)
		p.settle()
	}
	p.pass(90 * time.Minute)
	p.b.hs.reads = 0
	p.pass(10 * time.Hour)
	if p.b.hs.reads < 9 || p.b.hs.reads > 11 {
		t.Errorf("the portal was read %d times in ten hours", p.b.hs.reads)
	}
	p.talk(1)
	p.noTrouble()
}

// Rooms that were compared at the same moment are not all compared at the same moment again, and each within the hour.
func TestComparisonsSpread(t *testing.T) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	r := &Relay{cfg: Config{}.withDefaults()}
	minutes := map[int64]int{}
	for i := range 600 {
		s := &step{Relay: r, now: now, room: &roomView{head: store.Room{ID: store.RoomID{byte(i), byte(i >> 8)}}}}
		s.checkAgain(r.cfg.Consistency)
		wait := time.UnixMilli(s.room.st.CheckAt).Sub(now)
		if wait <= 45*time.Minute-time.Second || wait > time.Hour {
			t.Errorf("room %d is compared after %s", i, wait)
		}
		minutes[int64(wait/time.Minute)]++
	}
	for minute, n := range minutes {
		if n > 100 {
			t.Errorf("%d of 600 rooms are compared in minute %d", n, minute)
		}
	}
}
