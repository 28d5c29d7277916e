package intake_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/client"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/intake"
	"github.com/matrix-mimi/bridge/test/harness"
)

// keeper is a sink that keeps events by id and wakes who waits for one.
type keeper struct {
	mu        sync.Mutex
	events    map[id.EventID]event.Event
	sources   map[id.EventID]intake.Source
	ephemeral []event.Ephemeral
	position  string
	changed   chan struct{}
}

func newKeeper() *keeper {
	return &keeper{events: map[id.EventID]event.Event{}, sources: map[id.EventID]intake.Source{}, changed: make(chan struct{})}
}

func (k *keeper) Store(_ context.Context, t *intake.Transaction) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range t.Events {
		if _, ok := k.events[e.ID]; !ok {
			k.events[e.ID], k.sources[e.ID] = e, t.Source
		}
	}
	k.ephemeral = append(k.ephemeral, t.Ephemeral...)
	if t.Next != "" {
		k.position = t.Next
	}
	close(k.changed)
	k.changed = make(chan struct{})
	return false, nil
}

func (k *keeper) Position(context.Context) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.position, nil
}

// await waits until ok is true of what was kept.
func (k *keeper) await(t *testing.T, ctx context.Context, what string, ok func() bool) {
	t.Helper()
	for {
		k.mu.Lock()
		good, changed := ok(), k.changed
		k.mu.Unlock()
		if good {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-changed:
		}
	}
}

const registration = `id: mimi
url: http://%s
as_token: as-token-for-tests
hs_token: hs-token-for-tests
sender_localpart: mimibot
rate_limited: false
namespaces:
  users:
    - {regex: '^@mimi_.*:one\.example$', exclusive: true}
  aliases: [{regex: '^#mimi_.*:one\.example$', exclusive: true}]
  rooms: []
`

// stage is a real homeserver with our endpoint and client beside it.
type stage struct {
	hs     *harness.Homeserver
	client *client.Client
	kept   *keeper
	n      int
}

func newStage(t *testing.T, ctx context.Context) *stage {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT TESTED WITH A HOMESERVER: -short")
	}
	bins, err := harness.BuildDendrite(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	reg := filepath.Join(t.TempDir(), "registration.yaml")
	if err := os.WriteFile(reg, []byte(fmt.Sprintf(registration, harness.Loopback(port))), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &stage{kept: newKeeper()}
	h, err := intake.NewHandler(intake.Config{Token: "hs-token-for-tests", Sink: s.kept, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Addr: harness.Loopback(port), Handler: h, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.ListenAndServe() }()
	t.Cleanup(func() { _ = srv.Close(); <-served })
	if s.hs, err = harness.StartHomeserver(ctx, harness.Software{Dendrite: bins}, harness.HomeserverConfig{ServerName: "one.example", Dir: t.TempDir(), Registrations: []string{reg}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.hs.Kill)
	s.client, err = client.New(client.Config{
		Homeserver: s.hs.URL(), Token: "as-token-for-tests", Bot: "@mimibot:one.example",
		IsGhost:   func(u id.UserID) bool { return strings.HasPrefix(string(u), "@mimi_") },
		GhostName: func(_ context.Context, u id.UserID) (string, string, error) { return "Ghost " + u.Localpart(), "", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.client.EnsureBot(ctx, "MIMI bridge", ""); err != nil {
		t.Fatal(err)
	}
	return s
}

// do carries out a request that must succeed, at the third time at the latest: a homeserver on SQLite can be too busy, and the outbox sends again, too.
func (s *stage) do(t *testing.T, ctx context.Context, room id.RoomID, a event.Args) client.Result {
	t.Helper()
	s.n++
	var r client.Result
	for range 3 {
		if r = s.client.Do(ctx, client.Row{Request: event.NewRequest(a), Room: room, Txn: fmt.Sprint("row", s.n)}); r.Class != client.Retry {
			break
		}
	}
	if r.Class != client.Done {
		t.Fatalf("%T: %v %v", a, r.Class, r.Err)
	}
	return r
}

// Against a real Dendrite: everything a portal needs, done twice where a retry
// could do it twice, and events back by both sources.
func TestDendriteIntakeAndClient(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s := newStage(t, ctx)
	alice, err := s.hs.User(ctx, "alice")
	if err != nil {
		t.Fatal(err)
	}
	soft, err := s.client.Software(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !intake.NeedsSync(intake.Auto, soft.Name, soft.Ping) {
		t.Fatalf("sync fallback is off for %+v", soft)
	}

	const ghost = id.UserID("@mimi_a.example=2fbob:one.example")
	create := event.CreateRoom{
		Alias: "mimi_room", Name: "Portal", Preset: "private_chat", Invite: []id.UserID{"@alice:one.example"}, Version: "10",
		State: []event.StateEvent{{Type: event.TypeBridge, Key: "mimi:x", Content: event.BridgeInfo{Bot: s.client.Bot(), RoomURI: "mimi://a.example/r/x"}.Encode()}},
	}
	room := id.RoomID(s.do(t, ctx, "", create).RoomID())
	if again := s.do(t, ctx, "", create).RoomID(); again != string(room) {
		t.Fatalf("second try made another room: %s, %s", room, again)
	}
	s.do(t, ctx, room, event.JoinRoom{Sender: ghost, InviteFirst: true})
	s.do(t, ctx, room, event.JoinRoom{Sender: ghost, InviteFirst: true})
	if name, _, err := s.client.Name(ctx, ghost); err != nil || !strings.HasPrefix(name, "Ghost ") {
		t.Errorf("name of the ghost: %q %v", name, err)
	}
	if _, err := alice.JoinRoomByID(ctx, room); err != nil {
		t.Fatal(err)
	}

	t.Run("send with origin time, once", func(t *testing.T) {
		content := event.Message{MsgType: event.MsgText, Body: "hello from MIMI"}.Encode()
		send := client.Row{Request: event.NewRequest(event.Send{Sender: ghost, Type: event.TypeMessage, Content: content, TS: 1700000000123}), Room: room, Txn: "same"}
		first, second := s.client.Do(ctx, send), s.client.Do(ctx, send)
		if first.EventID() == "" || first.EventID() != second.EventID() {
			t.Fatalf("%+v %+v", first, second)
		}
		other := client.Row{Request: event.NewRequest(event.Send{Type: event.TypeMessage, Content: content}), Room: room, Txn: "same"}
		if r := s.client.Do(ctx, other); r.EventID() == first.EventID() || r.Class != client.Done {
			t.Fatalf("the bot's message was swallowed: %+v", r)
		}
		ev := id.EventID(first.EventID())
		s.kept.await(t, ctx, "echo of the ghost's message", func() bool { _, ok := s.kept.events[ev]; return ok })
		e := s.kept.events[ev]
		if e.Time != 1700000000123 || e.Sender != ghost || s.kept.sources[ev] != intake.Appservice {
			t.Errorf("%+v", e)
		}
	})

	t.Run("membership", func(t *testing.T) {
		const second = id.UserID("@mimi_a.example=2fcarol:one.example")
		s.do(t, ctx, room, event.InviteUser{Target: second, Direct: true})
		s.do(t, ctx, room, event.InviteUser{Target: second})
		s.do(t, ctx, room, event.JoinRoom{Sender: second})
		s.do(t, ctx, room, event.KickUser{Target: second, Reason: "test"})
		s.do(t, ctx, room, event.KickUser{Target: second})
		s.do(t, ctx, room, event.BanUser{Target: second})
		s.do(t, ctx, room, event.UnbanUser{Target: second})
		s.do(t, ctx, room, event.UnbanUser{Target: second})
		s.do(t, ctx, room, event.LeaveRoom{Sender: second})
		st, err := s.client.State(ctx, room)
		if err != nil || st.Room.Name != "Portal" || len(st.Members) != 4 {
			t.Fatalf("%+v %v", st, err)
		}
		levels, err := s.client.Levels(ctx, room)
		if err != nil || levels.User(s.client.Bot()) != 100 || levels.User(second) != 0 || levels.Kick != 50 {
			t.Errorf("power levels %+v %v", levels, err)
		}
		for _, m := range st.Members {
			if m.User == second && m.Membership != event.Leave {
				t.Errorf("%+v", m)
			}
		}
	})

	t.Run("what is not pushed comes by sync", func(t *testing.T) {
		dev, err := s.client.LoginBot(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		loop, err := intake.NewLoop(intake.SyncConfig{Client: s.client.DeviceClient(dev), Sink: s.kept, Positions: s.kept, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := loop.Round(ctx, 0); err != nil {
			t.Fatal(err)
		}
		loopCtx, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() { defer close(ended); _ = loop.Run(loopCtx) }()
		defer func() { stop(); <-ended }()
		msg, err := alice.SendText(ctx, room, "oops")
		if err != nil {
			t.Fatal(err)
		}
		red, err := alice.RedactEvent(ctx, room, msg.EventID, mautrix.ReqRedact{Reason: "typo"})
		if err != nil {
			t.Fatal(err)
		}
		s.kept.await(t, ctx, "redaction", func() bool { _, ok := s.kept.events[red.EventID]; return ok })
		if e := s.kept.events[red.EventID]; e.Redacts != msg.EventID || s.kept.sources[red.EventID] != intake.Sync || e.Room != room {
			t.Errorf("%+v by %s", e, s.kept.sources[red.EventID])
		}
		if _, err := alice.UserTyping(ctx, room, true, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		if err := alice.MarkRead(ctx, room, red.EventID); err != nil {
			t.Fatal(err)
		}
		s.kept.await(t, ctx, "typing and receipt", func() bool {
			var typing, read bool
			for _, e := range s.kept.ephemeral {
				typing = typing || len(e.Typing) > 0
				read = read || len(e.Receipts) > 0
			}
			return typing && read
		})
	})

	t.Run("redact, reaction, receipt, typing, state", func(t *testing.T) {
		msg, err := alice.SendText(ctx, room, "react to me")
		if err != nil {
			t.Fatal(err)
		}
		s.kept.await(t, ctx, "message of alice", func() bool { _, ok := s.kept.events[msg.EventID]; return ok })
		react := event.Send{Sender: ghost, Type: event.TypeReaction, Content: event.EncodeReaction(msg.EventID, "👍", nil)}
		r := s.do(t, ctx, room, react)
		s.do(t, ctx, room, react) // another row: the homeserver may call it a duplicate
		s.do(t, ctx, room, event.Redact{Sender: ghost, Event: id.EventID(r.EventID())})
		s.do(t, ctx, room, event.ReadUpTo{Sender: ghost, Event: msg.EventID, Thread: "main"})
		s.do(t, ctx, room, event.Typing{Sender: ghost, Typing: true, Timeout: 5000})
		s.do(t, ctx, room, event.Typing{Sender: ghost})
		s.do(t, ctx, room, event.State{Type: event.TypeTopic, Content: []byte(`{"topic":"T"}`)})
		name := "New name"
		s.do(t, ctx, room, event.Profile{User: ghost, Name: &name})
		s.do(t, ctx, room, event.Visibility{Public: false})
		s.do(t, ctx, room, event.Alias{Alias: "#mimi_second:one.example"})
		s.do(t, ctx, room, event.Alias{Alias: "#mimi_second:one.example"})
		s.do(t, ctx, room, event.Alias{Alias: "#mimi_second:one.example", Delete: true})
		s.do(t, ctx, room, event.Alias{Alias: "#mimi_second:one.example", Delete: true})
		if found, err := alice.ResolveAlias(ctx, "#mimi_room:one.example"); err != nil || found.RoomID != room {
			t.Errorf("%s %v", found, err)
		}
		if r := s.client.Do(ctx, client.Row{Request: event.NewRequest(event.State{Sender: ghost, Type: event.TypeName, Content: []byte(`{"name":"x"}`)}), Room: room}); r.Class != client.Refused {
			t.Errorf("a ghost without power named the room: %+v", r)
		}
	})

	t.Run("knock", func(t *testing.T) {
		s.do(t, ctx, room, event.State{Type: event.TypeJoinRules, Content: []byte(`{"join_rule":"knock"}`)})
		const knocker = id.UserID("@mimi_a.example=2fdave:one.example")
		s.do(t, ctx, room, event.KnockRoom{Sender: knocker, Reason: "let me in"})
		s.do(t, ctx, room, event.KnockRoom{Sender: knocker})
	})

	t.Run("media", func(t *testing.T) {
		data := bytes.Repeat([]byte("stream "), 40000)
		mxc, err := s.client.Upload(ctx, ghost, io.NopCloser(bytes.NewReader(data)), int64(len(data)), "application/x-test", "f.bin")
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.client.Download(ctx, mxc, int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		got, err := io.ReadAll(m)
		if err != nil || !bytes.Equal(got, data) || m.Name != "f.bin" {
			t.Fatalf("%d octets, %q, %v", len(got), m.Name, err)
		}
	})

	t.Run("homeserver down", func(t *testing.T) {
		s.hs.Kill()
		row := client.Row{Request: event.NewRequest(event.Send{Sender: ghost, Type: event.TypeMessage, Content: event.Message{MsgType: "m.text", Body: "later"}.Encode()}), Room: room, Txn: "later"}
		if r := s.client.Do(ctx, row); r.Class != client.Retry || r.Status != 0 {
			t.Fatalf("%+v", r)
		}
		if err := s.hs.Start(ctx); err != nil {
			t.Fatal(err)
		}
		r := s.client.Do(ctx, row)
		if r.Class != client.Done {
			t.Fatalf("%+v", r)
		}
		s.kept.await(t, ctx, "the message after the outage", func() bool { _, ok := s.kept.events[id.EventID(r.EventID())]; return ok })
	})
}
