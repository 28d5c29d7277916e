package mapping

import (
	"strings"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// relate maps replies and threads.
func (o *out) relate(rel event.Relation, msg *content.Message, mem *Memory) {
	if rel.Thread != "" {
		mem.Thread = rel.Thread
		msg.TopicID = o.topic(rel.Thread)
	}
	if rel.ReplyTo == "" || rel.ThreadFallback {
		return
	}
	if k, ok := o.room.Links.ByEvent(rel.ReplyTo); ok {
		msg.InReplyTo = o.room.newest(k)
	}
}

// topic is the MIMI topic of a Matrix thread: that of its root, else the
// message id of its root, else, for a root that never went over the bridge, the
// event id.
func (o *out) topic(root id.EventID) []byte {
	k, ok := o.room.Links.ByEvent(root)
	if !ok {
		return []byte(root)
	}
	if len(k.Topic) > 0 {
		return k.Topic
	}
	first := k.FirstID()
	return first[:]
}

// newest is the version of a message that an answer refers to.
func (r *Room) newest(k Known) content.MessageID {
	first := k.FirstID()
	if n := r.Links.Newest(first); !n.IsZero() {
		return n
	}
	return k.ID
}

// edit maps m.replace. Everything but the body stays as in the first version.
func (o *out) edit(m event.Message) Outgoing {
	k, ok := o.room.Links.ByEvent(m.Relation.Replaces)
	if !ok {
		return Outgoing{Drop: DropUnknownTarget}
	}
	if uri, _ := o.room.People.URI(o.ev.Sender); k.Sender != uri {
		return Outgoing{Drop: DropForeign} // Matrix clients ignore it, too
	}
	next := m
	next.NewContent = nil
	if m.NewContent != nil {
		next = *m.NewContent
	}
	// The body of the edit must not lose a quote that is none.
	next.Relation = event.Relation{}
	body, kind, res := o.body(next)
	if res != nil {
		return *res
	}
	msg := &content.Message{Body: body, Replaces: k.FirstID(), TopicID: k.Topic, InReplyTo: k.InReplyTo, Expires: k.Expires}
	return Outgoing{Message: msg, Memory: Memory{Kind: kind, Thread: k.Thread}, First: k.FirstID(), FirstEvent: firstEvent(k), Target: firstEvent(k)}
}

func firstEvent(k Known) id.EventID {
	if k.FirstEvent != "" {
		return k.FirstEvent
	}
	return k.Event
}

// reaction maps m.reaction: one message a key.
func (o *out) reaction() Outgoing {
	rel := event.ParseRelation(o.ev.Content)
	if rel.Annotates == "" {
		return Outgoing{Drop: DropEmpty}
	}
	k, ok := o.room.Links.ByEvent(rel.Annotates)
	if !ok || k.Kind == KindReaction {
		return Outgoing{Drop: DropUnknownTarget}
	}
	key := rel.Key
	if strings.HasPrefix(key, "mxc://") { // custom emoji (MSC4027)
		key = ""
		for _, name := range []string{"shortcode", "com.beeper.reaction.shortcode"} {
			if s := strings.Trim(o.ev.Content.Str(name), ":"); s != "" && key == "" {
				key = ":" + s + ":"
			}
		}
		if key == "" {
			key = ":emoji:"
		}
	}
	msg := &content.Message{Body: single(content.Reaction, content.TypePlain, cutChars(key, MaxReaction)), InReplyTo: o.room.newest(k)}
	msg.Expires = o.expires(nil)
	return Outgoing{Message: msg, Memory: Memory{Kind: KindReaction, Key: rel.Key}, Target: rel.Annotates}
}

// redaction maps m.room.redaction to a deletion or, of a reaction, an unlike.
func (o *out) redaction(sender string) Outgoing {
	k, ok := o.room.Links.ByEvent(o.ev.Redacts)
	if !ok {
		return Outgoing{Drop: DropSilent} // it never went over
	}
	if !k.First.IsZero() && k.Event == o.ev.Redacts {
		// MIMI cannot take back one version of a message.
		return Outgoing{Drop: DropUnsupported}
	}
	if k.Kind == KindNotice {
		return Outgoing{Drop: DropSilent}
	}
	d := k.Disposition
	if k.Kind == KindReaction {
		d = content.Reaction
	} else if d == content.Unspecified {
		d = content.Render
	}
	msg := &content.Message{
		Body: content.Part{Disposition: d, Body: content.NullPart{}}, Replaces: k.FirstID(),
		TopicID: k.Topic, InReplyTo: k.InReplyTo, Expires: k.Expires,
	}
	res := Outgoing{Message: msg, Memory: Memory{Kind: k.Kind, Thread: k.Thread}, First: k.FirstID(), FirstEvent: firstEvent(k), Target: k.Event, Others: k.Sender != sender}
	for _, part := range o.room.Links.ByID(k.ID) {
		if part.Event != k.Event && part.Event != "" {
			res.Siblings = append(res.Siblings, part.Event)
		}
	}
	return res
}

// cutChars shortens s to n characters.
func cutChars(s string, n int) string {
	rs := []rune(s)
	if len(rs) <= n {
		return s
	}
	return string(rs[:n])
}
