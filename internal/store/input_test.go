package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

func add(t testing.TB, db *store.DB, in ...store.NewInput) []store.Added {
	t.Helper()
	var out []store.Added
	must(t, db, func(ctx context.Context, tx *store.Tx) (err error) {
		out, err = tx.AddInputs(ctx, in)
		return err
	})
	return out
}

// lease gives a test all shards.
func lease(t testing.TB, db *store.DB, owner string) {
	t.Helper()
	must(t, db, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.RenewShards(ctx, owner)
		return err
	})
}

func TestInputsComeOnceAndInOrder(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		a, b := storetest.Room(t, db), storetest.Room(t, db)
		in := func(room store.Room, key string) store.NewInput {
			return store.NewInput{Room: room.ID, Kind: "matrix", Epoch: -1, SeenKind: "event", SeenKey: key, Body: []byte("body of " + key), CreatedMS: 7}
		}
		got := add(t, db, in(a, "$1"), in(b, "$1"), in(a, "$2"), in(a, "$1"), in(b, "$3"))
		for i, dup := range []bool{false, false, false, true, false} {
			if got[i].Duplicate != dup {
				t.Errorf("input %d: duplicate is %v", i, got[i].Duplicate)
			}
		}
		again := add(t, db, in(a, "$2"), in(a, "$4"))
		if !again[0].Duplicate || again[1].Duplicate {
			t.Errorf("the second time: %+v", again)
		}
		box := ok(db.Inbox(ctx, a.ID, 100, 10))(t)
		var order string
		for _, x := range box.Inputs {
			order += string(x.Body) + "; "
		}
		if order != "body of $1; body of $2; body of $4; " || box.More {
			t.Fatalf("the inbox is %s more=%v", order, box.More)
		}
		if box := ok(db.Inbox(ctx, a.ID, 100, 2))(t); len(box.Inputs) != 2 || !box.More {
			t.Fatalf("a limit of 2 gave %d, more=%v", len(box.Inputs), box.More)
		}
	})
}

// A room is due as long as it has something to do, also when something arrives while it settles.
func TestSettlingNeverLosesAnArrival(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		lease(t, db, "p")
		room := storetest.Room(t, db)
		due := func() bool { return len(ok(db.DueRooms(ctx, "p", 10))(t)) > 0 }
		if due() {
			t.Fatal("an empty room is due")
		}
		add(t, db, store.NewInput{Room: room.ID, Kind: "x", Epoch: -1})
		if !due() {
			t.Fatal("a room with an input is not due")
		}
		if rooms := ok(db.DueRooms(ctx, "q", 10))(t); len(rooms) > 0 {
			t.Fatal("a room of another's shard is due here")
		}
		box := ok(db.Inbox(ctx, room.ID, 100, 10))(t)
		add(t, db, store.NewInput{Room: room.ID, Kind: "late", Epoch: -1})
		finish := func(box store.Inbox) {
			must(t, db, func(ctx context.Context, tx *store.Tx) (err error) {
				r := ok(tx.Room(ctx, room.ID))(t)
				if _, err = tx.StepRoom(ctx, r, box.Settle); err != nil {
					return err
				}
				for _, x := range box.Inputs {
					if _, err := tx.FinishInput(ctx, room.ID, x.Seq); err != nil {
						return err
					}
				}
				return nil
			})
		}
		finish(box)
		if !due() {
			t.Fatal("what arrived before the room settled was lost")
		}
		box = ok(db.Inbox(ctx, room.ID, 100, 10))(t)
		if len(box.Inputs) != 1 || box.Inputs[0].Kind != "late" {
			t.Fatalf("the inbox is %+v", box.Inputs)
		}
		finish(box)
		if due() {
			t.Fatal("a settled room is due")
		}
	})
}

func TestTimersAreDueInTheirTime(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		room := storetest.Room(t, db)
		add(t, db, store.NewInput{Room: room.ID, Kind: "timer", Epoch: -1, NotBefore: 500}, store.NewInput{Room: room.ID, Kind: "timer", Epoch: -1, NotBefore: 300})
		box := ok(db.Inbox(ctx, room.ID, 299, 10))(t)
		if len(box.Inputs) != 0 || box.Settle.DueMS != 300 {
			t.Fatalf("before its time: %+v", box)
		}
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.SettleRoom(ctx, room.ID, box.Settle) })
		if r := ok(db.Room(ctx, room.ID))(t); r.DueMS != 300 {
			t.Fatalf("the room is due at %d", r.DueMS)
		}
		if box := ok(db.Inbox(ctx, room.ID, 300, 10))(t); len(box.Inputs) != 1 || box.Settle.DueMS != 500 {
			t.Fatalf("in its time: %+v", box)
		}
	})
}

// T11: waiting for a later epoch is a state, with bounds that can be asked for.
func TestWaitingInputsAreReleasedByTheirEpoch(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		lease(t, db, "p")
		room := storetest.Room(t, db)
		got := add(t, db, store.NewInput{Room: room.ID, Kind: "n", Epoch: -1, Body: make([]byte, 10), CreatedMS: 4}, store.NewInput{Room: room.ID, Kind: "n", Epoch: -1, Body: make([]byte, 5), CreatedMS: 3})
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.WaitInput(ctx, room.ID, got[0].Seq, 8, "future"), tx.WaitInput(ctx, room.ID, got[1].Seq, 9, "future"))
		})
		rows, size, err := db.Waiting(ctx, room.ID)
		if err != nil || rows != 2 || size != 15 {
			t.Fatalf("waiting: %d rows, %d bytes, %v", rows, size, err)
		}
		box := ok(db.Inbox(ctx, room.ID, 10, 10))(t)
		if len(box.Inputs) != 0 {
			t.Fatal("a waiting input is ready")
		}
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.SettleRoom(ctx, room.ID, box.Settle) })
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			n, err := tx.ReleaseWaiting(ctx, room.ID, 8)
			if n != 1 {
				t.Errorf("%d released", n)
			}
			return err
		})
		if box := ok(db.Inbox(ctx, room.ID, 10, 10))(t); len(box.Inputs) != 1 || box.Inputs[0].Seq != got[0].Seq {
			t.Fatalf("after the release: %+v", box)
		}
		if len(ok(db.DueRooms(ctx, "p", 1))(t)) != 1 {
			t.Fatal("the room is not due after the release")
		}
		// S: a poisoned input is set aside and the room goes on.
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.BreakInput(ctx, room.ID, got[0].Seq, "panic") })
		broken := ok(db.BrokenInputs(ctx, 10))(t)
		if len(broken) != 1 || broken[0].Reason != "panic" {
			t.Fatalf("broken: %+v", broken)
		}
	})
}

// Inputs that were set aside are listed by their rooms; one is tried again with all its tries, or deleted, and the rest stays.
func TestBrokenInputsAreTriedAgain(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db, ctx := storetest.Open(t, cfg), t.Context()
		lease(t, db, "p")
		a, b := storetest.Room(t, db), storetest.Room(t, db)
		in := func(room store.Room, source string) store.NewInput {
			return store.NewInput{Room: room.ID, Kind: "k", Source: source, Epoch: -1, Body: []byte("body of " + source), CreatedMS: 7}
		}
		got := add(t, db, in(a, "a1"), in(b, "b1"), in(a, "a2"), in(b, "b2"))
		reason := strings.Repeat("x", 499) + "é\x00" // of what a peer sent, cut in the middle of a letter
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			for i, room := range []store.Room{a, b, a} {
				if err := errors.Join(tx.RetryInput(ctx, room.ID, got[i].Seq, reason, 9), tx.BreakInput(ctx, room.ID, got[i].Seq, reason)); err != nil {
					return err
				}
			}
			return tx.SettleRoom(ctx, a.ID, store.Settle{Work: ok(tx.Room(ctx, a.ID))(t).NextIn, DueMS: store.Never})
		})
		list := ok(db.BrokenInputs(ctx, 10))(t)
		if len(list) != 3 || list[0].Room == list[2].Room || list[1].Room != list[0].Room && list[1].Room != list[2].Room {
			t.Fatalf("not by room: %+v", list)
		}
		for _, x := range list {
			room := map[store.RoomID]store.Room{a.ID: a, b.ID: b}[x.Room]
			if x.URI != room.URI || x.MatrixRoomID != room.MatrixRoomID || x.Tries != 2 || x.CreatedMS != 7 || x.Kind != "k" || !strings.HasPrefix(x.Reason, "xxx") || !utf8.ValidString(x.Reason) {
				t.Errorf("listed is %+v", x)
			}
		}
		if list := ok(db.BrokenInputs(ctx, 2))(t); len(list) != 2 {
			t.Errorf("%d of at most 2", len(list))
		}
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.RetryBroken(ctx, a.ID, got[0].Seq), tx.DropBroken(ctx, b.ID, got[1].Seq))
		})
		due := ok(db.DueRooms(ctx, "p", 10))(t)
		if x := ok(db.Input(ctx, a.ID, got[0].Seq))(t); x.State != store.InputReady || x.Tries != 0 || x.Reason != "" || x.NotBefore != 0 || string(x.Body) != "body of a1" || !slices.Contains(due, a.ID) {
			t.Errorf("tried again is %+v, due are %v", x, due)
		}
		if _, err := db.Input(ctx, b.ID, got[1].Seq); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("what was deleted: %v", err)
		}
		if list := ok(db.BrokenInputs(ctx, 10))(t); len(list) != 1 || list[0].Source != "a2" {
			t.Errorf("left are %+v", list)
		}
		for _, x := range []struct {
			room store.RoomID
			seq  int64
		}{{a.ID, got[0].Seq}, {b.ID, got[1].Seq}, {b.ID, got[3].Seq}} { // ready again, gone, never set aside
			must(t, db, func(ctx context.Context, tx *store.Tx) error {
				if retry, drop := tx.RetryBroken(ctx, x.room, x.seq), tx.DropBroken(ctx, x.room, x.seq); !errors.Is(retry, store.ErrNotFound) || !errors.Is(drop, store.ErrNotFound) {
					t.Errorf("what is not set aside: %v, %v", retry, drop)
				}
				return nil
			})
		}
		if box := ok(db.Inbox(ctx, b.ID, 10, 10))(t); len(box.Inputs) != 1 || box.Inputs[0].Source != "b2" {
			t.Errorf("what was never set aside: %+v", box.Inputs)
		}
	})
}

// An input that was set aside is counted, and deleted in the end; one that waits or may be worked off stays however old it is.
func TestBrokenInputsGo(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db, ctx := storetest.Open(t, cfg), t.Context()
		room := storetest.Room(t, db)
		const day = 24 * 60 * 60 * 1000
		for i, created := range []int64{1, 1, 10 * day} {
			add(t, db, store.NewInput{Room: room.ID, Kind: "k", Source: strconv.Itoa(i), Epoch: -1, CreatedMS: created})
		}
		got := ok(db.Inbox(ctx, room.ID, 10, 10))(t).Inputs
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.BreakInput(ctx, room.ID, got[0].Seq, "panic"), tx.BreakInput(ctx, room.ID, got[2].Seq, "panic"))
		})
		if g := ok(db.Gauges(ctx))(t); g.InputBroken != 2 || g.InputReady != 1 {
			t.Errorf("%d inputs are counted as broken, %d as ready", g.InputBroken, g.InputReady)
		}
		ok(db.Cleanup(ctx, store.DefaultRetention, store.Time(30*day+2), 50, 1))(t)
		if left := ok(db.BrokenInputs(ctx, 10))(t); len(left) != 1 || left[0].Source != "2" {
			t.Errorf("broken inputs that stay: %+v", left)
		}
		if box := ok(db.Inbox(ctx, room.ID, 10, 10))(t); len(box.Inputs) != 1 || box.Inputs[0].Source != "1" {
			t.Errorf("inputs that stay: %+v", box.Inputs)
		}
	})
}

func TestInboxBoundsWhatItReads(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		room := storetest.Room(t, db)
		for range 4 {
			add(t, db, store.NewInput{Room: room.ID, Kind: "n", Epoch: -1, Body: make([]byte, 2<<20)})
		}
		box := ok(db.Inbox(ctx, room.ID, 10, 10))(t)
		if len(box.Inputs) != 2 || !box.More {
			t.Fatalf("%d inputs of 2 MiB were read at once, more=%v", len(box.Inputs), box.More)
		}
	})
}

// Many that bring the same things at once store each once, and nothing deadlocks for good.
func TestConcurrentArrivals(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		rooms := []store.Room{storetest.Room(t, db), storetest.Room(t, db), storetest.Room(t, db)}
		var wg sync.WaitGroup
		var mu sync.Mutex
		fresh := map[string]int{}
		for w := range 8 {
			wg.Go(func() {
				for n := range 10 {
					var in []store.NewInput
					for i := range rooms {
						in = append(in, store.NewInput{Room: rooms[(i+w)%3].ID, Kind: "m", Epoch: -1, SeenKind: "event", SeenKey: fmt.Sprint("$", n), Body: []byte{1}})
					}
					var out []store.Added
					err := do(db, func(ctx context.Context, tx *store.Tx) (err error) {
						out, err = tx.AddInputs(ctx, in)
						return err
					})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for i, a := range out {
						if !a.Duplicate {
							fresh[in[i].Room.String()+in[i].SeenKey]++
						}
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(fresh) != 30 {
			t.Fatalf("%d different inputs are stored", len(fresh))
		}
		for k, n := range fresh {
			if n != 1 {
				t.Errorf("%s is stored %d times", k, n)
			}
		}
		for _, r := range rooms {
			if box := ok(db.Inbox(ctx, r.ID, 1, 100))(t); len(box.Inputs) != 10 {
				t.Errorf("room %s has %d inputs", r.ID, len(box.Inputs))
			}
		}
	})
}

// The homeserver's ids are no proof: the same id with another body is new (appservice-discord #852).
func TestTransactionsAreKnownByIDAndBody(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		mark := func(id string, hash byte) (got store.Transaction) {
			must(t, db, func(ctx context.Context, tx *store.Tx) (err error) {
				got, err = tx.MarkTransaction(ctx, "hs", id, [32]byte{hash}, 5)
				return err
			})
			return got
		}
		for i, c := range []struct {
			id   string
			hash byte
			want store.Transaction
		}{
			{"1", 1, store.Transaction{}}, {"1", 1, store.Transaction{Duplicate: true}}, {"2", 1, store.Transaction{}},
			{"1", 2, store.Transaction{Reused: true}}, {"1", 2, store.Transaction{Duplicate: true}},
		} {
			if got := mark(c.id, c.hash); got != c.want {
				t.Errorf("transaction %d: %+v, want %+v", i, got, c.want)
			}
		}
	})
}
