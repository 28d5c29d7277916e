package mls

import (
	"fmt"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// The stored form of a tree cuts it into chunks: subtrees of chunkLevels levels, stratum 0 at the leaves. A path
// touches one chunk in each stratum, so a commit writes a logarithmic part of the tree.
const chunkLevels = 5

// chunkID names a chunk.
type chunkID struct{ stratum, number uint64 }

func chunkOf(x nodeIndex) chunkID {
	s := uint64(x.level() / chunkLevels)
	return chunkID{s, uint64(x) >> (chunkLevels * (s + 1))}
}

func (c chunkID) key() PieceKey { return PieceKey{Kind: "tree", A: c.stratum, B: c.number} }

// top returns the index of the highest node of the chunk.
func (c chunkID) top() nodeIndex {
	width := chunkLevels * (c.stratum + 1)
	return nodeIndex(c.number<<width | (1<<(width-1) - 1))
}

const chunkVersion = 1

// chunk returns the stored form of a chunk, false when it has no node that is not blank.
func (t *ratchetTree) chunk(c chunkID) (Piece, bool) {
	low := uint(c.stratum * chunkLevels)
	top := c.top()
	if top.level() > t.height {
		if c.number != 0 || low > t.height {
			return Piece{}, false
		}
		top = rootOf(t.height)
	}
	n := t.at(top)
	if n == nil {
		return Piece{}, false
	}
	b, empty := []byte{chunkVersion}, true
	b = tlspl.AppendVector(b, func(b []byte) []byte {
		eachDownTo(n, top, low, func(x nodeIndex, n *treeNode) {
			empty = false
			b = n.appendNode(tlspl.AppendUint32(b, uint32(x)))
		})
		return b
	})
	return Piece{Key: c.key(), Data: b}, !empty
}

// eachDownTo calls f for the non-blank nodes of a subtree at level low and above.
func eachDownTo(n *treeNode, x nodeIndex, low uint, f func(nodeIndex, *treeNode)) {
	if n.filled == 0 {
		return
	}
	if !n.blank() {
		f(x, n)
	}
	if x.level() > low {
		eachDownTo(n.left, x.left(), low, f)
		eachDownTo(n.right, x.right(), low, f)
	}
}

// chunks returns the whole stored form.
func (t *ratchetTree) chunks() []Piece {
	var out []Piece
	for low := uint64(0); low <= uint64(t.height); low += chunkLevels {
		c := chunkID{stratum: low / chunkLevels}
		for ; uint64(c.number)<<(low+chunkLevels) < 2<<t.height; c.number++ {
			if p, there := t.chunk(c); there {
				out = append(out, p)
			}
		}
	}
	return out
}

// readChunk reads a chunk into nodes.
func readChunk(p Piece, nodes map[nodeIndex]nodeContent) error {
	r := tlspl.NewReader(p.Data.Clone())
	if v := r.Uint8(); v != chunkVersion {
		r.Fail(fmt.Errorf("version %d: %w", v, ErrStateVersion))
	}
	v := r.Vector(-1)
	for v.More() {
		x := nodeIndex(v.Uint32())
		if chunkOf(x).key() != p.Key {
			return failf(KindMalformed, "decode tree piece", ErrState, "node %d", x)
		}
		nodes[x] = readNode(v, x.isLeaf())
	}
	if err := r.Close(); err != nil {
		return fail(KindMalformed, "decode tree piece", err)
	}
	return nil
}
