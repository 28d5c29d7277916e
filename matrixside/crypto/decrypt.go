package crypto

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/olm"
	mevent "maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// Patience with keys that are on their way.
const (
	// askAfter is how long a key may be on its way before it is asked for.
	askAfter = 4 * time.Second
	// learnTimeout bounds a question for somebody's devices while others wait.
	learnTimeout = 5 * time.Second
)

// Decrypt returns the event inside an m.room.encrypted event, checked, with the identifier, room, sender and time of
// the outer one. Asking again gives the same; another event with the same ciphertext is a replay. Errors: ErrWaiting
// (a *WaitingError), ErrUndecryptable, or a temporary one of the database.
func (c *Crypto) Decrypt(ctx context.Context, ev event.Event) (event.Event, error) {
	plain, err := c.decrypt(ctx, ev)
	switch {
	case err == nil:
		c.cfg.Observe("decrypted")
	case errors.Is(err, ErrWaiting):
		c.cfg.Observe("waiting")
	case errors.Is(err, ErrUndecryptable):
		c.cfg.Observe("undecryptable")
	}
	return plain, err
}

func (c *Crypto) decrypt(ctx context.Context, ev event.Event) (event.Event, error) {
	if !c.started.Load() {
		return event.Event{}, ErrNotStarted
	}
	outer := &mevent.Event{}
	if err := json.Unmarshal(ev.Raw, outer); err != nil {
		return event.Event{}, fmt.Errorf("%w: it was not understood", ErrUndecryptable)
	}
	outer.ID, outer.RoomID, outer.Sender, outer.Timestamp = ev.ID, ev.Room, ev.Sender, ev.Time
	outer.Type = mevent.EventEncrypted
	if err := outer.Content.ParseRaw(outer.Type); err != nil {
		return event.Event{}, fmt.Errorf("%w: it was not understood", ErrUndecryptable)
	}
	content := outer.Content.AsEncrypted()
	if content.Algorithm != id.AlgorithmMegolmV1 {
		return event.Event{}, fmt.Errorf("%w: its algorithm is not known", ErrUndecryptable)
	}
	ctx, w := watched(ctx)
	c.gate.RLock()
	inner, err := c.mach.DecryptMegolmEvent(ctx, outer)
	c.gate.RUnlock()
	if err != nil {
		return event.Event{}, c.whyNot(ctx, ev, content, err, w.fault())
	}
	c.forget(content.SessionID)
	// The bot's device speaks for the ghosts, and what one of them says may be news to another world.
	own := c.cfg.IsGhost(ev.Sender) && w.used != nil && w.used.SourceUser == c.cli.UserID
	if used := w.used; used != nil && used.SourceUser != "" && used.SourceUser != ev.Sender && !own {
		return event.Event{}, fmt.Errorf("%w: its key came from somebody else", ErrUndecryptable)
	}
	if inner.Mautrix.TrustState == id.TrustStateDeviceKeyMismatch {
		return event.Event{}, fmt.Errorf("%w: its key does not belong to the sender's device", ErrUndecryptable)
	}
	return unwrap(ev, inner)
}

// unwrap puts the inner type and content into the outer event.
func unwrap(ev event.Event, inner *mevent.Event) (event.Event, error) {
	o, err := event.ParseObject(ev.Raw)
	if err != nil {
		return event.Event{}, fmt.Errorf("%w: it was not understood", ErrUndecryptable)
	}
	body := inner.Content.VeryRaw
	typ, err := json.Marshal(inner.Type.Type)
	if err != nil || len(body) == 0 || inner.Type.Type == event.TypeEncrypted {
		return event.Event{}, fmt.Errorf("%w: what is inside was not understood", ErrUndecryptable)
	}
	room, err := json.Marshal(ev.Room)
	if err != nil {
		return event.Event{}, err
	}
	raw := event.Merge(o, event.Object{"type": typ, "content": json.RawMessage(body), "room_id": room}).Encode()
	plain, err := event.ParseChecked(raw)
	if err != nil {
		return event.Event{}, fmt.Errorf("%w: what is inside was not understood: %w", ErrUndecryptable, err)
	}
	return plain, nil
}

// whyNot sorts a failure: the key may come, the event is lost, or the database failed.
func (c *Crypto) whyNot(ctx context.Context, ev event.Event, content *mevent.EncryptedEventContent, err, fault error) error {
	if fault != nil {
		return fmt.Errorf("decrypt event: %w", fault)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch {
	case errors.Is(err, crypto.ErrNoSessionFound):
		c.ask(ctx, ev, content)
		return &WaitingError{ev.Room, content.SessionID}
	case withheld(err) != "":
		return fmt.Errorf("%w: %s", ErrUndecryptable, withheld(err))
	case errors.Is(err, crypto.ErrDuplicateMessageIndex):
		return fmt.Errorf("%w: it repeats another event", ErrUndecryptable)
	case errors.Is(err, olm.ErrUnknownMessageIndex):
		return fmt.Errorf("%w: it was written before the bridge was given the key", ErrUndecryptable)
	}
	// The library's texts hold identifiers, no keys.
	return fmt.Errorf("%w: %w", ErrUndecryptable, err)
}

// Known reports whether the key of a session is there, or is known not to come: whether Decrypt would give
// another answer than ErrWaiting.
func (c *Crypto) Known(ctx context.Context, room id.RoomID, session id.SessionID) (bool, error) {
	g, err := c.keys.GetGroupSession(ctx, room, session)
	if errors.Is(err, crypto.ErrGroupSessionWithheld) {
		return true, nil
	}
	return g != nil, err
}

// ask asks the sender's devices for a key that does not come by itself, once.
func (c *Crypto) ask(ctx context.Context, ev event.Event, content *mevent.EncryptedEventContent) {
	now := c.cfg.Clock()
	c.mu.Lock()
	since, waits := c.asked[content.SessionID]
	if !waits {
		if len(c.asked) >= maxAsked {
			clear(c.asked)
			clear(c.sent)
		}
		c.asked[content.SessionID] = now
	}
	due := waits && !c.sent[content.SessionID] && now.Sub(since) >= askAfter
	if due {
		c.sent[content.SessionID] = true
	}
	c.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	err := c.mach.SendRoomKeyRequest(ctx, ev.Room, content.SenderKey, content.SessionID, "", map[id.UserID][]id.DeviceID{ev.Sender: {"*"}})
	if err != nil {
		c.mu.Lock()
		delete(c.sent, content.SessionID)
		c.mu.Unlock()
		c.cfg.Log.Info().Err(err).Str("event_id", string(ev.ID)).Msg("a room key could not be asked for")
		return
	}
	c.cfg.Observe("requested")
}

func (c *Crypto) forget(session id.SessionID) {
	c.mu.Lock()
	delete(c.asked, session)
	delete(c.sent, session)
	c.mu.Unlock()
}
