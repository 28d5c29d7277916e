package relay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// world is several bridges with a homeserver each, in one process: they speak over function calls, and time stands still
// until it is moved.
type world struct {
	t     testing.TB
	now   time.Time
	nodes map[string]*node
	order []string
	// driver is the database of all bridges: sqlite or postgres.
	driver string
	// fault decides about each request between providers; nil lets all through.
	fault func(from, to, verb string, body []byte) fault
	// shuffle lets fan-outs arrive in any order.
	shuffle *rand.Rand
	flying  []flight
	// restart drops everything in memory between any two steps.
	restart bool
	// offers are the bridges that publish the extensions.
	offers map[string]bool
	// calls counts the requests that came to a provider, by verb.
	calls map[string]int
	// patience is how long settle lets time pass for what was not delivered.
	patience time.Duration
}

// flight is a fan-out that is under way: with shuffle it arrives in any order.
type flight struct {
	from, to, target string
	body             []byte
	overtaken        int
}

// maxOvertaken is how often a fan-out is overtaken at most: what is remembered of past epochs bounds what can be read.
const maxOvertaken = 2

// land brings one of the fan-outs that are under way.
func (w *world) land() int {
	if len(w.flying) == 0 {
		return 0
	}
	i := w.shuffle.IntN(len(w.flying))
	for j := range i + 1 {
		if w.flying[j].overtaken == maxOvertaken || j == i {
			i = j
			break
		}
	}
	for j := range i {
		w.flying[j].overtaken++
	}
	f := w.flying[i]
	w.flying = slices.Delete(w.flying, i, i+1)
	if r, err := w.nodes[f.to].serve(f.from, verbNotify, f.target, f.body); err != nil || r.Status >= 300 {
		w.flying = append(w.flying, f)
	}
	return 1
}

type fault int

const (
	deliver fault = iota
	dropRequest
	dropAnswer
	twice
)

// node is one bridge.
type node struct {
	w      *world
	domain string
	cfg    store.Config
	db     *store.DB
	relay  *Relay
	hs     *fakeHS
	alerts []string
	log    zerolog.Logger
	conf   Config
	cmds   []Command
	files  *fileWorld
	plain  map[string]bool // who turned out to share no extensions
	crypt  *fakeCrypt      // nil: the bridge takes no part in encrypted rooms
	// silent are the providers that do not say who their authorities are, asked counts how often others did.
	silent map[string]bool
	asked  int
	demand bool // basic credentials of others are refused
}

func newWorld(t testing.TB, driver string, domains ...string) *world {
	t.Helper()
	w := &world{t: t, driver: driver, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), nodes: map[string]*node{}, offers: map[string]bool{}, calls: map[string]int{}}
	for _, d := range domains {
		w.add(d, Config{})
	}
	return w
}

func (w *world) add(domain string, conf Config) *node {
	if conf.Combine == 0 {
		conf.Combine = -1
	}
	n := &node{w: w, domain: domain, conf: conf, plain: map[string]bool{}}
	if w.driver == "postgres" {
		n.cfg = storetest.Config(w.t, w.driver)
	} else {
		n.cfg = sqliteConfig(w.t)
	}
	n.cfg.Clock = func() time.Time { return w.now }
	n.log = zerolog.Nop()
	if os.Getenv("RELAY_LOG") != "" {
		n.log = zerolog.New(zerolog.NewTestWriter(w.t)).With().Str("node", domain).Logger()
	}
	n.db = storetest.Open(w.t, n.cfg)
	n.hs = newHS("hs."+domain, func() time.Time { return w.now }, func(mxid string) bool { return n.relay.ours(mxid) })
	w.nodes[domain] = n
	w.order = append(w.order, domain)
	n.start()
	return n
}

// sqliteConfig is storetest.Config for SQLite in a directory of our own: that of a fuzz test has characters in its name that
// a database's must not have.
func sqliteConfig(t testing.TB) store.Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "relay")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cfg := store.Config{Driver: "sqlite", DSN: filepath.Join(dir, "bridge.db"), AllowUnsafe: true, Sealer: storetest.Keys(t)}
	if _, err := store.Migrate(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// start makes the bridge anew on its database.
func (n *node) start() {
	n.w.t.Helper()
	n.conf.Bot = n.hs.mxid("mimibot")
	n.startMedia()
	var decrypter Decrypter
	if n.crypt != nil {
		decrypter = n.crypt
	}
	r, err := New(context.Background(), Deps{
		Decrypter: decrypter,
		Store:     n.db, Naming: mapping.Naming{Domain: n.domain, Server: n.hs.server}, Config: n.conf,
		MayShare:  func(domain, _ string) bool { return n.w.offers[n.domain] && !n.plain[domain] },
		Requester: n, Homeserver: n.hs, Commander: n, Files: n.files.mover.Assets, PublicURL: n.files.public,
		PeerAuthorities: n.authoritiesOf, DemandCertificates: func(domain string) bool { return n.demand && domain != n.domain },
		NameOf: n.hs.nameOf, ShowTyping: n.hs.showTyping, ShowPresence: n.hs.showPresence,
		Alert: func(kind, message string) { n.alerts = append(n.alerts, kind+": "+message) },
		Clock: func() time.Time { return n.w.now }, Log: n.log,
	})
	if err != nil {
		n.w.t.Fatal(err)
	}
	n.relay = r
}

// authoritiesOf reads another provider's directory.
func (n *node) authoritiesOf(_ context.Context, domain string) ([][]byte, error) {
	n.asked++
	if n.silent[domain] || n.w.nodes[domain] == nil {
		return nil, errNetwork
	}
	return n.w.nodes[domain].relay.Authorities(), nil
}

func (n *node) Command(_ context.Context, c Command) error {
	n.cmds = append(n.cmds, c)
	return nil
}

// Request is what the hub asks another provider while somebody waits.
func (n *node) Request(_ context.Context, domain, verb, target string, body []byte) ([]byte, error) {
	r, err := n.w.request(n.domain, domain, verb, target, body)
	if err != nil {
		return nil, err
	}
	if r.Status >= 400 {
		return nil, fmt.Errorf("status %d", r.Status)
	}
	return r.Body, nil
}

var errNetwork = errors.New("network failure")

// request brings a request to a provider.
func (w *world) request(from, to, verb, target string, body []byte) (Reply, error) {
	n := w.nodes[to]
	if n == nil {
		return Reply{}, errNetwork
	}
	if wire.Verb(verb).Extension() && !(w.offers[from] && w.offers[to]) {
		w.nodes[from].plain[to] = true
		return Reply{Status: 404}, nil
	}
	if w.calls != nil { // not with several at once
		w.calls[verb]++
	}
	if verb == verbNotify && w.shuffle != nil {
		w.flying = append(w.flying, flight{from: from, to: to, target: target, body: body})
		return Reply{Status: 201}, nil
	}
	f := deliver
	if w.fault != nil {
		f = w.fault(from, to, verb, body)
	}
	if f == dropRequest {
		return Reply{}, errNetwork
	}
	if w.restart {
		n.relay.Forget()
	}
	r, err := n.serve(from, verb, target, body)
	if f == twice {
		r, err = n.serve(from, verb, target, body)
	}
	if f == dropAnswer {
		return Reply{}, errNetwork
	}
	return r, err
}

// serve answers as mimiside/server does.
func (n *node) serve(peer, verb, target string, body []byte) (Reply, error) {
	ctx, path := context.Background(), wire.IdentifierURI(target)
	var r Reply
	var err error
	switch verb {
	case verbKeyMaterial:
		r, err = n.relay.KeyMaterial(ctx, peer, body)
	case verbUpdate:
		r, err = n.relay.Update(ctx, peer, path, body)
	case verbSubmitMessage:
		r, err = n.relay.SubmitMessage(ctx, peer, path, body)
	case verbNotify:
		r, err = n.relay.Notify(ctx, peer, path, body)
	case verbGroupInfo:
		r, err = n.relay.GroupInfo(ctx, peer, path, body)
	case verbRequestConsent, verbUpdateConsent, verbIdentifierQuery:
		r, err = n.serveOther(ctx, peer, verb, body)
	case verbReportAbuse:
		r, err = n.serveReport(ctx, peer, path, body)
	default:
		if !wire.Verb(verb).Extension() {
			n.w.t.Fatalf("unknown verb %s", verb)
		}
		r, err = n.relay.Extension(ctx, peer, verb, path, body)
	}
	switch {
	case errors.Is(err, ErrForbidden), errors.Is(err, wire.ErrForbidden):
		return Reply{Status: 403}, nil
	case errors.Is(err, ErrNotFound):
		return Reply{Status: 404}, nil
	case errors.Is(err, wire.ErrMalformed), errors.Is(err, wire.ErrSignature):
		return Reply{Status: 400}, nil
	case errors.Is(err, ErrBusy):
		return Reply{Status: 429}, nil
	case err != nil:
		n.w.t.Logf("%s: %s from %s failed: %v", n.domain, verb, peer, err)
		return Reply{Status: 503}, nil
	}
	if r.Status == 0 {
		r.Status = 200
	}
	return r, nil
}

// settle lets everything happen that can happen now.
func (w *world) settle() {
	w.t.Helper()
	var waited time.Duration
	for round := 0; ; round++ {
		if round > 2000 {
			w.t.Fatal("the world does not come to rest")
		}
		done := 0
		for _, d := range w.order {
			done += w.nodes[d].turn()
		}
		if w.shuffle == nil || w.shuffle.IntN(3) == 0 || done == 0 {
			done += w.land()
		}
		if done > 0 {
			continue
		}
		if !w.undelivered() || waited >= w.patience {
			return
		}
		w.now = w.now.Add(time.Second)
		waited += time.Second
	}
}

// undelivered tells whether a lane waits to try again.
func (w *world) undelivered() bool {
	if w.patience == 0 {
		return false
	}
	for _, d := range w.order {
		if len(w.nodes[d].waiting()) > 0 {
			return true
		}
	}
	return false
}

// waited tells whether somebody waits for the answer to a request: there is no second try then.
func (w *world) waited(verb string) bool { return verb == verbKeyMaterial }

// pass moves time and lets everything happen on the way, in small steps.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	w.settle()
	for d > 0 {
		s := min(d, max(time.Second, d/20))
		w.now = w.now.Add(s)
		d -= s
		w.settle()
	}
}

// turn does one round of everything in a bridge and says how much there was.
func (n *node) turn() int {
	ctx := context.Background()
	total := 0
	if d, ok := n.hs.delivery(); ok {
		if _, err := n.relay.Accept(ctx, d); err != nil {
			n.w.t.Fatal(err)
		}
		total++
	}
	rooms, err := n.db.Rooms(ctx, store.RoomID{}, 1000)
	if err != nil {
		n.w.t.Fatal(err)
	}
	for _, r := range rooms {
		total += n.drain(r.ID)
	}
	n.relay.FlushCurrent(ctx)
	return total + n.pump()
}

func (n *node) drain(id store.RoomID) int {
	ctx := context.Background()
	if !n.w.restart {
		c, err := n.relay.Drain(ctx, id)
		if err != nil {
			n.w.t.Logf("%s: %v", n.domain, err)
			n.w.now = n.w.now.Add(10 * time.Millisecond)
			return c + 1
		}
		return c
	}
	// One input at a time, with nothing remembered in between.
	n.relay.Forget()
	box, err := n.db.Inbox(ctx, id, n.w.now.UnixMilli(), 1)
	if err != nil {
		n.w.t.Fatal(err)
	}
	if len(box.Inputs) == 0 {
		return 0
	}
	if _, err := n.relay.work(ctx, id, &box.Inputs[0], store.Settle{}); err != nil {
		n.w.t.Logf("%s: %v", n.domain, err)
		if err := n.relay.failed(ctx, id, &box.Inputs[0], err); err != nil {
			n.w.now = n.w.now.Add(10 * time.Millisecond)
		}
	}
	return 1
}

// Assertions.

func (w *world) equal(what string, got, want any) {
	w.t.Helper()
	if g, h := fmt.Sprintf("%q", got), fmt.Sprintf("%q", want); g != h {
		w.t.Errorf("%s:\n got %s\nwant %s", what, g, h)
	}
}

// room returns the stored head of the room of a Matrix room.
func (n *node) room(r *hsRoom) store.Room {
	n.w.t.Helper()
	head, err := n.db.RoomByName(context.Background(), store.NameMatrix, r.id)
	if err != nil {
		n.w.t.Fatalf("%s: %v", n.domain, err)
	}
	return head
}

// view loads a room as a step would.
func (n *node) view(r *hsRoom) *roomView {
	n.w.t.Helper()
	n.relay.Forget()
	v, err := n.relay.load(context.Background(), &slot{}, n.room(r).ID)
	if err != nil {
		n.w.t.Fatal(err)
	}
	return v
}

func (n *node) ghost(uri string) string {
	n.w.t.Helper()
	mxid, _, err := n.relay.Naming.GhostMXID(wire.IdentifierURI(uri))
	if err != nil {
		n.w.t.Fatal(err)
	}
	return mxid
}

// noTrouble demands that nothing was set aside and nobody alarmed.
func (w *world) noTrouble() {
	w.t.Helper()
	for _, d := range w.order {
		n := w.nodes[d]
		broken, err := n.db.BrokenInputs(context.Background(), 10)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, b := range broken {
			w.t.Errorf("%s: broken input %s %s: %s", d, b.Kind, b.Source, b.Reason)
		}
		for _, a := range n.alerts {
			w.t.Errorf("%s: alert %s", d, a)
		}
	}
}
