package policy

import (
	"bytes"
	"maps"
	"slices"
)

// Envelope is what the operator of a hub lets no policy change overstep, whoever makes it, the hub itself
// included. The drafts demand such limits and define no structure for them; it is the hub's own and is not in
// the group. The zero value limits nothing.
type Envelope struct {
	// MaxRoles bounds the number of roles; 0 means MaxRoles of this package.
	MaxRoles int
	// MaxUsers bounds the participants who are not banned; 0 means MaxParticipants.
	MaxUsers int
	// Never are capabilities that no role may have but those in Protected.
	Never []Capability
	// Protected are roles whose definition stays as it is, into and out of which nobody is moved, and that no
	// other role or preauthorisation may give: the bridge's own.
	Protected []uint32
	// Frozen are components that stay as they are.
	Frozen []uint16
	// KeepPeers: nobody removes, bans or gives another role to somebody else in its own role. A role's
	// authorised changes cannot say that of a role whose holders may leave: its entry for leaving is also one
	// for removing each other.
	KeepPeers bool
}

// peers checks KeepPeers for one participant change.
func (e *Envelope) peers(s *State, sender Actor, c ParticipantChange) Decision {
	if e == nil || !e.KeepPeers || sender.Trusted || sender.External || c.User == sender.URI {
		return allowed
	}
	if c.From != RoleNone && c.From == s.roles[sender.URI] {
		return deny(ReasonEnvelope, "%.200q and %.200q are both in role %d", sender.URI, c.User, c.From)
	}
	return allowed
}

// Check says whether a room as a whole is within the envelope: for the policy that a room starts with.
func (e *Envelope) Check(s *State) Decision {
	if e == nil {
		return allowed
	}
	if d := e.users(s); !d.Allowed {
		return d
	}
	return e.roles(s)
}

func (e *Envelope) users(s *State) Decision {
	if n := s.unbanned(); e.MaxUsers > 0 && n > e.MaxUsers {
		return deny(ReasonEnvelope, "%d users, allowed are %d", n, e.MaxUsers)
	}
	return allowed
}

// roles checks role definitions and preauthorisation.
func (e *Envelope) roles(s *State) Decision {
	if e.MaxRoles > 0 && len(s.Roles) > e.MaxRoles {
		return deny(ReasonEnvelope, "%d roles, allowed are %d", len(s.Roles), e.MaxRoles)
	}
	for _, r := range s.Roles {
		if slices.Contains(e.Protected, r.Index) {
			continue
		}
		for _, c := range e.Never {
			if r.Has(c) {
				return deny(ReasonEnvelope, "role %d has %v", r.Index, c)
			}
		}
		for _, t := range r.AuthorizedChanges {
			for _, to := range t.Targets {
				if slices.Contains(e.Protected, t.From) || slices.Contains(e.Protected, to) {
					return deny(ReasonEnvelope, "role %d may move from %d to %d, and one of them is protected", r.Index, t.From, to)
				}
			}
		}
	}
	for _, entry := range s.Preauth {
		if slices.Contains(e.Protected, entry.TargetRole.Index) {
			return deny(ReasonEnvelope, "preauthorisation for protected role %d", entry.TargetRole.Index)
		}
	}
	return allowed
}

// check says whether a change of the room from before to next stays within the envelope.
func (e *Envelope) check(before, next *State, updates map[uint16][][]byte, removed map[uint16]bool) Decision {
	if e == nil {
		return allowed
	}
	touched := slices.Concat(slices.Collect(maps.Keys(updates)), slices.Collect(maps.Keys(removed)))
	for _, id := range e.Frozen {
		if slices.Contains(touched, id) {
			return deny(ReasonEnvelope, "component %#04x is frozen", id)
		}
	}
	if next.unbanned() > before.unbanned() {
		if d := e.users(next); !d.Allowed {
			return d
		}
	}
	if updates[ComponentParticipants] != nil {
		if d := e.protectedMembers(before, next); !d.Allowed {
			return d
		}
	}
	if updates[ComponentRoles] == nil && updates[ComponentPreauth] == nil {
		return allowed
	}
	for _, i := range e.Protected {
		was, is := before.Roles.Role(i), next.Roles.Role(i)
		if (was == nil) != (is == nil) || was != nil && !bytes.Equal(was.append(nil), is.append(nil)) {
			return deny(ReasonEnvelope, "protected role %d changes", i)
		}
	}
	return e.roles(next)
}

// protectedMembers checks that nobody moves into or out of a protected role.
func (e *Envelope) protectedMembers(before, next *State) Decision {
	for _, i := range e.Protected {
		was, is := before.InRole(i), next.InRole(i)
		slices.Sort(was)
		slices.Sort(is)
		if !slices.Equal(was, is) {
			return deny(ReasonEnvelope, "participants of protected role %d change", i)
		}
	}
	return allowed
}
