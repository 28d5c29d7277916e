package mapping

import (
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// Outgoing is what becomes of a Matrix event.
type Outgoing struct {
	// Message is the MIMI message without its salt set by us, or nil when there
	// is nothing to send; Drop says why then, unless Needs is not empty.
	Message *content.Message
	Drop    Drop
	// Needs are the files that must be put into the asset store before the event
	// can be mapped; call again with them in files.
	Needs []File
	// Memory is to be kept with the link of event and message. FirstEvent and
	// First are set for an edit.
	Memory
	First      content.MessageID
	FirstEvent id.EventID
	// Target is the event that the message changes or takes back: set for edits,
	// reactions and redactions.
	Target id.EventID
	// Others says that the message changes one of another author, so that the
	// sender's role must allow that.
	Others bool
	// Siblings are other events of the message that a redaction takes back: MIMI
	// has no part of a message, so they should be redacted, too.
	Siblings []id.EventID
}

// File is a file in the Matrix media repository.
type File struct {
	// MXC is the address, Encrypted the key to it if it is encrypted.
	MXC       string
	Encrypted *event.EncryptedFile
	// Mimetype, Name and Size are as the sender said: hints.
	Mimetype, Name string
	Size           int64
	// Thumbnail is a smaller image of it, or nil.
	Thumbnail *File
}

// Uploaded is a file in the asset store.
type Uploaded struct {
	// Part has all fields of the encryption, URL, size and media type.
	Part content.ExternalPart
	// Preview is a small image of it (at most 16 KiB), nil for none.
	Preview     []byte
	PreviewType string
}

// Files finds files that were uploaded, by their mxc address.
type Files func(mxc string) (Uploaded, bool)

// ToMIMI maps a message event of a participant. files may be nil when nothing
// was uploaded yet. The caller sets the salt of the message and has checked
// that the event is no echo of our own.
func (r *Room) ToMIMI(e event.Event, salt content.Salt, files Files) Outgoing {
	uri, ok := r.People.URI(e.Sender)
	if !ok {
		return Outgoing{Drop: DropNotMember}
	}
	if files == nil {
		files = func(string) (Uploaded, bool) { return Uploaded{}, false }
	}
	o := &out{room: r, ev: e, files: files, ext: content.Extensions{}}
	var res Outgoing
	switch e.Type {
	case event.TypeMessage, event.TypeSticker:
		m, ok := e.Message()
		if !ok {
			return Outgoing{Drop: DropEmpty}
		}
		if g := m.Origin; g != nil && g.Room == r.URI {
			return Outgoing{Drop: DropLoop}
		}
		res = o.message(m)
	case event.TypeReaction:
		res = o.reaction()
	case event.TypeRedaction:
		res = o.redaction(uri)
	case event.TypePollStart, event.TypePollStartUnstable:
		res = o.pollStart()
	case event.TypePollEnd, event.TypePollEndUnstable:
		res = o.pollEnd()
	case event.TypeCallNotify, event.TypeCallInvite:
		res = o.call()
	case event.TypeBeaconInfo, event.TypeBeaconUnstable:
		res = o.beacon()
	case "m.poll.response", "org.matrix.msc3381.poll.response", "m.call.answer", "m.call.hangup", "m.call.candidates",
		"m.call.select_answer", "m.call.reject", "m.call.negotiate", "m.beacon", "org.matrix.msc3672.beacon",
		event.TypeSendStatus:
		return Outgoing{Drop: DropSilent}
	default:
		return Outgoing{Drop: DropUnsupported}
	}
	if res.Message == nil {
		return res
	}
	m := res.Message
	m.Salt, m.Extensions = salt, o.ext
	m.Extensions.SetNames(uri, r.URI)
	if r.SenderTime && e.Time > 0 {
		m.Extensions.SetSenderTimestamp(uint64(e.Time))
	}
	if r.ExternalID != "" {
		m.Extensions.SetExternalID([]byte(e.ID), r.ExternalID)
	}
	res.Topic, res.InReplyTo, res.Expires, res.Disposition = m.TopicID, m.InReplyTo, m.Expires, m.Body.Disposition
	return res
}

// out is the mapping of one event on its way.
type out struct {
	room  *Room
	ev    event.Event
	files Files
	ext   content.Extensions
}

// single is a part with text in it.
func single(d content.Disposition, contentType, text string) content.Part {
	return content.Part{Disposition: d, Body: content.SinglePart{ContentType: contentType, Content: []byte(text)}}
}

// message maps m.room.message and m.sticker.
func (o *out) message(m event.Message) Outgoing {
	if m.Relation.Replaces != "" {
		return o.edit(m)
	}
	body, kind, res := o.body(m)
	if res != nil {
		return *res
	}
	msg := &content.Message{Body: body}
	res = &Outgoing{Message: msg, Memory: Memory{Kind: kind}}
	o.relate(m.Relation, msg, &res.Memory)
	msg.Expires = o.expires(m.Timer)
	return *res
}

// body maps the content of a message, without its relations.
func (o *out) body(m event.Message) (content.Part, Kind, *Outgoing) {
	switch {
	case m.Media != nil:
		return o.media(m)
	case m.MsgType == event.MsgLocation && m.GeoURI != "":
		return o.location(m), KindText, nil
	}
	part, ok := o.text(m)
	if !ok {
		return part, KindText, &Outgoing{Drop: DropEmpty}
	}
	return part, KindText, nil
}

// expires maps a timer, or the room's demand.
func (o *out) expires(t *event.Timer) *content.Expiration {
	const year = 365 * 24 * 3600
	switch {
	case t == nil && o.room.Expires == 0:
		return nil
	case t == nil:
		return &content.Expiration{Relative: true, Time: o.room.Expires}
	}
	seconds := min(max(1, (t.Milliseconds+999)/1000), year)
	if t.AfterRead || o.ev.Time == 0 {
		return &content.Expiration{Relative: true, Time: uint32(seconds)}
	}
	at := o.ev.Time/1000 + seconds
	if at <= 0 || at > 1<<32-1 {
		return nil
	}
	return &content.Expiration{Time: uint32(at)}
}
