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

func encryptedConversation(t *testing.T, allPostgres bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := prepare(ctx, true); err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{"encryption.default": "true"}
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
	alice, bob := newSecretPerson(t, ctx, w, "alice@one"), newSecretPerson(t, ctx, w, "bob@two")
	ghost, err := w.MXID("one", "bob@two")
	if err != nil {
		t.Fatal(err)
	}
	empty := ""
	made, err := alice.CreateRoom(ctx, &mautrix.ReqCreateRoom{Name: "Vault", Preset: "private_chat", Invite: []id.UserID{ghost}, InitialState: []*event.Event{{
		Type: event.StateEncryption, StateKey: &empty, Content: event.Content{Parsed: &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	bob.await(t, ctx, w, "an invitation", func() bool { return len(bob.invites) > 0 })
	portal := bob.invites[0]
	if _, err := bob.JoinRoomByID(ctx, portal); err != nil {
		t.Fatal(err)
	}
	botOne, botTwo := id.NewUserID("mimibot", ServerName("one")), id.NewUserID("mimibot", ServerName("two"))
	alice.reads(t, ctx, w, "an end of the encryption")
	bob.reads(t, ctx, w, "an end of the encryption")
	alice.says(t, ctx, w, made.RoomID, "secret of alice", botOne, ghost)
	bob.reads(t, ctx, w, "secret of alice")
	bob.says(t, ctx, w, portal, "secret of bob", botTwo)
	alice.reads(t, ctx, w, "secret of bob")

	w.Bridge("one.example").Kill()
	alice.says(t, ctx, w, made.RoomID, "while nobody listens")
	bob.says(t, ctx, w, portal, "while one is away")
	if err := w.Bridge("one.example").Start(ctx); err != nil {
		t.Fatal(err)
	}
	bob.reads(t, ctx, w, "while nobody listens")
	alice.reads(t, ctx, w, "while one is away")
	alice.says(t, ctx, w, made.RoomID, "after the crash")
	bob.reads(t, ctx, w, "after the crash")
	// Commands are understood and answered encrypted.
	alice.says(t, ctx, w, made.RoomID, "!mimi discard-session")
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
