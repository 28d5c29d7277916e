package dialogue

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/test/harness"
	"github.com/matrix-mimi/bridge/test/harness/nodejs"
)

// browser is a person at a client built on matrix-js-sdk, as Element Web is.
type browser struct {
	t    *testing.T
	w    *World
	node *nodejs.Process
	// changed has a word when something may show that was not there at the last look.
	changed chan struct{}
	id      id.UserID
}

// shown is an event of a room as that client shows it.
type shown struct {
	ID, Sender, Body, Type, Thread, Reply string
	Content                               map[string]any
	Edited, Redacted, Encrypted, Failed   bool
	Shield                                int
	Reason                                *int
	Readers                               []string
	Reactions                             [][2]any
}

type shownRoom struct {
	ID, Name, Membership string
	Encrypted            bool
	Members              []struct{ ID, Name string }
}

func newBrowser(t *testing.T, ctx context.Context, w *World, name string) *browser {
	t.Helper()
	local, short, _ := strings.Cut(name, "@")
	hs := w.Homeserver(short)
	if _, err := hs.User(ctx, local); err != nil {
		t.Fatal(err)
	}
	n, err := nodejs.Start("jssdk")
	if errors.Is(err, nodejs.ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	b := &browser{t: t, w: w, node: n, changed: make(chan struct{}, 1)}
	go b.listen(ctx)
	got := b.ask(ctx, "login", map[string]any{"homeserver": hs.URL(), "user": local, "password": harness.Password(local)})
	b.id = id.UserID(got["user"].(string))
	return b
}

// listen reads what the program tells, so that it never stands still because nobody does.
func (b *browser) listen(ctx context.Context) {
	for {
		select {
		case <-b.node.Events:
		case <-ctx.Done():
			return
		}
		select {
		case b.changed <- struct{}{}:
		default:
		}
	}
}

func (b *browser) ask(ctx context.Context, op string, args map[string]any) map[string]any {
	b.t.Helper()
	got, err := b.node.Ask(ctx, op, args)
	if err != nil {
		b.t.Fatalf("%s\n%s: %v", b.w.logTails(3000), b.id, err)
	}
	return got
}

// into asks and decodes a field of the answer.
func into[T any](ctx context.Context, b *browser, op, field string, args map[string]any) T {
	b.t.Helper()
	var out T
	raw, _ := json.Marshal(b.ask(ctx, op, args)[field])
	if err := json.Unmarshal(raw, &out); err != nil {
		b.t.Fatal(err)
	}
	return out
}

// room waits for a room of which something holds.
func (b *browser) room(ctx context.Context, what string, ok func(shownRoom) bool) shownRoom {
	b.t.Helper()
	for {
		rooms := into[[]shownRoom](ctx, b, "rooms", "rooms", nil)
		if i := slices.IndexFunc(rooms, ok); i >= 0 {
			return rooms[i]
		}
		b.changes(ctx, what, rooms)
	}
}

// sees waits for an event of a room of which something holds.
func (b *browser) sees(ctx context.Context, room, what string, ok func(shown) bool) shown {
	b.t.Helper()
	for {
		events := into[[]shown](ctx, b, "timeline", "timeline", map[string]any{"room": room})
		if i := slices.IndexFunc(events, ok); i >= 0 {
			return events[i]
		}
		b.changes(ctx, what, events)
	}
}

func (b *browser) changes(ctx context.Context, what string, shows any) {
	b.t.Helper()
	select {
	case <-b.changed:
	case <-time.After(time.Second): // the library does not tell everything: not that a reaction was counted, for one
	case <-ctx.Done():
		raw, _ := json.MarshalIndent(shows, "", " ")
		b.t.Fatalf("%s\n%s waits in vain for %s; shows %s", b.w.logTails(3000), b.id, what, raw)
	}
}

// reads waits for a text and checks that it came encrypted and could be read.
func (b *browser) reads(ctx context.Context, room, text string) shown {
	b.t.Helper()
	e := b.sees(ctx, room, "the text "+text, func(e shown) bool { return strings.Contains(e.Body, text) && !e.Failed })
	if !e.Encrypted {
		b.t.Errorf("%s got %q in clear", b.id, text)
	}
	return e
}

func (b *browser) says(ctx context.Context, room string, content map[string]any) string {
	b.t.Helper()
	return b.ask(ctx, "send", map[string]any{"room": room, "content": content})["event_id"].(string)
}

func text(body string) map[string]any { return map[string]any{"msgtype": "m.text", "body": body} }

// Two people at clients of another making than the bridge's own library, with encryption in Rust, talk in encrypted rooms through two
// bridges: what they write, edit, answer, react to, delete and send as files arrives, can be decrypted, and looks as it should.
func TestAnotherClientInEncryptedRooms(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	settings := map[string]string{"encryption.default": "true"}
	w := newWorld(t, ctx, Plan{Homeservers: []string{"one", "two"}, Bridges: []BridgePlan{
		{Domain: "one.example", Homeserver: "one", Settings: settings}, {Domain: "two.example", Homeserver: "two", Settings: settings},
	}}, Options{})
	alice, bob := newBrowser(t, ctx, w, "alice@one"), newBrowser(t, ctx, w, "bob@two")
	ghost, err := w.MXID("one", "bob@two")
	if err != nil {
		t.Fatal(err)
	}
	room := alice.ask(ctx, "create", map[string]any{"name": "Vault", "invite": []id.UserID{ghost}, "encrypted": true})["room"].(string)
	portal := bob.room(ctx, "an invitation", func(r shownRoom) bool { return r.Membership == "invite" }).ID
	bob.ask(ctx, "join", map[string]any{"room": portal})
	in := func(who string) func(shownRoom) bool {
		return func(r shownRoom) bool {
			return r.Encrypted && (r.ID == room || r.ID == portal) && slices.ContainsFunc(r.Members, func(m struct{ ID, Name string }) bool { return m.ID == who })
		}
	}
	botOne, botTwo := string(id.NewUserID("mimibot", ServerName("one"))), string(id.NewUserID("mimibot", ServerName("two")))
	alice.room(ctx, "the ghost", in(string(ghost)))
	alice.room(ctx, "the bot", in(botOne))
	bob.room(ctx, "the bot", in(botTwo))
	// The bot's own messages carry no warning; what newer clients say of those of ghosts is in docs/encryption.md.
	if told := alice.reads(ctx, room, "an end of the encryption"); told.Shield != 0 {
		t.Errorf("%s is warned of what the bot wrote: shield %d, reason %v", alice.id, told.Shield, told.Reason)
	}
	bob.reads(ctx, portal, "an end of the encryption")

	for b, bot := range map[*browser]string{alice: botOne, bob: botTwo} {
		devices := into[[]struct {
			ID     string
			Signed bool
		}](ctx, b, "devices", "devices", map[string]any{"user": bot})
		if len(devices) != 1 || !devices[0].Signed {
			t.Errorf("%s takes the bot's devices for %+v, want one that its owner has signed", b.id, devices)
		}
	}

	first := alice.says(ctx, room, text("a question"))
	asked := bob.reads(ctx, portal, "a question")
	bob.says(ctx, portal, map[string]any{"msgtype": "m.text", "body": "an answer", "m.relates_to": map[string]any{"m.in_reply_to": map[string]any{"event_id": asked.ID}}})
	answer := alice.reads(ctx, room, "an answer")
	if answer.Reply != first {
		t.Errorf("the answer is to %q, want %q", answer.Reply, first)
	}
	alice.says(ctx, room, map[string]any{"msgtype": "m.text", "body": "* a better question", "m.new_content": text("a better question"),
		"m.relates_to": map[string]any{"rel_type": "m.replace", "event_id": first}})
	bob.sees(ctx, portal, "the edit", func(e shown) bool { return e.ID == asked.ID && e.Edited && e.Body == "a better question" })
	bob.ask(ctx, "send", map[string]any{"room": portal, "type": "m.reaction",
		"content": map[string]any{"m.relates_to": map[string]any{"rel_type": "m.annotation", "event_id": asked.ID, "key": "👍"}}})
	alice.sees(ctx, room, "the reaction", func(e shown) bool { return e.ID == first && len(e.Reactions) == 1 && e.Reactions[0][0] == "👍" })
	bob.says(ctx, portal, map[string]any{"msgtype": "m.text", "body": "in a thread", "m.relates_to": map[string]any{"rel_type": "m.thread", "event_id": asked.ID,
		"is_falling_back": true, "m.in_reply_to": map[string]any{"event_id": asked.ID}}})
	alice.sees(ctx, room, "the thread", func(e shown) bool { return e.Body == "in a thread" && e.Thread == first })
	last := alice.says(ctx, room, text("did you read it"))
	bob.ask(ctx, "read", map[string]any{"room": portal, "event_id": bob.reads(ctx, portal, "did you read it").ID})
	alice.sees(ctx, room, "the receipt", func(e shown) bool { return e.ID == last && slices.Contains(e.Readers, string(ghost)) })

	picture := make([]byte, 20_000)
	for i := range picture {
		picture[i] = byte(i * i >> 3)
	}
	up := bob.ask(ctx, "upload", map[string]any{"base64": base64.StdEncoding.EncodeToString(picture), "type": "image/png"})
	bob.says(ctx, portal, map[string]any{"msgtype": "m.image", "body": "sunset.png", "file": up["file"], "info": up["info"]})
	got := alice.reads(ctx, room, "sunset.png")
	sum := sha256.Sum256(picture)
	file := alice.ask(ctx, "fetch", map[string]any{"room": room, "event_id": got.ID})
	if file["sha256"] != hex.EncodeToString(sum[:]) || file["type"] != "image/png" {
		t.Errorf("the picture came as %v", file)
	}

	w.Bridge("two.example").Kill()
	alice.says(ctx, room, text("while nobody listens"))
	if err := w.Bridge("two.example").Start(ctx); err != nil {
		t.Fatal(err)
	}
	bob.reads(ctx, portal, "while nobody listens")
	alice.ask(ctx, "redact", map[string]any{"room": room, "event_id": first})
	bob.sees(ctx, portal, "the deletion", func(e shown) bool { return e.ID == asked.ID && e.Redacted })
	for b, r := range map[*browser]string{alice: room, bob: portal} {
		for _, e := range into[[]shown](ctx, b, "timeline", "timeline", map[string]any{"room": r}) {
			if e.Failed {
				t.Errorf("%s cannot decrypt %s of %s", b.id, e.ID, e.Sender)
			}
		}
	}
}
