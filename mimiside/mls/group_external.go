package mls

import (
	"bytes"
	"io"
	"time"
)

// StageExternalCommit makes an external commit for a group that this process does not hold (RFC 9420 §12.4.3.2).
// NewGroupFromStaged makes the group once it is accepted.
func StageExternalCommit(rand io.Reader, now time.Time, cfg Config, params ExternalCommitParams) (*Staged, error) {
	g, err := NewPublicGroup(now, cfg, PublicGroupParams{GroupInfo: params.GroupInfo, Tree: params.Tree})
	if err != nil {
		return nil, err
	}
	s, err := g.StageExternalCommit(rand, now, params)
	if err != nil {
		return nil, err
	}
	s.home = g
	return s, nil
}

// StageExternalCommit is like the function of that name for a group that is held already, as a public view or with
// own leaves: the new leaf joins the pool by Merge. The GroupInfo must be of the present epoch; Tree is not used.
func (g *Group) StageExternalCommit(rand io.Reader, now time.Time, params ExternalCommitParams) (*Staged, error) {
	const op = "make external commit"
	suite, key := g.suite, params.Leaf.SignatureKey
	if key == nil || key.Suite() != suite {
		return nil, failf(KindBug, op, ErrKey, "signature key is of another suite")
	}
	if err := g.open(op); err != nil {
		return nil, err
	}
	if params.GroupInfo == nil {
		return nil, fail(KindBug, op, ErrGroupInfo)
	}
	if err := checkGroupInfo(params.GroupInfo, g.cur.tree); err != nil {
		return nil, fail(KindInvalid, op, err)
	}
	if err := g.sameEpoch(&opened{info: params.GroupInfo}); err != nil {
		return nil, fail(KindInvalid, op, err)
	}
	data, there := params.GroupInfo.Extensions.Find(ExtensionExternalPub)
	if !there {
		return nil, fail(KindInvalid, op, ErrNoExternalPub)
	}
	externalPub, err := UnmarshalExternalPub(data)
	if err != nil {
		return nil, fail(KindInvalid, op, err)
	}
	kem, initSecret, err := externalInitSend(suite, externalPub)
	if err != nil {
		return nil, fail(KindInvalid, op, err)
	}
	c := &making{rand: rand, g: g, key: key, newKey: key, initSecret: initSecret, sender: Sender{Type: SenderNewMemberCommit},
		aadGiven: params.AAD, noExternalPub: params.NoExternalPub, extensions: params.GroupInfoExtensions}
	if err := c.collectExternal(now, kem, &params); err != nil {
		return nil, fail(KindInvalid, op, err)
	}
	if c.t, err = g.begin(now, &proposalList{items: c.items, external: true, committer: nobody}); err != nil {
		return nil, fail(KindInvalid, op, err)
	}
	if err := c.t.placeCommitter(); err != nil {
		return nil, fail(KindInvalid, op, err)
	}
	template := LeafNode{Credential: params.Leaf.Credential, Capabilities: params.Leaf.Capabilities, Extensions: params.Leaf.Extensions}
	if err := c.makePath(template); err != nil {
		return nil, fail(KindInvalid, op, err)
	}
	s, err := c.finish()
	if err != nil {
		return nil, fail(KindInvalid, op, err)
	}
	return s, nil
}

// collectExternal lists the proposals of an external commit: SelfRemoves by reference, all others by value. The
// SelfRemoves that are given and those that the group has cached are included.
func (c *making) collectExternal(now time.Time, kem []byte, params *ExternalCommitParams) error {
	view := *c.g // the SelfRemoves are cached in a copy, so that the group does not change
	pending := *c.g.pending
	pending.list = append([]cachedProposal(nil), pending.list...)
	view.pending = &pending
	for _, m := range params.SelfRemoves {
		p, _, err := view.ReceiveProposal(now, m)
		if err != nil {
			return err
		}
		if p.Proposal.Type != ProposalSelfRemove {
			return failf(KindBug, "collect SelfRemoves", ErrProposal, "type 0x%04x", uint16(p.Proposal.Type))
		}
	}
	values := []Proposal{{Type: ProposalExternalInit, ExternalInit: kem}}
	if params.Remove != nil {
		values = append(values, Proposal{Type: ProposalRemove, Remove: *params.Remove})
	}
	for i := range params.PSKs {
		values = append(values, Proposal{Type: ProposalPSK, PSK: &params.PSKs[i]})
	}
	values = append(values, params.Proposals...)
	held := c.g
	c.g = &view
	defer func() { c.g = held }()
	return c.collect(nil, values, nil, nobody)
}

// NewGroupFromStaged returns the group that an accepted external commit of StageExternalCommit leads to, with the new
// leaf as its own. The Staged must not be used again.
func NewGroupFromStaged(now time.Time, cfg Config, s *Staged) (*Group, error) {
	if s.home == nil {
		return nil, fail(KindBug, "join by external commit", ErrStaged)
	}
	g := s.home
	cfg.Limits = cfg.Limits.withDefaults()
	g.cfg = cfg
	if _, err := g.Merge(now, s); err != nil {
		return nil, err
	}
	return g, nil
}

// SamePublicState tells whether two groups agree on everything that a public view knows.
func (g *Group) SamePublicState(other *Group) bool {
	return bytes.Equal(g.cur.encoded, other.cur.encoded) && bytes.Equal(g.cur.interim, other.cur.interim)
}
