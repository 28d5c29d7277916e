package outbox

import (
	"context"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

// S004-046: a row that the other side took stays until its outcome is told, however early or late, and nothing waits for it.
func TestTakenRowsAwaitTheirOutcome(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		w := newWorld(t, cfg)
		room := w.room()
		o := w.outbox()
		lane := store.Lane{Room: room.ID, Dest: "mimi:b.example"}
		tell := func(data string, out store.Outcome) (was, woken bool) {
			t.Helper()
			hash := sha256.Sum256([]byte(data))
			err := w.db.Tx(ctx, func(tx *store.Tx) (err error) {
				was, woken, err = tx.CloseTaken(ctx, lane, hash[:], out, store.Millis(w.clock.Now()))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return was, woken
		}
		w.answer(func(rows []store.Outbound) Result {
			if rows[0].Verb == "submit" {
				return Result{Class: Taken, Status: 202}
			}
			return Result{Class: Done, Status: 200}
		})
		ask := func(row *store.Outbound) { row.AnswerTo, row.AnswerRef = store.AnswerInput, "x" }
		w.put(&room, lane.Dest, "submit", "one two three", ask)
		w.put(&room, lane.Dest, "update", "four")
		if was, _ := tell("three", store.Outcome{Class: store.OutcomeDone}); !was { // before it was written down as taken
			t.Error("an early outcome is lost")
		}
		o.turn(ctx)
		if got := w.took(); got != "mimi:b.example: one; mimi:b.example: two; mimi:b.example: four" {
			t.Error(got)
		}
		if w.left() != 2 {
			t.Errorf("%d rows are left", w.left())
		}
		if was, woken := tell("one", store.Outcome{Class: store.OutcomeRefused, Reason: "no"}); !was || !woken {
			t.Error("the room is not told of an outcome")
		}
		if was, _ := tell("one", store.Outcome{Class: store.OutcomeDone}); was {
			t.Error("an outcome counts twice")
		}
		if was, _ := tell("nothing", store.Outcome{Class: store.OutcomeDone}); was {
			t.Error("an outcome of nothing counts")
		}
		// What is not told is asked for again, alone, and then closed as any row.
		w.answer(func([]store.Outbound) Result { return Result{Class: Done, Status: 200} })
		o.sweep(ctx)
		o.turn(ctx)
		if got := w.took(); got != "" {
			t.Error("asked again too early: " + got)
		}
		w.clock.advance(askAgain + time.Second)
		o.sweep(ctx)
		o.turn(ctx)
		if got := w.took(); got != "mimi:b.example: two" || w.left() != 0 {
			t.Errorf("asked again: %s, %d left", got, w.left())
		}
		box, err := w.db.Inbox(context.Background(), room.ID, store.Millis(w.clock.Now()), 10)
		if err != nil || len(box.Inputs) != 3 {
			t.Errorf("%d answers, %v", len(box.Inputs), err)
		}
	})
}
