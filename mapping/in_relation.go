package mapping

import (
	"strings"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// relation maps inReplyTo and topicId. note is a remark to be put before the
// text when the message that is answered is not known.
func (i *in) relation() (rel event.Relation, note string) {
	m := i.Message
	if !m.InReplyTo.IsZero() {
		if list := i.room.Links.ByID(m.InReplyTo); len(list) > 0 {
			rel.ReplyTo = list[0].Ref()
		} else {
			note = historyNote
		}
	}
	if len(m.TopicID) == 0 {
		return rel, note
	}
	root, latest, ok := i.room.Links.Topic(m.TopicID)
	if !ok {
		return rel, note // the first message with a topic begins the thread
	}
	// Matrix threads do not nest: a topic that begins within a thread joins it.
	rel.Thread = root.Thread
	if rel.Thread == "" {
		rel.Thread = root.Ref()
	}
	if rel.ReplyTo == "" {
		rel.ReplyTo, rel.ThreadFallback = latest.Ref(), true
	}
	return rel, note
}

// edit maps a message that replaces an earlier one.
func (i *in) edit() Rendering {
	originals := i.room.Links.ByID(i.Message.Replaces)
	events := i.render()
	if len(events) == 0 {
		return Rendering{Drop: DropEmpty}
	}
	if len(originals) == 0 {
		return i.editOfUnknown(events)
	}
	if originals[0].Sender != i.SenderURI {
		return Rendering{Drop: DropForeign}
	}
	first := originals[0].FirstID()
	var out []Out
	used := map[int]bool{}
	for n := range events {
		target, ok := match(events[n], originals, used)
		if !ok {
			// What the first version did not have comes as a message of its own.
			if events[n].Kind == KindText {
				prepend(events[n].Message, "(edited) ")
			}
			events[n].Message.Relation.ReplyTo = originals[0].Ref()
			events[n].First, events[n].FirstEvent = first, ""
			events[n].Thread = originals[0].Thread
			out = append(out, events[n])
			continue
		}
		if events[n].Kind == KindMedia && events[n].Message.Body == events[n].Message.Media.Filename && len(events) > 1 {
			continue // the file itself is as it was
		}
		out = append(out, replacement(events[n], target, first))
	}
	if len(out) == 0 {
		return Rendering{Drop: DropSilent}
	}
	return Rendering{Events: out}
}

// match finds the event of the first version that an event of the new one
// stands for: of the same kind, in the same order.
func match(o Out, originals []Known, used map[int]bool) (Known, bool) {
	for n, k := range originals {
		if !used[n] && k.Kind == o.Kind {
			used[n] = true
			return k, true
		}
	}
	return Known{}, false
}

// replacement makes an event an edit of another.
func replacement(o Out, target Known, first content.MessageID) Out {
	next := *o.Message
	next.Relation = event.Relation{}
	outer := next
	outer.Body = "* " + outer.Body
	if outer.HTML != "" {
		outer.HTML = "* " + outer.HTML
	}
	if encodedLen(outer.Body)+encodedLen(outer.HTML) > MaxBody/2 {
		// The text is in the event twice: clients without edits get its beginning.
		outer.Body, outer.HTML = cutChars(outer.Body, 500)+"…", ""
	}
	outer.Relation = event.Relation{Replaces: target.Ref()}
	if next.Media != nil { // both hold the file
		media := *next.Media
		outer.Media = &media
	}
	// Whoever was mentioned was told by the first version.
	outer.NewContent, outer.Mentions = &next, &event.Mentions{}
	o.Message = &outer
	o.First, o.FirstEvent, o.Thread = first, target.Ref(), target.Thread
	o.Type = event.TypeMessage
	return o
}

func (i *in) editOfUnknown(events []Out) Rendering {
	rel, _ := i.relation()
	for n := range events {
		events[n].Message.Relation = rel
		if n == 0 {
			prepend(events[n].Message, "(edited) ")
		}
		events[n].First, events[n].Thread = i.Message.Replaces, rel.Thread
	}
	return Rendering{Events: events}
}

// remove maps a deletion or an unlike: all events of the message and of its
// edits are redacted.
func (i *in) remove() Rendering {
	originals := i.room.Links.ByID(i.Message.Replaces)
	if len(originals) == 0 {
		return Rendering{Drop: DropUnknownTarget}
	}
	others := originals[0].Sender != i.SenderURI
	may := i.MayDeleteOthers
	if originals[0].Kind == KindReaction {
		may = i.MayDeleteOthersReactions
	}
	if others && !may {
		return Rendering{Drop: DropNotAllowed}
	}
	return Rendering{Events: i.redactAll(originals), Others: others}
}

// redactAll takes back the events of a message and of its edits, each once.
func (i *in) redactAll(originals []Known) []Out {
	var out []Out
	seen := map[id.EventID]bool{}
	for _, k := range append(originals, i.room.Links.Edits(originals[0].FirstID())...) {
		if o := i.redact(k); !seen[o.Redacts] {
			seen[o.Redacts] = true
			out = append(out, o)
		}
	}
	return out
}

// redact takes back one event, as the ghost of who asked for it.
func (i *in) redact(k Known) Out {
	ev := k.Event
	if ev == "" {
		ev = event.PendingID(k.ID[:], k.Part)
	}
	return Out{Type: event.TypeRedaction, Redacts: ev}
}

// react maps a reaction. before are events to be sent first.
func (i *in) react(before []Out) Rendering {
	m := i.Message
	targets := i.room.Links.ByID(m.InReplyTo)
	if m.InReplyTo.IsZero() || len(targets) == 0 {
		if m.InReplyTo.IsZero() && len(before) == 0 {
			return i.post() // a reaction to nothing is a message
		}
		return Rendering{Events: before, Drop: DropUnknownTarget}
	}
	target := targets[0].Ref()
	out := before
	seen := map[string]bool{}
	for _, sel := range m.Body.Select(i.preference()) {
		o, ok := i.reactionPart(sel.Part, target)
		if !ok || o.Key != "" && seen[o.Key] {
			continue
		}
		seen[o.Key] = true
		o.Thread = targets[0].Thread
		out = append(out, o)
		if len(out) >= MaxEvents {
			break
		}
	}
	if len(out) == 0 {
		return Rendering{Drop: DropEmpty}
	}
	return Rendering{Events: out}
}

func (i *in) reactionPart(p *content.Part, target id.EventID) (Out, bool) {
	s, ok := p.Body.(content.SinglePart)
	if ok && isText(s.ContentType) {
		key := strings.TrimSpace(cutChars(plainOf(s), MaxReaction))
		if key == "" {
			return Out{}, false
		}
		return Out{Type: event.TypeReaction, Content: event.EncodeReaction(target, key, &event.Origin{ID: i.ID.String(), Room: i.room.URI}),
			Memory: Memory{Kind: KindReaction, Key: key}}, true
	}
	// An image as a reaction: Matrix has no such thing.
	o, ok := i.file(p)
	if !ok {
		return Out{}, false
	}
	prepend(o.Message, "reacted")
	o.Message.Relation.ReplyTo, o.Kind = target, KindReaction
	return o, true
}

// plainOf is the text of a text part without any formatting.
func plainOf(s content.SinglePart) string {
	t, err := content.ParseMediaType(s.ContentType)
	if err == nil && t.Type == "text/html" {
		return html.Text(string(s.Content))
	}
	return html.Line(string(s.Content), 4*MaxReaction)
}

// changeReaction maps a reaction that replaces one: the old is taken back.
func (i *in) changeReaction() Rendering {
	originals := i.room.Links.ByID(i.Message.Replaces)
	if len(originals) > 0 && originals[0].Sender != i.SenderURI {
		return Rendering{Drop: DropForeign}
	}
	var before []Out
	if len(originals) > 0 {
		before = i.redactAll(originals)
	}
	res := i.react(before)
	for n := range res.Events {
		if res.Events[n].Kind == KindReaction {
			res.Events[n].First = i.Message.Replaces
		}
	}
	return res
}
