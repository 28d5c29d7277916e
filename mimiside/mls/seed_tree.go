package mls

import (
	"maps"
	"slices"
)

// seedTree derives a secret for each leaf of a complete binary tree from the secret of its root, and keeps only what
// has not been used up: once a leaf's secret was taken, every secret that it could be derived from again is gone
// (RFC 9420 §9, §9.2). The secret tree of messages and the exporter tree of components are such trees.
type seedTree struct {
	suite  Suite
	height uint // 1<<height leaves
	seeds  map[nodeIndex]Secret
}

// newSeedTree takes root over.
func newSeedTree(suite Suite, height uint, root Secret) seedTree {
	return seedTree{suite: suite, height: height, seeds: map[nodeIndex]Secret{rootOf(height): root}}
}

// opening is what taking a leaf's secret does to a seedTree. It changes nothing until apply is called.
type opening struct {
	leaf Secret
	from nodeIndex // the seed that is used up
	kept []seed    // seeds of the nodes beside the way down
}

type seed struct {
	node   nodeIndex
	secret Secret
}

// open derives the secret of a leaf, false when it was taken before or the tree has no such leaf.
func (t *seedTree) open(leaf LeafIndex) (*opening, bool) {
	if uint64(leaf) >= 1<<t.height {
		return nil, false
	}
	target, at := leaf.node(), rootOf(t.height)
	secret, found := t.seeds[at]
	for !found && at != target { // walk down to the seed that covers the leaf
		at = childTowards(at, target)
		secret, found = t.seeds[at]
	}
	if !found {
		return nil, false
	}
	o := &opening{from: at}
	for at != target {
		left := t.suite.ExpandWithLabel(secret, "tree", []byte("left"), t.suite.HashLength())
		right := t.suite.ExpandWithLabel(secret, "tree", []byte("right"), t.suite.HashLength())
		if at != o.from {
			secret.Wipe()
		}
		if target < at {
			o.kept = append(o.kept, seed{at.right(), right})
			secret, at = left, at.left()
		} else {
			o.kept = append(o.kept, seed{at.left(), left})
			secret, at = right, at.right()
		}
	}
	o.leaf = secret
	return o, true
}

func childTowards(at, target nodeIndex) nodeIndex {
	if target < at {
		return at.left()
	}
	return at.right()
}

// apply makes the tree forget what the opening used up. The leaf's secret must have been used already: it is wiped.
func (t *seedTree) apply(o *opening) {
	t.seeds[o.from].Wipe()
	delete(t.seeds, o.from)
	for _, s := range o.kept {
		t.seeds[s.node] = s.secret
	}
	o.leaf.Wipe()
}

// nodes returns the nodes that have a seed, in ascending order.
func (t *seedTree) nodes() []nodeIndex { return slices.Sorted(maps.Keys(t.seeds)) }

// wipe forgets everything.
func (t *seedTree) wipe() {
	for _, s := range t.seeds {
		s.Wipe()
	}
	clear(t.seeds)
}
