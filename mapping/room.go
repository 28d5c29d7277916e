package mapping

import (
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// Bounds on messages.
const (
	// MaxMentions is the largest number of users a message may mention where
	// Options do not say it.
	MaxMentions = 20
	// MaxEvents is the largest number of events that one MIMI message becomes.
	MaxEvents = 20
	// MaxBody is the largest text, plain and formatted together, of one event in
	// octets of JSON. A longer one becomes a file.
	MaxBody = 48 << 10
	// MaxReaction is the longest reaction in characters.
	MaxReaction = 64
)

// Kind is what a message is, as far as later messages about it need to know.
type Kind string

// The kinds of message.
const (
	KindText     Kind = "text"
	KindMedia    Kind = "media"
	KindReaction Kind = "reaction"
	KindNotice   Kind = "notice" // something the bridge says in place of a message
)

// Memory is what must be remembered of a message for those that refer to it
// later. It is stored as JSON with the link of event and message.
type Memory struct {
	Kind Kind `json:"k,omitempty"`
	// Topic and InReplyTo and Expires are those of the first version: an edit
	// repeats them.
	Topic     []byte              `json:"t,omitempty"`
	InReplyTo content.MessageID   `json:"r,omitzero"`
	Expires   *content.Expiration `json:"x,omitempty"`
	// Disposition is that of the body.
	Disposition content.Disposition `json:"d,omitempty"`
	// Thread is the Matrix event that begins the thread, "" outside of threads.
	Thread id.EventID `json:"th,omitempty"`
	// Key is the key of a reaction.
	Key string `json:"key,omitempty"`
}

// Known is a message that went over the bridge: one Matrix event and one part
// of a MIMI message.
type Known struct {
	// Event is the Matrix event, "" while it waits to be sent.
	Event id.EventID
	// ID is the MIMI message and Part which of the events made from it this is.
	ID   content.MessageID
	Part int
	// First is the first version of the message if this is an edit, else zero;
	// FirstEvent is the event that was edited.
	First      content.MessageID
	FirstEvent id.EventID
	// Sender is the MIMI user URI of the author.
	Sender string
	// Seq orders the messages of a room.
	Seq int64
	Memory
}

// Ref is what another event can point to: the event or, while it waits, a
// reference that is completed when both are sent. For an edit it is the event
// that was there first.
func (k Known) Ref() id.EventID {
	switch {
	case k.FirstEvent != "":
		return k.FirstEvent
	case k.Event != "":
		return k.Event
	}
	return event.PendingID(k.ID[:], k.Part)
}

// FirstID is the MIMI id of the first version.
func (k Known) FirstID() content.MessageID {
	if k.First.IsZero() {
		return k.ID
	}
	return k.First
}

// Links finds messages that went over the bridge in this room.
type Links interface {
	// ByEvent finds the message of an event, edits included.
	ByEvent(ev id.EventID) (Known, bool)
	// ByID finds all events of a message, in the order of their parts. It also
	// answers for the id that drafts before -08 give the message.
	ByID(mimiID content.MessageID) []Known
	// Newest is the latest version of a message that is known, given its first.
	Newest(first content.MessageID) content.MessageID
	// Edits are the events that edited a message, given its first version.
	Edits(first content.MessageID) []Known
	// Topic finds the beginning of a topic (the message with this id, else the
	// first message with this topic) and the latest message in it.
	Topic(topic []byte) (root, latest Known, ok bool)
	// Thread is the latest message of a Matrix thread.
	Thread(root id.EventID) (latest Known, ok bool)
}

// People knows who takes part in a room.
type People interface {
	// URI is the MIMI user URI of a participant, exactly as in the participant list.
	URI(mxid id.UserID) (uri string, ok bool)
	// MXID is the Matrix user of a participant.
	MXID(uri string) (mxid id.UserID, ok bool)
	// Name is what a user is called in the Matrix room; never "".
	Name(mxid id.UserID) string
}

// Room is where a message is mapped.
type Room struct {
	// URI is the MIMI room exactly as in its metadata.
	URI    string
	People People
	Links  Links
	Options
}

// Options are choices of the operator and demands of the room's policy.
type Options struct {
	// MentionPrefix writes the name of a mentioned user before a text that does
	// not hold it; off, that mention is lost.
	MentionPrefix bool
	// Expires is put on every message that has no expiry of its own, where the
	// room's policy demands one (seconds after reading); 0 for none.
	Expires uint32
	// Mentions is the largest number of users a message may mention, 0 for
	// MaxMentions; beyond it nobody is mentioned.
	Mentions int
	// SenderTime puts the origin time of an event into the message.
	SenderTime bool
	// ExternalID puts the event id into the message, with this domain; "" does not.
	ExternalID string
	// CallURL is where a call in a Matrix room can be joined without a Matrix
	// account; {room} stands for the room's id. "" when there is no such place.
	CallURL string
	// Languages are the preferred languages of what comes in, best first.
	Languages []string
}

func (o Options) maxMentions() int {
	if o.Mentions > 0 {
		return o.Mentions
	}
	return MaxMentions
}

// historyNote is put before answers to messages that are not known.
const historyNote = "(reply to an older message)"

// Drop says why nothing is sent. The words are a closed list.
type Drop string

// The reasons.
const (
	// DropNone: there is something to send.
	DropNone Drop = ""
	// DropSilent: events of this kind have nothing to say to MIMI.
	DropSilent Drop = "silent"
	// DropUnsupported: MIMI has nothing for this; the sender is told once.
	DropUnsupported Drop = "unsupported"
	// DropEmpty: the message has no content.
	DropEmpty Drop = "empty"
	// DropUnknownTarget: what it refers to never went over the bridge.
	DropUnknownTarget Drop = "unknown_target"
	// DropForeign: only the author may edit.
	DropForeign Drop = "not_the_author"
	// DropLoop: the message came out of this very room over another bridge.
	DropLoop Drop = "loop"
	// DropNotMember: the sender is no participant.
	DropNotMember Drop = "not_a_participant"
	// DropNoFile: a file could not be had.
	DropNoFile Drop = "no_file"
	// DropNotAllowed: the sender's role does not allow it.
	DropNotAllowed Drop = "not_allowed"
)

// Tell says whether the sender should hear of it, with the closed word of
// com.beeper.message_send_status and a sentence.
func (d Drop) Tell() (reason, sentence string, tell bool) {
	switch d {
	case DropUnsupported:
		return "com.beeper.unsupported_event", "MIMI has no messages of this kind, it was not sent.", true
	case DropUnknownTarget:
		return "com.beeper.unsupported_event", "The message this refers to did not go over the bridge.", true
	case DropLoop:
		return "com.beeper.unsupported_event", "This room is joined to the same MIMI room twice.", true
	case DropNotMember:
		return "m.no_permission", "You do not take part in the MIMI room.", true
	case DropForeign, DropNotAllowed:
		return "m.no_permission", "You may not do that in the MIMI room.", true
	case DropNoFile:
		return "m.foreign_network_error", "The file could not be fetched.", true
	}
	return "", "", false
}
