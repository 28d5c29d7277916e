package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

var pendingRef = regexp.MustCompile(`mimi-pending:[0-9a-f]+:[0-9]+`)

// resolve puts events in place of references to events that were on their way, as matrixside/client does. It returns false when
// what a row refers to was never sent.
func (n *node) resolve(row *store.Outbound) bool {
	ok := true
	row.Data = pendingRef.ReplaceAllFunc(row.Data, func(ref []byte) []byte {
		mimiID, part, err := event.ParsePending(id.EventID(ref))
		if err != nil {
			n.w.t.Fatal(err)
		}
		links, err := n.db.LinksByMIMI(context.Background(), row.Room, mimiID)
		if err != nil {
			n.w.t.Fatal(err)
		}
		for _, l := range links {
			if l.Part == int64(part) && l.EventID != "" {
				return []byte(l.EventID)
			}
		}
		ok = false
		return ref
	})
	return ok
}

// find returns the newest event of a type whose content holds a text.
func (r *hsRoom) find(t testing.TB, typ, text string) *hsEvent {
	t.Helper()
	for i := len(r.timeline) - 1; i >= 0; i-- {
		if ev := &r.timeline[i]; ev.typ == typ && strings.Contains(string(ev.content), text) {
			return ev
		}
	}
	t.Fatalf("no %s with %q in %s", typ, text, r.id)
	return nil
}

func (ev *hsEvent) object() event.Object {
	o, _ := event.ParseObject(ev.content)
	return o
}

func (ev *hsEvent) relation() event.Relation { return event.ParseRelation(ev.object()) }

// way is one direction of a pair: who speaks in which room, and where the others see it.
type way struct {
	*pair
	name       string
	hs, there  *fakeHS
	from, to   *hsRoom
	who, ghost string // who speaks, and their ghost on the other side
}

// ways runs a test in both directions: from the hub to the follower and back.
func ways(t *testing.T, test func(t *testing.T, w *way)) {
	for _, name := range []string{"hub to follower", "follower to hub"} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, warm).begin()
			w := &way{pair: p, name: name, hs: p.a.hs, there: p.b.hs, from: p.room, to: p.portal, who: p.alice, ghost: p.aliceAtB}
			if name == "follower to hub" {
				w.hs, w.there, w.from, w.to, w.who, w.ghost = p.b.hs, p.a.hs, p.portal, p.room, p.bob, p.bobAtA
			}
			test(t, w)
			p.noTrouble()
		})
	}
}

// send sends a message and returns its event and the one that the other side sees.
func (w *way) send(body string, content map[string]any) (own string, seen *hsEvent) {
	w.t.Helper()
	c := map[string]any{"msgtype": "m.text", "body": body}
	for k, v := range content {
		c[k] = v
	}
	own = w.hs.emit(w.from, w.who, event.TypeMessage, nil, c, 0)
	w.settle()
	return own, w.to.find(w.t, event.TypeMessage, body)
}

func relates(kind, to string, more map[string]any) map[string]any {
	rel := map[string]any{"rel_type": kind, "event_id": to}
	for k, v := range more {
		rel[k] = v
	}
	return map[string]any{"m.relates_to": rel}
}

func inReply(to string) map[string]any {
	return map[string]any{"m.relates_to": map[string]any{"m.in_reply_to": map[string]any{"event_id": to}}}
}

func editOf(event, body string) map[string]any {
	return map[string]any{"m.new_content": map[string]any{"msgtype": "m.text", "body": body}, "m.relates_to": map[string]any{"rel_type": "m.replace", "event_id": event}}
}

func TestReply(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		first, seen := w.send("the question", nil)
		_, answer := w.send("the answer", inReply(first))
		w.equal("reply", answer.relation().ReplyTo, seen.id)
		// And an answer to what came over.
		w.there.emit(w.to, w.otherSpeaker(), event.TypeMessage, nil, merge(map[string]any{"msgtype": "m.text", "body": "back"}, inReply(seen.id)), 0)
		w.settle()
		w.equal("reply back", w.from.find(t, event.TypeMessage, "back").relation().ReplyTo, first)
		// One to something that never went over says so.
		_, lost := w.send("about the past", inReply("$unknown:"+w.hs.server))
		w.equal("reply to the unknown", lost.relation().ReplyTo, "")
	})
}

func (w *way) otherSpeaker() string {
	if w.who == w.alice {
		return w.bob
	}
	return w.alice
}

func merge(a, b map[string]any) map[string]any {
	for k, v := range b {
		a[k] = v
	}
	return a
}

// The tenth edit of a reply in a thread still lands on the event that was there first.
func TestTenthEditOfAReplyInAThread(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		root, seenRoot := w.send("root of the thread", nil)
		_, seenFirst := w.send("first in the thread", relates("m.thread", root, nil))
		w.equal("thread", seenFirst.relation().Thread, seenRoot.id)
		reply, seenReply := w.send("reply 0", relates("m.thread", root, map[string]any{"is_falling_back": false, "m.in_reply_to": map[string]any{"event_id": root}}))
		w.equal("thread of the reply", seenReply.relation().Thread, seenRoot.id)
		w.equal("reply", seenReply.relation().ReplyTo, seenRoot.id)
		if seenReply.relation().ThreadFallback {
			t.Error("the reply came as a fallback")
		}
		for i := 1; i <= 10; i++ {
			text := fmt.Sprintf("reply version %d", i)
			_, edit := w.send("* "+text, editOf(reply, text))
			w.equal(text, edit.relation().Replaces, seenReply.id)
			w.equal("new content", edit.object().Obj("m.new_content").Str("body"), text)
		}
		// What follows in the thread is in it, and a reply to the edited message points to the event that was there first.
		_, next := w.send("next in the thread", relates("m.thread", root, map[string]any{"is_falling_back": false, "m.in_reply_to": map[string]any{"event_id": reply}}))
		w.equal("thread", next.relation().Thread, seenRoot.id)
		w.equal("reply to the edited", next.relation().ReplyTo, seenReply.id)
		_, last := w.send("fallback in the thread", relates("m.thread", root, nil))
		w.equal("thread", last.relation().Thread, seenRoot.id)
		w.equal("latest in the thread", last.relation().ReplyTo, next.id)
	})
}

func TestReactionAndItsWithdrawal(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		_, seen := w.send("like me", nil)
		other := w.otherSpeaker()
		r := w.there.emit(w.to, other, event.TypeReaction, nil, relates("m.annotation", seen.id, map[string]any{"key": "👍"}), 0)
		w.settle()
		got := w.from.find(t, event.TypeReaction, "👍")
		w.equal("target", got.relation().Annotates, w.from.find(t, event.TypeMessage, "like me").id)
		w.there.redact(w.to, other, r)
		w.settle()
		if !w.from.find(t, event.TypeReaction, "👍").redacted {
			t.Error("the reaction stands")
		}
	})
}

// redact is what a user's client does.
func (h *fakeHS) redact(r *hsRoom, user, ev string) {
	for i := range r.timeline {
		if r.timeline[i].id == ev {
			r.timeline[i].redacted = true
		}
	}
	h.emit(r, user, event.TypeRedaction, nil, map[string]string{"redacts": ev}, 0)
}

func TestRedactionByTheAuthor(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		own, seen := w.send("typo", nil)
		_, edit := w.send("* tpyo", editOf(own, "tpyo"))
		w.hs.redact(w.from, w.who, own)
		w.settle()
		for _, ev := range w.to.timeline {
			if (ev.id == seen.id || ev.id == edit.id) && !ev.redacted {
				t.Errorf("%s stands", ev.content)
			}
		}
	})
}

// Alice, who may, deletes what bob said, on both sides; bob may not delete what she said.
func TestRedactionByAModerator(t *testing.T) {
	p := newPair(t, warm).begin()
	own := p.b.hs.say(p.portal, p.bob, "rude")
	p.settle()
	p.a.hs.redact(p.room, p.alice, p.room.find(t, event.TypeMessage, "rude").id)
	p.settle()
	if ev := p.portal.find(t, event.TypeMessage, "rude"); ev.id != own || !ev.redacted {
		t.Error("bob's message stands in the portal")
	}
	p.a.hs.say(p.room, p.alice, "polite")
	p.settle()
	p.b.hs.redact(p.portal, p.bob, p.portal.find(t, event.TypeMessage, "polite").id)
	p.settle()
	if p.room.find(t, event.TypeMessage, "polite").redacted {
		t.Error("bob deleted what alice said")
	}
	p.last("B", p.b.hs.texts(p.portal), "notice mimibot: ⚠ Your message was not delivered: You may not do that in the MIMI room.")
	// As a moderator he may, and where his ghost has the power it does it.
	p.a.hs.set(p.room, p.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{p.alice: 100, p.bobAtA: 50}})
	p.settle()
	p.a.hs.say(p.room, p.alice, "another")
	p.settle()
	p.b.hs.redact(p.portal, p.bob, p.portal.find(t, event.TypeMessage, "another").id)
	p.settle()
	if !p.room.find(t, event.TypeMessage, "another").redacted {
		t.Error("the moderator's deletion did not arrive")
	}
	p.noTrouble()
}

func TestMention(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		other, expect := w.bobAtA, w.bob
		if w.who == w.bob {
			other, expect = w.aliceAtB, w.alice
		}
		w.hs.emit(w.from, w.who, event.TypeMessage, nil, map[string]any{"format": "org.matrix.custom.html",
			"msgtype": "m.text", "body": "hello you", "formatted_body": fmt.Sprintf(`hello <a href="https://matrix.to/#/%s">you</a>`, other), "m.mentions": map[string]any{"user_ids": []string{other}}}, 0)
		w.settle()
		ev := w.to.timeline[len(w.to.timeline)-1]
		users := ev.object().Obj("m.mentions").Strings("user_ids", 10)
		w.equal("mentioned", users, []string{expect})
		if !strings.Contains(string(ev.content), "matrix.to/#/"+expect) && !strings.Contains(string(ev.content), "matrix.to/#/"+strings.ReplaceAll(expect, ":", "%3A")) {
			t.Errorf("no pill in %s", ev.content)
		}
	})
}

func TestStickerLocationPollAndCall(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		_, place := w.send("The harbour", map[string]any{"msgtype": "m.location", "geo_uri": "geo:53.5,10.0"})
		w.equal("location", place.object().Str("geo_uri"), "geo:53.5,10.0")
		w.equal("kind", place.object().Str("msgtype"), "m.location")
		poll := w.hs.emit(w.from, w.who, event.TypePollStart, nil, json.RawMessage(`{"m.poll":{"question":{"m.text":[{"body":"Tea or coffee?"}]},
			"answers":[{"m.id":"1","m.text":[{"body":"Tea"}]},{"m.id":"2","m.text":[{"body":"Coffee"}]}]}}`), 0)
		w.settle()
		seen := w.to.find(t, event.TypeMessage, "Tea or coffee?")
		if b := seen.object().Str("body"); !strings.Contains(b, "1. Tea") || !strings.Contains(b, "2. Coffee") {
			t.Errorf("poll: %q", b)
		}
		w.hs.emit(w.from, w.who, event.TypePollEnd, nil, merge(map[string]any{"m.text": []any{map[string]any{"body": "Tea wins"}}}, relates("m.reference", poll, nil)), 0)
		w.settle()
		w.equal("poll end", w.to.find(t, event.TypeMessage, "Tea wins").relation().ReplyTo, seen.id)
		w.hs.emit(w.from, w.who, event.TypeCallNotify, nil, map[string]any{"call_id": "1"}, 0)
		w.settle()
		w.to.find(t, event.TypeMessage, "started a call on Matrix")
		key := w.who
		w.hs.emit(w.from, w.who, event.TypeBeaconUnstable, &key, map[string]any{"live": true, "description": "on the road"}, 0)
		w.settle()
		w.to.find(t, event.TypeMessage, "on the road")
		// Votes say nothing.
		n := len(w.to.timeline)
		w.hs.emit(w.from, w.who, "m.poll.response", nil, relates("m.reference", poll, nil), 0)
		w.settle()
		w.equal("after a vote", len(w.to.timeline), n)
	})
}

func TestMarkdownAndHTML(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		w.send("list", map[string]any{"format": "org.matrix.custom.html", "formatted_body": "<ul><li>list one</li><li><em>two</em></li></ul><script>alert(1)</script><pre><code>a < b</code></pre>"})
		got := w.to.find(t, event.TypeMessage, "list one").object().Str("formatted_body")
		for _, want := range []string{"<li>", "<em>two</em>", "<code>a &lt; b"} {
			if !strings.Contains(got, want) {
				t.Errorf("%q lacks %q", got, want)
			}
		}
		if strings.Contains(got, "script") {
			t.Errorf("not clean: %q", got)
		}
	})
}

func TestLinksOfDeletedMessagesAreMarked(t *testing.T) {
	p := newPair(t, warm).begin()
	own := p.a.hs.say(p.room, p.alice, "gone")
	p.settle()
	p.a.hs.redact(p.room, p.alice, own)
	p.settle()
	for _, n := range []*node{p.a, p.b} {
		room, ev := p.room, own
		if n == p.b {
			room, ev = p.portal, p.portal.find(t, event.TypeMessage, "gone").id
		}
		l, err := n.db.LinkByEvent(context.Background(), n.room(room).ID, ev)
		if err != nil || l.State != store.LinkRedacted {
			t.Errorf("%s: %+v %v", n.domain, l.State, err)
		}
	}
	if i := slices.IndexFunc(p.portal.timeline, func(e hsEvent) bool { return e.redacted }); i < 0 {
		t.Error("nothing was redacted")
	}
	p.noTrouble()
}
