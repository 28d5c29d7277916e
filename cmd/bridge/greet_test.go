package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

// Everybody who is known is greeted once, not all together; what waits for those who answer is tried at once.
func TestProvidersAreGreeted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var known []string
		for n := range 100 {
			known = append(known, fmt.Sprintf("mimi:%d.example", n))
		}
		var mu sync.Mutex
		var greeted, called []string
		var running, most atomic.Int32
		g := greeter{log: zerolog.Nop(),
			known: func(_ context.Context, prefix string, limit int) ([]string, error) {
				if prefix != "mimi:" || limit != greetMost {
					t.Errorf("asked for %d of %q", limit, prefix)
				}
				return known, nil
			},
			greet: func(_ context.Context, domain string) error {
				n := running.Add(1)
				defer running.Add(-1)
				most.Store(max(most.Load(), n))
				time.Sleep(10 * time.Second)
				mu.Lock()
				defer mu.Unlock()
				greeted = append(greeted, "mimi:"+domain)
				if domain == "7.example" {
					return errors.New("away")
				}
				return nil
			},
			called: func(dest string) {
				mu.Lock()
				defer mu.Unlock()
				called = append(called, dest)
			}}
		begin := time.Now()
		g.all(t.Context())
		slices.Sort(known)
		slices.Sort(greeted)
		slices.Sort(called)
		if !slices.Equal(greeted, known) {
			t.Errorf("greeted %q", greeted)
		}
		if want := slices.DeleteFunc(slices.Clone(known), func(d string) bool { return d == "mimi:7.example" }); !slices.Equal(called, want) {
			t.Errorf("tried at once: %q", called)
		}
		if took := time.Since(begin); most.Load() > greetAtOnce || took < 2*time.Minute || took > 3*time.Minute {
			t.Errorf("%d at once, in %v", most.Load(), took)
		}
	})
}

// The hub of a room in which ours only listen is greeted as well: after an outage it would leave us alone for up to ten minutes.
func TestHubsAreGreeted(t *testing.T) {
	db, ctx := storetest.Open(t, storetest.Config(t, "sqlite")), t.Context()
	err := db.Tx(ctx, func(tx *store.Tx) error {
		for n, r := range []store.Room{{Kind: store.RoomFollower, Hub: "silent.example"}, {Kind: store.RoomFollower, Hub: "known.example"}, {Kind: store.RoomHub}} {
			r.ID, r.Epoch, r.CreatedMS = store.DerivedRoomID("test", fmt.Sprint(n)), -1, 1
			if err := tx.CreateRoom(ctx, r); err != nil {
				return err
			}
			if r.Hub != "known.example" {
				continue
			}
			if _, err := tx.AddOutbound(ctx, []store.Outbound{{Room: r.ID, Dest: "mimi:known.example", Seq: 1, Verb: "v"}}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := acquaintances(db)(ctx, "mimi:", 10)
	if want := []string{"mimi:known.example", "mimi:silent.example"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("greeted are %q %v, want %q", got, err, want)
	}
}
