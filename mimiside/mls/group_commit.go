package mls

import (
	"io"
	"slices"
	"time"
)

// StageCommit makes a commit from an own leaf and the epoch that follows, with Welcome and GroupInfo, before anybody
// accepted it. The group does not change, but for one case: framed as PrivateMessage, a commit uses a key of the
// sending ratchet up, which Staged.Changes then returns. Pending SelfRemoves of others are always included
// (draft-ietf-mls-extensions-10 §4.3).
func (g *Group) StageCommit(rand io.Reader, now time.Time, params CommitParams) (*Staged, error) {
	const op = "make commit"
	own, err := g.ownKey(op, params.Leaf)
	if err != nil {
		return nil, err
	}
	if err := g.open(op); err != nil {
		return nil, err
	}
	c := &making{rand: rand, g: g, key: own.signature, aadGiven: params.AAD, private: params.Private, padding: params.Padding,
		treeInWelcome: params.TreeInWelcome, noExternalPub: params.NoExternalPub, extensions: params.GroupInfoExtensions}
	c.sender = MemberSender(params.Leaf)
	if err := c.collect(params.Refs, params.Proposals, params.Adds, params.Leaf); err != nil {
		return nil, fail(KindBug, op, err)
	}
	if c.t, err = g.begin(now, &proposalList{items: c.items, committer: params.Leaf}); err != nil {
		return nil, fail(KindInvalid, op, err)
	}
	if err := c.checkLifetimes(now); err != nil {
		return nil, fail(KindInvalid, op, err)
	}
	c.newKey, c.initSecret = own.signature, g.cur.secrets.init
	if c.t.list.needPath || params.Path || params.NewLeaf != nil {
		template, key := g.template(params.Leaf, own, params.NewLeaf)
		c.newKey = key
		if err := c.makePath(template); err != nil {
			return nil, fail(KindInvalid, op, err)
		}
	}
	s, err := c.finish()
	if err != nil {
		return nil, fail(KindInvalid, op, err)
	}
	return s, nil
}

// making is a commit that is being made.
type making struct {
	rand          io.Reader
	g             *Group
	t             *transition
	sender        Sender
	key           *SignatureKey // signs the commit
	newKey        *SignatureKey // of the committer's leaf in the next epoch
	items         []ResolvedProposal
	entries       []ProposalOrRef
	initSecret    Secret
	path          *ownPath
	leaf          *LeafNode
	aadGiven      []byte
	private       bool
	padding       int
	treeInWelcome bool
	noExternalPub bool
	extensions    Extensions
}

// collect puts references first, then values, then checked KeyPackages.
func (c *making) collect(refs [][]byte, values []Proposal, adds []CheckedKeyPackage, committer LeafIndex) error {
	refs = slices.Clone(refs)
	leaving := map[LeafIndex]bool{committer: true}
	for _, r := range refs {
		if p := c.g.pending.find(r); p != nil && p.Proposal.Type == ProposalSelfRemove {
			leaving[p.Sender.Leaf] = true
		}
	}
	for i := range c.g.pending.list {
		if p := &c.g.pending.list[i]; p.Proposal.Type == ProposalSelfRemove && !leaving[p.Sender.Leaf] {
			leaving[p.Sender.Leaf] = true
			refs = append(refs, p.Ref)
		}
	}
	commit := &Commit{}
	for _, ref := range refs {
		commit.Proposals = append(commit.Proposals, ProposalOrRef{Ref: ref})
	}
	for i := range values {
		p, err := UnmarshalProposal(values[i].Marshal()) // shares no memory with the caller
		if err != nil {
			return err
		}
		commit.Proposals = append(commit.Proposals, ProposalOrRef{Proposal: p})
	}
	for _, add := range adds {
		if add.kp == nil {
			return fail(KindBug, "collect proposals", ErrKey)
		}
		kp, err := UnmarshalKeyPackage(slices.Clone(add.kp.Marshal()))
		if err != nil {
			return err
		}
		kp.checked = true
		commit.Proposals = append(commit.Proposals, ProposalOrRef{Proposal: &Proposal{Type: ProposalAdd, Add: kp}})
	}
	var err error
	c.entries = commit.Proposals
	c.items, err = c.g.resolveProposals(commit, c.sender)
	return err
}

// checkLifetimes refuses to add KeyPackages that are not valid now (RFC 9420 §7.3).
func (c *making) checkLifetimes(now time.Time) error {
	for i := range c.items {
		p := c.items[i].Proposal
		if p.Type == ProposalAdd && !p.Add.Leaf.Lifetime.Contains(uint64(max(now.Unix(), 0))) {
			return fail(KindInvalid, "check KeyPackage", ErrLifetime)
		}
	}
	return nil
}

// makePath gives the committer a fresh path and validates its new leaf as receivers will.
func (c *making) makePath(template LeafNode) error {
	var err error
	if c.path, c.leaf, err = c.t.edit.makePath(c.rand, c.t.committer, template, c.newKey, c.g.groupID); err != nil {
		return err
	}
	if err := c.t.checkPathLeaf(c.leaf); err != nil {
		return err
	}
	if err := c.t.edit.checkCredentialTypes(c.leaf); err != nil {
		return err
	}
	c.t.own[c.t.committer] = &ownLeaf{signature: c.newKey, encryptionKey: c.path.leafKey}
	for x, k := range c.path.keys {
		c.t.path[x] = k
	}
	return nil
}

// finish frames the commit, derives the next epoch and makes Welcome and GroupInfo.
func (c *making) finish() (*Staged, error) {
	t, g := c.t, c.g
	t.settle()
	commit := &Commit{Proposals: c.entries}
	commitSecret := g.suite.zeroSecret()
	if c.path != nil {
		path, err := c.path.seal(t.edit, c.leaf, t.list.added, t.encoded)
		if err != nil {
			return nil, err
		}
		commit.Path, commitSecret = path, c.path.commitSecret
	}
	aad, err := g.aad("make commit", c.aadGiven)
	if err != nil {
		return nil, err
	}
	format := WireFormatPublicMessage
	if c.private {
		format = WireFormatPrivateMessage
	}
	a, err := signContent(c.key, format, FramedContent{GroupID: g.groupID, Epoch: g.Epoch(), Sender: c.sender,
		AuthenticatedData: aad, ContentType: ContentCommit, Commit: commit}, g.cur.encoded)
	if err != nil {
		return nil, err
	}
	t.confirm(a)
	keys, epochSecret, err := t.epochSecret(c.initSecret, commitSecret)
	if err != nil {
		return nil, err
	}
	defer epochSecret.Wipe()
	next := t.epoch(nil)
	next.setSecrets(epochSecret)
	next.setTag(next.secrets.confirmationTag(g.suite, t.context.ConfirmedTranscriptHash))
	a.Auth.ConfirmationTag = next.tag
	s := t.stage(next)
	s.ours, s.aad = true, aad
	if err := c.invite(s, keys); err != nil {
		return nil, err
	}
	if !c.private {
		s.commit = g.cur.secrets.sealPublic(g.suite, a, g.cur.encoded).Message()
		return s, nil
	}
	s.commit, _, s.advance, err = g.sealPrivate(c.rand, a, c.padding)
	return s, err
}

// setTag sets the confirmation tag after the secrets that it is made with.
func (e *epoch) setTag(tag []byte) {
	e.tag = tag
	e.interim = interimTranscriptHash(e.context.Suite, e.context.ConfirmedTranscriptHash, tag)
}

// invite makes the GroupInfo and, when somebody is added, the Welcome (RFC 9420 §12.4.3).
func (c *making) invite(s *Staged, keys *schedule) error {
	info, err := s.next.groupInfo(s.committer, c.newKey, !c.noExternalPub, c.extensions)
	if err != nil {
		return err
	}
	s.groupInfo = info.Message()
	list := c.t.list
	if len(list.added) == 0 {
		return nil
	}
	if c.treeInWelcome {
		extensions := c.extensions.With(ExtensionRatchetTree, s.next.tree.marshal())
		if info, err = s.next.groupInfo(s.committer, c.newKey, !c.noExternalPub, extensions); err != nil {
			return err
		}
	}
	suite := c.g.suite
	welcomeSecret := deriveWelcomeSecret(suite, keys.joiner, keys.psk)
	defer welcomeSecret.Wipe()
	w := &Welcome{Suite: suite, EncryptedGroupInfo: sealWelcomeGroupInfo(suite, welcomeSecret, info.Marshal())}
	for _, l := range list.added {
		kp := list.items[list.addedBy[l]].Proposal.Add
		secrets := &GroupSecrets{JoinerSecret: keys.joiner, PSKs: list.psks}
		if c.path != nil {
			secrets.PathSecret = c.path.secretFor(l)
		}
		sealed, err := EncryptWithLabel(suite, kp.InitKey, labelWelcome, w.EncryptedGroupInfo, secrets.Marshal())
		if err != nil {
			return err
		}
		w.Secrets = append(w.Secrets, EncryptedGroupSecrets{NewMember: kp.Ref(), Secrets: sealed})
	}
	s.welcome = w.Message()
	return nil
}
