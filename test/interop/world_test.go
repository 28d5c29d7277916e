package interop

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

var groupID = []byte("mimi://hub.example/g/room")

// world is one group: our pool, peers of one implementation, and our public view.
type world struct {
	*testing.T
	newPeer func(name string) (peer, error)
	ours    *pool
	peers   []peer
	public  *mls.Group
	said    int
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// peer starts a further client of the other side, in no group yet.
func (w *world) peer() peer {
	w.Helper()
	p, err := w.newPeer(fmt.Sprintf("mimi://peer.example/d/%s/%d", w.Name(), len(w.peers)+1000*w.said))
	w.must(err)
	w.said++
	return p
}

// follow starts the public view.
func (w *world) follow(info, tree []byte) {
	w.Helper()
	g, err := mls.NewPublicGroup(now(), w.ours.config(), mls.PublicGroupParams{GroupInfo: unmarshalInfo(w, info), Tree: tree})
	w.must(err)
	w.public = g
}

// ourGroup makes a group of ours with own leaves and peers of the other side, who join by Welcome.
func (w *world) ourGroup(own, peers int, treeInside bool, extensions mls.Extensions) {
	w.Helper()
	w.ours.create(extensions)
	info, tree := w.ours.groupInfo(0, false)
	w.follow(info, tree)
	keys, _, adds := w.ours.joinKeys(own - 1)
	var guests []peer
	for range peers {
		p := w.peer()
		guests = append(guests, p)
		adds = append(adds, w.addOf(p.keyPackage()))
	}
	w.weCommit(mls.CommitParams{Leaf: 0, Proposals: adds, TreeInWelcome: treeInside}, keys, guests)
}

// theirGroup makes a group of a peer, with further peers and own leaves of ours, who join by Welcome.
func (w *world) theirGroup(own, peers int, treeInside bool) {
	w.Helper()
	first := w.peer()
	w.must(first.create(groupID))
	w.peers = append(w.peers, first)
	keys, messages, _ := w.ours.joinKeys(own)
	var guests []peer
	c := changes{add: messages, treeOutside: !treeInside}
	for range peers - 1 {
		p := w.peer()
		guests = append(guests, p)
		c.add = append(c.add, p.keyPackage())
	}
	w.theyCommit(first, c, keys, guests)
	info, tree, err := first.groupInfo(false)
	w.must(err)
	w.follow(info, tree)
}

func (w *world) addOf(kp []byte) mls.Proposal {
	w.Helper()
	m, err := mls.UnmarshalMLSMessage(kp)
	w.must(err)
	return mls.Proposal{Type: mls.ProposalAdd, Add: m.KeyPackage}
}

// weCommit lets an own leaf commit: everybody follows, keys and guests join by its Welcome.
func (w *world) weCommit(params mls.CommitParams, keys []mls.JoinKey, guests []peer) *mls.Staged {
	w.Helper()
	s := w.stage(params)
	w.merge(s, keys, guests, params.TreeInWelcome)
	return s
}

func (w *world) stage(params mls.CommitParams) *mls.Staged {
	w.Helper()
	s, err := w.ours.group.StageCommit(rand.Reader, now(), params)
	w.must(err)
	w.ours.changed(s.Changes())
	if s, err = w.ours.group.LoadStaged(s.Marshal()); err != nil { // as after a restart
		w.Fatal(err)
	}
	return s
}

func (w *world) merge(s *mls.Staged, keys []mls.JoinKey, guests []peer, treeInside bool) {
	w.Helper()
	w.toPeers(s.Commit(), nil)
	w.toPublic(s.Commit(), true)
	c, err := w.ours.group.Merge(now(), s)
	w.must(err)
	w.ours.changed(c)
	tree := s.Tree()
	if treeInside {
		tree = nil
	}
	w.welcome(s.Welcome(), tree, keys, guests)
}

// theyCommit lets a peer commit: everybody follows, keys and guests join by its Welcome.
func (w *world) theyCommit(p peer, c changes, keys []mls.JoinKey, guests []peer) {
	w.Helper()
	m, err := p.commit(c)
	w.must(err)
	w.fromPeer(p, m.commit, true)
	tree := m.tree
	if !c.treeOutside {
		tree = nil
	}
	w.welcome(m.welcome, tree, keys, guests)
}

func (w *world) welcome(welcome, tree []byte, keys []mls.JoinKey, guests []peer) {
	w.Helper()
	if len(keys) > 0 {
		w.ours.join(welcome, tree, keys)
	}
	for _, p := range guests {
		if err := p.join(welcome, tree); err != nil {
			w.Fatalf("%s joins: %v", p.identity(), err)
		}
		w.peers = append(w.peers, p)
	}
	w.check()
}

// fromPeer brings a handshake message of a peer to all others.
func (w *world) fromPeer(p peer, message []byte, commit bool) {
	w.Helper()
	w.toPeers(message, p)
	if w.ours.group != nil {
		w.ours.receive(message, commit)
	}
	w.toPublic(message, commit)
}

// external brings a proposal that no member sends to everybody.
func (w *world) external(message []byte) {
	w.Helper()
	w.fromPeer(nil, message, false)
}

func (w *world) toPeers(message []byte, not peer) {
	w.Helper()
	for _, p := range w.peers {
		if p == not {
			continue
		}
		if _, err := p.receive(message); err != nil {
			w.Fatalf("%s receives: %v", p.identity(), err)
		}
	}
}

// toPublic brings a message to the public view, which cannot follow PrivateMessages.
func (w *world) toPublic(message []byte, commit bool) {
	w.Helper()
	if w.public == nil {
		return
	}
	m, err := mls.UnmarshalMLSMessage(message)
	w.must(err)
	if m.WireFormat != mls.WireFormatPublicMessage {
		w.public = nil
		return
	}
	if !commit {
		_, _, err := w.public.ReceiveProposal(now(), message)
		w.must(err)
		return
	}
	s, err := w.public.StageReceived(now(), message)
	w.must(err)
	_, err = w.public.Merge(now(), s)
	w.must(err)
}

// check compares everybody's state.
func (w *world) check() {
	w.Helper()
	var want *state
	if w.ours.group != nil {
		want = w.ours.state()
	}
	for _, p := range w.peers {
		got, err := p.state()
		w.must(err)
		if want == nil {
			want = got // before we are in the group
		}
		if got.epoch != want.epoch || !bytes.Equal(got.treeHash, want.treeHash) {
			w.Fatalf("%s: epoch %d, tree hash %x; ours: %d, %x", p.identity(), got.epoch, got.treeHash, want.epoch, want.treeHash)
		}
		if !bytes.Equal(got.authenticator, want.authenticator) || !bytes.Equal(got.exported, want.exported) {
			w.Fatalf("epoch %d: secrets of %s differ", got.epoch, p.identity())
		}
	}
	if w.public != nil && w.ours.group != nil && !w.public.SamePublicState(w.ours.group) {
		w.Fatalf("epoch %d: the public view differs", want.epoch)
	}
}

// gone takes a peer out of the list when it has been removed from the group.
func (w *world) gone(p peer) {
	w.peers = slices.DeleteFunc(w.peers, func(q peer) bool { return p == q })
}

func (w *world) leafOf(p peer) mls.LeafIndex {
	w.Helper()
	s, err := p.state()
	w.must(err)
	return s.leaf
}

// chat lets every own leaf and every peer say something, which all others read.
func (w *world) chat() {
	w.Helper()
	for _, l := range w.ours.group.OwnLeaves() {
		text := w.text()
		w.peersRead(w.ours.send(l, text), text, nil)
	}
	for _, p := range w.peers {
		text := w.text()
		m := w.say(p, text)
		w.peersRead(m, text, p)
		if a := w.ours.read(m); !bytes.Equal(a.Data, text) || a.Sender != w.leafOf(p) {
			w.Fatalf("read %q of leaf %d, want %q of %s", a.Data, a.Sender, text, p.identity())
		}
	}
}

func (w *world) say(p peer, text []byte) []byte {
	w.Helper()
	m, err := p.send(text)
	w.must(err)
	return m
}

func (w *world) peersRead(message, text []byte, not peer) {
	w.Helper()
	for _, p := range w.peers {
		if p == not {
			continue
		}
		got, err := p.receive(message)
		if err != nil || !bytes.Equal(got, text) {
			w.Fatalf("%s reads %q, want %q: %v", p.identity(), got, text, err)
		}
	}
}

func (w *world) text() []byte {
	w.said++
	return fmt.Appendf(nil, "message %d", w.said)
}
