package outbox

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

var ctx = context.Background()

// fakeClock stands until it is moved.
type fakeClock struct {
	mu     sync.Mutex
	now    time.Time
	timers map[chan time.Time]time.Time
}

func newClock() *fakeClock {
	return &fakeClock{now: time.UnixMilli(1_700_000_000_000), timers: map[chan time.Time]time.Time{}}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) After(d time.Duration) (<-chan time.Time, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan time.Time, 1)
	c.timers[ch] = c.now.Add(d)
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.timers, ch)
	}
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for ch, at := range c.timers {
		if !at.After(c.now) {
			ch <- c.now
			delete(c.timers, ch)
		}
	}
}

// world is a database with one fake destination behind it.
type world struct {
	t     testing.TB
	cfg   store.Config
	db    *store.DB
	clock *fakeClock

	mu    sync.Mutex
	calls []string // "dest: data+data"
	reply func(rows []store.Outbound) Result
}

func newWorld(t testing.TB, cfg store.Config) *world {
	w := &world{t: t, clock: newClock()}
	cfg.Clock = w.clock.Now
	w.cfg = cfg
	w.db = storetest.Open(t, cfg)
	w.reply = func([]store.Outbound) Result { return Result{Class: Done, Status: 200} }
	return w
}

// Send plays the destination.
func (w *world) Send(_ context.Context, rows []store.Outbound) Result {
	parts := make([]string, len(rows))
	for i, r := range rows {
		parts[i] = string(r.Data)
	}
	w.mu.Lock()
	w.calls = append(w.calls, rows[0].Dest+": "+strings.Join(parts, "+"))
	reply := w.reply
	w.mu.Unlock()
	return reply(rows)
}

func (w *world) answer(fn func(rows []store.Outbound) Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reply = fn
}

// took returns what arrived since the last call.
func (w *world) took() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := strings.Join(w.calls, "; ")
	w.calls = nil
	return s
}

func (w *world) outbox(change ...func(*Config)) *Outbox {
	w.t.Helper()
	cfg := Config{Store: w.db, Clock: w.clock, Rand: func() float64 { return 0.5 }, Routes: map[string]Route{
		"matrix": {Sender: w, First: 4, Most: 8},
		"mimi":   {Sender: w, Join: func(r store.Outbound) bool { return r.Verb == "notify" }},
	}}
	for _, c := range change {
		c(&cfg)
	}
	o, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

// turn does what Run does once, without goroutines: look, and work on everything that may be worked on.
func (o *Outbox) turn(ctx context.Context) {
	o.wakeCalled(ctx)
	o.poll(ctx)
	for {
		r, fine := o.sched.next(o.clock.Now())
		if !fine {
			return
		}
		o.serve(ctx, ctx, r)
	}
}

func (w *world) room() store.Room { return storetest.Room(w.t, w.db) }

// put stores rows as a step does, with rising seqs; data is split at spaces.
func (w *world) put(room *store.Room, dest, verb, data string, change ...func(*store.Outbound)) []store.Woken {
	w.t.Helper()
	var rows []store.Outbound
	for _, d := range strings.Fields(data) {
		o := store.Outbound{Room: room.ID, Dest: dest, Seq: room.NextSeq, Verb: verb, Data: []byte(d), CreatedMS: store.Millis(w.clock.Now())}
		for _, c := range change {
			c(&o)
		}
		rows = append(rows, o)
		room.NextSeq++
	}
	var lanes []store.Woken
	w.tx(func(tx *store.Tx) (err error) {
		if *room, err = tx.StepRoom(ctx, *room, store.Settle{}); err != nil {
			return err
		}
		lanes, err = tx.AddOutbound(ctx, rows)
		return err
	})
	return lanes
}

func (w *world) tx(fn func(tx *store.Tx) error) {
	w.t.Helper()
	if err := w.db.Tx(ctx, fn); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) want(got, want string) {
	w.t.Helper()
	if got != want {
		w.t.Fatalf("the other side got %q, want %q", got, want)
	}
}

func (w *world) left() int {
	w.t.Helper()
	var n int
	if err := w.db.Side().QueryRow(`SELECT COUNT(*) FROM outbound`).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func newID(t testing.TB) store.RoomID {
	id, err := store.NewRoomID(time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func each(t *testing.T, fn func(t *testing.T, w *world)) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) { fn(t, newWorld(t, cfg)) })
}

func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d ", i)
	}
	return b.String()
}
