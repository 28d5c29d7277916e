package policy

// Decide says whether the actor may make the change now (draft-ietf-mimi-room-policy-03, Role Capabilities):
// whether its role gives the right, and whether the room would still keep its constraints afterwards. Of the
// accepted but not yet committed proposals that [State.WithPending] put into the state, it counts what they
// make of the actor's own role.
//
// It decides single changes, for the answer to a user or a request. Commits and proposals are judged whole by
// [JudgeCommit] and [JudgeProposals].
func Decide(s *State, actor Actor, change Change) Decision {
	if d := s.authorise(actor, change, true); !d.Allowed {
		return d
	}
	changes, clients := s.effect(actor, change)
	if d, _ := onceEach(s.Participants, changes); !d.Allowed {
		return d
	}
	if changes == nil && clients == nil {
		return allowed
	}
	if change.Kind == ChangeRole && change.Role == RoleBanned && s.clients[change.User] > 0 {
		if d := s.mayCleanUp(actor, change.User, true); !d.Allowed {
			return d
		}
	}
	next, err := s.advance(changes, clients)
	if err != nil {
		return deny(ReasonMalformed, "%v", err)
	}
	return outcome(s, next, changes, clients)
}

// effect returns what a change of participants or clients does to the room.
func (s *State) effect(actor Actor, c Change) ([]ParticipantChange, map[string]int) {
	from := s.roles[c.User]
	switch c.Kind {
	case AddParticipant:
		return []ParticipantChange{{c.User, RoleNone, c.Role}}, map[string]int{c.User: c.Clients}
	case Join:
		return []ParticipantChange{{actor.URI, RoleNone, c.Role}}, map[string]int{actor.URI: c.Clients}
	case RemoveParticipant:
		return []ParticipantChange{{c.User, from, RoleNone}}, map[string]int{c.User: -s.clients[c.User]}
	case ChangeRole:
		clients := map[string]int{}
		if c.Role == RoleBanned {
			clients[c.User] = -s.clients[c.User]
		}
		return []ParticipantChange{{c.User, from, c.Role}}, clients
	case AddClient:
		return nil, map[string]int{c.User: c.Clients}
	case RemoveClient:
		return nil, map[string]int{c.User: -c.Clients}
	}
	return nil, nil
}

// authorise says whether the actor has the right to a change, whatever the room's constraints say. With
// effective, accepted proposals that are not yet committed count for the actor's role.
func (s *State) authorise(actor Actor, c Change, effective bool) Decision {
	if c.Kind == AddParticipant && c.User == actor.URI && !actor.External {
		c.Kind = Join
	}
	if d := s.sensible(actor, c); !d.Allowed {
		return d
	}
	if actor.Trusted {
		return allowed
	}
	me, d := s.acting(actor, c, effective)
	if !d.Allowed || me == nil {
		return d
	}
	switch c.Kind {
	case AddParticipant:
		return s.authoriseAdd(me, c)
	case RemoveParticipant:
		return s.authoriseRemove(me, actor, c)
	case ChangeRole:
		return s.authoriseRole(me, actor, c)
	case AddClient:
		return s.authoriseAddClient(me, actor, c)
	case RemoveClient:
		return need(me, map[bool]Capability{true: CanRemoveOwnClient, false: CanKick}[c.User == actor.URI])
	case ChangeMetadata:
		capabilities, _ := s.Metadata.changedCapabilities(c.Metadata)
		return need(me, capabilities...)
	case ChangeComponent, RemoveComponent:
		return authoriseComponent(me, actor, c.Component)
	case SendMessage:
		if s.clients[actor.URI] == 0 {
			return deny(ReasonNotActive, "%.200q has no client", actor.URI)
		}
		return need(me, CanSendMessage)
	case ReceiveMessage:
		return need(me, CanReceiveMessage)
	case Use:
		return need(me, c.Capability)
	case TakePart:
		return allowed
	case ClaimKeyMaterial:
		return s.authoriseClaim(me, actor, c)
	case FetchGroupInfo:
		return s.authoriseOwnClient(me)
	case SendReInit:
		return need(me, CanSendMLSReinitProposal)
	case ChangeGroupContext:
		return need(me, CanChangeMLSOperationalPolicies)
	case DestroyRoom:
		return need(me, CanDestroyRoom)
	}
	return deny(ReasonUnknownProposal, "change %d", c.Kind)
}

// sensible refuses changes that nobody can make.
func (s *State) sensible(actor Actor, c Change) Decision {
	switch c.Kind {
	case AddParticipant, Join:
		user := c.User
		if c.Kind == Join {
			user = actor.URI
		}
		if user == "" || c.Clients < 0 {
			return deny(ReasonMalformed, "addition of %.200q with %d clients", user, c.Clients)
		}
		if s.roles[user] != RoleNone {
			return deny(ReasonAlreadyParticipant, "%.200q", user)
		}
		return s.roleExists(c.Role)
	case ChangeRole:
		if s.roles[c.User] == RoleNone {
			return deny(ReasonNotInList, "%.200q", c.User)
		}
		return s.roleExists(c.Role)
	case RemoveParticipant:
		if s.roles[c.User] == RoleNone {
			return deny(ReasonNotInList, "%.200q", c.User)
		}
	case AddClient, RemoveClient:
		if c.Clients < 0 {
			return deny(ReasonMalformed, "%d clients", c.Clients)
		}
	case ChangeMetadata:
		if c.Metadata == nil {
			return deny(ReasonMalformed, "no metadata")
		}
		if _, uri := s.Metadata.changedCapabilities(c.Metadata); uri && s.raw[ComponentMetadata] != nil {
			return deny(ReasonImmutable, "the room URI")
		}
	case RemoveComponent:
		switch c.Component {
		case ComponentParticipants, ComponentMetadata, ComponentRoles, ComponentBase:
			return deny(ReasonImmutable, "component %#04x cannot be removed", c.Component)
		}
	}
	return allowed
}

func (s *State) roleExists(index uint32) Decision {
	if index == RoleNone {
		return deny(ReasonMalformed, "nobody in the list has role 0")
	}
	if s.Role(index) == nil {
		return deny(ReasonUnknownRole, "role %d", index)
	}
	return allowed
}

// acting returns the role in which the actor makes the change. Changes that are decided without a role of the
// actor's come back with a nil role and the decision.
func (s *State) acting(actor Actor, c Change, effective bool) (*Role, Decision) {
	own := (c.Kind == RemoveClient || c.Kind == ClaimKeyMaterial) && c.User == actor.URI
	if actor.External {
		return s.actingExternal(actor, c)
	}
	index := s.roles[actor.URI]
	blocked := index == RoleBanned && s.bans()
	if to, touched := s.pending.roles[actor.URI]; effective && touched && index != RoleNone {
		index, blocked = to, to == RoleNone || to == RoleBanned && s.bans()
	}
	switch {
	case blocked && own && c.Kind == RemoveClient:
		return nil, allowed
	case blocked:
		return nil, deny(ReasonBlocked, "%.200q is banned or being removed", actor.URI)
	case index == RoleNone && c.Kind == Join:
		return nil, s.authoriseJoin(actor, c)
	case index == RoleNone && c.Kind == FetchGroupInfo:
		return nil, s.authoriseOutsider(actor, c)
	case index == RoleNone && own && c.Kind == RemoveClient:
		return nil, allowed
	case index == RoleNone:
		return nil, deny(ReasonNotParticipant, "%.200q", actor.URI)
	}
	role := s.Role(index)
	if role == nil {
		return nil, deny(ReasonUnknownRole, "%.200q has role %d", actor.URI, index)
	}
	if c.Kind == RemoveClient && !own && s.mustHaveNone(c.User) {
		return nil, allowed
	}
	return role, allowed
}

// actingExternal is acting for an external sender.
func (s *State) actingExternal(actor Actor, c Change) (*Role, Decision) {
	if actor.Hub {
		switch {
		case c.Kind == RemoveClient && s.mustHaveNone(c.User),
			c.Kind == RemoveParticipant && s.Base.ParentDependent && s.parent != nil && s.parent.RoleIndex(c.User) <= RoleBanned,
			c.Kind == ChangeGroupContext,
			(c.Kind == ChangeComponent || c.Kind == RemoveComponent) && c.Component == ComponentFrankingAgent:
			return nil, allowed
		}
	}
	index, ok := s.Preauth.Match(actor.Claims)
	if !ok || index <= RoleBanned {
		return nil, deny(ReasonNotPreauthorized, "external sender %.200q", actor.URI)
	}
	role := s.Role(index)
	if role == nil {
		return nil, deny(ReasonUnknownRole, "external sender %.200q is preauthorized for role %d", actor.URI, index)
	}
	return role, allowed
}

// mustHaveNone tells whether the user is not in the list, or in a role without clients: anybody may then
// remove the clients that should not be there.
func (s *State) mustHaveNone(user string) bool {
	index := s.roles[user]
	if index == RoleNone {
		return true
	}
	role := s.Role(index)
	return role == nil || !role.MayBeActive()
}

func need(me *Role, capabilities ...Capability) Decision {
	for _, c := range capabilities {
		if !me.Has(c) {
			return lacks(c, "role %d", me.Index)
		}
	}
	return allowed
}

// move checks that the role has one of the capabilities and that its authorised changes have from → to.
func move(me *Role, from, to uint32, anyOf ...Capability) Decision {
	for _, c := range anyOf {
		if me.Has(c) {
			if !me.MayMove(from, to) {
				return deny(ReasonNoTransition, "role %d may not move from %d to %d", me.Index, from, to)
			}
			return allowed
		}
	}
	return lacks(anyOf[0], "role %d", me.Index)
}

// bans tells whether role 1 is the banned role, by its only allowed name.
func (s *State) bans() bool {
	r := s.Role(RoleBanned)
	return r != nil && r.Name == BannedName
}

func (s *State) authoriseAdd(me *Role, c Change) Decision {
	if c.Role == RoleBanned && s.bans() {
		return move(me, RoleNone, RoleBanned, CanBan, CanAddParticipant)
	}
	return move(me, RoleNone, c.Role, CanAddParticipant)
}

func (s *State) authoriseRemove(me *Role, actor Actor, c Change) Decision {
	if c.User == actor.URI {
		return move(me, me.Index, RoleNone, CanRemoveSelf)
	}
	return move(me, s.roles[c.User], RoleNone, CanRemoveParticipant)
}

func (s *State) authoriseRole(me *Role, actor Actor, c Change) Decision {
	from := s.roles[c.User]
	switch {
	case c.User == actor.URI:
		if !me.Has(CanChangeOwnRole) {
			return lacks(CanChangeOwnRole, "role %d", me.Index)
		}
		if role, ok := s.Preauth.Match(actor.Claims); !ok || role != c.Role {
			return deny(ReasonNotPreauthorized, "%.200q for role %d", actor.URI, c.Role)
		}
		return allowed
	case c.Role == RoleBanned && s.bans():
		return move(me, from, RoleBanned, CanBan, CanChangeUserRole)
	case from == RoleBanned && s.bans():
		return move(me, RoleBanned, c.Role, CanUnBan, CanChangeUserRole)
	}
	return move(me, from, c.Role, CanChangeUserRole)
}

// mayCleanUp says whether the actor may take the clients of a user whom it bans: with canBan that is part of
// the ban, otherwise it needs canKick.
func (s *State) mayCleanUp(actor Actor, user string, effective bool) Decision {
	if actor.Trusted {
		return allowed
	}
	me, d := s.acting(actor, Change{Kind: ChangeRole, User: user, Role: RoleBanned}, effective)
	if !d.Allowed || me == nil {
		return d
	}
	if me.Has(CanBan) && s.bans() {
		return allowed
	}
	return need(me, CanKick)
}

func (s *State) authoriseAddClient(me *Role, actor Actor, c Change) Decision {
	if c.User == actor.URI {
		return need(me, CanAddOwnClient)
	}
	index := s.roles[c.User]
	if index == RoleNone {
		return deny(ReasonOutsiderClient, "%.200q", c.User)
	}
	return move(me, RoleNone, index, CanAddParticipant)
}

func (s *State) authoriseClaim(me *Role, actor Actor, c Change) Decision {
	if c.User == actor.URI {
		return s.authoriseOwnClient(me)
	}
	if index := s.roles[c.User]; index != RoleNone {
		if s.mustHaveNone(c.User) {
			return deny(ReasonTooManyActive, "role %d has no clients", index)
		}
		return move(me, RoleNone, index, CanAddParticipant)
	}
	if s.Base.FixedMembership {
		return deny(ReasonFixedMembership, "%.200q is not in the list", c.User)
	}
	if !me.Has(CanAddParticipant) {
		return lacks(CanAddParticipant, "role %d", me.Index)
	}
	for _, t := range me.AuthorizedChanges {
		for _, to := range t.Targets {
			if target := s.Role(to); t.From == RoleNone && to != RoleNone && target != nil && target.MayBeActive() {
				return allowed
			}
		}
	}
	return deny(ReasonNoTransition, "role %d may add to no role that has clients", me.Index)
}

// authoriseOwnClient says whether a participant may bring another client of its own.
func (s *State) authoriseOwnClient(me *Role) Decision {
	if !me.MayBeActive() {
		return deny(ReasonTooManyActive, "role %d has no clients", me.Index)
	}
	return need(me, CanAddOwnClient)
}

// authoriseJoin says whether somebody who is not in the list may add itself in a role, by any of the three ways.
func (s *State) authoriseJoin(actor Actor, c Change) Decision {
	if c.Role == RoleBanned && s.bans() {
		return deny(ReasonNoTransition, "nobody joins as banned")
	}
	if s.Base.FixedMembership {
		return deny(ReasonFixedMembership, "%.200q is not in the list", actor.URI)
	}
	outsider := s.Role(RoleNone)
	if outsider != nil && outsider.Has(CanOpenJoin) && outsider.MayMove(RoleNone, c.Role) {
		return allowed
	}
	matched, ok := s.Preauth.Match(actor.Claims)
	if ok && matched == c.Role && s.Role(c.Role).Has(CanJoinIfPreauthorized) {
		return allowed
	}
	mayUseCode := outsider != nil && outsider.Has(CanUseJoinCode)
	switch {
	case mayUseCode && c.Code != nil && c.Code.Role == c.Role:
		return allowed
	case mayUseCode && c.Code != nil:
		return deny(ReasonJoinCode, "the code is for role %d, not %d", c.Code.Role, c.Role)
	case mayUseCode:
		return deny(ReasonJoinCode, "no valid code")
	case ok:
		return deny(ReasonNotPreauthorized, "for role %d", c.Role)
	default:
		return lacks(CanOpenJoin, "role 0")
	}
}

// authoriseOutsider says whether somebody who is not in the list may join in any role at all.
func (s *State) authoriseOutsider(actor Actor, c Change) Decision {
	last := lacks(CanOpenJoin, "role 0")
	for _, role := range s.Roles {
		if role.Index == RoleNone || !role.MayBeActive() {
			continue
		}
		if last = s.authoriseJoin(actor, Change{Kind: Join, Role: role.Index, Code: c.Code}); last.Allowed {
			return allowed
		}
	}
	return last
}

// authoriseComponent names the capability for each component that is not covered by a change of its own.
// For those without one in the draft, canChangeOtherPolicyAttribute and canChangeMlsOperationalPolicies are
// read as if they were not reserved.
func authoriseComponent(me *Role, actor Actor, component uint16) Decision {
	switch component {
	case ComponentFrankingAgent:
		return deny(ReasonHubOnly, "the franking agent is the hub's")
	case ComponentRoles:
		return need(me, CanChangeRoleDefinitions)
	case ComponentPreauth:
		return need(me, CanChangePreauthorizedUserList)
	case ComponentBase:
		return need(me, CanChangeRoomMembershipStyle)
	case ComponentOperational, ComponentAppComponents, ComponentSafeAAD, ComponentContentMediaTypes:
		return need(me, CanChangeMLSOperationalPolicies)
	case ComponentParticipants, ComponentMetadata:
		return deny(ReasonMalformed, "component %#04x has changes of its own", component)
	default:
		return need(me, CanChangeOtherPolicyAttribute)
	}
}
