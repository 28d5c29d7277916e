package mls

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// acceptAll is a validator for tests that are not about credentials.
var acceptAll = ValidatorFunc(func(CredentialCheck) error { return nil })

func TestVectorsTreeMath(t *testing.T) {
	count := countVectors(t, "tree-math.json")
	type vector struct {
		Leaves  uint32    `json:"n_leaves"`
		Nodes   uint32    `json:"n_nodes"`
		Root    uint32    `json:"root"`
		Left    []*uint32 `json:"left"`
		Right   []*uint32 `json:"right"`
		Parent  []*uint32 `json:"parent"`
		Sibling []*uint32 `json:"sibling"`
	}
	for _, v := range loadVectors[vector](t, "tree-math.json") {
		height := heightFor(v.Leaves)
		if 1<<height != v.Leaves || 2<<height-1 != v.Nodes || uint32(rootOf(height)) != v.Root {
			t.Fatalf("%d leaves: height %d", v.Leaves, height)
		}
		same := func(what string, x uint32, want *uint32, there bool, got func() nodeIndex) {
			if (want != nil) != there || there && uint32(got()) != *want {
				t.Errorf("%d leaves: %s of %d is wrong", v.Leaves, what, x)
			}
		}
		for i := range v.Nodes {
			x := nodeIndex(i)
			same("left", i, v.Left[i], !x.isLeaf(), x.left)
			same("right", i, v.Right[i], !x.isLeaf(), x.right)
			same("parent", i, v.Parent[i], x != rootOf(height), x.parent)
			same("sibling", i, v.Sibling[i], x != rootOf(height), x.sibling)
		}
		count.ok()
	}
}

func TestVectorsTreeValidation(t *testing.T) {
	count := countVectors(t, "tree-validation.json")
	type vector struct {
		Suite       Suite         `json:"cipher_suite"`
		Tree        hexBytes      `json:"tree"`
		GroupID     hexBytes      `json:"group_id"`
		TreeHashes  []hexBytes    `json:"tree_hashes"`
		Resolutions [][]nodeIndex `json:"resolutions"`
	}
	for i, v := range loadVectors[vector](t, "tree-validation.json") {
		if !count.suite(v.Suite) {
			continue
		}
		tree, err := unmarshalTree(v.Suite, v.Tree)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		for x := range nodeIndex(len(v.TreeHashes)) {
			n := tree.at(x)
			if !bytes.Equal(n.hash, v.TreeHashes[x]) {
				t.Errorf("%d: tree hash of node %d differs", i, x)
			}
			if got := tree.resolution(nil, placed{x, n}, noLimit); !slices.Equal(got, v.Resolutions[x]) {
				t.Errorf("%d: resolution of node %d is %v, want %v", i, x, got, v.Resolutions[x])
			}
		}
		checker := &leafChecker{suite: v.Suite, groupID: v.GroupID, rules: &groupRules{}, validator: acceptAll, now: time.Unix(0, 0)}
		if err := tree.validate(checker); err != nil {
			t.Errorf("%d: %v", i, err)
		}
		if !bytes.Equal(tree.marshal(), v.Tree) {
			t.Errorf("%d: encoding differs", i)
		}
		count.ok()
	}
}

func TestVectorsTreeOperations(t *testing.T) {
	count := countVectors(t, "tree-operations.json")
	type vector struct {
		Suite      Suite     `json:"cipher_suite"`
		Before     hexBytes  `json:"tree_before"`
		Proposal   hexBytes  `json:"proposal"`
		Sender     LeafIndex `json:"proposal_sender"`
		HashBefore hexBytes  `json:"tree_hash_before"`
		After      hexBytes  `json:"tree_after"`
		HashAfter  hexBytes  `json:"tree_hash_after"`
	}
	for i, v := range loadVectors[vector](t, "tree-operations.json") {
		if !count.suite(v.Suite) {
			continue
		}
		tree, err := unmarshalTree(v.Suite, v.Before)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if !bytes.Equal(tree.hash(), v.HashBefore) {
			t.Errorf("%d: tree hash before differs", i)
		}
		p, err := UnmarshalProposal(v.Proposal)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		e := tree.edit(v.Suite)
		list := &proposalList{items: []ResolvedProposal{{Sender: MemberSender(v.Sender), Proposal: p}}}
		if err := list.applyMembership(e); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		after := e.finish()
		if !bytes.Equal(after.hash(), v.HashAfter) || !bytes.Equal(after.marshal(), v.After) {
			t.Errorf("%d: tree after differs", i)
		}
		if !bytes.Equal(tree.marshal(), v.Before) || !bytes.Equal(tree.hash(), v.HashBefore) {
			t.Errorf("%d: the edit changed the tree that it began with", i)
		}
		count.ok()
	}
}

type treekemVector struct {
	Suite      Suite     `json:"cipher_suite"`
	GroupID    hexBytes  `json:"group_id"`
	Epoch      uint64    `json:"epoch"`
	Transcript hexBytes  `json:"confirmed_transcript_hash"`
	Tree       hexBytes  `json:"ratchet_tree"`
	Private    []private `json:"leaves_private"`
	Paths      []struct {
		Sender        LeafIndex   `json:"sender"`
		Path          hexBytes    `json:"update_path"`
		PathSecrets   []*hexBytes `json:"path_secrets"`
		CommitSecret  hexBytes    `json:"commit_secret"`
		TreeHashAfter hexBytes    `json:"tree_hash_after"`
	} `json:"update_paths"`
}

type private struct {
	Index         LeafIndex `json:"index"`
	EncryptionKey hexBytes  `json:"encryption_priv"`
	SignatureKey  hexBytes  `json:"signature_priv"`
	PathSecrets   []struct {
		Node   nodeIndex `json:"node"`
		Secret hexBytes  `json:"path_secret"`
	} `json:"path_secrets"`
}

// keys returns the private keys that a member knows.
func (p *private) keys(t *testing.T, suite Suite, tree *ratchetTree) map[nodeIndex]Secret {
	keys := map[nodeIndex]Secret{p.Index.node(): Secret(p.EncryptionKey)}
	for _, s := range p.PathSecrets {
		got, _, err := climb(suite, []placed{{s.Node, tree.at(s.Node)}}, Secret(s.Secret), nil)
		if err != nil {
			t.Fatal(err)
		}
		keys[s.Node] = got[s.Node]
	}
	return keys
}

func TestVectorsTreeKEM(t *testing.T) {
	count := countVectors(t, "treekem.json")
	for i, v := range loadVectors[treekemVector](t, "treekem.json") {
		if !count.suite(v.Suite) {
			continue
		}
		tree, err := unmarshalTree(v.Suite, v.Tree)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		members := map[LeafIndex]map[nodeIndex]Secret{}
		for j := range v.Private {
			members[v.Private[j].Index] = v.Private[j].keys(t, v.Suite, tree)
		}
		context := GroupContext{Version: VersionMLS10, Suite: v.Suite, GroupID: v.GroupID, Epoch: v.Epoch, ConfirmedTranscriptHash: v.Transcript}
		for _, u := range v.Paths {
			path, err := UnmarshalUpdatePath(u.Path)
			if err != nil {
				t.Fatal(err)
			}
			e := tree.edit(v.Suite)
			steps, err := e.applyPath(u.Sender, path, nil)
			if err != nil {
				t.Fatalf("%d: %v", i, err)
			}
			after := e.finish()
			if !bytes.Equal(after.hash(), u.TreeHashAfter) {
				t.Errorf("%d: tree hash after differs", i)
			}
			context.TreeHash = after.hash()
			for l, keys := range members {
				if l == u.Sender {
					continue
				}
				from, secret, err := e.openPath(steps, path, nil, func(x nodeIndex) Secret { return keys[x] }, context.Marshal())
				if err != nil {
					t.Fatalf("%d: leaf %d: %v", i, l, err)
				}
				if want := u.PathSecrets[l]; want == nil || !secret.Equal(*want) {
					t.Errorf("%d: path secret of leaf %d differs", i, l)
				}
				_, commitSecret, err := climb(v.Suite, e.placedFrom(steps, from), secret, nil)
				if err != nil || !commitSecret.Equal(u.CommitSecret) {
					t.Errorf("%d: commit secret of leaf %d differs: %v", i, l, err)
				}
			}
		}
		testOwnPaths(t, v, tree, members, context)
		count.ok()
	}
}

// testOwnPaths lets every member of the vector make a path that every other member opens, as the file's description
// asks.
func testOwnPaths(t *testing.T, v treekemVector, tree *ratchetTree, members map[LeafIndex]map[nodeIndex]Secret, context GroupContext) {
	for j := range v.Private {
		sender := v.Private[j].Index
		key, err := NewSignatureKey(v.Suite, Secret(v.Private[j].SignatureKey))
		if err != nil {
			t.Fatal(err)
		}
		made := tree.edit(v.Suite)
		own, leaf, err := made.makePath(testRand(int64(j)), sender, *tree.leaf(sender), key, v.GroupID)
		if err != nil {
			t.Fatal(err)
		}
		context.TreeHash = made.finish().hash()
		path, err := own.seal(made, leaf, nil, context.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if path, err = UnmarshalUpdatePath(path.Marshal()); err != nil {
			t.Fatal(err)
		}
		e := tree.edit(v.Suite)
		steps, err := e.applyPath(sender, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(e.finish().hash(), context.TreeHash) {
			t.Fatal("maker and receiver have different trees")
		}
		for l, keys := range members {
			if l == sender {
				continue
			}
			from, secret, err := e.openPath(steps, path, nil, func(x nodeIndex) Secret { return keys[x] }, context.Marshal())
			if err != nil {
				t.Fatal(err)
			}
			if _, commitSecret, err := climb(v.Suite, e.placedFrom(steps, from), secret, nil); err != nil || !commitSecret.Equal(own.commitSecret) {
				t.Errorf("commit secret of leaf %d differs: %v", l, err)
			}
		}
	}
}

func TestTreeRefusals(t *testing.T) {
	suite := SuiteX25519AES128Ed25519
	if _, err := unmarshalTree(suite, []byte{0}); !errors.Is(err, ErrEmpty) {
		t.Errorf("empty tree: %v", err)
	}
	if _, err := unmarshalTree(suite, []byte{1, 0}); !errors.Is(err, ErrTree) {
		t.Errorf("blank last node: %v", err)
	}
	parent := &parentNode{EncryptionKey: make([]byte, 32)}
	node := parent.append([]byte{1, byte(NodeParent)})
	if _, err := unmarshalTree(suite, tlspl.AppendOpaque(nil, node)); !errors.Is(err, ErrUnknownValue) {
		t.Errorf("parent at a leaf: %v", err)
	}
	if _, err := unmarshalTree(suite, tlspl.AppendOpaque(nil, append([]byte{0}, node...))); !errors.Is(err, ErrTree) {
		t.Errorf("no member: %v", err)
	}
}

// placedFrom returns the nodes of a path from step i upwards as they are after the edit so far.
func (e *treeEdit) placedFrom(steps []pathStep, i int) []placed {
	out := make([]placed, 0, len(steps)-i)
	for _, s := range steps[i:] {
		out = append(out, placed{s.x, e.at(s.x)})
	}
	return out
}
