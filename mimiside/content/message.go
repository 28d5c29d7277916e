package content

import (
	"bytes"
	"fmt"
	"io"
)

// Salt is the random salt of a message, 16 octets (draft-ietf-mimi-content-08, Message Behavior Fields).
// It also keys the franking tag (draft-ietf-mimi-protocol-06 §5.4.1).
type Salt [16]byte

// NewSalt reads a salt from rand, which must be cryptographically random.
func NewSalt(rand io.Reader) (Salt, error) {
	var s Salt
	if _, err := io.ReadFull(rand, s[:]); err != nil {
		return Salt{}, fmt.Errorf("drawing a salt: %w", err)
	}
	return s, nil
}

// Message is one MIMI content message (draft-ietf-mimi-content-08, mimiContent): an array of seven elements
// in the order of these fields.
type Message struct {
	Salt Salt
	// Replaces is the first version of the message that this one edits or deletes, or the zero id.
	Replaces MessageID
	// TopicID groups messages into a thread, at most MaxTopicID octets; empty means no thread.
	TopicID []byte
	// Expires is when receivers are asked to delete the message; nil means never.
	Expires *Expiration
	// InReplyTo is the version of a message that this one answers or reacts to, or the zero id.
	InReplyTo  MessageID
	Extensions Extensions
	Body       Part
}

// Expiration asks receivers to delete a message (draft-ietf-mimi-content-08, Expiration).
type Expiration struct {
	// Relative tells how to read Time: seconds after the receiver read the message, or seconds since 1970.
	Relative bool
	Time     uint32
}

// oneYear in seconds bounds an expiration (draft-ietf-mimi-content-08, General handling).
const oneYear = 366 * 24 * 3600

// checkAt returns an ErrDiscard when the expiration is more than a year away from nowSeconds (since 1970).
func (e *Expiration) checkAt(nowSeconds int64) error {
	if e == nil {
		return nil
	}
	if e.Relative {
		if int64(e.Time) > oneYear {
			return discard("expires %d seconds after reading, more than a year", e.Time)
		}
		return nil
	}
	if d := int64(e.Time) - nowSeconds; d > oneYear || d < -oneYear {
		return discard("expires %d seconds from its acceptance, more than a year", d)
	}
	return nil
}

// Purpose is what a message does, as told by its fields.
type Purpose uint8

const (
	// Post is an ordinary message, a reply included.
	Post Purpose = iota
	// Edit gives a message a new body.
	Edit
	// Delete retracts a message.
	Delete
	// React adds a reaction to the message in InReplyTo.
	React
	// EditReaction changes an earlier reaction into another one.
	EditReaction
	// Unlike retracts a reaction.
	Unlike
	// Status is a message status report (draft-mahy-mimi-message-status-01) in a single part.
	Status
)

func (p Purpose) String() string {
	if int(p) < len(purposeNames) {
		return purposeNames[p]
	}
	return fmt.Sprintf("purpose %d", uint8(p))
}

var purposeNames = [...]string{"post", "edit", "delete", "react", "edit reaction", "unlike", "status report"}

// Purpose classifies the message by Replaces, disposition and body (draft-ietf-mimi-content-08, Examples).
// Whether the sender may do it, and whether what it refers to exists, is for the caller to decide.
func (m *Message) Purpose() Purpose {
	_, empty := m.Body.Body.(NullPart)
	reaction := m.Body.Disposition == Reaction
	switch {
	case m.Replaces.IsZero():
		if s, ok := m.Body.Body.(SinglePart); ok && isStatusType(s.ContentType) {
			return Status
		}
		if reaction && !empty {
			return React
		}
		return Post
	case empty && reaction:
		return Unlike
	case empty:
		return Delete
	case reaction:
		return EditReaction
	default:
		return Edit
	}
}

// Field names a field of Message outside its body, for [Message.ChangedFields].
type Field string

// Fields that an edit must not change without a right of its own (canEditOwnTopic, canEditOtherTopic for the topic).
const (
	FieldTopicID   Field = "topicId"
	FieldExpires   Field = "expires"
	FieldInReplyTo Field = "inReplyTo"
)

// ChangedFields lists the fields outside the body that differ between the first version of a message and m,
// which replaces it. The draft lets an edit change the body only (Rendering and authorization of edits and deletes).
func (m *Message) ChangedFields(first *Message) []Field {
	var out []Field
	if !bytes.Equal(m.TopicID, first.TopicID) {
		out = append(out, FieldTopicID)
	}
	if (m.Expires == nil) != (first.Expires == nil) || m.Expires != nil && *m.Expires != *first.Expires {
		out = append(out, FieldExpires)
	}
	if m.InReplyTo != first.InReplyTo {
		out = append(out, FieldInReplyTo)
	}
	return out
}
