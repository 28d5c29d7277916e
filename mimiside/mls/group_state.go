package mls

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// epoch is everything about one epoch but the private keys of own leaves. Only its ratchets change.
type epoch struct {
	context GroupContext
	encoded []byte // the encoding of context
	rules   *groupRules
	tree    *ratchetTree
	tag     []byte // confirmation tag of the commit that led here
	interim []byte // interim transcript hash
	closed  bool   // the commit that led here was a ReInit

	// nil in a public view
	secrets *epochSecrets
	keys    *secretTree
	exports *exportTree
}

// newEpoch builds an epoch without secrets.
func newEpoch(context GroupContext, tree *ratchetTree, rules *groupRules, tag []byte) *epoch {
	return &epoch{
		context: context, encoded: context.Marshal(), rules: rules, tree: tree, tag: tag,
		interim: interimTranscriptHash(context.Suite, context.ConfirmedTranscriptHash, tag),
	}
}

// setSecrets derives the secrets of the epoch and hands two of them over to their trees.
func (e *epoch) setSecrets(epochSecret Secret) {
	suite := e.context.Suite
	e.secrets = deriveEpochSecrets(suite, epochSecret)
	e.keys = newSecretTree(suite, e.context.Epoch, e.tree.height, e.secrets.encryption)
	e.exports = newExportTree(suite, e.secrets.applicationExport)
	e.secrets.encryption, e.secrets.applicationExport = nil, nil
}

// pastEpoch is what is remembered of an epoch for late messages.
type pastEpoch struct {
	number     uint64
	encoded    []byte // GroupContext
	rules      *groupRules
	senderData Secret
	keys       *secretTree
	ended      time.Time
	// before holds the leaves that the commit which ended the epoch changed, as they were.
	before map[LeafIndex]pastLeaf
}

// pastLeaf is a leaf as it was; leaf is nil when it was blank.
type pastLeaf struct {
	leaf *LeafNode
	own  bool
}

// ownLeaf is the private side of one own leaf.
type ownLeaf struct {
	signature     *SignatureKey
	encryptionKey Secret
}

// Format prints [secret] whatever the verb is.
func (*ownLeaf) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, secretText) }

// proposalCache holds the proposals of the present epoch that wait for a commit, and the keys of own Updates.
type proposalCache struct {
	list    []cachedProposal
	updates []ownUpdate
	next    uint64 // number of the next piece of either kind
}

type cachedProposal struct {
	PendingProposal
	number uint64
}

// ownUpdate is the private side of an own Update proposal.
type ownUpdate struct {
	ownLeaf
	leaf   LeafIndex
	number uint64
}

func (c *proposalCache) find(ref []byte) *cachedProposal {
	for i := range c.list {
		if bytes.Equal(c.list[i].Ref, ref) {
			return &c.list[i]
		}
	}
	return nil
}

// updateFor finds the private side of an own Update by its leaf.
func (c *proposalCache) updateFor(suite Suite, l LeafIndex, leaf *LeafNode) *ownLeaf {
	for i := range c.updates {
		u := &c.updates[i]
		if u.leaf != l || !bytes.Equal(u.signature.Public(), leaf.SignatureKey) {
			continue
		}
		if pub, err := PublicKeyOf(suite, u.encryptionKey); err == nil && bytes.Equal(pub, leaf.EncryptionKey) {
			return &u.ownLeaf
		}
	}
	return nil
}

// newGroup returns a group in the given epoch without own leaves.
func newGroup(cfg Config, e *epoch) *Group {
	cfg.Limits = cfg.Limits.withDefaults()
	return &Group{
		cfg: cfg, suite: e.context.Suite, groupID: e.context.GroupID, cur: e,
		own: map[LeafIndex]*ownLeaf{}, path: map[nodeIndex]Secret{}, resumption: map[uint64]Secret{},
		pending: &proposalCache{},
	}
}

// era is an epoch as far as messages of it can be opened.
type era struct {
	encoded    []byte
	rules      *groupRules
	senderData Secret
	keys       *secretTree
	leaf       func(LeafIndex) pastLeaf
}

// eraOf finds the present or a remembered epoch.
func (g *Group) eraOf(now time.Time, number uint64) (*era, error) {
	const op = "find epoch of message"
	cur := g.cur.context.Epoch
	if number == cur {
		if g.cur.secrets == nil {
			return nil, fail(KindMissing, op, ErrNoSecrets)
		}
		return &era{g.cur.encoded, g.cur.rules, g.cur.secrets.senderData, g.cur.keys, g.leafNow}, nil
	}
	for i, p := range g.past {
		if p.number == number && now.Sub(p.ended) <= g.cfg.Limits.PastAge {
			at := func(l LeafIndex) pastLeaf { return g.leafThen(i, l) }
			return &era{p.encoded, p.rules, p.senderData, p.keys, at}, nil
		}
	}
	return nil, failf(KindEpoch, op, ErrWrongEpoch, "%d, the group is in %d", number, cur)
}

func (g *Group) leafNow(l LeafIndex) pastLeaf {
	_, own := g.own[l]
	return pastLeaf{g.cur.tree.leaf(l), own}
}

// leafThen returns a leaf as it was in the i-th past epoch.
func (g *Group) leafThen(i int, l LeafIndex) pastLeaf {
	for ; i >= 0; i-- {
		if was, changed := g.past[i].before[l]; changed {
			return was
		}
	}
	return g.leafNow(l)
}

// ownKey returns the private side of an own leaf.
func (g *Group) ownKey(op string, l LeafIndex) (*ownLeaf, error) {
	if o := g.own[l]; o != nil {
		return o, nil
	}
	return nil, failf(KindBug, op, ErrNotOwnLeaf, "leaf %d", l)
}

// open tells whether the group still takes messages and commits.
func (g *Group) open(op string) error {
	if g.cur.closed {
		return fail(KindInvalid, op, ErrReInit)
	}
	return nil
}

// aad returns the authenticated_data of an own message: what is given, or an empty SafeAAD where one is needed.
func (g *Group) aad(op string, given []byte) ([]byte, error) {
	if given == nil && g.cur.rules.safeAAD {
		return SafeAAD{}.Marshal(), nil
	}
	if err := g.cur.rules.checkAAD(given); err != nil {
		return nil, fail(KindBug, op, err)
	}
	return bytes.Clone(given), nil
}

// Context returns the present GroupContext.
func (g *Group) Context() *GroupContext {
	c := g.cur.context
	return &c
}

// Dictionary returns the app_data_dictionary of the GroupContext, nil when there is none.
func (g *Group) Dictionary() AppDataDictionary { return g.cur.rules.dictionary }

// Members returns all members from left to right.
func (g *Group) Members() []Member {
	out := make([]Member, 0, g.cur.tree.memberCount())
	g.cur.tree.each(func(l LeafIndex, leaf *LeafNode) bool {
		out = append(out, Member{l, leaf, g.own[l] != nil})
		return true
	})
	return out
}

// MemberCount returns the number of members.
func (g *Group) MemberCount() int { return int(g.cur.tree.memberCount()) }

// Member returns the member at a leaf, false when the leaf is blank.
func (g *Group) Member(leaf LeafIndex) (Member, bool) {
	n := g.cur.tree.leaf(leaf)
	return Member{leaf, n, g.own[leaf] != nil}, n != nil
}

// MemberBySignatureKey finds a member by its signature key.
func (g *Group) MemberBySignatureKey(key []byte) (Member, bool) {
	x, there := g.cur.tree.index.at[keyIDOf(useSignature, key)]
	if !there {
		return Member{}, false
	}
	return g.Member(x.leaf())
}

// OwnLeaves returns the own leaves in ascending order; empty for a public view.
func (g *Group) OwnLeaves() []LeafIndex { return slices.Sorted(maps.Keys(g.own)) }

// OwnCount returns how many own leaves there are.
func (g *Group) OwnCount() int { return len(g.own) }

// TreeHash returns the hash of the present tree.
func (g *Group) TreeHash() []byte { return g.cur.context.TreeHash }

// RatchetTree returns the present tree as content of the ratchet_tree extension.
func (g *Group) RatchetTree() []byte { return g.cur.tree.marshal() }

// ConfirmedTranscriptHash returns the confirmed transcript hash of the present epoch.
func (g *Group) ConfirmedTranscriptHash() []byte { return g.cur.context.ConfirmedTranscriptHash }

// ConfirmationTag returns the confirmation tag of the present epoch.
func (g *Group) ConfirmationTag() []byte { return g.cur.tag }

// Closed tells whether the group was closed by a ReInit.
func (g *Group) Closed() bool { return g.cur.closed }

// EpochAuthenticator returns the epoch authenticator (RFC 9420 §8.7), nil for a public view.
func (g *Group) EpochAuthenticator() []byte {
	if g.cur.secrets == nil {
		return nil
	}
	return g.cur.secrets.authenticator.Clone()
}

// ResumptionPSK returns the resumption PSK of the present epoch or of one that is remembered, for use in another
// group; nil when it is not known (RFC 9420 §8.6).
func (g *Group) ResumptionPSK(epoch uint64) Secret {
	if epoch == g.cur.context.Epoch && g.cur.secrets != nil {
		return g.cur.secrets.resumption.Clone()
	}
	return g.resumption[epoch].Clone()
}

// ExportSecret is MLS-Exporter (RFC 9420 §8.5).
func (g *Group) ExportSecret(label string, context []byte, length int) (Secret, error) {
	if g.cur.secrets == nil {
		return nil, fail(KindMissing, "export secret", ErrNoSecrets)
	}
	return g.cur.secrets.export(g.suite, label, context, length)
}

// SafeExportSecret returns the exported secret of a component, once an epoch (draft-ietf-mls-extensions-10 §2.5).
func (g *Group) SafeExportSecret(component ComponentID) (Secret, Changes, error) {
	if g.cur.secrets == nil {
		return nil, Changes{}, fail(KindMissing, "export secret", ErrNoSecrets)
	}
	s, err := g.cur.exports.export(component)
	if err != nil {
		return nil, Changes{}, err
	}
	return s, Changes{Put: []Piece{g.exportsPiece()}}, nil
}

// GroupInfo returns a GroupInfo of the present epoch without tree, as an encoded MLSMessage, signed by an own leaf.
func (g *Group) GroupInfo(leaf LeafIndex, withExternalPub bool, extensions Extensions) ([]byte, error) {
	const op = "make GroupInfo"
	own, err := g.ownKey(op, leaf)
	if err != nil {
		return nil, err
	}
	info, err := g.cur.groupInfo(leaf, own.signature, withExternalPub, extensions)
	if err != nil {
		return nil, fail(KindBug, op, err)
	}
	return info.Message(), nil
}

// groupInfo makes and signs a GroupInfo of the epoch.
func (e *epoch) groupInfo(signer LeafIndex, key *SignatureKey, withExternalPub bool, extensions Extensions) (*GroupInfo, error) {
	info := &GroupInfo{Context: e.context, ConfirmationTag: e.tag, Signer: signer}
	if withExternalPub {
		_, pub, err := e.secrets.externalKeyPair(e.context.Suite)
		if err != nil {
			return nil, err
		}
		info.Extensions = append(info.Extensions, ExternalPubExtension(pub))
	}
	info.Extensions = append(info.Extensions, extensions...)
	if err := info.Sign(key); err != nil {
		return nil, err
	}
	return info, nil
}

// PendingProposals returns the proposals of the present epoch that wait for a commit, oldest first.
func (g *Group) PendingProposals() []PendingProposal {
	out := make([]PendingProposal, len(g.pending.list))
	for i := range g.pending.list {
		out[i] = g.pending.list[i].PendingProposal
	}
	return out
}
