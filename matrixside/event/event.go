package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"maunium.net/go/mautrix/id"
)

// Types of events that the bridge reads or writes.
const (
	TypeMessage           = "m.room.message"
	TypeSticker           = "m.sticker"
	TypeReaction          = "m.reaction"
	TypeRedaction         = "m.room.redaction"
	TypeEncrypted         = "m.room.encrypted"
	TypeMember            = "m.room.member"
	TypeCreate            = "m.room.create"
	TypePowerLevels       = "m.room.power_levels"
	TypeName              = "m.room.name"
	TypeTopic             = "m.room.topic"
	TypeAvatar            = "m.room.avatar"
	TypeJoinRules         = "m.room.join_rules"
	TypeHistoryVisibility = "m.room.history_visibility"
	TypeGuestAccess       = "m.room.guest_access"
	TypeEncryption        = "m.room.encryption"
	TypeTombstone         = "m.room.tombstone"
	TypeCanonicalAlias    = "m.room.canonical_alias"
	TypeServerACL         = "m.room.server_acl"
	TypeRetention         = "m.room.retention"
	TypePollStart         = "m.poll.start"
	TypePollStartUnstable = "org.matrix.msc3381.poll.start"
	TypePollEnd           = "m.poll.end"
	TypePollEndUnstable   = "org.matrix.msc3381.poll.end"
	TypeBeaconInfo        = "m.beacon_info"
	TypeBeaconUnstable    = "org.matrix.msc3672.beacon_info"
	TypeCallInvite        = "m.call.invite"
	TypeCallNotify        = "m.call.notify"
	TypeTyping            = "m.typing"
	TypeReceipt           = "m.receipt"
	TypePresence          = "m.presence"
	// TypeBridge is the state event by which a bridge shows what a room is
	// joined to (MSC2346).
	TypeBridge = "m.bridge"
	// TypeBridgeUnstable is the name of [TypeBridge] that clients know today.
	TypeBridgeUnstable = "uk.half-shot.bridge"
	// TypeSendStatus tells a sender what became of an event.
	TypeSendStatus = "com.beeper.message_send_status"
	// TypeRoles is the state event with the roles of the MIMI room.
	TypeRoles = "im.mimi.roles"
	// TypeMood is the state event with the mood of the MIMI room.
	TypeMood = "im.mimi.room_mood"
)

// Received is an event as it came from the homeserver: read, not yet checked.
type Received struct {
	Raw      json.RawMessage
	ID       string
	Room     string
	Sender   string
	Type     string
	StateKey *string
	Time     int64
	Redacts  string
	Content  Object
	Unsigned Object
}

// Event is a room event that passed [Received.Check]. Identifiers have the
// right form and size, the content is an object within the bounds.
type Event struct {
	ID     id.EventID
	Room   id.RoomID
	Sender id.UserID
	Type   string
	// StateKey is nil for an event that is not a state event.
	StateKey *string
	// Time is the origin_server_ts in milliseconds since 1970, or 0 when the
	// sending server gave a time that cannot be.
	Time int64
	// Redacts is the event that an m.room.redaction takes back.
	Redacts id.EventID
	Content Object
	// TransactionID is the transaction id of the request that made the event.
	// A homeserver gives it only to the one who sent the event.
	TransactionID string
	// PrevMembership is the membership before a member event, or "" when the
	// homeserver did not say. Dendrite never says; ask the own table first.
	PrevMembership string
	// InviteState is the stripped state of the room that came with an invite.
	InviteState []Stripped
	// Raw is the event as received.
	Raw json.RawMessage
}

// Stripped is a state event without identifier, as it comes with an invite
// (Matrix spec, "Stripped state").
type Stripped struct {
	Sender   id.UserID
	Type     string
	StateKey string
	Content  Object
}

// Parse reads one event in the client format. It fails when the event is too
// large, too deep or no JSON object.
func Parse(raw []byte) (Received, error) {
	if len(raw) > MaxEventBytes {
		return Received{}, fmt.Errorf("read Matrix event: %d octets, more than %d", len(raw), MaxEventBytes)
	}
	o, err := ParseObject(raw)
	if err != nil {
		return Received{}, fmt.Errorf("read Matrix event: %w", err)
	}
	r := Received{
		Raw:      json.RawMessage(raw),
		ID:       o.Str("event_id"),
		Room:     o.Str("room_id"),
		Sender:   o.Str("sender"),
		Type:     o.Str("type"),
		Redacts:  o.Str("redacts"),
		Content:  o.Obj("content"),
		Unsigned: o.Obj("unsigned"),
	}
	if r.Sender == "" { // ephemeral events of MSC2409 and old servers
		r.Sender = o.Str("user_id")
	}
	if key, ok := o.str("state_key"); ok {
		r.StateKey = &key
	}
	r.Time, _ = o.Int("origin_server_ts")
	return r, nil
}

// Check returns the event if it is one that may be used: identifiers of the
// right form, a content of bounded size.
func (r Received) Check() (Event, error) {
	e := Event{
		ID: id.EventID(r.ID), Room: id.RoomID(r.Room), Sender: id.UserID(r.Sender),
		Type: r.Type, StateKey: r.StateKey, Content: r.Content, Raw: r.Raw,
	}
	switch {
	case !ValidEventID(e.ID):
		return Event{}, errors.New("check Matrix event: bad event id")
	case !ValidRoomID(e.Room):
		return Event{}, errors.New("check Matrix event: bad room id")
	case !ValidUserID(e.Sender):
		return Event{}, errors.New("check Matrix event: bad sender")
	case r.Type == "" || len(r.Type) > MaxIdentifier:
		return Event{}, errors.New("check Matrix event: bad type")
	case r.StateKey != nil && len(*r.StateKey) > MaxIdentifier:
		return Event{}, errors.New("check Matrix event: state key is too long")
	case r.Content == nil:
		return Event{}, errors.New("check Matrix event: content is no object")
	}
	size := 0
	for k, v := range r.Content {
		size += len(k) + len(v)
	}
	if size > MaxContentBytes {
		return Event{}, fmt.Errorf("check Matrix event: content has %d octets, more than %d", size, MaxContentBytes)
	}
	if r.Time > 0 && r.Time < 1<<53 {
		e.Time = r.Time
	}
	if r.Type == TypeRedaction {
		// Since room version 11 the target is in the content; homeservers copy
		// it to either place for old and new clients.
		e.Redacts = id.EventID(r.Redacts)
		if e.Redacts == "" {
			e.Redacts = id.EventID(r.Content.Str("redacts"))
		}
		if !ValidEventID(e.Redacts) {
			return Event{}, errors.New("check Matrix event: bad redacted event id")
		}
	}
	e.readUnsigned(r.Unsigned)
	return e, nil
}

func (e *Event) readUnsigned(u Object) {
	e.TransactionID = cut(u.Str("transaction_id"), MaxIdentifier)
	if e.Type != TypeMember {
		return
	}
	e.PrevMembership = u.Obj("prev_content").Str("membership")
	for _, o := range u.Objects("invite_room_state", 64) {
		e.InviteState = append(e.InviteState, Stripped{
			Sender: id.UserID(o.Str("sender")), Type: o.Str("type"),
			StateKey: o.Str("state_key"), Content: o.Obj("content"),
		})
	}
}

// ParseChecked is [Parse] followed by [Received.Check].
func ParseChecked(raw []byte) (Event, error) {
	r, err := Parse(raw)
	if err != nil {
		return Event{}, err
	}
	return r.Check()
}

// ValidEventID reports whether s may be the identifier of an event.
func ValidEventID(s id.EventID) bool { return validSigil(string(s), '$') }

// ValidRoomID reports whether s may be the identifier of a room. Rooms of
// version 12 have no server name in it.
func ValidRoomID(s id.RoomID) bool { return validSigil(string(s), '!') }

// ValidAlias reports whether s may be a room alias.
func ValidAlias(s id.RoomAlias) bool {
	local, server, ok := strings.Cut(string(s), ":")
	return ok && validSigil(string(s), '#') && len(local) > 1 && server != ""
}

// ValidUserID reports whether s may be the identifier of a user. Historical
// localparts, which hold any character but a colon, are allowed
// (Matrix spec, appendices, "Historical User IDs").
func ValidUserID(s id.UserID) bool {
	local, server, ok := strings.Cut(string(s), ":")
	return ok && validSigil(string(s), '@') && len(local) >= 1 && server != ""
}

func validSigil(s string, sigil byte) bool {
	if len(s) < 2 || len(s) > MaxIdentifier || s[0] != sigil {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < 0x21 || s[i] == 0x7f {
			return false
		}
	}
	return true
}
