package mls

import (
	"crypto/sha256"
	"slices"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// ratchetTree is the public ratchet tree of one epoch (RFC 9420 §7). It never changes once built: an edit copies the
// nodes on the way from the root to what it changes and shares the rest, and every node carries its tree hash. So the
// tree of the next epoch costs as many nodes as it differs in, and giving it up costs nothing.
type ratchetTree struct {
	height uint // 1<<height leaves
	root   *treeNode
	index  *treeIndex
}

// treeNode is one node. leaf is set at a non-blank leaf, parent at a non-blank parent node, neither at a blank one.
type treeNode struct {
	left, right *treeNode
	leaf        *LeafNode
	parent      *parentNode
	hash        []byte    // tree hash of the subtree, nil while the owner edits it
	owner       *treeEdit // the edit that may change this node in place
	leaves      uint32    // non-blank leaves in the subtree
	filled      uint32    // non-blank nodes in the subtree
}

// parentNode is the content of a non-blank parent node (RFC 9420 §7.1).
type parentNode struct {
	EncryptionKey  []byte
	ParentHash     []byte
	UnmergedLeaves []LeafIndex // sorted
}

func (p *parentNode) append(b []byte) []byte {
	b = tlspl.AppendOpaque(b, p.EncryptionKey)
	b = tlspl.AppendOpaque(b, p.ParentHash)
	b = tlspl.AppendLength(b, 4*len(p.UnmergedLeaves))
	for _, l := range p.UnmergedLeaves {
		b = tlspl.AppendUint32(b, uint32(l))
	}
	return b
}

func readParentNode(r *tlspl.Reader) *parentNode {
	p := &parentNode{EncryptionKey: r.Opaque(-1), ParentHash: r.Opaque(-1)}
	p.UnmergedLeaves = readList(r, maxMembers, func(r *tlspl.Reader) LeafIndex { return LeafIndex(r.Uint32()) })
	for i := 1; i < len(p.UnmergedLeaves); i++ {
		if p.UnmergedLeaves[i-1] >= p.UnmergedLeaves[i] {
			r.Fail(ErrOrder)
		}
	}
	return p
}

func (n *treeNode) blank() bool { return n.leaf == nil && n.parent == nil }

// width is the number of leaf positions.
func (t *ratchetTree) width() uint32 { return 1 << t.height }

// memberCount is the number of non-blank leaves.
func (t *ratchetTree) memberCount() uint32 { return t.root.leaves }

// at returns the node with index x, nil when the tree has no such node.
func (t *ratchetTree) at(x nodeIndex) *treeNode {
	if uint64(x) >= 2<<t.height-1 {
		return nil
	}
	n, at := t.root, rootOf(t.height)
	for at != x {
		if x < at {
			n, at = n.left, at.left()
		} else {
			n, at = n.right, at.right()
		}
	}
	return n
}

// leaf returns the member at i, nil when the position is blank or outside the tree.
func (t *ratchetTree) leaf(i LeafIndex) *LeafNode {
	if uint32(i) >= t.width() {
		return nil
	}
	return t.at(i.node()).leaf
}

// hash is the tree hash of the whole tree (RFC 9420 §7.8).
func (t *ratchetTree) hash() []byte { return t.root.hash }

// each calls f for every member from left to right until f returns false.
func (t *ratchetTree) each(f func(LeafIndex, *LeafNode) bool) {
	eachLeaf(t.root, rootOf(t.height), f)
}

func eachLeaf(n *treeNode, x nodeIndex, f func(LeafIndex, *LeafNode) bool) bool {
	if n.leaves == 0 {
		return true
	}
	if x.isLeaf() {
		return f(x.leaf(), n.leaf)
	}
	return eachLeaf(n.left, x.left(), f) && eachLeaf(n.right, x.right(), f)
}

// eachNode calls f for every non-blank node, children before parents.
func eachNode(n *treeNode, x nodeIndex, f func(nodeIndex, *treeNode)) {
	if n.filled == 0 {
		return
	}
	if !x.isLeaf() {
		eachNode(n.left, x.left(), f)
		eachNode(n.right, x.right(), f)
	}
	if !n.blank() {
		f(x, n)
	}
}

// placed is a node together with its index.
type placed struct {
	x nodeIndex
	n *treeNode
}

// pathStep is one parent on the way from a leaf to the root, with the child that is off the way.
type pathStep struct {
	placed
	copath placed
}

// directPath returns the parents of a leaf from the lowest to the root (RFC 9420 §4.1.2).
func (t *ratchetTree) directPath(l LeafIndex) []pathStep {
	steps := make([]pathStep, t.height)
	n, x := t.root, rootOf(t.height)
	for i := int(t.height) - 1; i >= 0; i-- {
		s := &steps[i]
		s.placed = placed{x, n}
		left, right := placed{x.left(), n.left}, placed{x.right(), n.right}
		next := left
		s.copath = right
		if l.node() > x {
			next, s.copath = right, left
		}
		n, x = next.n, next.x
	}
	return steps
}

// filteredPath is directPath without the nodes whose child on the copath has an empty resolution (RFC 9420 §4.1.2).
func (t *ratchetTree) filteredPath(l LeafIndex) []pathStep {
	return slices.DeleteFunc(t.directPath(l), func(s pathStep) bool { return s.copath.n.filled == 0 })
}

// resolution appends the resolution of a node to out (RFC 9420 §4.1.1), and stops when it holds more than max nodes.
func (t *ratchetTree) resolution(out []nodeIndex, p placed, max int) []nodeIndex {
	switch n := p.n; {
	case n.filled == 0 || len(out) > max:
		return out
	case n.leaf != nil:
		return append(out, p.x)
	case n.parent != nil:
		out = append(out, p.x)
		for _, l := range n.parent.UnmergedLeaves {
			out = append(out, l.node())
		}
		return out
	default:
		out = t.resolution(out, placed{p.x.left(), n.left}, max)
		return t.resolution(out, placed{p.x.right(), n.right}, max)
	}
}

const noLimit = int(^uint(0) >> 1)

// publicKey returns the encryption key of a non-blank node.
func (n *treeNode) publicKey() []byte {
	if n.leaf != nil {
		return n.leaf.EncryptionKey
	}
	return n.parent.EncryptionKey
}

// hasher computes hashes of one suite into one buffer.
type hasher struct {
	suite Suite
	buf   []byte
}

// leafHash is the tree hash of a leaf position (RFC 9420 §7.8).
func (h *hasher) leafHash(l LeafIndex, leaf *LeafNode) []byte {
	b := tlspl.AppendUint32(append(h.buf[:0], byte(NodeLeaf)), uint32(l))
	if leaf == nil {
		b = append(b, 0)
	} else {
		b = leaf.append(append(b, 1))
	}
	h.buf = b
	return h.suite.Hash(b)
}

// parentHash is the tree hash of a parent position over the hashes of its children (RFC 9420 §7.8).
func (h *hasher) parentTreeHash(p *parentNode, left, right []byte) []byte {
	b := append(h.buf[:0], byte(NodeParent))
	if p == nil {
		b = append(b, 0)
	} else {
		b = p.append(append(b, 1))
	}
	b = tlspl.AppendOpaque(b, left)
	b = tlspl.AppendOpaque(b, right)
	h.buf = b
	return h.suite.Hash(b)
}

// linkHash is the parent hash that the child on the path stores about parent p, whose other child had the tree hash
// sibling when p was set (RFC 9420 §7.9, ParentHashInput).
func (h *hasher) linkHash(p *parentNode, sibling []byte) []byte {
	b := tlspl.AppendOpaque(h.buf[:0], p.EncryptionKey)
	b = tlspl.AppendOpaque(b, p.ParentHash)
	b = tlspl.AppendOpaque(b, sibling)
	h.buf = b
	return h.suite.Hash(b)
}

// hashWithout is the tree hash of a subtree with the given leaves (sorted) taken out: blank, and in no list of
// unmerged leaves. It is the "original sibling tree hash" of RFC 9420 §7.9. Subtrees that hold none of the leaves
// answer from their cached hash.
func (h *hasher) hashWithout(p placed, without []LeafIndex) []byte {
	k := p.x.level()
	first := p.x.firstLeaf()
	from, _ := slices.BinarySearch(without, first)
	to, _ := slices.BinarySearch(without, first+1<<k)
	without = without[from:to]
	if len(without) == 0 {
		return p.n.hash
	}
	if p.x.isLeaf() {
		return h.leafHash(p.x.leaf(), nil)
	}
	left := h.hashWithout(placed{p.x.left(), p.n.left}, without)
	right := h.hashWithout(placed{p.x.right(), p.n.right}, without)
	parent := p.n.parent
	if parent != nil {
		copied := *parent
		copied.UnmergedLeaves = slices.DeleteFunc(slices.Clone(parent.UnmergedLeaves), func(l LeafIndex) bool {
			_, found := slices.BinarySearch(without, l)
			return found
		})
		parent = &copied
	}
	return h.parentTreeHash(parent, left, right)
}

// treeIndex answers questions about all members without a walk over the tree: which node has a public key, and how
// many members use or support something. It belongs to the tree of the current epoch; an edit keeps its differences
// aside until it is merged.
type treeIndex struct {
	at    map[keyID]nodeIndex
	count map[statKey]int32
}

// statKey names something that members are counted for.
type statKey struct {
	what  statKind
	value uint16
}

type statKind uint8

const (
	statCredentialUse statKind = iota + 1
	statCredentialSupport
	statExtensionSupport
	statProposalSupport
)

// eachStat calls f once for every value that a leaf is counted under.
func eachStat(leaf *LeafNode, f func(statKey)) {
	f(statKey{statCredentialUse, uint16(leaf.Credential.Type)})
	eachDistinct(leaf.Capabilities.Credentials, func(v uint16) { f(statKey{statCredentialSupport, v}) })
	eachDistinct(leaf.Capabilities.Extensions, func(v uint16) { f(statKey{statExtensionSupport, v}) })
	eachDistinct(leaf.Capabilities.Proposals, func(v uint16) { f(statKey{statProposalSupport, v}) })
}

func eachDistinct[T ~uint16](list []T, f func(uint16)) {
	if len(list) > 32 {
		list = slices.Clone(list)
		slices.Sort(list)
		list = slices.Compact(list)
	}
	for i, v := range list {
		if !slices.Contains(list[:i], v) || len(list) > 32 {
			f(uint16(v))
		}
	}
}

// keyID identifies a public key by a truncated SHA-256 of its use and bytes.
type keyID [16]byte

const (
	useEncryption byte = 1
	useSignature  byte = 2
)

func keyIDOf(use byte, key []byte) keyID {
	var buf [200]byte
	sum := sha256.Sum256(append(append(buf[:0], use), key...))
	return keyID(sum[:16])
}

// buildIndex builds the index of a tree. The bool is false when two nodes share a key.
func (t *ratchetTree) buildIndex() bool {
	ix := &treeIndex{at: make(map[keyID]nodeIndex, 3*int(t.root.leaves)), count: map[statKey]int32{}}
	unique := true
	put := func(use byte, key []byte, x nodeIndex) {
		id := keyIDOf(use, key)
		if _, there := ix.at[id]; there {
			unique = false
		}
		ix.at[id] = x
	}
	eachNode(t.root, rootOf(t.height), func(x nodeIndex, n *treeNode) {
		put(useEncryption, n.publicKey(), x)
		if n.leaf != nil {
			put(useSignature, n.leaf.SignatureKey, x)
			eachStat(n.leaf, func(k statKey) { ix.count[k]++ })
		}
	})
	t.index = ix
	return unique
}
