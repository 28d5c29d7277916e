package load

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/test/fakes/provider"
	"github.com/matrix-mimi/bridge/test/fakes/stage"
	"github.com/matrix-mimi/bridge/test/harness"
)

const (
	domain = "a.example"
	peer   = "p.example"

	goalCPU   = 2 * time.Millisecond
	goalDelay = 10 * time.Millisecond
)

// ghosts are the sizes of room that are measured: clients of the bridge in the MLS group.
var ghosts = []int{2, 50, 500}

func full() bool { return os.Getenv("BENCH") != "" }

func line(what, condition string, figure any, ratio float64) {
	fmt.Printf("%s %s %v ratio=%.2f\n", what, condition, figure, ratio)
}

// cpuTime is what a process has used, user and system.
func cpuTime(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	cells := strings.Fields(rest)
	if len(cells) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(cells))
	}
	var ticks int64
	for _, c := range cells[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.ParseInt(c, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// setting is a bridge with a provider as peer, and a room of n local people and one of the provider.
type setting struct {
	t       *testing.T
	ctx     context.Context
	stage   *stage.Stage
	a       *stage.Bridge
	p       *provider.Provider
	people  []string
	bob     string
	room    string // URI
	matrix  string
	arrived int
	seen    int
}

// built is the bridge that all tests here run.
var built harness.SharedBridge

func TestMain(m *testing.M) {
	code := m.Run()
	_ = built.Remove()
	os.Exit(code)
}

// build returns the bridge's program: the one that BENCH_BRIDGE names, else one that is built quickly, without a profile.
func build(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("CPU time is read from /proc")
	}
	if bin := os.Getenv("BENCH_BRIDGE"); bin != "" {
		if !filepath.IsAbs(bin) {
			t.Fatalf("BENCH_BRIDGE=%s is no absolute path", bin)
		}
		return bin
	}
	bin, err := built.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// open puts bridge and provider on stage; the bridge does not run yet.
func open(t *testing.T, o stage.Options) *setting {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	t.Cleanup(cancel)
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	o.Dir, o.Bridges, o.Peers = t.TempDir(), []string{domain}, map[string]string{peer: harness.Loopback(port)}
	s := &setting{t: t, ctx: ctx}
	if s.stage, err = stage.New(ctx, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stage.Close(); err != nil {
			t.Error(err)
		}
	})
	s.a = s.stage.Bridges[domain]
	if s.p, err = provider.New(peer, harness.Loopback(port), s.stage.CA, map[string]string{domain: s.a.MIMIAddr()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.p.Close)
	s.bob = s.p.User("bob")
	return s
}

// gather makes the room.
func (s *setting) gather(n int) {
	s.t.Helper()
	if err := s.a.Start(s.ctx); err != nil {
		s.t.Fatal(err)
	}
	hs := s.a.Homeserver
	for i := range n {
		s.people = append(s.people, hs.Register(fmt.Sprintf("user%d", i)))
	}
	s.matrix = hs.Create(s.people[0], "Load")
	for _, u := range s.people[1:] {
		s.must(hs.Act(s.matrix, "invite", s.people[0], u))
		s.must(hs.Act(s.matrix, "join", u, u))
	}
	s.must(hs.Act(s.matrix, "invite", s.people[0], s.a.Ghost(peer, "bob")))
	s.must(s.p.Wait(s.ctx, "the Welcome", func() bool { s.room = s.p.Room(); return s.room != "" && s.p.Clients(s.room) == 1 }))
	s.must(hs.Wait(s.ctx, "bob's ghost", func() bool { return hs.Member(s.matrix, s.a.Ghost(peer, "bob")) == "join" }))
}

func (s *setting) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// toMIMI lets people write messages, so many at once, and returns the delay of each.
func (s *setting) toMIMI(count, atOnce int) []time.Duration {
	s.t.Helper()
	hs := s.a.Homeserver
	var delays []time.Duration
	for done := 0; done < count; done += atOnce {
		began := make([]time.Time, atOnce)
		for i := range atOnce {
			began[i] = time.Now()
			hs.Say(s.matrix, s.people[rand.IntN(len(s.people))], fmt.Sprintf("message %d", done+i))
		}
		var arrivals []time.Time
		s.must(s.p.Wait(s.ctx, "messages", func() bool {
			arrivals = s.p.Arrivals(s.room)
			return len(arrivals) >= s.arrived+atOnce
		}))
		for i := range atOnce {
			delays = append(delays, arrivals[s.arrived+i].Sub(began[i]))
		}
		s.arrived += atOnce
	}
	return delays
}

// toMatrix lets bob write messages and returns the delay of each until the homeserver has it.
func (s *setting) toMatrix(count, atOnce int) []time.Duration {
	s.t.Helper()
	hs := s.a.Homeserver
	var delays []time.Duration
	for done := 0; done < count; done += atOnce {
		bodies := make([][]byte, atOnce)
		for i := range bodies {
			_, body, err := s.p.Compose(s.room, s.bob, fmt.Sprintf("answer %d", s.seen+i))
			s.must(err)
			bodies[i] = body
		}
		began := make([]time.Time, atOnce)
		for i, body := range bodies {
			began[i] = time.Now()
			s.must(s.p.Submit(s.ctx, domain, s.room, body))
		}
		last := fmt.Sprintf("answer %d", s.seen+atOnce-1)
		var at []time.Time
		s.must(hs.Wait(s.ctx, "answers", func() bool { return hs.LastText(s.matrix) == last }))
		for _, text := range hs.LastTexts(s.matrix, atOnce) {
			at = append(at, text.At)
		}
		for i := range began {
			delays = append(delays, at[i].Sub(began[i]))
		}
		// A hub fans a message out to its own provider too; that belongs to the work.
		s.must(s.p.Wait(s.ctx, "what was fanned out", func() bool { return len(s.p.Arrivals(s.room)) >= s.arrived+atOnce }))
		s.seen, s.arrived = s.seen+atOnce, s.arrived+atOnce
	}
	return delays
}

func percentile(d []time.Duration, p int) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[min(len(d)*p/100, len(d)-1)]
}

// cost is what messages cost under one condition, in rounds that others take place between.
type cost struct {
	what, condition string
	run             func() []time.Duration
	count           int             // messages a round
	each            []time.Duration // CPU time a message, by rounds
	delays          []time.Duration
	took            time.Duration
}

// round runs a round.
func (s *setting) round(c *cost) {
	s.t.Helper()
	runtime.GC()
	pid := s.a.Process().PID()
	before, err := cpuTime(pid)
	s.must(err)
	began := time.Now()
	c.delays = append(c.delays, c.run()...)
	c.took += time.Since(began)
	after, err := cpuTime(pid)
	s.must(err)
	c.each = append(c.each, (after-before)/time.Duration(c.count))
}

// print prints CPU time a message, the mean of the rounds, and delay.
func (c *cost) print() {
	var sum time.Duration
	for _, e := range c.each {
		sum += e
	}
	mean := sum / time.Duration(len(c.each))
	if len(c.each) > 1 {
		fmt.Printf("# rounds of %d messages: %v\n", c.count, c.each)
	}
	line(c.what+" cpu", c.condition, mean.Round(10*time.Microsecond), float64(mean)/float64(goalCPU))
	for _, p := range []int{50, 99} {
		d := percentile(c.delays, p)
		line(fmt.Sprintf("%s delay p%d", c.what, p), c.condition, d.Round(10*time.Microsecond), float64(d)/float64(goalDelay))
	}
	if !strings.Contains(c.condition, "alone") {
		fmt.Printf("%s rate %s %.0f/s\n", c.what, c.condition, float64(len(c.delays))/c.took.Seconds())
	}
}

// load says how fast and how busy the machine is: the load average, how long a fixed piece of work, the SHA-256 of a MiB, takes at its best,
// and how much longer now and then.
func load() string {
	average := "unknown"
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		average = strings.Join(strings.Fields(string(data))[:3], " ")
	}
	var times []time.Duration
	block := make([]byte, 1<<20)
	for range 40 {
		began := time.Now()
		sha256.Sum256(block)
		times = append(times, time.Since(began))
	}
	best := slices.Min(times)
	slow := float64(percentile(times, 90)) / float64(best)
	return fmt.Sprintf("%s, fixed work takes %v at its best and up to %.1f times as long", average, best.Round(10*time.Microsecond), slow)
}

// The bridge's own cost a message, in rooms with few and many ghosts.
func TestCost(t *testing.T) {
	bin := build(t)
	sizes, count, rounds := []int{2}, 20, 1
	if full() {
		sizes, count, rounds = ghosts, 400, 5
	}
	if only, err := strconv.Atoi(os.Getenv("BENCH_GHOSTS")); err == nil {
		sizes = []int{only}
	}
	for _, n := range sizes {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := open(t, stage.Options{Bin: bin})
			s.gather(n)
			fmt.Printf("# %d ghost clients, load average %s, %d cores\n", n, load(), runtime.NumCPU())
			s.toMIMI(count/10, 1)
			s.toMatrix(count/10, 1)
			alone, together := fmt.Sprintf("ghosts=%d,alone", n), fmt.Sprintf("ghosts=%d,together", n)
			costs := []*cost{
				{what: "matrix-to-mimi", condition: alone, run: func() []time.Duration { return s.toMIMI(count, 1) }},
				{what: "mimi-to-matrix", condition: alone, run: func() []time.Duration { return s.toMatrix(count, 1) }},
				{what: "matrix-to-mimi", condition: together, run: func() []time.Duration { return s.toMIMI(count, count/4) }},
				{what: "mimi-to-matrix", condition: together, run: func() []time.Duration { return s.toMatrix(count, count/4) }},
			}
			for range rounds {
				for _, c := range costs {
					c.count = count
					s.round(c)
				}
			}
			for _, c := range costs {
				c.print()
			}
		})
	}
}
