package policy

import (
	"fmt"
	"slices"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

const (
	// RoleNone is the index of users who are not in the participant list (draft-ietf-mimi-room-policy-03, Role-Based Access Control).
	RoleNone uint32 = 0
	// RoleBanned is the index of the role named BannedName, where a room has one.
	RoleBanned uint32 = 1
	// BannedName is the only name that role 1 may have.
	BannedName = "banned"
)

// RoleChangeTargets lists the roles that may be given to somebody in one role
// (draft-ietf-mimi-room-policy-03, SingleSourceRoleChangeTargets). Role 0 stands for outside the list.
type RoleChangeTargets struct {
	From    uint32
	Targets []uint32
}

// Role is a role of the room (draft-ietf-mimi-room-policy-03, Role).
type Role struct {
	Index        uint32
	Name         string
	Description  string
	Capabilities []Capability
	// MinParticipants is the least number of participants in the role; 0 means none.
	MinParticipants uint32
	// MaxParticipants is the largest number of participants in the role; nil means none.
	MaxParticipants *uint32
	// MinActive is the least number of participants in the role who have clients; 0 means none.
	MinActive uint32
	// MaxActive is the largest number of participants in the role who have clients; nil means none, and 0 that
	// nobody in the role may have a client.
	MaxActive *uint32
	// AuthorizedChanges are the role changes that a holder may make, for the capabilities that consult them.
	AuthorizedChanges []RoleChangeTargets
}

// Has tells whether the role has the capability.
func (r *Role) Has(c Capability) bool { return slices.Contains(r.Capabilities, c) }

// MayMove tells whether the role's authorised changes have to among the targets of from.
func (r *Role) MayMove(from, to uint32) bool {
	for _, t := range r.AuthorizedChanges {
		if t.From == from && slices.Contains(t.Targets, to) {
			return true
		}
	}
	return false
}

// MayBeActive tells whether participants in the role may have clients.
func (r *Role) MayBeActive() bool { return r.MaxActive == nil || *r.MaxActive > 0 }

func (r Role) append(b []byte) []byte {
	b = tlspl.AppendUint32(b, r.Index)
	b = tlspl.AppendString(tlspl.AppendString(b, r.Name), r.Description)
	b = appendList(b, r.Capabilities, func(b []byte, c Capability) []byte { return tlspl.AppendUint16(b, uint16(c)) })
	b = appendOptional32(tlspl.AppendUint32(b, r.MinParticipants), r.MaxParticipants)
	b = appendOptional32(tlspl.AppendUint32(b, r.MinActive), r.MaxActive)
	return appendList(b, r.AuthorizedChanges, func(b []byte, t RoleChangeTargets) []byte {
		return appendList(tlspl.AppendUint32(b, t.From), t.Targets, tlspl.AppendUint32)
	})
}

func readRole(r *tlspl.Reader) Role {
	return Role{
		Index:             r.Uint32(),
		Name:              readText(r, MaxName),
		Description:       readText(r, MaxText),
		Capabilities:      readList(r, MaxRoles, func(r *tlspl.Reader) Capability { return Capability(r.Uint16()) }),
		MinParticipants:   r.Uint32(),
		MaxParticipants:   readOptional32(r),
		MinActive:         r.Uint32(),
		MaxActive:         readOptional32(r),
		AuthorizedChanges: readList(r, MaxRoles, readTargets),
	}
}

func readTargets(r *tlspl.Reader) RoleChangeTargets {
	return RoleChangeTargets{From: r.Uint32(), Targets: readList(r, MaxRoles, readUint32)}
}

// RoleData is the data of component 0x0025 and its update, which replaces everything
// (draft-ietf-mimi-room-policy-03, RoleData and RoleUpdate).
type RoleData []Role

// Marshal encodes the roles.
func (d RoleData) Marshal() []byte {
	return appendList(nil, d, func(b []byte, r Role) []byte { return r.append(b) })
}

// UnmarshalRoleData decodes roles and refuses two with the same index. [RoleData.Check] is stricter.
func UnmarshalRoleData(b []byte) (RoleData, error) {
	r := tlspl.NewReader(b)
	d := RoleData(readList(r, MaxRoles, readRole))
	if err := finish("roles_list", r); err != nil {
		return nil, err
	}
	seen := make(map[uint32]bool, len(d))
	for _, role := range d {
		if seen[role.Index] {
			return nil, malformed("roles_list: two roles have index %d", role.Index)
		}
		seen[role.Index] = true
	}
	return d, nil
}

// Role returns the role with the index, or nil.
func (d RoleData) Role(index uint32) *Role {
	if i := slices.IndexFunc(d, func(r Role) bool { return r.Index == index }); i >= 0 {
		return &d[i]
	}
	return nil
}

// Check tests what the draft demands of role definitions by themselves: role 0 exists, role 1 is named banned,
// only role 0 has canOpenJoin, no minimum is above its maximum, and every authorised change names roles that exist.
func (d RoleData) Check() error {
	defined := make(map[uint32]bool, len(d))
	for _, r := range d {
		defined[r.Index] = true
	}
	if !defined[RoleNone] {
		return malformed("there is no role 0")
	}
	for _, r := range d {
		switch {
		case r.Index == RoleBanned && r.Name != BannedName:
			return malformed("role 1 is named %.40q", r.Name)
		case r.Index != RoleNone && r.Has(CanOpenJoin):
			return malformed("role %d has canOpenJoin", r.Index)
		case r.MaxParticipants != nil && r.MinParticipants > *r.MaxParticipants,
			r.MaxActive != nil && r.MinActive > *r.MaxActive,
			r.MaxParticipants != nil && r.MinActive > *r.MaxParticipants:
			return malformed("role %d has a minimum above its maximum", r.Index)
		}
		for _, t := range r.AuthorizedChanges {
			for _, index := range append([]uint32{t.From}, t.Targets...) {
				if !defined[index] {
					return fmt.Errorf("role %d: %w", r.Index, malformed("authorised change from or to role %d, which does not exist", index))
				}
			}
		}
	}
	return nil
}
