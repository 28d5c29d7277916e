package mls

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// Version of the pieces that this file writes; the first byte of each.
const pieceVersion = 1

// What an epoch piece holds.
const (
	epochPresent = 1
	epochPast    = 2
)

func sortedNodes[V any](m map[nodeIndex]V) []nodeIndex { return slices.Sorted(maps.Keys(m)) }

func (g *Group) groupPiece() Piece {
	b := tlspl.AppendUint16([]byte{pieceVersion}, uint16(g.suite))
	return Piece{PieceKey{Kind: "group"}, tlspl.AppendOpaque(b, g.groupID)}
}

func (g *Group) epochPiece() Piece {
	return Piece{PieceKey{Kind: "epoch", A: g.Epoch()}, g.cur.append([]byte{pieceVersion, epochPresent})}
}

// append appends the stored form of a present epoch, its trees apart.
func (e *epoch) append(b []byte) []byte {
	b = tlspl.AppendOpaque(b, e.encoded)
	b = tlspl.AppendOpaque(b, e.tag)
	b = append(b, byte(e.tree.height), flagByte(e.closed))
	return tlspl.AppendOptional(b, e.secrets != nil, func(b []byte) []byte { return e.secrets.append(b) })
}

func flagByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// readEpoch reads what append wrote; the tree is still to be set.
func readEpoch(r *tlspl.Reader) (*epoch, uint) {
	context := r.Opaque(-1)
	tag := r.Opaque(-1)
	height, closed := uint(r.Uint8()), r.Uint8() == 1
	var secrets *epochSecrets
	if r.Optional() {
		secrets = readEpochSecrets(r)
	}
	if r.Err() != nil {
		return nil, 0
	}
	c, err := UnmarshalGroupContext(context)
	if err == nil && height > maxTreeHeight {
		err = ErrState
	}
	var rules *groupRules
	if err == nil {
		err = c.Suite.Check()
	}
	if err == nil {
		rules, err = parseRules(c.Extensions)
	}
	if err != nil {
		r.Fail(err)
		return nil, 0
	}
	e := newEpoch(*c, nil, rules, tag)
	e.closed, e.secrets = closed, secrets
	return e, height
}

func (g *Group) exportsPiece() Piece {
	return Piece{PieceKey{Kind: "exports", A: g.Epoch()}, g.cur.exports.Marshal()}
}

func (p *pastEpoch) piece() Piece {
	b := []byte{pieceVersion, epochPast}
	b = tlspl.AppendOpaque(b, p.encoded)
	b = tlspl.AppendOpaque(b, p.senderData)
	b = append(b, byte(p.keys.height))
	b = tlspl.AppendUint64(b, uint64(p.ended.UnixNano()))
	b = tlspl.AppendVector(b, func(b []byte) []byte {
		for _, l := range slices.Sorted(maps.Keys(p.before)) {
			was := p.before[l]
			b = append(tlspl.AppendUint32(b, uint32(l)), flagByte(was.own))
			b = tlspl.AppendOptional(b, was.leaf != nil, func(b []byte) []byte { return was.leaf.append(b) })
		}
		return b
	})
	return Piece{PieceKey{Kind: "epoch", A: p.number}, b}
}

func readPast(r *tlspl.Reader) *pastEpoch {
	p := &pastEpoch{encoded: r.Opaque(-1), before: map[LeafIndex]pastLeaf{}}
	p.senderData = Secret(r.Opaque(-1)).Clone()
	height := uint(r.Uint8())
	p.ended = time.Unix(0, int64(r.Uint64()))
	v := r.Vector(-1)
	for v.More() {
		l := LeafIndex(v.Uint32())
		was := pastLeaf{own: v.Uint8() == 1}
		if v.Optional() {
			leaf := ReadLeafNode(v)
			was.leaf = &leaf
		}
		p.before[l] = was
	}
	if r.Err() != nil {
		return nil
	}
	c, err := UnmarshalGroupContext(p.encoded)
	if err == nil && height > maxTreeHeight {
		err = ErrState
	}
	if err == nil {
		err = c.Suite.Check()
	}
	if err == nil {
		p.rules, err = parseRules(c.Extensions)
	}
	if err != nil {
		r.Fail(err)
		return nil
	}
	p.number = c.Epoch
	p.keys = emptySecretTree(c.Suite, c.Epoch, height)
	return p
}

func (o *ownLeaf) append(b []byte) []byte {
	b = tlspl.AppendOpaque(b, o.signature.Marshal())
	return tlspl.AppendOpaque(b, o.encryptionKey)
}

func readOwnLeaf(r *tlspl.Reader) ownLeaf {
	sig, enc := r.Opaque(-1), r.Opaque(-1)
	if r.Err() != nil {
		return ownLeaf{}
	}
	key, err := UnmarshalSignatureKey(sig)
	if err != nil {
		r.Fail(err)
	}
	return ownLeaf{signature: key, encryptionKey: Secret(enc).Clone()}
}

func ownPiece(l LeafIndex, o *ownLeaf) Piece {
	return Piece{PieceKey{Kind: "own", A: uint64(l)}, o.append([]byte{pieceVersion})}
}

func pathPiece(x nodeIndex, key Secret) Piece {
	return Piece{PieceKey{Kind: "path", A: uint64(x)}, append(Secret{pieceVersion}, key...)}
}

func resumptionPiece(epoch uint64, psk Secret) Piece {
	return Piece{PieceKey{Kind: "resumption", A: epoch}, append(Secret{pieceVersion}, psk...)}
}

func (p *ResolvedProposal) append(b []byte) []byte {
	b = p.Sender.append(b)
	b = tlspl.AppendOptional(b, p.Ref != nil, func(b []byte) []byte { return tlspl.AppendOpaque(b, p.Ref) })
	return tlspl.AppendOpaque(b, p.Proposal.Marshal())
}

func readResolvedProposal(r *tlspl.Reader) ResolvedProposal {
	p := ResolvedProposal{Sender: readSender(r)}
	if r.Optional() {
		p.Ref = r.Opaque(-1)
	}
	body := r.Opaque(-1)
	if r.Err() != nil {
		return p
	}
	var err error
	if p.Proposal, err = UnmarshalProposal(body); err != nil {
		r.Fail(err)
	}
	return p
}

func (g *Group) proposalPiece(p *cachedProposal) Piece {
	stored := ResolvedProposal(p.PendingProposal.resolved())
	return Piece{PieceKey{Kind: "proposal", A: g.Epoch(), B: p.number}, stored.append([]byte{pieceVersion})}
}

func (p *PendingProposal) resolved() ResolvedProposal {
	return ResolvedProposal{Sender: p.Sender, Proposal: p.Proposal, Ref: p.Ref}
}

func (g *Group) updatePiece(u *ownUpdate) Piece {
	b := tlspl.AppendUint32([]byte{pieceVersion}, uint32(u.leaf))
	return Piece{PieceKey{Kind: "update", A: g.Epoch(), B: u.number}, u.ownLeaf.append(b)}
}

// Export returns all pieces of the group, for a first store.
func (g *Group) Export() []Piece {
	out := []Piece{g.groupPiece(), g.epochPiece()}
	out = append(out, g.cur.tree.chunks()...)
	if g.cur.secrets != nil {
		out = append(out, g.exportsPiece())
		out = append(out, g.cur.keys.pieces()...)
	}
	for _, p := range g.past {
		out = append(out, p.piece())
		out = append(out, p.keys.pieces()...)
	}
	for _, l := range g.OwnLeaves() {
		out = append(out, ownPiece(l, g.own[l]))
	}
	for _, x := range sortedNodes(g.path) {
		out = append(out, pathPiece(x, g.path[x]))
	}
	for _, n := range slices.Sorted(maps.Keys(g.resumption)) {
		out = append(out, resumptionPiece(n, g.resumption[n]))
	}
	for i := range g.pending.list {
		out = append(out, g.proposalPiece(&g.pending.list[i]))
	}
	for i := range g.pending.updates {
		out = append(out, g.updatePiece(&g.pending.updates[i]))
	}
	return out
}

// loading is a group that is being rebuilt.
type loading struct {
	g       *Group
	id      []byte
	suite   Suite
	cur     *epoch
	height  uint
	exports Secret
	nodes   map[nodeIndex]nodeContent
	ratchet []Piece // kinds seed, send, recv
}

// LoadGroup rebuilds a group from all its pieces, in any order. A piece of an unknown version or kind is refused, and
// so are pieces that do not belong together.
func LoadGroup(cfg Config, pieces []Piece) (*Group, error) {
	const op = "load group"
	if err := cfg.check(op); err != nil {
		return nil, err
	}
	l := &loading{nodes: map[nodeIndex]nodeContent{}, g: newGroup(cfg, &epoch{})}
	for _, p := range pieces {
		if err := l.piece(p); err != nil {
			return nil, fail(KindMalformed, op+": piece "+p.Key.Kind, err)
		}
	}
	if err := l.finish(); err != nil {
		return nil, fail(KindMalformed, op, err)
	}
	return l.g, nil
}

// piece takes one piece.
func (l *loading) piece(p Piece) error {
	switch p.Key.Kind {
	case "seed", "send", "recv":
		l.ratchet = append(l.ratchet, p)
		return nil
	case "exports":
		l.exports = p.Data
		return nil
	case "tree":
		return readChunk(p, l.nodes)
	}
	r := tlspl.NewReader(p.Data.Clone())
	if v := r.Uint8(); v != pieceVersion {
		r.Fail(fmt.Errorf("version %d: %w", v, ErrStateVersion))
	}
	if r.Err() == nil {
		l.read(p.Key, r)
	}
	return r.Close()
}

func (l *loading) read(k PieceKey, r *tlspl.Reader) {
	g := l.g
	switch k.Kind {
	case "group":
		l.suite, l.id = Suite(r.Uint16()), r.Opaque(-1)
	case "epoch":
		switch r.Uint8() {
		case epochPresent:
			if l.cur != nil {
				r.Fail(ErrState)
				return
			}
			l.cur, l.height = readEpoch(r)
		case epochPast:
			if p := readPast(r); p != nil {
				g.past = append(g.past, p)
			}
		default:
			r.Fail(ErrState)
		}
	case "own":
		o := readOwnLeaf(r)
		g.own[LeafIndex(k.A)] = &o
	case "path":
		g.path[nodeIndex(k.A)] = r.Rest()
	case "resumption":
		g.resumption[k.A] = r.Rest()
	case "proposal":
		p := readResolvedProposal(r)
		g.pending.list = append(g.pending.list, cachedProposal{PendingProposal{p.Ref, p.Sender, p.Proposal}, k.B})
	case "update":
		u := ownUpdate{leaf: LeafIndex(r.Uint32()), ownLeaf: readOwnLeaf(r), number: k.B}
		g.pending.updates = append(g.pending.updates, u)
	default:
		r.Fail(failf(KindUnsupported, "load piece", ErrStateVersion, "kind %q", k.Kind))
	}
}

// finish puts the parts together and checks that they fit.
func (l *loading) finish() error {
	const op = "check pieces"
	if l.cur == nil || l.id == nil {
		return failf(KindMalformed, op, ErrState, "no present epoch")
	}
	g, e := l.g, l.cur
	if string(e.context.GroupID) != string(l.id) || e.context.Suite != l.suite {
		return failf(KindMalformed, op, ErrState, "epoch of another group")
	}
	g.cur, g.suite, g.groupID = e, e.context.Suite, e.context.GroupID
	for x := range l.nodes {
		if uint64(x) >= 2<<l.height-1 {
			return failf(KindMalformed, op, ErrState, "node outside the tree")
		}
	}
	e.tree = buildTree(g.suite, l.height, func(x nodeIndex) nodeContent { return l.nodes[x] })
	if !slices.Equal(e.tree.hash(), e.context.TreeHash) || e.tree.root.leaves == 0 {
		return failf(KindMalformed, op, ErrState, "tree hash differs")
	}
	if !e.tree.buildIndex() {
		return failf(KindMalformed, op, ErrState, "a key twice")
	}
	if err := l.secrets(); err != nil {
		return err
	}
	return l.checkOwn()
}

// secrets loads the trees of secrets of the present and the past epochs.
func (l *loading) secrets() error {
	const op = "check pieces"
	g := l.g
	slices.SortFunc(g.past, func(a, b *pastEpoch) int { return cmp.Compare(b.number, a.number) })
	trees := map[uint64]*secretTree{}
	for _, p := range g.past {
		trees[p.number] = p.keys
	}
	if e := g.cur; e.secrets != nil {
		e.keys = emptySecretTree(g.suite, e.context.Epoch, e.tree.height)
		trees[e.context.Epoch] = e.keys
		var err error
		if e.exports, err = unmarshalExportTree(g.suite, l.exports); err != nil {
			return err
		}
	}
	for _, p := range l.ratchet {
		t := trees[p.Key.A]
		if t == nil {
			return failf(KindMalformed, op, ErrState, "ratchet of an epoch that is not there")
		}
		if _, err := t.load(p); err != nil {
			return err
		}
	}
	return nil
}

// checkOwn checks own leaves and waiting proposals against the tree.
func (l *loading) checkOwn() error {
	const op = "check pieces"
	g := l.g
	for at, o := range g.own {
		leaf := g.cur.tree.leaf(at)
		if leaf == nil || string(leaf.SignatureKey) != string(o.signature.Public()) || g.cur.secrets == nil {
			return failf(KindMalformed, op, ErrState, "own leaf %d", at)
		}
	}
	for x := range g.path {
		if n := g.cur.tree.at(x); n == nil || n.parent == nil {
			return failf(KindMalformed, op, ErrState, "path key of node %d", x)
		}
	}
	c := g.pending
	slices.SortFunc(c.list, func(a, b cachedProposal) int { return cmp.Compare(a.number, b.number) })
	slices.SortFunc(c.updates, func(a, b ownUpdate) int { return cmp.Compare(a.number, b.number) })
	for i := range c.list {
		c.next = max(c.next, c.list[i].number+1)
	}
	for i := range c.updates {
		c.next = max(c.next, c.updates[i].number+1)
	}
	if c.next == math.MaxUint64 {
		return failf(KindMalformed, op, ErrState, "number of a proposal")
	}
	return nil
}
