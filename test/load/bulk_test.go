package load

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/test/fakes/stage"
)

// TestBulk lets people of a follower write in many rooms of one hub at once, with the extensions (docs/extensions.md) and
// without. The ratio is the rate with them by the rate without.
func TestBulk(t *testing.T) {
	bin := build(t)
	rooms, lines, distances := 2, 5, []time.Duration{0}
	if full() {
		rooms, lines, distances = 20, 50, []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond}
	}
	for _, latency := range distances {
		compareBulk(t, bin, latency, rooms, lines)
	}
}

func compareBulk(t *testing.T, bin string, latency time.Duration, rooms, lines int) {
	var rates, cpus []float64
	for _, extensions := range []bool{false, true} {
		took, cpu := bulk(t, bin, extensions, latency, rooms, lines)
		rates = append(rates, float64(rooms*lines)/took.Seconds())
		cpus = append(cpus, float64(cpu.Microseconds())/float64(rooms*lines)/1000)
	}
	condition := fmt.Sprintf("rooms=%d lines=%d latency=%v", rooms, lines, latency)
	line("bulk rate", condition, fmt.Sprintf("%.0f/s, %.0f/s in bulk", rates[0], rates[1]), rates[1]/rates[0])
	line("bulk cpu", condition, fmt.Sprintf("%.2f ms, %.2f ms in bulk, of both bridges", cpus[0], cpus[1]), cpus[1]/cpus[0])
}

// bulk returns how long it takes until the hub shows everything, and the CPU time of both bridges.
func bulk(t *testing.T, bin string, extensions bool, latency time.Duration, rooms, lines int) (took, cpu time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := stage.New(ctx, stage.Options{Dir: t.TempDir(), Bin: bin, Bridges: []string{"a.example", "b.example"}, MIMI: map[string]any{"extensions": extensions}})
	must(err)
	defer func() { must(s.Close()) }()
	a, b := s.Bridges["a.example"], s.Bridges["b.example"]
	a.Link.Latency.Store(int64(latency))
	b.Link.Latency.Store(int64(latency))
	must(a.Start(ctx))
	must(b.Start(ctx))
	alice, bob := a.Homeserver.Register("alice"), b.Homeserver.Register("bob")
	var own, portals []string
	for i := range rooms {
		room := a.Homeserver.Create(alice, fmt.Sprintf("Room %d", i))
		must(a.Homeserver.Act(room, "invite", alice, a.Ghost("b.example", "bob")))
		portal := ""
		must(b.Homeserver.Wait(ctx, "the invitation", func() bool { portal = b.Homeserver.RoomOf(bob, "invite"); return portal != "" }))
		must(b.Homeserver.Act(portal, "join", bob, bob))
		must(a.Homeserver.Wait(ctx, "bob's ghost", func() bool { return a.Homeserver.Member(room, a.Ghost("b.example", "bob")) == "join" }))
		own, portals = append(own, room), append(portals, portal)
	}
	used := func() (sum time.Duration) {
		for _, x := range []*stage.Bridge{a, b} {
			d, err := cpuTime(x.Process().PID())
			must(err)
			sum += d
		}
		return sum
	}
	before, start := used(), time.Now()
	for i := range lines {
		for _, portal := range portals {
			b.Homeserver.Say(portal, bob, fmt.Sprintf("line %d", i))
		}
	}
	for _, room := range own {
		must(a.Homeserver.Wait(ctx, "everything", func() bool { return len(a.Homeserver.Texts(room)) >= lines }))
	}
	return time.Since(start), used() - before
}
