package crash

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/peer/ca"
	"github.com/matrix-mimi/bridge/mimiside/wire"
	"github.com/matrix-mimi/bridge/test/fakes/provider"
	"github.com/matrix-mimi/bridge/test/fakes/stage"
	"github.com/matrix-mimi/bridge/test/harness"
)

// evidence are the tables in which a request may leave a trace in a room, with the columns that say something. That a refusal
// is remembered, so that the same request is refused again (table answer, and the version of the room that counts its
// writes), is no change.
var evidence = []string{
	`SELECT 'room', kind, state, uri, matrix_room_id, hub, group_id, grp, epoch, refresh, last_accepted_ms FROM room`,
	`SELECT 'epoch', room, epoch FROM epoch`,
	`SELECT 'piece', room, kind, a, b, c, sealed_data FROM piece`,
	`SELECT 'pending', room, base_epoch, commit_hash FROM pending_commit`,
	`SELECT 'log', room, seq, kind, epoch, hash FROM room_log`,
	`SELECT 'mls', room, epoch, leaf, generation, hash FROM outbound_mls`,
	`SELECT 'input', room, seq, kind, state FROM input`,
	`SELECT 'seen', room, kind, key FROM seen`,
	`SELECT 'outbound', room, dest, seq, verb FROM outbound`,
	`SELECT 'dead', room, dest, seq FROM dead_letter`,
	`SELECT 'link', room, seq, event_id, state FROM link`,
	`SELECT 'member', room, mxid, membership, listed, role, power FROM member`,
	`SELECT 'state', room, key, value FROM room_state`,
	`SELECT 'intent', room, seq, kind, state FROM intent`,
	`SELECT 'keypackage', ref, state FROM keypackage`,
	`SELECT 'user', mxid, uri FROM bridge_user`,
	`SELECT 'ghost', mxid, uri FROM ghost`,
}

func dump(ctx context.Context, b *stage.Bridge) ([]string, error) {
	db, err := b.Database()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var out []string
	for _, query := range evidence {
		lines, err := stage.Lines(ctx, db, query)
		if err != nil {
			return nil, err
		}
		slices.Sort(lines)
		out = append(out, lines...)
	}
	return out, nil
}

// settled waits until two dumps in a row are the same and nothing is left to do.
func settled(t *testing.T, b *stage.Bridge) []string {
	t.Helper()
	if err := quiet(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	var last []string
	var stir atomic.Int64
	if err := poll(t.Context(), "the database to rest", stir.Load, func() (bool, error) {
		now, err := dump(t.Context(), b)
		same := err == nil && slices.Equal(now, last)
		if !same {
			stir.Add(1)
		}
		last = now
		return same, err
	}); err != nil {
		t.Fatal(err)
	}
	return last
}

// courtroom is a bridge with a room that a provider's user bob is in, and one that another bridge leads.
type courtroom struct {
	*stage.Stage
	a        *stage.Bridge
	p, q     *provider.Provider // p has bob in the room, q has nobody
	room     string             // URI
	matrix   string
	alice    string
	foreign  string // URI of the room that the other bridge leads
	strange  *ca.CA
	bobGhost string
}

func newCourtroom(t *testing.T) *courtroom {
	t.Helper()
	bin, err := harness.BuildBridge(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c := &courtroom{}
	peers := map[string]string{}
	// The providers must listen before the bridge's settings name them, and need the stage's authority: it is set up twice.
	ports := map[string]int{}
	for _, d := range []string{"p.example", "q.example"} {
		if ports[d], err = harness.FreePort(); err != nil {
			t.Fatal(err)
		}
		peers[d] = harness.Loopback(ports[d])
	}
	// Without extensions: a bridge that asks another for names at times of its own would change rows that are compared.
	c.Stage, err = stage.New(t.Context(), stage.Options{Dir: t.TempDir(), Bin: bin, Bridges: []string{hub, follower}, Peers: peers,
		MIMI: map[string]any{"extensions": false}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	c.a = c.Bridges[hub]
	hubs := map[string]string{hub: c.a.Link.Addr()}
	for d, into := range map[string]**provider.Provider{"p.example": &c.p, "q.example": &c.q} {
		if *into, err = provider.New(d, peers[d], c.CA, hubs); err != nil {
			t.Fatal(err)
		}
		t.Cleanup((*into).Close)
	}
	if c.strange, err = ca.New("nobody's", ca.P256, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, b := range c.Bridges {
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.openRooms(t)
	return c
}

func (c *courtroom) openRooms(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	hs := c.a.Homeserver
	c.alice, c.bobGhost = hs.Register("alice"), c.a.Ghost("p.example", "bob")
	c.matrix = hs.Create(c.alice, "Court")
	if err := hs.Act(c.matrix, "invite", c.alice, c.bobGhost); err != nil {
		t.Fatal(err)
	}
	if err := c.p.Wait(ctx, "the Welcome", func() bool { c.room = c.p.Room(); return c.room != "" && c.p.Clients(c.room) == 1 }); err != nil {
		t.Fatal(err)
	}
	// And a room that b.example leads, with alice in it.
	other := c.Bridges[follower]
	carol := other.Homeserver.Register("carol")
	room := other.Homeserver.Create(carol, "Theirs")
	if err := other.Homeserver.Act(room, "invite", carol, other.Ghost(hub, "alice")); err != nil {
		t.Fatal(err)
	}
	var portal string
	if err := hs.Wait(ctx, "the invitation of b.example", func() bool { portal = hs.RoomOf(c.alice, "invite"); return portal != "" }); err != nil {
		t.Fatal(err)
	}
	if err := hs.Act(portal, "join", c.alice, c.alice); err != nil {
		t.Fatal(err)
	}
	db, err := c.a.Database()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(ctx, `SELECT uri FROM room WHERE kind = 'follower'`).Scan(&c.foreign); err != nil {
		t.Fatal(err)
	}
	settled(t, c.a)
}

func (c *courtroom) client(t *testing.T, authority *ca.CA, o ca.Options, names ...string) *http.Client {
	t.Helper()
	cert, err := authority.Issue(time.Now(), o, names...)
	if err != nil {
		t.Fatal(err)
	}
	return c.p.ClientWith(&cert)
}

// charge is a request that must be refused.
type charge struct {
	name   string
	call   provider.Call
	by     *provider.Provider // p by default
	status int
	// tls says that the connection may fail instead.
	tls bool
	// verdict judges the body of a 200.
	verdict func(body []byte) error
}

func notAllowedMessage(body []byte) error {
	a, err := wire.UnmarshalSubmitMessageResponse(body)
	if err == nil && a.StatusCode != wire.SubmitNotAllowed {
		err = fmt.Errorf("verdict %v", a.StatusCode)
	}
	return err
}

func updateVerdict(want wire.UpdateResponseCode) func([]byte) error {
	return func(body []byte) error {
		a, err := wire.UnmarshalUpdateRoomResponse(body)
		if err == nil && a.ResponseCode != want {
			err = fmt.Errorf("verdict %v %q", a.ResponseCode, a.ErrorDescription)
		}
		return err
	}
}

// Each refusal has its status and changes nothing.
func TestRefusals(t *testing.T) {
	c := newCourtroom(t)
	bob := c.p.User("bob")
	compose := func() []byte {
		_, body, err := c.p.Compose(c.room, bob, "evidence")
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	commit := func(path bool, proposals ...mls.Proposal) []byte {
		_, body, err := c.p.Commit(c.room, bob, path, proposals...)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	sentBy := func(body []byte, user string) []byte {
		received, err := wire.UnmarshalSubmitMessageRequest(body)
		if err != nil {
			t.Fatal(err)
		}
		q, err := received.Check("p.example")
		if err != nil {
			t.Fatal(err)
		}
		q.SendingURI = wire.IdentifierURI(user)
		return q.Marshal()
	}
	alice, err := c.p.Leaf(c.room, "mimi://a.example/u/alice")
	if err != nil {
		t.Fatal(err)
	}
	// A commit that was right until the room moved on, and a message that was taken already.
	stale := commit(true)
	c.a.Homeserver.Set(c.matrix, c.alice, "m.room.name", map[string]any{"name": "Moved on"})
	epoch := c.p.Epoch(c.room)
	if err := c.p.Wait(t.Context(), "the next epoch", func() bool { return c.p.Epoch(c.room) > epoch }); err != nil {
		t.Fatal(err)
	}
	replayed := compose()
	if err := c.p.Submit(t.Context(), hub, c.room, replayed); err != nil {
		t.Fatal(err)
	}
	notify := wire.MarshalNotify([]wire.FanoutMessage{{Timestamp: uint64(time.Now().UnixMilli()), Message: messageOf(t, compose())}})
	broken := bytes.Clone(commit(true))
	broken[150] ^= 1
	before := settled(t, c.a)
	submit, update := string(wire.VerbSubmitMessage), string(wire.VerbUpdate)
	none := c.p.ClientWith(nil)
	for _, ch := range []charge{
		{name: "no certificate", call: provider.Call{Verb: submit, Body: compose(), Client: none}, status: 403, tls: true},
		{name: "certificate of another authority", call: provider.Call{Verb: submit, Body: compose(), Client: c.client(t, c.strange, ca.Options{}, "p.example")}, status: 403, tls: true},
		{name: "self-made certificate", call: provider.Call{Verb: submit, Body: compose(), Client: c.client(t, c.CA, ca.Options{SelfSigned: true}, "p.example")}, status: 403, tls: true},
		{name: "expired certificate", call: provider.Call{Verb: submit, Body: compose(),
			Client: c.client(t, c.CA, ca.Options{NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)}, "p.example")}, status: 403, tls: true},
		{name: "name in the subject only", call: provider.Call{Verb: submit, Body: compose(), Client: c.client(t, c.CA, ca.Options{CommonName: "p.example"}, "x.example")}, status: 403, tls: true},
		{name: "From of another domain", call: provider.Call{Verb: submit, Body: compose(), From: "q.example"}, status: 403},
		{name: "From of the bridge itself", call: provider.Call{Verb: submit, Body: compose(), From: hub}, status: 403},
		{name: "notify from one who is not the hub", call: provider.Call{Verb: string(wire.VerbNotify), Target: c.foreign, Body: notify}, status: 403},
		{name: "notify to the hub of the room", call: provider.Call{Verb: string(wire.VerbNotify), Body: notify}, status: 403},
		{name: "foreign sendingUri", call: provider.Call{Verb: submit, Body: sentBy(compose(), c.q.User("eve"))}, status: 200, verdict: notAllowedMessage},
		{name: "sendingUri that is no participant", call: provider.Call{Verb: submit, Body: sentBy(compose(), c.p.User("mallory"))}, status: 200, verdict: notAllowedMessage},
		{name: "message of a provider without participants", by: c.q, call: provider.Call{Verb: submit, Body: sentBy(compose(), c.q.User("eve"))}, status: 404},
		{name: "wrong epoch", call: provider.Call{Verb: update, Body: stale}, status: 200, verdict: updateVerdict(wire.UpdateWrongEpoch)},
		{name: "commit that removes somebody without the right", call: provider.Call{Verb: update, Body: commit(true, mls.Proposal{Type: mls.ProposalRemove, Remove: alice})},
			status: 200, verdict: updateVerdict(wire.UpdateNotAllowed)},
		{name: "commit of another provider's client", by: c.q, call: provider.Call{Verb: update, Body: commit(true)}, status: 404},
		{name: "replay", call: provider.Call{Verb: submit, Body: replayed}, status: 200},
		{name: "oversized message", call: provider.Call{Verb: submit, Body: make([]byte, 2<<20)}, status: 413},
		{name: "oversized update", call: provider.Call{Verb: update, Body: make([]byte, 9<<20)}, status: 413},
		{name: "garbage", call: provider.Call{Verb: update, Body: []byte("garbage")}, status: 400},
		{name: "empty body", call: provider.Call{Verb: submit}, status: 400},
		{name: "room that is not there", call: provider.Call{Verb: submit, Target: "mimi://a.example/r/nowhere", Body: compose()}, status: 404},
		{name: "broken commit", call: provider.Call{Verb: update, Body: broken}, status: -1},
	} {
		t.Run(ch.name, func(t *testing.T) { c.try(t, ch, before) })
	}
	t.Run("bad hs_token", func(t *testing.T) { c.badToken(t, before) })
	if n := strings.Count(fmt.Sprint(c.a.Homeserver.Texts(c.matrix)), "evidence"); n != 1 {
		t.Errorf("the message that was sent twice is %d times in the room", n)
	}
	// And the dump does see a change when there is one.
	if err := c.p.Submit(t.Context(), hub, c.room, compose()); err != nil {
		t.Fatal(err)
	}
	if slices.Equal(settled(t, c.a), before) {
		t.Error("an accepted message left no trace in the dump")
	}
}

func (c *courtroom) try(t *testing.T, ch charge, before []string) {
	ch.call.To = hub
	if ch.call.Target == "" {
		ch.call.Target = c.room
	}
	if ch.by == nil {
		ch.by = c.p
	}
	status, body, err := ch.by.Do(t.Context(), ch.call)
	switch {
	case err != nil && ch.tls && strings.Contains(err.Error(), "tls"):
	case err != nil && ch.status == 413: // the connection may be closed before the whole body was sent
	case err != nil:
		t.Error(err)
	case status >= 500 || ch.status > 0 && status != ch.status:
		t.Errorf("status %d %q, want %d", status, body, ch.status)
	case ch.verdict != nil && ch.verdict(body) != nil:
		t.Error(ch.verdict(body))
	}
	c.unchanged(t, before)
}

func (c *courtroom) unchanged(t *testing.T, before []string) {
	t.Helper()
	after := settled(t, c.a)
	for _, l := range after {
		if !slices.Contains(before, l) {
			t.Errorf("new in the database: %.300s", l)
		}
	}
	for _, l := range before {
		if !slices.Contains(after, l) {
			t.Errorf("gone from the database: %.300s", l)
		}
	}
}

func (c *courtroom) badToken(t *testing.T, before []string) {
	body := fmt.Sprintf(`{"events":[{"event_id":"$x","room_id":%q,"sender":%q,"type":"m.room.message","content":{"msgtype":"m.text","body":"forged"},"origin_server_ts":1}]}`, c.matrix, c.alice)
	for token, want := range map[string]int{"": 401, "Bearer wrong": 403, "Bearer " + c.a.Token: 403} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, c.a.AppserviceURL()+"/_matrix/app/v1/transactions/forged", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("status %d, want %d", resp.StatusCode, want)
		}
	}
	c.unchanged(t, before)
}

func messageOf(t *testing.T, body []byte) wire.Message {
	t.Helper()
	received, err := wire.UnmarshalSubmitMessageRequest(body)
	if err != nil {
		t.Fatal(err)
	}
	q, err := received.Check("p.example")
	if err != nil {
		t.Fatal(err)
	}
	return q.Message
}
