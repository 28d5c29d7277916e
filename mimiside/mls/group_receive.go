package mls

import (
	"bytes"
	"time"
)

// StageReceived verifies another member's commit, an encoded MLSMessage, and builds the epoch that follows. The group
// does not change. With no own leaf it verifies all that can be verified without secrets; the same goes for a commit
// that removes all own leaves. A commit of an own leaf gives ErrOwnMessage: merge what StageCommit returned.
func (g *Group) StageReceived(now time.Time, message []byte) (*Staged, error) {
	const op = "process commit"
	a, found, err := g.openHandshake(now, message, ContentCommit)
	if err != nil {
		return nil, fail(KindInvalid, op, err)
	}
	s, err := g.receiveCommit(now, a)
	if err != nil {
		return nil, fail(KindInvalid, op, err)
	}
	s.commit, s.aad, s.used = bytes.Clone(message), a.Content.AuthenticatedData, found
	return s, nil
}

func (g *Group) receiveCommit(now time.Time, a *AuthenticatedContent) (*Staged, error) {
	sender, commit := a.Content.Sender, a.Content.Commit
	external := sender.Type == SenderNewMemberCommit
	if !external && sender.Type != SenderMember {
		return nil, failf(KindInvalid, "check commit", ErrSender, "sender type %d", sender.Type)
	}
	if !external && g.own[sender.Leaf] != nil {
		return nil, failf(KindReplay, "check commit", ErrOwnMessage, "leaf %d", sender.Leaf)
	}
	items, err := g.resolveProposals(commit, sender)
	if err != nil {
		return nil, err
	}
	t, err := g.begin(now, &proposalList{items: items, external: external, committer: sender.Leaf})
	if err != nil {
		return nil, err
	}
	if t.list.needPath && commit.Path == nil {
		return nil, fail(KindInvalid, "check commit", ErrPathMissing)
	}
	if external {
		if err := t.placeCommitter(); err != nil {
			return nil, err
		}
	}
	steps, err := t.receivePath(commit.Path)
	if err != nil {
		return nil, err
	}
	t.settle()
	if !t.remains() {
		t.confirm(a)
		return t.stage(t.epoch(a.Auth.ConfirmationTag)), nil
	}
	commitSecret := g.suite.zeroSecret()
	if commit.Path != nil {
		if commitSecret, err = t.openReceivedPath(steps, commit.Path); err != nil {
			return nil, err
		}
	}
	initSecret := g.cur.secrets.init
	if external {
		priv, _, err := g.cur.secrets.externalKeyPair(g.suite)
		if err != nil {
			return nil, err
		}
		if initSecret, err = externalInitReceive(g.suite, priv, t.list.kemInit); err != nil {
			return nil, err
		}
	}
	t.confirm(a)
	_, epochSecret, err := t.epochSecret(initSecret, commitSecret)
	if err != nil {
		return nil, err
	}
	defer epochSecret.Wipe()
	next := t.epoch(a.Auth.ConfirmationTag)
	next.setSecrets(epochSecret)
	if err := next.secrets.checkConfirmationTag(g.suite, t.context.ConfirmedTranscriptHash, next.tag); err != nil {
		return nil, err
	}
	return t.stage(next), nil
}

// resolveProposals looks the references of a commit up.
func (g *Group) resolveProposals(commit *Commit, sender Sender) ([]ResolvedProposal, error) {
	items := make([]ResolvedProposal, 0, len(commit.Proposals))
	seen := map[string]bool{}
	for i := range commit.Proposals {
		p := &commit.Proposals[i]
		if p.Proposal != nil {
			items = append(items, ResolvedProposal{Sender: sender, Proposal: p.Proposal})
			continue
		}
		cached := g.pending.find(p.Ref)
		if cached == nil {
			return nil, fail(KindMissing, "find proposals of commit", ErrUnknownProposalRef)
		}
		if seen[string(p.Ref)] {
			return nil, invalidList("a reference twice")
		}
		seen[string(p.Ref)] = true
		items = append(items, ResolvedProposal{Sender: cached.Sender, Proposal: cached.Proposal, Ref: cached.Ref})
	}
	return items, nil
}

// receivePath validates the update path of a commit, where there is one, and puts it into the tree.
func (t *transition) receivePath(path *UpdatePath) ([]pathStep, error) {
	if path == nil {
		return nil, nil
	}
	if err := t.checkPathLeaf(&path.Leaf); err != nil {
		return nil, err
	}
	steps, err := t.edit.applyPath(t.committer, path, t.list.added)
	if err != nil {
		return nil, err
	}
	return steps, t.edit.checkCredentialTypes(&path.Leaf)
}

// openReceivedPath decrypts one path secret, takes the keys above it into the pool and returns the commit secret.
func (t *transition) openReceivedPath(steps []pathStep, path *UpdatePath) (Secret, error) {
	from, secret, err := t.edit.openPath(steps, path, t.list.added, t.privateKey, t.encoded)
	if err != nil {
		return nil, err
	}
	nodes := make([]placed, 0, len(steps)-from)
	for _, s := range steps[from:] {
		nodes = append(nodes, placed{s.x, t.tree.at(s.x)})
	}
	keys, commitSecret, err := climb(t.g.suite, nodes, secret, nil)
	if err != nil {
		return nil, err
	}
	for x, k := range keys {
		t.path[x] = k
	}
	return commitSecret, nil
}
