package mls

import (
	"bytes"

	"pgregory.net/rapid"
)

// same fails the test when two byte strings differ.
func same(t rapid.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: %x, want %x", what, got, want)
	}
}

// ok fails the test when there is an error.
func ok(t rapid.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// forgetRaw makes a decoded structure forget the bytes it was decoded from, all the way down, so that encoding it
// again tests the encoder.
func forgetRaw(v any) {
	switch x := v.(type) {
	case *LeafNode:
		if x != nil {
			x.raw = nil
		}
	case *KeyPackage:
		if x != nil {
			x.raw = nil
			forgetRaw(&x.Leaf)
		}
	case *Proposal:
		if x != nil {
			forgetRaw(x.Add)
			forgetRaw(x.Update)
		}
	case *UpdatePath:
		if x != nil {
			forgetRaw(&x.Leaf)
		}
	case *Commit:
		if x != nil {
			for _, p := range x.Proposals {
				forgetRaw(p.Proposal)
			}
			forgetRaw(x.Path)
		}
	case *FramedContent:
		x.raw = nil
		forgetRaw(x.Proposal)
		forgetRaw(x.Commit)
	case *AuthenticatedContent:
		forgetRaw(&x.Content)
	case *PublicMessage:
		if x != nil {
			forgetRaw(&x.Content)
		}
	case *GroupInfo:
		if x != nil {
			x.raw = nil
		}
	case *MLSMessage:
		forgetRaw(x.Public)
		forgetRaw(x.GroupInfo)
		forgetRaw(x.KeyPackage)
	}
}

// recodeRatchetTree decodes the content of a ratchet_tree extension, forgets the bytes of its leaves and encodes it.
func recodeRatchetTree(b []byte) ([]byte, error) {
	t, err := unmarshalTree(SuiteX25519AES128Ed25519, b)
	if err != nil {
		return nil, err
	}
	var walk func(*treeNode)
	walk = func(n *treeNode) {
		if n != nil {
			forgetRaw(n.leaf)
			walk(n.left)
			walk(n.right)
		}
	}
	walk(t.root)
	return t.marshal(), nil
}
