package policy

// ProposalKind is the type of an MLS proposal, as far as policy tells them apart.
type ProposalKind uint8

const (
	ProposalAdd ProposalKind = iota
	ProposalUpdate
	ProposalRemove
	// ProposalSelfRemove is proposal type 0x000a (draft-ietf-mls-extensions-10).
	ProposalSelfRemove
	ProposalPSK
	ProposalReInit
	ProposalExternalInit
	ProposalGroupContextExtensions
	// ProposalAppDataUpdate and ProposalAppDataRemove are the two operations of proposal type 0x0008.
	ProposalAppDataUpdate
	ProposalAppDataRemove
	ProposalAppEphemeral
	// ProposalOther is every type without a rule here; it is refused.
	ProposalOther
)

// Proposal is what policy has to know about one proposal.
type Proposal struct {
	Kind ProposalKind
	// Sender proposed it: the committer when it is by value.
	Sender Actor
	// Ref is the ProposalRef when it is by reference, nil when by value.
	Ref []byte
	// User is the user URI of the added KeyPackage, or of the leaf that is updated or removed.
	User string
	// Leaf is the index of the leaf that is updated or removed.
	Leaf uint32
	// Component and Data are those of an AppDataUpdate; Data only of an update.
	Component uint16
	Data      []byte
}

// pending is what WithPending adds to a state.
type pending struct {
	proposals  []Proposal
	roles      map[string]uint32 // what the proposals make of users' roles; RoleNone for removed ones
	components map[uint16]bool
}

// WithPending returns a state that knows the proposals which the hub accepted in this epoch and which no commit
// has taken yet. Their effect counts at once for what their subjects may do (draft-ietf-mimi-protocol-06 §5.3),
// and commits must include them; indices in updates still refer to the committed list.
func (s *State) WithPending(proposals []Proposal) (*State, error) {
	c := *s
	c.pending = pending{proposals: proposals, roles: make(map[string]uint32), components: make(map[uint16]bool)}
	seen := make(map[string]bool)
	for _, p := range proposals {
		if p.Kind != ProposalAppDataUpdate && p.Kind != ProposalAppDataRemove {
			continue
		}
		c.pending.components[p.Component] = true
		if p.Component != ComponentParticipants || p.Kind != ProposalAppDataUpdate {
			continue
		}
		u, err := UnmarshalParticipantListUpdate(p.Data)
		if err != nil {
			return nil, err
		}
		changes, err := u.Changes(s.Participants, seen)
		if err != nil {
			return nil, err
		}
		for _, ch := range changes {
			c.pending.roles[ch.User] = ch.To
		}
	}
	return &c, nil
}

// Pending returns the proposals of WithPending.
func (s *State) Pending() []Proposal { return s.pending.proposals }

// Commit is what policy has to know about a commit that is valid MLS.
type Commit struct {
	// Committer signed it; of an external commit, the joiner.
	Committer Actor
	// Leaf is the committer's leaf index, not used of an external commit.
	Leaf uint32
	// External tells that it is an external commit (RFC 9420 §12.4.3.2).
	External bool
	// Code is a valid joining code that the joiner presented when it fetched the GroupInfo.
	Code *JoinCode
	// Proposals are all proposals that it covers, in its order.
	Proposals []Proposal
}

// Verdict is the result of judging a commit or proposals.
type Verdict struct {
	Decision
	// Proposal is the index into the proposals that were judged of the one that is refused, -1 when it is
	// none of them alone.
	Proposal int
	// Next is the room after the commit, or after committing pending and judged proposals together; nil when
	// refused. It has no pending proposals.
	Next *State
}

func refuse(d Decision, proposal int) Verdict { return Verdict{Decision: d, Proposal: proposal} }

// JudgeCommit says whether the hub accepts a commit in the room before, which must know its clients
// ([State.WithClients]) and pending proposals ([State.WithPending]), and what the room is afterwards:
//
//   - the committer is a participant and not banned or about to be removed;
//   - all pending proposals are included; an external commit has only what it may have, and all SelfRemoves;
//   - the sender of each proposal has the right to it: a participant change, a component, a client;
//   - no forbidden combination: role definitions with participant changes, preauthorisation with others than
//     removals, two metadata updates;
//   - afterwards, no clients of removed or banned users are left, every client that came belongs to a
//     participant whose role allows clients, and constraints, base policy and envelope are kept.
//
// A follower runs the same over what its hub fanned out, with [Actor.Trusted] for the hub. envelope may be nil.
func JudgeCommit(before *State, c Commit, envelope *Envelope) Verdict {
	if d := before.mayCommit(c); !d.Allowed {
		return refuse(d, -1)
	}
	if c.External {
		if d, i := externalRules(c); !d.Allowed {
			return refuse(d, i)
		}
	}
	if d := before.includesPending(c); !d.Allowed {
		return refuse(d, -1)
	}
	j := judgement{before: before, proposals: c.Proposals, commit: &c, envelope: envelope}
	return j.run()
}

// JudgeProposals says whether the hub accepts proposals that one client or external sender sent together
// (draft-ietf-mimi-protocol-06 §5.3, moreProposals): by themselves as JudgeCommit does, and that they can be
// committed together with those that are pending. code as in Commit. envelope may be nil.
func JudgeProposals(before *State, proposals []Proposal, code *JoinCode, envelope *Envelope) Verdict {
	if o := before.Operational; o != nil && !o.ExternalProposalAllowed {
		for i, p := range proposals {
			if outsider := p.Sender.External || before.clients[p.Sender.URI] == 0; outsider && !p.Sender.Hub {
				return refuse(deny(ReasonOperational, "external proposal"), i)
			}
		}
	}
	for i, p := range proposals {
		single := p.Component == ComponentMetadata && p.Kind == ProposalAppDataUpdate
		if single && before.pending.components[ComponentMetadata] {
			return refuse(deny(ReasonDuplicate, "a metadata update is pending"), i)
		}
	}
	n := len(before.pending.proposals)
	all := append(append(make([]Proposal, 0, n+len(proposals)), before.pending.proposals...), proposals...)
	j := judgement{before: before, proposals: all, accepted: n, new: true, commit: &Commit{Code: code}, envelope: envelope}
	v := j.run()
	if v.Proposal >= 0 {
		v.Proposal = max(v.Proposal-n, -1)
	}
	return v
}

// mayCommit checks the committer itself.
func (s *State) mayCommit(c Commit) Decision {
	index := s.roles[c.Committer.URI]
	pendingTo, touched := s.pending.roles[c.Committer.URI]
	switch {
	case c.Committer.External:
		return deny(ReasonExternalCommit, "an external sender cannot commit")
	case index == RoleBanned && s.bans(), touched && index != RoleNone && (pendingTo == RoleNone || pendingTo == RoleBanned && s.bans()):
		return deny(ReasonBlocked, "%.200q is banned or being removed", c.Committer.URI)
	case c.External && s.Operational != nil && !s.Operational.ExternalCommitAllowed:
		return deny(ReasonOperational, "external commit")
	case !c.External && index == RoleNone:
		return deny(ReasonNotParticipant, "%.200q", c.Committer.URI)
	}
	return allowed
}

// externalRules checks what an external commit holds (RFC 9420 §12.4.3.2; draft-ietf-mls-extensions-10 §4.7
// and SelfRemove): by reference only SelfRemoves, by value no Add or Update, and no client removed but one of
// the joiner's own.
func externalRules(c Commit) (Decision, int) {
	for i, p := range c.Proposals {
		fits := false
		switch p.Kind {
		case ProposalSelfRemove:
			fits = p.Ref != nil
		case ProposalExternalInit, ProposalPSK, ProposalAppDataUpdate, ProposalAppDataRemove:
			fits = p.Ref == nil
		case ProposalRemove:
			fits = p.Ref == nil && p.User == c.Committer.URI
		}
		if !fits {
			return deny(ReasonExternalCommit, "proposal of kind %d", p.Kind), i
		}
	}
	return allowed, -1
}

// includesPending checks that the commit has all pending proposals: of an external commit, the SelfRemoves.
// An Update of the committer's own leaf is left out, and a Remove of a leaf that removes itself: they are
// invalid in the commit (RFC 9420 §12.2; draft-ietf-mls-extensions-10, SelfRemove).
func (s *State) includesPending(c Commit) Decision {
	leaving := make(map[uint32]bool)
	for _, p := range s.pending.proposals {
		if p.Kind == ProposalSelfRemove {
			leaving[p.Leaf] = true
		}
	}
	included := make(map[string]bool, len(c.Proposals))
	for _, p := range c.Proposals {
		if p.Ref != nil {
			included[string(p.Ref)] = true
		}
	}
	for _, p := range s.pending.proposals {
		switch {
		case c.External && p.Kind != ProposalSelfRemove,
			p.Kind == ProposalUpdate && p.Leaf == c.Leaf,
			p.Kind == ProposalRemove && leaving[p.Leaf]:
			continue
		}
		if !included[string(p.Ref)] {
			return deny(ReasonMissingProposal, "%x", p.Ref)
		}
	}
	return allowed
}
