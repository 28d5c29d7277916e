package mls

import "slices"

// membership is what the proposals of a commit change in the tree.
type membership struct {
	added   []LeafIndex // sorted
	addedBy map[LeafIndex]int
	removed []LeafIndex
	updated []LeafIndex
}

// applyMembership applies the Update, Remove, SelfRemove and Add proposals of a commit to the tree, in the order of
// RFC 9420 §12.3: updates, removes, adds. The proposals have been checked; indices outside the tree are refused here
// too. Blank halves of the tree are cut off at the end.
func (e *treeEdit) applyMembership(list []ResolvedProposal) (*membership, error) {
	m := &membership{addedBy: map[LeafIndex]int{}}
	for _, p := range list {
		switch p.Proposal.Type {
		case ProposalUpdate:
			m.updated = append(m.updated, p.Sender.Leaf)
		case ProposalRemove:
			m.removed = append(m.removed, p.Proposal.Remove)
		case ProposalSelfRemove:
			m.removed = append(m.removed, p.Sender.Leaf)
		}
	}
	for _, l := range slices.Concat(m.updated, m.removed) {
		if e.leaf(l) == nil {
			return nil, failf(KindInvalid, "apply proposals", ErrProposal, "leaf %d is blank", l)
		}
	}
	for _, l := range m.updated {
		e.dropKeys(l)
	}
	for _, l := range m.removed {
		e.setLeaf(l, nil)
	}
	for _, p := range list {
		if p.Proposal.Type == ProposalUpdate {
			e.setLeaf(p.Sender.Leaf, keepLeaf(p.Proposal.Update))
		}
	}
	for i, p := range list {
		if p.Proposal.Type != ProposalAdd {
			continue
		}
		l, err := e.add(keepLeaf(&p.Proposal.Add.Leaf))
		if err != nil {
			return nil, err
		}
		m.added = append(m.added, l)
		m.addedBy[l] = i
	}
	slices.Sort(m.added)
	if e.root.leaves == 0 {
		return nil, failf(KindInvalid, "apply proposals", ErrProposalList, "nobody is left")
	}
	e.truncate()
	if e.clash {
		return nil, fail(KindInvalid, "apply proposals", ErrDuplicateKey)
	}
	return m, nil
}
