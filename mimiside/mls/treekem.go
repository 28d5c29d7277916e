package mls

import (
	"bytes"
	"io"
	"slices"
)

// keyFinder returns the private key of a node when the pool has it, else nil.
type keyFinder func(x nodeIndex) Secret

const labelUpdatePathNode = "UpdatePathNode"

// pathContents builds the parent nodes of a new path with the given public keys, and the parent hash that the leaf
// carries (RFC 9420 §7.5, §7.9). The edit must be finished, so that the hashes of the siblings are right.
func pathContents(suite Suite, steps []pathStep, keys func(i int) []byte) (map[nodeIndex]*parentNode, []byte) {
	h := hasher{suite: suite}
	contents := make(map[nodeIndex]*parentNode, len(steps))
	var link []byte
	for i := len(steps) - 1; i >= 0; i-- {
		p := &parentNode{EncryptionKey: keys(i), ParentHash: link}
		contents[steps[i].x] = p
		link = h.linkHash(p, steps[i].copath.n.hash)
	}
	return contents, link
}

// recipients returns the nodes that the path secret of a step is encrypted to: the resolution of the copath child
// without the leaves that the same commit adds (RFC 9420 §7.5).
func (t *ratchetTree) recipients(s pathStep, added []LeafIndex) []nodeIndex {
	res := t.resolution(nil, s.copath, noLimit)
	if len(added) == 0 {
		return res
	}
	return slices.DeleteFunc(res, func(x nodeIndex) bool {
		if !x.isLeaf() {
			return false
		}
		_, there := slices.BinarySearch(added, x.leaf())
		return there
	})
}

// applyPath checks an update path against the tree and puts it in (RFC 9420 §12.4.2). The edit must be finished, with
// all proposals applied; added (sorted) are the leaves that the commit adds. It returns the filtered path.
func (e *treeEdit) applyPath(l LeafIndex, path *UpdatePath, added []LeafIndex) ([]pathStep, error) {
	const op = "apply update path"
	steps := e.filteredPath(l)
	if len(path.Nodes) != len(steps) {
		return nil, failf(KindInvalid, op, ErrPath, "%d nodes, want %d", len(path.Nodes), len(steps))
	}
	seen := map[string]bool{string(path.Leaf.EncryptionKey): true}
	if e.hasKey(useEncryption, path.Leaf.EncryptionKey) {
		return nil, failf(KindInvalid, op, ErrDuplicateKey, "leaf")
	}
	for i, s := range steps {
		key := path.Nodes[i].EncryptionKey
		if seen[string(key)] || e.hasKey(useEncryption, key) {
			return nil, failf(KindInvalid, op, ErrDuplicateKey, "node %d", s.x)
		}
		seen[string(key)] = true
		if err := CheckPublicKey(e.suite, key); err != nil {
			return nil, fail(KindInvalid, op, err)
		}
		if n := len(e.recipients(s, added)); n != len(path.Nodes[i].PathSecrets) {
			return nil, failf(KindInvalid, op, ErrPath, "%d ciphertexts at node %d, want %d", len(path.Nodes[i].PathSecrets), s.x, n)
		}
	}
	contents, link := pathContents(e.suite, steps, func(i int) []byte { return path.Nodes[i].EncryptionKey })
	if !bytes.Equal(link, path.Leaf.ParentHash) {
		return nil, failf(KindInvalid, op, ErrParentHash, "leaf %d", l)
	}
	e.setPath(l, keepLeaf(&path.Leaf), contents)
	if e.clash {
		return nil, failf(KindInvalid, op, ErrDuplicateKey, "leaf")
	}
	return steps, nil
}

// keepLeaf returns a leaf that does not keep the whole message alive that it was decoded from.
func keepLeaf(l *LeafNode) *LeafNode {
	kept, err := UnmarshalLeafNode(bytes.Clone(l.Marshal()))
	if err != nil {
		return l
	}
	return kept
}

// openPath decrypts the path secret of the lowest step for which the pool has a key: one HPKE decryption. It returns
// the number of that step. The tree must not have changed off the path since applyPath.
func (e *treeEdit) openPath(steps []pathStep, path *UpdatePath, added []LeafIndex, keys keyFinder, context []byte) (int, Secret, error) {
	for i, s := range steps {
		for j, x := range e.recipients(s, added) {
			priv := keys(x)
			if priv == nil {
				continue
			}
			secret, err := DecryptWithLabel(e.suite, priv, labelUpdatePathNode, context, path.Nodes[i].PathSecrets[j])
			if err != nil {
				return 0, nil, fail(KindInvalid, "decrypt path secret", err)
			}
			return i, secret, nil
		}
	}
	return 0, nil, failf(KindBug, "decrypt path secret", ErrPath, "no own leaf below any node of the path")
}

// deriveNode derives the key pair of a node from its path secret (RFC 9420 §7.4).
func deriveNode(suite Suite, pathSecret Secret) (Secret, []byte, error) {
	node := suite.DeriveSecret(pathSecret, "node")
	defer node.Wipe()
	return DeriveKeyPair(suite, node)
}

// nextPathSecret is the path secret one node up; above the last node it is the commit secret (RFC 9420 §7.4).
func nextPathSecret(suite Suite, secret Secret) Secret { return suite.DeriveSecret(secret, "path") }

// climb derives private keys from a path secret upwards, checks them against the public keys, and returns them by
// node, and the commit secret. have, where not nil, gives keys that the pool knows already: from there on nothing is
// derived and the commit secret is nil.
func climb(suite Suite, steps []placed, secret Secret, have keyFinder) (map[nodeIndex]Secret, Secret, error) {
	keys := make(map[nodeIndex]Secret, len(steps))
	for _, s := range steps {
		if have != nil && have(s.x) != nil {
			return keys, nil, nil
		}
		priv, pub, err := deriveNode(suite, secret)
		if err != nil {
			return nil, nil, err
		}
		if s.n.parent == nil || !bytes.Equal(pub, s.n.parent.EncryptionKey) {
			return nil, nil, failf(KindInvalid, "derive path keys", ErrPathSecret, "node %d", s.x)
		}
		keys[s.x] = priv
		secret = nextPathSecret(suite, secret)
	}
	return keys, secret, nil
}

// ownPath is a path that an own leaf made.
type ownPath struct {
	steps        []pathStep
	leafKey      Secret
	keys         map[nodeIndex]Secret
	secrets      []Secret // path secret of each step
	commitSecret Secret
}

// makePath gives a leaf a fresh path and puts it into the tree (RFC 9420 §7.5). The edit must be finished, with all
// proposals applied. template is the leaf to be signed; its encryption key, source and parent hash are set here.
func (e *treeEdit) makePath(rand io.Reader, l LeafIndex, template LeafNode, key *SignatureKey, groupID []byte) (*ownPath, *LeafNode, error) {
	const op = "make update path"
	p := &ownPath{steps: e.filteredPath(l), keys: map[nodeIndex]Secret{}}
	var err error
	leaf := template
	if p.leafKey, leaf.EncryptionKey, err = GenerateKeyPair(rand, e.suite); err != nil {
		return nil, nil, fail(KindBug, op, err)
	}
	secret, err := randomBytes(rand, e.suite.HashLength())
	if err != nil {
		return nil, nil, fail(KindBug, op, err)
	}
	pubs := make([][]byte, len(p.steps))
	for i, s := range p.steps {
		p.secrets = append(p.secrets, secret)
		if p.keys[s.x], pubs[i], err = deriveNode(e.suite, secret); err != nil {
			return nil, nil, fail(KindBug, op, err)
		}
		secret = nextPathSecret(e.suite, secret)
	}
	p.commitSecret = secret
	contents, link := pathContents(e.suite, p.steps, func(i int) []byte { return pubs[i] })
	leaf.Source, leaf.ParentHash, leaf.Lifetime = LeafSourceCommit, link, Lifetime{}
	if err := leaf.Sign(key, LeafNodeContext{GroupID: groupID, Index: l}); err != nil {
		return nil, nil, fail(KindBug, op, err)
	}
	e.setPath(l, &leaf, contents)
	if e.clash {
		return nil, nil, failf(KindInvalid, op, ErrDuplicateKey, "leaf %d", l)
	}
	return p, &leaf, nil
}

// seal encrypts the path secrets to their recipients (RFC 9420 §7.6). context is the encoding of the provisional
// GroupContext, whose tree hash covers the new path.
func (p *ownPath) seal(e *treeEdit, leaf *LeafNode, added []LeafIndex, context []byte) (*UpdatePath, error) {
	path := &UpdatePath{Leaf: *leaf}
	for i, s := range p.steps {
		node := UpdatePathNode{EncryptionKey: e.at(s.x).parent.EncryptionKey}
		for _, x := range e.recipients(s, added) {
			c, err := EncryptWithLabel(e.suite, e.at(x).publicKey(), labelUpdatePathNode, context, p.secrets[i])
			if err != nil {
				return nil, fail(KindBug, "encrypt path secret", err)
			}
			node.PathSecrets = append(node.PathSecrets, c)
		}
		path.Nodes = append(path.Nodes, node)
	}
	return path, nil
}

// secretFor returns the path secret that a new member at leaf l is given: that of the lowest node of the path above
// it (RFC 9420 §12.4.3.1).
func (p *ownPath) secretFor(l LeafIndex) Secret {
	for i, s := range p.steps {
		if s.x.under(l) {
			return p.secrets[i]
		}
	}
	return nil
}

// sharedPath returns the nodes of the filtered path of committer that are above l too, lowest first: where the path
// secret of a Welcome belongs.
func (t *ratchetTree) sharedPath(committer, l LeafIndex) []placed {
	var out []placed
	for _, s := range t.filteredPath(committer) {
		if s.x.under(l) {
			out = append(out, s.placed)
		}
	}
	return out
}
