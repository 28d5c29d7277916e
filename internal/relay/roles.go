package relay

import (
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// roleOf returns the role in a hub room that belongs to a power level (mapping §4.2).
func roleOf(p event.PowerLevels, level int64) uint32 {
	switch {
	case level >= p.State(event.TypePowerLevels) && level >= p.Ban:
		return policy.RoleAdmin
	case level >= p.Kick && level > p.UsersDefault:
		return policy.RoleModerator
	case level < p.Event(event.TypeMessage):
		return policy.RoleMuted
	}
	return policy.RoleMember
}

// hubRoles are the role definitions of a hub room.
func hubRoles(m *matrixState) policy.RoleData {
	p := m.power()
	return policy.DefaultRoles(policy.RoleOptions{OpenJoin: m.Join == "public", MembersAdd: p.Invite <= p.UsersDefault})
}
