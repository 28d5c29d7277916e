// Package outbox sends what the steps stored (docs/flow.md).
//
// Each (room, destination) is a lane. A lane is sent strictly in order, one request at a time, by
// whoever holds its lease; lanes do not wait for one another, except for their share of the requests
// that a destination is trusted with. The bytes of a row never change: what may have been sent is sent
// again exactly, also when rows were joined in one request. A row goes when its fate is known, and
// what wants to know it is written in the same transaction.
//
// The package knows no protocol: senders do (Route). It keeps nothing that a crash may not take.
package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	crand "crypto/rand"

	"github.com/rs/zerolog"

	"github.com/matrix-mimi/bridge/internal/obs"
	"github.com/matrix-mimi/bridge/internal/store"
)

// Class is what a sender made of an attempt.
type Class string

// The classes of results.
const (
	Done    Class = "done"    // the other side has it
	Retry   Class = "retry"   // it may have it or not; send the same bytes again later
	Refused Class = "refused" // it will never take it
	Taken   Class = "taken"   // it has it and will tell the outcome later (store.OutcomeTaken); asked again when it does not
)

// Result is the outcome of an attempt.
type Result struct {
	Class      Class
	Status     int           // HTTP status, 0 when no answer was read
	Body       []byte        // of the answer; kept for rows that ask for it
	EventID    string        // the Matrix event that the row became
	AcceptedMS int64         // when the hub accepted it
	RetryAfter time.Duration // the other side's wish, 0 if none
	Reason     string        // one line without secrets
}

// Sender sends rows of one lane as one request: more than one only where the route joins them. It
// must keep its own deadlines below Config.SendTimeout, and must not change the rows.
type Sender interface {
	Send(ctx context.Context, rows []store.Outbound) Result
}

// SenderFunc is a function that is a Sender.
type SenderFunc func(ctx context.Context, rows []store.Outbound) Result

// Send calls the function.
func (f SenderFunc) Send(ctx context.Context, rows []store.Outbound) Result { return f(ctx, rows) }

// Route says how a kind of destination is served. The kind is what comes before the colon in a lane's
// destination: matrix, mimi, ap.
type Route struct {
	Sender Sender
	// Join says whether a row may share a request with the rows before it for which it said so too. A
	// request has at most 50 rows and about 1 MiB. nil joins nothing.
	Join func(store.Outbound) bool
	// Repeats says whether a row may be sent again after it was done, without anything coming of it: then that it is done may be
	// written down a little later, and where nothing is joined the next such rows of the lane are sent meanwhile. nil says so of none.
	Repeats func(store.Outbound) bool
	// First and Most bound the requests in flight to one destination: it starts with First, grows to
	// Most as requests succeed, and falls back to First when one fails. 0 means 2 and 20.
	First, Most int
	// Timeout bounds one request; 0 means Config.SendTimeout.
	Timeout time.Duration
	// Waits, when set, are the pauses between the tries of a row, in place of the lane's back-off. When the try after the
	// last of them fails, the row is refused.
	Waits []time.Duration
}

// Config says what an outbox works with.
type Config struct {
	Store  *store.DB
	Routes map[string]Route
	// Owner names this process in leases. "" means a random name. Two running outboxes must differ.
	Owner string
	// MaxInFlight bounds the lanes that are worked on at once. 0 means 64.
	MaxInFlight int
	// SendTimeout bounds one request. 0 means 30 s.
	SendTimeout time.Duration
	// Grace is how long requests under way may last after the stop. 0 means 10 s.
	Grace time.Duration
	// First is how long a lane waits after its first failure, Most the longest that doubling makes of it. 0 means 5 s and
	// 10 min.
	First, Most time.Duration
	// GiveUp is the age at which a row that cannot be delivered is given up. 0 means 5 days.
	GiveUp time.Duration
	// Wake, if set, is told which rooms got an input with an answer.
	Wake func(rooms []store.RoomID)
	// Clock and Rand (0 ≤ x < 1) are the system's when nil.
	Clock   Clock
	Rand    func() float64
	Metrics *obs.Registry
	Log     zerolog.Logger
}

const (
	maxRows     = 50
	maxBytes    = 1 << 20
	turnRows    = 200 // a lane gives its place away after so many rows
	pollLeast   = 250 * time.Millisecond
	pollSpread  = 750 * time.Millisecond
	sweepEvery  = time.Minute
	askAgain    = 2 * time.Minute // how long an outcome that is to be told is waited for
	maxWaiting  = 10_000          // lanes that wait in memory; the rest waits in the database
	pollLanes   = 256
	failPart    = 500 // lanes that one transaction says of that they fail
	maxPanics   = 3
	handedLife  = time.Second // how long rows are known that were not read
	maxHanded   = 1000        // lanes of which they are
	lifeMS      = int64(store.LeaseLife / time.Millisecond)
	maxCallsMap = 10_000
)

// Outbox sends. Make it with New, then Run it.
type Outbox struct {
	cfg     Config
	clock   Clock
	metrics *metrics
	signal  chan struct{}
	sched   *scheduler

	mu      sync.Mutex
	resting map[store.Lane]holding // leases kept though there is nothing to send
	handed  map[store.Lane]handed
	calls   map[string]time.Time // when a destination's lanes were last woken
	called  map[string]bool      // destinations to wake
}

// handed are rows that were added to a lane at rest (store.Woken).
type handed struct {
	rows  []store.Outbound
	given time.Time
}

// New makes an outbox. It does nothing before Run.
func New(cfg Config) (*Outbox, error) {
	if cfg.Store == nil || len(cfg.Routes) == 0 {
		return nil, errors.New("making an outbox: store and routes are needed")
	}
	if cfg.Owner == "" {
		cfg.Owner = "outbox-" + crand.Text()[:12]
	}
	if cfg.MaxInFlight <= 0 {
		cfg.MaxInFlight = 64
	}
	if cfg.SendTimeout <= 0 {
		cfg.SendTimeout = 30 * time.Second
	}
	if cfg.Grace <= 0 {
		cfg.Grace = 10 * time.Second
	}
	if cfg.First <= 0 {
		cfg.First = backoffFirst
	}
	if cfg.Most <= 0 {
		cfg.Most = backoffMost
	}
	if cfg.GiveUp <= 0 {
		cfg.GiveUp = 5 * 24 * time.Hour
	}
	if cfg.Clock == nil {
		cfg.Clock = SystemClock{}
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	for kind, r := range cfg.Routes {
		if r.Sender == nil {
			return nil, fmt.Errorf("making an outbox: route %s has no sender", kind)
		}
	}
	o := &Outbox{cfg: cfg, clock: cfg.Clock, signal: make(chan struct{}, 1), resting: map[store.Lane]holding{},
		handed: map[store.Lane]handed{}, calls: map[string]time.Time{}, called: map[string]bool{}}
	o.sched = newScheduler(cfg.MaxInFlight, func(dest string) (first, most int) {
		r := cfg.Routes[kindOf(dest)]
		return max(r.First, 0), max(r.Most, 0)
	})
	o.metrics = newMetrics(cfg.Metrics, o)
	return o, nil
}

// kindOf is what precedes the colon of a destination.
func kindOf(dest string) string {
	kind, _, _ := strings.Cut(dest, ":")
	return kind
}

// Owner returns the name under which the outbox holds leases.
func (o *Outbox) Owner() string { return o.cfg.Owner }

// WakeLanes says that lanes may have something to send. Call it after the commit that stored it. It
// never blocks; a lost hint costs one poll.
func (o *Outbox) WakeLanes(lanes ...store.Woken) {
	for _, l := range lanes {
		if len(l.Head) > 0 {
			o.handOver(l)
		}
		o.sched.add(l.Lane, true)
	}
	o.nudge()
}

// handOver keeps the rows of a lane that rested, so that they need not be read.
func (o *Outbox) handOver(l store.Woken) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.handed) < maxHanded {
		o.handed[l.Lane] = handed{l.Head, o.clock.Now()}
	}
}

// handedOver returns, once, the rows that were added to a lane since it rested after the row sent; nil when they must be read.
func (o *Outbox) handedOver(l store.Lane, sent int64) []store.Outbound {
	o.mu.Lock()
	defer o.mu.Unlock()
	h := o.handed[l]
	delete(o.handed, l)
	// Of a hint that came late the rows were read and sent already. What was added long ago may have been dropped since.
	if len(h.rows) == 0 || h.rows[0].Seq <= sent || o.clock.Now().Sub(h.given) > handedLife {
		return nil
	}
	return h.rows
}

// Called says that a destination spoke to us, or is back after it was away, so that what waits for it is tried now. It never blocks.
func (o *Outbox) Called(dest string) {
	now := o.clock.Now()
	least := time.Minute
	if o.sched.failing(dest) {
		least = 5 * time.Second
	}
	o.mu.Lock()
	last, known := o.calls[dest]
	due := !known || now.Sub(last) >= least
	if due && (known || len(o.calls) < maxCallsMap) {
		o.calls[dest], o.called[dest] = now, true
	}
	o.mu.Unlock()
	if due {
		o.sched.forgive(dest)
		o.nudge()
	}
}

func (o *Outbox) nudge() {
	select {
	case o.signal <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends. Then it begins nothing new, lets requests under way come to an end within
// the grace, gives its leases back and returns. Everything it started has ended then.
func (o *Outbox) Run(ctx context.Context) error {
	sending, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var wg sync.WaitGroup
	wg.Go(func() { o.keepLeases(ctx, sending) })
	swept := o.clock.Now()
	for ctx.Err() == nil {
		o.wakeCalled(ctx)
		for {
			lane, fine := o.sched.next(o.clock.Now())
			if !fine {
				break
			}
			wg.Go(func() { o.serve(ctx, sending, lane) })
		}
		after, stop := o.clock.After(pollLeast + time.Duration(o.cfg.Rand()*float64(pollSpread)))
		select {
		case <-ctx.Done():
		case <-o.signal:
		case <-after:
			o.poll(ctx)
			if now := o.clock.Now(); now.Sub(swept) >= sweepEvery {
				swept = now
				o.sweep(ctx)
			}
		}
		stop()
	}
	timer := time.AfterFunc(o.cfg.Grace, cut) // the system's clock: it bounds the stop of a real process
	wg.Wait()
	timer.Stop()
	return o.giveBack(context.WithoutCancel(ctx))
}

func (o *Outbox) giveBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := o.cfg.Store.Tx(ctx, func(tx *store.Tx) error { return tx.DropLanes(ctx, o.cfg.Owner) })
	if err != nil {
		return fmt.Errorf("giving the lanes back: %w", err)
	}
	return nil
}

// poll finds due lanes in the database: after a start, of other processes, and when hints were lost.
func (o *Outbox) poll(ctx context.Context) {
	now := o.clock.Now()
	o.mu.Lock()
	for l, h := range o.resting {
		if now.Sub(h.asked) > store.LeaseTrust {
			delete(o.resting, l)
		}
	}
	maps.DeleteFunc(o.handed, func(_ store.Lane, h handed) bool { return now.Sub(h.given) > handedLife })
	o.mu.Unlock()
	lanes, err := o.cfg.Store.DueLanes(ctx, o.cfg.Owner, pollLanes, o.sched.closed(now)...)
	if err != nil {
		if ctx.Err() == nil {
			o.cfg.Log.Warn().Err(err).Msg("looking for lanes that are due")
		}
		return
	}
	for _, l := range lanes {
		o.sched.add(l, false)
	}
}

func (o *Outbox) wakeCalled(ctx context.Context) {
	o.mu.Lock()
	dests := o.called
	if len(dests) > 0 {
		o.called = map[string]bool{}
	}
	o.mu.Unlock()
	for dest := range dests {
		var n int64
		err := o.cfg.Store.Tx(ctx, func(tx *store.Tx) (err error) {
			n, err = tx.WakeLanes(ctx, dest)
			return err
		})
		if err != nil && ctx.Err() == nil {
			o.cfg.Log.Warn().Err(err).Str("lane", dest).Msg("waking the lanes of a peer that called")
		}
		if n > 0 {
			o.poll(ctx)
		}
	}
}

// keepLeases renews the leases of lanes whose request takes long.
func (o *Outbox) keepLeases(ctx, sending context.Context) {
	for {
		after, stop := o.clock.After(store.LeaseRenew)
		select {
		case <-after:
		case <-ctx.Done():
			stop()
			return
		}
		for _, r := range o.sched.running() {
			o.keep(sending, r)
		}
	}
}

func (o *Outbox) keep(ctx context.Context, r *run) {
	h, now := r.holding(), o.clock.Now()
	if h.lease.Token == 0 || now.Sub(h.asked) < store.LeaseRenew {
		return
	}
	err := o.cfg.Store.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.RenewLane(ctx, h.lease, lifeMS)
		return err
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil && r.held.lease.Token == h.lease.Token:
		r.held.asked = now
	case errors.Is(err, store.ErrLeaseLost) && r.held.lease.Token == h.lease.Token && r.cancel != nil:
		r.cancel()
	}
}
