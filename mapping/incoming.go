package mapping

import (
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// Incoming is a MIMI message that was received and checked.
type Incoming struct {
	Message *content.Message
	ID      content.MessageID
	// SenderURI is the author as in the participant list, Sender its user on Matrix.
	SenderURI string
	Sender    id.UserID
	// AcceptedMS is the hub's time in milliseconds since 1970.
	AcceptedMS uint64
	// MayNotifyRoom says that the sender's power level suffices for @room.
	MayNotifyRoom bool
	// MayDeleteOthers and MayDeleteOthersReactions say that the sender's role may
	// delete messages and reactions of others.
	MayDeleteOthers, MayDeleteOthersReactions bool
}

// Rendering is what becomes of a MIMI message on Matrix.
type Rendering struct {
	// Events are to be sent in order; none when there is nothing to show.
	Events []Out
	// Status is set when the message is a status report and shows nothing.
	Status content.StatusReport
	// Drop says why nothing comes of the message.
	Drop Drop
	// Others says that events of another author are redacted: the sender's ghost
	// may lack the power for that, then the bot does it.
	Others bool
	// ExpiresMS is when the events are to be redacted, in milliseconds since
	// 1970; 0 for never. ExpiresAfterRead instead gives seconds after the first
	// reading.
	ExpiresMS        int64
	ExpiresAfterRead uint32
}

// Out is one Matrix event to be sent.
type Out struct {
	// Part numbers the events of a message from 0.
	Part int
	// Sender is the ghost that sends it.
	Sender id.UserID
	// Type is the event type; Message is its content for m.room.message and
	// m.sticker, Content for all others.
	Type    string
	Message *event.Message
	Content []byte
	// Redacts is set for a redaction, which has no content.
	Redacts id.EventID
	// File must be fetched, put into the media repository and given to
	// [Out.Complete] before the event can be sent; nil for events without one.
	File *Fetch
	// TS is the origin time in milliseconds since 1970.
	TS int64
	// Memory is to be kept with the link, with First and FirstEvent of an edit.
	// An event with an empty Kind needs no link.
	Memory
	First      content.MessageID
	FirstEvent id.EventID
}

// Fetch is a file of a MIMI message.
type Fetch struct {
	// External is where the file is, or nil if Inline has it.
	External *content.ExternalPart
	Inline   []byte
	// Mimetype and Name are safe to be shown.
	Mimetype, Name string
	// Thumbnail is a preview that came along, with its media type; nil for none.
	Thumbnail     []byte
	ThumbnailType string
}

// Stored is a file in the Matrix media repository.
type Stored struct {
	// MXC is the address of a plain file, Encrypted describes an encrypted one.
	MXC       string
	Encrypted *event.EncryptedFile
	// Size, Width, Height and Duration (ms) are of the file as stored; 0 if not known.
	Size, Width, Height, Duration int64
	// Thumbnail is the stored preview, or nil.
	Thumbnail *Stored
}

// Complete puts a fetched file into the event.
func (o *Out) Complete(s Stored) {
	if o.File == nil || o.Message == nil {
		return
	}
	fill(o.Message.Media, s, o.File)
	if o.Message.NewContent != nil {
		fill(o.Message.NewContent.Media, s, o.File)
	}
	o.File = nil
}

func fill(m *event.Media, s Stored, f *Fetch) {
	if m == nil {
		return
	}
	m.URL, m.File = s.MXC, s.Encrypted
	if m.File != nil {
		m.URL = ""
	}
	for _, v := range []struct {
		to   *int64
		from int64
	}{{&m.Size, s.Size}, {&m.Width, s.Width}, {&m.Height, s.Height}, {&m.Duration, s.Duration}} {
		if v.from > 0 {
			*v.to = v.from
		}
	}
	if t := s.Thumbnail; t != nil {
		m.Thumbnail = &event.Media{URL: t.MXC, File: t.Encrypted, Mimetype: f.ThumbnailType, Size: t.Size, Width: t.Width, Height: t.Height}
	}
}

// Fail turns an event whose file could not be had into a notice that says so.
func (o *Out) Fail(why string) {
	if o.File == nil {
		return
	}
	name := o.File.Name
	if name == "" {
		name = o.File.Mimetype
	}
	text := "[" + html.Apart(html.Line(name, 200)) + "] could not be fetched"
	if why != "" {
		text += " (" + html.Apart(html.Line(why, 200)) + ")"
	}
	shown := o.Message
	if shown.NewContent != nil {
		shown = shown.NewContent
	}
	if caption, _ := shown.Caption(); caption != "" { // what was said beside the file is not lost with it
		text += "\n" + caption
	}
	origin := o.Message.Origin
	rel := o.Message.Relation
	if rel.Replaces != "" {
		rel = event.Relation{ReplyTo: rel.Replaces}
	}
	o.Type, o.File, o.Kind = event.TypeMessage, nil, KindNotice
	o.Message = &event.Message{MsgType: event.MsgNotice, Body: text, Relation: rel, Mentions: &event.Mentions{}, Origin: origin}
}

// Request is the request that sends the event. It must not wait for a file.
func (o *Out) Request() event.Request {
	if o.Redacts != "" {
		return event.NewRequest(event.Redact{Sender: o.Sender, Event: o.Redacts})
	}
	body := o.Content
	if o.Message != nil {
		body = o.Message.Encode()
	}
	return event.NewRequest(event.Send{Sender: o.Sender, Type: o.Type, Content: body, TS: o.TS})
}

// FromMIMI maps a message to Matrix events.
func (r *Room) FromMIMI(m Incoming) Rendering {
	i := &in{room: r, Incoming: m}
	var res Rendering
	switch m.Message.Purpose() {
	case content.Post:
		res = i.post()
	case content.Edit:
		res = i.edit()
	case content.Delete, content.Unlike:
		res = i.remove()
	case content.React:
		res = i.react(nil)
	case content.EditReaction:
		res = i.changeReaction()
	case content.Status:
		report, ok, err := content.StatusIn(m.Message)
		if !ok || err != nil {
			return Rendering{Drop: DropEmpty}
		}
		return Rendering{Status: report}
	}
	i.finish(&res)
	return res
}

// in is the mapping of one message on its way.
type in struct {
	room *Room
	Incoming
}

// finish numbers the events and gives them what all have in common.
func (i *in) finish(res *Rendering) {
	for n := range res.Events {
		o := &res.Events[n]
		o.Part, o.TS = n, int64(i.AcceptedMS)
		if o.Sender == "" {
			o.Sender = i.Sender
		}
		if o.Message != nil {
			o.Message.Origin = i.origin(n)
			if o.Message.Mentions == nil {
				o.Message.Mentions = &event.Mentions{}
			}
			i.expiry(res, o.Message)
		}
		if o.Kind == "" {
			continue
		}
		o.Topic, o.InReplyTo, o.Expires = i.Message.TopicID, i.Message.InReplyTo, i.Message.Expires
		if o.Kind == KindReaction {
			o.Disposition = content.Reaction
		} else if o.Disposition == content.Unspecified {
			o.Disposition = content.Render
		}
	}
}

func (i *in) origin(part int) *event.Origin {
	return &event.Origin{ID: i.ID.String(), Part: part, Room: i.room.URI}
}

// expiry maps the expiration, which receivers are asked to obey.
func (i *in) expiry(res *Rendering, m *event.Message) {
	x := i.Message.Expires
	if x == nil {
		return
	}
	if x.Relative {
		res.ExpiresAfterRead = x.Time
		m.Timer = &event.Timer{AfterRead: true, Milliseconds: int64(x.Time) * 1000}
		return
	}
	res.ExpiresMS = int64(x.Time) * 1000
	if left := res.ExpiresMS - int64(i.AcceptedMS); left > 0 {
		m.Timer = &event.Timer{Milliseconds: left}
	}
}

// notice is an event that says in words what cannot be shown.
func notice(text string) Out {
	return Out{Type: event.TypeMessage, Memory: Memory{Kind: KindNotice}, Message: &event.Message{MsgType: event.MsgNotice, Body: text}}
}

// post maps an ordinary message.
func (i *in) post() Rendering {
	events := i.render()
	if len(events) == 0 {
		return Rendering{Drop: DropEmpty}
	}
	rel, note := i.relation()
	for n := range events {
		m := events[n].Message
		if n == 0 {
			m.Relation = rel
			if note != "" {
				prepend(m, note+" ")
			}
		} else if rel.Thread != "" {
			m.Relation = event.Relation{Thread: rel.Thread, ReplyTo: rel.Thread, ThreadFallback: true}
		}
		events[n].Thread = rel.Thread
	}
	return Rendering{Events: events}
}

// prepend writes a remark before a text; a file without caption gets it as one.
func prepend(m *event.Message, text string) {
	if f := m.Media; f != nil {
		if f.Filename == "" {
			f.Filename, m.Body = m.Body, ""
		} else if f.Filename == m.Body && m.HTML == "" {
			m.Body = ""
		}
	}
	m.Body = text + m.Body
	if m.HTML != "" {
		m.HTML = html.Escape(text) + m.HTML
	}
}
