package policy

import "errors"

// judgement is one run of JudgeCommit or JudgeProposals.
type judgement struct {
	before    *State
	proposals []Proposal
	accepted  int  // the first so many were accepted before: they take effect and are not authorised again
	new       bool // the others come now, and are not proposals that a commit refers to
	commit    *Commit
	envelope  *Envelope

	changes []senderChange
	updates map[uint16][][]byte // by component, in commit order
	removed map[uint16]bool     // components
	clients map[string]int      // user → change of the number of leaves
	cleanup map[string]bool     // users whose clients an authorised removal or ban takes with it
	next    *State
}

// senderChange is a participant change with the one who proposed it.
type senderChange struct {
	ParticipantChange
	sender   Actor
	proposal int
	joined   bool
}

func (j *judgement) participantChanges() []ParticipantChange {
	changes := make([]ParticipantChange, len(j.changes))
	for i, c := range j.changes {
		changes[i] = c.ParticipantChange
	}
	return changes
}

func (j *judgement) run() Verdict {
	j.updates, j.removed = make(map[uint16][][]byte), make(map[uint16]bool)
	j.clients, j.cleanup = make(map[string]int), make(map[string]bool)
	for _, step := range []func() (Decision, int){
		j.collect, j.combinations, j.participants, j.components, j.handshake, j.removals, j.advance, j.additions, j.result,
	} {
		if d, i := step(); !d.Allowed {
			return refuse(d, i)
		}
	}
	return Verdict{Decision: allowed, Proposal: -1, Next: j.next}
}

// authorise decides a change by the sender of a proposal. A proposal by reference was accepted when it came:
// it also stands when only the committed state, without other pending proposals, gives the right.
func (j *judgement) authorise(i int, c Change) (Decision, int) {
	if i < j.accepted {
		return allowed, -1
	}
	p := &j.proposals[i]
	d := j.before.authorise(p.Sender, c, true)
	if !d.Allowed && j.stands(p) {
		d = j.before.authorise(p.Sender, c, false)
	}
	return d, i
}

// stands tells whether the proposal was accepted when it came, so that the committed state suffices for it.
func (j *judgement) stands(p *Proposal) bool { return !j.new && p.Ref != nil }

// collect sorts the proposals: participant changes, updates by component, and clients that come and go.
func (j *judgement) collect() (Decision, int) {
	seen := make(map[string]bool)
	leaves := make(map[uint32]bool)
	for i, p := range j.proposals {
		switch p.Kind {
		case ProposalAdd:
			j.clients[p.User]++
		case ProposalRemove, ProposalSelfRemove:
			// A Remove beside the SelfRemove of the same leaf takes one client, not two.
			if !leaves[p.Leaf] {
				leaves[p.Leaf] = true
				j.clients[p.User]--
			}
		case ProposalAppDataRemove:
			if j.removed[p.Component] || j.updates[p.Component] != nil {
				return deny(ReasonDuplicate, "component %#04x", p.Component), i
			}
			j.removed[p.Component] = true
		case ProposalAppDataUpdate:
			if j.removed[p.Component] {
				return deny(ReasonDuplicate, "component %#04x", p.Component), i
			}
			j.updates[p.Component] = append(j.updates[p.Component], p.Data)
			if p.Component != ComponentParticipants {
				continue
			}
			u, err := UnmarshalParticipantListUpdate(p.Data)
			if err != nil {
				return deny(ReasonMalformed, "%v", err), i
			}
			changes, err := u.Changes(j.before.Participants, seen)
			if errors.Is(err, errTwice) {
				return deny(ReasonDuplicate, "%v", err), i
			}
			if err != nil {
				return deny(ReasonMalformed, "%v", err), i
			}
			for _, c := range changes {
				j.changes = append(j.changes, senderChange{ParticipantChange: c, sender: p.Sender, proposal: i})
			}
		}
	}
	if j.commit.External {
		j.clients[j.commit.Committer.URI]++
	}
	return allowed, -1
}

// combinations refuses changes that must not meet in one commit (draft-ietf-mimi-room-policy-03, Role-Based
// Access Control and Preauthorized Users; draft-ietf-mimi-protocol-06 §5.4).
func (j *judgement) combinations() (Decision, int) {
	if len(j.updates[ComponentMetadata]) > 1 {
		return deny(ReasonDuplicate, "%d metadata updates", len(j.updates[ComponentMetadata])), -1
	}
	roles := j.updates[ComponentRoles] != nil
	preauth := j.updates[ComponentPreauth] != nil || j.removed[ComponentPreauth]
	for _, c := range j.changes {
		if roles {
			return deny(ReasonCombination, "role definitions and participants"), c.proposal
		}
		if preauth && c.To != RoleNone {
			return deny(ReasonCombination, "preauthorisation and participants"), c.proposal
		}
	}
	return allowed, -1
}

// participants authorises every change of the participant list.
func (j *judgement) participants() (Decision, int) {
	if d, i := onceEach(j.before.Participants, j.participantChanges()); !d.Allowed {
		return d, j.changes[i].proposal
	}
	for i := range j.changes {
		c := &j.changes[i]
		change := Change{User: c.User, Role: c.To}
		switch {
		case c.From == RoleNone && c.User == c.sender.URI && !c.sender.External:
			change.Kind, change.Code, c.joined = Join, j.commit.Code, true
		case c.From == RoleNone:
			change.Kind = AddParticipant
		case c.To == RoleNone:
			change.Kind = RemoveParticipant
		default:
			change.Kind = ChangeRole
		}
		if d, at := j.authorise(c.proposal, change); !d.Allowed {
			return d, at
		}
		if c.proposal >= j.accepted {
			if d := j.envelope.peers(j.before, c.sender, c.ParticipantChange); !d.Allowed {
				return d, c.proposal
			}
		}
		ban := c.To == RoleBanned && j.before.bans()
		if c.To == RoleNone || ban && (c.proposal < j.accepted || j.before.mayCleanUp(c.sender, c.User, !j.stands(&j.proposals[c.proposal])).Allowed) {
			j.cleanup[c.User] = true
		}
	}
	return allowed, -1
}

// components authorises the changes of all other components.
func (j *judgement) components() (Decision, int) {
	for i, p := range j.proposals {
		change := Change{Kind: ChangeComponent, Component: p.Component}
		switch {
		case p.Kind == ProposalAppDataRemove:
			change.Kind = RemoveComponent
		case p.Kind != ProposalAppDataUpdate, p.Component == ComponentParticipants:
			continue
		case p.Component == ComponentMetadata:
			m, err := UnmarshalRoomMetaData(p.Data)
			if err != nil {
				return deny(ReasonMalformed, "%v", err), i
			}
			change = Change{Kind: ChangeMetadata, Metadata: m}
		case p.Component == ComponentJoinLinks:
			if d, at := j.joinLinks(i); !d.Allowed {
				return d, at
			}
			continue
		}
		if d, at := j.authorise(i, change); !d.Allowed {
			return d, at
		}
	}
	return allowed, -1
}

// joinLinks authorises an update of the join links: canCreateJoinCode and canDeleteJoinCode are read as if
// they were not reserved, canChangeOtherPolicyAttribute serves for both.
func (j *judgement) joinLinks(i int) (Decision, int) {
	u, err := UnmarshalJoinLinksUpdate(j.proposals[i].Data)
	if err != nil {
		return deny(ReasonMalformed, "%v", err), i
	}
	if d, _ := j.authorise(i, Change{Kind: ChangeComponent, Component: ComponentJoinLinks}); d.Allowed {
		return allowed, -1
	}
	if len(u.Added) > 0 {
		if d, at := j.authorise(i, Change{Kind: Use, Capability: CanCreateJoinCode}); !d.Allowed {
			return d, at
		}
	}
	if len(u.Removed) > 0 {
		return j.authorise(i, Change{Kind: Use, Capability: CanDeleteJoinCode})
	}
	return allowed, -1
}

// handshake authorises proposals that change neither participants, components nor clients.
func (j *judgement) handshake() (Decision, int) {
	for i, p := range j.proposals {
		switch p.Kind {
		case ProposalReInit:
			if d, at := j.authorise(i, Change{Kind: SendReInit}); !d.Allowed {
				return d, at
			}
		case ProposalGroupContextExtensions:
			if d, at := j.authorise(i, Change{Kind: ChangeGroupContext}); !d.Allowed {
				return d, at
			}
		case ProposalUpdate, ProposalPSK, ProposalAppEphemeral:
			// The draft reserves capabilities for these without a rule: any participant may send them.
			if j.commit.External && p.Ref == nil {
				continue
			}
			if d, at := j.authorise(i, Change{Kind: TakePart}); !d.Allowed {
				return d, at
			}
		case ProposalExternalInit:
			if !j.commit.External {
				return deny(ReasonExternalCommit, "ExternalInit in a commit by a member"), i
			}
		case ProposalOther:
			return deny(ReasonUnknownProposal, "proposal type without a rule"), i
		}
	}
	return allowed, -1
}

// removals authorises the removal of clients that is not part of a removal or ban.
func (j *judgement) removals() (Decision, int) {
	for i, p := range j.proposals {
		own := p.User == p.Sender.URI && !p.Sender.External
		switch {
		case p.Kind != ProposalRemove && p.Kind != ProposalSelfRemove, j.cleanup[p.User]:
			continue
		case p.Kind == ProposalSelfRemove && !own:
			return deny(ReasonMalformed, "SelfRemove of a client of %.200q by %.200q", p.User, p.Sender.URI), i
		case j.commit.External && p.Ref == nil:
			continue // the joiner's old leaf, which the new one replaces
		}
		if d, at := j.authorise(i, Change{Kind: RemoveClient, User: p.User, Clients: 1}); !d.Allowed {
			return d, at
		}
	}
	return allowed, -1
}

// oneLink checks that a room whose links are made on request keeps at most one (draft-ietf-mimi-room-policy-03, Join Link
// policies).
func (j *judgement) oneLink() Decision {
	n := len(j.next.JoinLinks)
	if !j.next.JoinLinkPolicy.OnRequest || n <= 1 || j.updates[ComponentJoinLinkPolicy] == nil && n <= len(j.before.JoinLinks) {
		return allowed
	}
	return deny(ReasonMalformed, "%d join links in a room that keeps one", n)
}

// advance computes the room after the commit.
func (j *judgement) advance() (Decision, int) {
	logic := Components()
	data := make(map[uint16][]byte)
	for id := range j.removed {
		data[id] = nil
	}
	for id, updates := range j.updates {
		if id == ComponentParticipants || logic[id] == nil {
			continue
		}
		next, err := logic[id].Apply(j.before.raw[id], updates)
		if err != nil {
			return deny(ReasonMalformed, "%v", err), -1
		}
		if id >= ComponentFrankingAgent && id <= ComponentExpiration {
			data[id] = next
		}
	}
	next, err := j.before.with(data)
	if err != nil {
		return deny(ReasonMalformed, "%v", err), -1
	}
	if j.next, err = next.advance(j.participantChanges(), j.clients); err != nil {
		return deny(ReasonMalformed, "%v", err), -1
	}
	return allowed, -1
}

// additions authorises the clients that come, in the roles that their users have afterwards.
func (j *judgement) additions() (Decision, int) {
	joined := make(map[string]bool)
	for _, c := range j.changes {
		joined[c.User] = joined[c.User] || c.joined
	}
	for i, p := range j.proposals {
		if p.Kind != ProposalAdd || i < j.accepted || joined[p.User] && p.User == p.Sender.URI {
			continue
		}
		if d := j.addition(p); !d.Allowed {
			return d, i
		}
	}
	if !j.commit.External || joined[j.commit.Committer.URI] {
		return allowed, -1
	}
	for _, p := range j.proposals {
		if p.Kind == ProposalRemove && p.User == j.commit.Committer.URI {
			return allowed, -1 // a client that comes back
		}
	}
	return j.before.authorise(j.commit.Committer, Change{Kind: AddClient, User: j.commit.Committer.URI, Clients: 1}, true), -1
}

// addition decides an Add. The sender acts in its role before the commit, and the user is in its role after it.
func (j *judgement) addition(p Proposal) Decision {
	if j.next.roles[p.User] == RoleNone {
		return deny(ReasonOutsiderClient, "%.200q", p.User)
	}
	change := Change{Kind: AddClient, User: p.User, Clients: 1}
	view := *j.before
	view.roles = j.next.roles
	decide := func(effective bool) Decision {
		if p.Sender.Trusted {
			return allowed
		}
		me, d := j.before.acting(p.Sender, change, effective)
		if !d.Allowed || me == nil {
			return d
		}
		return view.authoriseAddClient(me, p.Sender, change)
	}
	d := decide(true)
	if !d.Allowed && j.stands(&p) {
		d = decide(false)
	}
	return d
}

// result checks the room after the commit.
func (j *judgement) result() (Decision, int) {
	if d := outcome(j.before, j.next, j.participantChanges(), j.clients); !d.Allowed {
		return d, -1
	}
	if j.updates[ComponentRoles] != nil {
		if d := j.next.checkRoles(); !d.Allowed {
			return d, -1
		}
	}
	if j.updates[ComponentBase] != nil || j.updates[ComponentRoles] != nil {
		if d := j.next.checkBase(); !d.Allowed {
			return d, -1
		}
	}
	if d := j.oneLink(); !d.Allowed {
		return d, -1
	}
	for _, id := range j.next.Unreadable {
		// The operational policy is unfinished in the draft: what cannot be read is not in force, and no harm.
		if j.updates[id] != nil && id != ComponentOperational {
			return deny(ReasonMalformed, "component %#04x cannot be read", id), -1
		}
	}
	for _, id := range []uint16{ComponentRoles, ComponentPreauth, ComponentHistory, ComponentBots} {
		if j.updates[id] != nil {
			if d := j.next.checkReferences(); !d.Allowed {
				return d, -1
			}
			break
		}
	}
	return j.envelope.check(j.before, j.next, j.updates, j.removed), -1
}
