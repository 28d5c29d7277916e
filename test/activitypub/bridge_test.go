// Package activitypub plays the ActivityPub face against other implementations: Fedify, a client with ts-mls that behaves as Emissary's,
// and itself. TestProgram plays cmd/bridge as it is shipped, all others the face alone with its backend in memory.
package activitypub

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// bridge is the ActivityPub face with everything behind it in memory.
type bridge struct {
	t      *testing.T
	site   ap.Site
	people *ap.People
	sender *ap.Sender

	mu       sync.Mutex
	keys     map[string]*rsa.PrivateKey // by actor
	mlsKeys  map[string]*mls.SignatureKey
	packages map[string]mls.JoinKey // by token
	given    map[string]string      // name and requester: token
	seen     map[string]bool
	threads  map[string]*ap.Thread // by group id
	channels map[string]*ap.Channel
	got      []ap.Delivered
	said     chan *ap.Said
	effects  chan *ap.Effect
	serial   int
	// passing are activities that a channel passes on.
	passing sync.WaitGroup
}

var _ ap.Backend = (*bridge)(nil)

func newBridge(t *testing.T, users ...string) *bridge {
	t.Helper()
	b := &bridge{t: t, keys: map[string]*rsa.PrivateKey{}, mlsKeys: map[string]*mls.SignatureKey{}, packages: map[string]mls.JoinKey{}, given: map[string]string{},
		seen: map[string]bool{}, threads: map[string]*ap.Thread{}, channels: map[string]*ap.Channel{}, said: make(chan *ap.Said, 100), effects: make(chan *ap.Effect, 100)}
	var face http.Handler
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { face.ServeHTTP(w, r) }))
	t.Cleanup(srv.Close)
	b.site = ap.Site{Base: srv.URL}
	for _, id := range append([]string{b.site.Instance()}, each(users, b.site.User)...) {
		b.addActor(id)
	}
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	f := ap.NewFetcher(ap.FetcherConfig{Transport: transport, AllowHTTP: true, UserAgent: "mimi-bridge test", Memory: ap.NewSchemeMemory(""),
		Key: ap.SigningKey{ID: ap.KeyID(b.site.Instance()), Private: b.keys[b.site.Instance()]}})
	b.people, b.sender = ap.NewPeople(f), ap.NewSender(f)
	s, err := ap.NewServer(ap.ServerConfig{Site: b.site, Backend: b, Gate: ap.NewGate(ap.GateConfig{People: b.people}), Version: "test",
		Observe: func(e ap.Event) { t.Logf("refused %s of %q: %d %v", e.Path, e.Signer, e.Status, e.Err) }})
	if err != nil {
		t.Fatal(err)
	}
	face = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/.well-known/webfinger" {
			s.WebFinger(w, r)
			return
		}
		s.ServeHTTP(w, r)
	})
	return b
}

func each(list []string, f func(string) string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = f(s)
	}
	return out
}

func (b *bridge) addActor(id string) {
	key, err := ap.NewKey()
	if err != nil {
		b.t.Fatal(err)
	}
	b.keys[id] = key
	if b.mlsKeys[id], err = mls.GenerateSignatureKey(rand.Reader, mls.SuiteX25519AES128Ed25519); err != nil {
		b.t.Fatal(err)
	}
}

var config = mls.Config{Validator: ap.Validator{}}

func (b *bridge) pem(id string) string {
	s, err := ap.PublicPEM(&b.keys[id].PublicKey)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bridge) Find(_ context.Context, resource string) (ap.Found, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range b.keys {
		kind, name := b.site.Parse(id)
		if kind == ap.KindUser && (resource == id || resource == "acct:"+name+"@"+b.site.Host()) {
			return ap.Found{Subject: "acct:" + name + "@" + b.site.Host(), Actor: id}, nil
		}
	}
	return ap.Found{}, ap.ErrNotFound
}

func (b *bridge) User(_ context.Context, name string) (ap.Profile, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := b.site.User(name)
	if b.keys[id] == nil {
		return ap.Profile{}, ap.ErrNotFound
	}
	return ap.Profile{Name: name, Username: name, MXID: "@" + name + ":hs.example", PublicPEM: b.pem(id)}, nil
}

func (b *bridge) Room(_ context.Context, token string) (ap.RoomProfile, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := b.site.Room(token)
	if b.keys[id] == nil {
		return ap.RoomProfile{}, ap.ErrNotFound
	}
	return ap.RoomProfile{Token: token, Name: "Room", Alias: token, PublicPEM: b.pem(id)}, nil
}

func (b *bridge) Instance(context.Context) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pem(b.site.Instance()), nil
}

func (b *bridge) Users(context.Context) (int, error) { return 1, nil }

// newPackage makes a KeyPackage of an actor of ours.
func (b *bridge) newPackage(actor string) (string, mls.JoinKey) {
	now := time.Now()
	kp, private, err := mls.NewKeyPackage(rand.Reader, mls.KeyPackageParams{Suite: mls.SuiteX25519AES128Ed25519, Credential: mls.BasicCredential([]byte(actor)),
		SignatureKey: b.mlsKeys[actor], Capabilities: ap.Capabilities(),
		Lifetime: mls.Lifetime{NotBefore: uint64(now.Add(-time.Hour).Unix()), NotAfter: uint64(now.Add(80 * 24 * time.Hour).Unix())}})
	if err != nil {
		panic(err)
	}
	token, key := hex.EncodeToString(kp.Ref()), mls.JoinKey{KeyPackage: kp, Private: private}
	b.packages[token] = key
	return token, key
}

func (b *bridge) Claim(_ context.Context, name, requester string) (ap.Offer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	token := b.given[name+" "+requester]
	if _, ok := b.packages[token]; !ok {
		token, _ = b.newPackage(b.site.User(name))
		b.given[name+" "+requester] = token
	}
	return ap.Offer{Token: token, Public: b.packages[token].KeyPackage.Marshal(), Suite: uint16(mls.SuiteX25519AES128Ed25519)}, nil
}

func (b *bridge) Offered(ctx context.Context, name, token, requester string) (ap.Offer, error) {
	if b.given[name+" "+requester] != token {
		return ap.Offer{}, ap.ErrNotFound
	}
	return b.Claim(ctx, name, requester)
}

func (b *bridge) Members(_ context.Context, token string) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.channels[b.site.Room(token)]; c != nil {
		return c.Actors(), nil
	}
	return nil, ap.ErrNotFound
}

func (b *bridge) GroupInfo(context.Context, string) ([]byte, error) { return nil, ap.ErrNotFound }

func (b *bridge) List(context.Context, ap.Box, string, string, string, int) (ap.Listing, error) {
	return ap.Listing{}, nil
}

func (b *bridge) Object(context.Context, string, string) (ap.Object, error) {
	return nil, ap.ErrNotFound
}

func (b *bridge) Leaving(context.Context, []byte) (bool, error) { return false, nil }

func (b *bridge) HostsGroup(_ context.Context, actor string) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.threads {
		if slices.Contains(t.Actors(), actor) {
			return true, nil
		}
	}
	return false, nil
}

// Receive acts at once on what comes; the bridge stores it first.
func (b *bridge) Receive(_ context.Context, d ap.Delivered) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[d.Activity.ID] {
		return false, nil
	}
	b.seen[d.Activity.ID] = true
	b.got = append(b.got, d)
	if c := b.channels[d.Inbox]; c != nil {
		err := b.atChannel(c, d)
		b.seen[d.Activity.ID] = err == nil // what was refused was not taken
		return true, err
	}
	parts := [][]byte{d.Activity.Commit, d.Activity.Welcome}
	if d.Forwarded != nil {
		parts = [][]byte{d.Forwarded.Commit, d.Forwarded.Welcome}
	}
	if d.MLS != nil {
		parts = append(parts, d.MLS.Bytes)
	}
	for _, p := range parts {
		if p != nil {
			if err := b.take(p); err != nil {
				b.t.Logf("%s: %v", b.site.Base, err)
			}
		}
	}
	return true, nil
}

// take gives MLS bytes to the group that they are of.
func (b *bridge) take(octets []byte) error {
	if hash := string(octets); b.seen[hash] {
		return nil
	} else {
		b.seen[hash] = true
	}
	m, _, err := ap.ParseMLS(octets)
	if err != nil {
		return err
	}
	if m != nil && m.Welcome != nil {
		return b.welcome(m.Welcome)
	}
	group := ""
	switch {
	case m == nil:
		return nil
	case m.Private != nil:
		group = string(m.Private.GroupID)
	case m.Public != nil:
		group = string(m.Public.Content.GroupID)
	}
	t := b.threads[group]
	if t == nil {
		return fmt.Errorf("no group %q", group)
	}
	e, err := t.Receive(time.Now(), octets)
	if err != nil {
		return err
	}
	if e.Said != nil {
		b.said <- e.Said
	} else {
		b.effects <- e
	}
	return nil
}

func (b *bridge) welcome(w *mls.Welcome) error {
	var keys []mls.JoinKey
	for _, s := range w.Secrets {
		if k, ok := b.packages[hex.EncodeToString(s.NewMember)]; ok {
			keys = append(keys, k)
			delete(b.packages, hex.EncodeToString(s.NewMember))
		}
	}
	if len(keys) == 0 {
		return nil
	}
	t, e, err := ap.JoinThread(time.Now(), config, w, keys)
	if err != nil {
		return err
	}
	b.threads[string(t.Group.GroupID())] = t
	b.effects <- e
	return nil
}

func (b *bridge) atChannel(c *ap.Channel, d ap.Delivered) error {
	e, err := c.Accept(time.Now(), d.Activity, d.MLS)
	if err != nil {
		return err
	}
	if e.Said != nil {
		b.said <- e.Said
	} else {
		b.effects <- e
	}
	octets := e.Commit
	if d.MLS != nil {
		octets = d.MLS.Bytes
	}
	b.serial++
	posts := b.site.FanOut(ap.Envelope{ID: fmt.Sprint("fan-", b.serial), Actor: c.ID}, d.Activity.Actor, d.Activity.Raw, octets, b.recipients(c.Actors(), c.ID, d.Activity.Actor))
	b.passing.Go(func() {
		for _, p := range posts {
			b.post(c.ID, p)
		}
	})
	return nil
}

func (b *bridge) id() string {
	b.serial++
	return fmt.Sprint("a", b.serial)
}

// recipients are the actors that are not ours, without some.
func (b *bridge) recipients(actors []string, without ...string) []ap.Recipient {
	var out []ap.Recipient
	for _, id := range actors {
		if b.site.Own(id) || slices.Contains(without, id) {
			continue
		}
		a, err := b.people.Actor(context.Background(), id, false)
		if err != nil {
			b.t.Error(err)
			continue
		}
		out = append(out, ap.Recipient{Actor: id, Inbox: a.Inbox, SharedInbox: a.SharedInbox, Dialect: ap.ChannelDialectOf(a, false)})
	}
	return out
}

// post delivers one post and returns the status.
func (b *bridge) post(actor string, p ap.Post) int {
	d, err := b.sender.Deliver(context.Background(), ap.SigningKey{ID: ap.KeyID(actor), Private: b.keys[actor]}, p.Inbox, p.Body.Marshal())
	if err != nil {
		b.t.Errorf("%s: %v", p.Inbox, err)
	}
	return d.Status
}

// send posts MLS bytes to all others of a thread one by one.
func (b *bridge) send(t *ap.Thread, actor string, octets []byte, to ...string) {
	b.t.Helper()
	b.mu.Lock()
	if to == nil {
		to = t.Actors()
	}
	posts := b.site.SendMLS(ap.Envelope{ID: b.id(), Actor: actor}, octets, b.recipients(to))
	b.mu.Unlock()
	for _, p := range posts {
		if code := b.post(actor, p); code/100 != 2 {
			b.t.Fatalf("%s: %d", p.Inbox, code)
		}
	}
}

// say encrypts and sends content of an actor.
func (b *bridge) say(t *ap.Thread, actor string, c *ap.Content) {
	b.t.Helper()
	b.mu.Lock()
	e, err := t.Say(rand.Reader, actor, c.Marshal(true))
	b.mu.Unlock()
	if err != nil {
		b.t.Fatal(err)
	}
	b.send(t, actor, e.Message)
}

func note(actor, text string) *ap.Content {
	n := fmt.Sprintf("urn:uuid:%x", time.Now().UnixNano())
	return &ap.Content{Type: "Create", ID: n + "-a", Actor: actor, Item: &ap.Item{Type: "Note", ID: n, AttributedTo: actor, Content: text}}
}

// hears waits for something that was said.
func (b *bridge) hears() *ap.Said {
	b.t.Helper()
	select {
	case s := <-b.said:
		return s
	case <-time.After(nodeTimeout):
		b.t.Fatal("nothing was said")
	}
	return nil
}

func (b *bridge) effect() *ap.Effect {
	b.t.Helper()
	select {
	case e := <-b.effects:
		return e
	case <-time.After(nodeTimeout):
		b.t.Fatal("nothing came")
	}
	return nil
}

// claim fetches and checks one KeyPackage of an actor elsewhere.
func (b *bridge) claim(handle string) (string, *mls.KeyPackage) {
	b.t.Helper()
	a, err := b.people.Resolve(context.Background(), "acct:"+strings.TrimPrefix(handle, "@"))
	if err != nil {
		b.t.Fatal(err)
	}
	list, err := b.people.Packages(context.Background(), a, nil)
	if err != nil || len(list) == 0 {
		b.t.Fatal("no KeyPackage: ", err)
	}
	if err := ap.CheckOwn(list[0].KeyPackage, a.ID); err != nil {
		b.t.Fatal(err)
	}
	return a.ID, list[0].KeyPackage
}

func contentOf(t *testing.T, s *ap.Said) *ap.Content {
	t.Helper()
	c, err := ap.ParseContent(s.Data, s.Sender)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func field(m map[string]any, path ...string) any {
	var v any = m
	for _, p := range path {
		o, _ := v.(map[string]any)
		v = o[p]
	}
	return v
}

func jsonOf(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
