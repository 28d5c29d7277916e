package activitypub

import (
	"crypto/rand"
	"slices"
	"testing"
	"time"

	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// TestEmissaryWhenWeBegin: we invite, both talk, edit, react, reply; the peer takes one of ours out; we leave. S001-001, S001-023 … S001-033.
func TestEmissaryWhenWeBegin(t *testing.T) {
	peer := startNode(t, "emissary")
	b := newBridge(t, "alice", "dave")
	alice, dave := b.site.User("alice"), b.site.User("dave")
	started := peer.ask("start", nil)
	bob, kp := b.claim(started["handle"].(string))
	if bob != started["actor"] {
		t.Fatal(bob)
	}
	_, own := b.newPackage(dave)
	thread, e, err := ap.StartThread(rand.Reader, time.Now(), config, "mimi://b.example/g/1", alice, b.mlsKeys[alice], []*mls.KeyPackage{kp, own.KeyPackage}, true)
	if err != nil {
		t.Fatal(err)
	}
	w, _, err := ap.ParseMLS(e.Welcome)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := thread.JoinMore(time.Now(), w.Welcome, []mls.JoinKey{own}); err != nil {
		t.Fatal(err)
	}
	b.threads["mimi://b.example/g/1"] = thread
	b.send(thread, alice, e.Welcome)
	if m := peer.event("welcome"); m["group"] != "mimi://b.example/g/1" || len(m["members"].([]any)) != 3 {
		t.Fatal(m)
	}
	first := note(alice, "<p>hello</p>")
	b.say(thread, alice, first)
	if m := peer.event("said"); field(m, "activity", "object", "content") != "<p>hello</p>" || m["from"] != alice {
		t.Fatal(jsonOf(m))
	}
	b.say(thread, dave, note(dave, "me too"))
	if m := peer.event("said"); m["from"] != dave {
		t.Fatal(jsonOf(m))
	}
	b.say(thread, alice, &ap.Content{Type: "Update", ID: "urn:uuid:u", Actor: alice, Item: &ap.Item{Type: "Note", ID: first.Item.ID, AttributedTo: alice, Content: "changed"}})
	if m := peer.event("said"); field(m, "activity", "type") != "Update" {
		t.Fatal(jsonOf(m))
	}
	peer.ask("send", map[string]any{"group": "mimi://b.example/g/1", "activity": map[string]any{"type": "Create", "id": "uri:uuid:c", "actor": bob,
		"object": map[string]any{"type": "Note", "id": "uri:uuid:n", "attributedTo": bob, "content": "hi <script>", "inReplyTo": first.Item.ID}}})
	s := b.hears()
	if c := contentOf(t, s); s.Sender != bob || c.Item.Content != "hi " || c.Item.InReplyTo != first.Item.ID {
		t.Fatalf("%+v", c.Item)
	}
	peer.ask("send", map[string]any{"group": "mimi://b.example/g/1", "activity": map[string]any{"type": "Like", "id": "uri:uuid:l", "actor": bob, "object": first.Item.ID, "content": "🎉"}})
	if c := contentOf(t, b.hears()); c.Type != "Like" || c.Text != "🎉" {
		t.Fatalf("%+v", c)
	}
	peer.ask("send", map[string]any{"group": "mimi://b.example/g/1", "activity": map[string]any{"type": "Create", "id": "uri:uuid:x", "actor": alice,
		"object": map[string]any{"type": "Note", "id": "uri:uuid:y", "attributedTo": alice, "content": "I am Alice"}}})
	if s := b.hears(); func() bool { _, err := ap.ParseContent(s.Data, s.Sender); return err == nil }() {
		t.Fatal("the peer speaks as another")
	}
	// The peer's commit is a PrivateMessage that it labels GroupInfo.
	peer.ask("remove", map[string]any{"group": "mimi://b.example/g/1", "actor": dave})
	if e := b.effect(); !slices.Equal(e.Left, []string{dave}) || e.By != bob {
		t.Fatalf("%+v", e)
	}
	b.say(thread, alice, note(alice, "alone now"))
	if m := peer.event("said"); field(m, "activity", "object", "content") != "alone now" {
		t.Fatal(jsonOf(m))
	}
	// And ours: an addition as PrivateMessage, as the peer itself frames it.
	_, again := b.newPackage(dave)
	e, err = thread.Commit(rand.Reader, time.Now(), alice, []*mls.KeyPackage{again.KeyPackage}, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	b.send(thread, alice, e.Commit)
	if m := peer.event("handshake"); len(m["members"].([]any)) != 3 {
		t.Fatal(jsonOf(m))
	}
}

// TestEmissaryWhenItBegins: it takes our KeyPackages, one for it alone, and its group id is text of its own.
func TestEmissaryWhenItBegins(t *testing.T) {
	peer := startNode(t, "emissary")
	b := newBridge(t, "alice", "dave")
	alice, dave := b.site.User("alice"), b.site.User("dave")
	peer.ask("start", nil)
	made := peer.ask("create", map[string]any{"actors": []string{alice, dave}})
	for _, code := range made["statuses"].([]any) {
		if code.(float64) != 202 {
			t.Fatal(made)
		}
	}
	e := b.effect()
	if len(e.Joined) != 3 {
		t.Fatalf("%+v", e)
	}
	thread := b.threads[made["group"].(string)]
	if thread == nil || thread.Group.OwnCount() != 2 {
		t.Fatal("not both of ours joined")
	}
	b.say(thread, dave, note(dave, "thank you"))
	if m := peer.event("said"); m["from"] != dave {
		t.Fatal(jsonOf(m))
	}
	// Channels use PublicMessages: the client takes them in the same way.
	_, own := b.newPackage(alice)
	if e, err := thread.Commit(rand.Reader, time.Now(), dave, nil, []string{alice}, false); err != nil {
		t.Fatal(err)
	} else {
		b.send(thread, dave, e.Commit)
	}
	if m := peer.event("handshake"); len(m["members"].([]any)) != 2 {
		t.Fatal(jsonOf(m))
	}
	_ = own
}
