package outbox

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

// receiver is the other side of all lanes: it drops exact repeats of a request, as followers and
// homeservers do, and keeps what is new in order.
type receiver struct {
	mu      sync.Mutex
	seen    map[string]bool
	got     map[string][]string // by lane
	repeats int
	busy    map[string]int
	overlap bool
}

func newReceiver() *receiver {
	return &receiver{seen: map[string]bool{}, got: map[string][]string{}, busy: map[string]int{}}
}

func (v *receiver) take(rows []store.Outbound) {
	lane := rows[0].Room.String() + rows[0].Dest
	var parts []string
	for _, r := range rows {
		parts = append(parts, string(r.Data))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	request := lane + "=" + strings.Join(parts, "+")
	if v.seen[request] {
		v.repeats++
		return
	}
	v.seen[request] = true
	v.got[lane] = append(v.got[lane], parts...)
}

// enter and leave notice two requests of one lane at the same time.
func (v *receiver) enter(lane string, by int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.busy[lane] += by
	v.overlap = v.overlap || v.busy[lane] > 1
}

// Whatever dies when, nothing is lost, nothing is doubled beyond exact repeats, nothing overtakes.
func TestCrashesLoseAndDoubleNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		w := newWorld(t, cfg)
		rapid.Check(t, func(rt *rapid.T) {
			v := newReceiver()
			rooms := []store.Room{w.room(), w.room()}
			want := map[string][]string{}
			life := 0
			var o *Outbox
			var die context.CancelFunc
			var living context.Context
			birth := func() {
				life++
				o = w.outbox(func(c *Config) { c.Owner = fmt.Sprint("life ", life, " of ", rooms[0].ID) })
				living, die = context.WithCancel(ctx)
			}
			birth()
			fate := func() int { return rapid.IntRange(0, 5).Draw(rt, "fate") }
			w.answer(func(rows []store.Outbound) Result {
				switch fate() {
				case 0: // killed before the request was sent
					die()
					return Result{Class: Retry}
				case 1: // killed before the answer was read
					v.take(rows)
					die()
					return Result{Class: Retry}
				case 2: // the answer is lost
					v.take(rows)
					return Result{Class: Retry}
				case 3:
					return Result{Class: Retry, Status: 503}
				}
				v.take(rows)
				return Result{Class: Done}
			})
			n := 0
			put := func() {
				r := &rooms[rapid.IntRange(0, 1).Draw(rt, "room")]
				dest := rapid.SampledFrom([]string{"matrix", "mimi:a"}).Draw(rt, "dest")
				verb := rapid.SampledFrom([]string{"notify", "notify", "send"}).Draw(rt, "verb")
				for range rapid.IntRange(1, 4).Draw(rt, "rows") {
					n++
					d := fmt.Sprint(n)
					w.put(r, dest, verb, d)
					want[r.ID.String()+dest] = append(want[r.ID.String()+dest], d)
				}
			}
			turn := func() {
				o.turn(living)
				if living.Err() != nil {
					if rapid.Bool().Draw(rt, "stopped, not killed") {
						if err := o.giveBack(ctx); err != nil {
							rt.Fatal(err)
						}
					}
					if rapid.Bool().Draw(rt, "long dead") {
						w.clock.advance(store.LeaseLife)
					}
					birth()
				}
				w.clock.advance(time.Duration(rapid.IntRange(0, 20).Draw(rt, "pause")) * time.Second)
			}
			for range rapid.IntRange(1, 8).Draw(rt, "events") {
				if rapid.Bool().Draw(rt, "put") {
					put()
				} else {
					turn()
				}
			}
			fate = func() int { return 5 }
			for range 4 {
				w.clock.advance(2 * time.Hour)
				o.turn(living)
			}
			if n := w.left(); n != 0 {
				rt.Fatalf("%d rows are left", n)
			}
			for lane, rows := range want {
				if !slices.Equal(v.got[lane], rows) {
					rt.Fatalf("lane %s got %v, want %v", lane, v.got[lane], rows)
				}
			}
			w.took()
		})
	})
}

// A zombie that comes back after its lease was taken marks nothing.
func TestAZombieChangesNothing(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		one, two, room := w.outbox(), w.outbox(), w.room()
		w.put(&room, "matrix", "send", "a", func(o *store.Outbound) { o.AnswerTo = store.AnswerInput })
		zombie := true
		w.answer(func(rows []store.Outbound) Result {
			if zombie {
				zombie = false
				w.clock.advance(store.LeaseLife) // it sleeps in the middle of the request
				two.turn(ctx)
				return Result{Class: Refused, Status: 400, Reason: "a late and wrong answer"}
			}
			return Result{Class: Done, Status: 200}
		})
		one.turn(ctx)
		w.want(w.took(), "matrix: a; matrix: a")
		box, err := w.db.Inbox(ctx, room.ID, 1<<60, 5)
		if err != nil || len(box.Inputs) != 1 || !strings.Contains(string(box.Inputs[0].Body), `"class":"done"`) {
			t.Fatalf("inputs %+v, %v", box.Inputs, err)
		}
	})
}

// A request that the stop cut off may have arrived: its row goes alone again, as it did.
func TestARequestCutByTheStopIsRepeatedAsItWas(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(), w.room()
		living, die := context.WithCancel(ctx)
		w.answer(func([]store.Outbound) Result {
			die()
			return Result{Class: Retry}
		})
		w.put(&room, "mimi:a", "notify", "a")
		o.turn(living)
		if err := o.giveBack(ctx); err != nil {
			t.Fatal(err)
		}
		w.put(&room, "mimi:a", "notify", "b c")
		w.answer(func([]store.Outbound) Result { return Result{Class: Done} })
		w.took()
		w.outbox().turn(ctx)
		w.want(w.took(), "mimi:a: a; mimi:a: b+c")
	})
}

// A sender is told when an earlier try may have arrived: after a failure, and after the lane's last holder died.
func TestASenderIsToldOfARepetition(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.room()
		var told []bool
		class := Retry
		w.answer(func(rows []store.Outbound) Result {
			told = append(told, rows[0].Repeated)
			return Result{Class: class}
		})
		w.put(&room, "matrix", "send", "a")
		o := w.outbox()
		o.turn(ctx)
		class = Done
		w.clock.advance(time.Hour)
		o.turn(ctx)
		w.put(&room, "matrix", "send", "b")
		o.turn(ctx)
		if !slices.Equal(told, []bool{false, true, false}) {
			t.Errorf("after a failure: %v", told)
		}

		told = nil
		living, die := context.WithCancel(ctx)
		w.put(&room, "matrix", "send", "c")
		w.put(&room, "matrix", "send", "d")
		w.answer(func(rows []store.Outbound) Result {
			told = append(told, rows[0].Repeated)
			die()
			return Result{Class: Retry}
		})
		o.turn(living) // dies in the middle
		w.answer(func(rows []store.Outbound) Result {
			told = append(told, rows[0].Repeated)
			return Result{Class: Done}
		})
		w.clock.advance(store.LeaseLife)
		w.outbox().turn(ctx)
		if !slices.Equal(told, []bool{false, true, false}) {
			t.Errorf("after a death: %v", told)
		}
		w.took()
	})
}

// Two processes on one database: every row is sent once, in order, never two of a lane at a time.
func TestTwoOutboxesShareTheLanes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		const lanes, rows = 12, 25
		db := storetest.Open(t, cfg)
		v := newReceiver()
		all := make(chan struct{})
		left := lanes * rows
		sender := SenderFunc(func(_ context.Context, batch []store.Outbound) Result {
			lane := batch[0].Room.String() + batch[0].Dest
			v.enter(lane, 1)
			v.take(batch)
			v.enter(lane, -1)
			v.mu.Lock()
			defer v.mu.Unlock()
			if left -= len(batch); left == 0 {
				close(all)
			}
			return Result{Class: Done}
		})
		running, stop := context.WithCancel(ctx)
		var ended sync.WaitGroup
		var boxes []*Outbox
		for range 2 {
			o, err := New(Config{Store: db, Routes: map[string]Route{"matrix": {Sender: sender, First: 8, Most: 8}, "mimi": {Sender: sender, Join: func(store.Outbound) bool { return true }}}})
			if err != nil {
				t.Fatal(err)
			}
			boxes = append(boxes, o)
			ended.Go(func() {
				if err := o.Run(running); err != nil {
					t.Error(err)
				}
			})
		}
		var writers sync.WaitGroup
		for l := range lanes {
			writers.Go(func() {
				room := storetest.Room(t, db)
				dest := []string{"matrix", "mimi:a", "mimi:b"}[l%3]
				for i := range rows {
					var wake []store.Woken
					err := db.Tx(ctx, func(tx *store.Tx) error {
						next := room
						next.NextSeq++
						next, err := tx.StepRoom(ctx, next, store.Settle{})
						if err != nil {
							return err
						}
						wake, err = tx.AddOutbound(ctx, []store.Outbound{{Room: room.ID, Dest: dest, Seq: room.NextSeq, Verb: "notify", Data: []byte(fmt.Sprint(i)), CreatedMS: 1}})
						if err == nil {
							room = next
						}
						return err
					})
					if err != nil {
						t.Error(err)
						return
					}
					if i%3 != 0 { // some hints get lost, some go to both
						boxes[i%2].WakeLanes(wake...)
					}
					if i%5 == 0 {
						boxes[0].WakeLanes(wake...)
						boxes[1].WakeLanes(wake...)
					}
				}
			})
		}
		writers.Wait()
		select {
		case <-all:
		case <-time.After(2 * time.Minute):
			t.Error("not everything was sent")
		}
		stop()
		ended.Wait()
		if v.overlap {
			t.Error("two requests of one lane were under way at once")
		}
		if v.repeats != 0 {
			t.Errorf("%d requests were sent twice", v.repeats)
		}
		for lane, got := range v.got {
			for i, d := range got {
				if d != fmt.Sprint(i) {
					t.Fatalf("lane %s: %v", lane, got)
				}
			}
			if len(got) != rows {
				t.Errorf("lane %s got %d rows", lane, len(got))
			}
		}
		due, err := db.DueLanes(ctx, "nobody", 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range due { // the stop may come before it is looked whether there is more
			if head, err := db.LaneRows(ctx, l, 1, 1); err != nil || len(head.Rows) != 0 {
				t.Fatalf("%s has rows after the stop: %v, %v", l.Dest, head.Rows, err)
			}
		}
		if g, err := db.Gauges(ctx); err != nil || g.LanesClaimed != 0 {
			t.Fatalf("%d leases are still held after the stop, %v", g.LanesClaimed, err)
		}
	})
}

// The stop waits for what is under way, and the answer that comes then is written down.
func TestTheStopLosesNoAnswer(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(func(c *Config) { c.Clock = SystemClock{} }), w.room()
		running, stop := context.WithCancel(ctx)
		begun, release := make(chan struct{}), make(chan struct{})
		w.answer(func([]store.Outbound) Result {
			close(begun)
			<-release
			return Result{Class: Done}
		})
		w.put(&room, "matrix", "send", "a b")
		ended := make(chan error)
		go func() { ended <- o.Run(running) }()
		o.WakeLanes(store.Woken{Lane: store.Lane{Room: room.ID, Dest: "matrix"}})
		<-begun
		stop()
		close(release)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		w.want(w.took(), "matrix: a") // b is for the next process
		if n := w.left(); n != 1 {
			t.Fatalf("%d rows are left", n)
		}
		if g, err := w.db.Gauges(ctx); err != nil || g.LanesClaimed != 0 {
			t.Fatalf("%d leases are held, %v", g.LanesClaimed, err)
		}
	})
}

// A lane at rest was left with nothing under way, however long ago and whoever held it: what comes then is no repetition.
func TestWhatComesAfterARestIsNoRepetition(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.room()
		var told []bool
		w.answer(func(rows []store.Outbound) Result {
			told = append(told, rows[0].Repeated)
			return Result{Class: Done}
		})
		o := w.outbox(repeating)
		w.put(&room, "matrix", "send", "a")
		o.turn(ctx)
		w.clock.advance(store.LeaseLife) // its lease ended
		w.put(&room, "matrix", "send", "b c")
		o.turn(ctx)
		if err := o.giveBack(ctx); err != nil { // it stops
			t.Fatal(err)
		}
		w.put(&room, "matrix", "send", "d e")
		o = w.outbox(repeating)
		o.turn(ctx)
		w.clock.advance(store.LeaseLife) // it died at rest
		w.put(&room, "matrix", "send", "f g")
		w.outbox(repeating).turn(ctx)
		if slices.Contains(told, true) || len(told) != 7 {
			t.Errorf("sent as repetitions: %v", told)
		}
	})
}
