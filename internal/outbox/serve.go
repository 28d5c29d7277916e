package outbox

import (
	"context"
	"errors"

	"github.com/matrix-mimi/bridge/internal/stack"
	"github.com/matrix-mimi/bridge/internal/store"
)

// serve works on a lane until it is empty, fails, or has had its turn.
func (o *Outbox) serve(ctx, sending context.Context, r *run) {
	stack.Deepen()
	more := false
	defer func() {
		o.sched.done(r, more)
		o.nudge()
	}()
	sending, cancel := context.WithCancel(sending)
	defer cancel()
	r.mu.Lock()
	r.cancel = cancel
	r.mu.Unlock()
	if err := o.claim(sending, r); err != nil {
		if !errors.Is(err, store.ErrNotFound) {
			o.complain(err, r.lane, "claiming a lane")
		}
		return
	}
	var err error
	more, err = o.work(ctx, sending, r)
	err = errors.Join(err, o.settle(sending, r))
	switch {
	case errors.Is(err, store.ErrLeaseLost):
		o.metrics.lost.WithLabelValues("lane").Inc()
		more = false
	case err != nil:
		// The lease is left to end by itself: whoever comes next knows then that it was unclean.
		o.complain(err, r.lane, "working on a lane")
		more = false
	}
}

func (o *Outbox) complain(err error, lane store.Lane, what string) {
	if errors.Is(err, context.Canceled) {
		return
	}
	o.cfg.Log.Warn().Err(err).Stringer("room", lane.Room).Str("lane", lane.Dest).Msg(what)
}

// claim takes up a resting lease, or asks for one.
func (o *Outbox) claim(ctx context.Context, r *run) error {
	now := o.clock.Now()
	o.mu.Lock()
	h, had := o.resting[r.lane]
	delete(o.resting, r.lane)
	o.mu.Unlock()
	if !had || now.Sub(h.asked) > store.LeaseTrust {
		h = holding{asked: now}
		err := o.cfg.Store.Tx(ctx, func(tx *store.Tx) (err error) {
			h.lease, err = tx.ClaimLane(ctx, r.lane, o.cfg.Owner, lifeMS, false)
			return err
		})
		if err != nil {
			return err
		}
	}
	r.hold(h)
	return nil
}

// work sends the lane's rows in order. It reports whether the lane has more to send and shall be put
// in line again.
func (o *Outbox) work(ctx, sending context.Context, r *run) (more bool, err error) {
	for sent := 0; ; {
		if ctx.Err() != nil || sent >= turnRows {
			return true, o.drop(sending, r)
		}
		head, err := o.head(sending, r)
		if err != nil {
			return false, err
		}
		rows := ready(head.Rows)
		behind := head.More || len(rows) < len(head.Rows)
		if len(rows) == 0 {
			rests, err := o.rest(sending, r, head)
			if err != nil || rests {
				return false, err
			}
			continue
		}
		lease := r.read(head.Work)
		if lease.Unclean && sent == 0 {
			if err := o.doubt(sending, r, rows); err != nil {
				return false, err
			}
		}
		for len(rows) > 0 {
			if ctx.Err() != nil {
				if err := o.settle(sending, r); err != nil {
					return false, err
				}
				return true, o.drop(sending, r)
			}
			unclean := lease.Unclean && sent == 0
			batch := o.batch(rows, unclean)
			for i := range batch {
				batch[i].Repeated = unclean || batch[i].Attempts > 0
			}
			rows = rows[len(batch):]
			last := len(rows) == 0 && !behind
			fate, err := o.deliver(sending, r, batch, last, o.goesOn(batch, rows))
			if err != nil {
				return false, err
			}
			sent += len(batch)
			switch fate {
			case laneFailed:
				return false, nil
			case laneRests:
				if !o.sched.woken(r) {
					return false, nil
				}
				if err := o.claim(sending, r); err != nil { // more came with the rest
					return false, ignoreNotFound(err)
				}
			case batchSplit:
				rows = nil // read again: the rows say now that they go alone
			}
		}
	}
}

func ignoreNotFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// head returns the beginning of a lane: what was handed over, once, or what is stored.
func (o *Outbox) head(ctx context.Context, r *run) (store.LaneHead, error) {
	r.mu.Lock()
	h := r.held
	r.held.rests = false
	r.mu.Unlock()
	if h.rests {
		if rows := o.handedOver(r.lane, h.sent); rows != nil {
			// One addition to a lane at rest. Whatever else was added shows when these rows are closed, and comes after them.
			return store.LaneHead{Rows: rows, Work: h.lease.Work + 1}, nil
		}
	}
	o.sched.woken(r)
	return o.cfg.Store.LaneRows(ctx, r.lane, 2*maxRows, maxBytes+64<<10)
}

// ready is the part of a lane's head before the first row that is held.
func ready(rows []store.Outbound) []store.Outbound {
	for i := range rows {
		if rows[i].State == store.OutboundHeld {
			return rows[:i]
		}
	}
	return rows
}

// drop gives the lease back in good order.
func (o *Outbox) drop(ctx context.Context, r *run) error {
	l := r.lease()
	r.hold(holding{})
	return o.cfg.Store.Tx(ctx, func(tx *store.Tx) error { return tx.DropLane(ctx, l) })
}

// rest says that there is nothing to send now. False means that something came meanwhile.
func (o *Outbox) rest(ctx context.Context, r *run, head store.LaneHead) (rests bool, err error) {
	l := r.lease()
	if len(head.Rows) > 0 {
		l.Work = head.Work // the row at the head is held: when it is released, the work grows
	}
	asked := o.clock.Now()
	err = o.cfg.Store.Tx(ctx, func(tx *store.Tx) (err error) {
		if rests, err = tx.RestLane(ctx, l, false); err != nil || rests {
			return err
		}
		l, err = tx.RenewLane(ctx, l, lifeMS)
		return err
	})
	if err != nil {
		return false, err
	}
	if rests {
		r.hold(holding{})
		return true, nil
	}
	r.hold(holding{lease: l, asked: asked})
	return false, nil
}
