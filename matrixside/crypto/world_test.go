package crypto_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	mcrypto "maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/cryptohelper"
	mevent "maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
	"github.com/matrix-mimi/bridge/matrixside/client"
	"github.com/matrix-mimi/bridge/matrixside/crypto"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/intake"
	"github.com/matrix-mimi/bridge/test/harness"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// homeserverDatabase is a PostgreSQL database for the homeserver, where there is PostgreSQL: with SQLite Dendrite finds its
// database locked, and stops pushing events for good, when several clients sync while others write.
func homeserverDatabase(t *testing.T, ctx context.Context) string {
	t.Helper()
	pg, err := harness.StartPostgres(ctx, harness.PostgresConfig{Unsynced: true})
	if errors.Is(err, harness.ErrNoPostgres) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pg.Stop() })
	uri, err := pg.Database(ctx, "dendrite")
	if err != nil {
		t.Fatal(err)
	}
	return uri
}

const ghost = id.UserID("@mimi_a.example=2fbob:one.example")

const registration = `id: mimi
url: http://%s
as_token: as-token-for-tests
hs_token: hs-token-for-tests
sender_localpart: mimibot
rate_limited: false
namespaces:
  users:
    - {regex: '^@mimi_.*:one\.example$', exclusive: true}
  aliases: []
  rooms: []
`

// signal wakes who waits for a condition.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

func newSignal() *signal { return &signal{ch: make(chan struct{})} }

func (s *signal) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.ch)
	s.ch = make(chan struct{})
}

// await waits until ok is true; ok runs under the lock of change.
func (s *signal) await(t *testing.T, ctx context.Context, what string, ok func() bool) {
	t.Helper()
	for {
		s.mu.Lock()
		good, ch := ok(), s.ch
		s.mu.Unlock()
		if good {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-ch:
		}
	}
}

// world is a homeserver with the bridge's Matrix side beside it, without a relay: what arrives is kept in memory.
type world struct {
	hs   *harness.Homeserver
	port int
	db   store.Config

	refused func(string, ...any)

	*signal
	events   map[id.EventID]event.Event
	toDevice []event.ToDevice
	keys     map[id.SessionID]int
	words    map[string]int
	position string
	hold     bool // to-device messages are set aside instead of being worked off
	held     []event.ToDevice
	deaf     bool // what the homeserver tells of changed devices is set aside
	lists    []json.RawMessage
	ahead    time.Duration // how far the device's clock is ahead

	running
	n int
}

// running is what a restart makes anew.
type running struct {
	store  *store.DB
	client *client.Client
	device *crypto.Crypto
	stop   func()
}

func newWorld(t *testing.T, ctx context.Context, cfg store.Config) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT TESTED WITH A HOMESERVER: -short")
	}
	bins, err := harness.BuildDendrite(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{signal: newSignal(), events: map[id.EventID]event.Event{}, keys: map[id.SessionID]int{}, words: map[string]int{}, db: cfg, refused: t.Logf}
	if w.port, err = harness.FreePort(); err != nil {
		t.Fatal(err)
	}
	reg := filepath.Join(t.TempDir(), "registration.yaml")
	if err := os.WriteFile(reg, []byte(fmt.Sprintf(registration, harness.Loopback(w.port))), 0o600); err != nil {
		t.Fatal(err)
	}
	w.hs, err = harness.StartHomeserver(ctx, harness.Software{Dendrite: bins}, harness.HomeserverConfig{ServerName: "one.example", Dir: t.TempDir(), Registrations: []string{reg},
		PostgresURI: homeserverDatabase(t, ctx)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.hs.Kill)
	w.start(t, ctx)
	t.Cleanup(func() { w.stop() })
	return w
}

// start starts the bridge's Matrix side on what the database holds.
func (w *world) start(t *testing.T, ctx context.Context) {
	t.Helper()
	db, err := store.Open(ctx, w.db)
	if err != nil {
		t.Fatal(err)
	}
	w.store = db
	w.client, err = client.New(client.Config{Homeserver: w.hs.URL(), Token: "as-token-for-tests", Bot: "@mimibot:one.example", IsGhost: isGhost})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.client.EnsureBot(ctx, "MIMI bridge", ""); err != nil {
		t.Fatal(err)
	}
	w.device, err = crypto.New(ctx, crypto.Config{
		Store: db, Client: w.client, IsGhost: isGhost, SelfSign: true,
		OnKey: func(_ context.Context, _ id.RoomID, s id.SessionID) { w.change(func() { w.keys[s]++ }) },
		// Called from everywhere, also under the lock of await.
		Observe: func(word string) { go w.change(func() { w.words[word]++ }) },
		Clock: func() time.Time {
			w.mu.Lock()
			defer w.mu.Unlock()
			return time.Now().Add(w.ahead)
		},
		Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.device.Receive(ctx, crypto.Delivery{ToDevice: []event.ToDevice{{}}}); !errors.Is(err, crypto.ErrNotStarted) {
		t.Errorf("without a device: %v", err)
	}
	if err := w.device.Start(ctx); err != nil {
		t.Fatal(err)
	}
	w.client.UseEncrypter(w.device)
	h, err := intake.NewHandler(intake.Config{Token: "hs-token-for-tests", Sink: w, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	loop, err := intake.NewLoop(intake.SyncConfig{Client: w.device.Client(), Sink: w, Positions: w, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Addr: harness.Loopback(w.port), Handler: h, ReadHeaderTimeout: 5 * time.Second}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.ListenAndServe() })
	wg.Go(func() { _ = loop.Run(run) })
	wg.Go(func() { _ = w.device.Run(run) })
	device := w.device
	w.stop = sync.OnceFunc(func() {
		cancel()
		_ = srv.Close()
		wg.Wait()
		if err := errors.Join(device.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
}

func isGhost(u id.UserID) bool { return strings.HasPrefix(string(u), "@mimi_") }

// Store implements intake.Sink.
func (w *world) Store(ctx context.Context, t *intake.Transaction) (bool, error) {
	w.mu.Lock()
	todo := t.ToDevice
	w.toDevice = append(w.toDevice, todo...)
	if w.hold {
		w.held, todo = append(w.held, todo...), nil
	}
	lists := t.DeviceLists
	if w.deaf && lists != nil {
		w.lists, lists = append(w.lists, lists), nil
	}
	device := w.device
	w.mu.Unlock()
	if err := device.Receive(ctx, crypto.Delivery{Events: t.Events, ToDevice: todo, DeviceLists: lists, KeyCounts: t.KeyCounts}); err != nil {
		w.refused("a delivery was not taken: %v", err)
		return false, err
	}
	w.change(func() {
		for _, e := range t.Events {
			w.events[e.ID] = e
		}
		if t.Next != "" {
			w.position = t.Next
		}
	})
	return false, nil
}

// Position implements intake.Positions.
func (w *world) Position(context.Context) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.position, nil
}

// arrived waits for an event.
func (w *world) arrived(t *testing.T, ctx context.Context, ev id.EventID) event.Event {
	t.Helper()
	w.await(t, ctx, "event "+string(ev), func() bool { _, ok := w.events[ev]; return ok })
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.events[ev]
}

// opened waits for an event and for its key, and returns what was inside.
func (w *world) opened(t *testing.T, ctx context.Context, ev id.EventID) event.Event {
	t.Helper()
	e := w.arrived(t, ctx, ev)
	if e.Type != event.TypeEncrypted {
		t.Fatalf("%s came in clear: %s", ev, e.Raw)
	}
	for {
		plain, err := w.device.Decrypt(ctx, e)
		var wait *crypto.WaitingError
		if errors.As(err, &wait) {
			w.await(t, ctx, "room key "+string(wait.Session), func() bool {
				known, err := w.device.Known(ctx, wait.Room, wait.Session)
				return err != nil || known
			})
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return plain
	}
}

// say lets a ghost say something, as a row of the outbox would.
func (w *world) say(t *testing.T, ctx context.Context, room id.RoomID, m event.Message) id.EventID {
	t.Helper()
	w.n++
	return w.do(t, ctx, room, fmt.Sprint("row", w.n), event.Send{Sender: ghost, Type: event.TypeMessage, Content: m.Encode()})
}

func (w *world) do(t *testing.T, ctx context.Context, room id.RoomID, key string, a event.Args) id.EventID {
	t.Helper()
	r := w.client.Do(ctx, client.Row{Request: event.NewRequest(a), Room: room, Txn: key})
	if r.Class != client.Done {
		t.Fatalf("%T: %v %v", a, r.Class, r.Err)
	}
	return id.EventID(r.EventID())
}

// makeRoom makes a room with the bot, a ghost and people.
func (w *world) makeRoom(t *testing.T, ctx context.Context, visibility string, encrypted bool, people ...*person) id.RoomID {
	t.Helper()
	create := event.CreateRoom{Preset: "private_chat", Version: "10", State: []event.StateEvent{
		{Type: event.TypeHistoryVisibility, Content: json.RawMessage(fmt.Sprintf(`{"history_visibility":%q}`, visibility))},
	}}
	if encrypted {
		create.State = append(create.State, event.StateEvent{Type: event.TypeEncryption, Content: json.RawMessage(`{"algorithm":"m.megolm.v1.aes-sha2"}`)})
	}
	r := w.client.Do(ctx, client.Row{Request: event.NewRequest(create), Txn: "create"})
	if r.Class != client.Done {
		t.Fatal(r.Err)
	}
	room := id.RoomID(r.RoomID())
	w.do(t, ctx, room, "join", event.JoinRoom{Sender: ghost, InviteFirst: true})
	for _, p := range people {
		w.join(t, ctx, room, p)
	}
	return room
}

// join invites somebody, who then joins, and waits until the bridge has seen it.
func (w *world) join(t *testing.T, ctx context.Context, room id.RoomID, p *person) {
	t.Helper()
	w.do(t, ctx, room, "invite", event.InviteUser{Target: p.UserID})
	if _, err := p.JoinRoomByID(ctx, room); err != nil {
		t.Fatal(err)
	}
	w.sawMember(t, ctx, room, p.UserID, event.Join)
}

func (w *world) sawMember(t *testing.T, ctx context.Context, room id.RoomID, user id.UserID, want event.Membership) {
	t.Helper()
	w.await(t, ctx, string(user)+" "+string(want), func() bool {
		for _, e := range w.events {
			if m, ok := e.Member(); ok && e.Room == room && m.User == user && m.Membership == want {
				return true
			}
		}
		return false
	})
}

// person is somebody on Matrix with an encrypting client.
type person struct {
	*mautrix.Client
	*signal
	helper *cryptohelper.CryptoHelper
	got    map[id.EventID]*mevent.Event
	failed map[id.EventID]error
	leave  func() // ends the client
}

// newPerson logs somebody in with a new device.
func (w *world) newPerson(t *testing.T, ctx context.Context, name string, sign bool) *person {
	t.Helper()
	cli, err := w.hs.User(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	p := &person{Client: cli, signal: newSignal(), got: map[id.EventID]*mevent.Event{}, failed: map[id.EventID]error{}}
	cli.StateStore = mautrix.NewMemoryStateStore()
	if p.helper, err = cryptohelper.NewCryptoHelper(cli, []byte(name), mcrypto.NewMemoryStore(nil)); err != nil {
		t.Fatal(err)
	}
	if err := p.helper.Init(ctx); err != nil {
		t.Fatal(err)
	}
	cli.Crypto = p.helper
	if sign {
		if _, _, err := p.helper.Machine().GenerateAndUploadCrossSigningKeysWithPassword(ctx, harness.Password(name), ""); err != nil {
			t.Fatal(err)
		}
		if err := p.helper.Machine().SignOwnDevice(ctx, p.helper.Machine().OwnIdentity()); err != nil {
			t.Fatal(err)
		}
	}
	syncer := cli.Syncer.(*mautrix.DefaultSyncer)
	syncer.OnEvent(cli.StateStoreSyncHandler)
	syncer.OnEventType(mevent.EventMessage, func(_ context.Context, e *mevent.Event) { p.change(func() { p.got[e.ID] = e }) })
	p.helper.DecryptErrorCallback = func(e *mevent.Event, err error) { p.change(func() { p.failed[e.ID] = err }) }
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { defer close(done); _ = cli.SyncWithContext(run) }()
	p.leave = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(p.leave)
	return p
}

// read waits for an event, decrypted, and returns it.
func (p *person) read(t *testing.T, ctx context.Context, ev id.EventID) *mevent.Event {
	t.Helper()
	p.await(t, ctx, "event "+string(ev)+" at "+string(p.UserID), func() bool { return p.got[ev] != nil || p.failed[ev] != nil })
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.failed[ev]; err != nil && p.got[ev] == nil {
		t.Fatalf("%s cannot read %s: %v", p.UserID, ev, err)
	}
	return p.got[ev]
}

// knowsEncrypted waits until the client knows that the room is encrypted and that the bot is in it, as a person looks at
// the room before speaking.
func (p *person) knowsEncrypted(t *testing.T, ctx context.Context, room id.RoomID) {
	t.Helper()
	for {
		if ok, _ := p.StateStore.IsEncrypted(ctx, room); ok && p.StateStore.IsInRoom(ctx, room, "@mimibot:one.example") {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s does not know that the room is encrypted", p.UserID)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// say sends a message, encrypted by the client.
func (p *person) say(t *testing.T, ctx context.Context, room id.RoomID, text string) id.EventID {
	t.Helper()
	p.knowsEncrypted(t, ctx, room)
	r, err := p.SendText(ctx, room, text)
	if err != nil {
		t.Fatal(err)
	}
	return r.EventID
}

func encryptedRoom(invite ...id.UserID) *mautrix.ReqCreateRoom {
	empty := ""
	return &mautrix.ReqCreateRoom{Preset: "private_chat", RoomVersion: "10", Invite: invite, InitialState: []*mevent.Event{{
		Type: mevent.StateEncryption, StateKey: &empty, Content: mevent.Content{Parsed: &mevent.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1}},
	}}}
}

func reqInvite(user id.UserID) *mautrix.ReqInviteUser { return &mautrix.ReqInviteUser{UserID: user} }
