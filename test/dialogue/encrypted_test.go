package dialogue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/cryptohelper"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/test/harness"
)

// secretPerson is a Matrix client that encrypts, and what it could read.
type secretPerson struct {
	*mautrix.Client
	mu      sync.Mutex
	changed chan struct{}
	read    []*event.Event // messages, decrypted where they were not in clear
	invites []id.RoomID
}

func newSecretPerson(t *testing.T, ctx context.Context, w *World, name string) *secretPerson {
	t.Helper()
	local, short, _ := strings.Cut(name, "@")
	cli, err := w.Homeserver(short).User(ctx, local)
	if err != nil {
		t.Fatal(err)
	}
	p := &secretPerson{Client: cli, changed: make(chan struct{})}
	cli.StateStore = mautrix.NewMemoryStateStore()
	helper, err := cryptohelper.NewCryptoHelper(cli, []byte(name), crypto.NewMemoryStore(nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.Init(ctx); err != nil {
		t.Fatal(err)
	}
	cli.Crypto = helper
	syncer := cli.Syncer.(*mautrix.DefaultSyncer)
	syncer.OnEvent(cli.StateStoreSyncHandler)
	syncer.OnEventType(event.EventMessage, func(_ context.Context, e *event.Event) { p.note(func() { p.read = append(p.read, e) }) })
	syncer.OnEventType(event.StateMember, func(_ context.Context, e *event.Event) {
		if e.GetStateKey() == string(cli.UserID) && e.Content.AsMember().Membership == event.MembershipInvite {
			p.note(func() { p.invites = append(p.invites, e.RoomID) })
			return
		}
		p.note(func() {})
	})
	syncer.OnEventType(event.StateEncryption, func(context.Context, *event.Event) { p.note(func() {}) })
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { defer close(done); _ = cli.SyncWithContext(run) }()
	t.Cleanup(func() { cancel(); <-done })
	return p
}

func (p *secretPerson) note(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *secretPerson) await(t *testing.T, ctx context.Context, w *World, what string, ok func() bool) {
	t.Helper()
	for {
		p.mu.Lock()
		good, changed := ok(), p.changed
		p.mu.Unlock()
		if good {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			var heard []string
			for _, e := range p.read {
				heard = append(heard, fmt.Sprintf("%s: %q", e.Sender, e.Content.AsMessage().Body))
			}
			t.Fatalf("%s waits in vain for %s; has read %v\n%s", p.UserID, what, heard, w.logTails(3000))
		}
	}
}

// reads waits until a message was read, and checks that it came encrypted.
func (p *secretPerson) reads(t *testing.T, ctx context.Context, w *World, text string) {
	t.Helper()
	secret := false
	p.await(t, ctx, w, "message "+text, func() bool {
		for _, e := range p.read {
			if strings.Contains(e.Content.AsMessage().Body, text) {
				secret = e.Mautrix.WasEncrypted
				return true
			}
		}
		return false
	})
	if !secret {
		t.Errorf("%s got %q in clear", p.UserID, text)
	}
}

func (p *secretPerson) says(t *testing.T, ctx context.Context, w *World, room id.RoomID, text string, with ...id.UserID) {
	t.Helper()
	p.await(t, ctx, w, "an encrypted room with "+fmt.Sprint(with), func() bool {
		enc, err := p.StateStore.IsEncrypted(ctx, room)
		for _, u := range with {
			enc = enc && p.StateStore.IsInRoom(ctx, room, u)
		}
		return err == nil && enc
	})
	if _, err := p.SendText(ctx, room, text); err != nil {
		t.Fatal(err)
	}
}

// Two people with encrypting clients talk through two bridges: the room of the one is encrypted by hand, the portal of the
// other by the bridge's settings; a bridge is killed and started in between; both are told that the bridge is an end.
func TestEncryptedConversation(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { encryptedConversation(t, false) })
	t.Run("postgres", func(t *testing.T) { encryptedConversation(t, true) })
}

// secretWorld is two bridges, each at a homeserver, that make encrypted rooms.
func secretWorld(t *testing.T, ctx context.Context, allPostgres bool) *World {
	t.Helper()
	if err := prepare(ctx, true); err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{"encryption.default": "true", "activitypub.enabled": "true"}
	w, err := NewWorld(ctx, Plan{Homeservers: []string{"one", "two"}, Bridges: []BridgePlan{
		{Domain: "one.example", Homeserver: "one", Settings: settings}, {Domain: "two.example", Homeserver: "two", Settings: settings},
	}}, Options{Dir: t.TempDir(), Software: stage.software, Bridge: stage.bridge, Postgres: postgres, AllPostgres: allPostgres, Log: t.Logf})
	if errors.Is(err, harness.ErrNoPostgres) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// encryptedRoom is a room that somebody makes, with others invited.
func (p *secretPerson) encryptedRoom(t *testing.T, ctx context.Context, name string, invite ...id.UserID) id.RoomID {
	t.Helper()
	empty := ""
	made, err := p.CreateRoom(ctx, &mautrix.ReqCreateRoom{Name: name, Preset: "private_chat", Invite: invite, InitialState: []*event.Event{{
		Type: event.StateEncryption, StateKey: &empty, Content: event.Content{Parsed: &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return made.RoomID
}

// accepts takes the invitation that comes after some others.
func (p *secretPerson) accepts(t *testing.T, ctx context.Context, w *World, others int) id.RoomID {
	t.Helper()
	p.await(t, ctx, w, "an invitation", func() bool { return len(p.invites) > others })
	if _, err := p.JoinRoomByID(ctx, p.invites[others]); err != nil {
		t.Fatal(err)
	}
	return p.invites[others]
}

// An encrypted Matrix room is a channel of ActivityPub: the portal of the other bridge is encrypted as well, and so is the room of a conversation. What is said comes encrypted to both
// sides' clients, also over a crash; commands are understood encrypted.
func TestEncryptedChannel(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { encryptedChannel(t, false) })
	t.Run("postgres", func(t *testing.T) { encryptedChannel(t, true) })
}

func encryptedChannel(t *testing.T, allPostgres bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	w := secretWorld(t, ctx, allPostgres)
	alice, bob := newSecretPerson(t, ctx, w, "alice@one"), newSecretPerson(t, ctx, w, "bob@two")
	botOne, botTwo := id.NewUserID("mimibot", ServerName("one")), id.NewUserID("mimibot", ServerName("two"))
	room := alice.encryptedRoom(t, ctx, "Club", botOne)
	alice.says(t, ctx, w, room, "!mimi channel", botOne)
	alice.reads(t, ctx, w, "This room is a channel now")
	alice.reads(t, ctx, w, "an end of the encryption")
	alice.says(t, ctx, w, room, "!mimi invite @bob@two.example")
	portal := bob.accepts(t, ctx, w, 0)
	bob.reads(t, ctx, w, "an end of the encryption")
	ghost, err := w.MXID("one", "acct:bob@two.example")
	if err != nil {
		t.Fatal(err)
	}
	alice.says(t, ctx, w, room, "for the club only", ghost)
	bob.reads(t, ctx, w, "for the club only")
	bob.says(t, ctx, w, portal, "the club hears you", botTwo)
	alice.reads(t, ctx, w, "the club hears you")
	w.Bridge("one.example").Kill()
	bob.says(t, ctx, w, portal, "while the channel is away")
	if err := w.Bridge("one.example").Start(ctx); err != nil {
		t.Fatal(err)
	}
	alice.reads(t, ctx, w, "while the channel is away")

	// A conversation.
	alice.says(t, ctx, w, room, "!mimi fediverse @bob@two.example")
	chat, other := alice.accepts(t, ctx, w, 0), bob.accepts(t, ctx, w, 1)
	alice.says(t, ctx, w, chat, "between us", ghost)
	bob.reads(t, ctx, w, "between us")
	bob.says(t, ctx, w, other, "nobody else", botTwo)
	alice.reads(t, ctx, w, "nobody else")
}

func encryptedConversation(t *testing.T, allPostgres bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	w := secretWorld(t, ctx, allPostgres)
	alice, bob := newSecretPerson(t, ctx, w, "alice@one"), newSecretPerson(t, ctx, w, "bob@two")
	ghost, err := w.MXID("one", "bob@two")
	if err != nil {
		t.Fatal(err)
	}
	vault := alice.encryptedRoom(t, ctx, "Vault", ghost)
	portal := bob.accepts(t, ctx, w, 0)
	botOne, botTwo := id.NewUserID("mimibot", ServerName("one")), id.NewUserID("mimibot", ServerName("two"))
	alice.reads(t, ctx, w, "an end of the encryption")
	bob.reads(t, ctx, w, "an end of the encryption")
	alice.says(t, ctx, w, vault, "secret of alice", botOne, ghost)
	bob.reads(t, ctx, w, "secret of alice")
	bob.says(t, ctx, w, portal, "secret of bob", botTwo)
	alice.reads(t, ctx, w, "secret of bob")

	w.Bridge("one.example").Kill()
	alice.says(t, ctx, w, vault, "while nobody listens")
	bob.says(t, ctx, w, portal, "while one is away")
	if err := w.Bridge("one.example").Start(ctx); err != nil {
		t.Fatal(err)
	}
	bob.reads(t, ctx, w, "while nobody listens")
	alice.reads(t, ctx, w, "while one is away")
	alice.says(t, ctx, w, vault, "after the crash")
	bob.reads(t, ctx, w, "after the crash")
	// Commands are understood and answered encrypted.
	alice.says(t, ctx, w, vault, "!mimi discard-session")
	alice.reads(t, ctx, w, "uses a new key")
	bob.says(t, ctx, w, portal, "under a new key")
	alice.reads(t, ctx, w, "under a new key")
	for _, p := range []*secretPerson{alice, bob} {
		seen := map[string]int{}
		for _, e := range p.read {
			seen[e.Content.AsMessage().Body]++
		}
		for body, n := range seen {
			if n > 1 {
				t.Errorf("%s read %q %d times", p.UserID, body, n)
			}
		}
	}
}
