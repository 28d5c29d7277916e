package outbox

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
)

func TestALaneIsSentInOrderAndEmptied(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(), w.room()
		w.put(&room, "matrix", "send", "a b c")
		o.turn(ctx)
		w.want(w.took(), "matrix: a; matrix: b; matrix: c")
		o.turn(ctx)
		w.want(w.took(), "")
		w.put(&room, "matrix", "send", "d")
		o.turn(ctx)
		w.want(w.took(), "matrix: d")
		if n := w.left(); n != 0 {
			t.Fatalf("%d rows are left", n)
		}
	})
}

func TestNotifiesShareARequestUpToTheBounds(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(), w.room()
		w.put(&room, "mimi:a", "update", "u")
		w.put(&room, "mimi:a", "notify", numbers(60))
		w.put(&room, "mimi:a", "update", "v")
		o.turn(ctx)
		got := strings.Split(w.took(), "; ")
		if len(got) != 4 || got[0] != "mimi:a: u" || strings.Count(got[1], "+") != 49 || strings.Count(got[2], "+") != 9 || got[3] != "mimi:a: v" {
			t.Fatalf("the requests were %q", got)
		}
		big := strings.Repeat("x", 600<<10)
		w.put(&room, "mimi:a", "notify", big+" "+big)
		o.turn(ctx)
		if got := w.took(); strings.Contains(got, "+") {
			t.Fatal("1.2 MiB went in one request")
		}
	})
}

// A lost answer resends the same bytes; nothing overtakes.
func TestALostAnswerSendsTheSameBytesAgain(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(), w.room()
		w.answer(func([]store.Outbound) Result { return Result{Class: Retry, Reason: "timeout"} })
		w.put(&room, "mimi:a", "notify", "a b")
		o.turn(ctx)
		w.want(w.took(), "mimi:a: a+b")
		w.put(&room, "mimi:a", "notify", "c")
		o.turn(ctx)
		w.want(w.took(), "") // it waits
		w.clock.advance(5 * time.Second)
		o.turn(ctx)
		w.want(w.took(), "mimi:a: a+b") // not a+b+c: these are other bytes
		w.answer(func([]store.Outbound) Result { return Result{Class: Done} })
		w.clock.advance(10 * time.Second)
		o.turn(ctx)
		w.want(w.took(), "mimi:a: a+b; mimi:a: c")

		w.answer(func([]store.Outbound) Result { return Result{Class: Retry} })
		w.put(&room, "mimi:a", "notify", "d")
		o.turn(ctx)
		w.put(&room, "mimi:a", "notify", "e f")
		w.took()
		w.answer(func([]store.Outbound) Result { return Result{Class: Done} })
		w.clock.advance(5 * time.Second)
		o.turn(ctx)
		w.want(w.took(), "mimi:a: d; mimi:a: e+f")
	})
}

// After five days a row is a dead letter, and who asked for the outcome is told.
func TestWhatCannotBeDeliveredIsGivenUp(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		var woken []store.RoomID
		o, room := w.outbox(func(c *Config) { c.Wake = func(r []store.RoomID) { woken = append(woken, r...) } }), w.room()
		w.answer(func([]store.Outbound) Result { return Result{Class: Retry, Reason: "down"} })
		w.put(&room, "mimi:a", "submitMessage", "a", func(o *store.Outbound) { o.AnswerTo, o.AnswerRef, o.AnswerSeq = store.AnswerInput, "ref", 77 })
		w.put(&room, "mimi:a", "submitMessage", "b")
		o.turn(ctx)
		w.clock.advance(5*24*time.Hour + time.Minute)
		w.put(&room, "mimi:a", "submitMessage", "young")
		w.took()
		o.sweep(ctx)
		w.want(w.took(), "") // not tried again
		if n := w.left(); n != 1 {
			t.Fatalf("%d rows are left", n)
		}
		letters, err := w.db.DeadLetters(ctx, 10)
		if err != nil || len(letters) != 2 || !strings.HasPrefix(letters[0].Reason, "expired") {
			t.Fatalf("dead letters: %+v, %v", letters, err)
		}
		box, err := w.db.Inbox(ctx, room.ID, 1<<60, 10)
		if err != nil || len(box.Inputs) != 1 || len(woken) != 1 || woken[0] != room.ID {
			t.Fatalf("inputs: %+v, woken %v, %v", box, woken, err)
		}
		var a store.Answer
		if err := json.Unmarshal(box.Inputs[0].Body, &a); err != nil || a.Class != store.OutcomeDead || a.Ref != "ref" || a.For != 77 || box.Inputs[0].Kind != store.InputAnswer {
			t.Fatalf("the answer is %+v, %v", a, err)
		}
		// The lane goes on with what is young, in its own time, and can be revived by hand.
		w.answer(func([]store.Outbound) Result { return Result{Class: Done} })
		o.turn(ctx)
		w.want(w.took(), "mimi:a: young")
		w.tx(func(tx *store.Tx) error {
			_, err := tx.RetryDeadLetter(ctx, store.Lane{Room: room.ID, Dest: "mimi:a"}, letters[0].Seq, store.Millis(w.clock.Now()))
			return err
		})
		o.turn(ctx)
		if got := w.took(); got != "mimi:a: a" && got != "mimi:a: b" {
			t.Fatalf("the revived letter: %q", got)
		}
	})
}

func TestARefusedRowDoesNotStopItsLane(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(), w.room()
		w.answer(func(rows []store.Outbound) Result {
			for _, r := range rows {
				if string(r.Data) == "poison" {
					return Result{Class: Refused, Status: 400, Reason: "malformed", Body: []byte("no")}
				}
			}
			return Result{Class: Done, Status: 201}
		})
		w.put(&room, "mimi:a", "notify", "a poison b")
		w.put(&room, "mimi:a", "update", "poison", func(o *store.Outbound) { o.AnswerTo = store.AnswerInput })
		w.put(&room, "mimi:a", "notify", "c")
		o.turn(ctx)
		// Refused together, sent one by one.
		w.want(w.took(), "mimi:a: a+poison+b; mimi:a: a; mimi:a: poison; mimi:a: b; mimi:a: poison; mimi:a: c")
		letters, err := w.db.DeadLetters(ctx, 10)
		if err != nil || len(letters) != 1 || letters[0].Verb != "notify" {
			t.Fatalf("dead letters: %+v, %v", letters, err) // the other one's sender is told
		}
		box, err := w.db.Inbox(ctx, room.ID, 1<<60, 10)
		if err != nil || len(box.Inputs) != 1 || !strings.Contains(string(box.Inputs[0].Body), `"class":"refused","status":400`) {
			t.Fatalf("inputs: %+v, %v", box.Inputs, err)
		}
	})
}

func TestARowThatPanicsIsSetAside(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(), w.room()
		w.answer(func(rows []store.Outbound) Result {
			if string(rows[0].Data) == "poison" {
				panic("poison")
			}
			return Result{Class: Done}
		})
		w.put(&room, "matrix", "send", "poison a")
		for range 4 {
			o.turn(ctx)
			w.clock.advance(time.Minute)
		}
		w.want(w.took(), "matrix: poison; matrix: poison; matrix: poison; matrix: a")
		if letters, err := w.db.DeadLetters(ctx, 10); err != nil || len(letters) != 1 || letters[0].Attempts != 3 {
			t.Fatalf("dead letters: %+v, %v", letters, err)
		}
	})
}

func TestABrokenRowAndAnUnknownDestinationDoNotStopALane(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(), w.room()
		w.put(&room, "matrix", "send", "a b")
		w.put(&room, "pigeon:x", "send", "c")
		if _, err := w.db.Side().Exec(`UPDATE outbound SET sealed_data = (SELECT sealed_data FROM outbound WHERE seq = 2) WHERE seq = 1`); err != nil {
			t.Fatal(err)
		}
		o.turn(ctx)
		w.want(w.took(), "matrix: b")
		if letters, err := w.db.DeadLetters(ctx, 10); err != nil || len(letters) != 2 {
			t.Fatalf("dead letters: %+v, %v", letters, err)
		}
	})
}

func TestHeldRowsWaitAndHoldTheLane(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(), w.room()
		w.put(&room, "matrix", "create_room", "create")
		w.put(&room, "matrix", "send", "a", func(o *store.Outbound) { o.State = store.OutboundHeld })
		w.put(&room, "matrix", "send", "b")
		o.turn(ctx)
		w.want(w.took(), "matrix: create")
		o.WakeLanes(w.put(&room, "matrix", "send", "c")...)
		o.turn(ctx)
		w.want(w.took(), "")
		w.tx(func(tx *store.Tx) error {
			lanes, err := tx.ReleaseHeld(ctx, room.ID)
			if len(lanes) != 1 {
				t.Errorf("lanes to wake: %v", lanes)
			}
			return err
		})
		o.turn(ctx)
		w.want(w.took(), "matrix: a; matrix: b; matrix: c")
	})
}

// One body for many followers is stored once and goes with the last of them.
func TestSharedBodies(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(), w.room()
		seq := room.NextSeq
		room.NextSeq++
		w.tx(func(tx *store.Tx) error { return tx.PutBody(ctx, room.ID, seq, []byte("shared"), 1) })
		share := func(o *store.Outbound) { o.Body, o.Data = seq, nil }
		for _, d := range []string{"mimi:a", "mimi:b"} {
			w.put(&room, d, "notify", "x", share)
		}
		w.answer(func(rows []store.Outbound) Result {
			if rows[0].Dest == "mimi:b" {
				return Result{Class: Retry}
			}
			return Result{Class: Done}
		})
		bodies := func() (n int) {
			if err := w.db.Side().QueryRow(`SELECT COUNT(*) FROM body`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		o.turn(ctx)
		if bodies() != 1 {
			t.Fatal("the body is gone before its last row")
		}
		w.answer(func([]store.Outbound) Result { return Result{Class: Done} })
		w.took()
		w.clock.advance(time.Minute)
		o.turn(ctx)
		w.want(w.took(), "mimi:b: shared")
		if bodies() != 0 {
			t.Fatal("the body stayed behind")
		}
	})
}

func TestAnswersToLinks(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(), w.room()
		w.tx(func(tx *store.Tx) error {
			return tx.AddLinks(ctx, store.Link{Room: room.ID, Seq: 100, MIMIID: []byte{1}, Direction: store.In, Kind: "message"},
				store.Link{Room: room.ID, Seq: 101, MIMIID: []byte{2}, Direction: store.In, Kind: "message"})
		})
		w.put(&room, "matrix", "send", "a", func(o *store.Outbound) { o.AnswerTo, o.AnswerSeq = store.AnswerLink, 100 })
		w.put(&room, "matrix", "send", "b", func(o *store.Outbound) { o.AnswerTo, o.AnswerSeq = store.AnswerLink, 101 })
		w.answer(func(rows []store.Outbound) Result {
			if string(rows[0].Data) == "b" {
				return Result{Class: Refused, Status: 403}
			}
			return Result{Class: Done, EventID: "$new", AcceptedMS: 42}
		})
		o.turn(ctx)
		l, err := w.db.LinkByEvent(ctx, room.ID, "$new")
		if err != nil || l.Seq != 100 || l.State != store.LinkSent || l.AcceptedMS != 42 {
			t.Fatalf("the link is %+v, %v", l, err)
		}
		if l, err = w.db.LinkBySeq(ctx, room.ID, 101); err != nil || l.State != store.LinkFailed || l.EventID != "" {
			t.Fatalf("the refused one is %+v, %v", l, err)
		}
		if box, err := w.db.Inbox(ctx, room.ID, 1<<60, 5); err != nil || len(box.Inputs) != 1 {
			t.Fatalf("the room learns of the failure: %+v, %v", box.Inputs, err)
		}
	})
}

// What is stored while the lane's last known rows are sent is neither forgotten nor late.
func TestWhatComesMeanwhileIsSent(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(), w.room()
		w.answer(func(rows []store.Outbound) Result {
			switch string(rows[0].Data) {
			case "a":
				w.put(&room, "matrix", "send", "c")
			case "c":
				w.put(&room, "matrix", "send", "d")
			}
			return Result{Class: Done}
		})
		w.put(&room, "matrix", "send", "a b")
		o.turn(ctx)
		w.want(w.took(), "matrix: a; matrix: b; matrix: c; matrix: d")
	})
}

// A lane that was woken before its rows were read is not worked on once more: its lease would be given back for nothing.
func TestAWakeThatWasSeenIsNotRepeated(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(), w.room()
		w.answer(func(rows []store.Outbound) Result {
			if string(rows[0].Data) == "a" {
				o.WakeLanes(w.put(&room, "matrix", "send", "b")...)
			}
			return Result{Class: Done}
		})
		w.put(&room, "matrix", "send", "a")
		o.turn(ctx)
		w.want(w.took(), "matrix: a; matrix: b")
		var owner string
		if err := w.db.Side().QueryRow(`SELECT owner FROM lane`).Scan(&owner); err != nil {
			t.Fatal(err)
		}
		if owner != o.Owner() {
			t.Fatalf("the lane is held by %q, want %q", owner, o.Owner())
		}
	})
}

// What was added to a lane at rest is sent as it was handed over, unless that is long ago: then it is read.
func TestALaneAtRestIsNotRead(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(), w.room()
		w.put(&room, "matrix", "send", "a")
		o.turn(ctx)
		w.want(w.took(), "matrix: a")
		late := w.put(&room, "matrix", "send", "b c")
		o.turn(ctx)
		w.want(w.took(), "matrix: b; matrix: c")
		o.WakeLanes(late...) // they were read and sent
		o.turn(ctx)
		w.want(w.took(), "")
		for _, wait := range []time.Duration{0, 2 * handedLife} {
			w.put(&room, "matrix", "send", "x")
			o.turn(ctx)
			w.want(w.took(), "matrix: x")
			o.WakeLanes(w.put(&room, "matrix", "send", "d e")...)
			w.put(&room, "matrix", "send", "f") // without a hint
			w.tx(func(tx *store.Tx) error {
				return tx.DropOutbound(ctx, store.Lane{Room: room.ID, Dest: "matrix"}, room.NextSeq-2)
			})
			w.clock.advance(wait)
			o.turn(ctx)
			if wait == 0 {
				w.want(w.took(), "matrix: d; matrix: e; matrix: f")
			} else {
				w.want(w.took(), "matrix: d; matrix: f") // as it is stored
			}
		}
		if n := w.left(); n != 0 {
			t.Fatalf("%d rows are left", n)
		}
	})
}

// That a row is done may be written down later only where its request may be made again, and nobody waits for its answer.
func TestOnlyWhatMayBeRepeatedWaits(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o := w.outbox(func(c *Config) {
			r := c.Routes["mimi"]
			r.Repeats = func(row store.Outbound) bool { return row.Verb == "notify" }
			c.Routes["mimi"] = r
		})
		row := func(dest, verb string, to store.AnswerTo) store.Outbound {
			return store.Outbound{Dest: dest, Verb: verb, AnswerTo: to}
		}
		good := row("mimi:a", "notify", store.AnswerLink)
		for _, c := range []struct {
			batch []store.Outbound
			want  bool
		}{
			{[]store.Outbound{good}, true},
			{[]store.Outbound{good, row("mimi:a", "notify", store.AnswerNone)}, true},
			{[]store.Outbound{good, row("mimi:a", "notify", store.AnswerInput)}, false},
			{[]store.Outbound{good, row("mimi:a", "update", store.AnswerNone)}, false},
			{[]store.Outbound{row("matrix", "notify", store.AnswerNone)}, false},
		} {
			if got := o.repeats(c.batch); got != c.want {
				t.Errorf("%v may be repeated: %v", c.batch, got)
			}
		}
		room := w.room()
		w.put(&room, "mimi:a", "notify", "a b")
		o.turn(ctx)
		w.want(w.took(), "mimi:a: a+b")
		if n := w.left(); n != 0 {
			t.Fatalf("%d rows are left", n)
		}
	})
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Fatal("an outbox without a store")
	}
	if _, err := New(Config{Store: &store.DB{}, Routes: map[string]Route{"x": {}}}); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a route without a sender: %v", err)
	}
}
