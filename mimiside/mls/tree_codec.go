package mls

import (
	"fmt"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// nodeContent is what one node holds: neither field set means blank.
type nodeContent struct {
	leaf   *LeafNode
	parent *parentNode
}

// readNode reads a Node (RFC 9420 §7.8) that must be of the type that its position asks for.
func readNode(r *tlspl.Reader, leaf bool) nodeContent {
	switch t := NodeType(r.Uint8()); {
	case t == NodeLeaf && leaf:
		l := ReadLeafNode(r)
		return nodeContent{leaf: &l}
	case t == NodeParent && !leaf:
		return nodeContent{parent: readParentNode(r)}
	default:
		r.Fail(fmt.Errorf("node type %d: %w", t, ErrUnknownValue))
		return nodeContent{}
	}
}

func (n *treeNode) appendNode(b []byte) []byte {
	if n.leaf != nil {
		return n.leaf.append(append(b, byte(NodeLeaf)))
	}
	return n.parent.append(append(b, byte(NodeParent)))
}

// unmarshalTree decodes the content of a ratchet_tree extension (RFC 9420 §12.4.3.3), hashes it and indexes it. It
// refuses trees that do not end in a non-blank node and trees in which two nodes have the same key, and checks
// nothing else: see validate.
func unmarshalTree(suite Suite, b []byte) (*ratchetTree, error) {
	const op = "decode ratchet tree"
	var nodes []nodeContent
	r := tlspl.NewReader(b)
	v := r.Vector(-1)
	for v.More() {
		if len(nodes) == 2<<maxTreeHeight-1 {
			return nil, failf(KindLimit, op, ErrTooMany, "more than %d nodes", len(nodes))
		}
		var c nodeContent
		if v.Optional() {
			c = readNode(v, len(nodes)%2 == 0)
		}
		nodes = append(nodes, c)
	}
	if err := r.Close(); err != nil {
		return nil, fail(KindMalformed, op, err)
	}
	if len(nodes) == 0 {
		return nil, fail(KindMalformed, op, ErrEmpty)
	}
	if last := nodes[len(nodes)-1]; last.leaf == nil && last.parent == nil {
		return nil, failf(KindInvalid, op, ErrTree, "last node is blank")
	}
	height := heightFor(uint32(len(nodes)/2 + 1))
	t := buildTree(suite, height, func(x nodeIndex) nodeContent {
		if int(x) < len(nodes) {
			return nodes[x]
		}
		return nodeContent{}
	})
	if t.height > 0 && t.root.right.leaves == 0 {
		return nil, failf(KindInvalid, op, ErrTree, "right half has no member")
	}
	if t.root.leaves == 0 {
		return nil, failf(KindInvalid, op, ErrTree, "no member")
	}
	if !t.buildIndex() {
		return nil, fail(KindInvalid, op, ErrDuplicateKey)
	}
	return t, nil
}

// buildTree makes a tree of the given height and contents, and hashes it. It has no index yet.
func buildTree(suite Suite, height uint, content func(nodeIndex) nodeContent) *ratchetTree {
	h := hasher{suite: suite}
	return &ratchetTree{height: height, root: h.build(rootOf(height), content)}
}

func (h *hasher) build(x nodeIndex, content func(nodeIndex) nodeContent) *treeNode {
	c := content(x)
	n := &treeNode{leaf: c.leaf, parent: c.parent}
	if x.isLeaf() {
		n.hash = h.leafHash(x.leaf(), n.leaf)
	} else {
		n.left, n.right = h.build(x.left(), content), h.build(x.right(), content)
		n.hash = h.parentTreeHash(n.parent, n.left.hash, n.right.hash)
	}
	n.count()
	return n
}

// marshal returns the content of the ratchet_tree extension (RFC 9420 §12.4.3.3).
func (t *ratchetTree) marshal() []byte {
	return tlspl.AppendVector(make([]byte, 0, 256*int(t.root.leaves)), func(b []byte) []byte {
		b, _ = appendSubtree(b, t.root, 0) // blanks at the end are not written
		return b
	})
}

// appendSubtree writes nodes in order. blanks counts blank nodes that are held back until a non-blank one follows.
func appendSubtree(b []byte, n *treeNode, blanks int) ([]byte, int) {
	if n.left != nil {
		b, blanks = appendSubtree(b, n.left, blanks)
	}
	if n.blank() {
		blanks++
	} else {
		for ; blanks > 0; blanks-- {
			b = append(b, 0)
		}
		b = n.appendNode(append(b, 1))
	}
	if n.right != nil {
		b, blanks = appendSubtree(b, n.right, blanks)
	}
	return b, blanks
}
