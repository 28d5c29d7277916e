package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

// Encryption says how the bridge takes part in encrypted Matrix rooms.
type Encryption struct {
	// Portals are made encrypted.
	Portals bool
	// Require refuses what is said in clear.
	Require bool
	// RotateMessages and RotateAfter are what new portals ask of all clients; 0 leaves it to them.
	RotateMessages int
	RotateAfter    time.Duration
}

// Decrypter opens events of encrypted rooms.
type Decrypter interface {
	// Decrypt returns the event inside an m.room.encrypted event, and the same one whenever it is asked again. The error is
	// a *NoKeyError when the key may still come, wraps ErrUnreadable when the event will never be opened, and any other
	// is temporary.
	Decrypt(ctx context.Context, ev event.Event) (event.Event, error)
	// Known tells whether the key of a session came, or will not come.
	Known(ctx context.Context, roomID, session string) (bool, error)
}

// NoKeyError says that the key of a session has not come yet. Relay.KeyCame is to be called when it does.
type NoKeyError struct{ Session string }

// Error implements error.
func (e *NoKeyError) Error() string { return "the room key of session " + e.Session + " has not come" }

// ErrUnreadable says that an encrypted event will never be opened. The text of the error is for the sender.
var ErrUnreadable = errors.New("the message cannot be decrypted")

// Patience with room keys: an event whose key is missing is tried again after firstKeyRetry, twice that and so on up to
// lastKeyRetry, and whenever the key comes; after keyPatience its sender is told.
const (
	firstKeyRetry = time.Second
	lastKeyRetry  = 5 * time.Minute
	keyPatience   = time.Hour
)

// commandsThere tells whether an encrypted event of a room where nothing is bridged is taken for the sake of commands to the bot, which gets
// keys where it is a member.
func (r *Relay) commandsThere(ctx context.Context, tx *store.Tx, room *store.Room) (bool, error) {
	if r.Decrypter == nil {
		return false, nil
	}
	bot, err := tx.Member(ctx, room.ID, r.cfg.Bot)
	return err == nil && bot.Membership == string(event.Join), ignoreNotFound(err)
}

// workEncrypted works off an encrypted event: what is inside takes its place. While the key is missing the input waits by
// itself and later ones overtake it; nobody waits for it.
func (r *Relay) workEncrypted(ctx context.Context, id store.RoomID, in *store.Input, settle store.Settle) (*step, error) {
	ev, err := event.ParseChecked(in.Body)
	if err != nil {
		return r.runStep(ctx, id, in, settle, func(s *step) error { return s.then(nil) })
	}
	if r.Decrypter == nil {
		return r.runStep(ctx, id, in, settle, func(s *step) error {
			s.tellEncrypted()
			return s.then(nil)
		})
	}
	plain, err := r.Decrypter.Decrypt(ctx, ev)
	var missing *NoKeyError
	switch {
	case errors.As(err, &missing) && r.Clock().UnixMilli()-in.CreatedMS < keyPatience.Milliseconds():
		return nil, r.waitForKey(ctx, id, in, string(ev.Room), missing.Session)
	case missing != nil:
		err = fmt.Errorf("%w: its key did not come", ErrUnreadable)
	case err != nil && !errors.Is(err, ErrUnreadable):
		return nil, fmt.Errorf("%w: %w", errLater, err)
	}
	if err != nil {
		return r.runStep(ctx, id, in, settle, func(s *step) error { return s.then(s.unreadable(ev, err)) })
	}
	return r.workPlain(ctx, id, in, settle, plain)
}

// workPlain works off what was inside an encrypted event.
func (r *Relay) workPlain(ctx context.Context, id store.RoomID, in *store.Input, settle store.Settle, plain event.Event) (*step, error) {
	inner := *in
	inner.Kind, inner.Body = inputMatrix, plain.Raw
	head, err := r.Store.Room(ctx, id)
	if err != nil {
		return nil, err
	}
	if plain.Type == event.TypeMessage {
		command, err := r.isCommand(ctx, &r.Store.Reader, &head, &plain)
		if err != nil {
			return nil, err
		}
		if command {
			inner.Kind = inputCommand
			unread, err := r.command(ctx, &inner)
			if err != nil {
				return nil, err
			}
			if unread {
				return r.runStep(ctx, id, in, settle, func(s *step) error { return s.readFirst(in) })
			}
		}
	}
	return r.runStep(ctx, id, in, settle, func(s *step) error {
		if plain.StateKey != nil || inner.Kind == inputMatrix && (s.room.head.Kind == store.RoomNone || plain.Type == event.TypeMember) {
			return s.then(nil)
		}
		s.opened = true
		return s.dispatch(&inner)
	})
}

// waitForKey sets an input aside until the key comes. The key may have come since it was missed.
func (r *Relay) waitForKey(ctx context.Context, id store.RoomID, in *store.Input, roomID, session string) error {
	due := r.Clock().Add(min(firstKeyRetry<<min(in.Tries, 20), lastKeyRetry)).UnixMilli()
	retry := func(due int64) error {
		return r.Store.Tx(ctx, func(tx *store.Tx) error { return tx.RetryInput(ctx, id, in.Seq, keyReason(session), due) })
	}
	if err := retry(due); err != nil {
		return err
	}
	known, err := r.Decrypter.Known(ctx, roomID, session)
	if err != nil || !known {
		return err
	}
	return retry(0)
}

func keyReason(session string) string { return "waits for the room key " + session }

// KeyCame lets events be tried again that wait for the key of a session, on both sides of a room that has two.
func (r *Relay) KeyCame(ctx context.Context, roomID, session string) error {
	for _, kind := range []store.NameKind{store.NameMatrix, store.NameChannel} {
		id, err := r.Store.RoomIDByName(ctx, kind, roomID)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err == nil {
			err = r.keyCame(ctx, id, session)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Relay) keyCame(ctx context.Context, id store.RoomID, session string) error {
	rows, err := r.Store.InputsIn(ctx, id, store.InputReady, 1000)
	if err != nil {
		return err
	}
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		for i := range rows {
			if rows[i].Reason == keyReason(session) {
				if err := tx.RetryInput(ctx, id, rows[i].Seq, "", 0); err != nil {
					return err
				}
			}
		}
		return nil
	})
	r.Wake(id)
	return err
}

// unreadable tells the sender of an event that it was not understood. In a room that is not bridged nobody expected it.
func (s *step) unreadable(ev event.Event, why error) error {
	s.Log.Info().Err(why).Stringer("room", s.room.head.ID).Str("source", string(ev.ID)).Str("fate", "unreadable").Msg("an encrypted event was not opened")
	if s.room.head.Kind == store.RoomNone || !s.present(string(ev.Sender)) {
		return nil
	}
	text := strings.TrimPrefix(why.Error(), ErrUnreadable.Error()+": ")
	s.failed(string(ev.ID), string(ev.Sender), "the bridge could not decrypt it: "+text, true)
	return nil
}

// refusedClear tells whether a message must not be bridged because it was said in clear.
func (s *step) refusedClear(ev event.Event) bool {
	if !s.cfg.Encryption.Require || s.opened || s.ours(string(ev.Sender)) || ev.Type == event.TypeReaction || ev.Type == event.TypeRedaction {
		return false
	}
	if s.room.head.Kind != store.RoomNone {
		s.failed(string(ev.ID), string(ev.Sender), "this bridge carries only messages of encrypted rooms", false)
	}
	return true
}

// openRaw opens an event that was read again from the homeserver. What cannot be opened is as good as refused.
func (r *Relay) openRaw(ctx context.Context, raw json.RawMessage) (json.RawMessage, error) {
	ev, err := event.ParseChecked(raw)
	if err != nil || ev.Type != event.TypeEncrypted {
		return raw, nil
	}
	if r.Decrypter == nil {
		return nil, ErrRefused
	}
	plain, err := r.Decrypter.Decrypt(ctx, ev)
	if errors.Is(err, ErrUnreadable) {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return plain.Raw, err
}

// What people are told about encryption, once a room (docs/mapping.md §6).
const (
	tellEnd = "🔒 This room is encrypted between Matrix clients and this bridge. The bridge decrypts what is said here and encrypts it anew (MLS) " +
		"for the people on the other side, and back: it is an end of the encryption, and who runs it could read along."
	tellClosed = "⚠ This room is encrypted, and this bridge does not take part in encrypted rooms. What is said here does not reach the other side."
)

// tellEncrypted says openly in an encrypted room what the bridge can read.
func (s *step) tellEncrypted() {
	if !s.room.matrix.Crypt {
		return
	}
	text := tellEnd
	if s.Decrypter == nil {
		text = tellClosed
	}
	s.once("encryption", func() { s.notice(text, "") })
}

// encryptsPortals tells whether rooms that the bridge makes are encrypted.
func (r *Relay) encryptsPortals() bool { return r.cfg.Encryption.Portals && r.Decrypter != nil }

// encryptionState is the state event that makes a portal encrypted.
func (s *step) encryptionState() event.StateEvent {
	content := map[string]any{"algorithm": "m.megolm.v1.aes-sha2"}
	if n := s.cfg.Encryption.RotateMessages; n > 0 {
		content["rotation_period_msgs"] = n
	}
	if d := s.cfg.Encryption.RotateAfter; d > 0 {
		content["rotation_period_ms"] = d.Milliseconds()
	}
	return event.StateEvent{Type: event.TypeEncryption, Content: mustJSON(content)}
}
