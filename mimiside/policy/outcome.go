package policy

import (
	"maps"
	"slices"
)

// outcome says whether the room next, which changes of participants and clients made of before, keeps the
// roles' constraints and the base policy. Constraints that were broken before and did not get worse do not
// count, so that an old fault does not stop unrelated changes.
func outcome(before, next *State, changes []ParticipantChange, clients map[string]int) Decision {
	if d := next.membershipStyle(changes); !d.Allowed {
		return d
	}
	touched := slices.Collect(maps.Keys(clients))
	for _, c := range changes {
		touched = append(touched, c.User)
	}
	slices.Sort(touched)
	for _, user := range slices.Compact(touched) {
		if d := next.clientsOf(user, before); !d.Allowed {
			return d
		}
	}
	if d := constraints(before.counts(), next.counts(), next); !d.Allowed {
		return d
	}
	if max := next.Base.MaxUsers; max != nil {
		if n := next.unbanned(); n > int(*max) && n > before.unbanned() {
			return deny(ReasonMaxUsers, "%d users, allowed are %d", n, *max)
		}
	}
	if max := next.Base.MaxClients; max != nil {
		if n := next.totalClients(); n > int(*max) && n > before.totalClients() {
			return deny(ReasonMaxClients, "%d clients, allowed are %d", n, *max)
		}
	}
	return allowed
}

// membershipStyle checks participant changes against fixed membership and the parent room
// (draft-ietf-mimi-room-policy-03, Base Room policy).
func (s *State) membershipStyle(changes []ParticipantChange) Decision {
	for _, c := range changes {
		ban := c.To == RoleBanned && s.bans()
		if s.Base.FixedMembership && (c.From == RoleNone || c.To == RoleNone || ban) {
			return deny(ReasonFixedMembership, "%.200q from role %d to %d", c.User, c.From, c.To)
		}
		if c.From == RoleNone && !ban && s.Base.ParentDependent && s.parent != nil {
			if role := s.parent.RoleIndex(c.User); role == RoleNone || role == RoleBanned && s.parent.bans() {
				return deny(ReasonParent, "%.200q is not in the parent room", c.User)
			}
		}
	}
	return allowed
}

// clientsOf checks that the user may have the clients that it has.
func (s *State) clientsOf(user string, before *State) Decision {
	n := s.clients[user]
	if n == 0 {
		return allowed
	}
	switch index := s.roles[user]; {
	case index == RoleNone && before.roles[user] != RoleNone:
		return deny(ReasonClientsRemain, "%d of %.200q, who is removed", n, user)
	case index == RoleNone:
		return deny(ReasonOutsiderClient, "%.200q", user)
	case s.mustHaveNone(user):
		return deny(ReasonClientsRemain, "%d of %.200q in role %d", n, user, index)
	case !s.Base.MultiDevice && n > 1 && n > before.clients[user]:
		return deny(ReasonSingleDevice, "%d clients of %.200q", n, user)
	}
	return allowed
}

// constraints checks the numbers of participants in each role, where they changed for the worse.
func constraints(before, after map[uint32]count, s *State) Decision {
	indexes := make(map[uint32]bool, len(before)+len(after))
	for i := range before {
		indexes[i] = true
	}
	for i := range after {
		indexes[i] = true
	}
	for _, i := range slices.Sorted(maps.Keys(indexes)) {
		r, was, is := s.Role(i), before[i], after[i]
		if r == nil {
			if is.all > was.all {
				return deny(ReasonUnknownRole, "role %d", i)
			}
			continue
		}
		if d := within(r, is, is.all < was.all, is.all > was.all, is.active < was.active, is.active > was.active); !d.Allowed {
			return d
		}
	}
	return allowed
}

// within checks a role's constraints; the flags tell which of them count.
func within(r *Role, n count, min, max, minActive, maxActive bool) Decision {
	switch {
	case min && n.all < r.MinParticipants:
		return deny(ReasonTooFew, "role %d would have %d participants of at least %d", r.Index, n.all, r.MinParticipants)
	case max && r.MaxParticipants != nil && n.all > *r.MaxParticipants:
		return deny(ReasonTooMany, "role %d would have %d participants of at most %d", r.Index, n.all, *r.MaxParticipants)
	case minActive && n.active < r.MinActive:
		return deny(ReasonTooFewActive, "role %d would have %d active participants of at least %d", r.Index, n.active, r.MinActive)
	case maxActive && r.MaxActive != nil && n.active > *r.MaxActive:
		return deny(ReasonTooManyActive, "role %d would have %d active participants of at most %d", r.Index, n.active, *r.MaxActive)
	}
	return allowed
}

// Check says whether a room is consistent in itself: role definitions and base policy keep the draft's rules,
// everybody's role exists, all constraints are kept, and clients belong to participants who may have them.
// A hub wants it of every room that it creates and after every change of roles or base policy; a follower may
// look at it when it joins.
func (s *State) Check() Decision {
	if d := s.checkRoles(); !d.Allowed {
		return d
	}
	if d := s.checkBase(); !d.Allowed {
		return d
	}
	for _, user := range slices.Sorted(maps.Keys(s.clients)) {
		if s.clients[user] <= 0 {
			continue
		}
		if s.roles[user] == RoleNone {
			return deny(ReasonOutsiderClient, "%.200q", user)
		}
		if s.mustHaveNone(user) {
			return deny(ReasonClientsRemain, "%.200q in role %d", user, s.roles[user])
		}
	}
	for _, id := range s.Unreadable {
		if id != ComponentOperational {
			return deny(ReasonMalformed, "component %#04x cannot be read", id)
		}
	}
	return s.checkReferences()
}

// checkRoles checks the definitions, that every role in use is defined, and that all constraints are kept.
func (s *State) checkRoles() Decision {
	if s.raw[ComponentRoles] != nil {
		if err := s.Roles.Check(); err != nil {
			return deny(ReasonMalformed, "%v", err)
		}
	}
	counts := s.counts()
	for _, i := range slices.Sorted(maps.Keys(counts)) {
		if s.Role(i) == nil {
			return deny(ReasonUnknownRole, "role %d is in use", i)
		}
	}
	for i := range s.Roles {
		r := &s.Roles[i]
		// Role 0 is outside the list: its constraints mean nothing.
		if r.Index == RoleNone {
			continue
		}
		if d := within(r, counts[r.Index], true, true, true, true); !d.Allowed {
			return d
		}
	}
	return allowed
}

// checkBase checks that the room fits its base policy.
func (s *State) checkBase() Decision {
	b := &s.Base
	switch {
	case b.MaxUsers != nil && s.unbanned() > int(*b.MaxUsers):
		return deny(ReasonMaxUsers, "%d users, allowed are %d", s.unbanned(), *b.MaxUsers)
	case b.MaxClients != nil && s.totalClients() > int(*b.MaxClients):
		return deny(ReasonMaxClients, "%d clients, allowed are %d", s.totalClients(), *b.MaxClients)
	case b.ParentDependent && b.ParentRoom == s.Metadata.RoomURI:
		return deny(ReasonParent, "the room is its own parent")
	}
	if !b.MultiDevice {
		for user, n := range s.clients {
			if n > 1 {
				return deny(ReasonSingleDevice, "%d clients of %.200q", n, user)
			}
		}
	}
	if b.FixedMembership {
		for _, r := range s.Roles {
			if r.Index > RoleBanned && r.Has(CanAddParticipant) {
				return deny(ReasonFixedMembership, "role %d has canAddParticipant", r.Index)
			}
		}
	}
	if b.ParentDependent && s.parent != nil {
		for _, p := range s.Participants {
			if p.Role != RoleBanned && s.parent.RoleIndex(p.User) == RoleNone {
				return deny(ReasonParent, "%.200q is not in the parent room", p.User)
			}
		}
	}
	return allowed
}

// checkReferences checks that components that name roles name existing ones.
func (s *State) checkReferences() Decision {
	for _, e := range s.Preauth {
		if i := e.TargetRole.Index; i == RoleNone || s.Role(i) == nil {
			return deny(ReasonUnknownRole, "preauthorisation for role %d", i)
		}
	}
	for _, i := range s.History.Roles {
		if r := s.Role(i); r == nil || !r.MayBeActive() {
			return deny(ReasonUnknownRole, "history shared by role %d", i)
		}
	}
	for _, b := range s.Bots {
		if b.RoleIndex != RoleNone && s.Role(b.RoleIndex) == nil {
			return deny(ReasonUnknownRole, "bot %.40q in role %d", b.Name, b.RoleIndex)
		}
	}
	return allowed
}
