package mls

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"time"

	"pgregory.net/rapid"
)

// actor is one process: a Group, and its stored form as a database would hold it.
type actor struct {
	name  string
	g     *Group
	store stored
}

func (a *actor) apply(c Changes) { c.Apply(a.store) }

func (a *actor) reset(g *Group) {
	a.g, a.store = g, stored{}
	for _, p := range g.Export() {
		a.store[p.Key] = p.Data
	}
}

// restart loads the group from its stored form.
func (a *actor) restart(t rapid.TB, cfg Config) {
	var pieces []Piece
	for k, d := range a.store {
		pieces = append(pieces, Piece{Key: k, Data: d.Clone()})
	}
	g, err := LoadGroup(cfg, pieces)
	ok(t, a.name+" restarts", err)
	a.g = g
}

// invite is a KeyPackage that waits for its Welcome.
type invite struct {
	JoinKey
	pool bool
}

// letter is an application message on its way.
type letter struct {
	message []byte
	data    []byte
	epoch   uint64
	sender  LeafIndex
	to      []*actor
}

// world is one group as seen by a pool with any number of leaves, by processes with one leaf each, and by a public
// view. All get the same messages.
type world struct {
	t       rapid.TB
	suite   Suite
	rand    *rand.Rand
	now     time.Time
	cfg     Config
	hub     *SignatureKey
	pool    *actor // nil until its first leaf has joined
	singles []*actor
	view    *actor
	invites map[string]invite
	letters []letter
	// selfRemoves are the SelfRemove messages of the epoch.
	selfRemoves [][]byte
	clients     int
}

const modelComponent = ComponentID(0x8001)

// modelConfig has one component, whose updates are appended and whose data stays under 64 bytes.
func modelConfig() Config {
	return Config{
		Validator: ValidatorFunc(func(c CredentialCheck) error {
			if c.Credential.Type != CredentialBasic {
				return errors.New("not basic")
			}
			return nil
		}),
		Components: map[ComponentID]ComponentLogic{modelComponent: ComponentLogicFunc(func(now []byte, updates [][]byte) ([]byte, error) {
			next := append(bytes.Clone(now), slices.Concat(updates...)...)
			if len(next) > 64 {
				return next[len(next)-64:], nil
			}
			return next, nil
		})},
		PSK: func(id *PreSharedKeyID) Secret {
			if id.Type == PSKExternal || id.Type == PSKApplication {
				return append(Secret("psk "), id.ID...)
			}
			return nil
		},
	}
}

func newWorld(t rapid.TB, suite Suite, seed int64) *world {
	w := &world{t: t, suite: suite, rand: testRand(seed), now: time.Unix(1_700_000_000, 0), cfg: modelConfig(), invites: map[string]invite{}}
	var err error
	w.hub, err = GenerateSignatureKey(w.rand, suite)
	ok(t, "hub key", err)
	required := RequiredCapabilities{Extensions: []ExtensionType{ExtensionAppDataDictionary},
		Proposals: []ProposalType{ProposalAppDataUpdate, ProposalSelfRemove}}
	dictionary := AppDataDictionary{}.Set(ComponentAppComponents, ComponentsList{1, 2, 3}.Marshal()).
		Set(ComponentSafeAAD, ComponentsList{}.Marshal())
	g, err := NewGroup(w.rand, w.now, w.cfg, GroupParams{
		Suite: suite, GroupID: []byte("room"), Creator: w.client(), Lifetime: w.lifetime(),
		Extensions: Extensions{required.Extension(), dictionary.Extension(),
			ExternalSendersExtension(ExternalSender{SignatureKey: w.hub.Public(), Credential: BasicCredential([]byte("hub"))})},
	})
	ok(t, "new group", err)
	first := &actor{name: "creator"}
	first.reset(g)
	w.singles = append(w.singles, first)
	w.view = &actor{name: "view"}
	w.follow(w.view, w.groupInfo(), g.RatchetTree())
	return w
}

// follow makes an actor a public view.
func (w *world) follow(a *actor, groupInfo, tree []byte) {
	info, err := UnmarshalMLSMessage(groupInfo)
	ok(w.t, "GroupInfo", err)
	g, err := NewPublicGroup(w.now, w.cfg, PublicGroupParams{GroupInfo: info.GroupInfo, Tree: tree})
	ok(w.t, "public view", err)
	a.reset(g)
}

func (w *world) lifetime() Lifetime {
	return Lifetime{NotBefore: uint64(w.now.Unix() - 60), NotAfter: uint64(w.now.Unix() + 1_000_000)}
}

// client makes what a new client shows.
func (w *world) client() LeafParams {
	key, err := GenerateSignatureKey(w.rand, w.suite)
	ok(w.t, "signature key", err)
	w.clients++
	return LeafParams{SignatureKey: key, Credential: BasicCredential(fmt.Appendf(nil, "client %d", w.clients)), Capabilities: testCapabilities(),
		Extensions: Extensions{AppDataDictionary{}.Set(ComponentAppComponents, ComponentsList{1, 2, 3}.Marshal()).Extension()}}
}

// invitation makes an Add of a new client.
func (w *world) invitation(pool bool) Proposal {
	c := w.client()
	kp, private, err := NewKeyPackage(w.rand, KeyPackageParams{Suite: w.suite, Credential: c.Credential, SignatureKey: c.SignatureKey,
		Capabilities: c.Capabilities, Lifetime: w.lifetime(), LeafExtensions: c.Extensions})
	ok(w.t, "KeyPackage", err)
	w.invites[string(kp.Ref())] = invite{JoinKey{kp, private}, pool}
	return Proposal{Type: ProposalAdd, Add: kp}
}

// holders are the actors that have own leaves.
func (w *world) holders() []*actor {
	out := slices.Clone(w.singles)
	if w.pool != nil && len(w.pool.g.OwnLeaves()) > 0 {
		out = append(out, w.pool)
	}
	return out
}

func (w *world) all() []*actor {
	out := slices.Clone(w.singles)
	if w.pool != nil {
		out = append(out, w.pool)
	}
	return append(out, w.view)
}

func (w *world) groupInfo() []byte {
	a := w.holders()[0]
	info, err := a.g.GroupInfo(a.g.OwnLeaves()[0], true, nil)
	ok(w.t, "GroupInfo", err)
	return info
}

// check compares everything that must agree.
func (w *world) check() {
	t := w.t
	want := w.view.g
	var authenticator, exported []byte
	for _, a := range w.all() {
		g := a.g
		if g.Epoch() != want.Epoch() {
			t.Fatalf("%s is in epoch %d, the view in %d", a.name, g.Epoch(), want.Epoch())
		}
		same(t, a.name+": GroupContext", g.Context().Marshal(), want.Context().Marshal())
		same(t, a.name+": tree hash", g.TreeHash(), want.TreeHash())
		same(t, a.name+": confirmation tag", g.ConfirmationTag(), want.ConfirmationTag())
		same(t, a.name+": tree", g.RatchetTree(), want.RatchetTree())
		w.checkStored(a)
		w.checkPool(a)
		if len(g.OwnLeaves()) == 0 {
			continue
		}
		secret, err := g.ExportSecret("label", []byte("context"), 32)
		ok(t, a.name+": exporter", err)
		if authenticator == nil {
			authenticator, exported = g.EpochAuthenticator(), secret
		}
		same(t, a.name+": epoch authenticator", g.EpochAuthenticator(), authenticator)
		same(t, a.name+": exporter", secret, exported)
	}
}

// checkStored: what the Changes made of the stored form is what the group would export.
func (w *world) checkStored(a *actor) {
	fresh := stored{}
	for _, p := range a.g.Export() {
		fresh[p.Key] = p.Data
	}
	for k := range a.store {
		if fresh[k] == nil {
			w.t.Fatalf("%s: piece %v is stored and not exported", a.name, k)
		}
	}
	for k, d := range fresh {
		if !bytes.Equal(a.store[k], d) {
			w.t.Fatalf("%s: piece %v differs (stored %d bytes, exported %d)", a.name, k, len(a.store[k]), len(d))
		}
	}
}

// checkPool: the private keys that an actor holds are right, and they are at least and at most what its own leaves
// know: every non-blank node above an own leaf that is not unmerged there.
func (w *world) checkPool(a *actor) {
	g, known := a.g, map[nodeIndex]bool{}
	for _, l := range g.OwnLeaves() {
		for x := l.node(); x != rootOf(g.cur.tree.height); {
			x = x.parent()
			n := g.cur.tree.at(x)
			if n.parent == nil {
				continue
			}
			if !slices.Contains(n.parent.UnmergedLeaves, l) {
				known[x] = true
			}
		}
		pub, err := PublicKeyOf(g.suite, g.own[l].encryptionKey)
		ok(w.t, "own key", err)
		same(w.t, fmt.Sprintf("%s: key of leaf %d", a.name, l), pub, g.cur.tree.leaf(l).EncryptionKey)
		same(w.t, fmt.Sprintf("%s: signature key of leaf %d", a.name, l), g.own[l].signature.Public(), g.cur.tree.leaf(l).SignatureKey)
	}
	for x := range known {
		if g.path[x] == nil {
			w.t.Fatalf("%s with leaves %v lacks the key of node %d", a.name, g.OwnLeaves(), x)
		}
	}
	for x, k := range g.path {
		if !known[x] {
			w.t.Fatalf("%s with leaves %v keeps the key of node %d", a.name, g.OwnLeaves(), x)
		}
		pub, err := PublicKeyOf(g.suite, k)
		ok(w.t, "path key", err)
		same(w.t, fmt.Sprintf("%s: key of node %d", a.name, x), pub, g.cur.tree.at(x).parent.EncryptionKey)
	}
}

// frozen returns the stored form of an actor, to show that a refused operation changed nothing.
func frozen(a *actor) stored {
	s := stored{}
	for _, p := range a.g.Export() {
		s[p.Key] = p.Data
	}
	return s
}

// advance takes all actors through an accepted commit. committer merges what it staged, newcomer is the actor of an
// external commit or nil. Who has no leaf cannot follow a commit in a PrivateMessage and starts anew from the GroupInfo.
func (w *world) advance(committer *actor, s *Staged, newcomer *actor) {
	t := w.t
	message, tree, welcome := bytes.Clone(s.Commit()), s.Tree(), s.Welcome()
	external, added, removed := s.External(), s.Added(), s.Removed()
	framed, err := UnmarshalMLSMessage(message)
	ok(t, "commit", err)
	for _, a := range w.all() {
		if a == committer {
			continue
		}
		before := frozen(a)
		if framed.Private != nil && len(a.g.OwnLeaves()) == 0 {
			w.follow(a, s.GroupInfo(), tree)
			continue
		}
		r, err := a.g.StageReceived(w.now, message)
		ok(t, a.name+" processes the commit", err)
		sameStored(t, frozen(a), before)
		if len(r.Added()) != len(added) || len(r.Removed()) != len(removed) || r.External() != external || r.Epoch() != s.Epoch() {
			t.Fatalf("%s sees %d added, %d removed, external %v", a.name, len(r.Added()), len(r.Removed()), r.External())
		}
		same(t, a.name+": staged tree", r.Tree(), tree)
		c, err := a.g.Merge(w.now, r)
		ok(t, a.name+" merges", err)
		a.apply(c)
	}
	if newcomer == nil {
		c, err := committer.g.Merge(w.now, s)
		ok(t, committer.name+" merges its own commit", err)
		committer.apply(c)
	} else {
		g, err := NewGroupFromStaged(w.now, w.cfg, s)
		ok(t, "joins by external commit", err)
		newcomer.reset(g)
		w.singles = append(w.singles, newcomer)
	}
	w.singles = slices.DeleteFunc(w.singles, func(a *actor) bool { return len(a.g.OwnLeaves()) == 0 })
	w.selfRemoves = nil
	if welcome != nil {
		w.welcome(welcome, tree, added)
	}
}

// welcome lets the added clients in: those of the pool at once or one by one, all others into actors of their own.
func (w *world) welcome(welcome, tree []byte, added []Member) {
	t := w.t
	m, err := UnmarshalMLSMessage(welcome)
	ok(t, "Welcome", err)
	var pool []JoinKey
	for _, s := range m.Welcome.Secrets {
		in, there := w.invites[string(s.NewMember)]
		if !there {
			t.Fatal("Welcome for an unknown KeyPackage")
		}
		delete(w.invites, string(s.NewMember))
		if in.pool {
			pool = append(pool, in.JoinKey)
			continue
		}
		a := &actor{name: string(in.KeyPackage.Leaf.Credential.Identity)}
		g, leaves, err := JoinWelcome(w.now, w.cfg, JoinParams{Welcome: m.Welcome, Tree: tree, Keys: []JoinKey{in.JoinKey}})
		ok(t, a.name+" joins", err)
		if len(leaves) != 1 || !slices.ContainsFunc(added, func(m Member) bool { return m.Index == leaves[0] }) {
			t.Fatalf("joined as %v, added %v", leaves, added)
		}
		a.reset(g)
		w.singles = append(w.singles, a)
	}
	groups := [][]JoinKey{pool}
	if len(pool) > 1 && w.rand.Intn(2) == 0 {
		groups = [][]JoinKey{pool[:1], pool[1:]}
	}
	for _, keys := range groups {
		switch {
		case len(keys) == 0:
		case w.pool == nil:
			g, _, err := JoinWelcome(w.now, w.cfg, JoinParams{Welcome: m.Welcome, Tree: tree, Keys: keys})
			ok(t, "pool joins", err)
			w.pool = &actor{name: "pool"}
			w.pool.reset(g)
		default:
			_, c, err := w.pool.g.AddOwnFromWelcome(w.now, JoinParams{Welcome: m.Welcome, Tree: tree, Keys: keys})
			ok(t, "pool gets further leaves", err)
			w.pool.apply(c)
		}
	}
}
