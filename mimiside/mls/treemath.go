package mls

import "math/bits"

// Tree math of RFC 9420 Appendix C: nodes of a complete binary tree are numbered in order, leaves are even, parents
// odd. A tree is described by its height: 1<<height leaves, 2<<height − 1 nodes.

// nodeIndex numbers a node of the ratchet tree in the array form of RFC 9420 §4.1.1.
type nodeIndex uint32

// maxTreeHeight bounds the trees that the engine handles: 131,072 leaves. A blank node takes one byte of input and a
// hundred of memory, so the bound is what keeps a small input from becoming a large tree.
const maxTreeHeight = 17

// node returns the node of a leaf.
func (l LeafIndex) node() nodeIndex { return nodeIndex(l) << 1 }

func (x nodeIndex) isLeaf() bool { return x&1 == 0 }

// leaf returns the leaf at an even node.
func (x nodeIndex) leaf() LeafIndex { return LeafIndex(x >> 1) }

// level is 0 for leaves, 1 for their parents and so on.
func (x nodeIndex) level() uint { return uint(bits.TrailingZeros32(^uint32(x))) }

// left returns the left child; x must not be a leaf.
func (x nodeIndex) left() nodeIndex { return x ^ (1 << (x.level() - 1)) }

// right returns the right child; x must not be a leaf.
func (x nodeIndex) right() nodeIndex { return x ^ (3 << (x.level() - 1)) }

// parent returns the parent of x in an endless tree: the caller stops at the root.
func (x nodeIndex) parent() nodeIndex {
	k := x.level()
	return (x | 1<<k) &^ (1 << (k + 1))
}

// sibling returns the other child of the parent of x.
func (x nodeIndex) sibling() nodeIndex {
	p := x.parent()
	if x < p {
		return p.right()
	}
	return p.left()
}

// rootOf returns the root of a tree with 1<<height leaves.
func rootOf(height uint) nodeIndex { return 1<<height - 1 }

// heightFor returns the smallest height whose tree holds n leaves; n ≥ 1.
func heightFor(n uint32) uint {
	if n <= 1 {
		return 0
	}
	return uint(bits.Len32(n - 1))
}

// under tells whether leaf l is in the subtree of x.
func (x nodeIndex) under(l LeafIndex) bool {
	k := x.level()
	return uint32(l)>>k == uint32(x)>>(k+1)
}

// firstLeaf returns the leftmost leaf of the subtree of x.
func (x nodeIndex) firstLeaf() LeafIndex {
	k := x.level()
	return LeafIndex(uint32(x) >> (k + 1) << k)
}
