package mls

import "bytes"

// Staged is a commit with the epoch that it leads to, before it is accepted. It does not change, and it belongs to
// the one Group and epoch that it was staged in. Dropping it discards the commit.
type Staged struct {
	group *Group    // in which it was staged
	base  *epoch    // the epoch that the commit leads on from
	edit  *treeEdit // from base.tree to next.tree
	next  *epoch    //
	own   map[LeafIndex]*ownLeaf
	path  map[nodeIndex]Secret
	used  *foundKey // key of a received PrivateMessage
	home  *Group    // of an external commit of a group that is not held: the public view

	commit, welcome, groupInfo []byte
	aad                        []byte
	committer                  LeafIndex
	external, ours             bool
	proposals                  []ResolvedProposal
	added, removed, updated    []Member
	advance                    Changes // of the sending ratchet, when the commit was framed as PrivateMessage
}

// Commit returns the encoded MLSMessage of the commit.
func (s *Staged) Commit() []byte { return s.commit }

// Welcome returns the encoded MLSMessage of the Welcome, nil when nobody was added or the commit is not our own.
func (s *Staged) Welcome() []byte { return s.welcome }

// GroupInfo returns the encoded MLSMessage of the GroupInfo of the next epoch, without tree; nil when the commit is
// not our own.
func (s *Staged) GroupInfo() []byte { return s.groupInfo }

// Tree returns the tree of the next epoch as content of the ratchet_tree extension.
func (s *Staged) Tree() []byte { return s.next.tree.marshal() }

// Epoch returns the number of the next epoch.
func (s *Staged) Epoch() uint64 { return s.next.context.Epoch }

// Committer returns the leaf of the committer in the next epoch: of an external commit, its new leaf.
func (s *Staged) Committer() LeafIndex { return s.committer }

// CommitterLeaf returns the committer's leaf node in the next epoch.
func (s *Staged) CommitterLeaf() *LeafNode { return s.next.tree.leaf(s.committer) }

// External tells whether it is an external commit.
func (s *Staged) External() bool { return s.external }

// OwnCommit tells whether an own leaf made the commit.
func (s *Staged) OwnCommit() bool { return s.ours }

// AAD returns the authenticated_data of the commit.
func (s *Staged) AAD() []byte { return s.aad }

// Proposals returns the proposals in the order of the commit.
func (s *Staged) Proposals() []ResolvedProposal { return s.proposals }

// Added returns the members that Add proposals or the external commit put in.
func (s *Staged) Added() []Member { return s.added }

// Removed returns the members that Remove or SelfRemove proposals took out, as they were.
func (s *Staged) Removed() []Member { return s.removed }

// Updated returns the members whose leaf an Update or the commit's path replaced, as they will be.
func (s *Staged) Updated() []Member { return s.updated }

// isOwn tells whether an own leaf of the next epoch is at l. Those that the commit adds are not own before their
// Welcome has been used.
func (s *Staged) isOwn(l LeafIndex) bool {
	if o, changed := s.own[l]; changed {
		return o != nil
	}
	return s.group.own[l] != nil && s.next.tree.leaf(l) != nil
}

// CheckGroupInfo checks a GroupInfo that came with the commit: that it describes the next epoch, and that the
// committer signed it (RFC 9420 §12.4.3). It is what a hub asks before it hands the GroupInfo out.
func (s *Staged) CheckGroupInfo(info *GroupInfo) error {
	const op = "check GroupInfo of commit"
	c := &info.Context
	if !bytes.Equal(c.Marshal(), s.next.encoded) || !bytes.Equal(info.ConfirmationTag, s.next.tag) {
		return failf(KindInvalid, op, ErrGroupInfo, "it describes another epoch")
	}
	if info.Signer != s.committer {
		return failf(KindInvalid, op, ErrGroupInfo, "signer is %d, committer %d", info.Signer, s.committer)
	}
	return checkGroupInfo(info, s.next.tree)
}

// FullGroupInfo rebuilds and checks the GroupInfo of the next epoch from a PartialGroupInfo that came with the commit.
func (s *Staged) FullGroupInfo(p *PartialGroupInfo) (*GroupInfo, error) {
	return p.Full(s.next.context, s.next.tag, s.committer, s.CommitterLeaf().SignatureKey, s.next.tree.marshal())
}

// Members returns all members of the next epoch.
func (s *Staged) Members() []Member {
	out := make([]Member, 0, s.next.tree.memberCount())
	s.next.tree.each(func(l LeafIndex, leaf *LeafNode) bool {
		out = append(out, Member{l, leaf, s.isOwn(l)})
		return true
	})
	return out
}

// Dictionary returns the app_data_dictionary of the next epoch.
func (s *Staged) Dictionary() AppDataDictionary { return s.next.rules.dictionary }

// ConfirmedTranscriptHash returns the confirmed transcript hash of the next epoch: equal for two members only if
// they follow the same commit.
func (s *Staged) ConfirmedTranscriptHash() []byte { return s.next.context.ConfirmedTranscriptHash }

// EpochAuthenticator returns the epoch authenticator of the next epoch, nil where it cannot be known.
func (s *Staged) EpochAuthenticator() []byte {
	if s.next.secrets == nil {
		return nil
	}
	return s.next.secrets.authenticator.Clone()
}

// Verified tells whether the confirmation tag was checked: not in a public view, nor when the commit removes all own
// leaves.
func (s *Staged) Verified() bool { return s.next.secrets != nil }

// ReInit returns the ReInit proposal of the commit, nil when there is none. After it the group only waits for its
// successor.
func (s *Staged) ReInit() *ReInit {
	for _, p := range s.proposals {
		if p.Proposal.Type == ProposalReInit {
			return p.Proposal.ReInit
		}
	}
	return nil
}

// Changes returns what must be stored together with an own Staged before the commit is sent: the advance of the
// sending ratchet when it was framed as PrivateMessage, else nothing.
func (s *Staged) Changes() Changes { return s.advance }

// stage turns a finished transition into a Staged.
func (t *transition) stage(next *epoch) *Staged {
	s := &Staged{group: t.g, base: t.g.cur, edit: t.edit, next: next, own: t.own, path: t.path, committer: t.committer,
		external: t.external, proposals: t.list.items, removed: t.list.removed}
	for i := range s.removed {
		s.removed[i].Own = t.g.own[s.removed[i].Index] != nil
	}
	for _, l := range t.list.added {
		s.added = append(s.added, Member{Index: l, Leaf: next.tree.leaf(l)})
	}
	for _, l := range t.list.updated {
		s.updated = append(s.updated, Member{l, next.tree.leaf(l), s.isOwn(l)})
	}
	leaf := next.tree.leaf(t.committer)
	if t.external {
		s.added = append(s.added, Member{t.committer, leaf, s.isOwn(t.committer)})
	} else if leaf != t.g.cur.tree.leaf(t.committer) {
		s.updated = append(s.updated, Member{t.committer, leaf, s.isOwn(t.committer)})
	}
	return s
}
