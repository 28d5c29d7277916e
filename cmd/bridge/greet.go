package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/matrix-mimi/bridge/internal/obs"
	"github.com/matrix-mimi/bridge/internal/store"
)

// greeter fetches the directories of the providers that something was ever sent
// to, and of those that lead rooms of ours, when the bridge starts. Who answers is there: what waits for it is tried at
// once. And a bridge of this kind sees who fetched its directory, and tries in
// its turn what waits for us. Otherwise both would wait for up to ten minutes.
type greeter struct {
	known  func(ctx context.Context, prefix string, limit int) ([]string, error)
	greet  func(ctx context.Context, domain string) error
	called func(dest string)
	log    zerolog.Logger
}

const (
	greetMost   = 1000                   // providers
	greetAtOnce = 8                      // requests
	greetEvery  = 200 * time.Millisecond // on average
	greetWithin = 30 * time.Second       // the last one begins, unless those before it are slow
)

func (a *app) newGreeter(p *provider, called func(dest string)) part {
	g := greeter{known: acquaintances(a.db), called: called, log: a.log.With().Str(obs.FieldComponent, "greeting").Logger(),
		greet: func(ctx context.Context, domain string) error {
			_, err := p.client.Directory(ctx, domain)
			return err
		}}
	return part{"greeting", func(ctx context.Context) error {
		g.all(ctx)
		<-ctx.Done()
		return nil
	}}
}

// acquaintances lists the destinations that something was ever sent to, and the hubs that may have something for us although they never
// got anything: nobody of ours has spoken in their rooms.
func acquaintances(db *store.DB) func(ctx context.Context, prefix string, limit int) ([]string, error) {
	return func(ctx context.Context, prefix string, limit int) ([]string, error) {
		dests, err := db.Destinations(ctx, prefix, limit)
		if err != nil {
			return nil, err
		}
		hubs, err := db.Hubs(ctx, limit)
		for _, hub := range hubs {
			dests = append(dests, prefix+hub)
		}
		slices.Sort(dests)
		dests = slices.Compact(dests)
		return dests[:min(len(dests), limit)], err
	}
}

// all greets everybody once, in any order and not all at one moment.
func (g greeter) all(ctx context.Context) {
	const prefix = routeMIMI + ":"
	dests, err := g.known(ctx, prefix, greetMost)
	if err != nil && ctx.Err() == nil {
		g.log.Warn().Err(err).Msg("nobody is greeted: who is known was not read")
	}
	within := min(time.Duration(len(dests))*greetEvery, greetWithin)
	turn := make(chan struct{}, greetAtOnce)
	var wg sync.WaitGroup
	for _, dest := range dests {
		wg.Go(func() {
			if !pauseFor(ctx, rand.N(within)) {
				return
			}
			select {
			case turn <- struct{}{}:
			case <-ctx.Done():
				return
			}
			defer func() { <-turn }()
			if err := g.greet(ctx, strings.TrimPrefix(dest, prefix)); err == nil {
				g.called(dest)
			}
		})
	}
	wg.Wait()
}
