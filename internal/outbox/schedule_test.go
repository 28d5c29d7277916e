package outbox

import (
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
)

// A peer that never answers holds few places, and other lanes go on.
func TestAFailingPeerGetsFewRequests(t *testing.T) {
	s := newScheduler(64, func(string) (int, int) { return 0, 0 })
	now := time.UnixMilli(0)
	for range 100 {
		s.add(store.Lane{Room: newID(t), Dest: "mimi:bad"}, true)
	}
	start := func() (out []*run) {
		for {
			r, fine := s.next(now)
			if !fine {
				return out
			}
			out = append(out, r)
		}
	}
	runs := start()
	if len(runs) != 2 {
		t.Fatalf("%d requests to a new peer", len(runs))
	}
	s.add(store.Lane{Room: newID(t), Dest: "mimi:good"}, true)
	if more := start(); len(more) != 1 || more[0].lane.Dest != "mimi:good" {
		t.Fatalf("another peer waits for the silent one: %d", len(more))
	}
	for i := 0; i < 400; i++ { // it works: growing to 20
		s.answered("mimi:bad")
	}
	if runs = append(runs, start()...); len(runs) != 20 {
		t.Fatalf("%d requests to a good peer", len(runs))
	}
	for _, r := range runs {
		s.failed("mimi:bad", now, 0)
		s.done(r, false)
	}
	if more := start(); len(more) != 0 {
		t.Fatalf("%d requests right after failures", len(more))
	}
	if c := s.closed(now); len(c) != 1 || c[0] != "mimi:bad" {
		t.Fatalf("closed are %v", c)
	}
	now = now.Add(time.Minute)
	probe := start()
	if len(probe) != 1 {
		t.Fatalf("%d probes", len(probe))
	}
	s.answered("mimi:bad")
	s.done(probe[0], false)
	if more := start(); len(more) != 2 {
		t.Fatalf("%d requests after it came back", len(more))
	}
}

// One new for one old: live messages do not wait for the backlog, nor the other way round.
func TestFreshAndOldLanesTakeTurns(t *testing.T) {
	s := newScheduler(1, func(string) (int, int) { return 1, 1 })
	var kinds []string
	isOld := map[store.Lane]bool{}
	for range 4 {
		f, o := store.Lane{Room: newID(t), Dest: "x"}, store.Lane{Room: newID(t), Dest: "x"}
		isOld[o] = true
		s.add(f, true)
		s.add(o, false)
		s.add(o, true) // it has its place already
	}
	for {
		r, fine := s.next(time.Time{})
		if !fine {
			break
		}
		kinds = append(kinds, map[bool]string{true: "old", false: "fresh"}[isOld[r.lane]])
		s.done(r, false)
	}
	for i := 2; i < len(kinds); i++ {
		if kinds[i] != kinds[i-2] || kinds[i] == kinds[i-1] {
			t.Fatalf("the order was %v", kinds)
		}
	}
	if len(kinds) != 8 {
		t.Fatalf("%d lanes had a turn", len(kinds))
	}
}
