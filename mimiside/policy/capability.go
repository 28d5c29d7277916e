package policy

import "fmt"

// Capability is something that the holder of a role may do (draft-ietf-mimi-room-policy-03, Role Capabilities
// and "New MIMI Role Capabilities registry"). 0xF000 to 0xFFFF are for private use.
type Capability uint16

// The registry. Some are reserved: the draft names them without a rule. Of those, this package gives a meaning
// to CanCreateJoinCode, CanDeleteJoinCode, CanChangeOtherPolicyAttribute and CanChangeMLSOperationalPolicies,
// because otherwise nobody could change the components that they fit.
const (
	CanAddParticipant               Capability = 0x0000
	CanRemoveParticipant            Capability = 0x0001
	CanAddOwnClient                 Capability = 0x0002
	CanRemoveOwnClient              Capability = 0x0003
	CanOpenJoin                     Capability = 0x0004
	CanJoinIfPreauthorized          Capability = 0x0005
	CanRemoveSelf                   Capability = 0x0006
	CanCreateJoinCode               Capability = 0x0007
	CanDeleteJoinCode               Capability = 0x0008
	CanUseJoinCode                  Capability = 0x0009
	CanBan                          Capability = 0x000a
	CanUnBan                        Capability = 0x000b
	CanKick                         Capability = 0x000c
	CanKnock                        Capability = 0x000d
	CanAcceptKnock                  Capability = 0x000e
	CanChangeUserRole               Capability = 0x000f
	CanChangeOwnRole                Capability = 0x0010
	CanCreateSubgroup               Capability = 0x0011
	CanSendMessage                  Capability = 0x0100
	CanReceiveMessage               Capability = 0x0101
	CanCopyMessage                  Capability = 0x0102
	CanReportAbuse                  Capability = 0x0103
	CanReplyToMessage               Capability = 0x0104
	CanReactToMessage               Capability = 0x0105
	CanEditReaction                 Capability = 0x0106
	CanDeleteOwnReaction            Capability = 0x0107
	CanDeleteOtherReaction          Capability = 0x0108
	CanEditOwnMessage               Capability = 0x0109
	CanDeleteOwnMessage             Capability = 0x010a
	CanDeleteOtherMessage           Capability = 0x010b
	CanStartTopic                   Capability = 0x010c
	CanReplyInTopic                 Capability = 0x010d
	CanEditOwnTopic                 Capability = 0x010e
	CanEditOtherTopic               Capability = 0x010f
	CanSendDirectMessage            Capability = 0x0110
	CanTargetMessage                Capability = 0x0111
	CanUploadImage                  Capability = 0x0200
	CanUploadAudio                  Capability = 0x0201
	CanUploadVideo                  Capability = 0x0202
	CanUploadAttachment             Capability = 0x0203
	CanDownloadImage                Capability = 0x0204
	CanDownloadAudio                Capability = 0x0205
	CanDownloadVideo                Capability = 0x0206
	CanDownloadAttachment           Capability = 0x0207
	CanSendLink                     Capability = 0x0208
	CanSendLinkPreview              Capability = 0x0209
	CanFollowLink                   Capability = 0x020a
	CanCopyLink                     Capability = 0x020b
	CanChangeRoomName               Capability = 0x0300
	CanChangeRoomDescription        Capability = 0x0301
	CanChangeRoomAvatar             Capability = 0x0302
	CanChangeRoomSubject            Capability = 0x0303
	CanChangeRoomMood               Capability = 0x0304
	CanChangeOwnName                Capability = 0x0380
	CanChangeOwnPresence            Capability = 0x0381
	CanChangeOwnMood                Capability = 0x0382
	CanChangeOwnAvatar              Capability = 0x0383
	CanStartCall                    Capability = 0x0400
	CanJoinCall                     Capability = 0x0401
	CanSendAudio                    Capability = 0x0402
	CanReceiveAudio                 Capability = 0x0403
	CanSendVideo                    Capability = 0x0404
	CanReceiveVideo                 Capability = 0x0405
	CanShareScreen                  Capability = 0x0406
	CanViewSharedScreen             Capability = 0x0407
	CanCreateRoom                   Capability = 0x0500
	CanDestroyRoom                  Capability = 0x0501
	CanChangeRoomMembershipStyle    Capability = 0x0502
	CanChangeRoleDefinitions        Capability = 0x0503
	CanChangePreauthorizedUserList  Capability = 0x0504
	CanChangeOtherPolicyAttribute   Capability = 0x0505
	CanChangeMLSOperationalPolicies Capability = 0x0600
	CanSendMLSReinitProposal        Capability = 0x0601
	CanSendMLSUpdateProposal        Capability = 0x0602
	CanSendMLSPSKProposal           Capability = 0x0603
	CanSendMLSExternalProposal      Capability = 0x0604
	CanSendMLSExternalCommit        Capability = 0x0605
)

var capabilityNames = map[Capability]string{
	CanAddParticipant: "canAddParticipant", CanRemoveParticipant: "canRemoveParticipant",
	CanAddOwnClient: "canAddOwnClient", CanRemoveOwnClient: "canRemoveOwnClient", CanOpenJoin: "canOpenJoin",
	CanJoinIfPreauthorized: "canJoinIfPreauthorized", CanRemoveSelf: "canRemoveSelf",
	CanCreateJoinCode: "canCreateJoinCode", CanDeleteJoinCode: "canDeleteJoinCode", CanUseJoinCode: "canUseJoinCode",
	CanBan: "canBan", CanUnBan: "canUnBan", CanKick: "canKick", CanKnock: "canKnock", CanAcceptKnock: "canAcceptKnock",
	CanChangeUserRole: "canChangeUserRole", CanChangeOwnRole: "canChangeOwnRole", CanCreateSubgroup: "canCreateSubgroup",
	CanSendMessage: "canSendMessage", CanReceiveMessage: "canReceiveMessage", CanCopyMessage: "canCopyMessage",
	CanReportAbuse: "canReportAbuse", CanReplyToMessage: "canReplyToMessage", CanReactToMessage: "canReactToMessage",
	CanEditReaction: "canEditReaction", CanDeleteOwnReaction: "canDeleteOwnReaction",
	CanDeleteOtherReaction: "canDeleteOtherReaction", CanEditOwnMessage: "canEditOwnMessage",
	CanDeleteOwnMessage: "canDeleteOwnMessage", CanDeleteOtherMessage: "canDeleteOtherMessage",
	CanStartTopic: "canStartTopic", CanReplyInTopic: "canReplyInTopic", CanEditOwnTopic: "canEditOwnTopic",
	CanEditOtherTopic: "canEditOtherTopic", CanSendDirectMessage: "canSendDirectMessage", CanTargetMessage: "canTargetMessage",
	CanUploadImage: "canUploadImage", CanUploadAudio: "canUploadAudio", CanUploadVideo: "canUploadVideo",
	CanUploadAttachment: "canUploadAttachment", CanDownloadImage: "canDownloadImage", CanDownloadAudio: "canDownloadAudio",
	CanDownloadVideo: "canDownloadVideo", CanDownloadAttachment: "canDownloadAttachment", CanSendLink: "canSendLink",
	CanSendLinkPreview: "canSendLinkPreview", CanFollowLink: "canFollowLink", CanCopyLink: "canCopyLink",
	CanChangeRoomName: "canChangeRoomName", CanChangeRoomDescription: "canChangeRoomDescription",
	CanChangeRoomAvatar: "canChangeRoomAvatar", CanChangeRoomSubject: "canChangeRoomSubject",
	CanChangeRoomMood: "canChangeRoomMood", CanChangeOwnName: "canChangeOwnName", CanChangeOwnPresence: "canChangeOwnPresence",
	CanChangeOwnMood: "canChangeOwnMood", CanChangeOwnAvatar: "canChangeOwnAvatar", CanStartCall: "canStartCall",
	CanJoinCall: "canJoinCall", CanSendAudio: "canSendAudio", CanReceiveAudio: "canReceiveAudio", CanSendVideo: "canSendVideo",
	CanReceiveVideo: "canReceiveVideo", CanShareScreen: "canShareScreen", CanViewSharedScreen: "canViewSharedScreen",
	CanCreateRoom: "canCreateRoom", CanDestroyRoom: "canDestroyRoom",
	CanChangeRoomMembershipStyle: "canChangeRoomMembershipStyle", CanChangeRoleDefinitions: "canChangeRoleDefinitions",
	CanChangePreauthorizedUserList: "canChangePreauthorizedUserList", CanChangeOtherPolicyAttribute: "canChangeOtherPolicyAttribute",
	CanChangeMLSOperationalPolicies: "canChangeMlsOperationalPolicies", CanSendMLSReinitProposal: "canSendMLSReinitProposal",
	CanSendMLSUpdateProposal: "canSendMLSUpdateProposal", CanSendMLSPSKProposal: "canSendMLSPSKProposal",
	CanSendMLSExternalProposal: "canSendMLSExternalProposal", CanSendMLSExternalCommit: "canSendMLSExternalCommit",
}

// String returns the registry's name, or the number in hexadecimal.
func (c Capability) String() string {
	if name, ok := capabilityNames[c]; ok {
		return name
	}
	return fmt.Sprintf("capability %#04x", uint16(c))
}

// Capabilities lists all capabilities of the registry in rising order.
func Capabilities() []Capability {
	out := make([]Capability, 0, len(capabilityNames))
	for c := Capability(0); c <= CanSendMLSExternalCommit; c++ {
		if _, ok := capabilityNames[c]; ok {
			out = append(out, c)
		}
	}
	return out
}
