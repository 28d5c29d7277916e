package crash

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/killpoint"
	"github.com/matrix-mimi/bridge/test/fakes/stage"
	"github.com/matrix-mimi/bridge/test/harness"
)

const (
	// roundLimit is how long a round takes at most.
	roundLimit = 4 * time.Minute
	// lastWords is what the tests need to say what became of all before their time is over.
	lastWords = 30 * time.Second
	// maxTries is in how many rounds a point is waited for that a round without a kill passes.
	maxTries = 4
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
	made  *made
}

// newTheatre starts the hub's bridge, the follower's, and more.
func newTheatre(t *testing.T, bin string, postgres func(context.Context, string) (string, error), more ...string) *theatre {
	t.Helper()
	dir := t.TempDir()
	if keep := os.Getenv("CRASH_DIR"); keep != "" { // databases and logs are to be looked at afterwards
		dir = filepath.Join(keep, t.Name())
	}
	s, err := stage.New(t.Context(), stage.Options{Dir: dir, Bin: bin, Bridges: append([]string{hub, follower}, more...), Postgres: postgres, LogLevel: "debug"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	th := &theatre{t: t, stage: s, dir: dir, made: newMade()}
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

// round plays one round; with a kill the bridge is started again as soon as it is dead. killed says whether it died of it.
func (th *theatre) round(k *kill) (killed bool, err error) {
	th.n++
	limit := time.Now().Add(roundLimit)
	if deadline, ok := th.t.Deadline(); ok && deadline.Add(-lastWords).Before(limit) {
		limit = deadline.Add(-lastWords)
	}
	ctx, cancel := context.WithDeadline(th.t.Context(), limit)
	defer cancel()
	a, b := th.stage.Bridges[hub], th.stage.Bridges[follower]
	var watch sync.WaitGroup
	over := make(chan struct{})
	var again error
	if k != nil {
		victim := th.stage.Bridges[k.domain]
		if err := victim.Stop(); err != nil {
			return false, err
		}
		if err := victim.Launch(fmt.Sprintf("%s=%s:%d", killpoint.Env, k.point, k.hit)); err != nil {
			return false, err
		}
		process := victim.Process()
		watch.Go(func() {
			select {
			case <-over:
			case <-process.Done():
				if killed = diedOfSIGKILL(process.Err()); !killed {
					again = fmt.Errorf("%s ended by itself: %v; its log ends:\n%s", k.domain, process.Err(), process.LogTail(4000))
				}
				again = errors.Join(again, victim.Start(ctx))
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
	err = errors.Join(err, again)
	v := r.audit()
	if err != nil {
		v.lost = max(v.lost, 1) // what was not even finished
		v.note("%v", err)
	}
	th.total.add(v)
	for _, n := range v.notes {
		th.t.Errorf("kill %v: %s", k, n)
	}
	return killed, err
}

// diedOfSIGKILL tells a process that a kill point ended from one that failed.
func diedOfSIGKILL(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// perform plays a list of kills, one line each, and notes them in the report. It ends early after a round that failed, since what
// follows would stand on broken ground, and when there is no time left.
func (th *theatre) perform(list []kill, rep *report) {
	for i, k := range list {
		if !rep.end.IsZero() && time.Now().After(rep.end) {
			th.t.Errorf("the time is over, not played: %v", list[i:])
			return
		}
		began := time.Now()
		killed, err := th.round(&k)
		// How often a round passes a point depends on what happens to be sent together.
		for tries := 1; err == nil && !killed && tries < maxTries; tries++ {
			k.hit = 1
			killed, err = th.round(&k)
		}
		word := "ok"
		switch {
		case err != nil:
			word = "FAILED"
		case !killed:
			word = "NOT REACHED"
			th.t.Errorf("%v is not reached in %d rounds", k, maxTries)
		}
		rep.played(k, word, killed, time.Since(began))
		if err != nil {
			th.t.Logf("logs of the bridges end:\n%s\n%s", th.stage.Bridges[hub].Process().LogTail(6000), th.stage.Bridges[follower].Process().LogTail(6000))
			return
		}
	}
}

// close stops the bridges and audits their databases.
func (th *theatre) close() {
	th.t.Helper()
	snaps := map[string]*snapshot{}
	for domain, b := range th.stage.Bridges {
		if err := b.Stop(); err != nil {
			th.t.Error(err)
		}
		snap, err := open(context.Background(), b, th.t.TempDir())
		if err != nil {
			th.t.Fatal(err)
		}
		snaps[domain] = snap
	}
	for domain, snap := range snaps {
		if domain == hub {
			continue
		}
		v := compare(snaps[hub], snap, domain, th.made, th.n)
		th.total.add(v)
		for _, n := range v.notes {
			th.t.Error(n)
		}
	}
	if v := th.total; v.lost+v.doubled+v.reused+v.forked > 0 && !th.t.Failed() {
		th.t.Errorf("%d lost, %d doubled, %d reused, %d forked: %q", v.lost, v.doubled, v.reused, v.forked, v.notes)
	}
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
	if only != "" && !slices.Contains(killpoint.Names, only) {
		t.Fatalf("CRASH_POINT: there is no kill point %q", only)
	}
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
		t.Errorf("the conversation never passes %q, so nothing can be killed there", never)
	}
	if os.Getenv("CRASH") != "all" && only == "" {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	}
	return all
}

// built is the bridge with kill points, which all tests share.
var built harness.SharedBridge

func TestMain(m *testing.M) {
	code := m.Run()
	_ = built.Remove()
	os.Exit(code)
}

func buildBridge(t *testing.T) string {
	t.Helper()
	bin, err := built.Build(t.Context(), "killpoint")
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// perform plays kills in some theatres at the same time, and fails when a point is not reached or something is amiss after it.
// All kills are played with CRASH=all, else at most few of those that were chosen.
func perform(t *testing.T, name string, few, theatres int, postgres func(context.Context, string) (string, error)) {
	rep := newReport(t)
	bin := buildBridge(t)
	first := newTheatre(t, bin, postgres)
	list := chosen(t, first.census())
	first.close()
	rep.add(first.total)
	if os.Getenv("CRASH") == "" && len(list) > few {
		list = list[:few]
	}
	t.Run("kills", func(t *testing.T) {
		for i := range min(theatres, len(list)) {
			var part []kill
			for j := i; j < len(list); j += theatres {
				part = append(part, list[j])
			}
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				th := newTheatre(t, bin, postgres)
				th.perform(part, rep)
				th.close()
				rep.add(th.total)
			})
		}
	})
	rep.print(name)
	if never := rep.missed(list); len(never) > 0 {
		t.Errorf("nothing was killed at %q", never)
	}
}

// Nothing is lost, doubled, reused or forked wherever the process is killed.
func TestKillPoints(t *testing.T) { perform(t, "sqlite", 20, 2, nil) }

// The same holds on PostgreSQL. There much is waiting: leases of a dead process may have to end by themselves, in up to 20 s.
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
	perform(t, "postgres", 2, 4, pg.Database)
}
