package crypto

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"maunium.net/go/mautrix/crypto"
	mevent "maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// Delivery is what the homeserver sent in one piece, by transaction or by the bot's /sync; intake gives both the
// same form.
type Delivery struct {
	// Events are room events, checked.
	Events []event.Event
	// ToDevice are messages to devices of our users, checked. Those to others than the bot's device are ignored.
	ToDevice []event.ToDevice
	// DeviceLists is the object `device_lists`, KeyCounts the number of one-time keys by user and device (MSC3202);
	// nil where the homeserver sent none. An absent count is not zero.
	DeviceLists, KeyCounts json.RawMessage
}

// maxUsers bounds a list of users whose devices changed.
const maxUsers = 100_000

// Receive takes what concerns encryption from a delivery. Everything of it is committed when Receive returns nil;
// only then may the delivery be acknowledged. A delivery may come again: what was done is not done twice. An
// error is a temporary one of the database.
func (c *Crypto) Receive(ctx context.Context, d Delivery) error {
	if len(d.ToDevice) > 0 && !c.started.Load() {
		return ErrNotStarted
	}
	// The sender of the request may give up on it; half of a delivery helps nobody.
	ctx = context.WithoutCancel(ctx)
	for i := range d.Events {
		if err := c.observe(ctx, &d.Events[i]); err != nil {
			return fmt.Errorf("note the state of an encrypted room: %w", err)
		}
	}
	var came []roomKey
	for i := range d.ToDevice {
		keys, err := c.toDevice(ctx, &d.ToDevice[i])
		if err != nil {
			return fmt.Errorf("take a message to the bridge's device: %w", err)
		}
		came = append(came, keys...)
	}
	if len(d.ToDevice) > 0 {
		c.mach.MarkOlmHashSavePoint(ctx)
	}
	if err := c.deviceLists(ctx, d.DeviceLists); err != nil {
		return fmt.Errorf("note changed devices: %w", err)
	}
	c.keyCounts(d.KeyCounts)
	for _, k := range came {
		c.forget(k.session)
		c.cfg.OnKey(ctx, k.room, k.session)
	}
	return nil
}

// toDevice works off one message to the device, and returns the room keys it brought.
func (c *Crypto) toDevice(ctx context.Context, d *event.ToDevice) ([]roomKey, error) {
	if d.ToUser != c.cli.UserID || d.ToDevice != c.cli.DeviceID {
		return nil, nil
	}
	ev := &mevent.Event{Sender: d.Sender, Type: mevent.Type{Type: d.Type, Class: mevent.ToDeviceEventType}, ToUserID: d.ToUser, ToDeviceID: d.ToDevice}
	if err := json.Unmarshal(d.Content.Encode(), &ev.Content); err != nil {
		return nil, nil
	}
	if err := ev.Content.ParseRaw(ev.Type); err != nil {
		c.cfg.Log.Debug().Str("type", d.Type).Str("sender", string(d.Sender)).Msg("message to the device was not understood")
		return nil, nil
	}
	switch content := ev.Content.Parsed.(type) {
	case *mevent.EncryptedEventContent:
		c.learn(ctx, d.Sender, content.SenderKey)
	case *mevent.RoomKeyWithheldEventContent:
		// Anybody can write this: it counts from members of the room only.
		if in, err := c.rooms.GetMembership(ctx, content.RoomID, d.Sender); err != nil || in != mevent.MembershipJoin {
			return nil, err
		}
		keys, err := c.inTransaction(ctx, ev)
		if err == nil {
			// Whoever waits for this key learns that it does not come.
			keys = append(keys, roomKey{content.RoomID, content.SessionID})
		}
		return keys, err
	default: // answered over the network: not in a transaction, and lost without harm
		c.inbox.Lock()
		defer c.inbox.Unlock()
		c.mach.HandleToDeviceEvent(ctx, ev)
		return nil, nil
	}
	return c.inTransaction(ctx, ev)
}

// inTransaction lets the library work off a message in one transaction. When the database fails, nothing has
// happened: the library's memory, which has moved on, is thrown away.
func (c *Crypto) inTransaction(ctx context.Context, ev *mevent.Event) ([]roomKey, error) {
	c.inbox.Lock()
	defer c.inbox.Unlock()
	ctx, w := watched(ctx)
	err := c.keys.DB.DoTxn(ctx, nil, func(ctx context.Context) error {
		c.mach.HandleToDeviceEvent(ctx, ev)
		return w.fault()
	})
	if err == nil {
		return w.came, nil
	}
	return nil, errors.Join(err, c.reload(ctx))
}

// reload reads the device's keys again from the database.
func (c *Crypto) reload(ctx context.Context) error {
	c.gate.Lock()
	defer c.gate.Unlock()
	c.keys.InitFields()
	c.keys.Account = nil
	if err := c.mach.Load(ctx); err != nil {
		return fmt.Errorf("load the device's keys again: %w", err)
	}
	return nil
}

// learn asks for the devices of a user who writes with one that is not known, so that the library can tell whose
// it is. It does what it can: a message from an unknown device is taken all the same.
func (c *Crypto) learn(ctx context.Context, user id.UserID, key id.SenderKey) {
	device, err := c.keys.FindDeviceByKey(ctx, user, key)
	if err != nil || device != nil || !c.tryUser(user) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	if _, err := c.mach.FetchKeys(ctx, []id.UserID{user}, true); err != nil {
		c.cfg.Log.Info().Err(err).Str("user", string(user)).Msg("devices of a user could not be had")
	}
}

// observe takes what a room event says about an encrypted room: that it is one, who is in it, and who may read what
// was said before.
func (c *Crypto) observe(ctx context.Context, ev *event.Event) error {
	if ev.StateKey == nil {
		return nil
	}
	switch ev.Type {
	case event.TypeEncryption:
		if *ev.StateKey == "" {
			return c.setEncrypted(ctx, ev.Room, ev.Content)
		}
	case event.TypeMember:
		if m, ok := ev.Member(); ok {
			return c.setMember(ctx, ev.Room, m)
		}
	case event.TypeHistoryVisibility:
		if *ev.StateKey == "" {
			return c.setVisibility(ctx, ev.Room, ev.Content.Str("history_visibility"))
		}
	}
	return nil
}

// setEncrypted notes that a room is encrypted. Encryption cannot be switched off again; of a later event only the
// times of rotation count.
func (c *Crypto) setEncrypted(ctx context.Context, room id.RoomID, content event.Object) error {
	messages, _ := content.Int("rotation_period_msgs")
	ms, _ := content.Int("rotation_period_ms")
	err := c.rooms.SetEncryptionEvent(ctx, room, &mevent.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1,
		RotationPeriodMillis: max(0, ms), RotationPeriodMessages: int(min(max(0, messages), 1<<20))})
	if err == nil {
		c.remember(room, true)
	}
	return err
}

// setMember notes who is in an encrypted room. Whoever leaves must not read what is said afterwards, and who comes
// must get the key: either way the room gets a new one.
func (c *Crypto) setMember(ctx context.Context, room id.RoomID, m event.Member) error {
	if m.User == c.cfg.Client.Bot() || c.cfg.IsGhost(m.User) {
		return nil
	}
	if enc, err := c.rooms.IsEncrypted(ctx, room); err != nil || !enc {
		return err
	}
	had, err := c.rooms.GetMembership(ctx, room, m.User)
	if err != nil || had == mevent.Membership(m.Membership) {
		return err
	}
	if err := c.Discard(ctx, room); err != nil {
		return err
	}
	could, err := c.reads(ctx, room, m.User)
	if err != nil {
		return err
	}
	if !could || m.Membership != event.Join {
		c.late.moved(room, m.User)
	}
	return c.rooms.SetMembership(ctx, room, m.User, mevent.Membership(m.Membership))
}

func (c *Crypto) setVisibility(ctx context.Context, room id.RoomID, visibility string) error {
	enc, err := c.rooms.IsEncrypted(ctx, room)
	if err != nil || !enc {
		return err
	}
	had, err := c.rooms.GetHistoryVisibility(ctx, room)
	if err != nil || had != nil && string(had.HistoryVisibility) == visibility {
		return err
	}
	if err := c.rooms.SetHistoryVisibility(ctx, room, &mevent.HistoryVisibilityEventContent{HistoryVisibility: mevent.HistoryVisibility(visibility)}); err != nil {
		return err
	}
	c.late.forget(room)
	return c.Discard(ctx, room)
}

// deviceLists marks users whose devices changed; Run, or the next message to them, asks for the devices.
func (c *Crypto) deviceLists(ctx context.Context, raw json.RawMessage) error {
	if len(raw) == 0 {
		return nil
	}
	o, err := event.ParseObject(raw)
	if err != nil {
		return nil
	}
	var users []id.UserID
	for _, v := range o.Array("changed", maxUsers) {
		var u id.UserID
		if json.Unmarshal(v, &u) == nil && event.ValidUserID(u) && u != c.cfg.Client.Bot() && !c.cfg.IsGhost(u) {
			users = append(users, u)
		}
	}
	for part := range slices.Chunk(users, 500) {
		known, err := c.keys.FilterTrackedUsers(ctx, part)
		if err != nil {
			return err
		}
		if len(known) > 0 {
			if err := c.keys.MarkTrackedUsersOutdated(ctx, known); err != nil {
				return err
			}
			c.stale.Store(true)
		}
		c.mu.Lock()
		for _, u := range part {
			delete(c.failed, u)
		}
		c.mu.Unlock()
		for _, u := range part {
			if !slices.Contains(known, u) { // nobody could tell their devices when a key was shared, or they are strangers
				c.late.changed(u)
			}
		}
		c.wake()
	}
	return nil
}

// keyCounts notes how many one-time keys of the device the homeserver has left.
func (c *Crypto) keyCounts(raw json.RawMessage) {
	if len(raw) == 0 || !c.started.Load() {
		return // Run counts by itself when it begins
	}
	var counts map[id.UserID]map[id.DeviceID]map[id.KeyAlgorithm]int
	if err := json.Unmarshal(raw, &counts); err != nil {
		return
	}
	own, ok := counts[c.cli.UserID][c.cli.DeviceID]
	if !ok {
		return
	}
	n, ok := own[id.KeyAlgorithmSignedCurve25519]
	if !ok && len(own) > 0 {
		return
	}
	c.mu.Lock()
	c.count = n
	c.mu.Unlock()
	if n < c.wanted {
		c.wake()
	}
}

// Discard throws the room's outgoing key away; the next message makes a new one.
func (c *Crypto) Discard(ctx context.Context, room id.RoomID) error {
	if err := c.keys.RemoveOutboundGroupSession(ctx, room); err != nil {
		return fmt.Errorf("discard the key of a room: %w", err)
	}
	c.cfg.Observe("rotated")
	return nil
}

// withheld is the sentence for people when a sender keeps the key from us.
func withheld(err error) string {
	var w *mevent.RoomKeyWithheldEventContent
	if !errors.As(err, &w) {
		return ""
	}
	switch w.Code {
	case mevent.RoomKeyWithheldUnverified:
		return "the sender's client gives no keys to devices that are not verified"
	case mevent.RoomKeyWithheldBlacklisted:
		return "the sender's client blocks the bridge's device"
	}
	return "the sender's client keeps the key back (" + strings.ToValidUTF8(string(w.Code[:min(len(w.Code), 60)]), "") + ")"
}

var _ crypto.StateStore = (*roomStore)(nil)
var _ crypto.Store = (*keyStore)(nil)
