package store_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

// Rows that are released while a worker reads the lane and lays it to rest are not forgotten: whatever comes first, the lane is
// due afterwards or the worker reads it again. Enough rows that the head is read in two queries.
func TestAReleasedLaneIsNotLaidToRest(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		for n := range 150 {
			room := storetest.Room(t, db)
			lane := store.Lane{Room: room.ID, Dest: "matrix"}
			must(t, db, func(ctx context.Context, tx *store.Tx) error {
				var rows []store.Outbound
				for seq := range int64(8) {
					rows = append(rows, store.Outbound{Room: room.ID, Dest: lane.Dest, Seq: 10 + seq, State: store.OutboundHeld, Verb: "send", TxnKey: fmt.Sprint(n, seq), Data: []byte("x"), CreatedMS: 1})
				}
				_, err := tx.AddOutbound(ctx, rows)
				return err
			})
			var lease store.LaneLease
			must(t, db, func(ctx context.Context, tx *store.Tx) (err error) {
				lease, err = tx.ClaimLane(ctx, lane, "worker", 60_000, true)
				return err
			})
			var wg sync.WaitGroup
			wg.Go(func() {
				must(t, db, func(ctx context.Context, tx *store.Tx) error {
					_, err := tx.ReleaseHeld(ctx, room.ID)
					return err
				})
			})
			rests := false
			wg.Go(func() {
				head, err := db.LaneRows(t.Context(), lane, 100, 1<<20)
				if err != nil || len(head.Rows) != 8 {
					t.Errorf("%d rows, %v", len(head.Rows), err)
					return
				}
				if head.Rows[0].State != store.OutboundHeld {
					return // it has seen the release, and sends
				}
				lease.Work = head.Work
				must(t, db, func(ctx context.Context, tx *store.Tx) (err error) {
					rests, err = tx.RestLane(ctx, lease, false)
					return err
				})
			})
			wg.Wait()
			if !rests {
				continue
			}
			due, err := db.DueLanes(t.Context(), "worker", 1000)
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, l := range due {
				found = found || l == lane
			}
			if !found {
				t.Fatalf("round %d: the lane rests, and its rows can be sent", n)
			}
		}
	})
}

// An outcome that is told at the moment in which it is written down that the row was taken finds the row: before as one of the lane's
// head, after as one that is taken. Otherwise it would be asked for anew two minutes later.
func TestAnOutcomeFindsARowThatIsJustTaken(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		lane := store.Lane{Room: storetest.Room(t, db).ID, Dest: "mimi:a"}
		for n := range int64(200) {
			row := store.Outbound{Room: lane.Room, Dest: lane.Dest, Seq: 10 + n, Verb: "submitMessage", Data: fmt.Append(nil, n), CreatedMS: 1}
			var lease store.LaneLease
			must(t, db, func(ctx context.Context, tx *store.Tx) (err error) {
				if _, err = tx.AddOutbound(ctx, []store.Outbound{row}); err == nil {
					lease, err = tx.ClaimLane(ctx, lane, "worker", 60_000, true)
				}
				return err
			})
			var wg sync.WaitGroup
			wg.Go(func() {
				must(t, db, func(ctx context.Context, tx *store.Tx) error {
					_, _, _, err := tx.CloseOutbound(ctx, lease, []store.Closing{{Row: row, Outcome: store.Outcome{Class: store.OutcomeTaken}}}, 1, 60_000, true)
					return err
				})
			})
			was := false
			wg.Go(func() {
				hash := sha256.Sum256(row.Data)
				must(t, db, func(ctx context.Context, tx *store.Tx) (err error) {
					was, _, err = tx.CloseTaken(ctx, lane, hash[:], store.Outcome{Class: store.OutcomeDone}, 1)
					return err
				})
			})
			wg.Wait()
			if !was {
				t.Fatalf("round %d: the outcome found no row", n)
			}
		}
	})
}
