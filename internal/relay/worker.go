package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
)

const (
	// inboxLimit is how many inputs of a room are read at once.
	inboxLimit = 64
	// pollEvery is the mean time between two looks for rooms that are due, pollLimit how many one look finds.
	pollEvery = 500 * time.Millisecond
	pollLimit = 256
	// maxFailures is after how many tries an input is set aside; firstRetry is the pause after the first, doubled each time.
	maxFailures = 3
	firstRetry  = 200 * time.Millisecond
	// laterAfter is the pause after a failure that is not the input's (errLater).
	laterAfter = 2 * time.Second
)

// Wake is a hint that a room has something to do.
func (r *Relay) Wake(ids ...store.RoomID) {
	for _, id := range ids {
		r.queue.push(id)
	}
}

// Run works off the inputs of the rooms of this process's shards until the context ends. It returns when all its
// goroutines have.
func (r *Relay) Run(ctx context.Context) error {
	if err := r.renewShards(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before it began
		}
		return err
	}
	r.running.Store(true)
	defer r.running.Store(false)
	var wg sync.WaitGroup
	for range r.cfg.Workers {
		wg.Go(func() { r.workLoop(ctx) })
	}
	wg.Go(func() { r.pollLoop(ctx) })
	wg.Go(func() { r.leaseLoop(ctx) })
	wg.Go(func() { r.careLoop(ctx) })
	wg.Go(func() { r.delayLoop(ctx) })
	wg.Go(func() { r.currentLoop(ctx) })
	wg.Wait()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return r.Store.Tx(end, func(tx *store.Tx) error { return tx.ReleaseShards(end, r.cfg.Owner) })
}

func (r *Relay) renewShards(ctx context.Context) error {
	until := r.Clock().Add(store.LeaseTrust)
	var held []store.Shard
	err := r.Store.Tx(ctx, func(tx *store.Tx) (err error) {
		held, err = tx.RenewShards(ctx, r.cfg.Owner)
		return err
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leased = make(map[store.Shard]time.Time, len(held))
	for _, shard := range held {
		r.leased[shard] = until
	}
	return nil
}

func (r *Relay) leaseLoop(ctx context.Context) {
	for sleep(ctx, store.LeaseRenew) {
		if err := r.renewShards(ctx); err != nil && ctx.Err() == nil {
			r.Log.Warn().Err(err).Msg("shard leases were not renewed")
		}
	}
}

func (r *Relay) pollLoop(ctx context.Context) {
	for {
		ids, err := r.Store.DueRooms(ctx, r.cfg.Owner, pollLimit)
		if err != nil && ctx.Err() == nil {
			r.Log.Warn().Err(err).Msg("due rooms were not read")
		}
		r.Wake(ids...)
		if !sleep(ctx, pollEvery/2+rand.N(pollEvery)) {
			return
		}
	}
}

func (r *Relay) workLoop(ctx context.Context) {
	for {
		id, ok := r.queue.pop()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-r.queue.more:
				continue
			}
		}
		_, err := r.Drain(ctx, id)
		r.queue.done(id)
		if ctx.Err() != nil {
			r.queue.signal()
			return
		}
		if err != nil {
			r.Log.Warn().Err(err).Stringer("room", id).Msg("a room waits after an error")
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Drain works off all inputs of a room that are due, and returns how many there were. An error is a temporary one of
// the database or a failed input: the room is due again later.
func (r *Relay) Drain(ctx context.Context, id store.RoomID) (int, error) {
	total := 0
	for ctx.Err() == nil {
		box, err := r.Store.Inbox(ctx, id, r.Clock().UnixMilli(), inboxLimit)
		if err != nil {
			return total, err
		}
		if len(box.Inputs) == 0 {
			return total, r.settle(ctx, id, box.Settle)
		}
		n, done, err := r.drainBox(ctx, id, box)
		total += n
		if err != nil || done {
			return total, err
		}
	}
	return total, ctx.Err()
}

func (r *Relay) settle(ctx context.Context, id store.RoomID, s store.Settle) error {
	return r.Store.Tx(ctx, func(tx *store.Tx) error { return tx.SettleRoom(ctx, id, s) })
}

// drainBox works off what was read of a room's inputs, in order. It stops early when a step made an earlier input ready.
// done says that the room has nothing more to do now.
func (r *Relay) drainBox(ctx context.Context, id store.RoomID, box store.Inbox) (n int, done bool, err error) {
	for i := range box.Inputs {
		in := &box.Inputs[i]
		var settle store.Settle
		last := i == len(box.Inputs)-1 && !box.More
		if last {
			settle = box.Settle
		}
		s, err := r.work(ctx, id, in, settle)
		if err != nil {
			return n, false, r.failed(ctx, id, in, err)
		}
		n++
		if s != nil && s.again {
			return n, false, nil
		}
		if last && s != nil {
			return n, true, nil
		}
	}
	return n, false, nil
}

// failed notes that an input could not be worked off. A fault of the database leaves everything as it is. Any other
// counts: the room waits a little, and after the third time the input is set aside and the room goes on.
func (r *Relay) failed(ctx context.Context, id store.RoomID, in *store.Input, cause error) error {
	if ctx.Err() != nil || store.Temporary(cause) || errors.Is(cause, store.ErrConflict) {
		return cause
	}
	if errors.Is(cause, errLater) {
		due := r.Clock().Add(laterAfter).UnixMilli()
		return errors.Join(cause, r.Store.Tx(ctx, func(tx *store.Tx) error { return tx.DelayRoom(ctx, id, due) }))
	}
	reason := cause.Error()
	log := r.Log.Error().Err(cause).Stringer("room", id).Int64("input", in.Seq).Str("kind", in.Kind).Str("source", in.Source)
	if in.Tries+1 < maxFailures {
		log.Msg("an input failed and will be tried again")
		due := r.Clock().Add(firstRetry << in.Tries).UnixMilli()
		err := r.Store.Tx(ctx, func(tx *store.Tx) error {
			if err := tx.RetryInput(ctx, id, in.Seq, reason, 0); err != nil {
				return err
			}
			return tx.DelayRoom(ctx, id, due)
		})
		return errors.Join(cause, err)
	}
	log.Str("fate", "broken").Msg("an input was set aside")
	r.Alert("broken", "an input of room "+id.String()+" was set aside: "+in.Kind+" "+in.Source+"; broken of the bot lists them")
	return r.Store.Tx(ctx, func(tx *store.Tx) error {
		if err := tx.BreakInput(ctx, id, in.Seq, reason); err != nil {
			return err
		}
		return tx.WakeRoom(ctx, id, 0)
	})
}

// work works off one input. What must be asked of the homeserver for it is asked before the step.
func (r *Relay) work(ctx context.Context, id store.RoomID, in *store.Input, settle store.Settle) (*step, error) {
	if r.threads != nil && ofThread(in) {
		return r.threads.workThread(ctx, id, in, settle)
	}
	if r.channels != nil && ofChannel(in) {
		return r.channels.work(ctx, id, in, settle)
	}
	decide := func(s *step) error { return s.dispatch(in) }
	switch in.Kind {
	case inputEncrypted:
		return r.workEncrypted(ctx, id, in, settle)
	case inputCommand:
		unread, err := r.command(ctx, in)
		if err != nil {
			return nil, err
		}
		if unread {
			decide = func(s *step) error { return s.readFirst(in) }
		}
	case inputRead:
		state, err := r.readState(ctx, id, string(in.Body))
		if err != nil && !errors.Is(err, ErrRefused) {
			return nil, fmt.Errorf("%w: %w", errLater, err)
		}
		decide = func(s *step) error {
			if err != nil {
				return s.then(s.onReadFailed())
			}
			return s.then(s.onRead(state))
		}
	case inputSuccessor:
		var state []json.RawMessage
		err := ErrRefused
		if r.Homeserver != nil {
			state, err = r.Homeserver.RoomState(ctx, r.cfg.Bot, string(in.Body))
		}
		if err != nil && !errors.Is(err, ErrRefused) {
			return nil, fmt.Errorf("%w: %w", errLater, err)
		}
		decide = func(s *step) error {
			s.onSuccessor(string(in.Body), state, err == nil)
			return s.then(nil)
		}
	case inputAgain:
		var a again
		if err := json.Unmarshal(in.Body, &a); err != nil {
			return nil, err
		}
		raw, err := r.readEvent(ctx, id, a.Event)
		if err != nil && !errors.Is(err, ErrRefused) {
			return nil, fmt.Errorf("%w: %w", errLater, err)
		}
		decide = func(s *step) error { return s.then(s.onAgain(a, raw)) }
	}
	return r.runStep(ctx, id, in, settle, decide)
}

// errLater marks a failure that is nobody's fault: the input is tried again for as long as it takes.
var errLater = errors.New("what it needs does not answer")

func (r *Relay) readState(ctx context.Context, id store.RoomID, as string) ([]json.RawMessage, error) {
	head, err := r.Store.Room(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.Homeserver == nil || head.MatrixRoomID == "" {
		return nil, ErrRefused
	}
	return r.Homeserver.RoomState(ctx, as, head.MatrixRoomID)
}

func (r *Relay) readEvent(ctx context.Context, id store.RoomID, eventID string) (json.RawMessage, error) {
	head, err := r.Store.Room(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.Homeserver == nil || head.MatrixRoomID == "" {
		return nil, ErrRefused
	}
	raw, err := r.Homeserver.Event(ctx, r.cfg.Bot, head.MatrixRoomID, eventID)
	if err != nil {
		return nil, err
	}
	return r.openRaw(ctx, raw)
}
