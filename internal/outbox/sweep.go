package outbox

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
)

// sweep finds lanes whose rows are to be given up, whatever their back-off says.
func (o *Outbox) sweep(ctx context.Context) {
	o.askAgain(ctx)
	o.failWaiting(ctx)
	now := o.clock.Now()
	before := store.Millis(now.Add(-o.cfg.GiveUp))
	lanes, err := o.cfg.Store.OldLanes(ctx, before, store.Millis(now.Add(-o.chance())), pollLanes)
	if err != nil {
		if ctx.Err() == nil {
			o.cfg.Log.Warn().Err(err).Msg("looking for rows to give up")
		}
		return
	}
	for _, l := range lanes {
		o.bury(ctx, l, before)
	}
}

// chance is for how long a lane must fail before rows are given up: what grew old while this process did not run is tried first.
func (o *Outbox) chance() time.Duration { return min(longAfter, o.cfg.GiveUp) }

// hadChance tells whether a lane fails for so long.
func (o *Outbox) hadChance(l store.LaneLease, now time.Time) bool {
	return l.Failures > 0 && store.Millis(now)-l.FailingSince >= o.chance().Milliseconds()
}

// failWaiting says of the lanes of destinations that do not answer that they fail: where there are more of them than probes
// (scheduler.failed), some are never tried.
func (o *Outbox) failWaiting(ctx context.Context) {
	for dests := range slices.Chunk(o.sched.away(), maxClosedDests) {
		for n := int64(failPart); n == failPart; {
			err := o.cfg.Store.Tx(ctx, func(tx *store.Tx) (err error) {
				n, err = tx.FailWaiting(ctx, store.Millis(o.clock.Now()), "not tried: the destination does not answer", failPart, dests...)
				return err
			})
			if err != nil {
				if ctx.Err() == nil {
					o.cfg.Log.Warn().Err(err).Msg("noting which lanes wait for destinations that do not answer")
				}
				return
			}
		}
	}
}

// askAgain sends rows again whose outcome should have been told.
func (o *Outbox) askAgain(ctx context.Context) {
	var lanes []store.Lane
	err := o.cfg.Store.Tx(ctx, func(tx *store.Tx) (err error) {
		lanes, err = tx.AskAgain(ctx, store.Millis(o.clock.Now().Add(-askAgain)), pollLanes)
		return err
	})
	if err != nil {
		if ctx.Err() == nil {
			o.cfg.Log.Warn().Err(err).Msg("looking for rows whose outcome was not told")
		}
		return
	}
	for _, l := range lanes {
		o.sched.add(l, false)
	}
}

// bury gives up the rows of a failing lane that are too old, without trying them, and leaves the lane's
// back-off as it is.
func (o *Outbox) bury(ctx context.Context, lane store.Lane, beforeMS int64) {
	var lease store.LaneLease
	err := o.cfg.Store.Tx(ctx, func(tx *store.Tx) (err error) {
		lease, err = tx.ClaimLane(ctx, lane, o.cfg.Owner+"/sweep", lifeMS, true)
		return err
	})
	if err != nil {
		if !errors.Is(err, store.ErrNotFound) {
			o.complain(err, lane, "claiming a lane to give up its rows")
		}
		return
	}
	defer func() {
		plain := context.WithoutCancel(ctx)
		if err := o.cfg.Store.Tx(plain, func(tx *store.Tx) error { return tx.DropLane(plain, lease) }); err != nil {
			o.complain(err, lane, "giving a lane back")
		}
	}()
	if !o.hadChance(lease, o.clock.Now()) {
		return // it works meanwhile
	}
	r := &run{lane: lane}
	for ctx.Err() == nil {
		head, err := o.cfg.Store.LaneRows(ctx, lane, 2*maxRows, maxBytes)
		if err != nil {
			o.complain(err, lane, "reading a lane to give up its rows")
			return
		}
		n := 0
		for rows := ready(head.Rows); n < len(rows) && rows[n].CreatedMS < beforeMS; {
			n++
		}
		if n == 0 {
			return
		}
		lease.Work = head.Work
		r.hold(holding{lease: lease, asked: o.clock.Now()})
		done := n == len(head.Rows) && !head.More
		if _, err := o.closed(ctx, r, head.Rows[:n], Result{Reason: "expired: it could not be delivered in time"}, store.OutcomeDead, done); err != nil {
			o.complain(err, lane, "giving up the rows of a lane")
			return
		}
		if done {
			return
		}
	}
}
