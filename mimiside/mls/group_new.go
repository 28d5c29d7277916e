package mls

import (
	"bytes"
	"errors"
	"io"
	"time"
)

// check refuses a Config that cannot work.
func (c *Config) check(op string) error {
	if c.Validator == nil {
		return fail(KindBug, op, errors.New("Config has no Validator"))
	}
	return nil
}

// NewGroup makes a group of one member, in epoch 0 (RFC 9420 §11).
func NewGroup(rand io.Reader, now time.Time, cfg Config, params GroupParams) (*Group, error) {
	const op = "make group"
	if err := cfg.check(op); err != nil {
		return nil, err
	}
	suite, key := params.Suite, params.Creator.SignatureKey
	if err := suite.Check(); err != nil {
		return nil, fail(KindUnsupported, op, err)
	}
	if key == nil || key.Suite() != suite {
		return nil, failf(KindBug, op, ErrKey, "signature key is of another suite")
	}
	rules, err := parseRules(params.Extensions)
	if err != nil {
		return nil, fail(KindBug, op, err)
	}
	priv, pub, err := GenerateKeyPair(rand, suite)
	if err != nil {
		return nil, fail(KindBug, op, err)
	}
	leaf := &LeafNode{
		EncryptionKey: pub, Credential: params.Creator.Credential, Capabilities: params.Creator.Capabilities,
		Source: LeafSourceKeyPackage, Lifetime: params.Lifetime, Extensions: params.Creator.Extensions,
	}
	if err := leaf.Sign(key, LeafNodeContext{}); err != nil {
		return nil, fail(KindBug, op, err)
	}
	tree := buildTree(suite, 0, func(nodeIndex) nodeContent { return nodeContent{leaf: leaf} })
	tree.buildIndex()
	c := &leafChecker{suite: suite, groupID: params.GroupID, rules: rules, validator: cfg.Validator, now: now}
	if err := errors.Join(tree.validate(c), c.checkExternalSenders()); err != nil {
		return nil, fail(KindInvalid, op, err)
	}
	epochSecret, err := randomBytes(rand, suite.HashLength())
	if err != nil {
		return nil, fail(KindBug, op, err)
	}
	defer epochSecret.Wipe()
	context := GroupContext{Version: VersionMLS10, Suite: suite, GroupID: bytes.Clone(params.GroupID), TreeHash: tree.hash(),
		ConfirmedTranscriptHash: []byte{}, Extensions: params.Extensions}
	tag := deriveEpochSecrets(suite, epochSecret).confirmationTag(suite, nil)
	e := newEpoch(context, tree, rules, tag)
	e.setSecrets(epochSecret)
	g := newGroup(cfg, e)
	g.own[0] = &ownLeaf{signature: key, encryptionKey: priv}
	return g, nil
}

// treeFor decodes and validates the tree of a GroupInfo: in its extension or given apart (RFC 9420 §12.4.3.1). It
// checks the tree hash and the GroupInfo's signature too.
func treeFor(now time.Time, cfg *Config, info *GroupInfo, apart []byte) (*ratchetTree, *groupRules, error) {
	const op = "check ratchet tree"
	b, there := info.Extensions.Find(ExtensionRatchetTree)
	if !there {
		if b = bytes.Clone(apart); len(b) == 0 {
			return nil, nil, fail(KindMissing, op, ErrNoTree)
		}
	}
	suite := info.Context.Suite
	tree, err := unmarshalTree(suite, b)
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(tree.hash(), info.Context.TreeHash) {
		return nil, nil, fail(KindInvalid, op, ErrTreeHash)
	}
	if err := checkGroupInfo(info, tree); err != nil {
		return nil, nil, err
	}
	rules, err := parseRules(info.Context.Extensions)
	if err != nil {
		return nil, nil, err
	}
	c := &leafChecker{suite: suite, groupID: info.Context.GroupID, rules: rules, validator: cfg.Validator, now: now}
	if err := tree.validate(c); err != nil {
		return nil, nil, err
	}
	return tree, rules, c.checkExternalSenders()
}

// checkGroupInfo verifies the signature of a GroupInfo by its signer's leaf.
func checkGroupInfo(info *GroupInfo, tree *ratchetTree) error {
	signer := tree.leaf(info.Signer)
	if signer == nil {
		return failf(KindInvalid, "verify GroupInfo", ErrUnknownSender, "signer %d", info.Signer)
	}
	return info.Verify(signer.SignatureKey)
}

// NewPublicGroup starts to follow a group as a public view, from a GroupInfo whose signature it checks.
func NewPublicGroup(now time.Time, cfg Config, params PublicGroupParams) (*Group, error) {
	const op = "follow group"
	if err := cfg.check(op); err != nil {
		return nil, err
	}
	if params.GroupInfo == nil {
		return nil, fail(KindBug, op, ErrGroupInfo)
	}
	info, err := UnmarshalGroupInfo(bytes.Clone(params.GroupInfo.Marshal()))
	if err != nil {
		return nil, err
	}
	if err := info.Context.Suite.Check(); err != nil {
		return nil, fail(KindUnsupported, op, err)
	}
	tree, rules, err := treeFor(now, &cfg, info, params.Tree)
	if err != nil {
		return nil, fail(KindInvalid, op, err)
	}
	return newGroup(cfg, newEpoch(info.Context, tree, rules, info.ConfirmationTag)), nil
}

// CheckKeyPackage tells whether a KeyPackage could be added to the group now: signatures, lifetime, capabilities,
// credential, and that the client is no member yet (RFC 9420 §10.1, §7.3).
func (g *Group) CheckKeyPackage(now time.Time, kp *KeyPackage) error {
	const op = "check KeyPackage"
	list := &proposalList{committer: nobody, rules: g.cur.rules,
		items: []ResolvedProposal{{Sender: MemberSender(nobody), Proposal: &Proposal{Type: ProposalAdd, Add: kp}}}}
	if !kp.Leaf.Lifetime.Contains(uint64(max(now.Unix(), 0))) {
		return fail(KindInvalid, op, ErrLifetime)
	}
	e := g.cur.tree.edit(g.suite)
	if err := list.applyMembership(e); err != nil {
		return fail(KindInvalid, op, err)
	}
	c := &leafChecker{suite: g.suite, groupID: g.groupID, rules: g.cur.rules, validator: g.cfg.Validator, now: now}
	if err := list.checkMembers(c, g.cur.tree, e); err != nil {
		return fail(KindInvalid, op, err)
	}
	return nil
}
