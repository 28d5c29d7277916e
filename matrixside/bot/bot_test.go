package bot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/matrixside/client"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
)

var _ Actions = (*relay.Relay)(nil)
var _ relay.Commander = (*Bot)(nil)
var _ Matrix = (*client.Client)(nil)

// world records what the bot does.
type world struct {
	did     []string
	fail    error
	sent    []event.Message
	txns    []string
	rooms   []id.RoomID
	class   client.Class
	levels  event.PowerLevels
	noRoom  bool
	room    *relay.RoomInfo // nil for the usual one
	resolve map[string]string
}

func (w *world) act(s string, args ...any) error {
	w.did = append(w.did, fmt.Sprintf(s, args...))
	return w.fail
}
func (w *world) Invite(_ context.Context, room, by, user, ev string) error {
	return w.act("invite %s %s %s %s", room, by, user, ev)
}
func (w *world) Plumb(_ context.Context, room, by, ev string) error {
	return w.act("plumb %s %s", room, by)
}
func (w *world) Unplumb(_ context.Context, room, by, ev string) error {
	return w.act("unplumb %s %s", room, by)
}
func (w *world) Join(_ context.Context, by, link, secret string) error {
	return w.act("join %s %s %q", by, link, secret)
}
func (w *world) DeleteUser(_ context.Context, mxid string) error {
	if mxid == "@nobody:hs" {
		return relay.ErrNobody
	}
	return w.act("delete %s", mxid)
}
func (w *world) StartChat(_ context.Context, by string, users ...string) error {
	return w.act("start %s %s", by, strings.Join(users, " "))
}
func (w *world) RoomOf(context.Context, string) (relay.RoomInfo, error) {
	if w.noRoom {
		return relay.RoomInfo{}, relay.ErrNoRoom
	}
	if w.room != nil {
		return *w.room, nil
	}
	return relay.RoomInfo{URI: "mimi://a.example/r/x", Hub: "a.example", Name: "Ga`rden", Participants: 3, Epoch: 7}, nil
}
func (w *world) RoomsOf(context.Context, string) ([]relay.RoomInfo, error) {
	i, _ := w.RoomOf(context.Background(), "")
	return []relay.RoomInfo{i}, w.fail
}
func (w *world) UserURI(mxid string) (string, error) {
	return "mimi://b.example/u/" + id.UserID(mxid).Localpart(), nil
}
func (w *world) Resolve(_ context.Context, by, address string) (string, error) {
	if uri := w.resolve[address]; uri != "" {
		return uri, nil
	}
	return "", errors.New("nobody by this <b>name</b>")
}
func (w *world) Do(_ context.Context, row client.Row) client.Result {
	var s event.Send
	_ = json.Unmarshal(row.Args, &s)
	o, _ := event.ParseObject(s.Content)
	w.sent, w.txns, w.rooms = append(w.sent, event.ParseMessage(o)), append(w.txns, row.Txn), append(w.rooms, row.Room)
	return client.Result{Class: w.class, Err: errors.New("homeserver is down")}
}
func (w *world) Levels(context.Context, id.RoomID) (event.PowerLevels, error) { return w.levels, nil }

func levelOf(user id.UserID) Level {
	switch {
	case user == "@admin:hs":
		return Admin
	case user.Homeserver() == "hs" && user != "@bad:hs":
		return User
	}
	return Block
}

// What help shows as an example is a call of the command.
func TestExamplesAreOfTheirCommands(t *testing.T) {
	b, _ := newBot(t)
	b.Register(Search(nil)...)
	b.Register(Link(nil))
	examples := 0
	for _, name := range b.names {
		h := b.handlers[name]
		_, example, ok := strings.Cut(h.More, "Example: `")
		if !ok {
			continue
		}
		examples++
		words := strings.Fields(strings.Trim(example, "`"))
		if words[0] != name || len(words)-1 < h.MinArgs {
			t.Errorf("the example of %s is %q", name, example)
		}
	}
	if examples < 4 {
		t.Errorf("%d examples", examples)
	}
}

func newBot(t *testing.T) (*Bot, *world) {
	t.Helper()
	w := &world{class: client.Done, levels: event.ParsePowerLevels(nil), resolve: map[string]string{"@bob@a.example": "mimi://a.example/u/bob"}}
	w.levels.Users["@mod:hs"] = 50
	b, err := New(Config{
		Actions: w, Matrix: w, LevelOf: levelOf, User: "@mimibot:hs",
		Domain: "b.example", Version: "v1", Resolver: w, Log: zerolog.Nop(), Started: time.Unix(100, 0), Now: func() time.Time { return time.Unix(3700, 0) },
		AcctURI: func(m string) (string, error) { return "acct:" + id.UserID(m).Localpart() + "@b.example", nil },
		Providers: func(context.Context) ([]Provider, error) {
			return []Provider{{Domain: "a.example", Up: true}, {Domain: "c.example"}, {Domain: "d.example", Blocked: true}}, nil
		},
		Status: func(context.Context) []string { return []string{"3 rooms"} },
	})
	if err != nil {
		t.Fatal(err)
	}
	return b, w
}

func say(sender, text string, private bool) relay.Command {
	return relay.Command{RoomID: "!r:hs", EventID: "$e", Sender: sender, Text: text, Private: private}
}

// outcome is what a command leads to: one answer that contains reply, none for "", and what is done.
type outcome struct{ reply, did string }

// expect gives a bot a command and compares what it leads to.
func (w *world) expect(t *testing.T, b *Bot, c relay.Command, want outcome) {
	t.Helper()
	w.did, w.sent = nil, nil
	if err := b.Command(t.Context(), c); err != nil {
		t.Errorf("%s %q: %v", c.Sender, c.Text, err)
	}
	if got := strings.Join(w.did, "; "); got != want.did {
		t.Errorf("%s %q: did %q, want %q", c.Sender, c.Text, got, want.did)
	}
	answers := 1
	if want.reply == "" {
		answers = 0
	}
	if len(w.sent) != answers || answers == 1 && !strings.Contains(w.sent[0].Body, want.reply) {
		t.Errorf("%s %q: said %+v, want %q", c.Sender, c.Text, w.sent, want.reply)
	}
}

func TestCommands(t *testing.T) {
	for _, c := range []struct {
		sender, text string
		private      bool
		reply, did   string
	}{
		{"@u:hs", "ping", false, "Pong!", ""},
		{"@u:hs", "PING", true, "Pong!", ""},
		{"@u:hs", "!mimi ping", true, "Pong!", ""},
		{"@u:hs", "", true, "start-chat <address>", ""},
		{"@u:hs", "help", false, "begin with !mimi", ""},
		{"@u:hs", "version", true, "b.example", ""},
		{"@u:hs", "status", true, "up for 1h0m0s", ""},
		{"@admin:hs", "status", true, "3 rooms", ""},
		{"@u:hs", "whoami", true, "mimi://b.example/u/u in MIMI, found as acct:u@b.example", ""},
		{"@u:hs", "dance", false, "I do not know dance. Say !mimi help", ""},
		{"@u:hs", "login", true, "There is nothing to log in to", ""},
		{"@u:hs", "create-group", true, "say !mimi invite <address> there", ""},
		{"@u:hs", "help set-management-room", true, "there you need no !mimi before a command", ""},
		{"@u:hs", "room", false, "mimi://a.example/r/x, led by a.example, 3 participants", ""},
		{"@u:hs", "list-rooms", true, "Ga'rden", ""},
		{"@u:hs", "providers", true, "a.example: is reached", ""},
		{"@u:hs", "providers", true, "d.example: blocked: the operator", ""},
		{"@u:hs", "providers", true, "c.example: not reached now: what is written to its people is kept", ""},
		{"@u:hs", "invite mimi://a.example/u/bob", false, "is being invited", "invite !r:hs @u:hs mimi://a.example/u/bob $e"},
		{"@u:hs", "invite <mimi://a.example/u/bob>", false, "is being invited", "invite !r:hs @u:hs mimi://a.example/u/bob $e"},
		{"@u:hs", "invite @bob@a.example", false, "mimi://a.example/u/bob is being invited", "invite !r:hs @u:hs mimi://a.example/u/bob $e"},
		{"@u:hs", "invite nobody", false, "could not find nobody: nobody by this <b>name</b>", ""},
		{"@u:hs", "invite", false, "Usage: !mimi invite <address>", ""},
		{"@u:hs", "invite mimi://a.example/u/bob", true, "That is for a room", ""},
		{"@u:hs", "start-chat @bob@a.example", true, "is being made", "start @u:hs mimi://a.example/u/bob"},
		{"@u:hs", "join mimi://a.example/r/x s3cret", true, "Asking to join", `join @u:hs mimi://a.example/r/x "s3cret"`},
		{"@u:hs", "join #room:hs", true, "is no MIMI room", ""},
		{"@u:hs", "plumb", false, "that needs power level 50, you have 0", ""},
		{"@mod:hs", "plumb", false, "", "plumb !r:hs @mod:hs"},
		{"@u:hs", "unplumb", false, "needs power level 50", ""},
		{"@admin:hs", "unplumb", false, "", "unplumb !r:hs @admin:hs"},
		{"@u:hs", "user-deleted @x:hs", true, "I do not know", ""},
		{"@admin:hs", "user-deleted @x:hs", true, "leaves all rooms of the bridge", "delete @x:hs"},
		{"@admin:hs", "user-deleted @nobody:hs", true, "never took part", ""},
		{"@admin:hs", "user-deleted x", true, "is no Matrix user", ""},
		{"@bad:hs", "ping", false, "", ""},
		{"@u:else", "ping", false, "", ""},
		{"@mimibot:hs", "ping", false, "", ""},
	} {
		b, w := newBot(t)
		w.expect(t, b, say(c.sender, c.text, c.private), outcome{c.reply, c.did})
		for i, m := range w.sent {
			if m.MsgType != event.MsgNotice || m.Relation.ReplyTo != "$e" || m.Mentions == nil || len(m.Mentions.Users) != 0 || w.rooms[i] != "!r:hs" {
				t.Errorf("%q: reply %+v", c.text, m)
			}
			if html.Sanitize(m.HTML) != m.HTML {
				t.Errorf("%q: unclean reply %q", c.text, m.HTML)
			}
		}
	}
}

func TestErrorsOfActions(t *testing.T) {
	for _, c := range []struct {
		err   error
		reply string
		again bool
	}{
		{relay.ErrNoRoom, "This room is not joined to MIMI. Invite me", false},
		{errors.New("its provider is `not` spoken with"), "That did not work: its provider is 'not' spoken with", false},
		{context.Canceled, "", true},
	} {
		b, w := newBot(t)
		w.fail = c.err
		err := b.Command(t.Context(), say("@mod:hs", "plumb", false))
		if (err != nil) != c.again {
			t.Errorf("%v: %v", c.err, err)
		}
		if got := fmt.Sprint(len(w.sent)); c.reply != "" && !strings.Contains(w.sent[0].Body, c.reply) {
			t.Errorf("%v: %s replies, %q", c.err, got, w.sent[0].Body)
		}
	}
}

// A command that is tried again answers with the same transaction id.
func TestReplyIsSentOnce(t *testing.T) {
	b, w := newBot(t)
	w.class = client.Retry
	if err := b.Command(t.Context(), say("@u:hs", "ping", true)); err == nil {
		t.Fatal("a reply that was not sent is no success")
	}
	w.class = client.Done
	if err := b.Command(t.Context(), say("@u:hs", "ping", true)); err != nil {
		t.Fatal(err)
	}
	if len(w.txns) != 2 || w.txns[0] != w.txns[1] || !strings.Contains(w.txns[0], "$e") {
		t.Fatal(w.txns)
	}
	w.class = client.Refused
	if err := b.Command(t.Context(), say("@u:hs", "ping", true)); err != nil {
		t.Fatal("a bot that was put out would try for ever:", err)
	}
}

func TestPanicIsTold(t *testing.T) {
	b, w := newBot(t)
	b.Register(&Handler{Name: "boom", Needs: User, Do: func(context.Context, *Event) error { panic("secret") }})
	if err := b.Command(t.Context(), say("@u:hs", "boom", true)); err != nil {
		t.Fatal(err)
	}
	if len(w.sent) != 1 || strings.Contains(w.sent[0].Body, "secret") {
		t.Fatalf("%+v", w.sent)
	}
	defer func() {
		if recover() == nil {
			t.Error("a name was given twice")
		}
	}()
	b.Register(&Handler{Name: "info"})
}

func TestWordsOfLevels(t *testing.T) {
	for _, l := range []Level{Block, User, Admin} {
		if got, err := ParseLevel(l.String()); err != nil || got != l {
			t.Error(l, got, err)
		}
	}
	if _, err := ParseLevel("root"); err == nil {
		t.Error("unknown level")
	}
}

// What is told of a room is in words of people; numbers of MLS are for administrators.
func TestRoomsInWords(t *testing.T) {
	for state, want := range map[string]string{"active": "", "opening": "being made", "desynced": "joined anew", "closed": "not joined any more"} {
		for _, c := range []struct {
			sender, hub string
			want        []string
			not         []string
		}{
			{"@u:hs", "a.example", []string{"led by a.example", want}, []string{"epoch", "active", "desynced", "closed"}},
			{"@admin:hs", "b.example", []string{"led by this bridge", want, "epoch 7"}, []string{"active"}},
		} {
			b, w := newBot(t)
			w.room = &relay.RoomInfo{URI: "mimi://a.example/r/x", Hub: c.hub, State: state, Epoch: 7}
			if err := b.Command(t.Context(), say(c.sender, "room", false)); err != nil || len(w.sent) != 1 {
				t.Fatalf("%v %+v", err, w.sent)
			}
			for _, s := range c.want {
				if !strings.Contains(w.sent[0].Body, s) {
					t.Errorf("%s %s: %q does not say %q", c.sender, state, w.sent[0].Body, s)
				}
			}
			for _, s := range c.not {
				if strings.Contains(w.sent[0].Body, s) {
					t.Errorf("%s %s: %q says %q", c.sender, state, w.sent[0].Body, s)
				}
			}
		}
	}
}
