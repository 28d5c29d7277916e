package outbox

import (
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
)

// Of a destination that is away and has more lanes than it gets probes, each lane fails, tried or not: its people are told, and what is too old is
// given up (S004-060).
func TestLanesThatAreNeverTriedFailToo(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const lanes = 60
		o := w.outbox(func(c *Config) { c.GiveUp = 30 * time.Minute })
		tried := map[string]bool{}
		minute := func() {
			o.turn(ctx)
			w.clock.advance(breakerMost)
			o.sweep(ctx)
		}
		for range lanes {
			room := w.room()
			w.put(&room, "mimi:a", "submitMessage", "x")
		}
		late := w.room()
		w.answer(func(rows []store.Outbound) Result {
			tried[rows[0].Room.String()] = true
			return Result{Class: Retry, Reason: "down"}
		})
		for range 10 {
			minute()
		}
		if len(tried) == lanes {
			t.Fatal("each lane was tried: the test shows nothing")
		}
		failing, err := w.db.FailingBetween(ctx, 0, store.Millis(w.clock.Now()))
		if err != nil || len(failing) != lanes {
			t.Errorf("%d lanes of %d are said to fail, %v", len(failing), lanes, err)
		}
		// What grew old while nothing ran has its chance first.
		w.put(&late, "mimi:b", "submitMessage", "y", func(row *store.Outbound) { row.CreatedMS = 1 })
		for range 25 {
			minute()
		}
		if n := w.left(); n != 1 {
			t.Errorf("%d rows are left, want the late one", n)
		}
		if len(tried) >= lanes {
			t.Error("each lane was tried in the end: the test shows nothing")
		}
	})
}

// A row that is held waits for its room, not for the other side: it is not given up.
func TestHeldRowsAreNotGivenUp(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(), w.room()
		w.answer(func([]store.Outbound) Result { return Result{Class: Retry, Reason: "down"} })
		w.put(&room, "mimi:a", "submitMessage", "a")
		w.put(&room, "mimi:a", "submitMessage", "held", func(row *store.Outbound) { row.State = store.OutboundHeld })
		o.turn(ctx)
		w.clock.advance(5*24*time.Hour + time.Minute)
		for range 2 {
			o.sweep(ctx)
			if n := w.left(); n != 1 {
				t.Fatalf("%d rows are left, want the held one", n)
			}
		}
	})
}
