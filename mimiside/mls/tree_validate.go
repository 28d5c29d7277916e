package mls

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// validateParents checks the parts of a received tree that concern parent nodes: their keys, lists of unmerged leaves (RFC 9420
// §12.4.3.1) and parent hashes (§7.9.2).
func (t *ratchetTree) validateParents(suite Suite) error {
	var err error
	h := hasher{suite: suite}
	eachNode(t.root, rootOf(t.height), func(x nodeIndex, n *treeNode) {
		if err != nil || n.parent == nil {
			return
		}
		if err = CheckPublicKey(suite, n.parent.EncryptionKey); err != nil {
			err = fail(KindInvalid, fmt.Sprintf("validate node %d", x), err)
		} else if !checkUnmerged(placed{x, n}) {
			err = failf(KindInvalid, "validate ratchet tree", ErrTree, "unmerged leaves of node %d", x)
		} else if !t.checkParentHash(&h, placed{x, n}) {
			err = failf(KindInvalid, "validate ratchet tree", ErrParentHash, "node %d", x)
		}
	})
	return err
}

// checkUnmerged tells whether every unmerged leaf of p is a member below p, and unmerged in all nodes in between.
func checkUnmerged(p placed) bool {
	for _, l := range p.n.parent.UnmergedLeaves {
		if !p.x.under(l) {
			return false
		}
		n, x := p.n, p.x
		for !x.isLeaf() {
			if n.parent != nil {
				if _, there := slices.BinarySearch(n.parent.UnmergedLeaves, l); !there {
					return false
				}
			}
			if l.node() < x {
				n, x = n.left, x.left()
			} else {
				n, x = n.right, x.right()
			}
		}
		if n.leaf == nil {
			return false
		}
	}
	return true
}

// checkParentHash tells whether p is parent-hash valid with respect to some node below it (RFC 9420 §7.9.2).
func (t *ratchetTree) checkParentHash(h *hasher, p placed) bool {
	left, right := placed{p.x.left(), p.n.left}, placed{p.x.right(), p.n.right}
	return t.linked(h, p, left, right) || t.linked(h, p, right, left)
}

// linked tells whether the resolution of child is the unmerged leaves of p below it and one more node, and whether
// that node carries the parent hash of p.
func (t *ratchetTree) linked(h *hasher, p, child, sibling placed) bool {
	unmerged := p.n.parent.UnmergedLeaves
	below := 0
	for _, l := range unmerged {
		if child.x.under(l) {
			below++
		}
	}
	res := t.resolution(nil, child, below+1)
	if len(res) != below+1 {
		return false
	}
	rest := slices.DeleteFunc(res, func(x nodeIndex) bool {
		if !x.isLeaf() {
			return false
		}
		_, there := slices.BinarySearch(unmerged, x.leaf())
		return there
	})
	if len(rest) != 1 {
		return false
	}
	d := t.at(rest[0])
	var have []byte
	if d.leaf != nil {
		have = d.leaf.ParentHash
	} else {
		have = d.parent.ParentHash
	}
	return len(have) > 0 && bytes.Equal(have, h.linkHash(p.n.parent, h.hashWithout(sibling, unmerged)))
}

// groupRules is what the extensions of a GroupContext ask of members and messages.
type groupRules struct {
	required    RequiredCapabilities
	external    []ExternalSender
	extensions  []ExtensionType // types that stand in the GroupContext
	dictionary  AppDataDictionary
	components  ComponentsList // that members must support
	safeAAD     bool
	safeAADs    ComponentsList
	mediaTypes  MediaTypeList
	wireFormats WireFormats
}

// parseRules decodes the extensions of a GroupContext that the engine knows.
func parseRules(list Extensions) (*groupRules, error) {
	const op = "decode GroupContext extensions"
	g := &groupRules{}
	var err error
	for _, x := range list {
		g.extensions = append(g.extensions, x.Type)
		switch x.Type {
		case ExtensionRequiredCapabilities:
			g.required, err = UnmarshalRequiredCapabilities(x.Data)
		case ExtensionExternalSenders:
			g.external, err = UnmarshalExternalSenders(x.Data)
		case ExtensionRequiredWireFormats:
			g.wireFormats, err = UnmarshalWireFormats(x.Data)
		case ExtensionAppDataDictionary:
			err = g.parseDictionary(x.Data)
		}
		if err != nil {
			return nil, fail(KindMalformed, op, err)
		}
	}
	return g, nil
}

func (g *groupRules) parseDictionary(data []byte) error {
	dict, err := UnmarshalAppDataDictionary(data)
	if err != nil {
		return err
	}
	if dict == nil {
		dict = AppDataDictionary{}
	}
	g.dictionary = dict
	if b, there := dict.Get(ComponentAppComponents); there {
		if g.components, err = UnmarshalComponentsList(b); err != nil {
			return err
		}
	}
	if b, there := dict.Get(ComponentSafeAAD); there {
		g.safeAAD = true
		if g.safeAADs, err = UnmarshalComponentsList(b); err != nil {
			return err
		}
	}
	if b, there := dict.Get(ComponentContentMediaTypes); there {
		if g.mediaTypes, err = UnmarshalMediaTypeList(b); err != nil {
			return err
		}
	}
	return nil
}

// checkAAD enforces SafeAAD (draft-ietf-mls-extensions-10 §2.10).
func (g *groupRules) checkAAD(aad []byte) error {
	if !g.safeAAD {
		return nil
	}
	_, err := UnmarshalSafeAAD(aad)
	return err
}

// admits checks that a member with the given leaf can be in a group of these rules (RFC 9420 §7.3, §11.1, §13;
// draft-ietf-mls-extensions-10 §3).
func (g *groupRules) admits(leaf *LeafNode) error {
	const op = "check capabilities"
	caps := &leaf.Capabilities
	if !caps.Supports(&g.required) {
		return failf(KindInvalid, op, ErrCapabilities, "required_capabilities")
	}
	for _, t := range g.extensions {
		if !caps.SupportsExtension(t) {
			return failf(KindInvalid, op, ErrCapabilities, "GroupContext extension 0x%04x", uint16(t))
		}
	}
	for i := range leaf.Extensions {
		if t := leaf.Extensions[i].Type; !caps.SupportsExtension(t) {
			return failf(KindInvalid, op, ErrCapabilities, "leaf extension 0x%04x is not listed", uint16(t))
		}
	}
	if !caps.SupportsCredential(leaf.Credential.Type) {
		return failf(KindInvalid, op, ErrCapabilities, "own credential type is not listed")
	}
	if err := g.admitsWireFormats(leaf); err != nil {
		return err
	}
	return g.admitsComponents(leaf)
}

func (g *groupRules) admitsWireFormats(leaf *LeafNode) error {
	var supported WireFormats
	if b, there := leaf.Extensions.Find(ExtensionSupportedWireFormats); there {
		var err error
		if supported, err = UnmarshalWireFormats(b); err != nil {
			return err
		}
	}
	for _, f := range g.wireFormats {
		if f > WireFormatKeyPackage && !supported.Contains(f) { // those of RFC 9420 need not be listed
			return failf(KindInvalid, "check capabilities", ErrCapabilities, "wire format 0x%04x", uint16(f))
		}
	}
	return nil
}

func (g *groupRules) admitsComponents(leaf *LeafNode) error {
	const op = "check capabilities"
	dict, err := leaf.Extensions.Dictionary()
	if err != nil {
		return err
	}
	if err := requireComponents(dict, ComponentAppComponents, g.components); err != nil {
		return err
	}
	if err := requireComponents(dict, ComponentSafeAAD, g.safeAADs); err != nil {
		return err
	}
	if len(g.mediaTypes) == 0 {
		return nil
	}
	var has MediaTypeList
	if b, there := dict.Get(ComponentContentMediaTypes); there {
		if has, err = UnmarshalMediaTypeList(b); err != nil {
			return err
		}
	}
	for _, m := range g.mediaTypes {
		if !slices.ContainsFunc(has, func(o MediaType) bool { return o.Type == m.Type }) {
			return failf(KindInvalid, op, ErrCapabilities, "media type %q", m.Type)
		}
	}
	return nil
}

// requireComponents checks that the list under id in a leaf's dictionary has all that the GroupContext asks for.
func requireComponents(dict AppDataDictionary, id ComponentID, required ComponentsList) error {
	if len(required) == 0 {
		return nil
	}
	var has ComponentsList
	if b, there := dict.Get(id); there {
		var err error
		if has, err = UnmarshalComponentsList(b); err != nil {
			return err
		}
	}
	for _, c := range required {
		if !has.Contains(c) {
			return failf(KindInvalid, "check capabilities", ErrCapabilities, "component 0x%04x in list 0x%04x", uint16(c), uint16(id))
		}
	}
	return nil
}

// leafChecker validates leaf nodes for one group (RFC 9420 §7.3).
type leafChecker struct {
	suite     Suite
	groupID   []byte
	rules     *groupRules
	validator CredentialValidator
	now       time.Time
	inTree    bool // CredentialCheck.InTree
}

// check validates everything about a leaf that can be said without the other members. replaces is the credential of
// the same member before, or nil.
func (c *leafChecker) check(l LeafIndex, leaf *LeafNode, replaces *Credential) error {
	op := fmt.Sprintf("validate leaf %d", l)
	if err := CheckPublicKey(c.suite, leaf.EncryptionKey); err != nil {
		return fail(KindInvalid, op, err)
	}
	if err := leaf.Verify(c.suite, LeafNodeContext{GroupID: c.groupID, Index: l}); err != nil {
		return fail(KindInvalid, op, err)
	}
	if err := c.rules.admits(leaf); err != nil {
		return fail(KindInvalid, op, err)
	}
	return c.credential(op, leaf, replaces)
}

func (c *leafChecker) credential(op string, leaf *LeafNode, replaces *Credential) error {
	err := c.validator.ValidateCredential(CredentialCheck{
		Credential: &leaf.Credential, SignatureKey: leaf.SignatureKey, Use: CredentialOfMember, Replaces: replaces, Now: c.now,
		InTree: c.inTree,
	})
	if err != nil {
		return &Error{Kind: KindInvalid, Op: op, Err: fmt.Errorf("%w: %w", ErrCredential, err)}
	}
	return nil
}

// checkExternalSenders validates the credentials of external_senders (RFC 9420 §12.1.8.1).
func (c *leafChecker) checkExternalSenders() error {
	for i := range c.rules.external {
		s := &c.rules.external[i]
		err := c.validator.ValidateCredential(CredentialCheck{
			Credential: &s.Credential, SignatureKey: s.SignatureKey, Use: CredentialOfExternalSender, Now: c.now,
		})
		if err != nil {
			return &Error{Kind: KindInvalid, Op: fmt.Sprintf("validate external sender %d", i), Err: fmt.Errorf("%w: %w", ErrCredential, err)}
		}
	}
	return nil
}

// validate checks a received tree whole (RFC 9420 §12.4.3.1): parents, every leaf, and that members can do with each
// other's credentials. Uniqueness of keys was checked when the tree was indexed.
func (t *ratchetTree) validate(c *leafChecker) error {
	if err := t.validateParents(c.suite); err != nil {
		return err
	}
	var err error
	known := *c
	known.inTree = true
	t.each(func(l LeafIndex, leaf *LeafNode) bool {
		err = known.check(l, leaf, nil)
		return err == nil
	})
	if err != nil {
		return err
	}
	for k, n := range t.index.count {
		support := statKey{statCredentialSupport, k.value}
		if k.what == statCredentialUse && n > 0 && t.index.count[support] != int32(t.root.leaves) {
			return failf(KindInvalid, "validate ratchet tree", ErrCapabilities, "credential type %d is not supported by all", k.value)
		}
	}
	return nil
}

// checkCredentialTypes checks that every member supports the credential type of leaf, and leaf those of all members
// (RFC 9420 §7.3). The leaf is in the tree already.
func (e *treeEdit) checkCredentialTypes(leaf *LeafNode) error {
	if !e.allSupport(statKey{statCredentialSupport, uint16(leaf.Credential.Type)}) {
		return failf(KindInvalid, "check capabilities", ErrCapabilities, "credential type %d is not supported by all", leaf.Credential.Type)
	}
	known := 0
	eachDistinct(leaf.Capabilities.Credentials, func(v uint16) { known += e.stat(statKey{statCredentialUse, v}) })
	if known != int(e.root.leaves) {
		return failf(KindInvalid, "check capabilities", ErrCapabilities, "leaf does not support the credential types of all")
	}
	return nil
}
