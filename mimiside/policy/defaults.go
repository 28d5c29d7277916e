package policy

import "slices"

// Role indexes of the default roles of a room whose hub is the bridge. Roles made from levels of another
// system begin at RoleMember.
const (
	// RoleMuted may read and not write.
	RoleMuted uint32 = 2
	// RoleBridge is the bridge's own: it has every right, and nobody gives or takes it.
	RoleBridge    uint32 = 9
	RoleMember    uint32 = 10
	RoleModerator uint32 = 11
	RoleAdmin     uint32 = 12
)

// ordinaryCapabilities are those of ordinary_user in the draft's cooperatively administered room
// (draft-ietf-mimi-room-policy-03, Role examples).
var ordinaryCapabilities = []Capability{
	CanAddParticipant, CanRemoveParticipant, CanAddOwnClient, CanRemoveOwnClient, CanRemoveSelf, CanSendMessage,
	CanReceiveMessage, CanCopyMessage, CanReportAbuse, CanReplyToMessage, CanReactToMessage, CanDeleteOwnReaction,
	CanEditOwnMessage, CanDeleteOwnMessage, CanStartTopic, CanReplyInTopic, CanEditOwnTopic, CanUploadImage,
	CanUploadVideo, CanUploadAudio, CanUploadAttachment, CanDownloadImage, CanDownloadVideo, CanDownloadAudio,
	CanDownloadAttachment, CanSendLink, CanSendLinkPreview, CanFollowLink, CanCopyLink, CanChangeRoomName,
	CanChangeRoomAvatar, CanChangeRoomSubject, CanChangeRoomMood, CanChangeOwnName, CanChangeOwnPresence,
	CanChangeOwnMood, CanChangeOwnAvatar,
}

// ReadingCapabilities are those of everybody in a room: to read, to report, to come with more clients, to leave.
func ReadingCapabilities() []Capability {
	return []Capability{
		CanAddOwnClient, CanRemoveOwnClient, CanRemoveSelf, CanReceiveMessage, CanCopyMessage, CanReportAbuse,
		CanDownloadImage, CanDownloadAudio, CanDownloadVideo, CanDownloadAttachment, CanFollowLink, CanCopyLink,
	}
}

// WritingCapabilities are those of everybody who may send messages, without reactions, which have
// ReactingCapabilities, and without deleting, which has CanDeleteOwnMessage.
func WritingCapabilities() []Capability {
	return []Capability{
		CanSendMessage, CanReplyToMessage, CanEditOwnMessage, CanStartTopic, CanReplyInTopic, CanEditOwnTopic,
		CanUploadImage, CanUploadAudio, CanUploadVideo, CanUploadAttachment, CanSendLink, CanSendLinkPreview,
	}
}

// ReactingCapabilities are those to react and to change one's mind.
func ReactingCapabilities() []Capability {
	return []Capability{CanReactToMessage, CanEditReaction, CanDeleteOwnReaction}
}

// Rung is a role in a ladder: what it may do, without the role changes, which follow from its place.
type Rung struct {
	Index        uint32
	Name         string
	Description  string
	Capabilities []Capability
}

// Ladder makes the roles of a room in which roles form a chain, as power levels do: rungs from the lowest to
// the highest, newcomers being in role newcomer, which is one of them. outsider are the capabilities of role 0.
// A bridge role above all rungs and the banned role below them are added.
//
// Who may do something to others may do it to those on lower rungs only:
//
//	canAddParticipant     0 → newcomer; with canChangeUserRole also to every rung up to its own
//	canRemoveParticipant  lower rung → 0; with canUnBan also 1 → 0
//	canRemoveSelf         own rung → 0
//	canBan                lower rung → 1, 0 → 1
//	canUnBan              1 → newcomer
//	canChangeUserRole     lower rung → any rung up to its own
//
// The entry own rung → 0 lets a rung that has both canRemoveSelf and canRemoveParticipant remove its equals,
// too; see [Envelope].KeepPeers.
func Ladder(outsider []Capability, newcomer uint32, rungs []Rung) RoleData {
	none := uint32(0)
	roles := RoleData{
		{Index: RoleNone, Name: "none", Description: "Not in the room", Capabilities: slices.Clone(outsider), MaxActive: &none},
		{Index: RoleBanned, Name: BannedName, Description: "May not come back", MaxActive: &none},
	}
	if slices.Contains(outsider, CanOpenJoin) || slices.Contains(outsider, CanUseJoinCode) {
		roles[0].AuthorizedChanges = []RoleChangeTargets{{RoleNone, []uint32{newcomer}}}
	}
	for i, r := range rungs {
		roles = append(roles, Role{
			Index: r.Index, Name: r.Name, Description: r.Description, Capabilities: slices.Clone(r.Capabilities),
			AuthorizedChanges: ladderChanges(r.Capabilities, rungs, i, newcomer),
		})
	}
	one, all := uint32(1), bridgeCapabilities()
	roles = append(roles, Role{
		Index: RoleBridge, Name: "bridge", Description: "The bridge to another network", Capabilities: all,
		MaxParticipants:   &one,
		AuthorizedChanges: ladderChanges(all, rungs, len(rungs), newcomer),
	})
	slices.SortFunc(roles, func(x, y Role) int { return int(int64(x.Index) - int64(y.Index)) })
	return roles
}

// bridgeCapabilities are all but those that only role 0 or preauthorisation uses, and leaving.
func bridgeCapabilities() []Capability {
	return slices.DeleteFunc(Capabilities(), func(c Capability) bool {
		switch c {
		case CanOpenJoin, CanUseJoinCode, CanJoinIfPreauthorized, CanChangeOwnRole, CanRemoveSelf:
			return true
		}
		return false
	})
}

// ladderChanges are the role changes of rungs[at]; at may be one beyond the last, for the bridge.
func ladderChanges(capabilities []Capability, rungs []Rung, at int, newcomer uint32) []RoleChangeTargets {
	has := func(c Capability) bool { return slices.Contains(capabilities, c) }
	var out []RoleChangeTargets
	add := func(from uint32, targets []uint32) {
		if len(targets) > 0 {
			slices.Sort(targets)
			out = append(out, RoleChangeTargets{from, slices.Compact(targets)})
		}
	}
	var upToOwn []uint32
	for i := 0; i <= at && i < len(rungs); i++ {
		upToOwn = append(upToOwn, rungs[i].Index)
	}
	var fromNone, fromBanned []uint32
	if has(CanAddParticipant) {
		fromNone = append(fromNone, newcomer)
		if has(CanChangeUserRole) {
			fromNone = append(fromNone, upToOwn...)
		}
	}
	if has(CanBan) {
		fromNone = append(fromNone, RoleBanned)
	}
	if has(CanUnBan) {
		fromBanned = append(fromBanned, newcomer)
		if has(CanRemoveParticipant) {
			fromBanned = append(fromBanned, RoleNone)
		}
	}
	add(RoleNone, fromNone)
	add(RoleBanned, fromBanned)
	for i, r := range rungs {
		var to []uint32
		if i < at {
			if has(CanRemoveParticipant) {
				to = append(to, RoleNone)
			}
			if has(CanBan) {
				to = append(to, RoleBanned)
			}
			if has(CanChangeUserRole) {
				to = append(to, slices.DeleteFunc(slices.Clone(upToOwn), func(i uint32) bool { return i == r.Index })...)
			}
		}
		if i == at && has(CanRemoveSelf) {
			to = append(to, RoleNone)
		}
		add(r.Index, to)
	}
	return out
}

// DefaultEnvelope is the envelope of a room of which the bridge is the hub: what changes the room's foundation
// stays with the bridge's own role, because another system decides about it.
func DefaultEnvelope() *Envelope {
	return &Envelope{
		MaxRoles: 128,
		Never: []Capability{
			CanChangeRoleDefinitions, CanChangePreauthorizedUserList, CanChangeRoomMembershipStyle, CanDestroyRoom,
			CanSendMLSReinitProposal, CanChangeMLSOperationalPolicies,
		},
		Protected: []uint32{RoleBridge},
		KeepPeers: true,
	}
}

// FixedRoles are the roles of a room of fixed membership, such as a direct chat: everybody in it is a member and has the same
// rights; nobody is added, put out, or gives rights (draft-ietf-mimi-room-policy-03, Base Room Policy).
func FixedRoles() RoleData {
	none := uint32(0)
	reading := slices.DeleteFunc(ReadingCapabilities(), func(c Capability) bool { return c == CanRemoveSelf })
	member := slices.Concat(reading, WritingCapabilities(), ReactingCapabilities(), []Capability{CanDeleteOwnMessage,
		CanChangeRoomName, CanChangeRoomDescription, CanChangeRoomAvatar, CanChangeRoomSubject, CanChangeRoomMood})
	slices.Sort(member)
	return RoleData{
		{Index: RoleNone, Name: "none", Description: "Not in the room", MaxActive: &none},
		{Index: RoleBanned, Name: BannedName, Description: "Not used", MaxActive: &none},
		{Index: RoleMember, Name: "member", Description: "Takes part", Capabilities: member},
	}
}
