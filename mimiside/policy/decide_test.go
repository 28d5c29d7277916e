package policy

import (
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/mimiside/content"
)

var hubActor = Actor{URI: "mimi://hub.example", External: true, Hub: true}

func claims(value string) []Claim { return []Claim{{ClaimID{1, "department"}, value}} }

// staff lets whoever has the claim staff join as, or become, role 3.
func staff(d map[uint16][]byte) {
	d[ComponentPreauth] = PreAuthData{{Claims: claims("staff"), TargetRole: Role{Index: 3}}, {Claims: claims("hub"), TargetRole: Role{Index: 5}}}.Marshal()
}

// TestDecideEverything has an allowed and a refused case for each change that TestEveryPairOfRoles leaves out.
// S003-047, S003-048, S003-051, S003-052, S003-071, S004-057.
func TestDecideEverything(t *testing.T) {
	open := cooperative()
	open[0] = role(0, "no_role", "canOpenJoin canUseJoinCode", "0>2")
	preauthorized := strict()
	preauthorized[3].Capabilities = append(preauthorized[3].Capabilities, CanJoinIfPreauthorized)

	coop, openRoom := populated(t, cooperative()), populated(t, open, staff)
	strictRoom := populated(t, preauthorized, staff)
	quiet := populated(t, moderated())
	fixed := populated(t, moderated(), base(BaseRoomPolicy{FixedMembership: true, MultiDevice: true}))
	single := populated(t, cooperative(), base(BaseRoomPolicy{}))
	crowded := populated(t, cooperative(), base(BaseRoomPolicy{MultiDevice: true, MaxUsers: number(8), MaxClients: number(6)}))
	child := populated(t, cooperative(), base(BaseRoomPolicy{MultiDevice: true, ParentDependent: true, ParentRoom: "mimi://hub.example/r/parent"})).WithParent(coop)
	hubActing := hubActor
	hubActing.Claims = claims("hub")
	trusted := hubActor
	trusted.Trusted = true
	bare := room(t, nil, ParticipantList{{"mimi://a.example/u/one", 2}, {"mimi://a.example/u/two", 2}})
	newcomer := Actor{URI: outsider}
	staffNewcomer := Actor{URI: outsider, Claims: claims("staff")}
	a := func(role uint32) Actor { return Actor{URI: user(role, 1)} }
	meta := func(change func(*RoomMetaData)) *RoomMetaData {
		m := &RoomMetaData{RoomURI: roomURI, RoomName: "Clubhouse"}
		change(m)
		return m
	}
	cases := []struct {
		name   string
		s      *State
		actor  Actor
		change Change
		want   Reason
	}{
		{"open join", openRoom, newcomer, Change{Kind: Join, Role: 2, Clients: 1}, ReasonNone},
		{"open join is adding oneself", openRoom, newcomer, Change{Kind: AddParticipant, User: outsider, Role: 2}, ReasonNone},
		{"open join in a role that is not offered", openRoom, newcomer, Change{Kind: Join, Role: 3}, ReasonJoinCode},
		{"open join in an unknown role", openRoom, newcomer, Change{Kind: Join, Role: 77}, ReasonUnknownRole},
		{"open join as banned", openRoom, newcomer, Change{Kind: Join, Role: 1}, ReasonNoTransition},
		{"open join in role 0", openRoom, newcomer, Change{Kind: Join, Role: 0}, ReasonMalformed},
		{"open join by a participant in other letters", openRoom, Actor{URI: shout(user(2, 1))}, Change{Kind: Join, Role: 2}, ReasonAlreadyParticipant},
		{"addition of a banned user in other letters", coop, a(2), Change{Kind: AddParticipant, User: shout(user(1, 1)), Role: 2}, ReasonAlreadyParticipant},
		{"open join by a participant", openRoom, a(2), Change{Kind: Join, Role: 2}, ReasonAlreadyParticipant},
		{"open join by a banned user", openRoom, a(1), Change{Kind: Join, Role: 2}, ReasonAlreadyParticipant},
		{"join of a closed room", coop, newcomer, Change{Kind: Join, Role: 2}, ReasonNoCapability},
		{"join of a room with fixed membership", fixed, newcomer, Change{Kind: Join, Role: 2, Code: &JoinCode{2}}, ReasonFixedMembership},
		{"preauthorized join", strictRoom, staffNewcomer, Change{Kind: Join, Role: 3, Clients: 2}, ReasonNone},
		{"preauthorized join in another role", strictRoom, staffNewcomer, Change{Kind: Join, Role: 4}, ReasonJoinCode},
		{"preauthorized for a role without canJoinIfPreauthorized", openRoom, staffNewcomer, Change{Kind: Join, Role: 3}, ReasonJoinCode},
		{"no claim", strictRoom, newcomer, Change{Kind: Join, Role: 3}, ReasonJoinCode},
		{"joining code", strictRoom, newcomer, Change{Kind: Join, Role: 2, Code: &JoinCode{2}}, ReasonNone},
		{"joining code for another role", strictRoom, newcomer, Change{Kind: Join, Role: 4, Code: &JoinCode{2}}, ReasonJoinCode},
		{"joining code where none are used", coop, newcomer, Change{Kind: Join, Role: 2, Code: &JoinCode{2}}, ReasonNoCapability},
		{"outsider adds somebody", openRoom, newcomer, Change{Kind: AddParticipant, User: "mimi://o.example/u/friend", Role: 2}, ReasonNotParticipant},
		{"banned user adds somebody", coop, a(1), Change{Kind: AddParticipant, User: outsider, Role: 2}, ReasonBlocked},
		{"addition of a participant", coop, a(2), Change{Kind: AddParticipant, User: user(3, 1), Role: 2}, ReasonAlreadyParticipant},
		{"addition in a full role", coop, trusted, Change{Kind: AddParticipant, User: outsider, Role: 5}, ReasonTooMany},
		{"addition with clients in a role without", coop, trusted, Change{Kind: AddParticipant, User: outsider, Role: 1, Clients: 1}, ReasonClientsRemain},
		{"addition to a fixed room", fixed, a(6), Change{Kind: AddParticipant, User: outsider, Role: 2}, ReasonFixedMembership},
		{"ninth user", crowded, a(2), Change{Kind: AddParticipant, User: outsider, Role: 2}, ReasonMaxUsers},
		{"ban of an outsider counts no user", crowded, a(3), Change{Kind: AddParticipant, User: outsider, Role: 1}, ReasonNone},
		{"somebody from the parent room", child.WithParent(room(t, cooperative(), ParticipantList{{outsider, 2}})), a(2), Change{Kind: AddParticipant, User: outsider, Role: 2}, ReasonNone},
		{"somebody who is not in the parent room", child, a(2), Change{Kind: AddParticipant, User: outsider, Role: 2}, ReasonParent},
		{"hub removes whom the parent room lost", child.WithParent(room(t, cooperative(), nil)), hubActor, Change{Kind: RemoveParticipant, User: user(2, 1)}, ReasonNone},
		{"hub removes whom the parent room has", child, hubActor, Change{Kind: RemoveParticipant, User: user(2, 1)}, ReasonNotPreauthorized},
		{"removal of an outsider", coop, a(4), Change{Kind: RemoveParticipant, User: outsider}, ReasonNotInList},
		{"leaving a fixed room", fixed, a(3), Change{Kind: RemoveParticipant, User: user(3, 1)}, ReasonFixedMembership},
		{"ban in a fixed room", fixed, a(6), Change{Kind: ChangeRole, User: user(3, 1), Role: 1}, ReasonFixedMembership},
		{"promotion in a fixed room", fixed, a(6), Change{Kind: ChangeRole, User: user(3, 1), Role: 4}, ReasonNone},
		{"role change of an outsider", coop, a(4), Change{Kind: ChangeRole, User: outsider, Role: 2}, ReasonNotInList},
		{"change to an unknown role", coop, a(4), Change{Kind: ChangeRole, User: user(2, 1), Role: 99}, ReasonUnknownRole},
		{"change to role 0", coop, a(4), Change{Kind: ChangeRole, User: user(2, 1), Role: 0}, ReasonMalformed},
		{"own role by preauthorisation", strictRoom, Actor{URI: user(2, 1), Claims: claims("staff")}, Change{Kind: ChangeRole, User: user(2, 1), Role: 3}, ReasonNone},
		{"own role to more than the claim", strictRoom, Actor{URI: user(2, 1), Claims: claims("staff")}, Change{Kind: ChangeRole, User: user(2, 1), Role: 4}, ReasonNotPreauthorized},
		{"own role when banned", strictRoom, Actor{URI: user(1, 1), Claims: claims("staff")}, Change{Kind: ChangeRole, User: user(1, 1), Role: 3}, ReasonBlocked},
		{"enforcer as external sender bans", strictRoom, hubActing, Change{Kind: ChangeRole, User: user(2, 1), Role: 1}, ReasonNone},
		{"enforcer as external sender promotes", strictRoom, hubActing, Change{Kind: ChangeRole, User: user(2, 1), Role: 4}, ReasonNoTransition},
		{"external sender without preauthorisation", strictRoom, hubActor, Change{Kind: ChangeRole, User: user(2, 1), Role: 1}, ReasonNotPreauthorized},
		{"trusted hub promotes", strictRoom, trusted, Change{Kind: ChangeRole, User: user(2, 1), Role: 4}, ReasonNone},
		{"own client", coop, a(2), Change{Kind: AddClient, User: user(2, 1), Clients: 1}, ReasonNone},
		{"own client without the capability", quiet, a(2), Change{Kind: AddClient, User: user(2, 1), Clients: 1}, ReasonNoCapability},
		{"second client in a room for one each", single, a(2), Change{Kind: AddClient, User: user(2, 1), Clients: 1}, ReasonSingleDevice},
		{"seventh client", crowded, a(2), Change{Kind: AddClient, User: user(2, 1), Clients: 1}, ReasonMaxClients},
		{"client of a participant whom one could add", coop, a(2), Change{Kind: AddClient, User: user(2, 2), Clients: 1}, ReasonNone},
		{"client of an admin by a user", coop, a(2), Change{Kind: AddClient, User: user(3, 1), Clients: 1}, ReasonNoTransition},
		{"client of an outsider", coop, a(2), Change{Kind: AddClient, User: outsider, Clients: 1}, ReasonOutsiderClient},
		{"client of a banned user", coop, a(3), Change{Kind: AddClient, User: user(1, 1), Clients: 1}, ReasonClientsRemain},
		{"less than no clients", coop, a(3), Change{Kind: AddClient, User: user(2, 1), Clients: -1}, ReasonMalformed},
		{"own client away", coop, a(2), Change{Kind: RemoveClient, User: user(2, 1), Clients: 1}, ReasonNone},
		{"own client away without the capability", quiet, a(2), Change{Kind: RemoveClient, User: user(2, 1), Clients: 1}, ReasonNoCapability},
		{"own client away when banned", coop, a(1), Change{Kind: RemoveClient, User: user(1, 1), Clients: 1}, ReasonNone},
		{"own client away from outside", coop, newcomer, Change{Kind: RemoveClient, User: outsider, Clients: 1}, ReasonNone},
		{"leftover client of an outsider by anybody", coop, a(2), Change{Kind: RemoveClient, User: outsider, Clients: 1}, ReasonNone},
		{"hub adds somebody", coop, hubActor, Change{Kind: AddParticipant, User: outsider, Role: 2}, ReasonNotPreauthorized},
		{"hub removes somebody", coop, hubActor, Change{Kind: RemoveParticipant, User: user(2, 1)}, ReasonNotPreauthorized},
		{"hub changes the roles", coop, hubActor, Change{Kind: ChangeComponent, Component: ComponentRoles}, ReasonNotPreauthorized},
		{"hub adds a client", coop, hubActor, Change{Kind: AddClient, User: user(2, 1), Clients: 1}, ReasonNotPreauthorized},
		{"leftover client by the hub", coop, hubActor, Change{Kind: RemoveClient, User: user(1, 1), Clients: 1}, ReasonNone},
		{"good client by the hub", coop, hubActor, Change{Kind: RemoveClient, User: user(2, 1), Clients: 1}, ReasonNotPreauthorized},
		{"room name", coop, a(2), Change{Kind: ChangeMetadata, Metadata: meta(func(m *RoomMetaData) { m.RoomName = "x" })}, ReasonNone},
		{"description by a user", coop, a(2), Change{Kind: ChangeMetadata, Metadata: meta(func(m *RoomMetaData) { m.Descriptions = []RichDescription{{}} })}, ReasonNoCapability},
		{"name and description by a user", coop, a(2), Change{Kind: ChangeMetadata, Metadata: meta(func(m *RoomMetaData) { m.RoomName, m.Descriptions = "x", []RichDescription{{}} })}, ReasonNoCapability},
		{"avatar, subject and mood", coop, a(2), Change{Kind: ChangeMetadata, Metadata: meta(func(m *RoomMetaData) { m.RoomAvatar, m.RoomSubject, m.RoomMood = "h:x", "y", "z" })}, ReasonNone},
		{"subject without the capability", quiet, a(4), Change{Kind: ChangeMetadata, Metadata: meta(func(m *RoomMetaData) { m.RoomSubject = "y" })}, ReasonNoCapability},
		{"room URI by anybody", coop, trusted, Change{Kind: ChangeMetadata, Metadata: meta(func(m *RoomMetaData) { m.RoomURI += "2" })}, ReasonImmutable},
		{"no metadata", coop, a(4), Change{Kind: ChangeMetadata}, ReasonMalformed},
		{"role definitions", strictRoom, a(4), Change{Kind: ChangeComponent, Component: ComponentRoles}, ReasonNone},
		{"role definitions by an admin", strictRoom, a(3), Change{Kind: ChangeComponent, Component: ComponentRoles}, ReasonNoCapability},
		{"preauthorisation", strictRoom, a(4), Change{Kind: ChangeComponent, Component: ComponentPreauth}, ReasonNone},
		{"preauthorisation by an admin", strictRoom, a(3), Change{Kind: ChangeComponent, Component: ComponentPreauth}, ReasonNoCapability},
		{"base policy", strictRoom, a(4), Change{Kind: ChangeComponent, Component: ComponentBase}, ReasonNone},
		{"base policy by an admin", strictRoom, a(3), Change{Kind: ChangeComponent, Component: ComponentBase}, ReasonNoCapability},
		{"operational policy by the enforcer", strictRoom, a(5), Change{Kind: ChangeComponent, Component: ComponentOperational}, ReasonNone},
		{"operational policy by others", strictRoom, a(4), Change{Kind: ChangeComponent, Component: ComponentOperational}, ReasonNoCapability},
		{"another policy", strictRoom, a(4), Change{Kind: ChangeComponent, Component: ComponentAsset}, ReasonNoCapability},
		{"franking agent by a participant", strictRoom, a(4), Change{Kind: ChangeComponent, Component: ComponentFrankingAgent}, ReasonHubOnly},
		{"franking agent by the hub", strictRoom, hubActor, Change{Kind: ChangeComponent, Component: ComponentFrankingAgent}, ReasonNone},
		{"participant list as a component", strictRoom, a(4), Change{Kind: ChangeComponent, Component: ComponentParticipants}, ReasonMalformed},
		{"roles taken away", strictRoom, trusted, Change{Kind: RemoveComponent, Component: ComponentRoles}, ReasonImmutable},
		{"preauthorisation taken away", strictRoom, a(4), Change{Kind: RemoveComponent, Component: ComponentPreauth}, ReasonNone},
		{"message", coop, a(2), Change{Kind: SendMessage}, ReasonNone},
		{"message of a guest", quiet, a(2), Change{Kind: SendMessage}, ReasonNoCapability},
		{"message without a client", coop.WithClients(nil), a(2), Change{Kind: SendMessage}, ReasonNotActive},
		{"message of a banned user", coop, a(1), Change{Kind: SendMessage}, ReasonBlocked},
		{"message of an outsider", coop, newcomer, Change{Kind: SendMessage}, ReasonNotParticipant},
		{"fan-out", coop, a(2), Change{Kind: ReceiveMessage}, ReasonNone},
		{"fan-out to a banned user", coop, a(1), Change{Kind: ReceiveMessage}, ReasonBlocked},
		{"fan-out to an enforcer", coop, a(5), Change{Kind: ReceiveMessage}, ReasonNoCapability},
		{"reaction", coop, a(2), Change{Kind: Use, Capability: CanReactToMessage}, ReasonNone},
		{"deletion of another's message", coop, a(2), Change{Kind: Use, Capability: CanDeleteOtherMessage}, ReasonNoCapability},
		{"key material of an outsider", coop, a(2), Change{Kind: ClaimKeyMaterial, User: outsider}, ReasonNone},
		{"key material by somebody who may not add", quiet, a(3), Change{Kind: ClaimKeyMaterial, User: outsider}, ReasonNoCapability},
		{"key material by somebody who may only ban", populated(t, append(strict()[:5:5], role(6, "x", "canAddParticipant", "0>1"))), a(6), Change{Kind: ClaimKeyMaterial, User: outsider}, ReasonNoTransition},
		{"key material of a participant", coop, a(2), Change{Kind: ClaimKeyMaterial, User: user(2, 2)}, ReasonNone},
		{"key material of a banned user", coop, a(3), Change{Kind: ClaimKeyMaterial, User: user(1, 1)}, ReasonTooManyActive},
		{"own key material", coop, a(2), Change{Kind: ClaimKeyMaterial, User: user(2, 1)}, ReasonNone},
		{"own key material of a guest", quiet, a(2), Change{Kind: ClaimKeyMaterial, User: user(2, 1)}, ReasonNoCapability},
		{"key material in a fixed room", fixed, a(6), Change{Kind: ClaimKeyMaterial, User: outsider}, ReasonFixedMembership},
		{"key material from outside", coop, newcomer, Change{Kind: ClaimKeyMaterial, User: user(2, 1)}, ReasonNotParticipant},
		{"group info of a participant", coop, a(2), Change{Kind: FetchGroupInfo}, ReasonNone},
		{"group info of an enforcer, who has no clients", coop, a(5), Change{Kind: FetchGroupInfo}, ReasonTooManyActive},
		{"group info of a banned user", openRoom, a(1), Change{Kind: FetchGroupInfo}, ReasonBlocked},
		{"group info of a newcomer", openRoom, newcomer, Change{Kind: FetchGroupInfo}, ReasonNone},
		{"group info with a code", strictRoom, newcomer, Change{Kind: FetchGroupInfo, Code: &JoinCode{2}}, ReasonNone},
		{"group info without a code", strictRoom, newcomer, Change{Kind: FetchGroupInfo}, ReasonJoinCode},
		{"group info by preauthorisation", strictRoom, staffNewcomer, Change{Kind: FetchGroupInfo}, ReasonNone},
		{"group info of a closed room", coop, newcomer, Change{Kind: FetchGroupInfo}, ReasonNoCapability},
		{"reinit", strictRoom, a(4), Change{Kind: SendReInit}, ReasonNone},
		{"reinit by an admin", strictRoom, a(3), Change{Kind: SendReInit}, ReasonNoCapability},
		{"external senders by the hub", strictRoom, hubActor, Change{Kind: ChangeGroupContext}, ReasonNone},
		{"external senders by an admin", strictRoom, a(4), Change{Kind: ChangeGroupContext}, ReasonNoCapability},
		{"end of the room", coop, a(4), Change{Kind: DestroyRoom}, ReasonNone},
		{"end of the room by an admin", coop, a(3), Change{Kind: DestroyRoom}, ReasonNoCapability},
		{"taking part", coop, a(5), Change{Kind: TakePart}, ReasonNone},
		{"taking part when banned", coop, a(1), Change{Kind: TakePart}, ReasonBlocked},
		{"unknown change", coop, a(4), Change{Kind: 200}, ReasonUnknownProposal},
		{"room without roles: message", bare, Actor{URI: "mimi://a.example/u/one"}, Change{Kind: SendMessage}, ReasonNone},
		{"room without roles: addition", bare, Actor{URI: "mimi://a.example/u/one"}, Change{Kind: AddParticipant, User: outsider, Role: 2}, ReasonNone},
		{"room without roles: another role", bare, Actor{URI: "mimi://a.example/u/one"}, Change{Kind: AddParticipant, User: outsider, Role: 3}, ReasonNoTransition},
		{"room without roles: definitions", bare, Actor{URI: "mimi://a.example/u/one"}, Change{Kind: ChangeComponent, Component: ComponentRoles}, ReasonNoCapability},
	}
	for _, c := range cases {
		d := Decide(c.s, c.actor, c.change)
		if d.Reason != c.want || d.Allowed != (c.want == ReasonNone) {
			t.Errorf("%s: %v, want %v", c.name, d, c.want)
		}
		if s := d.String(); s == "" || d.Allowed != (s == "allowed") {
			t.Errorf("%s: described as %q", c.name, s)
		}
	}
}

// TestBanWithoutCanBan: canChangeUserRole and canKick together do what canBan does; one of them is not enough.
func TestBanWithoutCanBan(t *testing.T) {
	for capabilities, want := range map[string]Reason{
		"canBan": ReasonNone, "canChangeUserRole canKick": ReasonNone, "canChangeUserRole": ReasonNoCapability, "canKick": ReasonNoCapability,
	} {
		roles := append(cooperative()[:3:3], role(3, "warden", capabilities, "2>1"))
		s := populated(t, roles)
		if d := Decide(s, Actor{URI: user(3, 1)}, Change{Kind: ChangeRole, User: user(2, 1), Role: 1}); d.Reason != want {
			t.Errorf("%s: %v", capabilities, d)
		}
		idle := s.WithClients(map[string]int{user(3, 1): 1})
		d := Decide(idle, Actor{URI: user(3, 1)}, Change{Kind: ChangeRole, User: user(2, 1), Role: 1})
		if d.Allowed != (capabilities != "canKick") {
			t.Errorf("%s, of a user without clients: %v", capabilities, d)
		}
	}
}

// TestNoBannedRole: in a room whose role 1 has another name there are no bans, and role 1 is a role like others.
func TestNoBannedRole(t *testing.T) {
	roles := cooperative()
	roles[1] = role(1, "regular", "canSendMessage", "")
	s := populated(t, roles)
	if d := Decide(s, Actor{URI: user(1, 1)}, Change{Kind: SendMessage}); !d.Allowed {
		t.Errorf("role 1: %v", d)
	}
	noUserRole := cooperative()
	noUserRole[1] = roles[1]
	noUserRole[3] = role(3, "warden", "canBan canUnBan", "2>1 1>2")
	s = populated(t, noUserRole)
	if d := Decide(s, Actor{URI: user(3, 1)}, Change{Kind: ChangeRole, User: user(2, 1), Role: 1}); d.Reason != ReasonNoCapability {
		t.Errorf("canBan where role 1 is not banned: %v", d)
	}
	if err := roles.Check(); err == nil {
		t.Error("role 1 of another name is not noticed")
	}
}

func TestRoleDefinitions(t *testing.T) {
	cases := map[string]func(RoleData) RoleData{
		"no role 0":                     func(d RoleData) RoleData { return d[1:] },
		"canOpenJoin in role 2":         func(d RoleData) RoleData { d[2].Capabilities = []Capability{CanOpenJoin}; return d },
		"minimum above maximum":         func(d RoleData) RoleData { d[2].MinParticipants, d[2].MaxParticipants = 2, number(1); return d },
		"active minimum above maximum":  func(d RoleData) RoleData { d[2].MinActive, d[2].MaxActive = 2, number(1); return d },
		"active minimum above all":      func(d RoleData) RoleData { d[2].MinActive, d[2].MaxParticipants = 2, number(1); return d },
		"change to a role that is not":  func(d RoleData) RoleData { d[2].AuthorizedChanges = []RoleChangeTargets{{2, []uint32{7}}}; return d },
		"change from a role that isn't": func(d RoleData) RoleData { d[2].AuthorizedChanges = []RoleChangeTargets{{7, nil}}; return d },
	}
	for name, change := range cases {
		if err := change(cooperative()).Check(); err == nil {
			t.Errorf("%s is not noticed", name)
		}
	}
}

func TestCheckRoom(t *testing.T) {
	good := populated(t, cooperative())
	with := func(id uint16, m interface{ Marshal() []byte }) *State {
		return populated(t, cooperative(), func(d map[uint16][]byte) { d[id] = m.Marshal() })
	}
	cases := map[string]struct {
		s    *State
		want Reason
	}{
		"good":                        {good, ReasonNone},
		"client of an outsider":       {good.WithClients(map[string]int{outsider: 1, user(2, 1): 0}), ReasonOutsiderClient},
		"client of a banned user":     {good.WithClients(map[string]int{user(1, 1): 1}), ReasonTooManyActive},
		"role in use is not defined":  {room(t, cooperative(), ParticipantList{{outsider, 9}}), ReasonUnknownRole},
		"minimum not reached":         {room(t, cooperative(), ParticipantList{{outsider, 2}}), ReasonTooFew},
		"definitions are broken":      {populated(t, cooperative()[1:]), ReasonMalformed},
		"too many users":              {with(ComponentBase, &BaseRoomPolicy{MultiDevice: true, MaxUsers: number(7)}), ReasonMaxUsers},
		"too many clients":            {with(ComponentBase, &BaseRoomPolicy{MultiDevice: true, MaxClients: number(5)}), ReasonMaxClients},
		"more than one device":        {with(ComponentBase, &BaseRoomPolicy{}).WithClients(map[string]int{user(2, 1): 2}), ReasonSingleDevice},
		"fixed, but somebody may add": {with(ComponentBase, &BaseRoomPolicy{FixedMembership: true, MultiDevice: true}), ReasonFixedMembership},
		"its own parent":              {with(ComponentBase, &BaseRoomPolicy{ParentDependent: true, ParentRoom: roomURI, MultiDevice: true}), ReasonParent},
		"not in the parent": {with(ComponentBase, &BaseRoomPolicy{ParentDependent: true, ParentRoom: "m:p", MultiDevice: true}).
			WithParent(room(t, cooperative(), nil)), ReasonParent},
		"preauthorisation for nothing": {with(ComponentPreauth, PreAuthData{{TargetRole: Role{Index: 7}}}), ReasonUnknownRole},
		"history by a silent role":     {with(ComponentHistory, &HistoryPolicy{Roles: []uint32{5}}), ReasonUnknownRole},
		"bot in a role that is not":    {with(ComponentBots, BotPolicy{{RoleIndex: 7}}), ReasonUnknownRole},
		"unreadable":                   {with(ComponentAsset, zeros(32)), ReasonMalformed},
		"unreadable operational":       {with(ComponentOperational, zeros(32)), ReasonNone},
	}
	for name, c := range cases {
		if d := c.s.Check(); d.Reason != c.want {
			t.Errorf("%s: %v, want %v", name, d, c.want)
		}
	}
}

func TestEveryReasonHasItsWord(t *testing.T) {
	seen := make(map[string]bool)
	for r := ReasonNone; r <= ReasonUnknownProposal; r++ {
		s := r.String()
		if s == "" || strings.HasPrefix(s, "reason ") || seen[s] {
			t.Errorf("reason %d is called %q", r, s)
		}
		seen[s] = true
	}
	if len(reasonNames) != int(ReasonUnknownProposal)+1 || Reason(200).String() != "reason 200" {
		t.Error("names and reasons differ in number")
	}
	if ReasonNoCapability.Invalid() || ReasonHubOnly.Invalid() || !ReasonMalformed.Invalid() || !ReasonUnknownProposal.Invalid() {
		t.Error("notAllowed or invalidProposal")
	}
}

func TestMessageNeeds(t *testing.T) {
	id := content.MessageID{1, 2}
	text := content.Part{Disposition: content.Render, Body: content.SinglePart{ContentType: content.TypePlain, Content: []byte("x")}}
	file := func(contentType string, d content.Disposition) content.Part {
		return content.Part{Disposition: d, Body: content.ExternalPart{ContentType: contentType}}
	}
	mixed := content.Part{Body: content.MultiPart{Semantics: content.ProcessAll, Parts: []content.Part{
		text, file("image/png", content.Inline), file("IMAGE/jpeg", content.Render), file("image/png", content.Attachment),
		file("audio/ogg", content.Render), file("video/mp4", content.Render), file("x/y", content.Render),
		file("x/y", content.Session), file("image/png", content.Preview),
	}}}
	first := &content.Message{Body: text}
	topic := &content.Message{TopicID: []byte("t"), Body: text}
	cases := []struct {
		name     string
		m        content.Message
		about    About
		want     string
		possible bool
	}{
		{"post", content.Message{Body: text}, About{}, "canSendMessage", true},
		{"reply", content.Message{InReplyTo: id, Body: text}, About{Link: true, Preview: true}, "canSendMessage canReplyToMessage canSendLink canSendLinkPreview", true},
		{"new topic", *topic, About{}, "canSendMessage canStartTopic", true},
		{"old topic", *topic, About{TopicKnown: true}, "canSendMessage canReplyInTopic", true},
		{"files", content.Message{Body: mixed}, About{}, "canSendMessage canUploadImage canUploadAttachment canUploadAudio canUploadVideo", true},
		{"reaction", content.Message{InReplyTo: id, Body: content.Part{Disposition: content.Reaction, Body: text.Body}}, About{}, "canReactToMessage", true},
		{"other reaction", content.Message{Replaces: id, Body: content.Part{Disposition: content.Reaction, Body: text.Body}}, About{OwnTarget: true}, "canEditReaction", true},
		{"somebody else's reaction changed", content.Message{Replaces: id, Body: content.Part{Disposition: content.Reaction, Body: text.Body}}, About{}, "canEditReaction", false},
		{"unlike", content.Message{Replaces: id, Body: content.Part{Disposition: content.Reaction, Body: content.NullPart{}}}, About{OwnTarget: true}, "canDeleteOwnReaction", true},
		{"reaction taken away", content.Message{Replaces: id, Body: content.Part{Disposition: content.Reaction, Body: content.NullPart{}}}, About{}, "canDeleteOtherReaction", true},
		{"delete", content.Message{Replaces: id, Body: content.Part{Body: content.NullPart{}}}, About{OwnTarget: true}, "canDeleteOwnMessage", true},
		{"delete another's", content.Message{Replaces: id, Body: content.Part{Body: content.NullPart{}}}, About{}, "canDeleteOtherMessage", true},
		{"edit", content.Message{Replaces: id, Body: text}, About{OwnTarget: true, First: first}, "canEditOwnMessage", true},
		{"edit of an unknown message", content.Message{Replaces: id, Body: text}, About{OwnTarget: true}, "canEditOwnMessage", true},
		{"edit with another topic", content.Message{Replaces: id, Body: text}, About{OwnTarget: true, First: topic}, "canEditOwnMessage canEditOwnTopic", true},
		{"edit with another reply", content.Message{Replaces: id, InReplyTo: id, Body: text}, About{OwnTarget: true, First: first}, "", false},
		{"edit of another's", content.Message{Replaces: id, Body: file("x/y", content.Render)}, About{First: first}, "", false},
		{"topic of another's", content.Message{Replaces: id, Body: text}, About{First: topic}, "canEditOtherTopic", true},
		{"topic and expiry of another's", content.Message{Replaces: id, Expires: &content.Expiration{}, Body: text}, About{First: topic}, "", false},
		{"status report", content.Message{Body: content.Part{Body: content.SinglePart{ContentType: content.TypeStatus}}}, About{}, "", true},
	}
	for _, c := range cases {
		need, possible := MessageNeeds(&c.m, c.about)
		var names []string
		for _, n := range need {
			names = append(names, n.String())
		}
		if got := strings.Join(names, " "); got != c.want || possible != c.possible {
			t.Errorf("%s needs %q, %v", c.name, got, possible)
		}
	}
}

func TestAssetPolicy(t *testing.T) {
	p := &AssetPolicy{Location: UploadLocalProvider, UploadDomains: []ProviderAssetUploadDomains{{"a.example", []string{"files.a.example"}}, {"hub.example", []string{"cdn.example"}}},
		DownloadPrivacy: DownloadPrivacy{Allowed: []DownloadPrivacyType{DownloadHubProxy, DownloadOHTTP}, Forbidden: []DownloadPrivacyType{DownloadOHTTP}},
		MaxImage:        10, MaxAudio: 20, MaxVideo: 30, MaxAttachment: 40, ForbiddenTypes: []content.MediaType{{Type: "application/x-evil"}}}
	if !p.MayUploadTo("a.example", "hub.example", "files.a.example") || p.MayUploadTo("a.example", "hub.example", "cdn.example") || p.MayUploadTo("b.example", "hub.example", "files.a.example") {
		t.Error("localProvider")
	}
	p.Location = UploadHub
	if p.MayUploadTo("a.example", "hub.example", "files.a.example") || !p.MayUploadTo("a.example", "hub.example", "cdn.example") {
		t.Error("hub")
	}
	if p.Location = UploadUnspecified; !p.MayUploadTo("", "", "x") {
		t.Error("unspecified")
	}
	if !p.MayDownload(DownloadHubProxy) || p.MayDownload(DownloadOHTTP) || p.MayDownload(DownloadDirect) {
		t.Error("ways to download")
	}
	accepts := func(s string, size uint64, d content.Disposition) bool {
		m, err := content.ParseMediaType(s)
		if err != nil {
			t.Fatal(err)
		}
		return p.Accepts(m, size, d)
	}
	if !accepts("image/png", 10, content.Render) || accepts("image/png", 11, content.Render) || !accepts("image/png", 40, content.Attachment) ||
		accepts("audio/ogg", 21, content.Inline) || !accepts("video/mp4", 30, content.Inline) || accepts("text/plain", 41, content.Render) ||
		accepts("application/x-evil;a=b", 1, content.Attachment) {
		t.Error("sizes and forbidden types")
	}
	p.PermittedTypes = []content.MediaType{{Type: "image/png"}}
	if !accepts("image/png;x=y", 1, content.Render) || accepts("image/gif", 1, content.Render) {
		t.Error("permitted types")
	}
	logging := LoggingPolicy{Logging: Optional, Clients: []string{"m:c"}}
	if !logging.Active() || (&LoggingPolicy{Logging: Forbidden, Clients: []string{"m:c"}}).Active() || (&LoggingPolicy{}).Active() {
		t.Error("logging")
	}
}
