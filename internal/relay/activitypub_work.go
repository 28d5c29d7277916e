package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

// threads works off the inputs of conversations with ActivityPub actors; *ActivityPub does. It is an interface so that a relay without that
// face has none.
type threads interface {
	// workThread works off one input of a conversation.
	workThread(ctx context.Context, id store.RoomID, in *store.Input, settle store.Settle) (*step, error)
	// endUser says what is to be done because a user of ours, who is or was in some of its rooms, does not exist any more: inputs, and what is written
	// together with them. There are none when the user never took part.
	endUser(ctx context.Context, mxid string, rooms []store.Member) ([]store.NewInput, func(*store.Tx) error, error)
}

// ofThread tells whether an input is one of a conversation.
func ofThread(in *store.Input) bool {
	switch in.Kind {
	case inputThread, inputThreadEncrypted, inputThreadTask:
		return true
	}
	return ofThreadTimer(in)
}

// threadKind is the kind of input that an event of the Matrix room of a conversation becomes.
func threadKind(kind string) string {
	switch kind {
	case inputMatrix:
		return inputThread
	case inputEncrypted:
		return inputThreadEncrypted
	}
	return kind
}

// workThread implements threads.
func (a *ActivityPub) workThread(ctx context.Context, id store.RoomID, in *store.Input, settle store.Settle) (*step, error) {
	decide := func(*apStep) error { return nil }
	switch in.Kind {
	case inputThread:
		if ev, err := event.ParseChecked(in.Body); err == nil {
			decide = func(x *apStep) error { return x.onThreadEvent(ev) }
		}
	case inputTimer:
		decide = (*apStep).commitProposed
		switch string(in.Body) {
		case timerThreadLeft:
			decide = (*apStep).leftBehind
		case timerThreadCover:
			decide = (*apStep).sayNothing
		}
	case inputThreadTask:
		var t threadTask
		if err := json.Unmarshal(in.Body, &t); err != nil {
			return nil, fmt.Errorf("read a task of a conversation: %w", err)
		}
		if t.Profile {
			if err := a.tellProfile(ctx, t.By); err != nil {
				a.Log.Info().Err(err).Str("actor", t.By).Msg("a changed profile was not sent")
			}
		}
		var raw json.RawMessage
		if t.Say {
			var err error
			if raw, err = a.readEvent(ctx, id, t.Event); err != nil && !errors.Is(err, ErrRefused) {
				return nil, fmt.Errorf("%w: %w", errLater, err)
			}
		}
		decide = func(x *apStep) error { return x.onThreadTask(t, raw) }
		if t.Delete {
			var err error
			if decide, err = a.deleteActor(ctx, t); err != nil {
				return nil, err
			}
		}
	case inputThreadEncrypted:
		var err error
		decide, err = a.openEncrypted(ctx, id, in, (*apStep).onThreadEvent)
		if decide == nil {
			return nil, err
		}
	}
	return a.runInput(ctx, id, in, settle, decide)
}

// openEncrypted returns what is to be done about an encrypted event of the Matrix room: take does what is inside. nil without an
// error says that it waits for its key.
func (a *ActivityPub) openEncrypted(ctx context.Context, id store.RoomID, in *store.Input, take func(*apStep, event.Event) error) (func(*apStep) error, error) {
	nothing := func(*apStep) error { return nil }
	ev, err := event.ParseChecked(in.Body)
	if err != nil || a.Decrypter == nil {
		return nothing, nil
	}
	plain, err := a.Decrypter.Decrypt(ctx, ev)
	var missing *NoKeyError
	switch {
	case errors.As(err, &missing) && a.Clock().UnixMilli()-in.CreatedMS < keyPatience.Milliseconds():
		return nil, a.waitForKey(ctx, id, in, string(ev.Room), missing.Session)
	case missing != nil, errors.Is(err, ErrUnreadable):
		return func(x *apStep) error { return x.unreadable(ev, errors.Join(ErrUnreadable, err)) }, nil
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errLater, err)
	case plain.StateKey != nil:
		return nothing, nil
	}
	return func(x *apStep) error {
		x.opened = true
		return take(x, plain)
	}, nil
}

// onThreadEvent takes an event of the Matrix room: what a user of ours says goes to the group, who comes and leaves there does so here.
func (x *apStep) onThreadEvent(ev event.Event) error {
	if x.leftAlready(ev) || x.thread == nil {
		return nil
	}
	if ev.Type == event.TypeMember {
		return x.onMembership(ev)
	}
	if ev.StateKey != nil {
		return x.onThreadState(ev)
	}
	if !x.exported(string(ev.Sender)) {
		return nil
	}
	return x.speak(ev)
}
