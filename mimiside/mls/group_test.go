package mls

import (
	"bytes"
	"testing"
)

// held is a group with the pieces that a database would hold: every operation's Changes are applied to them, and
// must make them equal to what Export says.
type held struct {
	*Group
	t      testing.TB
	pieces map[PieceKey]Secret
}

func hold(t testing.TB, g *Group) *held { return &held{g, t, pieceMap(g)} }

// apply stores Changes and checks that they were complete.
func (s *held) apply(c Changes) {
	s.t.Helper()
	c.Apply(s.pieces)
	comparePieces(s.t, "stored form", s.pieces, pieceMap(s.Group))
}

// restart loads the group from what is stored.
func (s *held) restart() {
	s.t.Helper()
	g, err := LoadGroup(s.cfg, pieceList(s.pieces))
	if err != nil {
		s.t.Fatal(err)
	}
	s.Group = g
	comparePieces(s.t, "loaded group", pieceMap(g), s.pieces)
}

func (s *held) merge(staged *Staged, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := s.Merge(testNow, staged)
	if err != nil {
		s.t.Fatal(err)
	}
	s.apply(c)
}

func (s *held) receive(commit []byte) {
	s.t.Helper()
	s.merge(s.StageReceived(testNow, commit))
}

func TestTwoMembers(t *testing.T) {
	for _, suite := range Suites() {
		r := testRand(int64(suite))
		alice, bob := newTestClient(t, r, suite, "alice"), newTestClient(t, r, suite, "bob")
		a := hold(t, newTestGroup(t, r, alice, testExtensions()))
		key := bob.keyPackage(t, r)
		staged, err := a.StageCommit(r, testNow, CommitParams{Leaf: 0, Proposals: []Proposal{{Type: ProposalAdd, Add: key.KeyPackage}}})
		must(t, staged, err)
		welcome, tree := message(t, staged.Welcome()).Welcome, staged.Tree()
		a.merge(staged, nil)
		joined, leaves, err := JoinWelcome(testNow, testConfig(), JoinParams{Welcome: welcome, Tree: tree, Keys: []JoinKey{key}})
		must(t, joined, err)
		if len(leaves) != 1 || leaves[0] != 1 {
			t.Fatalf("own leaves %v", leaves)
		}
		b := hold(t, joined)
		same := func() {
			t.Helper()
			if !bytes.Equal(a.EpochAuthenticator(), b.EpochAuthenticator()) {
				t.Fatal("epoch authenticators differ")
			}
		}
		same()
		for i := range 3 {
			p, c, err := a.Protect(r, 0, []byte("hello"), nil, i)
			must(t, p, err)
			a.apply(c)
			a.restart()
			m, c, err := b.Unprotect(testNow, p.Message)
			must(t, m, err)
			b.apply(c)
			b.restart()
			if string(m.Data) != "hello" || m.Sender != 0 || m.Generation != uint32(i) {
				t.Fatalf("message is %+v", m)
			}
			if size := putSize(c); i > 0 && size > 300 {
				t.Errorf("a message costs %d bytes", size)
			}
		}
		commit, err := b.StageCommit(r, testNow, CommitParams{Leaf: 1})
		must(t, commit, err)
		a.receive(commit.Commit())
		b.merge(commit, nil)
		same()
	}
}

// putSize is the size of the pieces that Changes write.
func putSize(c Changes) int {
	n := 0
	for _, p := range c.Put {
		n += len(p.Data)
	}
	return n
}
