package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// pair are two bridges whose users alice and bob talk over ActivityPub.
type apPair struct {
	a, b           *apNode
	alice, bob     string // Matrix ids
	aliceID, bobID string // actors
	at, bt         *hsRoom
}

func newAPPair(t *testing.T) *apPair {
	t.Helper()
	w := newWorld(t, "sqlite")
	places := map[string]string{}
	p := &apPair{a: newAPNode(t, w, places, "a.example"), b: newAPNode(t, w, places, "b.example")}
	p.alice, p.bob = p.a.hs.mxid("alice"), p.b.hs.mxid("bob")
	p.a.hs.users = map[string]bool{p.alice: true}
	p.b.hs.users = map[string]bool{p.bob: true}
	p.aliceID, p.bobID = p.a.face.Site.User("alice"), p.b.face.Site.User("bob")
	if err := p.a.face.StartChat(context.Background(), p.alice, "@bob@b.example"); err != nil {
		t.Fatal(err)
	}
	settleAP(t, p.a, p.b)
	p.at, p.bt = p.a.hs.roomOf(p.alice, "invite"), p.b.hs.roomOf(p.bob, "invite")
	if p.at == nil || p.bt == nil {
		t.Fatal("nobody was invited")
	}
	p.a.hs.join(p.at, p.alice)
	p.b.hs.join(p.bt, p.bob)
	settleAP(t, p.a, p.b)
	return p
}

// TestOutboxAndMessages: what was sent stands in the outbox of its actor for those who were addressed, what was received among the messages,
// newest first and in pages; nobody else sees any of it. S000-037, S000-039, S001-095.
func TestOutboxAndMessages(t *testing.T) {
	p, ctx := newAPPair(t), context.Background()
	for _, text := range []string{"one", "two", "three"} {
		p.a.hs.say(p.at, p.alice, text)
		settleAP(t, p.a, p.b)
	}
	list := func(n *apNode, box ap.Box, owner, reader, before string, limit int) ap.Listing {
		t.Helper()
		l, err := n.face.List(ctx, box, owner, reader, before, limit)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	all := list(p.a, ap.BoxOut, p.aliceID, p.bobID, "", 20)
	// Beside the Welcome and three messages there are Create and Add of the last resort, which everybody sees.
	if len(all.Items) != 6 || all.Next != "" {
		t.Fatalf("outbox: %d items, next %q", len(all.Items), all.Next)
	}
	if l := list(p.a, ap.BoxOut, p.aliceID, p.bobID, "", 0); l.Total != 6 || len(l.Items) != 0 {
		t.Errorf("counted: %+v", l)
	}
	first := list(p.a, ap.BoxOut, p.aliceID, p.bobID, "", 3)
	rest := list(p.a, ap.BoxOut, p.aliceID, p.bobID, first.Next, 3)
	if len(first.Items) != 3 || len(rest.Items) != 3 || rest.Next != "" || rest.Items[0].Str("id") != all.Items[3].Str("id") {
		t.Fatalf("pages of %d and %d", len(first.Items), len(rest.Items))
	}
	var welcome ap.Object
	for _, o := range all.Items {
		if object, ok := o["object"].(ap.Object); ok && fmt.Sprint(object["type"]) == "[Object Welcome]" {
			welcome = object
		}
	}
	for _, reader := range []string{"", "https://c.example/u/eve"} {
		if l := list(p.a, ap.BoxOut, p.aliceID, reader, "", 20); len(l.Items) != 2 || l.Items[0].Str("type") != "Add" || l.Items[1].Str("type") != "Create" {
			t.Errorf("%q sees %d", reader, len(l.Items))
		}
	}
	got := list(p.b, ap.BoxIn, p.bobID, p.bobID, "", 20)
	if len(got.Items) != 4 || got.Items[0].Str("id") != all.Items[0].Str("id") {
		t.Errorf("messages: %d", len(got.Items))
	}
	conversation := welcome.Str("conversation")
	if !strings.HasPrefix(conversation, p.a.face.Site.Base+"/ap/c/") {
		t.Fatalf("conversation %q", conversation)
	}
	if l := list(p.a, ap.BoxConversation, conversation, p.bobID, "", 20); len(l.Items) != 4 {
		t.Errorf("conversation: %d", len(l.Items))
	}
	for _, id := range []string{all.Items[0].Str("id"), welcome.Str("id")} {
		if o, err := p.a.face.Object(ctx, id, p.bobID); err != nil || o.Str("id") != id {
			t.Errorf("%s: %v %v", id, o, err)
		}
		if _, err := p.a.face.Object(ctx, id, "https://c.example/u/eve"); !errors.Is(err, ap.ErrNotFound) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// TestActivitiesOfDeletedMessagesGo: when a message is deleted, in whatever world, the activities that brought it, and its edits and what a channel passed
// on, are fetched by nobody any more; what else was said, and the deletion itself, stay.
func TestActivitiesOfDeletedMessagesGo(t *testing.T) {
	ctx := context.Background()
	ids := func(t *testing.T, n *apNode, box ap.Box, owner, reader string) map[string]bool {
		t.Helper()
		l, err := n.face.List(ctx, box, owner, reader, "", 100)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for _, o := range l.Items {
			out[o.Str("id")] = true
		}
		return out
	}
	edit := func(hs *fakeHS, room *hsRoom, who, id string) {
		hs.emit(room, who, event.TypeMessage, nil, map[string]any{"msgtype": "m.text", "body": "* oops", "m.new_content": map[string]any{"msgtype": "m.text", "body": "oops"},
			"m.relates_to": map[string]any{"rel_type": "m.replace", "event_id": id}}, 0)
	}
	// said checks what one who says something, changes it and deletes it leaves in collections.
	said := func(t *testing.T, settle func(), hs *fakeHS, room *hsRoom, who string, boxes func() []map[string]bool) {
		t.Helper()
		begun := boxes()
		hs.say(room, who, "something else")
		settle()
		kept := boxes()
		hs.say(room, who, "oh no")
		settle()
		id := room.find(t, event.TypeMessage, "oh no").id
		edit(hs, room, who, id)
		settle()
		full := boxes()
		hs.redact(room, who, id)
		settle()
		left := boxes()
		hs.redact(room, who, id) // again: the deletion itself does not go
		settle()
		for i, again := range boxes() {
			one := len(kept[i]) - len(begun[i])
			if one < 1 || len(full[i]) != len(kept[i])+2*one {
				t.Fatalf("collection %d has %d, then %d, then %d", i, len(begun[i]), len(kept[i]), len(full[i]))
			}
			for id := range kept[i] {
				if !left[i][id] {
					t.Errorf("collection %d lost %s, which was not deleted", i, id)
				}
			}
			for id := range full[i] {
				if !kept[i][id] && left[i][id] {
					t.Errorf("collection %d still has %s of the deleted message", i, id)
				}
			}
			if len(left[i]) != len(kept[i])+one || len(again) < len(left[i]) {
				t.Errorf("collection %d has %d, then %d: the deletion itself must stay", i, len(left[i]), len(again))
			}
		}
	}
	t.Run("conversation", func(t *testing.T) {
		p := newAPPair(t)
		boxes := func() []map[string]bool {
			return []map[string]bool{ids(t, p.a, ap.BoxOut, p.aliceID, p.bobID), ids(t, p.b, ap.BoxIn, p.bobID, p.bobID)}
		}
		said(t, func() { settleAP(t, p.a, p.b) }, p.a.hs, p.at, p.alice, boxes)
	})
	t.Run("channel", func(t *testing.T) {
		c := newChannelWorld(t)
		c.invite()
		third := newAPNode(t, c.w, c.places, "c.example")
		eve := third.hs.mxid("eve")
		third.hs.users = map[string]bool{eve: true}
		settle := func() { settleAP(t, c.a, c.b, third) }
		c.must(c.a.face.InviteToChannel(ctx, c.room.id, c.alice, "@eve@c.example", ""))
		settle()
		third.hs.join(third.hs.roomOf(eve, "invite"), eve)
		settle()
		channel, bobID := c.a.face.Site.Room(c.token()), c.b.face.Site.User("bob")
		passedOn := func() map[string]bool { return ids(t, c.a, ap.BoxOut, channel, channel) }
		said(t, settle, c.a.hs, c.room, c.alice, func() []map[string]bool { return []map[string]bool{passedOn()} })
		said(t, settle, c.b.hs, c.there, c.bob, func() []map[string]bool { return []map[string]bool{passedOn(), ids(t, c.b, ap.BoxOut, bobID, bobID)} })
	})
}

// TestWhatWasNotDeliveredIsPulled: commits that did not come are found in the outbox of who made them, when a message of a later epoch comes.
// S000-037, S001-096.
func TestWhatWasNotDeliveredIsPulled(t *testing.T) {
	p, ctx := newAPPair(t), context.Background()
	room, ok, err := p.a.face.Owns(ctx, string(p.at.id))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	// Alice's client renews its keys, and that never arrives.
	err = p.a.face.run(ctx, room, func(x *apStep) error {
		e, err := x.thread.Commit(x.Rand, x.now, p.aliceID, nil, nil, true)
		if err != nil {
			return err
		}
		x.apply(e)
		list, err := x.recipients(x.thread.Actors())
		if err != nil {
			return err
		}
		x.keep(x.face.Site.SendMLS(ap.Envelope{ID: "lost", Actor: p.aliceID, Conversation: x.conversation(), Published: x.now}, e.Commit, list)[0].Body)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p.a.hs.say(p.at, p.alice, "after the gap")
	settleAP(t, p.a, p.b)
	if texts := strings.Join(p.b.hs.texts(p.bt), "\n"); !strings.Contains(texts, "after the gap") {
		t.Fatalf("%q", texts)
	}
}
