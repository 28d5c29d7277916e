package policy

import "slices"

// ladderOptions are the choices in ladderRoles.
type ladderOptions struct {
	// openJoin: everybody may join.
	openJoin bool
	// joinCodes: whoever has a valid code may join.
	joinCodes bool
	// membersAdd: members may add others, not only moderators.
	membersAdd bool
}

// ladderRoles are roles as the bridge gives them to a room that it leads: none, banned, muted, member, moderator, admin and
// the bridge itself.
func ladderRoles(o ladderOptions) RoleData {
	var outsider []Capability
	if o.openJoin {
		outsider = append(outsider, CanOpenJoin)
	}
	if o.joinCodes {
		outsider = append(outsider, CanUseJoinCode)
	}
	muted := ReadingCapabilities()
	member := slices.Concat(muted, WritingCapabilities(), ReactingCapabilities(), []Capability{CanDeleteOwnMessage})
	if o.membersAdd {
		member = append(member, CanAddParticipant)
	}
	moderator := slices.Concat(member, []Capability{
		CanRemoveParticipant, CanKick, CanBan, CanUnBan, CanChangeUserRole, CanDeleteOtherMessage, CanDeleteOtherReaction,
		CanChangeRoomName, CanChangeRoomDescription, CanChangeRoomAvatar, CanChangeRoomSubject, CanChangeRoomMood,
		CanCreateJoinCode, CanDeleteJoinCode,
	})
	if !o.membersAdd {
		moderator = append(moderator, CanAddParticipant)
	}
	return Ladder(outsider, RoleMember, []Rung{
		{RoleMuted, "muted", "May read", muted},
		{RoleMember, "member", "May read and write", member},
		{RoleModerator, "moderator", "Keeps order", moderator},
		{RoleAdmin, "admin", "Decides about the room", slices.Concat(moderator, []Capability{CanChangeOtherPolicyAttribute})},
	})
}

// stateOf is ParseState of a dictionary in a map.
func stateOf(dictionary map[uint16][]byte) (*State, error) {
	return ParseState(func(id uint16) ([]byte, bool) { data, ok := dictionary[id]; return data, ok })
}
