package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

func TestAFailedTransactionLeavesNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		boom := errors.New("boom")
		write := func(ctx context.Context, tx *store.Tx) error { return tx.SetSetting(ctx, "", "k", "v") }
		if err := do(db, func(ctx context.Context, tx *store.Tx) error { return errors.Join(write(ctx, tx), boom) }); !errors.Is(err, boom) {
			t.Fatal(err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic did not come through")
				}
			}()
			_ = do(db, func(ctx context.Context, tx *store.Tx) error {
				_ = write(ctx, tx)
				panic("boom")
			})
		}()
		// A failed statement that is passed over does not let the rest stand.
		err := do(db, func(ctx context.Context, tx *store.Tx) error {
			_ = tx.AddLinks(ctx, store.Link{Direction: "sideways"})
			_ = write(ctx, tx)
			return nil
		})
		if err == nil {
			t.Error("a transaction with a failed statement was committed")
		}
		stopped, cancel := context.WithCancel(ctx)
		if err := db.Tx(stopped, func(tx *store.Tx) error {
			err := write(stopped, tx)
			cancel()
			return err
		}); !errors.Is(err, context.Canceled) {
			t.Errorf("after the context ended: %v", err)
		}
		if got := ok(db.Setting(ctx, "", "k"))(t); got != "" {
			t.Fatalf("something was written: %q", got)
		}
		must(t, db, write)
		if got := ok(db.Setting(ctx, "", "k"))(t); got != "v" {
			t.Fatalf("afterwards nothing can be written: %q", got)
		}
	})
}

// Two that lock in opposite orders: one is told to try again and does, both succeed.
func TestDeadlocksAreTriedAgain(t *testing.T) {
	cfg := storetest.Config(t, "postgres")
	var retries atomic.Int64
	cfg.OnRetry = func(string) { retries.Add(1) }
	db := storetest.Open(t, cfg)
	must(t, db, func(ctx context.Context, tx *store.Tx) error {
		return errors.Join(tx.SetSetting(ctx, "", "a", "0"), tx.SetSetting(ctx, "", "b", "0"))
	})
	var wg, both sync.WaitGroup
	both.Add(2)
	for i, order := range [][2]string{{"a", "b"}, {"b", "a"}} {
		wg.Go(func() {
			var once sync.Once
			err := do(db, func(ctx context.Context, tx *store.Tx) error {
				if err := tx.SetSetting(ctx, "", order[0], fmt.Sprint(i)); err != nil {
					return err
				}
				once.Do(func() { both.Done(); both.Wait() })
				return tx.SetSetting(ctx, "", order[1], fmt.Sprint(i))
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if retries.Load() == 0 {
		t.Error("nothing was tried again")
	}
}

// cutter is a proxy that can swallow what the server says after the client sent COMMIT.
type cutter struct {
	net.Listener
	cut atomic.Bool
}

func startCutter(t *testing.T, server string) *cutter {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{Listener: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", server)
			if err != nil {
				in.Close()
				continue
			}
			var committing atomic.Bool
			go func() {
				defer out.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := in.Read(buf)
					if c.cut.Load() && strings.Contains(string(buf[:n]), "COMMIT\x00") {
						committing.Store(true)
					}
					if _, werr := out.Write(buf[:n]); err != nil || werr != nil {
						return
					}
				}
			}()
			go func() {
				defer in.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := out.Read(buf)
					if err != nil || committing.Load() { // the server did it, nobody hears of it
						return
					}
					if _, err := io.Copy(in, strings.NewReader(string(buf[:n]))); err != nil {
						return
					}
				}
			}()
		}
	}()
	return c
}

// The connection to PostgreSQL is cut at COMMIT: the step is found again, not repeated blindly.
func TestALostAnswerToCommitIsFoundOut(t *testing.T) {
	cfg := storetest.Config(t, "postgres")
	direct := storetest.Open(t, cfg)
	u, err := url.Parse(cfg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	proxy := startCutter(t, u.Host)
	u.Host = proxy.Addr().String()
	cfg.DSN = u.String()
	db := storetest.Open(t, cfg)
	room := storetest.Room(t, direct)

	runs := 0
	step := func(before func()) error {
		runs = 0
		return do(db, func(ctx context.Context, tx *store.Tx) error {
			runs++
			next := room
			next.NextSeq++
			_, err := tx.StepRoom(ctx, next, store.Settle{})
			before()
			return err
		})
	}
	if err := step(func() { proxy.cut.Store(true); time.AfterFunc(200*time.Millisecond, func() { proxy.cut.Store(false) }) }); err != nil || runs != 1 {
		t.Fatalf("after %d runs: %v", runs, err)
	}
	got := ok(direct.Room(ctx, room.ID))(t)
	if got.Version != room.Version+1 || got.NextSeq != room.NextSeq+1 {
		t.Fatalf("the step was made %d times", got.Version-room.Version)
	}
	// Without a step nothing can be found out, and that is what it says.
	proxy.cut.Store(true)
	err = do(db, func(ctx context.Context, tx *store.Tx) error { return tx.SetSetting(ctx, "", "x", "1") })
	proxy.cut.Store(false)
	if !errors.Is(err, store.ErrUnknownCommit) || !store.Temporary(err) {
		t.Fatalf("an unknown commit: %v", err)
	}
}

// Readers and writers together on SQLite neither wait for ever nor see half of a transaction.
func TestReadersAndWritersTogether(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.SetSetting(ctx, "s", "a", "0"), tx.SetSetting(ctx, "s", "b", "0"))
		})
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := range 20 {
					v := fmt.Sprint(w, i)
					if err := do(db, func(ctx context.Context, tx *store.Tx) error {
						return errors.Join(tx.SetSetting(ctx, "s", "a", v), tx.SetSetting(ctx, "s", "b", v))
					}); err != nil {
						t.Error(err)
					}
				}
			})
			wg.Go(func() {
				for range 40 {
					got, err := db.Settings(ctx, "s")
					if err != nil || got["a"] != got["b"] {
						t.Errorf("read %v, %v", got, err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}
