package activitypub

import (
	"context"
	"net"
	"strings"
	"sync"

	"golang.org/x/net/publicsuffix"
)

// Lookups bounds what is fetched at once because strangers ask: in all, and of one registered domain, so that a server which answers slowly, under however many
// names, holds up nobody else. It is safe for concurrent use.
type Lookups struct {
	all chan struct{}
	per int

	mu   sync.Mutex
	busy map[string]int // by registered domain
}

// NewLookups makes the bounds: so many at once in all, and of one registered domain.
func NewLookups(all, perDomain int) *Lookups {
	return &Lookups{all: make(chan struct{}, all), per: perDomain, busy: map[string]int{}}
}

// Begin waits for its turn to fetch an address; done ends the turn. ErrTooMany when the domain has as many as it may have, or the context ends first.
func (l *Lookups) Begin(ctx context.Context, address string) (done func(), err error) {
	domain := registered(address)
	l.mu.Lock()
	if l.busy[domain] >= l.per {
		l.mu.Unlock()
		return nil, ErrTooMany
	}
	l.busy[domain]++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.busy[domain]--; l.busy[domain] == 0 {
			delete(l.busy, domain)
		}
	}
	select {
	case l.all <- struct{}{}:
		return func() { <-l.all; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ErrTooMany
	}
}

// registered is the domain below which the owner of an address hands out names, or its host where that is none.
func registered(address string) string {
	_, host, _ := strings.Cut(originOf(address), "://")
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if d, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil && net.ParseIP(host) == nil {
		return d
	}
	return host
}
