package peer

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrOpen: a peer failed so often that it is left alone for a while.
var ErrOpen = errors.New("peer is left alone after failures")

// Bounds of a Breaker.
const (
	breakerFailures = 5                // failures in a row that open it
	breakerFirst    = 5 * time.Second  // how long it stays open at first
	breakerLongest  = 10 * time.Minute // and at most; doubled each time a probe fails
	maxBreakerPeers = 4096
)

// Breaker spares a peer that cannot be reached, and ourselves: after failures in a row it refuses requests, then lets one
// probe through at a time. Each lane of the outbox has its own back-off beside it; this one is for all of them together.
type Breaker struct {
	now func() time.Time

	mu    sync.Mutex
	peers map[string]*breakerPeer
}

type breakerPeer struct {
	failures int
	wait     time.Duration
	until    time.Time // no requests before; zero when closed
	probing  bool      // the one request that was let through has not been heard of
}

// NewBreaker returns a Breaker that takes every peer to be well.
func NewBreaker(now func() time.Time) *Breaker {
	return &Breaker{now: now, peers: map[string]*breakerPeer{}}
}

// Allow returns nil when a request may be tried, or an error that wraps ErrOpen and a *Busy.
func (b *Breaker) Allow(domain string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.peers[domain]
	if p == nil || p.until.IsZero() {
		return nil
	}
	now := b.now()
	if now.Before(p.until) {
		return fmt.Errorf("%w: %w", ErrOpen, &Busy{p.until.Sub(now)})
	}
	p.until, p.probing = now.Add(p.wait), true // one that is never heard of gives way to the next
	return nil
}

// Success records that the peer answered, whatever it said.
func (b *Breaker) Success(domain string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.peers, domain)
}

// Failure records that the peer could not be reached or failed in itself.
func (b *Breaker) Failure(domain string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.peers[domain]
	if p == nil {
		if len(b.peers) >= maxBreakerPeers {
			clear(b.peers)
		}
		p = &breakerPeer{}
		b.peers[domain] = p
	}
	if p.failures++; p.failures < breakerFailures {
		return
	}
	if !p.until.IsZero() && !p.probing {
		return // under way since before it opened
	}
	p.probing = false
	p.wait = min(max(2*p.wait, breakerFirst), breakerLongest)
	p.until = b.now().Add(p.wait)
}

// Open returns the domains that are left alone now, for a gauge and for /readyz.
func (b *Breaker) Open() (domains []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for d, p := range b.peers {
		if !p.until.IsZero() {
			domains = append(domains, d)
		}
	}
	return domains
}
