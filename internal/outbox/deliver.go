package outbox

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/matrix-mimi/bridge/internal/killpoint"
	"github.com/matrix-mimi/bridge/internal/store"
)

// fate is what became of a batch, for the lane.
type fate int

const (
	laneGoesOn fate = iota
	laneRests       // nothing is left
	laneFailed      // to be tried later
	batchSplit      // to be sent again one by one
)

// batch takes the rows of the next request from the head of a lane. A batch that was tried before is
// taken as it was; a row that was tried alone, or may have been, goes alone.
func (o *Outbox) batch(rows []store.Outbound, alone bool) []store.Outbound {
	join := o.cfg.Routes[kindOf(rows[0].Dest)].Join
	first := &rows[0]
	n := 1
	switch {
	case first.Batch != 0:
		for n < len(rows) && rows[n].Batch == first.Batch {
			n++
		}
	case alone || join == nil || first.Attempts > 0 || first.Broken || !join(*first):
	default:
		size := len(first.Data)
		for n < min(len(rows), maxRows) {
			x := &rows[n]
			size += len(x.Data)
			if size > maxBytes || x.Batch != 0 || x.Attempts > 0 || x.Broken || x.Verb != first.Verb || !join(*x) {
				break
			}
			n++
		}
	}
	return rows[:n]
}

// sideMatrix is the kind of destination that is the homeserver.
const sideMatrix = "matrix"

// deliver sends a batch and writes down what became of it; with goesOn, that it is done is written while the next is sent.
func (o *Outbox) deliver(ctx context.Context, r *run, batch []store.Outbound, last, goesOn bool) (fate, error) {
	first, final := batch[0], batch[len(batch)-1]
	now := o.clock.Now()
	lease := r.lease()
	if reason := o.hopeless(&first, lease, now); reason != "" {
		return o.closed(ctx, r, batch[:1], Result{Reason: reason}, store.OutcomeDead, last && len(batch) == 1)
	}
	if err := o.sure(ctx, r, first.Seq, final.Seq, len(batch) > 1 && first.Batch == 0); err != nil {
		return laneFailed, err
	}
	side := kindOf(first.Dest)
	if side == sideMatrix {
		killpoint.Hit("K20")
	} else {
		killpoint.Hit("K10")
	}
	res, panicked := o.send(ctx, batch)
	o.metrics.seconds.WithLabelValues(side, first.Verb).Observe(o.clock.Now().Sub(now).Seconds())
	if side == sideMatrix {
		killpoint.Hit("K21")
	} else {
		if first.Verb == "update" {
			killpoint.Hit("K25")
		}
		killpoint.Hit("K11")
	}
	if ctx.Err() != nil && res.Class == Retry {
		return laneFailed, ctx.Err() // the process stops or the lease is gone: nothing is known
	}
	if !panicked {
		o.judge(first.Dest, res)
	}
	if res.Class == Done && goesOn {
		return laneGoesOn, o.later(ctx, r, closings(batch, res, store.OutcomeDone))
	}
	if res.Class != Done {
		if err := o.settle(ctx, r); err != nil {
			return laneFailed, err
		}
	}
	switch {
	case res.Class == Done:
		return o.closed(ctx, r, batch, res, store.OutcomeDone, last)
	case res.Class == Taken:
		return o.closed(ctx, r, batch, res, store.OutcomeTaken, last)
	case res.Class == Refused && len(batch) > 1:
		err := o.cfg.Store.Tx(ctx, func(tx *store.Tx) error { return tx.SplitBatch(ctx, r.lease(), first.Seq, final.Seq, lifeMS) })
		return batchSplit, err
	case res.Class == Refused:
		return o.closed(ctx, r, batch, res, store.OutcomeRefused, last)
	case o.tried(&first):
		return o.closed(ctx, r, batch, res, store.OutcomeRefused, last)
	case panicked && first.Attempts+1 >= maxPanics:
		return o.closed(ctx, r, batch[:1], res, store.OutcomeDead, last && len(batch) == 1)
	}
	return laneFailed, o.failed(ctx, r, batch, res)
}

// tried tells whether a row that just failed had all its tries, where the route counts them.
func (o *Outbox) tried(row *store.Outbound) bool {
	waits := o.cfg.Routes[kindOf(row.Dest)].Waits
	return len(waits) > 0 && row.Attempts >= int64(len(waits))
}

// hopeless says why a row need not be tried, or "".
func (o *Outbox) hopeless(row *store.Outbound, lease store.LaneLease, now time.Time) string {
	switch {
	case row.Broken:
		return "broken: its bytes cannot be opened"
	case o.cfg.Routes[kindOf(row.Dest)].Sender == nil:
		return "unroutable: nothing serves this destination"
	case o.hadChance(lease, now) && store.Millis(now)-row.CreatedMS > o.cfg.GiveUp.Milliseconds():
		return "expired: it could not be delivered in time"
	}
	return ""
}

// sure makes certain, right before sending, that the lease is ours and that a new batch is frozen.
func (o *Outbox) sure(ctx context.Context, r *run, first, last int64, freeze bool) error {
	h, asked := r.holding(), o.clock.Now()
	if !freeze && asked.Sub(h.asked) <= store.LeaseTrust {
		return nil
	}
	err := o.cfg.Store.Tx(ctx, func(tx *store.Tx) error {
		if freeze {
			return tx.FreezeBatch(ctx, h.lease, first, last, lifeMS)
		}
		_, err := tx.RenewLane(ctx, h.lease, lifeMS)
		return err
	})
	if err != nil {
		return err
	}
	r.asked(asked)
	return nil
}

// send calls the sender and turns a panic into a failure.
func (o *Outbox) send(ctx context.Context, batch []store.Outbound) (res Result, panicked bool) {
	side := kindOf(batch[0].Dest)
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(o.cfg.Routes[side].Timeout, o.cfg.SendTimeout))
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			o.cfg.Log.Error().Stringer("room", batch[0].Room).Str("lane", batch[0].Dest).Int64("seq", batch[0].Seq).
				Str("err", fmt.Sprint(p)).Bytes("stack", debug.Stack()).Msg("sending panicked")
			res, panicked = Result{Class: Retry, Reason: "bug: sending panicked"}, true
			o.metrics.attempts.WithLabelValues(side, "panic").Inc()
			return
		}
		o.metrics.attempts.WithLabelValues(side, string(res.Class)).Inc()
	}()
	res = o.cfg.Routes[side].Sender.Send(ctx, batch)
	if res.Class != Done && res.Class != Refused && res.Class != Taken {
		res.Class = Retry
	}
	return res, false
}

// judge tells the scheduler how the destination does.
func (o *Outbox) judge(dest string, res Result) {
	now := o.clock.Now()
	switch {
	case res.Class != Retry:
		if o.sched.answered(dest) {
			o.Called(dest) // its other lanes need not wait for their own back-off
		}
	case res.RetryAfter > 0:
		o.sched.pause(dest, now, res.RetryAfter)
	case res.Status == 0 || res.Status >= 500:
		o.sched.failed(dest, now, 0)
	}
}

// closed ends a batch, with what was done before it.
func (o *Outbox) closed(ctx context.Context, r *run, batch []store.Outbound, res Result, class string, last bool) (fate, error) {
	if err := r.ahead.wait(); err != nil {
		return laneFailed, err
	}
	rows := append(r.ahead.rows, closings(batch, res, class)...)
	r.ahead.rows = nil
	if class == store.OutcomeDone && last && o.repeats(batch) {
		// Nothing waits for it but what comes next for the lane: mostly that comes with it.
		return o.write(ctx, r, rows, r.hurry, last)
	}
	return o.write(ctx, r, rows, nil, last)
}

// write ends rows in one transaction with whatever wants to know: at once, or, when hurry is not nil, with the next that comes or when it says so.
func (o *Outbox) write(ctx context.Context, r *run, rows []store.Closing, hurry <-chan struct{}, last bool) (fate, error) {
	final := &rows[len(rows)-1]
	matrix := kindOf(final.Row.Dest) == sideMatrix
	if matrix {
		killpoint.Hit("K22")
	} else {
		killpoint.Hit("K12")
	}
	var lease store.LaneLease
	var rests bool
	var rooms []store.RoomID
	asked := o.clock.Now()
	// What is known is written down also while the process stops.
	plain := context.WithoutCancel(ctx)
	tx := o.cfg.Store.Tx
	if hurry != nil {
		tx = func(ctx context.Context, fn func(*store.Tx) error) error { return o.cfg.Store.TxSoon(ctx, hurry, fn) }
	}
	err := tx(plain, func(tx *store.Tx) (err error) {
		lease, rests, rooms, err = tx.CloseOutbound(plain, r.lease(), rows, store.Millis(asked), lifeMS, last)
		if !matrix && err == nil {
			killpoint.Hit("K13")
		}
		return err
	})
	if err != nil {
		return laneFailed, err
	}
	if !matrix {
		killpoint.Hit("K14")
	}
	if final.Row.Verb == "notify" {
		killpoint.Hit("K34")
	}
	o.count(rows, asked)
	if len(rooms) > 0 && o.cfg.Wake != nil {
		o.cfg.Wake(rooms)
	}
	if !rests {
		r.hold(holding{lease: lease, asked: asked})
		return laneGoesOn, nil
	}
	r.hold(holding{})
	o.keepResting(r.lane, holding{lease: lease, asked: asked, rests: true, sent: final.Row.Seq})
	return laneRests, nil
}

// closings are rows with their outcome.
func closings(batch []store.Outbound, res Result, class string) []store.Closing {
	out := make([]store.Closing, len(batch))
	for i, row := range batch {
		row.Attempts++
		out[i] = store.Closing{Row: row, Outcome: store.Outcome{Class: class, Status: res.Status, Body: res.Body, EventID: res.EventID, AcceptedMS: res.AcceptedMS, Reason: res.Reason}}
	}
	return out
}

// keepResting keeps the lease of a lane that has nothing to send, unless it is that of a sweep.
func (o *Outbox) keepResting(lane store.Lane, h holding) {
	if h.lease.Owner != o.cfg.Owner {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.resting) < maxWaiting {
		o.resting[lane] = h
	}
}

// repeats tells whether it does no harm when the process dies before it is written down that rows are done, and nobody waits for
// their answer.
func (o *Outbox) repeats(batch []store.Outbound) bool {
	repeats := o.cfg.Routes[kindOf(batch[0].Dest)].Repeats
	return repeats != nil && !slices.ContainsFunc(batch, func(row store.Outbound) bool { return row.AnswerTo == store.AnswerInput || !repeats(row) })
}

func (o *Outbox) count(rows []store.Closing, now time.Time) {
	for i := range rows {
		row, out := &rows[i].Row, &rows[i].Outcome
		side := kindOf(row.Dest)
		if out.Class == store.OutcomeDone || out.Class == store.OutcomeTaken {
			o.metrics.delay.WithLabelValues(side).Observe(float64(store.Millis(now)-row.CreatedMS) / 1000)
			continue
		}
		reason := "refused"
		if out.Class == store.OutcomeDead {
			reason = firstWord(out.Reason)
		}
		if out.Class == store.OutcomeDead || !row.Answered() {
			o.metrics.dead.WithLabelValues(side, reason).Inc()
		}
		o.cfg.Log.Warn().Str("fate", out.Class).Stringer("room", row.Room).Str("lane", row.Dest).Int64("seq", row.Seq).Str("verb", row.Verb).
			Int64("attempt", row.Attempts).Int("status", out.Status).Str("err", out.Reason).Msg("not delivered")
	}
}

// failed notes the attempt and sets the lane aside for a while.
func (o *Outbox) failed(ctx context.Context, r *run, batch []store.Outbound, res Result) error {
	now := o.clock.Now()
	lease := r.lease()
	since := lease.FailingSince
	if since == 0 {
		since = store.Millis(now)
	}
	wait := backoff(o.cfg.First, o.cfg.Most, lease.Failures, time.Duration(store.Millis(now)-since)*time.Millisecond, res.RetryAfter, o.cfg.Rand())
	if waits := o.cfg.Routes[kindOf(batch[0].Dest)].Waits; batch[0].Attempts < int64(len(waits)) {
		wait = waits[batch[0].Attempts]
	}
	due := store.Millis(now.Add(wait))
	seqs := make([]int64, len(batch))
	for i := range batch {
		seqs[i] = batch[i].Seq
	}
	r.hold(holding{})
	plain := context.WithoutCancel(ctx)
	err := o.cfg.Store.Tx(plain, func(tx *store.Tx) error {
		if err := tx.FailLane(plain, lease, due, since, res.Reason); err != nil {
			return err
		}
		return tx.NoteAttempt(plain, r.lane, seqs, store.Millis(now))
	})
	o.cfg.Log.Info().Stringer("room", r.lane.Room).Str("lane", r.lane.Dest).Str("verb", batch[0].Verb).Int64("attempt", batch[0].Attempts+1).
		Int("status", res.Status).Dur("wait", wait).Str("err", res.Reason).Msg("will be tried again")
	return err
}
