package store_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

// wait waits until so many or more are in line for the writer and for company.
func wait(t *testing.T, db *store.DB, turn, company int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		if a, b := db.InLine(); a >= turn && b >= company {
			return
		}
		if time.Now().After(end) {
			a, b := db.InLine()
			t.Errorf("in line are %d and %d, want %d and %d", a, b, turn, company)
			return
		}
	}
}

// hold keeps the writer busy, with nothing that waited before, until its channel is closed; then the transaction ends with err.
func hold(wg *sync.WaitGroup, db *store.DB, err error) chan struct{} {
	running, held := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		_ = do(db, func(context.Context, *store.Tx) error {
			close(running)
			<-held
			return err
		})
	})
	<-running
	return held
}

func set(key string) func(context.Context, *store.Tx) error {
	return func(ctx context.Context, tx *store.Tx) error { return tx.SetSetting(ctx, "", key, "1") }
}

func settings(t *testing.T, db *store.DB) string {
	t.Helper()
	all := ok(db.Settings(ctx, ""))(t)
	out := ""
	for _, k := range []string{"a", "b", "c", "d"} {
		if all[k] != "" {
			out += k
		}
	}
	return out
}

// Transactions that wait for one another are committed together, before any of them is told so. One that fails or panics takes
// nothing of the others with it.
func TestTransactionsShareACommit(t *testing.T) {
	db := storetest.Open(t, storetest.Config(t, "sqlite"))
	boom := errors.New("boom")
	var wg sync.WaitGroup
	var told sync.Map
	run := func(name string, fn func(context.Context, *store.Tx) error) {
		wg.Go(func() {
			defer func() { _ = recover() }()
			told.Store(name, "panicked")
			told.Store(name, fmt.Sprint(do(db, fn)))
		})
	}
	run("a", func(ctx context.Context, tx *store.Tx) error {
		run("b", func(ctx context.Context, tx *store.Tx) error { return errors.Join(set("b")(ctx, tx), boom) })
		wait(t, db, 1, 0)
		run("c", func(ctx context.Context, tx *store.Tx) error {
			_ = set("c")(ctx, tx)
			panic("boom")
		})
		wait(t, db, 2, 0)
		run("d", func(ctx context.Context, tx *store.Tx) error {
			if v := ok(tx.Setting(ctx, "", "a"))(t); v != "1" {
				t.Error("the second of a shared transaction does not see the first")
			}
			if got := settings(t, db); got != "" {
				t.Errorf("%q is committed before the last has written", got)
			}
			if v, _ := told.Load("a"); v != "panicked" {
				t.Error("the first was told of its end before the commit")
			}
			return set("d")(ctx, tx)
		})
		wait(t, db, 3, 0)
		return set("a")(ctx, tx)
	})
	wg.Wait()
	if got := settings(t, db); got != "ad" {
		t.Errorf("written is %q, want ad", got)
	}
	for name, want := range map[string]string{"a": "<nil>", "b": "boom", "c": "panicked", "d": "<nil>"} {
		if got, _ := told.Load(name); got != want {
			t.Errorf("%s was told %v, want %s", name, got, want)
		}
	}
}

// notCommitted writes a ratchet of an epoch that there is not, which shows at COMMIT only.
func notCommitted(ctx context.Context, tx *store.Tx, room store.RoomID) error {
	return tx.PutPieces(ctx, room, []store.Piece{{Key: store.PieceKey{Kind: "send", A: 9}, Data: []byte("x")}}, 1)
}

// When a COMMIT fails that several share, each runs again by itself: only the one that is at fault fails.
func TestOneThatCannotBeCommittedFailsAlone(t *testing.T) {
	db := storetest.Open(t, storetest.Config(t, "sqlite"))
	room := storetest.Room(t, db)
	var wg sync.WaitGroup
	runs := 0
	must(t, db, func(ctx context.Context, tx *store.Tx) error {
		if runs++; runs == 1 {
			wg.Go(func() {
				err := do(db, func(ctx context.Context, tx *store.Tx) error {
					if err := set("b")(ctx, tx); err != nil {
						return err
					}
					return notCommitted(ctx, tx, room.ID)
				})
				if !store.IsConstraint(err) {
					t.Errorf("the one at fault: %v", err)
				}
			})
			wait(t, db, 1, 0)
		}
		return set("a")(ctx, tx)
	})
	wg.Wait()
	if got := settings(t, db); got != "a" || runs != 2 {
		t.Errorf("after %d runs written is %q, want 2 and a", runs, got)
	}
}

// What may wait a little is written with the next transaction, before it, or by itself when none comes.
func TestWhatMayWaitIsCommittedWithTheNext(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		hurry := make(chan struct{}, 1)
		later := func(fn func(tx *store.Tx) error) error { return db.TxSoon(ctx, hurry, fn) }
		if err := later(func(tx *store.Tx) error { return set("a")(ctx, tx) }); err != nil || settings(t, db) != "a" {
			t.Fatalf("alone: %q, %v", settings(t, db), err)
		}
		hurry <- struct{}{}
		if err := later(func(tx *store.Tx) error { return set("a")(ctx, tx) }); err != nil {
			t.Fatalf("in a hurry: %v", err)
		}
		if cfg.Driver == "sqlite" && len(hurry) != 0 {
			t.Error("it did not hurry")
		}
		boom := errors.New("boom")
		if err := later(func(*store.Tx) error { return boom }); !errors.Is(err, boom) {
			t.Fatalf("one that fails: %v", err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic did not come through")
				}
			}()
			_ = later(func(*store.Tx) error { panic("boom") })
		}()
		if cfg.Driver != "sqlite" {
			return
		}
		for _, fault := range []error{nil, boom} {
			var wg sync.WaitGroup
			// The writer is held, so that time alone does not commit what waits.
			held := hold(&wg, db, nil)
			var first error
			wg.Go(func() { first = later(func(tx *store.Tx) error { return errors.Join(set("b")(ctx, tx), fault) }) })
			wait(t, db, 0, 1)
			wg.Go(func() {
				must(t, db, func(ctx context.Context, tx *store.Tx) error {
					if v := ok(tx.Setting(ctx, "", "b"))(t); (v == "1") != (fault == nil) {
						t.Errorf("fault %v: the next transaction sees %q", fault, v)
					}
					return errors.Join(tx.SetSetting(ctx, "", "b", ""), set("c")(ctx, tx))
				})
			})
			wait(t, db, 1, 1)
			close(held)
			wg.Wait()
			if !errors.Is(first, fault) || settings(t, db) != "ac" {
				t.Errorf("fault %v: %v, written is %q", fault, first, settings(t, db))
			}
		}
	})
}

// One that waited for company and cannot be committed takes nothing of the transaction with it that took it along.
func TestBadCompanyFailsAlone(t *testing.T) {
	db := storetest.Open(t, storetest.Config(t, "sqlite"))
	room := storetest.Room(t, db)
	var wg sync.WaitGroup
	// The writer is held by one that fails, so that the next begins a transaction of its own.
	held := hold(&wg, db, errors.New("boom"))
	wg.Go(func() {
		err := db.TxSoon(ctx, nil, func(tx *store.Tx) error { return notCommitted(ctx, tx, room.ID) })
		if !store.IsConstraint(err) {
			t.Errorf("the one at fault: %v", err)
		}
	})
	wait(t, db, 0, 1)
	wg.Go(func() { must(t, db, set("a")) })
	wait(t, db, 1, 1)
	close(held)
	wg.Wait()
	if got := settings(t, db); got != "a" {
		t.Errorf("written is %q, want a", got)
	}
}
