package mls

import (
	"fmt"
	"slices"
)

// proposalList checks the proposals of one commit and applies them to a copy of the group's tree and context (RFC
// 9420 §12.2, §12.3; draft-ietf-mls-extensions-10 §2.8, §2.9, §4.3).
type proposalList struct {
	items     []ResolvedProposal
	external  bool      // of an external commit
	initial   bool      // of the first commit of a group, which may bind it to another one
	alone     bool      // one proposal that waits: what other proposals of its commit may put right is not judged
	committer LeafIndex // of a member's commit

	added    []LeafIndex // sorted
	addedBy  map[LeafIndex]int
	removed  []Member
	updated  []LeafIndex
	psks     []PreSharedKeyID
	pskIDs   map[string]bool
	kemInit  []byte // kem_output of ExternalInit
	reinit   *ReInit
	gce      Extensions
	hasGCE   bool
	needPath bool

	extensions Extensions // of the next GroupContext
	rules      *groupRules
	newRules   bool // the rules for members differ from those of the present epoch
}

const opProposals = "check proposals"

func invalidList(format string, args ...any) error {
	return failf(KindInvalid, opProposals, ErrProposalList, format, args...)
}

func invalidProposal(t ProposalType, format string, args ...any) error {
	return failf(KindInvalid, opProposals, ErrProposal, "type 0x%04x: %s", uint16(t), fmt.Sprintf(format, args...))
}

// noPathNeeded are the types that a commit may carry without a path (RFC 9420 §17.4, draft-ietf-mls-extensions-10
// §5.2).
func noPathNeeded(t ProposalType) bool {
	switch t {
	case ProposalAdd, ProposalPSK, ProposalReInit, ProposalAppDataUpdate, ProposalAppEphemeral:
		return true
	default:
		return false
	}
}

// fromSender tells whether a sender of this type may send a proposal of type t (RFC 9420 §12.1.8, §17.4).
func (t ProposalType) fromSender(s SenderType) bool {
	switch s {
	case SenderMember:
		return t != ProposalExternalInit
	case SenderExternal:
		switch t {
		case ProposalAdd, ProposalRemove, ProposalPSK, ProposalReInit, ProposalGroupContextExtensions,
			ProposalAppDataUpdate, ProposalAppEphemeral:
			return true
		}
	case SenderNewMemberProposal:
		return t == ProposalAdd
	case SenderNewMemberCommit:
		switch t {
		case ProposalExternalInit, ProposalRemove, ProposalPSK, ProposalAppDataUpdate, ProposalAppEphemeral:
			return true
		}
	}
	return false
}

// check applies the rules that concern the list alone.
func (p *proposalList) check(suite Suite) error {
	p.needPath = len(p.items) == 0 || p.external
	touched := map[LeafIndex]ProposalType{}
	for i := range p.items {
		it := &p.items[i]
		t := it.Proposal.Type
		if !t.Known() {
			return failf(KindUnsupported, opProposals, ErrUnknownProposal, "0x%04x", uint16(t))
		}
		if !t.fromSender(it.Sender.Type) {
			return failf(KindInvalid, opProposals, ErrSender, "proposal type 0x%04x", uint16(t))
		}
		p.needPath = p.needPath || !noPathNeeded(t)
		if err := p.checkOne(suite, it, touched); err != nil {
			return err
		}
	}
	if p.reinit != nil && len(p.items) > 1 {
		return invalidList("ReInit beside other proposals")
	}
	if p.external {
		return p.checkExternal()
	}
	return nil
}

func (p *proposalList) checkOne(suite Suite, it *ResolvedProposal, touched map[LeafIndex]ProposalType) error {
	t := it.Proposal.Type
	switch t {
	case ProposalUpdate:
		if !p.external && it.Sender.Leaf == p.committer {
			return invalidList("Update of the committer")
		}
		return touch(touched, it.Sender.Leaf, t)
	case ProposalRemove:
		if !p.external && it.Proposal.Remove == p.committer {
			return invalidList("Remove of the committer")
		}
		return touch(touched, it.Proposal.Remove, t)
	case ProposalSelfRemove:
		if it.Ref == nil {
			return invalidList("SelfRemove by value")
		}
		if !p.external && it.Sender.Leaf == p.committer {
			return invalidList("SelfRemove of the committer")
		}
		return touch(touched, it.Sender.Leaf, t)
	case ProposalPSK:
		return p.checkPSK(suite, it.Proposal.PSK)
	case ProposalReInit:
		if p.reinit != nil {
			return invalidList("two ReInit")
		}
		p.reinit = it.Proposal.ReInit
		if p.reinit.Version < VersionMLS10 {
			return invalidProposal(t, "older version")
		}
	case ProposalExternalInit:
		if p.kemInit != nil || !p.external {
			return invalidList("ExternalInit twice or outside an external commit")
		}
		p.kemInit = it.Proposal.ExternalInit
	case ProposalGroupContextExtensions:
		if p.hasGCE {
			return invalidList("two GroupContextExtensions")
		}
		p.hasGCE, p.gce = true, it.Proposal.GroupContextExtensions
	}
	return nil
}

// touch refuses a second proposal about the same leaf (RFC 9420 §12.2).
func touch(touched map[LeafIndex]ProposalType, l LeafIndex, t ProposalType) error {
	if before, there := touched[l]; there {
		return invalidList("leaf %d has two proposals, of types 0x%04x and 0x%04x", l, uint16(before), uint16(t))
	}
	touched[l] = t
	return nil
}

func (p *proposalList) checkPSK(suite Suite, id *PreSharedKeyID) error {
	if len(id.Nonce) != suite.HashLength() {
		return invalidProposal(ProposalPSK, "nonce of %d bytes", len(id.Nonce))
	}
	if id.Type == PSKResumption && id.Usage != ResumptionApplication && !p.initial {
		return invalidProposal(ProposalPSK, "resumption usage %d", id.Usage)
	}
	if enc := string(id.Marshal()); p.pskIDs[enc] {
		return invalidList("a PreSharedKeyID twice")
	} else if p.pskIDs == nil {
		p.pskIDs = map[string]bool{enc: true}
	} else {
		p.pskIDs[enc] = true
	}
	if len(p.psks) == maxPSKs {
		return failf(KindLimit, opProposals, ErrTooMany, "PSKs")
	}
	p.psks = append(p.psks, *id)
	return nil
}

// checkExternal applies the rules for external commits (RFC 9420 §12.2; SelfRemove by reference is the addition of
// draft-ietf-mls-extensions-10 §4.3).
func (p *proposalList) checkExternal() error {
	removes := 0
	for i := range p.items {
		it := &p.items[i]
		if it.Ref != nil && it.Proposal.Type != ProposalSelfRemove {
			return invalidList("external commit with a proposal by reference")
		}
		if it.Proposal.Type == ProposalRemove {
			removes++
		}
	}
	if removes > 1 {
		return invalidList("external commit with %d Remove", removes)
	}
	if p.kemInit == nil {
		return invalidList("external commit without ExternalInit")
	}
	return nil
}

// applyMembership applies the Update, Remove, SelfRemove and Add proposals to the tree, in the order of RFC 9420
// §12.3. Blank halves of the tree are cut off at the end.
func (p *proposalList) applyMembership(e *treeEdit) error {
	const op = "apply proposals"
	for i := range p.items {
		it := &p.items[i]
		switch it.Proposal.Type {
		case ProposalUpdate:
			if e.leaf(it.Sender.Leaf) == nil {
				return failf(KindInvalid, op, ErrProposal, "Update of blank leaf %d", it.Sender.Leaf)
			}
			p.updated = append(p.updated, it.Sender.Leaf)
		case ProposalRemove:
			p.removed = append(p.removed, Member{Index: it.Proposal.Remove})
		case ProposalSelfRemove:
			p.removed = append(p.removed, Member{Index: it.Sender.Leaf})
		}
	}
	for _, l := range p.updated {
		e.dropKeys(l)
	}
	for i := range p.removed {
		r := &p.removed[i]
		if r.Leaf = e.leaf(r.Index); r.Leaf == nil {
			return failf(KindInvalid, op, ErrProposal, "Remove of blank leaf %d", r.Index)
		}
		e.setLeaf(r.Index, nil)
	}
	for i := range p.items {
		if it := &p.items[i]; it.Proposal.Type == ProposalUpdate {
			e.setLeaf(it.Sender.Leaf, keepLeaf(it.Proposal.Update))
		}
	}
	return p.applyAdds(e)
}

func (p *proposalList) applyAdds(e *treeEdit) error {
	p.addedBy = map[LeafIndex]int{}
	for i := range p.items {
		if p.items[i].Proposal.Type != ProposalAdd {
			continue
		}
		l, err := e.add(keepLeaf(&p.items[i].Proposal.Add.Leaf))
		if err != nil {
			return err
		}
		p.added = append(p.added, l)
		p.addedBy[l] = i
	}
	slices.Sort(p.added)
	e.truncate()
	if e.clash {
		return fail(KindInvalid, "apply proposals", ErrDuplicateKey)
	}
	return nil
}
