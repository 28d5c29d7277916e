package outbox

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
)

// repeating is a route to the homeserver whose "send" may be sent again.
func repeating(c *Config) {
	r := c.Routes["matrix"]
	r.Repeats = func(row store.Outbound) bool { return row.Verb == "send" }
	c.Routes["matrix"] = r
}

// While it is being written down that rows are done the next are sent, but no more than may be sent again.
func TestTheNextIsSentWhileTheLastIsWrittenDown(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.room()
		w.put(&room, "matrix", "send", numbers(maxAhead+4))
		o := w.outbox(repeating)
		var written atomic.Bool
		locked, many, gone := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		release := make(chan struct{})
		sent := 0
		w.answer(func(rows []store.Outbound) Result {
			switch sent++; sent {
			case 1: // from here on nobody writes
				go func() {
					gone <- w.db.Tx(ctx, func(tx *store.Tx) error {
						_, err := tx.AddOutbound(ctx, []store.Outbound{{Room: room.ID, Dest: "matrix", Seq: room.NextSeq, Verb: "send", Data: []byte("more"), CreatedMS: 1}})
						close(locked)
						<-release
						return err
					})
				}()
				<-locked
			case maxAhead:
				close(many)
			case maxAhead + 1:
				if !written.Load() {
					t.Errorf("row %d is sent, and nothing is written down yet", sent)
				}
			}
			return Result{Class: Done, Status: 200}
		})
		go func() {
			<-many
			if n := w.left(); n != maxAhead+4 {
				t.Errorf("%d rows are left while nobody can write, want %d", n, maxAhead+4)
			}
			written.Store(true)
			close(release)
		}()
		o.turn(ctx)
		if err := <-gone; err != nil {
			t.Fatal(err)
		}
		o.turn(ctx)
		w.want(w.took(), "matrix: "+strings.Join(append(strings.Fields(numbers(maxAhead+4)), "more"), "; matrix: "))
		if n := w.left(); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

// Rows that may not be sent again wait until it is written down what became of those before, and the other way round.
func TestWhatMayNotBeRepeatedIsNotSentAhead(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.room()
		for _, verb := range []string{"send", "join", "send", "send", "leave"} {
			w.put(&room, "matrix", verb, verb)
		}
		o := w.outbox(repeating)
		var left []int
		w.answer(func(rows []store.Outbound) Result {
			if rows[0].Verb != "send" {
				left = append(left, w.left())
			}
			return Result{Class: Done, Status: 200}
		})
		o.turn(ctx)
		if want := []int{4, 1}; !slices.Equal(left, want) {
			t.Errorf("left are %v when a membership is changed, want %v", left, want)
		}
	})
}

// Who takes a lane over whose holder died does not know how many rows that one sent: of so many as it may have been the sender is told,
// also when the first of them fails, and when the lane changes hands before they are all sent.
func TestRowsThatMayHaveBeenSentAheadAreRepetitions(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.room()
		w.put(&room, "matrix", "send", numbers(maxAhead+4))
		w.tx(func(tx *store.Tx) error {
			_, err := tx.ClaimLane(ctx, store.Lane{Room: room.ID, Dest: "matrix"}, "who died", lifeMS, false)
			return err
		})
		w.clock.advance(store.LeaseLife)
		class := Retry
		told := map[string]bool{}
		stop := func() {}
		w.answer(func(rows []store.Outbound) Result {
			told[string(rows[0].Data)] = rows[0].Repeated
			if string(rows[0].Data) == "5" {
				stop()
			}
			return Result{Class: class}
		})
		w.outbox(repeating).turn(ctx)
		class = Done
		w.clock.advance(time.Hour)
		o := w.outbox(repeating)
		living, die := context.WithCancel(ctx)
		stop = die
		o.poll(ctx)
		if r, fine := o.sched.next(o.clock.Now()); fine {
			o.serve(living, ctx, r)
		}
		if n := w.left(); n != maxAhead+4-6 {
			t.Fatalf("%d rows are left at the stop", n)
		}
		if err := o.giveBack(ctx); err != nil {
			t.Fatal(err)
		}
		stop = func() {}
		w.outbox(repeating).turn(ctx)
		for i, d := range strings.Fields(numbers(maxAhead + 4)) {
			if told[d] != (i <= maxAhead) {
				t.Errorf("row %d is sent as a repetition: %v", i, told[d])
			}
		}
		if n := w.left(); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

// When a row fails, those before it are ended, and it is tried again alone.
func TestAFailureEndsWhatWasDoneBefore(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.room()
		w.put(&room, "matrix", "send", "a b c d")
		o := w.outbox(repeating)
		w.answer(func(rows []store.Outbound) Result {
			if string(rows[0].Data) == "c" {
				return Result{Class: Retry, Status: 500}
			}
			return Result{Class: Done, Status: 200}
		})
		o.turn(ctx)
		w.want(w.took(), "matrix: a; matrix: b; matrix: c")
		if n := w.left(); n != 2 {
			t.Fatalf("%d rows are left, want 2", n)
		}
		w.answer(func([]store.Outbound) Result { return Result{Class: Done, Status: 200} })
		w.clock.advance(time.Hour)
		o.turn(ctx)
		w.want(w.took(), "matrix: c; matrix: d")
	})
}
