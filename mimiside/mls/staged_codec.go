package mls

import (
	"bytes"
	"maps"
	"slices"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

const stagedVersion = 1

// Marshal returns the stored form: everything that Merge needs as a difference to the present epoch of the group, and
// what Commit, Welcome and GroupInfo return. It holds secrets. Of an external commit of a group that is not held it
// contains the whole public state too.
func (s *Staged) Marshal() Secret {
	b := []byte{stagedVersion}
	b = tlspl.AppendUint64(b, s.base.context.Epoch)
	b = tlspl.AppendOpaque(b, s.base.context.ConfirmedTranscriptHash)
	b = append(b, flagByte(s.external), flagByte(s.ours))
	b = tlspl.AppendUint32(b, uint32(s.committer))
	for _, v := range [][]byte{s.commit, s.welcome, s.groupInfo, s.aad} {
		b = tlspl.AppendOpaque(b, v)
	}
	b = s.next.append(b)
	b = tlspl.AppendOptional(b, s.next.secrets != nil, func(b []byte) []byte {
		b = tlspl.AppendOpaque(b, s.next.keys.seeds[rootOf(s.next.tree.height)])
		return tlspl.AppendOpaque(b, s.next.exports.Marshal())
	})
	b = s.appendTree(b)
	b = s.appendKeys(b)
	b = appendList(b, s.proposals, (*ResolvedProposal).append)
	for _, list := range [][]Member{s.added, s.removed, s.updated} {
		b = appendList(b, list, func(m *Member, b []byte) []byte {
			return append(tlspl.AppendUint32(b, uint32(m.Index)), flagByte(m.Own))
		})
	}
	return tlspl.AppendOptional(b, s.home != nil, func(b []byte) []byte {
		return appendList(b, s.home.Export(), (*Piece).append)
	})
}

func (p *Piece) append(b []byte) []byte {
	b = tlspl.AppendString(b, p.Key.Kind)
	for _, v := range []uint64{p.Key.A, p.Key.B, p.Key.C} {
		b = tlspl.AppendUint64(b, v)
	}
	return tlspl.AppendOpaque(b, p.Data)
}

func readPiece(r *tlspl.Reader) Piece {
	return Piece{Key: PieceKey{Kind: string(r.Opaque(-1)), A: r.Uint64(), B: r.Uint64(), C: r.Uint64()}, Data: r.Opaque(-1)}
}

// appendTree appends the nodes that differ between the trees.
func (s *Staged) appendTree(b []byte) []byte {
	return tlspl.AppendVector(b, func(b []byte) []byte {
		for _, x := range sortedNodes(s.edit.changed) {
			n := s.next.tree.at(x)
			b = tlspl.AppendUint32(b, uint32(x))
			b = tlspl.AppendOptional(b, n != nil && !n.blank(), func(b []byte) []byte { return n.appendNode(b) })
		}
		return b
	})
}

// appendKeys appends what becomes of private keys.
func (s *Staged) appendKeys(b []byte) []byte {
	b = tlspl.AppendVector(b, func(b []byte) []byte {
		for _, l := range slices.Sorted(maps.Keys(s.own)) {
			o := s.own[l]
			b = tlspl.AppendUint32(b, uint32(l))
			b = tlspl.AppendOptional(b, o != nil, func(b []byte) []byte { return o.append(b) })
		}
		return b
	})
	return tlspl.AppendVector(b, func(b []byte) []byte {
		for _, x := range sortedNodes(s.path) {
			b = tlspl.AppendOpaque(tlspl.AppendUint32(b, uint32(x)), s.path[x])
		}
		return b
	})
}

// LoadStaged reads what Staged.Marshal wrote, for the group in the epoch in which it was staged.
func (g *Group) LoadStaged(b []byte) (*Staged, error) {
	s, home, err := g.readStaged(b)
	if err == nil && home != nil {
		err = failf(KindBug, "load staged commit", ErrStaged, "it is for a group that is not held")
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// LoadStagedExternal reads what Marshal of a Staged of the function StageExternalCommit wrote.
func LoadStagedExternal(cfg Config, b []byte) (*Staged, error) {
	const op = "load staged commit"
	if err := cfg.check(op); err != nil {
		return nil, err
	}
	l := &stagedLoader{r: tlspl.NewReader(bytes.Clone(b))}
	l.head()
	l.skipBody()
	home := l.home()
	if err := l.r.Close(); err != nil {
		return nil, fail(KindMalformed, op, err)
	}
	if home == nil {
		return nil, failf(KindBug, op, ErrStaged, "it is for a group that is held")
	}
	g, err := LoadGroup(cfg, home)
	if err != nil {
		return nil, fail(KindMalformed, op, err)
	}
	s, _, err := g.readStaged(b)
	if err != nil {
		return nil, err
	}
	s.home = g
	return s, nil
}

// stagedLoader reads the stored form of a Staged.
type stagedLoader struct {
	r     *tlspl.Reader
	s     *Staged
	epoch uint64
	hash  []byte

	height  uint
	seed    []byte
	exports []byte
	nodes   map[nodeIndex]nodeContent
	marks   [3][]Member
}

func (l *stagedLoader) head() {
	r := l.r
	if v := r.Uint8(); v != stagedVersion {
		r.Fail(ErrStateVersion)
	}
	l.s = &Staged{own: map[LeafIndex]*ownLeaf{}, path: map[nodeIndex]Secret{}}
	l.epoch, l.hash = r.Uint64(), r.Opaque(-1)
	l.s.external, l.s.ours = r.Uint8() == 1, r.Uint8() == 1
	l.s.committer = LeafIndex(r.Uint32())
	for _, v := range []*[]byte{&l.s.commit, &l.s.welcome, &l.s.groupInfo, &l.s.aad} {
		if *v = r.Opaque(-1); len(*v) == 0 {
			*v = nil
		}
	}
}

// skipBody reads everything between head and home.
func (l *stagedLoader) skipBody() {
	r := l.r
	l.s.next, l.height = readEpoch(r)
	if r.Optional() {
		l.seed, l.exports = r.Opaque(-1), r.Opaque(-1)
	}
	l.nodes = map[nodeIndex]nodeContent{}
	for v := r.Vector(-1); v.More(); {
		x, c := nodeIndex(v.Uint32()), nodeContent{}
		if v.Optional() {
			c = readNode(v, x.isLeaf())
		}
		l.nodes[x] = c
	}
	for v := r.Vector(-1); v.More(); {
		at := LeafIndex(v.Uint32())
		l.s.own[at] = nil
		if v.Optional() {
			o := readOwnLeaf(v)
			l.s.own[at] = &o
		}
	}
	for v := r.Vector(-1); v.More(); {
		x := nodeIndex(v.Uint32())
		if l.s.path[x] = v.Opaque(-1); len(l.s.path[x]) == 0 {
			l.s.path[x] = nil
		}
	}
	l.s.proposals = readList(r, maxProposals, readResolvedProposal)
	for i := range l.marks {
		l.marks[i] = readList(r, maxMembers, func(r *tlspl.Reader) Member {
			return Member{Index: LeafIndex(r.Uint32()), Own: r.Uint8() == 1}
		})
	}
}

func (l *stagedLoader) home() []Piece {
	if !l.r.Optional() {
		return nil
	}
	return readList(l.r, 1<<24, readPiece)
}

// readStaged reads a Staged against the present epoch of g.
func (g *Group) readStaged(b []byte) (*Staged, []Piece, error) {
	const op = "load staged commit"
	l := &stagedLoader{r: tlspl.NewReader(bytes.Clone(b))}
	l.head()
	l.skipBody()
	home := l.home()
	if err := l.r.Close(); err != nil {
		return nil, nil, fail(KindMalformed, op, err)
	}
	if l.epoch != g.Epoch() || !bytes.Equal(l.hash, g.ConfirmedTranscriptHash()) {
		return nil, nil, fail(KindBug, op, ErrStaged)
	}
	if err := l.rebuild(g); err != nil {
		return nil, nil, fail(KindMalformed, op, err)
	}
	return l.s, home, nil
}

// rebuild applies the difference to the group's tree.
func (l *stagedLoader) rebuild(g *Group) error {
	const op = "rebuild next epoch"
	s, next := l.s, l.s.next
	s.group, s.base, s.edit = g, g.cur, g.cur.tree.edit(g.suite)
	for s.edit.height < l.height {
		if err := s.edit.grow(); err != nil {
			return err
		}
	}
	for _, x := range sortedNodes(l.nodes) {
		if uint64(x) >= 2<<s.edit.height-1 {
			return failf(KindMalformed, op, ErrState, "node outside the tree")
		}
		s.edit.setNode(x, l.nodes[x].leaf, l.nodes[x].parent)
	}
	s.edit.truncate()
	next.tree = s.edit.finish()
	if next.tree.height != l.height || !bytes.Equal(next.tree.hash(), next.context.TreeHash) {
		return failf(KindMalformed, op, ErrState, "tree hash differs")
	}
	if next.secrets != nil {
		if len(l.seed) != g.suite.HashLength() {
			return failf(KindMalformed, op, ErrState, "no secret tree")
		}
		next.keys = newSecretTree(g.suite, next.context.Epoch, next.tree.height, Secret(l.seed).Clone())
		var err error
		if next.exports, err = unmarshalExportTree(g.suite, l.exports); err != nil {
			return err
		}
	}
	for i, to := range []*[]Member{&s.added, &s.removed, &s.updated} {
		tree := next.tree
		if i == 1 {
			tree = g.cur.tree
		}
		for _, m := range l.marks[i] {
			if m.Leaf = tree.leaf(m.Index); m.Leaf == nil {
				return failf(KindMalformed, op, ErrState, "leaf %d", m.Index)
			}
			*to = append(*to, m)
		}
	}
	return nil
}
