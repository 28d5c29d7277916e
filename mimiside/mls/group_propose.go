package mls

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"time"
)

// Propose makes a proposal from an own leaf, caches it and returns the encoded MLSMessage and the ProposalRef. The
// proposal is checked as a received one would be. Make an Update with ProposeUpdate.
func (g *Group) Propose(rand io.Reader, now time.Time, params ProposeParams) (message, ref []byte, c Changes, err error) {
	if params.Proposal.Type == ProposalUpdate {
		return nil, nil, c, failf(KindBug, "propose", ErrProposal, "use ProposeUpdate")
	}
	return g.propose(rand, now, params, nil)
}

// ProposeUpdate is Propose of an Update with fresh keys for the own leaf. With nil shows, all else stays as it is.
func (g *Group) ProposeUpdate(rand io.Reader, now time.Time, leaf LeafIndex, shows *LeafParams, aad []byte) (message, ref []byte, c Changes, err error) {
	const op = "propose Update"
	own, err := g.ownKey(op, leaf)
	if err != nil {
		return nil, nil, c, err
	}
	next, key := g.template(leaf, own, shows)
	update := &ownUpdate{ownLeaf: ownLeaf{signature: key}, leaf: leaf}
	if update.encryptionKey, next.EncryptionKey, err = GenerateKeyPair(rand, g.suite); err != nil {
		return nil, nil, c, fail(KindBug, op, err)
	}
	next.Source, next.Lifetime, next.ParentHash = LeafSourceUpdate, Lifetime{}, nil
	if err := next.Sign(key, LeafNodeContext{GroupID: g.groupID, Index: leaf}); err != nil {
		return nil, nil, c, fail(KindBug, op, err)
	}
	params := ProposeParams{Leaf: leaf, Proposal: Proposal{Type: ProposalUpdate, Update: &next}, AAD: aad}
	return g.propose(rand, now, params, update)
}

// template returns a copy of an own leaf with what it shall show, and the key that signs it.
func (g *Group) template(l LeafIndex, own *ownLeaf, shows *LeafParams) (LeafNode, *SignatureKey) {
	leaf, key := *g.cur.tree.leaf(l), own.signature
	if shows != nil {
		leaf.Credential, leaf.Capabilities, leaf.Extensions = shows.Credential, shows.Capabilities, shows.Extensions
		if shows.SignatureKey != nil {
			key = shows.SignatureKey
		}
	}
	leaf.raw = nil
	return leaf, key
}

// ProposeSelfRemove is Propose of a SelfRemove of the own leaf (draft-ietf-mls-extensions-10 §4.3).
func (g *Group) ProposeSelfRemove(rand io.Reader, now time.Time, leaf LeafIndex, aad []byte) (message, ref []byte, c Changes, err error) {
	return g.Propose(rand, now, ProposeParams{Leaf: leaf, Proposal: Proposal{Type: ProposalSelfRemove}, AAD: aad})
}

func (g *Group) propose(rand io.Reader, now time.Time, params ProposeParams, update *ownUpdate) (message, ref []byte, c Changes, err error) {
	const op = "propose"
	own, err := g.ownKey(op, params.Leaf)
	if err != nil {
		return nil, nil, c, err
	}
	if err := g.open(op); err != nil {
		return nil, nil, c, err
	}
	aad, err := g.aad(op, params.AAD)
	if err != nil {
		return nil, nil, c, err
	}
	format := WireFormatPublicMessage
	if params.Private {
		if format = WireFormatPrivateMessage; params.Proposal.Type == ProposalSelfRemove {
			return nil, nil, c, failf(KindBug, op, ErrWireFormat, "SelfRemove must be a PublicMessage")
		}
	}
	proposal, err := UnmarshalProposal(params.Proposal.Marshal()) // shares no memory with the caller
	if err != nil {
		return nil, nil, c, fail(KindBug, op, err)
	}
	content := FramedContent{GroupID: g.groupID, Epoch: g.Epoch(), Sender: MemberSender(params.Leaf), AuthenticatedData: aad,
		ContentType: ContentProposal, Proposal: proposal}
	a, err := signContent(own.signature, format, content, g.cur.encoded)
	if err != nil {
		return nil, nil, c, err
	}
	p, err := g.checkProposal(now, a)
	if err == nil {
		err = g.checkOwnProposal(p)
	}
	if err != nil {
		return nil, nil, c, fail(KindInvalid, op, err)
	}
	if params.Private {
		if message, _, c, err = g.sealPrivate(rand, a, params.Padding); err != nil {
			return nil, nil, Changes{}, err
		}
	} else {
		message = g.cur.secrets.sealPublic(g.suite, a, g.cur.encoded).Message()
	}
	if update != nil {
		update.number = g.pending.next
		g.pending.next++
		g.pending.updates = append(g.pending.updates, *update)
		c.Put = append(c.Put, g.updatePiece(update))
	}
	g.cache(p, &c)
	return message, p.Ref, c, nil
}

// cache puts a checked proposal among those that wait. One that is there already stays as it is: signatures are
// deterministic, so the same proposal made twice in an epoch has the same ref, and no commit may name a ref twice.
func (g *Group) cache(p *PendingProposal, c *Changes) {
	if g.pending.find(p.Ref) != nil {
		return
	}
	g.pending.list = append(g.pending.list, cachedProposal{*p, g.pending.next})
	g.pending.next++
	c.Put = append(c.Put, g.proposalPiece(&g.pending.list[len(g.pending.list)-1]))
}

// checkProposal validates a proposal for the present epoch by itself. What others may put right in the same commit is
// left to the commit: a proposal that was not cached could not be followed when it is committed.
func (g *Group) checkProposal(now time.Time, a *AuthenticatedContent) (*PendingProposal, error) {
	const op = "check proposal"
	ref, err := a.ProposalRef(g.suite)
	if err != nil {
		return nil, err
	}
	p := &PendingProposal{Ref: ref, Sender: a.Content.Sender, Proposal: a.Content.Proposal}
	if len(g.pending.list) >= g.cfg.Limits.MaxProposals {
		return nil, failf(KindLimit, op, ErrTooMany, "%d proposals are waiting", len(g.pending.list))
	}
	if p.Proposal.Type == ProposalSelfRemove && a.WireFormat != WireFormatPublicMessage {
		return nil, failf(KindInvalid, op, ErrWireFormat, "SelfRemove must be a PublicMessage")
	}
	list := &proposalList{items: []ResolvedProposal{{Sender: p.Sender, Proposal: p.Proposal, Ref: ref}}, committer: nobody, alone: true}
	if err := list.check(g.suite); err != nil {
		return nil, err
	}
	e := g.cur.tree.edit(g.suite)
	if err := list.applyMembership(e); err != nil && !errors.Is(err, ErrDuplicateKey) {
		return nil, err // a duplicate may go away when another proposal removes the other leaf
	}
	if err := list.applyContext(&g.cfg, g.cur.rules, g.cur.context.Extensions); err != nil && !errors.Is(err, ErrComponent) {
		return nil, err // an update may become right after another
	} else if err != nil {
		return p, nil
	}
	c := &leafChecker{suite: g.suite, groupID: g.groupID, rules: list.rules, validator: g.cfg.Validator, now: now}
	return p, list.checkMembers(c, g.cur.tree, e)
}

// checkOwnProposal refuses what other members would have to ignore (draft-ietf-mls-extensions-10 §4.3).
func (g *Group) checkOwnProposal(p *PendingProposal) error {
	const op = "check own proposal"
	switch t := p.Proposal.Type; {
	case t == ProposalSelfRemove && g.selfRemoveOf(p.Sender.Leaf) != nil:
		return failf(KindInvalid, op, ErrProposal, "second SelfRemove of leaf %d", p.Sender.Leaf)
	case t == ProposalRemove && g.selfRemoveOf(p.Proposal.Remove) != nil:
		return failf(KindInvalid, op, ErrProposal, "leaf %d removes itself", p.Proposal.Remove)
	}
	return nil
}

// nobody is no leaf of any tree.
const nobody = LeafIndex(1<<32 - 1)

// selfRemoveOf returns the pending SelfRemove of a leaf, nil when there is none.
func (g *Group) selfRemoveOf(l LeafIndex) *cachedProposal {
	i := slices.IndexFunc(g.pending.list, func(p cachedProposal) bool {
		return p.Proposal.Type == ProposalSelfRemove && p.Sender.Leaf == l
	})
	if i < 0 {
		return nil
	}
	return &g.pending.list[i]
}

// ReceiveProposal verifies and caches a proposal of a member, an external sender or a new member, an encoded
// MLSMessage. One that is cached already comes back without a change; so do own ones that return.
func (g *Group) ReceiveProposal(now time.Time, message []byte) (*PendingProposal, Changes, error) {
	const op = "receive proposal"
	a, found, err := g.openHandshake(now, message, ContentProposal)
	if err != nil {
		return nil, Changes{}, fail(KindInvalid, op, err)
	}
	ref, err := a.ProposalRef(g.suite)
	if err != nil {
		return nil, Changes{}, err
	}
	if p := g.pending.find(ref); p != nil {
		out := p.PendingProposal
		return &out, Changes{}, nil
	}
	if a.Content.Sender.Type == SenderMember && g.own[a.Content.Sender.Leaf] != nil {
		return nil, Changes{}, failf(KindReplay, op, ErrOwnMessage, "leaf %d", a.Content.Sender.Leaf)
	}
	p, err := g.checkProposal(now, a)
	if err != nil {
		return nil, Changes{}, fail(KindInvalid, op, err)
	}
	var c Changes
	if found != nil {
		found.use(&c)
	}
	g.cache(p, &c)
	return p, c, nil
}

// Committable returns the refs of the pending proposals that the given own leaf can commit together: for each leaf
// the last proposal about it, a SelfRemove before all others, and nothing about the committer itself. Pass them to
// StageCommit as Refs.
func (g *Group) Committable(committer LeafIndex) [][]byte {
	var refs [][]byte
	taken := map[LeafIndex]bool{committer: true}
	gce, removes := false, map[ComponentID]bool{}
	take := func(p *cachedProposal) {
		if l, about := p.subject(); about {
			if taken[l] {
				return
			}
			taken[l] = true
		}
		switch p.Proposal.Type {
		case ProposalReInit:
			return // stands alone: the caller commits it by itself
		case ProposalGroupContextExtensions:
			if gce {
				return
			}
			gce = true
		case ProposalAppDataUpdate:
			remove := p.Proposal.AppDataUpdate.Operation == AppDataUpdateRemove
			if before, there := removes[p.Proposal.AppDataUpdate.Component]; there && (before || remove) {
				return
			}
			removes[p.Proposal.AppDataUpdate.Component] = remove
		}
		refs = append(refs, p.Ref)
	}
	for i := range g.pending.list {
		if p := &g.pending.list[i]; p.Proposal.Type == ProposalSelfRemove {
			take(p)
		}
	}
	for i := len(g.pending.list) - 1; i >= 0; i-- {
		if p := &g.pending.list[i]; p.Proposal.Type != ProposalSelfRemove {
			take(p)
		}
	}
	slices.Reverse(refs)
	return refs
}

// subject returns the leaf that a proposal is about.
func (p *cachedProposal) subject() (LeafIndex, bool) {
	switch p.Proposal.Type {
	case ProposalUpdate, ProposalSelfRemove:
		return p.Sender.Leaf, true
	case ProposalRemove:
		return p.Proposal.Remove, true
	}
	return 0, false
}

// ExternalProposalParams says what a proposal from outside the group is.
type ExternalProposalParams struct {
	GroupID      []byte
	Epoch        uint64
	Suite        Suite
	SignatureKey *SignatureKey // of the external sender, or of the KeyPackage of a new member
	// SenderIndex is the place of the sender in external_senders, counted when NewMember is false.
	SenderIndex uint32
	NewMember   bool // the proposal is an Add of the sender itself
	Proposal    Proposal
	AAD         []byte // a SafeAAD where the group asks for one
}

// SignExternalProposal makes a proposal of an external sender or a new member (RFC 9420 §12.1.8), an encoded
// MLSMessage, and its ProposalRef.
func SignExternalProposal(params ExternalProposalParams) (message, ref []byte, err error) {
	const op = "make external proposal"
	sender := Sender{Type: SenderExternal, Index: params.SenderIndex}
	if params.NewMember {
		sender = Sender{Type: SenderNewMemberProposal}
	}
	if !params.Proposal.Type.fromSender(sender.Type) {
		return nil, nil, failf(KindBug, op, ErrSender, "proposal type 0x%04x", uint16(params.Proposal.Type))
	}
	if params.SignatureKey == nil || params.SignatureKey.Suite() != params.Suite {
		return nil, nil, failf(KindBug, op, ErrKey, "signature key is of another suite")
	}
	content := FramedContent{GroupID: bytes.Clone(params.GroupID), Epoch: params.Epoch, Sender: sender, AuthenticatedData: params.AAD,
		ContentType: ContentProposal, Proposal: &params.Proposal}
	a, err := signContent(params.SignatureKey, WireFormatPublicMessage, content, nil)
	if err != nil {
		return nil, nil, err
	}
	if ref, err = a.ProposalRef(params.Suite); err != nil {
		return nil, nil, err
	}
	m := &PublicMessage{Content: a.Content, Auth: a.Auth}
	return m.Message(), ref, nil
}
