package crypto

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	mevent "maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

// maxShares is how often a room key is made anew for one message, when the room changes meanwhile.
const maxShares = 4

// Encrypt returns the event to be sent in place of one that sender says; in a room that is not encrypted that is the
// event itself. key names the stored row that is sent, "" when there is none: the same row gives the same bytes, as
// long as the rows of a room are sent one after another. Errors: ErrOutside, or a temporary one of the homeserver or
// the database.
func (c *Crypto) Encrypt(ctx context.Context, room id.RoomID, key string, sender id.UserID, typ string, content json.RawMessage) (string, json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	enc, err := c.Encrypted(ctx, room, sender)
	if err != nil || !enc {
		return typ, content, err
	}
	if done, ok, err := c.sentBefore(ctx, room, key); err != nil || ok {
		return event.TypeEncrypted, done, err
	}
	if !c.started.Load() {
		return "", nil, ErrNotStarted
	}
	if err := c.freshDevices(ctx); err != nil {
		return "", nil, fmt.Errorf("encrypt event: %w", err)
	}
	sealed, err := c.encrypt(ctx, room, typ, content)
	if err != nil {
		return "", nil, fmt.Errorf("encrypt event: %w", err)
	}
	out, err := json.Marshal(sealed)
	if err != nil {
		return "", nil, fmt.Errorf("encrypt event: %w", err)
	}
	if err := c.keepSent(ctx, room, key, out); err != nil {
		return "", nil, fmt.Errorf("encrypt event: %w", err)
	}
	c.cfg.Observe("encrypted")
	return event.TypeEncrypted, out, nil
}

func (c *Crypto) encrypt(ctx context.Context, room id.RoomID, typ string, content json.RawMessage) (*mevent.EncryptedEventContent, error) {
	c.gate.RLock()
	defer c.gate.RUnlock()
	kind := mevent.Type{Type: typ, Class: mevent.MessageEventType}
	for range maxShares {
		sealed, err := c.mach.EncryptMegolmEvent(ctx, room, kind, content)
		if err == nil || !crypto.IsShareError(err) {
			return sealed, err
		}
		if err := c.share(ctx, room); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the room changes too fast to agree on a key")
}

// share makes a new room key and gives it to the devices of everybody who may read along. Who that is, is asked of the
// homeserver each time: a key lasts for many messages.
func (c *Crypto) share(ctx context.Context, room id.RoomID) error {
	resp, err := c.cfg.Client.As("").Members(ctx, room, mautrix.ReqMembers{NotMembership: mevent.MembershipLeave})
	if errors.Is(err, mautrix.MForbidden) || errors.Is(err, mautrix.MNotFound) {
		return c.outside(ctx, room)
	}
	if err != nil {
		return fmt.Errorf("read the members of the room: %w", err)
	}
	visibility, err := c.visibility(ctx, room)
	if err != nil {
		return err
	}
	var users []id.UserID
	var members []*mevent.Event
	inside := false
	for _, ev := range resp.Chunk {
		user := id.UserID(ev.GetStateKey())
		if err := ev.Content.ParseRaw(mevent.StateMember); err != nil && !errors.Is(err, mevent.ErrContentAlreadyParsed) || ev.StateKey == nil {
			continue
		}
		membership := ev.Content.AsMember().Membership
		if user == c.cli.UserID {
			inside = membership == mevent.MembershipJoin
			continue
		}
		if c.cfg.IsGhost(user) {
			continue
		}
		members = append(members, ev)
		if membership == mevent.MembershipJoin || membership == mevent.MembershipInvite && invitedRead(visibility) {
			users = append(users, user)
		}
	}
	if !inside {
		return c.outside(ctx, room)
	}
	if len(members) > 0 { // the bot is alone at first in rooms that it makes, and the statement for nobody is none
		if err := c.rooms.ReplaceCachedMembers(ctx, room, members); err != nil {
			return fmt.Errorf("write the members of the room: %w", err)
		}
	}
	if err := c.mach.ShareGroupSession(sharing(ctx), room, users); err != nil {
		return fmt.Errorf("share the room's key: %w", err)
	}
	c.cfg.Observe("shared")
	return c.lookAgain(ctx, users)
}

// outside makes sure that the bot is not in the room: some homeservers list a new member a little late.
func (c *Crypto) outside(ctx context.Context, room id.RoomID) error {
	var own mevent.MemberEventContent
	err := c.cfg.Client.As("").StateEvent(ctx, room, mevent.StateMember, string(c.cli.UserID), &own)
	if err == nil && own.Membership == mevent.MembershipJoin {
		return errors.New("the homeserver does not list the bot yet, which is in the room")
	}
	if err == nil || errors.Is(err, mautrix.MForbidden) || errors.Is(err, mautrix.MNotFound) {
		return ErrOutside
	}
	return fmt.Errorf("read whether the bot is in the room: %w", err)
}

// visibility is who may read what was said before they came; it decides whether the invited get the key too.
func (c *Crypto) visibility(ctx context.Context, room id.RoomID) (mevent.HistoryVisibility, error) {
	had, err := c.rooms.GetHistoryVisibility(ctx, room)
	if err != nil {
		return "", fmt.Errorf("read the room's history visibility: %w", err)
	}
	if had != nil && had.HistoryVisibility != "" {
		return had.HistoryVisibility, nil
	}
	var got mevent.HistoryVisibilityEventContent
	err = c.cfg.Client.As("").StateEvent(ctx, room, mevent.StateHistoryVisibility, "", &got)
	if errors.Is(err, mautrix.MNotFound) {
		got.HistoryVisibility, err = mevent.HistoryVisibilityShared, nil
	}
	if err != nil {
		return "", fmt.Errorf("read the room's history visibility: %w", err)
	}
	return got.HistoryVisibility, c.rooms.SetHistoryVisibility(ctx, room, &got)
}

// Encrypted reports whether a room is encrypted. A room that is not known is asked about once, as the bot or, where the
// bot is outside, as sender; after that events tell.
func (c *Crypto) Encrypted(ctx context.Context, room id.RoomID, sender id.UserID) (bool, error) {
	c.mu.Lock()
	enc, known := c.checked[room]
	c.mu.Unlock()
	if known {
		return enc, nil
	}
	enc, err := c.rooms.IsEncrypted(ctx, room)
	if err != nil {
		return false, fmt.Errorf("read whether a room is encrypted: %w", err)
	}
	if enc {
		c.remember(room, true)
		return true, nil
	}
	for _, user := range []id.UserID{"", sender} {
		var content json.RawMessage
		err = c.cfg.Client.As(user).StateEvent(ctx, room, mevent.StateEncryption, "", &content)
		if !errors.Is(err, mautrix.MForbidden) {
			if err == nil {
				o, _ := event.ParseObject(content)
				return true, c.setEncrypted(ctx, room, o)
			}
			break
		}
	}
	if errors.Is(err, mautrix.MNotFound) {
		c.remember(room, false)
		return false, nil
	}
	if errors.Is(err, mautrix.MForbidden) {
		return false, nil // nobody of ours is inside: nothing can be sent either
	}
	return false, fmt.Errorf("ask whether a room is encrypted: %w", err)
}

func (c *Crypto) remember(room id.RoomID, encrypted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.checked) >= maxChecked {
		clear(c.checked)
	}
	if encrypted || !c.checked[room] {
		c.checked[room] = encrypted
	}
}

// sentRow is a row of a room that was encrypted.
type sentRow struct {
	Key     string          `json:"key"`
	Content json.RawMessage `json:"content"`
}

// keptRows is how many of a room are remembered, newest first. The rows of its lane are sent one after another, so that one would
// be enough for them; the bot's answers to commands come in between.
const keptRows = 4

func (c *Crypto) sentRows(ctx context.Context, room id.RoomID) ([]sentRow, error) {
	text, err := c.cfg.Store.Setting(ctx, settingScope, settingSent+string(room))
	if err != nil || text == "" {
		return nil, err
	}
	var rows []sentRow
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		return nil, nil // of no use any more
	}
	return rows, nil
}

// sentBefore returns what a row became when it was encrypted before.
func (c *Crypto) sentBefore(ctx context.Context, room id.RoomID, key string) (json.RawMessage, bool, error) {
	if key == "" {
		return nil, false, nil
	}
	rows, err := c.sentRows(ctx, room)
	if err != nil {
		return nil, false, fmt.Errorf("read what was sent: %w", err)
	}
	for _, row := range rows {
		if row.Key == key {
			c.cfg.Observe("repeated")
			return row.Content, true, nil
		}
	}
	return nil, false, nil
}

func (c *Crypto) keepSent(ctx context.Context, room id.RoomID, key string, content json.RawMessage) error {
	if key == "" {
		return nil
	}
	c.keep.Lock()
	defer c.keep.Unlock()
	rows, err := c.sentRows(ctx, room)
	if err != nil {
		return err
	}
	rows = append([]sentRow{{key, content}}, rows[:min(len(rows), keptRows-1)]...)
	text, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	return c.cfg.Store.Tx(ctx, func(tx *store.Tx) error {
		return tx.SetSetting(ctx, settingScope, settingSent+string(room), string(text))
	})
}
