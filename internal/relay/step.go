package relay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/matrix-mimi/bridge/internal/killpoint"
	"github.com/matrix-mimi/bridge/internal/store"
)

// step is the life of one input: what it sees, and what it will write. Its methods decide; they read the database where
// they must (never in a transaction) and write nothing.
type step struct {
	*Relay
	ctx  context.Context
	now  time.Time
	room *roomView
	fx   effects
	// input is what is worked off, nil for a synchronous request.
	input *store.Input
	// opened says that the event came encrypted.
	opened bool
	// plainAnswer says that the answer to a request is not kept.
	plainAnswer bool
	// wary says that something in this room turned out to be there already: what mostly is new is looked up from then on, because
	// to be wrong costs loading the room.
	wary bool
	// drop says that the room in memory is not what is stored, although the step succeeded.
	drop bool
	// again says that the inbox must be read again: an earlier input became ready.
	again bool
	// profiles are the users whose profiles are to be asked for, by provider.
	profiles map[string][]string
	// alone are Matrix users who came into the portal and join its room by themselves.
	alone []string
	// claims are the wishes whose users are to be asked for.
	claims []int64
	// written and stands are the kill points that the step passes before and after its COMMIT.
	written, stands []string
}

// passes names the kill points (internal/killpoint) that lie between the step's writes and its COMMIT, and right after it;
// "" for none.
func (s *step) passes(written, stands string) {
	if !killpoint.Enabled {
		return
	}
	if written != "" {
		s.written = append(s.written, written)
	}
	if stands != "" {
		s.stands = append(s.stands, stands)
	}
}

// nowMS is the step's time in milliseconds since 1970.
func (s *step) nowMS() int64 { return s.now.UnixMilli() }

// seq takes the next number of the room: for links, bodies, outgoing rows, intents and log entries.
func (s *step) seq() int64 {
	n := s.room.head.NextSeq
	s.room.head.NextSeq++
	return n
}

// maxConflicts is how often a step is decided anew because the room moved on meanwhile.
const maxConflicts = 5

// runStep is the one place where an input becomes a transaction:
//
//	load the room under its version, decide, then in ONE transaction compare and set the version, write all
//	effects and mark the input done.
//
// in is nil for a synchronous request, whose answer is among the effects. Whatever fails, nothing is written and the
// room in memory is dropped, because the MLS group in it may have moved on. When the room was changed by
// another process meanwhile, everything is decided anew from what is stored now.
func (r *Relay) runStep(ctx context.Context, id store.RoomID, in *store.Input, settle store.Settle, decide func(*step) error) (*step, error) {
	force := false
	for fetches := 0; ; fetches++ {
		s, err := r.lockedStep(ctx, id, in, settle, force, decide)
		var lacks *lacksIssuers
		if !errors.As(err, &lacks) || fetches == maxFetches {
			return s, err
		}
		// Not under the lock: others need not wait for that provider, and what they change meanwhile is seen by the next try.
		if force, err = r.fetchLacking(ctx, lacks, in); err != nil {
			return nil, err
		}
	}
}

// lockedStep takes a step while it has the room for itself in this process, anew where another process was quicker, and with a
// closer look where something turned out to be there already.
func (r *Relay) lockedStep(ctx context.Context, id store.RoomID, in *store.Input, settle store.Settle, force bool, decide func(*step) error) (*step, error) {
	slot := r.slot(id)
	slot.mu.Lock()
	defer slot.mu.Unlock()
	for try := 1; ; try++ {
		s, err := r.tryStep(ctx, slot, id, in, settle, force, decide)
		var no refusal
		if err == nil || errors.As(err, &no) {
			return s, err
		}
		slot.mem = nil
		if errors.Is(err, store.ErrDuplicate) && !slot.wary {
			slot.wary = true
			continue
		}
		if !errors.Is(err, store.ErrConflict) || try == maxConflicts || !sleep(ctx, rand.N(time.Millisecond<<try)) {
			return nil, err
		}
	}
}

func (r *Relay) tryStep(ctx context.Context, slot *slot, id store.RoomID, in *store.Input, settle store.Settle, force bool, decide func(*step) error) (s *step, err error) {
	view, err := r.load(ctx, slot, id)
	if err != nil {
		return nil, err
	}
	slot.mem = nil // until the transaction stands, what decide changes in memory is not what is stored
	s = &step{Relay: r, ctx: ctx, now: r.Clock(), room: view, input: in, wary: slot.wary}
	before := view.head
	view.judge.forced = force
	err = s.decide(decide)
	if lacks := view.lacking(); lacks != nil {
		return nil, lacks
	}
	var no refusal
	if errors.As(err, &no) {
		if err := r.unchanged(ctx, view, before); err != nil {
			return nil, err
		}
		slot.mem = view
		return nil, err
	}
	if err != nil {
		return nil, errors.Join(r.unchanged(ctx, view, before), err)
	}
	if err := s.askClaims(); err != nil {
		return nil, err
	}
	s.askProfiles()
	if err := s.settleMedia(); err != nil {
		return nil, err
	}
	if s.fx.state, err = view.changedState(); err != nil {
		return nil, err
	}
	if in == nil && s.idle(before) {
		if err := r.unchanged(ctx, view, before); err != nil {
			return nil, err
		}
		if !s.drop {
			r.remember(slot, view)
		}
		return s, nil
	}
	lanes, err := s.commit(before, settle)
	if err != nil {
		return nil, err
	}
	s.committed()
	if !s.drop {
		r.remember(slot, view)
	}
	if len(lanes) > 0 && r.WakeLanes != nil {
		r.WakeLanes(lanes)
	}
	for i := range s.fx.inputs {
		if s.fx.inputs[i].NotBefore <= s.nowMS() && (in == nil || s.fx.inputs[i].Room != id) {
			r.queue.push(s.fx.inputs[i].Room)
		}
	}
	return s, nil
}

// decide runs the decider and turns a panic into an error, so that an input that panics is set aside and not the process.
func (s *step) decide(fn func(*step) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v\n%s", errPanic, p, debug.Stack())
		}
	}()
	return fn(s)
}

var errPanic = errors.New("the step panicked")

// commit is the transaction.
func (s *step) commit(before store.Room, settle store.Settle) (lanes []store.Woken, err error) {
	var head store.Room
	err = s.Store.Tx(s.ctx, func(tx *store.Tx) error {
		if head, err = tx.StepRoomFrom(s.ctx, before, s.room.head, settle); err != nil {
			return err
		}
		if in := s.input; in != nil {
			if s.fx.wait != nil {
				err = tx.WaitInput(s.ctx, head.ID, in.Seq, s.fx.wait.epoch, s.fx.wait.reason)
			} else {
				_, err = tx.FinishInput(s.ctx, head.ID, in.Seq)
			}
			if err != nil {
				return err
			}
		}
		if lanes, err = s.fx.write(s.ctx, tx, head, s.nowMS()); err != nil {
			return err
		}
		for _, point := range s.written {
			killpoint.Hit(point)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, point := range s.stands {
		killpoint.Hit(point)
	}
	s.room.head = head
	return lanes, nil
}

// committed brings what is remembered of the room in line with what was written.
func (s *step) committed() {
	v := s.room
	s.deleteFiles()
	for key, value := range s.fx.state {
		v.stored[key] = value
	}
	s.again = s.fx.release != nil || len(s.fx.inputs) > 0
}

// idle tells whether a request left nothing to write.
func (s *step) idle(before store.Room) bool {
	return s.room.head.NextSeq == before.NextSeq && s.fx.empty()
}

// empty tells whether there is nothing to write. It looks at every field, so that none that comes later is forgotten here.
func (fx *effects) empty() bool {
	v := reflect.ValueOf(fx).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Slice, reflect.Map:
			if f.Len() > 0 {
				return false
			}
		default:
			if !f.IsZero() {
				return false
			}
		}
	}
	return true
}
