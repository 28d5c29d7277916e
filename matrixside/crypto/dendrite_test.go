package crypto_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	mevent "maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
	"github.com/matrix-mimi/bridge/matrixside/client"
	"github.com/matrix-mimi/bridge/matrixside/crypto"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

func text(s string) event.Message { return event.Message{MsgType: event.MsgText, Body: s} }

func body(t *testing.T, e event.Event) string {
	t.Helper()
	m, ok := e.Message()
	if !ok {
		t.Fatalf("no message inside: %s", e.Raw)
	}
	return m.Body
}

// Against a real Dendrite and a real second client, on both databases: what people write is opened, what ghosts say is
// read by them, across rotation, joins, leaves, new devices and restarts.
func TestDendriteEncryptedRooms(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		w := newWorld(t, ctx, cfg)
		alice := w.newPerson(t, ctx, "alice", true)
		room := w.makeRoom(t, ctx, "shared", true, alice)

		t.Run("both ways", func(t *testing.T) { bothWays(t, ctx, w, room, alice) })
		t.Run("a row that is tried again", func(t *testing.T) { sameBytes(t, ctx, w, room) })
		t.Run("somebody joins later", func(t *testing.T) { joinsLater(t, ctx, w, room, alice) })
		t.Run("a new device", func(t *testing.T) { newDevice(t, ctx, w, room) })
		t.Run("a device that turns up late", func(t *testing.T) { lateDevice(t, ctx, w, room) })
		t.Run("a first device", func(t *testing.T) { firstDevice(t, ctx, w, room) })
		t.Run("who gets no old key", func(t *testing.T) { notTheirs(t, ctx, w, room, alice) })
		t.Run("encrypted later", func(t *testing.T) { encryptedLater(t, ctx, w, alice) })
		t.Run("the key comes late", func(t *testing.T) { lateKey(t, ctx, w, room, alice) })
		t.Run("the key is asked for", func(t *testing.T) { askedKey(t, ctx, w, room, alice) })
		t.Run("forged and repeated", func(t *testing.T) { forged(t, ctx, w, room, alice) })
		t.Run("the database fails once", func(t *testing.T) { fault(t, ctx, w, room, alice) })
		t.Run("restart", func(t *testing.T) { restart(t, ctx, w, room, alice) })
		if cfg.Driver == "sqlite" { // PostgreSQL has no marker file unless it is given one
			t.Run("a restored database", func(t *testing.T) { restored(t, ctx, w, room, alice) })
		}
		t.Run("the bot is outside", func(t *testing.T) { outside(t, ctx, w, alice) })
	})
}

func bothWays(t *testing.T, ctx context.Context, w *world, room id.RoomID, alice *person) {
	signed, err := w.device.Signed(ctx)
	if err != nil || !signed {
		t.Errorf("the device is not cross-signed: %v", err)
	}
	if key, err := w.device.RecoveryKey(ctx); err != nil || key == "" {
		t.Errorf("there is no recovery key: %v", err)
	}
	plain := w.opened(t, ctx, alice.say(t, ctx, room, "secret from alice"))
	if got := body(t, plain); got != "secret from alice" || plain.Sender != alice.UserID || plain.Room != room {
		t.Errorf("opened %s", plain.Raw)
	}
	first := w.say(t, ctx, room, text("secret from bob"))
	e := alice.read(t, ctx, first)
	if got := e.Content.AsMessage().Body; got != "secret from bob" || e.Sender != ghost || !e.Mautrix.WasEncrypted {
		t.Errorf("alice reads %q of %s, encrypted %v", got, e.Sender, e.Mautrix.WasEncrypted)
	}
	if got := w.opened(t, ctx, first); body(t, got) != "secret from bob" || got.Sender != ghost {
		t.Errorf("what a ghost said is opened as %s", got.Raw)
	}
	// A reply: the relation is outside of the ciphertext and comes back in.
	reply := text("a reply")
	reply.Relation.ReplyTo = first
	if got := alice.read(t, ctx, w.say(t, ctx, room, reply)).Content.AsMessage().RelatesTo.GetReplyTo(); got != first {
		t.Errorf("the reply is to %q", got)
	}
	r, err := alice.SendMessageEvent(ctx, room, mevent.EventMessage, &mevent.MessageEventContent{MsgType: mevent.MsgText, Body: "reply of alice",
		RelatesTo: (&mevent.RelatesTo{}).SetReplyTo(first)})
	if err != nil {
		t.Fatal(err)
	}
	if m, _ := w.opened(t, ctx, r.EventID).Message(); m.Relation.ReplyTo != first || m.Body != "reply of alice" {
		t.Errorf("opened %+v", m)
	}
}

func sameBytes(t *testing.T, ctx context.Context, w *world, room id.RoomID) {
	content := text("once").Encode()
	encrypt := func(key string) string {
		_, b, err := w.device.Encrypt(ctx, room, key, ghost, event.TypeMessage, content)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	one, two, three := encrypt("row a"), encrypt("row a"), encrypt("row b")
	if one != two {
		t.Error("a retry of a row sends other bytes")
	}
	if one == three {
		t.Error("two rows send the same bytes")
	}
	if encrypt("row a") != one { // the bot answered a command in between
		t.Error("a row that is tried again after another sends other bytes")
	}
}

func joinsLater(t *testing.T, ctx context.Context, w *world, room id.RoomID, alice *person) {
	before := w.session(t, ctx, room)
	carol := w.newPerson(t, ctx, "carol", true)
	defer carol.leave()
	w.join(t, ctx, room, carol)
	if got := carol.read(t, ctx, w.say(t, ctx, room, text("welcome"))).Content.AsMessage().Body; got != "welcome" {
		t.Errorf("carol reads %q", got)
	}
	if got := body(t, w.opened(t, ctx, carol.say(t, ctx, room, "hello from carol"))); got != "hello from carol" {
		t.Errorf("opened %q", got)
	}
	during := w.session(t, ctx, room)
	if before == during {
		t.Error("the room has the key that it had before carol came")
	}
	if _, err := carol.LeaveRoom(ctx, room); err != nil {
		t.Fatal(err)
	}
	w.sawMember(t, ctx, room, carol.UserID, event.Leave)
	if got := w.session(t, ctx, room); got == during {
		t.Error("the room has the key that carol knows")
	}
	after := w.session(t, ctx, room)
	if err := w.device.Discard(ctx, room); err != nil {
		t.Fatal(err)
	}
	if w.session(t, ctx, room) == after {
		t.Error("the key was not discarded")
	}
	alice.read(t, ctx, w.say(t, ctx, room, text("with a new key")))
}

// session is the Megolm session with which the ghosts speak.
func (w *world) session(t *testing.T, ctx context.Context, room id.RoomID) id.SessionID {
	t.Helper()
	_, b, err := w.device.Encrypt(ctx, room, "", ghost, event.TypeMessage, text("probe").Encode())
	if err != nil {
		t.Fatal(err)
	}
	var c mevent.EncryptedEventContent
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return c.SessionID
}

func newDevice(t *testing.T, ctx context.Context, w *world, room id.RoomID) {
	before := w.session(t, ctx, room)
	phone := w.newPerson(t, ctx, "alice", false)
	defer phone.leave()
	// The homeserver tells of the device in its own time; until then nobody can know of it.
	for w.session(t, ctx, room) == before {
		select {
		case <-ctx.Done():
			t.Fatal("the new device was not noticed")
		case <-time.After(20 * time.Millisecond):
		}
	}
	if got := phone.read(t, ctx, w.say(t, ctx, room, text("to the phone too"))).Content.AsMessage().Body; got != "to the phone too" {
		t.Errorf("the phone reads %q", got)
	}
	if got := body(t, w.opened(t, ctx, phone.say(t, ctx, room, "from the phone"))); got != "from the phone" {
		t.Errorf("opened %q", got)
	}
}

// A device that the bridge hears of only after a message gets its key: when it is told of the device, and when the device asks.
func lateDevice(t *testing.T, ctx context.Context, w *world, room id.RoomID) {
	for _, told := range []bool{true, false} {
		t.Run(map[bool]string{true: "told", false: "asked"}[told], func(t *testing.T) {
			before := w.session(t, ctx, room)
			w.change(func() { w.deaf = true })
			tablet := w.newPerson(t, ctx, "alice", false)
			defer tablet.leave()
			w.say(t, ctx, room, text("too early"))
			ev := w.say(t, ctx, room, text("too early, too"))
			if w.session(t, ctx, room) != before {
				t.Fatal("the bridge knows of the device")
			}
			if told {
				w.hear(t, ctx)
			} else {
				tablet.ask(t, ctx, room, before)
			}
			if got := tablet.read(t, ctx, ev).Content.AsMessage().Body; got != "too early, too" {
				t.Errorf("the tablet reads %q", got)
			}
			if !told {
				w.hear(t, ctx)
			}
		})
	}
}

// Somebody without any device that encrypts has one later.
func firstDevice(t *testing.T, ctx context.Context, w *world, room id.RoomID) {
	cli, err := w.hs.User(ctx, "erin")
	if err != nil {
		t.Fatal(err)
	}
	w.do(t, ctx, room, "invite erin", event.InviteUser{Target: cli.UserID})
	if _, err := cli.JoinRoomByID(ctx, room); err != nil {
		t.Fatal(err)
	}
	w.sawMember(t, ctx, room, cli.UserID, event.Join)
	said := w.say(t, ctx, room, text("hello erin"))
	session := w.session(t, ctx, room)
	erin := w.newPerson(t, ctx, "erin", false)
	defer erin.leave()
	// What is in the first answer to /sync the client tries once: the key may come a moment later.
	erin.has(t, ctx, room, session)
	ev, err := erin.GetEvent(ctx, room, said)
	if err != nil {
		t.Fatal(err)
	}
	if err := ev.Content.ParseRaw(mevent.EventEncrypted); err != nil {
		t.Fatal(err)
	}
	plain, err := erin.helper.Decrypt(ctx, ev)
	if err != nil {
		t.Fatal(err)
	}
	if got := plain.Content.AsMessage().Body; got != "hello erin" {
		t.Errorf("erin reads %q", got)
	}
}

// hear works off what was set aside of changed devices.
func (w *world) hear(t *testing.T, ctx context.Context) {
	t.Helper()
	w.await(t, ctx, "news of devices", func() bool { return len(w.lists) > 0 })
	var lists []json.RawMessage
	w.change(func() { lists, w.lists, w.deaf = w.lists, nil, false })
	for _, l := range lists {
		if err := w.device.Receive(ctx, crypto.Delivery{DeviceLists: l}); err != nil {
			t.Fatal(err)
		}
	}
}

// Who was not in the room when something was said, or is not any more, is refused the key, as is a device that turns up much later.
func notTheirs(t *testing.T, ctx context.Context, w *world, room id.RoomID, alice *person) {
	dave, mallory := w.newPerson(t, ctx, "dave", false), w.newPerson(t, ctx, "mallory", false)
	defer dave.leave()
	defer mallory.leave()
	before := w.session(t, ctx, room)
	mallory.refused(t, ctx, room, before)
	w.join(t, ctx, room, dave)
	dave.refused(t, ctx, room, before)
	during := w.session(t, ctx, room)
	dave.has(t, ctx, room, during)

	if _, err := dave.LeaveRoom(ctx, room); err != nil {
		t.Fatal(err)
	}
	w.sawMember(t, ctx, room, dave.UserID, event.Leave)
	phone := w.newPerson(t, ctx, "dave", false)
	defer phone.leave()
	phone.refused(t, ctx, room, during)

	after := w.session(t, ctx, room)
	w.change(func() { w.ahead += 11 * time.Minute })
	old := w.newPerson(t, ctx, "alice", false)
	defer old.leave()
	old.refused(t, ctx, room, after)
}

// ask asks the bot for a room key.
func (p *person) ask(t *testing.T, ctx context.Context, room id.RoomID, session id.SessionID) {
	t.Helper()
	err := p.helper.Machine().SendRoomKeyRequest(ctx, room, "", session, "", map[id.UserID][]id.DeviceID{"@mimibot:one.example": {"*"}})
	if err != nil {
		t.Fatal(err)
	}
}

// refused asks the bot for a room key and waits for the refusal.
func (p *person) refused(t *testing.T, ctx context.Context, room id.RoomID, session id.SessionID) {
	t.Helper()
	p.ask(t, ctx, room, session)
	p.until(t, ctx, "a refusal of "+string(session), func() bool {
		w, err := p.helper.Machine().CryptoStore.GetWithheldGroupSession(ctx, room, session)
		return err == nil && w != nil
	})
	if g, err := p.helper.Machine().CryptoStore.GetGroupSession(ctx, room, session); err == nil && g != nil {
		t.Errorf("%s has the key %s that was refused", p.UserID, session)
	}
}

// has waits for a room key.
func (p *person) has(t *testing.T, ctx context.Context, room id.RoomID, session id.SessionID) {
	t.Helper()
	p.until(t, ctx, "the key "+string(session), func() bool {
		g, err := p.helper.Machine().CryptoStore.GetGroupSession(ctx, room, session)
		return err == nil && g != nil
	})
}

// until asks a client again and again.
func (p *person) until(t *testing.T, ctx context.Context, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s waited in vain for %s", p.UserID, what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func encryptedLater(t *testing.T, ctx context.Context, w *world, alice *person) {
	room := w.makeRoom(t, ctx, "shared", false, alice)
	if e := alice.read(t, ctx, w.say(t, ctx, room, text("in clear"))); e.Mautrix.WasEncrypted {
		t.Error("a room that is not encrypted got an encrypted message")
	}
	levels := event.State{Type: event.TypePowerLevels, Content: json.RawMessage(`{"users":{"@mimibot:one.example":100,"` + string(alice.UserID) + `":100}}`)}
	w.do(t, ctx, room, "levels", levels)
	r, err := alice.SendStateEvent(ctx, room, mevent.StateEncryption, "", &mevent.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1})
	if err != nil {
		t.Fatal(err)
	}
	w.arrived(t, ctx, r.EventID)
	if enc, err := w.device.Encrypted(ctx, room, ghost); err != nil || !enc {
		t.Fatalf("the bridge does not know that the room is encrypted: %v", err)
	}
	if e := alice.read(t, ctx, w.say(t, ctx, room, text("now secret"))); !e.Mautrix.WasEncrypted {
		t.Error("a message of a ghost went in clear")
	}
	if got := body(t, w.opened(t, ctx, alice.say(t, ctx, room, "now secret too"))); got != "now secret too" {
		t.Errorf("opened %q", got)
	}
}

// newKey makes the next message of somebody use a new key.
func (p *person) newKey(t *testing.T, ctx context.Context, room id.RoomID) {
	t.Helper()
	if err := p.helper.Machine().CryptoStore.RemoveOutboundGroupSession(ctx, room); err != nil {
		t.Fatal(err)
	}
}

func lateKey(t *testing.T, ctx context.Context, w *world, room id.RoomID, alice *person) {
	w.change(func() { w.hold = true })
	alice.newKey(t, ctx, room)
	ev := w.arrived(t, ctx, alice.say(t, ctx, room, "patience"))
	_, err := w.device.Decrypt(ctx, ev)
	var wait *crypto.WaitingError
	if !errors.As(err, &wait) || !errors.Is(err, crypto.ErrWaiting) || wait.Room != room {
		t.Fatalf("without the key: %v", err)
	}
	w.await(t, ctx, "the key at the door", func() bool { return len(w.held) > 0 })
	w.release(t, ctx)
	w.await(t, ctx, "the call about the key", func() bool { return w.keys[wait.Session] > 0 })
	plain, err := w.device.Decrypt(ctx, ev)
	if err != nil || body(t, plain) != "patience" {
		t.Fatalf("with the key: %v", err)
	}
	// The same delivery once more, as after a lost answer: nothing breaks.
	w.mu.Lock()
	last := w.toDevice[len(w.toDevice)-1]
	w.mu.Unlock()
	if err := w.device.Receive(ctx, crypto.Delivery{ToDevice: []event.ToDevice{last}}); err != nil {
		t.Fatal(err)
	}
	if plain, err = w.device.Decrypt(ctx, ev); err != nil || body(t, plain) != "patience" {
		t.Fatalf("a second time: %v", err)
	}
}

// release works off what was set aside.
func (w *world) release(t *testing.T, ctx context.Context) {
	t.Helper()
	var held []event.ToDevice
	w.change(func() { held, w.held, w.hold = w.held, nil, false })
	if err := w.device.Receive(ctx, crypto.Delivery{ToDevice: held}); err != nil {
		t.Fatal(err)
	}
}

func askedKey(t *testing.T, ctx context.Context, w *world, room id.RoomID, alice *person) {
	w.change(func() { w.hold = true })
	alice.newKey(t, ctx, room)
	ev := w.arrived(t, ctx, alice.say(t, ctx, room, "say again?"))
	w.await(t, ctx, "the key at the door", func() bool { return len(w.held) > 0 })
	w.change(func() { w.held, w.hold = nil, false }) // it is lost
	if _, err := w.device.Decrypt(ctx, ev); !errors.Is(err, crypto.ErrWaiting) {
		t.Fatal(err)
	}
	w.change(func() { w.ahead += time.Minute })
	if plain := w.opened(t, ctx, ev.ID); body(t, plain) != "say again?" {
		t.Errorf("opened %s", plain.Raw)
	}
	w.await(t, ctx, "the question to be counted", func() bool { return w.words["requested"] == 1 })
}

func forged(t *testing.T, ctx context.Context, w *world, room id.RoomID, alice *person) {
	ev := w.arrived(t, ctx, alice.say(t, ctx, room, "original"))
	w.opened(t, ctx, ev.ID)
	change := func(set event.Object, f func(*event.Event)) error {
		o, err := event.ParseObject(ev.Raw)
		if err != nil {
			t.Fatal(err)
		}
		other := ev
		other.Raw = event.Merge(o, set).Encode()
		f(&other)
		_, err = w.device.Decrypt(ctx, other)
		return err
	}
	for name, err := range map[string]error{
		"repeated under another id": change(nil, func(e *event.Event) { e.ID = "$other" }),
		"in another room":           change(nil, func(e *event.Event) { e.Room = "!other:one.example" }),
		"by somebody else":          change(nil, func(e *event.Event) { e.Sender = "@mallory:one.example" }),
		"of another algorithm":      change(event.Object{"content": json.RawMessage(`{"algorithm":"rot13"}`)}, func(*event.Event) {}),
		"without content":           change(event.Object{"content": json.RawMessage(`{}`)}, func(*event.Event) {}),
	} {
		if name == "in another room" && errors.Is(err, crypto.ErrWaiting) {
			continue // no key of that name in that room
		}
		if !errors.Is(err, crypto.ErrUndecryptable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func outside(t *testing.T, ctx context.Context, w *world, alice *person) {
	made, err := alice.CreateRoom(ctx, encryptedRoom(ghost))
	if err != nil {
		t.Fatal(err)
	}
	room := made.RoomID
	w.do(t, ctx, room, "join", event.JoinRoom{Sender: ghost})
	row := client.Row{Request: event.NewRequest(event.Send{Sender: ghost, Type: event.TypeMessage, Content: text("x").Encode()}), Room: room, Txn: "x"}
	if r := w.client.Do(ctx, row); r.Class != client.Refused || !errors.Is(r.Err, crypto.ErrOutside) {
		t.Fatalf("a ghost speaks in an encrypted room without the bot: %v %v", r.Class, r.Err)
	}
	if _, err := alice.InviteUser(ctx, room, reqInvite(w.client.Bot())); err != nil {
		t.Fatal(err)
	}
	w.do(t, ctx, room, "bot", event.JoinRoom{Sender: w.client.Bot()})
	row = client.Row{Request: event.NewRequest(event.Send{Sender: ghost, Type: event.TypeMessage, Content: text("with the bot").Encode()}), Room: room, Txn: "y"}
	r := w.client.Do(ctx, row)
	for r.Class == client.Retry && ctx.Err() == nil { // the homeserver may list the bot late
		r = w.client.Do(ctx, row)
	}
	if r.Class != client.Done {
		t.Fatal(r.Err)
	}
	alice.read(t, ctx, id.EventID(r.EventID()))
}
