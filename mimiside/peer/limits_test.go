package peer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Unix(1_800_000_000, 0)} }

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }

func (c *clock) pass(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.t = c.t.Add(d) }

func TestAPeerHasItsShareAndNoMore(t *testing.T) {
	c := newClock()
	book := NewBook(Rules{Default: Rule{Limits: Limits{PerSecond: 1, Burst: 3, Concurrent: 2, Connections: 1}}})
	g := NewGate(book, c.now)
	enter := func(domain string) (func(), error) { t.Helper(); return g.Enter(domain) }
	leave1, err1 := enter("a.example")
	leave2, err2 := enter("a.example")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if _, err := enter("a.example"); !errors.Is(err, ErrBusy) {
		t.Errorf("a third request at once: %v", err)
	}
	if leave, err := enter("b.example"); err != nil {
		t.Errorf("another peer is kept out: %v", err)
	} else {
		leave()
	}
	leave1()
	leave1() // twice is as good as once
	leave3, err := enter("a.example")
	if err != nil {
		t.Fatal(err)
	}
	leave3()
	leave2()
	var busy *Busy
	if _, err := enter("a.example"); !errors.As(err, &busy) || busy.RetryAfter < time.Second {
		t.Errorf("the burst is used up: %v", err)
	}
	c.pass(time.Second)
	if leave, err := enter("a.example"); err != nil {
		t.Errorf("a second later: %v", err)
	} else {
		leave()
	}
	book.Replace(Rules{Default: Rule{Limits: Limits{PerSecond: 1000, Burst: 1000}}})
	for range 60 {
		if leave, err := enter("a.example"); err != nil {
			t.Fatalf("new limits are not in force: %v", err)
		} else {
			leave()
		}
	}
	release, err := g.Connect("c.example")
	if err != nil {
		t.Fatal(err)
	}
	for range DefaultLimits.Connections - 1 {
		if _, err := g.Connect("c.example"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.Connect("c.example"); !errors.Is(err, ErrBusy) {
		t.Errorf("connection over the limit: %v", err)
	}
	release()
	if _, err := g.Connect("c.example"); err != nil {
		t.Errorf("after one was closed: %v", err)
	}
	if r, n := g.Running(); r != 0 || n != DefaultLimits.Connections {
		t.Errorf("%d requests, %d connections", r, n)
	}
}

// Memory of peers is bounded; peers that come in numbers push out those about whom there is nothing to remember.
func TestGateBound(t *testing.T) {
	c := newClock()
	g := NewGate(NewBook(Rules{}), c.now)
	for i := range maxGatePeers + 10 {
		leave, err := g.Enter(fmt.Sprint("p", i))
		if err != nil {
			if !errors.Is(err, ErrBusy) {
				t.Fatal(err)
			}
			c.pass(time.Minute)
			continue
		}
		leave()
	}
	if len(g.peers) > maxGatePeers {
		t.Errorf("%d peers", len(g.peers))
	}
}

// S004-021: exhaustion of KeyPackages is prevented.
func TestQuota(t *testing.T) {
	c := newClock()
	q := NewQuota(10, time.Hour, 2, c.now)
	for range 10 {
		if err := q.Take("a"); err != nil {
			t.Fatal(err)
		}
	}
	var busy *Busy
	if err := q.Take("a"); !errors.As(err, &busy) || busy.RetryAfter > 6*time.Minute {
		t.Errorf("the eleventh: %v", err)
	}
	if err := q.Take("b"); err != nil {
		t.Errorf("another key: %v", err)
	}
	if err := q.Take("c"); !errors.Is(err, ErrBusy) {
		t.Errorf("a key more than is remembered: %v", err)
	}
	c.pass(6 * time.Minute)
	if err := q.Take("c"); err != nil {
		t.Errorf("a key takes the place of one that is full again: %v", err)
	}
	if err := q.Take("a"); err != nil {
		t.Errorf("six minutes later: %v", err)
	}
	if err := q.Take("a"); !errors.Is(err, ErrBusy) {
		t.Errorf("and no more: %v", err)
	}
}

func TestBreaker(t *testing.T) {
	c := newClock()
	b := NewBreaker(c.now)
	for range breakerFailures {
		if err := b.Allow("a"); err != nil {
			t.Fatal(err)
		}
		b.Failure("a")
	}
	b.Failure("a") // of a request that was under way: does not count again
	var busy *Busy
	if err := b.Allow("a"); !errors.Is(err, ErrOpen) || !errors.As(err, &busy) || busy.RetryAfter != breakerFirst {
		t.Fatalf("open: %v", err)
	}
	if err := b.Allow("b"); err != nil {
		t.Errorf("another peer: %v", err)
	}
	for wait := breakerFirst; wait < breakerLongest; wait *= 2 {
		c.pass(wait)
		if err := b.Allow("a"); err != nil {
			t.Fatalf("the probe after %v: %v", wait, err)
		}
		if err := b.Allow("a"); !errors.Is(err, ErrOpen) {
			t.Fatalf("a second probe beside it: %v", err)
		}
		b.Failure("a")
	}
	c.pass(breakerLongest)
	if err := b.Allow("a"); err != nil {
		t.Fatal(err)
	}
	if open := b.Open(); len(open) != 1 || open[0] != "a" {
		t.Errorf("open: %v", open)
	}
	b.Success("a")
	if err := b.Allow("a"); err != nil || len(b.Open()) != 0 {
		t.Errorf("after a success: %v", err)
	}
}

func TestCacheTime(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": time.Hour, "public": time.Hour, "max-age=600": 10 * time.Minute, "public, Max-Age=600": 10 * time.Minute, "max-age=1": time.Minute,
		"max-age=99999999": 24 * time.Hour, "no-store": time.Minute, "no-cache, max-age=600": time.Minute, "max-age=-1": time.Minute, "max-age=x": time.Minute,
	} {
		if got := CacheTime(http.Header{"Cache-Control": {header}}); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

func TestDirectoriesAreRememberedAndFetchedAnew(t *testing.T) {
	c := newClock()
	var fetched int
	var fail error
	d := NewDirectories(func(_ context.Context, domain string) (*wire.Directory, time.Duration, error) {
		fetched++
		if fail != nil {
			return nil, 0, fail
		}
		dir, err := wire.NewDirectory("https://"+domain+"/v"+fmt.Sprint(fetched), nil)
		return dir, 10 * time.Minute, err
	}, c.now)
	get := func(name string, wantFetched int, wantErr error) *wire.Directory {
		t.Helper()
		dir, err := d.Get(t.Context(), "A.example")
		if fetched != wantFetched || !errors.Is(err, wantErr) {
			t.Errorf("%s: fetched %d times, %v", name, fetched, err)
		}
		return dir
	}
	first := get("first", 1, nil)
	if get("from memory", 1, nil) != first {
		t.Error("another directory from memory")
	}
	if d.Expire("a.example") {
		t.Error("a directory of this second was dropped")
	}
	c.pass(2 * time.Minute)
	if !d.Expire("a.example") || d.Expire("b.example") {
		t.Error("Expire")
	}
	second := get("after a 404", 2, nil)
	if second == first {
		t.Error("the old directory is in use")
	}
	fail = errors.New("away")
	c.pass(10 * time.Minute)
	if get("stale", 3, nil) != second || get("stale, not asked again", 3, nil) != second {
		t.Error("the last directory does not serve on")
	}
	c.pass(directoryStale)
	get("too stale", 4, fail)
	get("and not asked again at once", 4, fail)
	d.Forget("a.example")
	fail = nil
	get("asked again by hand", 5, nil)
}

// Many callers share one fetch, and one that gives up does not spoil it for the others.
func TestDirectoriesShared(t *testing.T) {
	c := newClock()
	started, release := make(chan struct{}, 10), make(chan struct{})
	var fetched int
	d := NewDirectories(func(ctx context.Context, domain string) (*wire.Directory, time.Duration, error) {
		fetched++
		started <- struct{}{}
		select {
		case <-release:
			dir, err := wire.NewDirectory("https://"+domain, nil)
			return dir, time.Hour, err
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}, c.now)
	impatient, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() { _, err := d.Get(impatient, "a.example"); gone <- err }()
	<-started
	var wg sync.WaitGroup
	errs := make([]error, 5)
	for i := range errs {
		wg.Go(func() { _, errs[i] = d.Get(t.Context(), "a.example") })
	}
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the one who gave up: %v", err)
	}
	<-started
	close(release)
	wg.Wait()
	if err := errors.Join(errs...); err != nil || fetched != 2 {
		t.Errorf("fetched %d times, %v", fetched, err)
	}
}

// Directories are searched as far as they are in memory.
func TestDirectoriesAreFound(t *testing.T) {
	fetched := 0
	d := NewDirectories(func(_ context.Context, domain string) (*wire.Directory, time.Duration, error) {
		fetched++
		dir, err := wire.NewDirectory("https://"+domain+"/mimi/v1", &wire.BridgeDirectory{Version: 1, AssetDomains: []string{"files." + domain}})
		return dir, time.Hour, err
	}, time.Now)
	at := func(host string) []string {
		return d.Find(func(d *wire.Directory) bool { return slices.Contains(d.Bridge.AssetDomains, host) })
	}
	for _, domain := range []string{"a.example", "b.example"} {
		if _, err := d.Get(t.Context(), domain); err != nil {
			t.Fatal(err)
		}
	}
	if got := at("files.b.example"); !slices.Equal(got, []string{"b.example"}) {
		t.Errorf("found %q", got)
	}
	if got := at("files.c.example"); len(got) != 0 || fetched != 2 {
		t.Errorf("found %q, fetched %d", got, fetched)
	}
}
