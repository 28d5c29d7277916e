package policy

import (
	"slices"
	"testing"
)

// TestJudgeCommit: who may commit what, and that the participant list and the clients in the group stay together.
// S003-038, S003-039, S003-040, S003-041, S003-042, S003-044, S003-045, S003-056.
func TestJudgeCommit(t *testing.T) {
	s := populated(t, cooperative())
	b := builder{t, s}
	m, admin, super := Actor{URI: user(2, 1)}, Actor{URI: user(3, 1)}, Actor{URI: user(4, 1)}
	other, banned := user(2, 2), Actor{URI: user(1, 1)}
	metadata := func(name string) *RoomMetaData { return &RoomMetaData{RoomURI: roomURI, RoomName: name} }
	cases := []struct {
		name      string
		committer Actor
		proposals []Proposal
		want      Reason
	}{
		{"empty", m, nil, ReasonNone},
		{"by an outsider's leaf", Actor{URI: outsider}, nil, ReasonNotParticipant},
		{"by a banned user", banned, nil, ReasonBlocked},
		{"by an external sender", hubActor, nil, ReasonExternalCommit},
		{"addition with clients", m, []Proposal{b.addUser(m, outsider, 2), b.add(m, outsider), b.add(m, outsider)}, ReasonNone},
		{"addition without clients", m, []Proposal{b.addUser(m, outsider, 2)}, ReasonNone},
		{"addition in a higher role", m, []Proposal{b.addUser(m, outsider, 3)}, ReasonNoTransition},
		{"clients without addition", m, []Proposal{b.add(m, outsider)}, ReasonOutsiderClient},
		{"addition by an admin, its clients by a user", m, []Proposal{byRef(b.addUser(admin, outsider, 3))[0], b.add(m, outsider)}, ReasonNoTransition},
		{"addition of one and client of another", m, []Proposal{b.addUser(m, outsider, 2), b.add(m, "mimi://o.example/u/x")}, ReasonOutsiderClient},
		{"banned addition with a client", admin, []Proposal{b.addUser(admin, outsider, 1), b.add(admin, outsider)}, ReasonClientsRemain},
		{"addition in a role that is not", admin, []Proposal{b.addUser(admin, outsider, 9)}, ReasonUnknownRole},
		{"addition of a participant", m, []Proposal{b.addUser(m, other, 2)}, ReasonAlreadyParticipant},
		{"addition of a participant in other letters", m, []Proposal{b.addUser(m, shout(other), 2)}, ReasonAlreadyParticipant},
		{"addition of a banned user in other letters", m, []Proposal{b.addUser(m, shout(banned.URI), 2)}, ReasonAlreadyParticipant},
		{"removal and addition in other letters", admin, []Proposal{b.removeUser(admin, other), b.remove(admin, other), b.addUser(admin, shout(other), 2)}, ReasonAlreadyParticipant},
		{"one addition in two ways of writing", m, []Proposal{b.addUser(m, outsider, 2), b.addUser(m, shout(outsider), 2)}, ReasonDuplicate},
		{"own client", m, []Proposal{b.add(m, m.URI)}, ReasonNone},
		{"removal with all clients", m, []Proposal{b.removeUser(m, other), b.remove(m, other)}, ReasonNone},
		{"removal that leaves a client", m, []Proposal{b.removeUser(m, other)}, ReasonClientsRemain},
		{"removal of an admin by a user", m, []Proposal{b.removeUser(m, admin.URI), b.remove(m, admin.URI)}, ReasonNoTransition},
		{"client of another removed by a user", m, []Proposal{b.remove(m, other)}, ReasonNoCapability},
		{"kick", admin, []Proposal{b.remove(admin, other)}, ReasonNone},
		{"leaving, committed by another", super, append(byRef(b.removeUser(m, m.URI), b.remove(m, m.URI)), b.set(super, ComponentMetadata, metadata("x"))), ReasonNone},
		{"SelfRemove, committed by another", super, byRef(Proposal{Kind: ProposalSelfRemove, Sender: m, User: m.URI, Leaf: 2}), ReasonNone},
		{"SelfRemove of somebody else", super, byRef(Proposal{Kind: ProposalSelfRemove, Sender: m, User: other, Leaf: 3}), ReasonMalformed},
		{"SelfRemove beside Remove counts one client", super, byRef(b.removeUser(m, m.URI), b.remove(m, m.URI), Proposal{Kind: ProposalSelfRemove, Sender: m, User: m.URI, Leaf: b.leafOf(m.URI)}), ReasonNone},
		{"ban with clients", admin, []Proposal{b.changeRole(admin, other, 1), b.remove(admin, other)}, ReasonNone},
		{"ban that leaves a client", admin, []Proposal{b.changeRole(admin, other, 1)}, ReasonClientsRemain},
		{"ban by a user", m, []Proposal{b.changeRole(m, other, 1), b.remove(m, other)}, ReasonNoCapability},
		{"end of a ban", admin, []Proposal{b.changeRole(admin, banned.URI, 2)}, ReasonNone},
		{"end of a ban with a client, by somebody who may add", admin, []Proposal{b.changeRole(admin, banned.URI, 2), b.add(admin, banned.URI)}, ReasonNone},
		{"client of a banned user", admin, []Proposal{b.add(admin, banned.URI)}, ReasonClientsRemain},
		{"self-promotion", m, []Proposal{b.changeRole(m, m.URI, 3)}, ReasonNoCapability},
		{"self-promotion of an admin", admin, []Proposal{b.changeRole(admin, admin.URI, 4)}, ReasonNoCapability},
		{"promotion", admin, []Proposal{b.changeRole(admin, other, 3)}, ReasonNone},
		{"promotion above oneself", admin, []Proposal{b.changeRole(admin, other, 4)}, ReasonNoTransition},
		{"demotion of somebody higher", admin, []Proposal{b.changeRole(admin, super.URI, 2)}, ReasonNoTransition},
		{"somebody else's proposal counts as the sender's", super, byRef(b.changeRole(m, other, 3)), ReasonNoCapability},
		{"both of the last two admins removed", super, []Proposal{b.removeUser(super, admin.URI), b.removeUser(super, user(3, 2)), b.remove(super, admin.URI), b.remove(super, user(3, 2))}, ReasonTooFew},
		{"an admin replaced by another", super, []Proposal{b.changeRole(super, admin.URI, 2), b.changeRole(super, user(3, 2), 2), b.changeRole(super, other, 3)}, ReasonNone},
		{"one user in two updates", super, []Proposal{b.changeRole(super, other, 3), b.changeRole(super, other, 4)}, ReasonDuplicate},
		{"update that cannot be read", super, []Proposal{{Kind: ProposalAppDataUpdate, Sender: super, Component: ComponentParticipants, Data: []byte{9}}}, ReasonMalformed},
		{"metadata", m, []Proposal{b.set(m, ComponentMetadata, metadata("x"))}, ReasonNone},
		{"metadata twice", m, []Proposal{b.set(m, ComponentMetadata, metadata("x")), b.set(m, ComponentMetadata, metadata("y"))}, ReasonDuplicate},
		{"metadata that cannot be read", m, []Proposal{{Kind: ProposalAppDataUpdate, Sender: m, Component: ComponentMetadata, Data: []byte{9}}}, ReasonMalformed},
		{"room URI", super, []Proposal{b.set(super, ComponentMetadata, &RoomMetaData{RoomURI: roomURI + "2"})}, ReasonImmutable},
		{"roles by a super admin without the capability", super, []Proposal{b.set(super, ComponentRoles, cooperative())}, ReasonNoCapability},
		{"component updated and removed", super, []Proposal{b.set(super, ComponentStatus, &StatusNotificationPolicy{}), {Kind: ProposalAppDataRemove, Sender: super, Component: ComponentStatus}}, ReasonDuplicate},
		{"component removed twice", super, []Proposal{{Kind: ProposalAppDataRemove, Sender: super, Component: ComponentPreauth}, {Kind: ProposalAppDataRemove, Sender: super, Component: ComponentPreauth}}, ReasonDuplicate},
		{"component removed and updated", super, []Proposal{{Kind: ProposalAppDataRemove, Sender: super, Component: ComponentPreauth}, b.set(super, ComponentPreauth, PreAuthData{})}, ReasonDuplicate},
		{"preauthorisation with a removal", super, []Proposal{b.set(super, ComponentPreauth, PreAuthData{}), b.removeUser(super, other), b.remove(super, other)}, ReasonNone},
		{"preauthorisation with a ban", super, []Proposal{b.set(super, ComponentPreauth, PreAuthData{}), b.changeRole(super, other, 1), b.remove(super, other)}, ReasonCombination},
		{"preauthorisation for a role that is not", super, []Proposal{b.set(super, ComponentPreauth, PreAuthData{{TargetRole: Role{Index: 9}}})}, ReasonUnknownRole},
		{"base policy that the room does not fit", super, []Proposal{b.set(super, ComponentBase, &BaseRoomPolicy{MultiDevice: true, MaxUsers: number(2)})}, ReasonMaxUsers},
		{"base policy that fits", super, []Proposal{b.set(super, ComponentBase, &BaseRoomPolicy{MultiDevice: true, MaxUsers: number(20)})}, ReasonNone},
		{"base policy and addition beyond it", super, []Proposal{b.set(super, ComponentBase, &BaseRoomPolicy{MultiDevice: true, MaxUsers: number(8)}), b.addUser(super, outsider, 2)}, ReasonMaxUsers},
		{"base policy that cannot be read", super, []Proposal{{Kind: ProposalAppDataUpdate, Sender: super, Component: ComponentBase, Data: []byte{9}}}, ReasonMalformed},
		{"Update, PSK and AppEphemeral of a participant", m, []Proposal{{Kind: ProposalUpdate, Sender: m, User: m.URI}, {Kind: ProposalPSK, Sender: m}, {Kind: ProposalAppEphemeral, Sender: m}}, ReasonNone},
		{"PSK of a banned user", m, byRef(Proposal{Kind: ProposalPSK, Sender: banned}), ReasonBlocked},
		{"ReInit", m, []Proposal{{Kind: ProposalReInit, Sender: m}}, ReasonNoCapability},
		{"GroupContextExtensions", m, []Proposal{{Kind: ProposalGroupContextExtensions, Sender: m}}, ReasonNoCapability},
		{"GroupContextExtensions of the hub", m, byRef(Proposal{Kind: ProposalGroupContextExtensions, Sender: hubActor}), ReasonNone},
		{"ExternalInit by a member", m, []Proposal{{Kind: ProposalExternalInit, Sender: m}}, ReasonExternalCommit},
		{"unknown proposal", m, []Proposal{{Kind: ProposalOther, Sender: m}}, ReasonUnknownProposal},
		{"unknown component by an admin", admin, []Proposal{{Kind: ProposalAppDataUpdate, Sender: admin, Component: 0x8001}}, ReasonNoCapability},
		{"own last client of a user", super, byRef(b.remove(m, m.URI)), ReasonNone},
	}
	for _, c := range cases {
		v := JudgeCommit(s, Commit{Committer: c.committer, Leaf: b.leafOf(c.committer.URI), Proposals: c.proposals}, nil)
		if v.Reason != c.want || v.Allowed != (c.want == ReasonNone) || v.Allowed != (v.Next != nil) {
			t.Errorf("%s: %v (proposal %d), want %v", c.name, v.Decision, v.Proposal, c.want)
			continue
		}
		if v.Allowed {
			if d := v.Next.Check(); !d.Allowed {
				t.Errorf("%s: the room afterwards: %v", c.name, d)
			}
		} else if v.Proposal >= len(c.proposals) {
			t.Errorf("%s: proposal %d of %d", c.name, v.Proposal, len(c.proposals))
		}
	}
	v := JudgeCommit(s, Commit{Committer: m, Proposals: []Proposal{b.addUser(m, outsider, 2), b.add(m, outsider), b.set(m, ComponentMetadata, metadata("New"))}}, nil)
	if v.Next.RoleIndex(outsider) != 2 || v.Next.Clients(outsider) != 1 || v.Next.Metadata.RoomName != "New" || s.RoleIndex(outsider) != 0 || s.Clients(outsider) != 0 {
		t.Errorf("the room afterwards is %+v", v.Next)
	}
	reparsed, err := stateOf(v.Next.Dictionary())
	if err != nil || reparsed.RoleIndex(outsider) != 2 || reparsed.Metadata.RoomName != "New" {
		t.Errorf("its dictionary: %+v, %v", reparsed, err)
	}
	if diff := changes(s, v.Next); !slices.Equal(diff, []ParticipantChange{{outsider, 0, 2}}) {
		t.Errorf("difference %v", diff)
	}
	if back := changes(v.Next, s); !slices.Equal(back, []ParticipantChange{{outsider, 2, 0}}) {
		t.Errorf("difference the other way %v", back)
	}
}

// TestRoleDefinitionCommits: S003-054. The strictly administered room lets super admins define roles.
func TestRoleDefinitionCommits(t *testing.T) {
	s := populated(t, strict())
	b := builder{t, s}
	super, admin := Actor{URI: user(4, 1)}, Actor{URI: user(3, 1)}
	without3 := append(strict()[:3:3], strict()[4:]...)
	limited := strict()
	limited[2].MaxParticipants = number(1)
	openJoin := strict()
	openJoin[3].Capabilities = append(openJoin[3].Capabilities, CanOpenJoin)
	silent := strict()
	silent[2].MaxActive = number(0)
	more := append(strict(), role(6, "new", "canSendMessage", ""))
	cases := []struct {
		name      string
		sender    Actor
		roles     RoleData
		more      []Proposal
		component uint16
		want      Reason
	}{
		{"a new role", super, more, nil, ComponentRoles, ReasonNone},
		{"by an admin", admin, more, nil, ComponentRoles, ReasonNoCapability},
		{"with a participant change", super, more, []Proposal{b.addUser(super, outsider, 2)}, ComponentRoles, ReasonCombination},
		{"with a removal", super, more, []Proposal{b.removeUser(super, user(2, 1)), b.remove(super, user(2, 1))}, ComponentRoles, ReasonCombination},
		{"with a new client", super, more, []Proposal{b.add(super, super.URI)}, ComponentRoles, ReasonNone},
		{"a role in use is gone", super, without3, nil, ComponentRoles, ReasonMalformed},
		{"too many are in the role", super, limited, nil, ComponentRoles, ReasonTooMany},
		{"a role with clients may have none", super, silent, nil, ComponentRoles, ReasonTooManyActive},
		{"canOpenJoin in a role", super, openJoin, nil, ComponentRoles, ReasonMalformed},
		{"no roles at all", super, nil, nil, ComponentRoles, ReasonMalformed},
	}
	for _, c := range cases {
		proposals := append([]Proposal{b.set(c.sender, c.component, c.roles)}, c.more...)
		v := JudgeCommit(s, Commit{Committer: c.sender, Proposals: proposals}, nil)
		if v.Reason != c.want {
			t.Errorf("%s: %v, want %v", c.name, v.Decision, c.want)
		}
	}
	v := JudgeCommit(s, Commit{Committer: super, Proposals: []Proposal{b.set(super, ComponentRoles, more)}}, nil)
	if v.Next.Role(6) == nil || v.Next.RoleIndex(super.URI) != 4 || v.Next.Clients(super.URI) != 1 {
		t.Error("the new roles are not in force, or participants are lost")
	}
	broken := b.set(super, ComponentAsset, zeros(32))
	chief := strict()
	chief[4].Capabilities = append(chief[4].Capabilities, CanChangeOtherPolicyAttribute, CanChangeMLSOperationalPolicies)
	s = populated(t, chief)
	if v := JudgeCommit(s, Commit{Committer: super, Proposals: []Proposal{broken}}, nil); v.Reason != ReasonMalformed {
		t.Errorf("an asset policy that cannot be read: %v", v.Decision)
	}
	broken.Component = ComponentOperational
	if v := JudgeCommit(s, Commit{Committer: super, Proposals: []Proposal{broken}}, nil); !v.Allowed {
		t.Errorf("an operational policy that cannot be read: %v", v.Decision)
	}
	if v := JudgeCommit(s, Commit{Committer: super, Proposals: []Proposal{b.set(super, ComponentBase, &BaseRoomPolicy{FixedMembership: true, MultiDevice: true})}}, nil); v.Reason != ReasonFixedMembership {
		t.Errorf("fixed membership while admins may add: %v", v.Decision)
	}
}

func TestJoinLinkCommits(t *testing.T) {
	roles := strict()
	roles[2].Capabilities = append(roles[2].Capabilities, CanCreateJoinCode)
	roles[4].Capabilities = append(roles[4].Capabilities, CanChangeOtherPolicyAttribute)
	s := populated(t, roles, func(d map[uint16][]byte) { d[ComponentJoinLinks] = JoinLinks{"old"}.Marshal() })
	b := builder{t, s}
	creator, admin, super := Actor{URI: user(2, 1)}, Actor{URI: user(3, 1)}, Actor{URI: user(4, 1)}
	add, remove := &JoinLinksUpdate{Added: []string{"new"}}, &JoinLinksUpdate{Removed: []uint32{0}}
	for _, c := range []struct {
		actor  Actor
		update *JoinLinksUpdate
		want   Reason
	}{{creator, add, ReasonNone}, {creator, remove, ReasonNoCapability}, {admin, add, ReasonNone}, {admin, remove, ReasonNone}, {super, remove, ReasonNone},
		{super, &JoinLinksUpdate{Removed: []uint32{1}}, ReasonMalformed}} {
		v := JudgeCommit(s, Commit{Committer: c.actor, Proposals: []Proposal{b.set(c.actor, ComponentJoinLinks, c.update)}}, nil)
		if v.Reason != c.want {
			t.Errorf("%s, %+v: %v", c.actor.URI, c.update, v.Decision)
		}
	}
	single := &JoinLinkPolicy{OnRequest: true, MultiUser: true, Expiration: 60}
	kept := populated(t, roles, func(d map[uint16][]byte) {
		d[ComponentJoinLinkPolicy], d[ComponentJoinLinks] = single.Marshal(), JoinLinks{"old"}.Marshal()
	})
	more := populated(t, roles, func(d map[uint16][]byte) { d[ComponentJoinLinks] = JoinLinks{"old", "older"}.Marshal() })
	for name, c := range map[string]struct {
		s    *State
		do   Proposal
		want Reason
	}{
		"a second link in a room that keeps one": {kept, b.set(super, ComponentJoinLinks, add), ReasonMalformed},
		"another in place of the one":            {kept, b.set(super, ComponentJoinLinks, &JoinLinksUpdate{Removed: []uint32{0}, Added: []string{"new"}}), ReasonNone},
		"one alone where there are two":          {more, b.set(super, ComponentJoinLinkPolicy, single), ReasonMalformed},
		"one alone where there is one":           {s, b.set(super, ComponentJoinLinkPolicy, single), ReasonNone},
	} {
		if v := JudgeCommit(c.s, Commit{Committer: super, Proposals: []Proposal{c.do}}, nil); v.Reason != c.want {
			t.Errorf("%s: %v", name, v.Decision)
		}
	}
	bad := Proposal{Kind: ProposalAppDataUpdate, Sender: super, Component: ComponentJoinLinks, Data: []byte{9}}
	if v := JudgeCommit(s, Commit{Committer: super, Proposals: []Proposal{bad}}, nil); v.Reason != ReasonMalformed {
		t.Errorf("links that cannot be read: %v", v.Decision)
	}
}

// TestExternalCommits: S003-043, S003-047.
func TestExternalCommits(t *testing.T) {
	roles := cooperative()
	roles[0] = role(0, "no_role", "canOpenJoin canUseJoinCode", "0>2")
	s := populated(t, roles)
	b := builder{t, s}
	quiet := populated(t, moderated())
	closed := populated(t, roles, func(d map[uint16][]byte) { d[ComponentOperational] = (&OperationalParameters{}).Marshal() })
	newcomer, m, guest := Actor{URI: outsider}, Actor{URI: user(2, 1)}, Actor{URI: user(2, 1)}
	external := Proposal{Kind: ProposalExternalInit}
	leaving := byRef(Proposal{Kind: ProposalSelfRemove, Sender: Actor{URI: user(2, 2)}, User: user(2, 2), Leaf: b.leafOf(user(2, 2))})
	cases := []struct {
		name      string
		s         *State
		joiner    Actor
		code      *JoinCode
		proposals []Proposal
		want      Reason
	}{
		{"open join", s, newcomer, nil, []Proposal{b.addUser(newcomer, outsider, 2)}, ReasonNone},
		{"open join in a higher role", s, newcomer, nil, []Proposal{b.addUser(newcomer, outsider, 3)}, ReasonJoinCode},
		{"with a code", s, newcomer, &JoinCode{3}, []Proposal{b.addUser(newcomer, outsider, 3)}, ReasonNone},
		{"without coming into the list", s, newcomer, nil, nil, ReasonNotParticipant},
		{"bringing a friend into the list", s, newcomer, nil, []Proposal{b.addUser(newcomer, outsider, 2), b.addUser(newcomer, "mimi://o.example/u/friend", 2)}, ReasonNotParticipant},
		{"changing the name on the way", s, newcomer, nil, []Proposal{b.addUser(newcomer, outsider, 2), b.set(newcomer, ComponentMetadata, &RoomMetaData{RoomURI: roomURI})}, ReasonNotParticipant},
		{"another client of a participant", s, m, nil, nil, ReasonNone},
		{"another client with a room name", s, m, nil, []Proposal{b.set(m, ComponentMetadata, &RoomMetaData{RoomURI: roomURI})}, ReasonNone},
		{"another client of a guest", quiet, guest, nil, nil, ReasonNoCapability},
		{"a client of a guest comes back", quiet, guest, nil, []Proposal{{Kind: ProposalRemove, Sender: guest, User: guest.URI, Leaf: 2}}, ReasonNone},
		{"a client of a banned user", s, Actor{URI: user(1, 1)}, nil, nil, ReasonBlocked},
		{"a client of a role without clients", s, Actor{URI: user(5, 1)}, nil, nil, ReasonNoCapability},
		{"removing another's client", s, m, nil, []Proposal{b.remove(m, user(2, 2))}, ReasonExternalCommit},
		{"with an Add", s, m, nil, []Proposal{b.add(m, m.URI)}, ReasonExternalCommit},
		{"with a list change by reference", s, m, nil, byRef(b.changeRole(Actor{URI: user(3, 1)}, user(2, 2), 3)), ReasonExternalCommit},
		{"with SelfRemoves by reference", b.pending(leaving...), m, nil, leaving, ReasonNone},
		{"without the pending SelfRemove", b.pending(leaving...), m, nil, nil, ReasonMissingProposal},
		{"other pending proposals lapse", b.pending(byRef(b.changeRole(Actor{URI: user(3, 1)}, user(2, 2), 3))...), m, nil, nil, ReasonNone},
		{"by somebody about to be removed", b.pending(byRef(b.removeUser(Actor{URI: user(3, 1)}, m.URI), b.remove(Actor{URI: user(3, 1)}, m.URI))...), m, nil, nil, ReasonBlocked},
		{"where external commits are not allowed", closed, m, nil, nil, ReasonOperational},
	}
	for _, c := range cases {
		proposals := append([]Proposal{external}, c.proposals...)
		v := JudgeCommit(c.s, Commit{Committer: c.joiner, External: true, Code: c.code, Proposals: proposals}, nil)
		if v.Reason != c.want {
			t.Errorf("%s: %v, want %v", c.name, v.Decision, c.want)
			continue
		}
		if v.Allowed && v.Next.Clients(c.joiner.URI) == 0 {
			t.Errorf("%s: the joiner has no client", c.name)
		}
	}
	v := JudgeCommit(quiet, Commit{Committer: guest, External: true, Proposals: []Proposal{external, {Kind: ProposalRemove, Sender: guest, User: guest.URI, Leaf: 2}}}, nil)
	if v.Next.Clients(guest.URI) != 1 {
		t.Errorf("a client that came back makes %d", v.Next.Clients(guest.URI))
	}
}

// TestPendingProposals: what the hub accepted counts at once and must be committed.
// S003-030, S003-031.
func TestPendingProposals(t *testing.T) {
	s := populated(t, cooperative())
	b := builder{t, s}
	m, other, admin, super := Actor{URI: user(2, 1)}, Actor{URI: user(2, 2)}, Actor{URI: user(3, 1)}, Actor{URI: user(4, 1)}
	promote := byRef(b.changeRole(admin, m.URI, 3))
	kick := byRef(b.removeUser(admin, m.URI), b.remove(admin, m.URI))
	demote := byRef(b.changeRole(super, admin.URI, 2))
	rename := byRef(b.set(admin, ComponentMetadata, &RoomMetaData{RoomURI: roomURI, RoomName: "n"}))

	// A pending promotion counts at once, a pending removal as well.
	if d := Decide(b.pending(promote...), m, Change{Kind: ChangeRole, User: other.URI, Role: 3}); !d.Allowed {
		t.Errorf("promoted, not committed: %v", d)
	}
	if d := Decide(b.pending(kick...), m, Change{Kind: SendMessage}); d.Reason != ReasonBlocked {
		t.Errorf("removed, not committed: %v", d)
	}
	if d := Decide(b.pending(kick...), m, Change{Kind: RemoveClient, User: m.URI, Clients: 1}); !d.Allowed {
		t.Errorf("own client of somebody about to be removed: %v", d)
	}
	if d := Decide(b.pending(demote...), admin, Change{Kind: ChangeRole, User: other.URI, Role: 3}); d.Allowed {
		t.Error("an admin about to be demoted still promotes")
	}

	commit := func(s *State, committer Actor, proposals ...Proposal) Verdict {
		return JudgeCommit(s, Commit{Committer: committer, Leaf: b.leafOf(committer.URI), Proposals: proposals}, nil)
	}
	if v := commit(b.pending(promote...), super); v.Reason != ReasonMissingProposal {
		t.Errorf("commit without the pending proposal: %v", v.Decision)
	}
	if v := commit(b.pending(promote...), super, promote...); !v.Allowed || v.Next.RoleIndex(m.URI) != 3 || len(v.Next.Pending()) != 0 {
		t.Errorf("commit with it: %v", v.Decision)
	}
	if v := commit(b.pending(kick...), m, kick...); v.Reason != ReasonBlocked {
		t.Errorf("commit by the one to be removed: %v", v.Decision)
	}
	if v := commit(b.pending(kick[1:]...), m); v.Reason != ReasonMissingProposal {
		t.Errorf("commit by the one to be kicked: %v", v.Decision)
	}
	update := byRef(Proposal{Kind: ProposalUpdate, Sender: m, User: m.URI, Leaf: b.leafOf(m.URI)})
	if v := commit(b.pending(update...), m); !v.Allowed {
		t.Errorf("a committer leaves its own Update out: %v", v.Decision)
	}
	if v := commit(b.pending(update...), other); v.Reason != ReasonMissingProposal {
		t.Errorf("another committer leaves it out: %v", v.Decision)
	}
	selfRemove := byRef(Proposal{Kind: ProposalSelfRemove, Sender: m, User: m.URI, Leaf: b.leafOf(m.URI)}, b.remove(admin, m.URI))
	if v := commit(b.pending(selfRemove...), other, selfRemove[0]); !v.Allowed {
		t.Errorf("SelfRemove instead of the Remove of the same leaf: %v", v.Decision)
	}
	// What was accepted stands, even when its sender is about to lose the right.
	both := append(append([]Proposal{}, promote...), demote...)
	if v := commit(b.pending(both...), super, both...); !v.Allowed || v.Next.RoleIndex(m.URI) != 3 || v.Next.RoleIndex(admin.URI) != 2 {
		t.Errorf("promotion by an admin who is demoted in the same commit: %v", v.Decision)
	}

	judge := func(s *State, proposals ...Proposal) Verdict { return JudgeProposals(s, byRef(proposals...), nil, nil) }
	for _, c := range []struct {
		name string
		got  Verdict
		want Reason
	}{
		{"promotion", judge(s, b.changeRole(admin, m.URI, 3)), ReasonNone},
		{"promotion by a user", judge(s, b.changeRole(m, other.URI, 3)), ReasonNoCapability},
		{"leaving with all clients", judge(s, b.removeUser(m, m.URI), b.remove(m, m.URI)), ReasonNone},
		{"leaving without them", judge(s, b.removeUser(m, m.URI)), ReasonClientsRemain},
		{"leaving when the clients go already", judge(b.pending(byRef(b.remove(m, m.URI))...), b.removeUser(m, m.URI)), ReasonNone},
		{"own clients of somebody about to be removed", judge(b.pending(kick...), b.remove(m, m.URI)), ReasonNone},
		{"anything else of somebody about to be removed", judge(b.pending(kick...), b.addUser(m, outsider, 2)), ReasonBlocked},
		{"the same user again", judge(b.pending(promote...), b.changeRole(super, m.URI, 4)), ReasonDuplicate},
		{"metadata while metadata is pending", judge(b.pending(rename...), b.set(super, ComponentMetadata, &RoomMetaData{RoomURI: roomURI})), ReasonDuplicate},
		{"preauthorisation while a promotion is pending", judge(b.pending(promote...), b.set(super, ComponentPreauth, PreAuthData{})), ReasonCombination},
		{"the other admin while one is leaving", judge(b.pending(byRef(b.removeUser(admin, admin.URI), b.remove(admin, admin.URI))...),
			b.removeUser(Actor{URI: user(3, 2)}, user(3, 2)), b.remove(Actor{URI: user(3, 2)}, user(3, 2))), ReasonTooFew},
	} {
		if c.got.Reason != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.got.Decision, c.want)
		}
	}
	if v := judge(b.pending(promote...), b.changeRole(m, other.URI, 3), b.changeRole(other, m.URI, 3)); v.Reason != ReasonDuplicate || v.Proposal != 1 {
		t.Errorf("the proposal that is at fault: %v, %d", v.Decision, v.Proposal)
	}
	noExternal := populated(t, cooperative(), func(d map[uint16][]byte) { d[ComponentOperational] = (&OperationalParameters{}).Marshal() })
	provider := Actor{URI: "mimi://a.example", External: true}
	if v := JudgeProposals(noExternal, byRef(b.changeRole(provider, m.URI, 3)), nil, nil); v.Reason != ReasonOperational {
		t.Errorf("external proposal where none are allowed: %v", v.Decision)
	}
	if v := JudgeProposals(noExternal, byRef(b.changeRole(admin, m.URI, 3)), nil, nil); !v.Allowed {
		t.Errorf("member's proposal where external ones are not allowed: %v", v.Decision)
	}
	for _, bad := range []Proposal{{Kind: ProposalAppDataUpdate, Component: ComponentParticipants, Data: []byte{9}}, b.list(m, ParticipantListUpdate{Removed: []uint32{99}})} {
		if _, err := s.WithPending([]Proposal{bad}); err == nil {
			t.Error("a pending update that does not fit was taken")
		}
	}
}

// TestDefaultRoles: who may do what to whom in a room of the bridge, strictly downwards.
func TestDefaultRoles(t *testing.T) {
	roles := ladderRoles(ladderOptions{membersAdd: true})
	if err := roles.Check(); err != nil {
		t.Fatal(err)
	}
	var list ParticipantList
	for _, r := range roles {
		if r.Index == RoleNone {
			continue
		}
		list = append(list, UserRolePair{user(r.Index, 1), r.Index})
		if r.Index != RoleBridge {
			list = append(list, UserRolePair{user(r.Index, 2), r.Index})
		}
	}
	s := room(t, roles, list)
	if d := s.Check(); !d.Allowed {
		t.Fatal(d)
	}
	want := map[uint32]string{
		RoleMember:    "0>10",
		RoleModerator: "0>1,2,10,11 1>0,10 2>0,1,10,11 10>0,1,2,11 11>0",
		RoleAdmin:     "0>1,2,10,11,12 1>0,10 2>0,1,10,11,12 10>0,1,2,11,12 11>0,1,2,10,12 12>0",
		RoleBridge:    "0>1,2,10,11,12 1>0,10 2>0,1,10,11,12 10>0,1,2,11,12 11>0,1,2,10,12 12>0,1,2,10,11",
	}
	for _, r := range roles {
		if got := transitions(s, Actor{URI: user(r.Index, 1)}); got != want[r.Index] {
			t.Errorf("%s may move\n%q, want\n%q", r.Name, got, want[r.Index])
		}
	}
	for role, can := range map[uint32]bool{RoleMuted: false, RoleMember: true, RoleBridge: true} {
		if d := Decide(s, Actor{URI: user(role, 1)}, Change{Kind: SendMessage}); d.Allowed != can {
			t.Errorf("role %d sends: %v", role, d)
		}
	}
	if got := transitions(room(t, ladderRoles(ladderOptions{}), list), Actor{URI: user(RoleMember, 1)}); got != "" {
		t.Errorf("members who may not add may move %q", got)
	}
	open := room(t, ladderRoles(ladderOptions{openJoin: true, joinCodes: true}), list)
	if d := Decide(open, Actor{URI: outsider}, Change{Kind: Join, Role: RoleMember, Clients: 1}); !d.Allowed {
		t.Errorf("open join: %v", d)
	}
	if d := Decide(s, Actor{URI: outsider}, Change{Kind: Join, Role: RoleMember, Clients: 1}); d.Allowed {
		t.Error("open join of a closed room")
	}
}
