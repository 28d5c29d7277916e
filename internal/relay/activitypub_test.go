package relay

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// apNode is a bridge with its ActivityPub face on a server of its own.
type apNode struct {
	*node
	face   *ActivityPub
	sender *ap.Sender
	blocks map[string]bool // hosts
	away   bool            // nothing is sent to ActivityPub servers
	sent   []string        // what was: types, with the object where that is an id
}

func newAPNode(t *testing.T, w *world, places map[string]string, domain string) *apNode {
	t.Helper()
	return newAPNodeOf(t, w, places, domain, func(*node) {})
}

// newAPNodeOf is newAPNode for a bridge that is set up by somebody.
func newAPNodeOf(t *testing.T, w *world, places map[string]string, domain string, setUp func(*node)) *apNode {
	t.Helper()
	n := &apNode{node: w.add(domain, Config{}), blocks: map[string]bool{}}
	setUp(n.node)
	blocked := func(host string) bool { return n.blocks[host] }
	var face http.Handler
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { face.ServeHTTP(rw, r) }))
	t.Cleanup(srv.Close)
	// Every domain is the server of its bridge.
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(address)
		return (&net.Dialer{}).DialContext(ctx, network, places[host])
	}}
	places[domain] = srv.Listener.Addr().String()
	t.Cleanup(transport.CloseIdleConnections)
	clock := func() time.Time { return w.now }
	site := ap.Site{Base: "http://" + domain}
	n.face = NewActivityPub(n.relay, site, nil)
	n.face.Blocked = blocked
	key, err := n.face.Key(context.Background(), site.Instance())
	if err != nil {
		t.Fatal(err)
	}
	f := ap.NewFetcher(ap.FetcherConfig{Transport: transport, AllowHTTP: true, Key: key, Now: clock, Blocked: blocked, Memory: ap.NewSchemeMemory("")})
	n.face.People, n.sender = ap.NewPeople(f), ap.NewSender(f)
	s, err := ap.NewServer(ap.ServerConfig{Site: site, Backend: n.face, Gate: ap.NewGate(ap.GateConfig{People: n.face.People, Blocked: blocked, Now: clock}), Now: clock,
		Observe: func(e ap.Event) { t.Logf("%s refused %s: %d %v", domain, e.Path, e.Status, e.Err) }})
	if err != nil {
		t.Fatal(err)
	}
	face = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/.well-known/webfinger" {
			s.WebFinger(rw, r)
			return
		}
		s.ServeHTTP(rw, r)
	})
	return n
}

// turn does everything that is to be done now, and says how much there was.
func (n *apNode) turn(t *testing.T) int {
	t.Helper()
	ctx, total := context.Background(), 0
	if d, ok := n.hs.delivery(); ok {
		if _, err := n.relay.Accept(ctx, d); err != nil {
			t.Fatal(err)
		}
		total++
	}
	rooms, err := n.db.Rooms(ctx, store.RoomID{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rooms {
		total += n.drain(r.ID)
	}
	lanes, err := n.db.DueLanes(ctx, "test", 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lanes {
		if strings.HasPrefix(l.Dest, destAP) {
			if n.away {
				continue
			}
			total += n.deliver(t, l)
			continue
		}
		total += n.pumpLane(l)
	}
	return total
}

// deliver sends what a lane to an ActivityPub server holds.
func (n *apNode) deliver(t *testing.T, lane store.Lane) int {
	ctx := context.Background()
	head, err := n.db.LaneRows(ctx, lane, 100, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range head.Rows {
		if o, err := ap.ParseObject(row.Data); err == nil {
			n.sent = append(n.sent, strings.TrimSpace(o.Str("type")+" "+o.Str("object")))
		}
		d, err := n.face.Deliver(ctx, n.sender, row.Target, row.Data)
		if err == nil && (d.Status == http.StatusServiceUnavailable || d.Status == http.StatusUnauthorized) {
			return i // it is tried again when something else has happened
		}
		unsent := errors.Is(err, ap.ErrBlocked)
		if !unsent && (err != nil || !d.Done() && !d.Refused()) {
			t.Fatalf("%s: %+v %v", row.Target, d, err)
		}
		out := store.Outcome{Class: "done", Status: d.Status}
		if unsent || d.Refused() {
			out.Class = "refused"
		}
		if err := n.db.Tx(ctx, func(tx *store.Tx) error {
			lease, err := tx.ClaimLane(ctx, lane, "test", 10_000, true)
			if err != nil {
				return err
			}
			_, _, _, err = tx.CloseOutbound(ctx, lease, []store.Closing{{Row: row, Outcome: out}}, n.w.now.UnixMilli(), 10_000, false)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	return len(head.Rows)
}

func settleAP(t *testing.T, nodes ...*apNode) {
	t.Helper()
	for round := 0; round < 200; round++ {
		done := 0
		for _, n := range nodes {
			done += n.turn(t)
		}
		if done == 0 {
			return
		}
	}
	t.Fatal("they do not come to rest")
}

// TestAConversationOfTwoBridgesOverActivityPub: a Matrix user writes to @user@host, both talk, react, edit, take back, and one leaves; each
// in a Matrix room of their own homeserver. S000-042, S000-053, S001-001, S001-023.
func TestAConversationOfTwoBridgesOverActivityPub(t *testing.T) {
	w := newWorld(t, "sqlite")
	places := map[string]string{}
	a, b := newAPNode(t, w, places, "a.example"), newAPNode(t, w, places, "b.example")
	alice, bob := a.hs.mxid("alice"), b.hs.mxid("bob")
	a.hs.users = map[string]bool{alice: true}
	b.hs.users = map[string]bool{bob: true}
	if err := a.face.StartChat(context.Background(), alice, "@bob@b.example"); err != nil {
		t.Fatal(err)
	}
	settleAP(t, a, b)
	at, bt := a.hs.roomOf(alice, "invite"), b.hs.roomOf(bob, "invite")
	if at == nil || bt == nil {
		t.Fatal("nobody was invited")
	}
	a.hs.join(at, alice)
	b.hs.join(bt, bob)
	settleAP(t, a, b)
	a.hs.say(at, alice, "hello")
	settleAP(t, a, b)
	b.hs.say(bt, bob, "hi there")
	settleAP(t, a, b)
	for _, r := range []struct {
		hs   *fakeHS
		room *hsRoom
	}{{a.hs, at}, {b.hs, bt}} {
		texts := strings.Join(r.hs.texts(r.room), "\n")
		if !strings.Contains(texts, "hello") || !strings.Contains(texts, "hi there") {
			t.Fatalf("%q", texts)
		}
	}
	if got := len(b.hs.texts(bt)); got != 2 {
		t.Fatalf("%d messages: %q", got, b.hs.texts(bt))
	}
	// Restarted in between.
	a.relay.Forget()
	b.relay.Forget()
	a.hs.say(at, alice, "still here")
	settleAP(t, a, b)
	if texts := b.hs.texts(bt); !slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, "still here") }) {
		t.Fatalf("%q", texts)
	}
	b.hs.leave(bt, bob)
	settleAP(t, a, b)
}

// TestWhoMayAskActivityPub: users of ours that exist are found by all their names, nobody else is; a KeyPackage is one requester's.
func TestWhoMayAskActivityPub(t *testing.T) {
	w := newWorld(t, "sqlite")
	a := newAPNode(t, w, map[string]string{}, "a.example")
	alice := a.hs.mxid("alice")
	a.hs.users = map[string]bool{alice: true}
	ctx := context.Background()
	actor := a.face.Site.User("alice")
	for _, resource := range []string{"acct:alice@a.example", actor, "mimi://a.example/u/alice", "matrix:u/alice:" + a.hs.server} {
		f, err := a.face.Find(ctx, resource)
		if err != nil || f.Actor != actor || f.Subject != "acct:alice@a.example" {
			t.Errorf("%s: %+v %v", resource, f, err)
		}
	}
	for _, resource := range []string{"acct:nobody@a.example", "acct:alice@c.example", "acct:mimibot@a.example", "https://a.example/x", "", a.face.Site.User("nobody")} {
		if _, err := a.face.Find(ctx, resource); !errors.Is(err, ap.ErrNotFound) {
			t.Errorf("%s: %v", resource, err)
		}
	}
	one, err := a.face.Claim(ctx, "alice", "https://x.example/u/1")
	if err != nil {
		t.Fatal(err)
	}
	again, _ := a.face.Claim(ctx, "alice", "https://x.example/u/1")
	other, _ := a.face.Claim(ctx, "alice", "https://x.example/u/2")
	if one.Token != again.Token || one.Token == other.Token {
		t.Error("a KeyPackage is not one requester's")
	}
	if _, err := a.face.Offered(ctx, "alice", one.Token, "https://x.example/u/2"); !errors.Is(err, ap.ErrNotFound) {
		t.Error(err)
	}
}
