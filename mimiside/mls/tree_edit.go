package mls

import (
	"slices"
)

// treeEdit builds the tree of the next epoch beside the present one. Nodes are copied the first time that they are
// touched and then changed in place, until finish hashes what changed and makes the result immutable.
type treeEdit struct {
	ratchetTree // the tree as edited so far; its hashes are valid only after finish
	suite       Suite
	base        *ratchetTree
	changed     map[nodeIndex]struct{}   // nodes whose content was set or blanked
	keyDiff     map[keyID]keyChange      // differences to base.index.at
	countDiff   map[statKey]int32        // differences to base.index.count
	fresh       map[*parentNode]struct{} // parent contents that no other tree shares
	clash       bool                     // a key was put that another node has
}

// keyChange is the node of a key after an edit, or the fact that no node has it.
type keyChange struct {
	x    nodeIndex
	gone bool
}

// edit starts an edit of t.
func (t *ratchetTree) edit(suite Suite) *treeEdit {
	return &treeEdit{
		ratchetTree: *t, suite: suite, base: t, changed: map[nodeIndex]struct{}{},
		keyDiff: map[keyID]keyChange{}, countDiff: map[statKey]int32{}, fresh: map[*parentNode]struct{}{},
	}
}

// own returns n itself when this edit made it, else a copy.
func (e *treeEdit) own(n *treeNode) *treeNode {
	if n.owner == e {
		return n
	}
	c := *n
	c.owner, c.hash = e, nil
	return &c
}

// editTo calls f for the nodes from the root down to x; onlyLast restricts it to x itself. Counts are put right after.
func (e *treeEdit) editTo(x nodeIndex, onlyLast bool, f func(x nodeIndex, n *treeNode)) {
	var stack [maxTreeHeight + 1]*treeNode
	depth := 0
	e.root = e.own(e.root)
	n, at := e.root, rootOf(e.height)
	for {
		stack[depth] = n
		depth++
		if at == x || !onlyLast {
			f(at, n)
		}
		if at == x {
			break
		}
		if x < at {
			n.left = e.own(n.left)
			n, at = n.left, at.left()
		} else {
			n.right = e.own(n.right)
			n, at = n.right, at.right()
		}
	}
	for depth > 0 {
		depth--
		stack[depth].count()
	}
}

// count renews the counts of a node from its content and children.
func (n *treeNode) count() {
	n.leaves, n.filled = 0, 0
	if n.left != nil {
		n.leaves = n.left.leaves + n.right.leaves
		n.filled = n.left.filled + n.right.filled
	} else if n.leaf != nil {
		n.leaves = 1
	}
	if !n.blank() {
		n.filled++
	}
}

// put sets the content of a node that the edit owns and keeps the index in step.
func (e *treeEdit) put(x nodeIndex, n *treeNode, leaf *LeafNode, parent *parentNode) {
	if n.blank() && leaf == nil && parent == nil {
		return
	}
	e.unkey(x, n)
	if n.leaf != nil {
		eachStat(n.leaf, func(k statKey) { e.countDiff[k]-- })
	}
	n.leaf, n.parent = leaf, parent
	e.changed[x] = struct{}{}
	if leaf != nil {
		e.key(keyIDOf(useEncryption, leaf.EncryptionKey), x)
		e.key(keyIDOf(useSignature, leaf.SignatureKey), x)
		eachStat(leaf, func(k statKey) { e.countDiff[k]++ })
	} else if parent != nil {
		e.key(keyIDOf(useEncryption, parent.EncryptionKey), x)
	}
}

func (e *treeEdit) unkey(x nodeIndex, n *treeNode) {
	drop := func(id keyID) {
		if at, there := e.findKey(id); there && at == x {
			e.keyDiff[id] = keyChange{gone: true}
		}
	}
	if n.leaf != nil {
		drop(keyIDOf(useEncryption, n.leaf.EncryptionKey))
		drop(keyIDOf(useSignature, n.leaf.SignatureKey))
	} else if n.parent != nil {
		drop(keyIDOf(useEncryption, n.parent.EncryptionKey))
	}
}

func (e *treeEdit) key(id keyID, x nodeIndex) {
	if at, there := e.findKey(id); there && at != x {
		e.clash = true
	}
	e.keyDiff[id] = keyChange{x: x}
}

// findKey returns the node that has a key after the edit so far.
func (e *treeEdit) findKey(id keyID) (nodeIndex, bool) {
	if d, there := e.keyDiff[id]; there {
		return d.x, !d.gone
	}
	x, there := e.base.index.at[id]
	return x, there
}

// hasKey tells whether any node has the public key after the edit so far.
func (e *treeEdit) hasKey(use byte, key []byte) bool {
	_, there := e.findKey(keyIDOf(use, key))
	return there
}

// stat returns how many members use or support k after the edit so far.
func (e *treeEdit) stat(k statKey) int { return int(e.base.index.count[k] + e.countDiff[k]) }

// allSupport tells whether every member supports k after the edit so far.
func (e *treeEdit) allSupport(k statKey) bool { return e.stat(k) == int(e.root.leaves) }

// mergeIndex brings the index of the base up to date; the edited tree shares it. The base must not be edited
// afterwards.
func (e *treeEdit) mergeIndex() {
	ix := e.base.index
	for id, d := range e.keyDiff {
		if d.gone {
			delete(ix.at, id)
		} else {
			ix.at[id] = d.x
		}
	}
	for k, d := range e.countDiff {
		if ix.count[k] += d; ix.count[k] == 0 {
			delete(ix.count, k)
		}
	}
	e.keyDiff, e.countDiff = nil, nil
}

// grow doubles the tree (RFC 9420 §7.7).
func (e *treeEdit) grow() error {
	if e.height == maxTreeHeight {
		return failf(KindLimit, "add a leaf", ErrTooMany, "tree has %d leaves", e.width())
	}
	old := e.root
	e.height++
	e.root = &treeNode{owner: e, left: old, right: e.blankTree(e.height - 1)}
	e.root.count()
	return nil
}

func (e *treeEdit) blankTree(height uint) *treeNode {
	n := &treeNode{owner: e}
	if height > 0 {
		n.left, n.right = e.blankTree(height-1), e.blankTree(height-1)
	}
	return n
}

// truncate halves the tree while its right half is blank (RFC 9420 §7.7).
func (e *treeEdit) truncate() {
	for e.height > 0 && e.root.right.filled == 0 {
		e.root = e.own(e.root)
		e.put(rootOf(e.height), e.root, nil, nil)
		e.root = e.root.left
		e.height--
	}
}

// firstBlank returns the leftmost blank leaf, false when all are taken.
func (e *treeEdit) firstBlank() (LeafIndex, bool) {
	if e.root.leaves == e.width() {
		return 0, false
	}
	n, x := e.root, rootOf(e.height)
	for !x.isLeaf() {
		if n.left.leaves < 1<<(x.level()-1) {
			n, x = n.left, x.left()
		} else {
			n, x = n.right, x.right()
		}
	}
	return x.leaf(), true
}

// add puts a leaf at the leftmost blank position and marks it unmerged in the non-blank nodes above (RFC 9420 §12.1.1).
func (e *treeEdit) add(leaf *LeafNode) (LeafIndex, error) {
	l, there := e.firstBlank()
	if !there {
		if err := e.grow(); err != nil {
			return 0, err
		}
		l, _ = e.firstBlank()
	}
	e.editTo(l.node(), false, func(x nodeIndex, n *treeNode) {
		if x.isLeaf() {
			e.put(x, n, leaf, nil)
		} else if n.parent != nil {
			e.addUnmerged(x, n, l)
		}
	})
	return l, nil
}

func (e *treeEdit) addUnmerged(x nodeIndex, n *treeNode, l LeafIndex) {
	if _, mine := e.fresh[n.parent]; !mine {
		c := *n.parent
		c.UnmergedLeaves = slices.Clone(c.UnmergedLeaves)
		n.parent = &c
		e.fresh[n.parent] = struct{}{}
	}
	p := n.parent
	if i, found := slices.BinarySearch(p.UnmergedLeaves, l); !found {
		p.UnmergedLeaves = slices.Insert(p.UnmergedLeaves, i, l)
	}
	e.changed[x] = struct{}{}
}

// dropKeys takes the keys of a leaf out of the index before a batch of updates, so that members that change their
// keys in one commit cannot be in each other's way.
func (e *treeEdit) dropKeys(l LeafIndex) { e.unkey(l.node(), e.at(l.node())) }

// setLeaf replaces a leaf and blanks the nodes above it: what Update does, and Remove with a nil leaf (RFC 9420
// §12.1.2, §12.1.3).
func (e *treeEdit) setLeaf(l LeafIndex, leaf *LeafNode) {
	e.editTo(l.node(), false, func(x nodeIndex, n *treeNode) {
		if x.isLeaf() {
			e.put(x, n, leaf, nil)
		} else {
			e.put(x, n, nil, nil)
		}
	})
}

// setPath gives the nodes of the filtered path their new contents, blanks the other nodes above l and sets the leaf.
// contents has one entry for each node of filteredPath(l), lowest first (RFC 9420 §7.5).
func (e *treeEdit) setPath(l LeafIndex, leaf *LeafNode, contents map[nodeIndex]*parentNode) {
	e.editTo(l.node(), false, func(x nodeIndex, n *treeNode) {
		if x.isLeaf() {
			e.put(x, n, leaf, nil)
		} else {
			e.put(x, n, nil, contents[x])
		}
	})
}

// setNode sets the content of one node as it is: used to rebuild a tree from its stored form.
func (e *treeEdit) setNode(x nodeIndex, leaf *LeafNode, parent *parentNode) {
	e.editTo(x, true, func(x nodeIndex, n *treeNode) { e.put(x, n, leaf, parent) })
}

// finish hashes what changed and returns the edited tree. The index still belongs to the base: see mergeIndex.
func (e *treeEdit) finish() *ratchetTree {
	h := hasher{suite: e.suite}
	h.finish(e, e.root, rootOf(e.height))
	clear(e.fresh)
	t := e.ratchetTree
	return &t
}

func (h *hasher) finish(e *treeEdit, n *treeNode, x nodeIndex) {
	if n.owner != e && n.hash != nil {
		return
	}
	if x.isLeaf() {
		n.hash = h.leafHash(x.leaf(), n.leaf)
	} else {
		h.finish(e, n.left, x.left())
		h.finish(e, n.right, x.right())
		n.hash = h.parentTreeHash(n.parent, n.left.hash, n.right.hash)
	}
	n.owner = nil
}
