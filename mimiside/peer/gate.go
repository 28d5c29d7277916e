package peer

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// ErrBusy: a peer asks for more than its limits allow. Test with errors.Is; the *Busy around it says for how long.
var ErrBusy = errors.New("limit of the peer reached")

// Busy is an ErrBusy with the time after which it is worth while to try again.
type Busy struct{ RetryAfter time.Duration }

// Error returns the reason.
func (b *Busy) Error() string { return ErrBusy.Error() }

// Unwrap returns ErrBusy.
func (b *Busy) Unwrap() error { return ErrBusy }

// maxGatePeers bounds how many peers a Gate remembers. Peers that are neither connected nor short of tokens are forgotten first.
const maxGatePeers = 4096

// Gate holds every peer to its Limits.
type Gate struct {
	book *Book
	now  func() time.Time

	mu    sync.Mutex
	peers map[string]*gatePeer
}

type gatePeer struct {
	limits      Limits
	bucket      *rate.Limiter
	running     int
	connections int
}

// NewGate returns a Gate with the limits of the book.
func NewGate(book *Book, now func() time.Time) *Gate {
	return &Gate{book: book, now: now, peers: map[string]*gatePeer{}}
}

// Enter admits one request of a peer, or returns a *Busy. leave must be called when the request is done.
func (g *Gate) Enter(domain string) (leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p, err := g.peer(domain)
	if err != nil {
		return nil, err
	}
	if p.running >= p.limits.Concurrent {
		return nil, &Busy{time.Second}
	}
	now := g.now()
	r := p.bucket.ReserveN(now, 1)
	if delay := r.DelayFrom(now); !r.OK() || delay > 0 {
		r.CancelAt(now)
		return nil, &Busy{max(delay, time.Second)}
	}
	p.running++
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		p.running--
	}), nil
}

// Connect counts one connection of a peer, or returns a *Busy. release must be called when the connection is closed.
func (g *Gate) Connect(domain string) (release func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p, err := g.peer(domain)
	if err != nil {
		return nil, err
	}
	if p.connections >= p.limits.Connections {
		return nil, &Busy{time.Minute}
	}
	p.connections++
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		p.connections--
	}), nil
}

// Running returns how many requests and connections of all peers are counted now, for a gauge.
func (g *Gate) Running() (requests, connections int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.peers {
		requests += p.running
		connections += p.connections
	}
	return requests, connections
}

func (g *Gate) peer(domain string) (*gatePeer, error) {
	limits := g.book.Of(domain).Limits
	p := g.peers[domain]
	if p == nil {
		if len(g.peers) >= maxGatePeers {
			g.forget()
		}
		if len(g.peers) >= maxGatePeers {
			return nil, &Busy{time.Minute}
		}
		p = &gatePeer{}
		g.peers[domain] = p
	}
	if p.limits != limits {
		p.bucket = rate.NewLimiter(rate.Limit(limits.PerSecond), limits.Burst)
	}
	p.limits = limits
	return p, nil
}

// forget drops peers about whom there is nothing to remember.
func (g *Gate) forget() {
	now := g.now()
	for domain, p := range g.peers {
		if p.running == 0 && p.connections == 0 && p.bucket.TokensAt(now) >= float64(p.limits.Burst) {
			delete(g.peers, domain)
		}
	}
}

// Quota allows each key a number of events in a time, such as 10 claims an hour of one user by one peer.
type Quota struct {
	count int
	per   time.Duration
	max   int
	now   func() time.Time

	mu   sync.Mutex
	keys map[string]*rate.Limiter
}

// NewQuota returns a Quota of count events in the time per for each key, refilled evenly. It remembers at most max keys; when
// all of them are short of tokens, new keys are refused.
func NewQuota(count int, per time.Duration, max int, now func() time.Time) *Quota {
	return &Quota{count: count, per: per, max: max, now: now, keys: map[string]*rate.Limiter{}}
}

// Take uses up one event of a key, or returns a *Busy.
func (q *Quota) Take(key string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	l := q.keys[key]
	if l == nil {
		if len(q.keys) >= q.max {
			for k, l := range q.keys {
				if l.TokensAt(now) >= float64(q.count) {
					delete(q.keys, k)
				}
			}
		}
		if len(q.keys) >= q.max {
			return &Busy{time.Minute}
		}
		l = rate.NewLimiter(rate.Every(q.per/time.Duration(q.count)), q.count)
		q.keys[key] = l
	}
	r := l.ReserveN(now, 1)
	if delay := r.DelayFrom(now); !r.OK() || delay > 0 {
		r.CancelAt(now)
		return &Busy{max(delay, time.Second)}
	}
	return nil
}
