package policy

import (
	"testing"
)

// TestEnvelope: S003-022, S003-053.
func TestEnvelope(t *testing.T) {
	roles := ladderRoles(ladderOptions{membersAdd: true, joinCodes: true, openJoin: true})
	var list ParticipantList
	for _, r := range []uint32{1, 2, 10, 10, 11, 11, 12} {
		list = append(list, UserRolePair{user(r, 1+len(list)), r})
	}
	bot := Actor{URI: "mimi://b.example/u/bot"}
	list = append(list, UserRolePair{bot.URI, RoleBridge})
	s := room(t, roles, list)
	b := builder{t, s}
	trustedBot := bot
	trustedBot.Trusted = true
	moderator := Actor{URI: list[4].User}
	change := func(f func(RoleData)) RoleData {
		d := ladderRoles(ladderOptions{membersAdd: true})
		f(d)
		return d
	}
	e := DefaultEnvelope()
	if d := e.Check(s); !d.Allowed {
		t.Fatalf("the default roles are outside the default envelope: %v", d)
	}
	cases := []struct {
		name      string
		envelope  *Envelope
		committer Actor
		proposals []Proposal
		want      Reason
	}{
		{"other roles", e, bot, []Proposal{b.set(bot, ComponentRoles, ladderRoles(ladderOptions{}))}, ReasonNone},
		{"a capability that is never given", e, bot, []Proposal{b.set(bot, ComponentRoles, change(func(d RoleData) { d.Role(RoleAdmin).Capabilities = Capabilities()[5:] }))}, ReasonEnvelope},
		{"by a trusted actor", e, trustedBot, []Proposal{b.set(trustedBot, ComponentRoles, change(func(d RoleData) {
			d.Role(RoleAdmin).Capabilities = append(d.Role(RoleAdmin).Capabilities, CanChangeRoleDefinitions)
		}))}, ReasonEnvelope},
		{"the protected role changes", e, bot, []Proposal{b.set(bot, ComponentRoles, change(func(d RoleData) { d.Role(RoleBridge).Capabilities = nil }))}, ReasonEnvelope},
		{"a way into the protected role", e, bot, []Proposal{b.set(bot, ComponentRoles, change(func(d RoleData) {
			d.Role(RoleAdmin).AuthorizedChanges = append(d.Role(RoleAdmin).AuthorizedChanges, RoleChangeTargets{10, []uint32{RoleBridge}})
		}))}, ReasonEnvelope},
		{"preauthorisation for the protected role", e, bot, []Proposal{b.set(bot, ComponentPreauth, PreAuthData{{TargetRole: Role{Index: RoleBridge}}})}, ReasonEnvelope},
		{"a trusted actor empties the protected role", e, trustedBot, []Proposal{b.changeRole(trustedBot, bot.URI, RoleAdmin)}, ReasonEnvelope},
		{"too many roles", &Envelope{MaxRoles: 3}, bot, []Proposal{b.set(bot, ComponentRoles, roles)}, ReasonEnvelope},
		{"too many users", &Envelope{MaxUsers: 7}, bot, []Proposal{b.addUser(bot, outsider, 10)}, ReasonEnvelope},
		{"banned users do not count", &Envelope{MaxUsers: 7}, bot, []Proposal{b.addUser(bot, outsider, 1)}, ReasonNone},
		{"fewer users while there are too many", &Envelope{MaxUsers: 2}, bot, []Proposal{b.removeUser(bot, list[2].User), b.remove(bot, list[2].User)}, ReasonNone},
		{"a frozen component", &Envelope{Frozen: []uint16{ComponentMetadata}}, bot, []Proposal{b.set(bot, ComponentMetadata, &RoomMetaData{RoomURI: roomURI})}, ReasonEnvelope},
		{"a frozen component removed", &Envelope{Frozen: []uint16{ComponentAsset}}, bot, []Proposal{{Kind: ProposalAppDataRemove, Sender: bot, Component: ComponentAsset}}, ReasonEnvelope},
		{"a moderator removes another", e, moderator, []Proposal{b.removeUser(moderator, list[5].User), b.remove(moderator, list[5].User)}, ReasonEnvelope},
		{"and may without KeepPeers", &Envelope{}, moderator, []Proposal{b.removeUser(moderator, list[5].User), b.remove(moderator, list[5].User)}, ReasonNone},
		{"a moderator removes a member", e, moderator, []Proposal{b.removeUser(moderator, list[2].User), b.remove(moderator, list[2].User)}, ReasonNone},
		{"a moderator leaves", e, bot, byRef(b.removeUser(moderator, moderator.URI), b.remove(moderator, moderator.URI)), ReasonNone},
	}
	for _, c := range cases {
		v := JudgeCommit(s, Commit{Committer: c.committer, Proposals: c.proposals}, c.envelope)
		if v.Reason != c.want {
			t.Errorf("%s: %v, want %v", c.name, v.Decision, c.want)
		}
	}
	if d := (*Envelope)(nil).Check(s); !d.Allowed {
		t.Errorf("no envelope: %v", d)
	}
	if d := (&Envelope{MaxUsers: 2}).Check(s); d.Reason != ReasonEnvelope {
		t.Errorf("a room that starts too large: %v", d)
	}
}
