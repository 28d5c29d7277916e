package interop

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// pool is our side: one Group with any number of own leaves. After every change it is loaded from its stored pieces.
type pool struct {
	t      testing.TB
	suite  mls.Suite
	group  *mls.Group
	pieces map[mls.PieceKey]mls.Secret
	psks   map[string]mls.Secret
	names  int
}

func newPool(t testing.TB, suite mls.Suite) *pool {
	return &pool{t: t, suite: suite, psks: map[string]mls.Secret{}}
}

func (p *pool) config() mls.Config {
	return mls.Config{
		Validator: mls.ValidatorFunc(func(mls.CredentialCheck) error { return nil }),
		PSK:       func(id *mls.PreSharedKeyID) mls.Secret { return p.psks[string(id.ID)] },
	}
}

func now() time.Time { return time.Now() }

func lifetime() mls.Lifetime {
	return mls.Lifetime{NotBefore: uint64(now().Add(-time.Hour).Unix()), NotAfter: uint64(now().Add(24 * time.Hour).Unix())}
}

// leaf says what a new own client shows: that of a MIMI client, with extensions that the peers do not know.
func (p *pool) leaf() mls.LeafParams {
	p.names++
	key, err := mls.GenerateSignatureKey(rand.Reader, p.suite)
	p.must(err)
	dict := mls.AppDataDictionary{}.Set(mls.ComponentAppComponents, mls.ComponentsList{mls.ComponentAppComponents}.Marshal())
	return mls.LeafParams{
		SignatureKey: key,
		Credential:   mls.BasicCredential(fmt.Appendf(nil, "mimi://bridge.example/d/user%d/bridge", p.names)),
		Capabilities: mls.Capabilities{
			Versions:    []mls.ProtocolVersion{mls.VersionMLS10},
			Suites:      mls.Suites(),
			Extensions:  []mls.ExtensionType{mls.ExtensionAppDataDictionary},
			Proposals:   []mls.ProposalType{mls.ProposalAppDataUpdate, mls.ProposalAppEphemeral, mls.ProposalSelfRemove},
			Credentials: []mls.CredentialType{mls.CredentialBasic},
		},
		Extensions: mls.Extensions{dict.Extension()},
	}
}

func (p *pool) joinKey() mls.JoinKey {
	l := p.leaf()
	kp, private, err := mls.NewKeyPackage(rand.Reader, mls.KeyPackageParams{Suite: p.suite, Credential: l.Credential,
		SignatureKey: l.SignatureKey, Capabilities: l.Capabilities, Lifetime: lifetime(), LeafExtensions: l.Extensions})
	p.must(err)
	return mls.JoinKey{KeyPackage: kp, Private: private}
}

func (p *pool) joinKeys(n int) (keys []mls.JoinKey, messages [][]byte, adds []mls.Proposal) {
	for range n {
		k := p.joinKey()
		keys = append(keys, k)
		messages = append(messages, k.KeyPackage.Message())
		adds = append(adds, mls.Proposal{Type: mls.ProposalAdd, Add: k.KeyPackage})
	}
	return keys, messages, adds
}

func (p *pool) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// stored takes a new group over.
func (p *pool) stored(g *mls.Group) {
	p.t.Helper()
	p.pieces = map[mls.PieceKey]mls.Secret{}
	for _, piece := range g.Export() {
		p.pieces[piece.Key] = piece.Data
	}
	p.load()
}

// changed stores what an operation changed and loads the group from it.
func (p *pool) changed(c mls.Changes) {
	p.t.Helper()
	c.Apply(p.pieces)
	p.load()
}

func (p *pool) load() {
	p.t.Helper()
	var list []mls.Piece
	for k, d := range p.pieces {
		list = append(list, mls.Piece{Key: k, Data: d})
	}
	g, err := mls.LoadGroup(p.config(), list)
	p.must(err)
	p.group = g
}

// create makes a group with one own leaf.
func (p *pool) create(extensions mls.Extensions) {
	p.t.Helper()
	g, err := mls.NewGroup(rand.Reader, now(), p.config(), mls.GroupParams{Suite: p.suite, GroupID: groupID,
		Extensions: extensions, Creator: p.leaf(), Lifetime: lifetime()})
	p.must(err)
	p.stored(g)
}

// join joins by Welcome with several leaves; a pool that is in the group already adds them.
func (p *pool) join(welcome, tree []byte, keys []mls.JoinKey) {
	p.t.Helper()
	m, err := mls.UnmarshalMLSMessage(welcome)
	p.must(err)
	params := mls.JoinParams{Welcome: m.Welcome, Tree: tree, Keys: keys}
	if p.group != nil {
		_, c, err := p.group.AddOwnFromWelcome(now(), params)
		p.must(err)
		p.changed(c)
		return
	}
	g, _, err := mls.JoinWelcome(now(), p.config(), params)
	p.must(err)
	p.stored(g)
}

// receive takes a proposal or a commit.
func (p *pool) receive(message []byte, commit bool) {
	p.t.Helper()
	if !commit {
		_, c, err := p.group.ReceiveProposal(now(), message)
		p.must(err)
		p.changed(c)
		return
	}
	s, err := p.group.StageReceived(now(), message)
	p.must(err)
	c, err := p.group.Merge(now(), s)
	p.must(err)
	p.changed(c)
}

func (p *pool) send(leaf mls.LeafIndex, data []byte) []byte {
	p.t.Helper()
	m, c, err := p.group.Protect(rand.Reader, leaf, data, nil, 0)
	p.must(err)
	p.changed(c)
	return m.Message
}

func (p *pool) read(message []byte) *mls.Application {
	p.t.Helper()
	a, c, err := p.group.Unprotect(now(), message)
	p.must(err)
	p.changed(c)
	return a
}

func (p *pool) groupInfo(leaf mls.LeafIndex, withTree bool) (info, tree []byte) {
	p.t.Helper()
	var extensions mls.Extensions
	if withTree {
		extensions = extensions.With(mls.ExtensionRatchetTree, p.group.RatchetTree())
	}
	info, err := p.group.GroupInfo(leaf, true, extensions)
	p.must(err)
	return info, p.group.RatchetTree()
}

func (p *pool) state() *state {
	p.t.Helper()
	exported, err := p.group.ExportSecret(exportLabel, []byte(exportContext), exportLength)
	p.must(err)
	return &state{epoch: p.group.Epoch(), treeHash: p.group.TreeHash(), authenticator: p.group.EpochAuthenticator(), exported: exported}
}

func unmarshalInfo(t testing.TB, message []byte) *mls.GroupInfo {
	t.Helper()
	m, err := mls.UnmarshalMLSMessage(message)
	if err != nil {
		t.Fatal(err)
	}
	return m.GroupInfo
}
