package crash

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/killpoint"
	"github.com/matrix-mimi/bridge/test/fakes/stage"
	"github.com/matrix-mimi/bridge/test/harness"
)

// kill says whom to kill where: at the n-th time that the bridge passes a point in a round.
type kill struct {
	domain, point string
	hit           int
}

func (k kill) String() string { return fmt.Sprintf("%s:%d at %s", k.point, k.hit, k.domain) }

// theatre is a stage on which rounds are played one after another.
type theatre struct {
	t     *testing.T
	stage *stage.Stage
	dir   string
	n     int
	total verdict
	kills int
	made  *made
	names map[string]bool // points at which something was killed
}

func newTheatre(t *testing.T, bin string, postgres func(context.Context, string) (string, error)) *theatre {
	t.Helper()
	dir := t.TempDir()
	if keep := os.Getenv("CRASH_DIR"); keep != "" { // databases and logs are to be looked at afterwards
		if err := os.MkdirAll(keep, 0o755); err != nil {
			t.Fatal(err)
		}
		dir = keep
	}
	s, err := stage.New(t.Context(), stage.Options{Dir: dir, Bin: bin, Bridges: []string{hub, follower}, Postgres: postgres, LogLevel: "debug"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	th := &theatre{t: t, stage: s, dir: dir, names: map[string]bool{}, made: newMade()}
	for _, b := range s.Bridges {
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return th
}

func (th *theatre) hitLog(domain string) string { return filepath.Join(th.dir, domain, "hits") }

// restart gives a bridge another environment.
func (th *theatre) restart(domain string, env ...string) error {
	b := th.stage.Bridges[domain]
	if err := b.Stop(); err != nil {
		return err
	}
	return b.Start(th.t.Context(), env...)
}

// census plays one round without a kill and returns how often each bridge passes each point in it.
func (th *theatre) census() map[string]map[string]int {
	th.t.Helper()
	for domain := range th.stage.Bridges {
		if err := th.restart(domain, killpoint.EnvLog+"="+th.hitLog(domain)); err != nil {
			th.t.Fatal(err)
		}
	}
	if _, err := th.round(nil); err != nil {
		th.t.Fatal(err)
	}
	out := map[string]map[string]int{}
	for domain := range th.stage.Bridges {
		out[domain] = map[string]int{}
		f, err := os.Open(th.hitLog(domain))
		if err != nil {
			th.t.Fatal(err)
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			out[domain][lines.Text()]++
		}
		f.Close()
		if err := th.restart(domain); err != nil {
			th.t.Fatal(err)
		}
	}
	return out
}

// round plays one round; with a kill the bridge is started again as soon as it is dead. killed says whether it died.
func (th *theatre) round(k *kill) (killed bool, err error) {
	th.n++
	ctx, cancel := context.WithTimeout(th.t.Context(), 4*time.Minute)
	defer cancel()
	a, b := th.stage.Bridges[hub], th.stage.Bridges[follower]
	var watch sync.WaitGroup
	over := make(chan struct{})
	var again error
	if k != nil {
		victim := th.stage.Bridges[k.domain]
		if err := th.restart(k.domain, fmt.Sprintf("%s=%s:%d", killpoint.Env, k.point, k.hit)); err != nil {
			return false, err
		}
		dead := victim.Process().Done()
		watch.Go(func() {
			select {
			case <-over:
			case <-dead:
				killed = true
				again = victim.Start(ctx)
			}
		})
	}
	r := &round{ctx: ctx, n: th.n, a: a, b: b, made: th.made}
	err = r.play()
	for _, side := range []*stage.Bridge{a, b} {
		if err == nil {
			err = r.wait(side.Homeserver, "all events to be taken", side.Homeserver.Idle)
		}
		if err == nil {
			err = quiet(ctx, side)
		}
	}
	close(over)
	watch.Wait()
	if err == nil {
		err = again
	}
	v := r.audit()
	if err != nil {
		v.lost = max(v.lost, 1) // what was not even finished
		v.note("%v", err)
	}
	th.total.add(v)
	for _, n := range v.notes {
		th.t.Errorf("kill %v: %s", k, n)
	}
	if killed {
		th.kills++
		th.names[k.point] = true
	}
	return killed, err
}

// perform plays a list of kills, one line each.
func (th *theatre) perform(list []kill) {
	for _, k := range list {
		began := time.Now()
		killed, err := th.round(&k)
		if err == nil && !killed && k.hit > 1 {
			// This round passed the point less often than the first one, which depends on what is sent together.
			k.hit = 1
			killed, err = th.round(&k)
		}
		word := "ok"
		switch {
		case err != nil:
			word = "FAILED"
		case !killed:
			word = "not reached"
		}
		fmt.Printf("crash: %-4s %s hit %d: %s, %d ms\n", k.point, k.domain, k.hit, word, time.Since(began).Milliseconds())
		if err != nil {
			th.t.Logf("logs of the bridges end:\n%s\n%s", th.stage.Bridges[hub].Process().LogTail(6000), th.stage.Bridges[follower].Process().LogTail(6000))
			return // what follows would stand on broken ground
		}
	}
}

// close stops the bridges and audits their databases.
func (th *theatre) close() {
	th.t.Helper()
	var snaps []*snapshot
	for _, domain := range []string{hub, follower} {
		b := th.stage.Bridges[domain]
		if err := b.Stop(); err != nil {
			th.t.Error(err)
		}
		snap, err := open(context.Background(), b, th.t.TempDir())
		if err != nil {
			th.t.Fatal(err)
		}
		snaps = append(snaps, snap)
	}
	v := compare(snaps[0], snaps[1], th.made, th.n)
	th.total.add(v)
	for _, n := range v.notes {
		if v.lost+v.doubled+v.reused+v.forked > 0 {
			th.t.Error(n)
		} else {
			th.t.Log(n)
		}
	}
	if th.total.lost+th.total.doubled+th.total.reused+th.total.forked > 0 {
		th.t.Fail()
	}
	fmt.Printf("crash: %d kills at %d points, %d lost, %d doubled, %d reused, %d forked\n", th.kills, len(th.names), th.total.lost, th.total.doubled,
		th.total.reused, th.total.forked)
}

// chosen are the kills of this run, from what a round passes.
func chosen(t *testing.T, passed map[string]map[string]int) []kill {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("CRASH_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("CRASH_SEED: %v", err)
		}
	}
	fmt.Printf("crash: CRASH_SEED=%d\n", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var all []kill
	missing := map[string]bool{}
	only, at, _ := strings.Cut(os.Getenv("CRASH_POINT"), ":")
	for _, point := range killpoint.Names {
		missing[point] = true
		for _, domain := range []string{hub, follower} {
			n := passed[domain][point]
			if n == 0 {
				continue
			}
			missing[point] = false
			hit := 1 + rng.IntN(n)
			if fixed, err := strconv.Atoi(at); err == nil {
				hit = fixed
			}
			if only != "" && only != point {
				continue
			}
			if os.Getenv("CRASH") == "every" {
				for hit := range n {
					all = append(all, kill{domain, point, hit + 1})
				}
				continue
			}
			all = append(all, kill{domain, point, hit})
		}
	}
	var never []string
	for _, point := range killpoint.Names {
		if missing[point] {
			never = append(never, point)
		}
	}
	if len(never) > 0 {
		t.Errorf("the conversation never passes %q", never)
	}
	if os.Getenv("CRASH") == "all" || only != "" {
		return all
	}
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if os.Getenv("CRASH") == "every" {
		return all
	}
	return all[:min(len(all), 20)]
}

func buildBridge(t *testing.T) string {
	t.Helper()
	bin, err := harness.BuildBridge(t.Context(), t.TempDir(), "killpoint")
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// Nothing is lost, doubled, reused or forked wherever the process is killed (reliability.md §5).
func TestKillPoints(t *testing.T) {
	bin := buildBridge(t)
	th := newTheatre(t, bin, nil)
	list := chosen(t, th.census())
	th.perform(list)
	th.close()
}

// The same holds on PostgreSQL.
func TestKillPointsPostgres(t *testing.T) {
	pg, err := harness.StartPostgres(t.Context(), harness.PostgresConfig{})
	if err != nil {
		t.Skipf("no PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	})
	th := newTheatre(t, buildBridge(t), pg.Database)
	list := chosen(t, th.census())
	rng := rand.New(rand.NewPCG(uint64(len(list)), 2))
	rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	// With PostgreSQL the leases of a dead process have to end by themselves, which takes 20 s.
	few := 2
	if os.Getenv("CRASH") == "all" {
		few = 10
	}
	th.perform(slices.Clone(list[:min(len(list), few)]))
	th.close()
}
