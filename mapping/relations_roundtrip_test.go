package mapping

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"maunium.net/go/mautrix/id"
	"pgregory.net/rapid"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// conversation is what two bridges of a test made of what was said.
type conversation struct {
	*rapid.T
	a, b *side
	n    int
	said []saying
}

// saying is something that was said, as both rooms have it.
type saying struct {
	here, there id.EventID
	sender      id.UserID
	reaction    bool
	poll        bool
	note        bool // what MIMI has no kind for, in words
	picture     bool
	gone        bool
}

// pass carries an event over and returns what it became, exactly one event.
func (c *conversation) pass(sender id.UserID, typ string, body any) (id.EventID, Out, id.EventID) {
	here, res, ids := c.passAll(sender, typ, body)
	if len(res) != 1 {
		c.Fatalf("%s became %d events", typ, len(res))
	}
	return here, res[0], ids[0]
}

func (c *conversation) passAll(sender id.UserID, typ string, body any) (id.EventID, []Out, []id.EventID) {
	c.n++
	raw, err := json.Marshal(body)
	if err != nil {
		c.Fatal(err)
	}
	e := evt(fmt.Sprintf("$a%d", c.n), string(sender), typ, string(raw))
	octets, _, _, err := c.a.send(e, uploaded)
	if err != nil {
		c.Fatalf("%s %s: %v", typ, raw, err)
	}
	uri, _ := c.a.People.URI(sender)
	res, ids, err := c.b.receive(uri, octets, 1700000000000)
	if err != nil {
		c.Fatalf("%s %s: %v", typ, raw, err)
	}
	return e.ID, res.Events, ids
}

// pick chooses something that is still there; false when there is nothing.
func (c *conversation) pick(what string, fits func(*saying) bool) (*saying, bool) {
	var list []*saying
	for i := range c.said {
		if s := &c.said[i]; !s.gone && fits(s) {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return nil, false
	}
	return rapid.SampledFrom(list).Draw(c.T, what), true
}

func (c *conversation) text(sender id.UserID) {
	here, out, there := c.pass(sender, event.TypeMessage, map[string]any{"msgtype": "m.text", "body": fmt.Sprintf("text %d", c.n), "m.mentions": map[string]any{}})
	if out.Type != event.TypeMessage || out.Message.Body != fmt.Sprintf("text %d", c.n-1) {
		c.Fatalf("a text arrived as %+v", out)
	}
	c.said = append(c.said, saying{here: here, there: there, sender: sender})
}

func (c *conversation) edit() {
	s, ok := c.pick("edited", func(s *saying) bool { return !s.reaction && !s.poll && !s.note })
	if !ok {
		return
	}
	body := fmt.Sprintf("edit %d", c.n)
	fresh := map[string]any{"msgtype": "m.text", "body": body, "m.mentions": map[string]any{}}
	if s.picture {
		fresh = picture(body)
	}
	outer := map[string]any{"m.new_content": fresh, "m.relates_to": map[string]any{"rel_type": "m.replace", "event_id": s.here}}
	for k, v := range fresh {
		outer[k] = v
	}
	outer["body"] = "* " + body
	_, out, _ := c.pass(s.sender, event.TypeMessage, outer)
	if s.picture != (out.File != nil) {
		c.Fatalf("an edit of %s arrived with the file %+v", s.there, out.File)
	}
	if out.Message == nil || out.Message.Relation.Replaces != s.there || out.Message.NewContent == nil || out.Message.NewContent.Body != body {
		c.Fatalf("an edit of %s arrived as %+v", s.there, out.Message)
	}
}

func (c *conversation) react(sender id.UserID) {
	s, ok := c.pick("reacted to", func(s *saying) bool { return !s.reaction })
	if !ok {
		return
	}
	key := rapid.SampledFrom([]string{"👍", "👎🏽", "ok", "❤️"}).Draw(c.T, "key")
	here, out, there := c.pass(sender, event.TypeReaction, map[string]any{"m.relates_to": map[string]any{"rel_type": "m.annotation", "event_id": s.here, "key": key}})
	o, err := event.ParseObject(out.Content)
	rel := event.ParseRelation(o)
	if err != nil || out.Type != event.TypeReaction || rel.Annotates != s.there || rel.Key != key {
		c.Fatalf("%s to %s arrived as %s %s", key, s.there, out.Type, out.Content)
	}
	c.said = append(c.said, saying{here: here, there: there, sender: sender, reaction: true})
}

// redact takes back a message or a reaction. What was said about it goes its own way.
func (c *conversation) redact() {
	s, ok := c.pick("redacted", func(*saying) bool { return true })
	if !ok {
		return
	}
	_, outs, _ := c.passAll(s.sender, event.TypeRedaction, map[string]any{"redacts": s.here})
	first, ok := c.b.book.ByEvent(s.there)
	if !ok || len(outs) == 0 || outs[0].Redacts != s.there {
		c.Fatalf("the redaction of %s arrived as %+v", s.there, outs)
	}
	for _, o := range outs[1:] { // its edits go with it
		if k, ok := c.b.book.ByEvent(o.Redacts); !ok || k.First != first.ID {
			c.Fatalf("the redaction of %s took %s along", s.there, o.Redacts)
		}
	}
	s.gone = true
}

// picture is an image with a caption.
func picture(caption string) map[string]any {
	return map[string]any{"msgtype": "m.image", "body": caption, "filename": "p.png", "url": "mxc://one/p.png", "info": map[string]any{"mimetype": "image/png"}, "m.mentions": map[string]any{}}
}

func (c *conversation) show(sender id.UserID) {
	here, out, there := c.pass(sender, event.TypeMessage, picture("look"))
	if out.File == nil || out.Message.MsgType != event.MsgImage || out.Message.Body != "look" {
		c.Fatalf("a picture arrived as %+v", out)
	}
	c.said = append(c.said, saying{here: here, there: there, sender: sender, picture: true})
}

func (c *conversation) answer(sender id.UserID) {
	s, ok := c.pick("answered", func(s *saying) bool { return !s.reaction })
	if !ok {
		return
	}
	thread := rapid.Bool().Draw(c.T, "in a thread")
	rel := map[string]any{"m.in_reply_to": map[string]any{"event_id": s.here}}
	if k, ok := c.a.book.ByEvent(s.here); thread && ok && k.Thread == "" {
		rel["rel_type"], rel["event_id"] = "m.thread", s.here
	} else {
		thread = false
	}
	here, out, there := c.pass(sender, event.TypeMessage, map[string]any{"msgtype": "m.text", "body": "yes", "m.mentions": map[string]any{}, "m.relates_to": rel})
	if got := out.Message.Relation; got.ReplyTo != s.there || got.ThreadFallback || (got.Thread == s.there) != thread {
		c.Fatalf("an answer to %s, in a thread %v, arrived as %+v", s.there, thread, got)
	}
	c.said = append(c.said, saying{here: here, there: there, sender: sender})
}

// tell says something that MIMI has no kind for: a call, a live location, the end of a poll.
func (c *conversation) tell(sender id.UserID) {
	kinds := map[string]any{event.TypeCallNotify: map[string]any{"call_id": "1"}, event.TypeBeaconInfo: map[string]any{"live": true}}
	ended, over := c.pick("ended", func(s *saying) bool { return s.poll })
	if over {
		kinds[event.TypePollEnd] = map[string]any{"m.text": []any{map[string]any{"body": "this won"}}, "m.relates_to": map[string]any{"rel_type": "m.reference", "event_id": ended.here}}
	}
	typ := rapid.SampledFrom(slices.Sorted(maps.Keys(kinds))).Draw(c.T, "kind")
	here, out, there := c.pass(sender, typ, kinds[typ])
	if out.Type != event.TypeMessage || out.Message.Body == "" || typ == event.TypePollEnd && out.Message.Relation.ReplyTo != ended.there {
		c.Fatalf("%s arrived as %+v", typ, out)
	}
	c.said = append(c.said, saying{here: here, there: there, sender: sender, note: true})
}

func (c *conversation) poll(sender id.UserID) {
	here, out, there := c.pass(sender, event.TypePollStart, map[string]any{"m.poll": map[string]any{"kind": "m.disclosed", "question": map[string]any{"m.text": []any{map[string]any{"body": "which?"}}},
		"answers": []any{map[string]any{"m.id": "1", "m.text": []any{map[string]any{"body": "this"}}}, map[string]any{"m.id": "2", "m.text": []any{map[string]any{"body": "that"}}}}}})
	if out.Type != event.TypeMessage || out.Message.Body == "" {
		c.Fatalf("a poll arrived as %+v", out)
	}
	c.said = append(c.said, saying{here: here, there: there, sender: sender, poll: true})
}

// Whatever is said about what was said before arrives as said about the same thing: edits of edits, reactions and their
// withdrawal, answers, threads, captions, deletions, polls and their ends.
func TestRelationsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := bothSides()
		c := &conversation{T: t, a: a, b: b}
		for range rapid.IntRange(2, 14).Draw(t, "steps") {
			sender := rapid.SampledFrom(users).Draw(t, "sender")
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1:
				c.text(sender)
			case 2, 3:
				c.edit()
			case 4:
				c.react(sender)
			case 5:
				c.redact()
			case 6:
				c.poll(sender)
			case 7:
				c.show(sender)
			case 8:
				c.answer(sender)
			case 9:
				c.tell(sender)
			}
		}
	})
}
