package main

import (
	"crypto/rand"
	"fmt"
	"runtime"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

const suite = mls.SuiteX25519AES128Ed25519

var (
	now    = time.Now()
	config = mls.Config{Validator: mls.ValidatorFunc(func(mls.CredentialCheck) error { return nil })}
)

func lifetime() mls.Lifetime {
	return mls.Lifetime{NotBefore: uint64(now.Add(-time.Hour).Unix()), NotAfter: uint64(now.Add(24 * time.Hour).Unix())}
}

// identity has the length that identities of MIMI clients have.
func identity(i int) []byte {
	return fmt.Appendf(nil, "mimi://bridge.example/d/user%05d/bridge-client", i)
}

func leafParams(i int) mls.LeafParams {
	return mls.LeafParams{
		SignatureKey: must(mls.GenerateSignatureKey(rand.Reader, suite)),
		Credential:   mls.BasicCredential(identity(i)),
		Capabilities: mls.Capabilities{Versions: []mls.ProtocolVersion{mls.VersionMLS10}, Suites: []mls.Suite{suite},
			Credentials: []mls.CredentialType{mls.CredentialBasic}},
	}
}

func joinKey(i int) mls.JoinKey {
	l := leafParams(i)
	kp, private, err := mls.NewKeyPackage(rand.Reader, mls.KeyPackageParams{Suite: suite, Credential: l.Credential,
		SignatureKey: l.SignatureKey, Capabilities: l.Capabilities, Lifetime: lifetime()})
	check(err)
	return mls.JoinKey{KeyPackage: kp, Private: private}
}

// ours is a group of our engine: a member outside the process, at leaf 0, and a pool.
type ours struct {
	outside *mls.Group
	pool    *mls.Group
	welcome *mls.Welcome
	tree    []byte
	keys    []mls.JoinKey           // of the clients that the outside member adds, leaf by leaf
	checked []mls.CheckedKeyPackage // the same as the outside member got them
}

func newOurs(n int) *ours {
	o := &ours{}
	for i := range n {
		o.keys = append(o.keys, joinKey(i+1))
	}
	o.checkAll()
	o.create()
	return o
}

// checkAll does with all KeyPackages what is done when they come: decode and verify.
func (o *ours) checkAll() {
	o.checked = o.checked[:0]
	for _, k := range o.keys {
		o.checked = append(o.checked, must(must(mls.UnmarshalKeyPackage(k.KeyPackage.Marshal())).Check()))
	}
}

// create makes the group of the outside member alone.
func (o *ours) create() {
	o.outside = must(mls.NewGroup(rand.Reader, now, config, mls.GroupParams{Suite: suite, GroupID: []byte("group"),
		Creator: leafParams(0), Lifetime: lifetime()}))
}

// add adds all clients with one commit.
func (o *ours) add() {
	s := must(o.outside.StageCommit(rand.Reader, now, mls.CommitParams{Adds: o.checked}))
	must(o.outside.Merge(now, s))
	o.welcome = must(mls.UnmarshalMLSMessage(s.Welcome())).Welcome
	o.tree = s.Tree()
}

// join lets clients join into a pool.
func (o *ours) join(keys []mls.JoinKey) *mls.Group {
	g, _, err := mls.JoinWelcome(now, config, mls.JoinParams{Welcome: o.welcome, Tree: o.tree, Keys: keys})
	check(err)
	return g
}

// commit lets the outside member commit with a path.
func (o *ours) commit() []byte {
	s := must(o.outside.StageCommit(rand.Reader, now, mls.CommitParams{}))
	must(o.outside.Merge(now, s))
	return s.Commit()
}

func receive(g *mls.Group, commit []byte) mls.Changes {
	return must(g.Merge(now, must(g.StageReceived(now, commit))))
}

// stored counts the bytes of the keys and data that changes write.
func stored(c mls.Changes) int64 {
	n := 0
	for _, p := range c.Put {
		n += len(p.Key.Kind) + 24 + len(p.Data)
	}
	for _, k := range c.Delete {
		n += len(k.Kind) + 24
	}
	for _, r := range c.DeleteRange {
		n += len(r.Kind) + 8
	}
	return int64(n)
}

func measureOurs(n int) *figures {
	var f figures
	o := newOurs(n)
	runtime.GC()
	o.add()
	before := heap()
	f.joinAll = median(1, 20, func() time.Duration {
		o.pool = nil
		return timed(func() { o.pool = o.join(o.keys) })
	})
	single := o.join(o.keys[n/2 : n/2+1])
	var alone []time.Duration
	f.pathCommit = median(10, 300, func() time.Duration {
		commit := o.commit()
		alone = append(alone, timed(func() { receive(single, commit) }))
		return timed(func() { f.storeCommit = stored(receive(o.pool, commit)) })
	})
	f.singleCommit = middle(alone)
	single = nil
	f.heap = heap() - before
	f.message = median(100, 5000, func() time.Duration {
		p, _, err := o.outside.Protect(rand.Reader, 0, []byte("hello everybody"), nil, 0)
		check(err)
		return timed(func() {
			_, c, err := o.pool.Unprotect(now, p.Message)
			check(err)
			f.storeMessage = max(f.storeMessage, stored(c))
		})
	})
	return &f
}
