package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

// Outcomes of rows that are not there cost no more than one look at the lane, however many a peer tells; one that is there is found
// among them, and counts once.
func TestOutcomesOfNothingAreCheap(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		lane := store.Lane{Room: storetest.Room(t, db).ID, Dest: "mimi:a"}
		data := bytes.Repeat([]byte{1}, 1<<20)
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.AddOutbound(ctx, []store.Outbound{{Room: lane.Room, Dest: lane.Dest, Seq: 1, Verb: "x", Data: data}})
			return err
		})
		closed := 0
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			closed = 0
			for n := range byte(200) {
				hash := sha256.Sum256([]byte{n})
				if n%100 == 50 {
					hash = sha256.Sum256(data)
				}
				was, _, err := tx.CloseTaken(ctx, lane, hash[:], store.Outcome{Class: store.OutcomeDone}, 1)
				if err != nil {
					return err
				}
				if was {
					closed++
				}
			}
			return nil
		})
		runtime.ReadMemStats(&after)
		if closed != 1 {
			t.Errorf("%d rows were closed, want the one that is there, once", closed)
		}
		if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 40 {
			t.Errorf("%d MiB were read for outcomes of nothing, beside a row of 1 MiB", mib)
		}
	})
}

// Destinations are named once, whatever waits for them and in how many rooms, and only those that were asked for.
func TestDestinations(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		for range 2 {
			room := storetest.Room(t, db)
			must(t, db, func(ctx context.Context, tx *store.Tx) error {
				var rows []store.Outbound
				for i, dest := range []string{"mimi:b", "matrix", "mimi:a", "mimi%:c"} {
					rows = append(rows, store.Outbound{Room: room.ID, Dest: dest, Seq: int64(i + 1), Verb: "x"})
				}
				_, err := tx.AddOutbound(ctx, rows)
				return err
			})
		}
		same(t, "all", ok(db.Destinations(ctx, "mimi:", 3))(t), []string{"mimi:a", "mimi:b"})
		same(t, "one", ok(db.Destinations(ctx, "mimi:", 1))(t), []string{"mimi:a"})
		same(t, "none", ok(db.Destinations(ctx, "ap:", 3))(t), []string{})
	})
}

// The head of a queue is as long as rows and bytes allow, and says whether there is more, whatever the limits are.
func TestHeadsOfQueues(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		ctx, room := context.Background(), storetest.Room(t, db)
		lane := store.Lane{Room: room.ID, Dest: "mimi:a"}
		head, err := db.LaneRows(ctx, lane, 3, 1000)
		if err != nil || len(head.Rows) != 0 || head.More {
			t.Fatal(head, err)
		}
		const rows, size = 12, 1000
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			if err := tx.PutBody(ctx, room.ID, 1000, bytes.Repeat([]byte{1}, size), 1); err != nil {
				return err
			}
			for i := range int64(rows) {
				o := store.Outbound{Room: room.ID, Dest: lane.Dest, Seq: i + 1, Verb: "notify", Body: 1000, CreatedMS: 1}
				if i%2 == 1 {
					o.Body, o.Data = 0, bytes.Repeat([]byte{1}, size)
				}
				if _, err := tx.AddOutbound(ctx, []store.Outbound{o}); err != nil {
					return err
				}
				if _, err := tx.AddInputs(ctx, []store.NewInput{{Room: room.ID, Kind: "matrix", Epoch: -1, Body: make([]byte, size), CreatedMS: 1}}); err != nil {
					return err
				}
			}
			_, err := tx.AddInputs(ctx, []store.NewInput{{Room: room.ID, Kind: "timer", Epoch: -1, NotBefore: 99, CreatedMS: 1}})
			return err
		})
		for limit := 1; limit <= rows+1; limit++ {
			for full := 1; full <= rows+1; full++ {
				// A sealed value is a little longer: full rows fit, and the next is begun.
				head, err := db.LaneRows(ctx, lane, limit, int64(full)*size)
				want := min(limit, full, rows)
				if err != nil || len(head.Rows) != want || head.Work != rows || head.More != (want < rows || limit == rows || full == rows) {
					t.Errorf("lane, limit %d, bytes of %d: %d rows, work %d, more %v, %v", limit, full, len(head.Rows), head.Work, head.More, err)
				}
				for i, o := range head.Rows {
					if o.Seq != int64(i+1) || len(o.Data) != size {
						t.Fatalf("row %d is %d with %d bytes", i, o.Seq, len(o.Data))
					}
				}
			}
			box, err := db.Inbox(ctx, room.ID, 10, limit)
			if err != nil || len(box.Inputs) != min(limit, rows) || box.More != (limit < rows) || box.Settle != (store.Settle{Work: rows + 2, DueMS: 99}) {
				t.Errorf("inbox, limit %d: %d inputs, more %v, %v, %v", limit, len(box.Inputs), box.More, box.Settle, err)
			}
			for i, in := range box.Inputs {
				if in.Seq != int64(i+1) || len(in.Body) != size {
					t.Fatalf("input %d is %d with %d bytes", i, in.Seq, len(in.Body))
				}
			}
		}
	})
}

// The inputs that are read at once are bounded in bytes.
func TestInboxIsBoundedInBytes(t *testing.T) {
	db := storetest.Open(t, storetest.Config(t, "sqlite"))
	ctx, room := context.Background(), storetest.Room(t, db)
	for range 8 {
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.AddInputs(ctx, []store.NewInput{{Room: room.ID, Kind: "notify", Epoch: -1, Body: make([]byte, 1<<20), CreatedMS: 1}})
			return err
		})
	}
	for read := 0; read < 8; {
		box, err := db.Inbox(ctx, room.ID, 10, 64)
		if err != nil || len(box.Inputs) != 4 || !box.More && read+4 < 8 {
			t.Fatalf("%d inputs, more %v, %v", len(box.Inputs), box.More, err)
		}
		read += len(box.Inputs)
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			for _, in := range box.Inputs {
				if _, err := tx.FinishInput(ctx, room.ID, in.Seq); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// A step that changes nothing but what every step changes writes less; it is a step all the same.
func TestShortStep(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		ctx, room := context.Background(), storetest.Room(t, db)
		for name, change := range map[string]func(*store.Room){
			"nothing": func(*store.Room) {}, "seq": func(r *store.Room) { r.NextSeq += 3; r.LastAccepted = 7 }, "state": func(r *store.Room) { r.State = "active" },
			"epoch": func(r *store.Room) { r.Epoch++ }, "group": func(r *store.Room) { r.GroupID = []byte{1} }, "refresh": func(r *store.Room) { r.Refresh = !r.Refresh },
			"kind": func(r *store.Room) { r.Kind = store.RoomFollower }, "hub": func(r *store.Room) { r.Hub = "b.example" }, "uri": func(r *store.Room) { r.URI = "mimi://a.example/r/x" },
			"matrix": func(r *store.Room) { r.MatrixRoomID = "!r:hs" }, "times": func(r *store.Room) { r.EpochMS = 5; r.Group++ },
		} {
			next := room
			change(&next)
			must(t, db, func(ctx context.Context, tx *store.Tx) (err error) {
				next, err = tx.StepRoomFrom(ctx, room, next, store.Settle{})
				return err
			})
			got, err := db.Room(ctx, room.ID)
			if err != nil || got.Version != room.Version+1 {
				t.Fatal(name, err, got.Version)
			}
			same(t, name, got, next)
			err = db.Tx(ctx, func(tx *store.Tx) error {
				_, err := tx.StepRoomFrom(ctx, room, room, store.Settle{})
				return err
			})
			if !errors.Is(err, store.ErrConflict) {
				t.Errorf("%s: a step from the version before: %v", name, err)
			}
			room = got
		}
	})
}

// Arrivals are counted right whether or not the room was read before, and when two come at once.
func TestArrivalsAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		ctx, room := context.Background(), storetest.Room(t, db)
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return tx.BindName(ctx, store.NameMatrix, "!r:hs", room.ID)
		})
		const each = 20
		done := make(chan error, 3)
		for w := range 3 {
			go func() {
				for i := range each {
					err := db.Tx(ctx, func(tx *store.Tx) error {
						if w > 0 {
							if _, err := tx.RoomByName(ctx, store.NameMatrix, "!r:hs"); err != nil {
								return err
							}
						}
						_, err := tx.AddInputs(ctx, []store.NewInput{{Room: room.ID, Kind: "matrix", Epoch: -1, SeenKind: "event", SeenKey: fmt.Sprint(w, i), CreatedMS: 1}})
						return err
					})
					if err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		for range 3 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		box, err := db.Inbox(ctx, room.ID, 10, 100)
		if err != nil || len(box.Inputs) != 3*each || box.Settle.Work != 3*each+1 {
			t.Errorf("%d inputs, work %d, %v", len(box.Inputs), box.Settle.Work, err)
		}
	})
}

// What is added to a lane at rest is known as it would be read. Of any other lane nothing is.
func TestTheHeadOfALaneAtRestIsKnown(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		room := storetest.Room(t, db)
		lanes := []store.Lane{{Room: room.ID, Dest: "matrix"}, {Room: room.ID, Dest: "mimi:a"}}
		seq := int64(0)
		add := func(change ...func(*store.Outbound)) (woken []store.Woken) {
			t.Helper()
			must(t, db, func(ctx context.Context, tx *store.Tx) (err error) {
				seq += 10
				if err := tx.PutBody(ctx, room.ID, seq, []byte("shared"), 5); err != nil {
					return err
				}
				rows := []store.Outbound{
					{Room: room.ID, Dest: "matrix", Seq: seq + 1, Verb: "send", Target: "t", TxnKey: "k", Data: []byte("own"), AnswerTo: store.AnswerLink, AnswerSeq: 7, AnswerRef: "r", CreatedMS: 5},
					{Room: room.ID, Dest: "mimi:a", Seq: seq + 2, Verb: "notify", Body: seq, CreatedMS: 5},
					{Room: room.ID, Dest: "matrix", Seq: seq + 3, Verb: "send", CreatedMS: 5},
				}
				for _, c := range change {
					c(&rows[2])
				}
				woken, err = tx.AddOutbound(ctx, rows)
				return err
			})
			return woken
		}
		serve := func(lane store.Lane, done bool) {
			t.Helper()
			head := ok(db.LaneRows(ctx, lane, 50, 1<<20))(t)
			must(t, db, func(ctx context.Context, tx *store.Tx) error {
				lease, err := tx.ClaimLane(ctx, lane, "me", 60_000, true)
				if err != nil {
					return err
				}
				var closing []store.Closing
				for _, o := range head.Rows {
					closing = append(closing, store.Closing{Row: o, Outcome: store.Outcome{Class: store.OutcomeDone}})
				}
				if len(closing) == 0 {
					_, err = tx.RestLane(ctx, lease, false)
					return err
				}
				_, rests, _, err := tx.CloseOutbound(ctx, lease, closing, 6, 60_000, done)
				if rests != done {
					t.Errorf("%s rests: %v, want %v", lane.Dest, rests, done)
				}
				return err
			})
		}
		known := func(woken []store.Woken, want bool) {
			t.Helper()
			for i, l := range woken {
				if l.Lane != lanes[i] || (l.Head != nil) != want {
					t.Errorf("%s is known: %v, want %v", l.Dest, l.Head != nil, want)
				}
				if read := ok(db.LaneRows(ctx, l.Lane, 50, 1<<20))(t); want && !reflect.DeepEqual(l.Head, read.Rows) {
					t.Errorf("%s is\n%+v, stored is\n%+v", l.Dest, l.Head, read.Rows)
				}
			}
		}
		known(add(), false) // the lanes are new
		serve(lanes[0], true)
		serve(lanes[1], true)
		known(add(), true)
		known(add(), false) // rows wait already
		serve(lanes[0], false)
		serve(lanes[1], false)
		known(add(), false) // nobody said that they are empty
		serve(lanes[0], true)
		serve(lanes[1], true)
		held := add(func(o *store.Outbound) { o.State = store.OutboundHeld })
		if held[0].Head != nil || held[1].Head == nil {
			t.Error("a lane with a held row is known, or the other is not")
		}
		serve(lanes[1], true)
		serve(lanes[1], true) // given back
		if woken := add(); woken[1].Head != nil {
			t.Error("a lane that nobody holds is known")
		}
	})
}

// Only lanes that wait for the destinations named and that nobody works on are noted as failing without a try.
func TestFailWaiting(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		room := storetest.Room(t, db).ID
		lane := func(dest string) store.Lane { return store.Lane{Room: room, Dest: dest} }
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			for i, dest := range []string{"mimi:a", "mimi:b", "mimi:held", "mimi:failed", "mimi:other"} {
				if _, err := tx.AddOutbound(ctx, []store.Outbound{{Room: room, Dest: dest, Seq: int64(i), Verb: "x", Data: []byte("x")}}); err != nil {
					return err
				}
			}
			if _, err := tx.ClaimLane(ctx, lane("mimi:held"), "me", 60_000, false); err != nil {
				return err
			}
			l, err := tx.ClaimLane(ctx, lane("mimi:failed"), "me", 60_000, false)
			if err != nil {
				return err
			}
			return tx.FailLane(ctx, l, 0, 11, "tried")
		})
		note := func(limit int) (n int64) {
			must(t, db, func(ctx context.Context, tx *store.Tx) (err error) {
				n, err = tx.FailWaiting(ctx, 22, "away", limit, "mimi:a", "mimi:b", "mimi:held", "mimi:failed")
				return err
			})
			return n
		}
		same(t, "some", note(1), int64(1))
		same(t, "the rest", note(9), int64(1))
		same(t, "no more", note(9), int64(0))
		since := map[string]int64{}
		for _, l := range ok(db.FailingLanes(ctx, 9))(t) {
			since[l.Dest] = l.FailingSince
		}
		same(t, "since when they fail", since, map[string]int64{"mimi:a": 22, "mimi:b": 22, "mimi:failed": 11})
		same(t, "due", len(ok(db.DueLanes(ctx, "me", 9))(t)), 5)
	})
}
