package outbox

import (
	"context"

	"github.com/matrix-mimi/bridge/internal/store"
)

// maxAhead bounds the rows of a lane that are done while it is not written down yet. A process that dies leaves so many to be sent again.
const maxAhead = 16

// ahead are the rows of a lane that are done while the next are sent. It is used by whoever works on the lane, and by nobody else.
type ahead struct {
	rows    []store.Closing // of which nothing is being written
	writing *written        // nil when nothing is
}

// written is rows on their way into the database.
type written struct {
	rows  int
	hurry chan struct{} // closed when somebody waits
	done  chan error
}

// goesOn tells whether the next row may be sent before it is written down that a batch is done: when both may be sent again, one by one.
func (o *Outbox) goesOn(batch, next []store.Outbound) bool {
	return len(next) > 0 && o.sendsAhead(batch) && o.sendsAhead(next[:1])
}

func (o *Outbox) sendsAhead(batch []store.Outbound) bool {
	return o.cfg.Routes[kindOf(batch[0].Dest)].Join == nil && o.repeats(batch)
}

// doubt notes that rows at the head of a lane may have been sent by a holder that did not give it back.
func (o *Outbox) doubt(ctx context.Context, r *run, rows []store.Outbound) error {
	n := 0
	for n < min(len(rows), maxAhead+1) && o.sendsAhead(rows[n:n+1]) {
		n++
	}
	if n < 2 {
		return nil // of the first the lane itself says so
	}
	now := store.Millis(o.clock.Now())
	var seqs []int64
	for i := range rows[:n] {
		if rows[i].Attempts == 0 { // once suffices, and attempts are counted for other ends, too
			rows[i].Attempts++
			seqs = append(seqs, rows[i].Seq)
		}
	}
	return o.cfg.Store.Tx(ctx, func(tx *store.Tx) error { return tx.NoteAttempt(ctx, r.lane, seqs, now) })
}

// later notes that a batch is done, and writes it down while the lane goes on.
func (o *Outbox) later(ctx context.Context, r *run, done []store.Closing) error {
	a := &r.ahead
	a.rows = append(a.rows, done...)
	if w := a.writing; w != nil {
		select {
		case err := <-w.done:
			a.writing = nil
			if err != nil {
				return err
			}
		default:
			if len(a.rows)+w.rows < maxAhead {
				return nil
			}
			if err := a.wait(); err != nil {
				return err
			}
		}
	}
	w := &written{rows: len(a.rows), hurry: make(chan struct{}), done: make(chan error, 1)}
	rows := a.rows
	a.rows, a.writing = nil, w
	go func() {
		_, err := o.write(ctx, r, rows, w.hurry, false)
		w.done <- err
	}()
	return nil
}

// wait waits for what is being written.
func (a *ahead) wait() error {
	w := a.writing
	if w == nil {
		return nil
	}
	a.writing = nil
	close(w.hurry)
	return <-w.done
}

// settle writes down what is done. Whoever lets a lane go, or says of a row what the lane must know, does it first.
func (o *Outbox) settle(ctx context.Context, r *run) error {
	if err := r.ahead.wait(); err != nil || len(r.ahead.rows) == 0 {
		return err
	}
	rows := r.ahead.rows
	r.ahead.rows = nil
	_, err := o.write(ctx, r, rows, nil, false)
	return err
}
