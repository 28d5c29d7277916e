package mls

import (
	"bytes"
	"time"
)

// transition builds the epoch after the present one beside it. It changes nothing of the group.
type transition struct {
	g        *Group
	now      time.Time
	list     *proposalList
	edit     *treeEdit
	checker  *leafChecker
	external bool
	// What becomes of private keys: nil means forget.
	own  map[LeafIndex]*ownLeaf
	path map[nodeIndex]Secret

	committer LeafIndex
	context   GroupContext // of the next epoch; the transcript hash is still the old one until confirm
	encoded   []byte       // of context
	tree      *ratchetTree // of the next epoch
}

// begin checks the proposals of a commit and applies them to copies of the tree and the GroupContext.
func (g *Group) begin(now time.Time, list *proposalList) (*transition, error) {
	t := &transition{g: g, now: now, list: list, external: list.external, committer: list.committer,
		own: map[LeafIndex]*ownLeaf{}, path: map[nodeIndex]Secret{}}
	list.initial = g.cur.context.Epoch == 0
	if err := list.check(g.suite); err != nil {
		return nil, err
	}
	t.edit = g.cur.tree.edit(g.suite)
	if err := list.applyMembership(t.edit); err != nil {
		return nil, err
	}
	if err := list.applyContext(&g.cfg, g.cur.rules, g.cur.context.Extensions); err != nil {
		return nil, err
	}
	t.checker = &leafChecker{suite: g.suite, groupID: g.groupID, rules: list.rules, validator: g.cfg.Validator, now: now}
	if err := list.checkMembers(t.checker, g.cur.tree, t.edit); err != nil {
		return nil, err
	}
	if t.edit.root.leaves == 0 && !t.external {
		return nil, invalidList("nobody is left")
	}
	t.tree = t.edit.finish()
	return t, t.ownChanges()
}

// ownChanges works out what the proposals do to own leaves.
func (t *transition) ownChanges() error {
	for i := range t.list.items {
		it := &t.list.items[i]
		if it.Proposal.Type != ProposalUpdate || t.g.own[it.Sender.Leaf] == nil {
			continue
		}
		u := t.g.pending.updateFor(t.g.suite, it.Sender.Leaf, it.Proposal.Update)
		if u == nil {
			return failf(KindBug, opProposals, ErrState, "private keys of the Update of leaf %d are not there", it.Sender.Leaf)
		}
		t.own[it.Sender.Leaf] = u
	}
	for _, r := range t.list.removed {
		if t.g.own[r.Index] != nil {
			t.own[r.Index] = nil
		}
	}
	return nil
}

// placeCommitter finds the leaf of the joiner of an external commit (RFC 9420 §12.4.3.2).
func (t *transition) placeCommitter() error {
	l, there := t.edit.firstBlank()
	if !there {
		if err := t.edit.grow(); err != nil {
			return err
		}
		l, _ = t.edit.firstBlank()
		t.tree = t.edit.finish()
	}
	t.committer = l
	return nil
}

// checkPathLeaf validates the leaf of an update path (RFC 9420 §7.3, §12.4.2). The tree does not have it yet.
func (t *transition) checkPathLeaf(leaf *LeafNode) error {
	if leaf.Source != LeafSourceCommit {
		return failf(KindInvalid, "check update path", ErrLeafNode, "source is %d", leaf.Source)
	}
	return t.checker.check(t.committer, leaf, t.replaced())
}

// replaced returns the credential that the committer's new leaf takes the place of.
func (t *transition) replaced() *Credential {
	if !t.external {
		if old := t.g.cur.tree.leaf(t.committer); old != nil {
			return &old.Credential
		}
		return nil
	}
	for i := range t.list.items {
		if p := t.list.items[i].Proposal; p.Type == ProposalRemove {
			if old := t.g.cur.tree.leaf(p.Remove); old != nil {
				return &old.Credential
			}
		}
	}
	return nil
}

// settle hashes the edited tree and builds the provisional GroupContext, whose transcript hash is still the old one.
func (t *transition) settle() {
	t.tree = t.edit.finish()
	t.context = t.g.cur.context
	t.context.Epoch++
	t.context.TreeHash = t.tree.hash()
	t.context.Extensions = t.list.extensions
	t.encoded = t.context.Marshal()
	t.dropPathKeys()
}

// dropPathKeys marks the pooled keys of nodes that are blank now or have another key.
func (t *transition) dropPathKeys() {
	for x := range t.edit.changed {
		if x.isLeaf() || t.g.path[x] == nil {
			continue
		}
		if _, set := t.path[x]; set {
			continue
		}
		before, after := t.g.cur.tree.at(x), t.tree.at(x)
		if after == nil || after.parent == nil || before.parent == nil ||
			!bytes.Equal(before.parent.EncryptionKey, after.parent.EncryptionKey) {
			t.path[x] = nil
		}
	}
}

// privateKey returns the key of a node that the pool had before the path.
func (t *transition) privateKey(x nodeIndex) Secret {
	if x.isLeaf() {
		if o, changed := t.own[x.leaf()]; changed {
			if o == nil {
				return nil
			}
			return o.encryptionKey
		}
		if o := t.g.own[x.leaf()]; o != nil {
			return o.encryptionKey
		}
		return nil
	}
	if _, changed := t.path[x]; changed {
		return nil
	}
	return t.g.path[x]
}

// remains tells whether an own leaf of the present epoch is still there in the next: then its secrets can be known.
func (t *transition) remains() bool {
	for l := range t.g.own {
		if o, changed := t.own[l]; !changed || o != nil {
			return true
		}
	}
	return false
}

// schedule is what the Welcome of a commit needs of the key schedule.
type schedule struct {
	joiner Secret
	psk    Secret
}

// epochSecret derives the epoch secret of the next epoch (RFC 9420 §8). The context must have its final transcript
// hash.
func (t *transition) epochSecret(initSecret, commitSecret Secret) (*schedule, Secret, error) {
	psks, err := t.g.resolvePSKs(t.list.psks)
	if err != nil {
		return nil, nil, err
	}
	pskSecret, err := derivePSKSecret(t.g.suite, psks)
	if err != nil {
		return nil, nil, err
	}
	s := &schedule{joiner: deriveJoinerSecret(t.g.suite, initSecret, commitSecret, t.encoded), psk: pskSecret}
	return s, deriveEpochSecret(t.g.suite, s.joiner, s.psk, t.encoded), nil
}

// confirm adds the commit to the transcript: from here on context is that of the next epoch.
func (t *transition) confirm(commit *AuthenticatedContent) {
	t.context.ConfirmedTranscriptHash = confirmedTranscriptHash(t.g.suite, t.g.cur.interim, commit)
	t.encoded = t.context.Marshal()
}

// epoch returns the next epoch, without secrets and tag.
func (t *transition) epoch(tag []byte) *epoch {
	e := newEpoch(t.context, t.tree, t.list.rules, tag)
	e.closed = t.list.reinit != nil
	return e
}

// resolvePSKs finds the pre-shared keys of a commit or Welcome.
func (g *Group) resolvePSKs(ids []PreSharedKeyID) ([]resolvedPSK, error) {
	return resolvePSKs(&g.cfg, g, ids)
}

// resolvePSKs finds pre-shared keys: resumption PSKs of g, where not nil, from g, all others from the caller.
func resolvePSKs(cfg *Config, g *Group, ids []PreSharedKeyID) ([]resolvedPSK, error) {
	out := make([]resolvedPSK, 0, len(ids))
	for i := range ids {
		id := &ids[i]
		var psk Secret
		if g != nil && id.Type == PSKResumption && bytes.Equal(id.GroupID, g.groupID) {
			psk = g.ResumptionPSK(id.Epoch)
		}
		if psk == nil && cfg.PSK != nil {
			psk = cfg.PSK(id)
		}
		if psk == nil {
			return nil, failf(KindMissing, "find pre-shared key", ErrMissingPSK, "type %d", id.Type)
		}
		out = append(out, resolvedPSK{*id, psk})
	}
	return out, nil
}
