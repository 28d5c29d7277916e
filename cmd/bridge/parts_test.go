package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

func TestPartsStopInOrderOfTheirGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		slow := func(name string, d time.Duration) part {
			return part{name, func(ctx context.Context) error {
				<-ctx.Done()
				<-time.After(d) // in the bubble's time
				mu.Lock()
				defer mu.Unlock()
				order = append(order, name)
				return ctx.Err()
			}}
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Hour, cancel)
		err := runParts(ctx, zerolog.Nop(), []part{slow("listener", 5*time.Second), slow("sync", time.Second)}, []part{slow("rooms", 0)})
		if err != nil || !slices.Equal(order, []string{"sync", "listener", "rooms"}) {
			t.Errorf("%v, %v", order, err)
		}
	})
}

func TestAPartThatFailsStopsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopped := false
		err := runParts(t.Context(), zerolog.Nop(),
			[]part{{"listener", func(context.Context) error { return errors.New("address in use") }}},
			[]part{{"rooms", func(ctx context.Context) error { <-ctx.Done(); stopped = true; return nil }}})
		if err == nil || err.Error() != "listener: address in use" || !stopped {
			t.Errorf("%v, stopped %v", err, stopped)
		}
	})
}

func TestAPartThatDoesNotStopIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		release := make(chan struct{})
		began := time.Now()
		err := runParts(ctx, zerolog.Nop(), []part{{"stuck", func(context.Context) error { <-release; return nil }}})
		if err == nil || !strings.Contains(err.Error(), "stuck did not end") || time.Since(began) != stopLimit {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		close(release)
	})
}

func TestAPartThatEndsByItselfIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := runParts(t.Context(), zerolog.Nop(), []part{{"rooms", func(context.Context) error { return nil }}})
		if err == nil || err.Error() != "rooms ended by itself" {
			t.Error(err)
		}
	})
}
