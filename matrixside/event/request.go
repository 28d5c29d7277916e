package event

import (
	"encoding/json"

	"maunium.net/go/mautrix/id"
)

// Verb names what a stored Matrix request does.
type Verb string

// The verbs. Each has a type of arguments with the same name.
const (
	VerbRegister   Verb = "register"
	VerbProfile    Verb = "profile"
	VerbMutePush   Verb = "mute_push"
	VerbCreateRoom Verb = "create_room"
	VerbJoin       Verb = "join"
	VerbKnock      Verb = "knock"
	VerbLeave      Verb = "leave"
	VerbInvite     Verb = "invite"
	VerbKick       Verb = "kick"
	VerbBan        Verb = "ban"
	VerbUnban      Verb = "unban"
	VerbSend       Verb = "send"
	VerbRedact     Verb = "redact"
	VerbState      Verb = "state"
	VerbReceipt    Verb = "receipt"
	VerbTyping     Verb = "typing"
	VerbAlias      Verb = "alias"
	VerbVisibility Verb = "visibility"
	VerbMarkDirect Verb = "mark_direct"
)

// Request is something to be done at the homeserver. It is stored before it is
// done; the room and the transaction key come from the row it is stored in.
type Request struct {
	Verb Verb            `json:"verb"`
	Args json.RawMessage `json:"args"`
}

// Args are the arguments of one verb.
type Args interface{ verb() Verb }

// NewRequest makes a request of its arguments.
func NewRequest(a Args) Request { return Request{Verb: a.verb(), Args: mustJSON(a)} }

// Register makes a ghost. Name and Avatar are optional. A ghost is muted too,
// so that the homeserver counts no notifications for it.
type Register struct {
	User   id.UserID `json:"user"`
	Name   string    `json:"name,omitempty"`
	Avatar string    `json:"avatar,omitempty"`
}

// Profile changes name or avatar of a ghost or of the bot; nil leaves one as it is.
type Profile struct {
	User   id.UserID `json:"user"`
	Name   *string   `json:"name,omitempty"`
	Avatar *string   `json:"avatar,omitempty"`
}

// MutePush switches off all notifications of a ghost.
type MutePush struct {
	User id.UserID `json:"user"`
}

// CreateRoom makes a room. Alias (the localpart) makes the request repeatable:
// when it is taken already, the room behind it is the answer.
type CreateRoom struct {
	Sender   id.UserID       `json:"sender,omitempty"`
	Alias    string          `json:"alias,omitempty"`
	Name     string          `json:"name,omitempty"`
	Topic    string          `json:"topic,omitempty"`
	Preset   string          `json:"preset,omitempty"`
	Version  string          `json:"version,omitempty"`
	Public   bool            `json:"public,omitempty"`
	Direct   bool            `json:"direct,omitempty"`
	Invite   []id.UserID     `json:"invite,omitempty"`
	State    []StateEvent    `json:"state,omitempty"`
	Levels   json.RawMessage `json:"levels,omitempty"`
	Creation json.RawMessage `json:"creation,omitempty"`
	// Local keeps users of other homeservers out for good.
	Local bool `json:"local,omitempty"`
}

// StateEvent is a state event of a room to be made.
type StateEvent struct {
	Type    string          `json:"type"`
	Key     string          `json:"state_key"`
	Content json.RawMessage `json:"content"`
}

// JoinRoom makes Sender join. With InviteFirst the bot invites it when the room
// does not let it in. Room overrides the room of the row and may be an alias.
type JoinRoom struct {
	Sender      id.UserID `json:"sender"`
	Room        string    `json:"room,omitempty"`
	Via         []string  `json:"via,omitempty"`
	InviteFirst bool      `json:"invite_first,omitempty"`
}

// KnockRoom makes Sender ask to be let in.
type KnockRoom struct {
	Sender id.UserID `json:"sender"`
	Room   string    `json:"room,omitempty"`
	Via    []string  `json:"via,omitempty"`
	Reason string    `json:"reason,omitempty"`
}

// membership is what [InviteUser] and the others share:
// Sender ("" is the bot) does it to Target. Was is Target's membership when it
// was decided, "" when it does not matter: see [LeaveRoom].
type membership struct {
	Sender id.UserID  `json:"sender,omitempty"`
	Target id.UserID  `json:"target"`
	Reason string     `json:"reason,omitempty"`
	Direct bool       `json:"direct,omitempty"`
	Was    Membership `json:"was,omitempty"`
}

// LeaveRoom makes Sender leave the room, decline an invite or take back a knock.
// Was is Sender's membership when it was decided. Requests of this kind have no
// transaction id: one whose answer was lost is not carried out again when the
// membership is another by now, so that who left and was invited anew does not
// leave twice.
type LeaveRoom struct {
	Sender id.UserID  `json:"sender"`
	Reason string     `json:"reason,omitempty"`
	Was    Membership `json:"was,omitempty"`
}

// InviteUser makes Sender invite Target. Direct marks a conversation of two.
type InviteUser membership

// KickUser makes Sender put Target out.
type KickUser membership

// BanUser makes Sender ban Target.
type BanUser membership

// UnbanUser makes Sender take back the ban of Target.
type UnbanUser membership

// Send sends a message event. TS is the origin time in milliseconds, 0 for now.
// Content may hold references of [PendingID].
type Send struct {
	Sender  id.UserID       `json:"sender,omitempty"`
	Type    string          `json:"type"`
	Content json.RawMessage `json:"content"`
	TS      int64           `json:"ts,omitempty"`
	// Plain keeps the event unencrypted in an encrypted room.
	Plain bool `json:"plain,omitempty"`
}

// Redact takes an event back. Event may be a reference of [PendingID].
type Redact struct {
	Sender id.UserID  `json:"sender,omitempty"`
	Event  id.EventID `json:"event"`
	Reason string     `json:"reason,omitempty"`
}

// State sends a state event. Was are members of the content that it replaces, as far as they are known: a repeated request
// that finds others in the room has been overtaken, and changes nothing.
type State struct {
	Sender  id.UserID       `json:"sender,omitempty"`
	Type    string          `json:"type"`
	Key     string          `json:"state_key"`
	Content json.RawMessage `json:"content"`
	Was     json.RawMessage `json:"was,omitempty"`
	TS      int64           `json:"ts,omitempty"`
}

// ReadUpTo sends a read receipt. Event may be a reference of [PendingID].
type ReadUpTo struct {
	Sender id.UserID  `json:"sender"`
	Event  id.EventID `json:"event"`
	Thread string     `json:"thread,omitempty"`
}

// Typing shows or hides that Sender is typing; Timeout is in milliseconds.
type Typing struct {
	Sender  id.UserID `json:"sender"`
	Typing  bool      `json:"typing"`
	Timeout int64     `json:"timeout,omitempty"`
}

// Alias gives the room a name in the directory or takes it away.
type Alias struct {
	Alias  id.RoomAlias `json:"alias"`
	Delete bool         `json:"delete,omitempty"`
}

// Visibility lists the room in the public directory or takes it out.
type Visibility struct {
	Public bool `json:"public"`
}

// MarkDirect adds the room to those that the clients of User show as direct chats
// with each of With (m.direct).
type MarkDirect struct {
	User id.UserID   `json:"user"`
	With []id.UserID `json:"with"`
}

func (MarkDirect) verb() Verb { return VerbMarkDirect }
func (Register) verb() Verb   { return VerbRegister }
func (Profile) verb() Verb    { return VerbProfile }
func (MutePush) verb() Verb   { return VerbMutePush }
func (CreateRoom) verb() Verb { return VerbCreateRoom }
func (JoinRoom) verb() Verb   { return VerbJoin }
func (KnockRoom) verb() Verb  { return VerbKnock }
func (LeaveRoom) verb() Verb  { return VerbLeave }
func (InviteUser) verb() Verb { return VerbInvite }
func (KickUser) verb() Verb   { return VerbKick }
func (BanUser) verb() Verb    { return VerbBan }
func (UnbanUser) verb() Verb  { return VerbUnban }
func (Send) verb() Verb       { return VerbSend }
func (Redact) verb() Verb     { return VerbRedact }
func (State) verb() Verb      { return VerbState }
func (ReadUpTo) verb() Verb   { return VerbReceipt }
func (Typing) verb() Verb     { return VerbTyping }
func (Alias) verb() Verb      { return VerbAlias }
func (Visibility) verb() Verb { return VerbVisibility }
