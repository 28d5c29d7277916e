package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The four example rooms of draft-ietf-mimi-room-policy-03, appendix "Role examples", with these repairs:
// canRevokeVoice and canGrantVoice, which the registry lacks, are canChangeUserRole; canUnban is canUnBan; the
// moderated room's speaker includes the attendee (not itself), and its moderator the speaker (there is no
// ordinary_user).

// capabilityOf is the capability of a name. The draft's text also writes canUnban.
func capabilityOf(name string) (Capability, bool) {
	if name == "canUnban" {
		return CanUnBan, true
	}
	for _, c := range Capabilities() {
		if c.String() == name {
			return c, true
		}
	}
	return 0, false
}

// role writes a role as the draft does: capabilities, then the authorised changes.
func role(index uint32, name, capabilities, changes string, limits ...func(*Role)) Role {
	r := Role{Index: index, Name: name}
	for _, c := range strings.Fields(capabilities) {
		id, ok := capabilityOf(c)
		if !ok {
			panic("no capability " + c)
		}
		if !r.Has(id) {
			r.Capabilities = append(r.Capabilities, id)
		}
	}
	for _, entry := range strings.Fields(changes) { // from>to,to
		from, targets, _ := strings.Cut(entry, ">")
		var t RoleChangeTargets
		fmt.Sscan(from, &t.From)
		for _, s := range strings.Split(targets, ",") {
			var to uint32
			fmt.Sscan(s, &to)
			t.Targets = append(t.Targets, to)
		}
		r.AuthorizedChanges = append(r.AuthorizedChanges, t)
	}
	for _, l := range limits {
		l(&r)
	}
	return r
}

func number(n uint32) *uint32 { return &n }

func inactive(r *Role)             { r.MaxActive = number(0) }
func atLeast(n uint32) func(*Role) { return func(r *Role) { r.MinParticipants = n } }
func atMost(n uint32) func(*Role)  { return func(r *Role) { r.MaxParticipants = number(n) } }
func activeAtLeast(n uint32) func(*Role) {
	return func(r *Role) { r.MinActive = n }
}

const enforcerCapabilities = `canRemoveParticipant canChangeUserRole canBan canUnban canChangeRoleDefinitions
	canChangePreauthorizedUserList canChangeMlsOperationalPolicies canDestroyRoom canSendMLSReinitProposal`

const ownThings = ` canChangeOwnName canChangeOwnPresence canChangeOwnMood canChangeOwnAvatar`

const transfers = ` canUploadImage canUploadVideo canUploadAudio canUploadAttachment canDownloadImage canDownloadVideo
	canDownloadAudio canDownloadAttachment canSendLink canSendLinkPreview canFollowLink canCopyLink`

func cooperative() RoleData {
	user := `canAddParticipant canRemoveParticipant canAddOwnClient canRemoveOwnClient canRemoveSelf canSendMessage
		canReceiveMessage canCopyMessage canReportAbuse canReplyToMessage canReactToMessage canDeleteOwnReaction
		canEditOwnMessage canDeleteOwnMessage canStartTopic canReplyInTopic canEditOwnTopic canChangeRoomName
		canChangeRoomAvatar canChangeRoomSubject canChangeRoomMood` + transfers + ownThings
	admin := user + ` canBan canUnBan canKick canChangeUserRole canDeleteOtherMessage canEditOtherTopic canChangeRoomDescription`
	super := admin + ` canChangeRoomMembershipStyle canChangePreauthorizedUserList canDestroyRoom`
	return RoleData{
		role(0, "no_role", "", "", inactive),
		role(1, "banned", "", "", inactive),
		role(2, "ordinary_user", user, "0>2 2>0"),
		role(3, "group_admin", admin, "0>1,2,3 1>0,2,3 2>0,1,3 3>0,1,2", atLeast(1)),
		role(4, "super_admin", super, "0>1,2,3,4 1>0,2,3,4 2>0,1,3,4 3>0,1,2,4 4>0,1,2,3"),
		role(5, "policy_enforcer", enforcerCapabilities, "0>1 1>0 2>0,1 3>0,1 4>0,1", atLeast(1), atMost(2), inactive),
	}
}

func strict() RoleData {
	user := `canAddOwnClient canJoinIfPreauthorized canRemoveOwnClient canRemoveSelf canChangeOwnRole canSendMessage
		canReceiveMessage canCopyMessage canReportAbuse canReactToMessage canDeleteOwnReaction canEditOwnMessage
		canDeleteOwnMessage canStartTopic canReplyInTopic` + transfers + ownThings
	admin := user + ` canAddParticipant canRemoveParticipant canBan canUnBan canKick canChangeUserRole canCreateJoinCode
		canDeleteJoinCode canDeleteOtherReaction canDeleteOtherMessage canEditOwnTopic canEditOtherTopic
		canChangeRoomDescription canChangeRoomName canChangeRoomAvatar canChangeRoomSubject canChangeRoomMood`
	super := admin + ` canChangeRoomMembershipStyle canChangeRoleDefinitions canChangePreauthorizedUserList canDestroyRoom canSendMLSReinitProposal`
	return RoleData{
		role(0, "no_role", "canUseJoinCode", "0>2", inactive),
		role(1, "banned", "", "", inactive),
		role(2, "ordinary_user", user, "0>2 2>0"),
		role(3, "group_admin", admin, "0>1,2,3 1>0,2,3 2>0,1,3 3>0,1,2", atLeast(1)),
		role(4, "super_admin", super, "0>1,2,3,4 1>0,2,3,4 2>0,1,3,4 3>0,1,2,4 4>0,1,2,3"),
		role(5, "policy_enforcer", enforcerCapabilities, "0>1 1>0 2>0,1 3>0,1 4>0,1", atLeast(1), atMost(2), inactive),
	}
}

func moderated() RoleData {
	guest := `canRemoveSelf canReceiveMessage canCopyMessage canReactToMessage canDeleteOwnReaction canFollowLink canCopyLink
		canDownloadImage canDownloadVideo canDownloadAudio`
	attendee := guest + ` canAddOwnClient canJoinIfPreauthorized canRemoveOwnClient canChangeOwnRole canReportAbuse canReplyInTopic
		canDownloadAttachment canChangeOwnName canChangeOwnPresence canChangeOwnAvatar`
	speaker := attendee + ` canSendMessage canEditOwnMessage canDeleteOwnMessage canStartTopic canUploadImage canUploadVideo
		canUploadAudio canUploadAttachment canSendLink canSendLinkPreview`
	moderator := speaker + ` canAddParticipant canRemoveParticipant canBan canUnBan canKick canChangeUserRole canCreateJoinCode
		canDeleteJoinCode canDeleteOtherReaction canDeleteOtherMessage canEditOwnTopic canEditOtherTopic canChangeRoomName
		canChangeRoomAvatar canChangeRoomSubject canChangeRoomMood`
	super := moderator + ` canChangeRoomDescription canChangeRoomMembershipStyle canChangeRoleDefinitions
		canChangePreauthorizedUserList canDestroyRoom canSendMLSReinitProposal`
	return RoleData{
		role(0, "no_role", "canUseJoinCode", "0>2,3"),
		role(1, "banned", "", "", inactive),
		role(2, "guest", guest, "0>2 2>0"),
		role(3, "attendee", attendee, "0>3 3>0"),
		role(4, "speaker", speaker, "0>4 4>0"),
		role(5, "moderator", moderator, "0>1,2,3,4,5 1>0,2,3,4,5 2>0,1,3,4,5 3>0,1,2,4,5 4>0,1,2,3,5 5>0,1,2,3,4", atLeast(1)),
		role(6, "super_admin", super, "0>1,2,3,4,5,6 1>0,2,3,4,5,6 2>0,1,3,4,5,6 3>0,1,2,4,5,6 4>0,1,2,3,5,6 5>0,1,2,3,4,6 6>0,1,2,3,4,5"),
		role(7, "policy_enforcer", enforcerCapabilities, "0>1 1>0 2>0,1 3>0,1 4>0,1 5>0,1 6>0,1", atLeast(1), atMost(2), inactive),
	}
}

func organizations() RoleData {
	user := `canRemoveSelf canAddOwnClient canRemoveOwnClient canSendMessage canReceiveMessage canCopyMessage canReportAbuse
		canReplyInTopic canReactToMessage canDeleteOwnReaction canEditOwnMessage canSendLink canSendLinkPreview canFollowLink
		canCopyLink canDownloadImage canDownloadVideo canDownloadAudio canDownloadAttachment canChangeOwnName
		canChangeOwnPresence canChangeOwnAvatar`
	admin := user + ` canDeleteOwnMessage canStartTopic canUploadImage canUploadVideo canUploadAudio canUploadAttachment
		canAddParticipant canRemoveParticipant canBan canKick canChangeUserRole`
	pre := ` canChangeOwnRole canJoinIfPreauthorized`
	super := admin + pre + ` canUnBan canDeleteOtherReaction canDeleteOtherMessage canEditOwnTopic canEditOtherTopic
		canChangeRoomDescription canChangeRoomName canChangeRoomAvatar canChangeRoomSubject canChangeRoomMood
		canChangeRoomMembershipStyle canChangeRoleDefinitions canChangePreauthorizedUserList canDestroyRoom canSendMLSReinitProposal`
	return RoleData{
		role(0, "no_role", "", "", inactive),
		role(1, "banned", "", "", inactive),
		role(2, "org_a_user", user+pre, "0>2 2>0"),
		role(3, "org_b_user", user, "0>3 3>0"),
		role(4, "org_c_user", user, "0>4 4>0"),
		role(5, "org_a_admin", admin+pre, "0>2,5 2>0,1,5 5>0,1,2"),
		role(6, "org_b_admin", admin, "0>3,6 3>0,1,6 6>0,1,3", atLeast(1), atMost(3), activeAtLeast(1)),
		role(7, "org_c_admin", admin, "0>4,7 4>0,1,7 7>0,1,4", atLeast(1), atMost(3), activeAtLeast(1)),
		role(8, "super_admin", super, "0>1,2,3,4,5,6,7,8 1>0,2,3,4,5,6,7,8 2>0,1,5,8 3>0,1,6 4>0,1,7 5>0,1,2,8 6>0,1,3 7>0,1,4 8>0,1,2,5", atLeast(1), activeAtLeast(1)),
		role(9, "policy_enforcer", enforcerCapabilities, "0>1 1>0 3>0,1 4>0,1 5>0,1 6>0,1 7>0,1 8>0,1", atLeast(1), atMost(2), inactive),
	}
}

const roomURI = "mimi://hub.example/r/clubhouse"

// user names a participant of a test room: the n-th one in a role.
func user(role uint32, n int) string { return fmt.Sprintf("mimi://a.example/u/role%d-%d", role, n) }

const outsider = "mimi://o.example/u/outsider"

// room builds a state out of components; roles and participants as given, a client for everybody who may have one.
func room(t testing.TB, roles RoleData, participants ParticipantList, change ...func(map[uint16][]byte)) *State {
	t.Helper()
	dictionary := map[uint16][]byte{
		ComponentMetadata:     (&RoomMetaData{RoomURI: roomURI, RoomName: "Clubhouse"}).Marshal(),
		ComponentParticipants: participants.Marshal(),
	}
	if roles != nil {
		dictionary[ComponentRoles] = roles.Marshal()
	}
	for _, c := range change {
		c(dictionary)
	}
	s, err := stateOf(dictionary)
	if err != nil {
		t.Fatal(err)
	}
	clients := make(map[string]int)
	for _, p := range participants {
		if r := s.Role(p.Role); r != nil && r.MayBeActive() {
			clients[p.User] = 1
		}
	}
	return s.WithClients(clients)
}

// populated is a room with two participants in every role.
func populated(t testing.TB, roles RoleData, change ...func(map[uint16][]byte)) *State {
	var list ParticipantList
	for _, r := range roles {
		if r.Index != RoleNone {
			list = append(list, UserRolePair{user(r.Index, 1), r.Index}, UserRolePair{user(r.Index, 2), r.Index})
		}
	}
	return room(t, roles, list, change...)
}

func base(p BaseRoomPolicy) func(map[uint16][]byte) {
	return func(d map[uint16][]byte) { d[ComponentBase] = p.Marshal() }
}

// transitions lists what somebody in a role may do to others, as from>to,to: additions from 0, removals to 0.
func transitions(s *State, actor Actor) string {
	var out []string
	for _, from := range s.Roles {
		var to []string
		for _, target := range s.Roles {
			change := Change{Kind: ChangeRole, User: user(from.Index, 2), Role: target.Index}
			switch {
			case from.Index == target.Index:
				continue
			case from.Index == RoleNone:
				change.Kind, change.User = AddParticipant, outsider
			case target.Index == RoleNone:
				change.Kind = RemoveParticipant
			}
			if Decide(s, actor, change).Allowed {
				to = append(to, fmt.Sprint(target.Index))
			}
		}
		if to != nil {
			out = append(out, fmt.Sprintf("%d>%s", from.Index, strings.Join(to, ",")))
		}
	}
	return strings.Join(out, " ")
}

// TestEveryPairOfRoles: in each of the draft's example rooms, for every pair of roles, who may move whom, who may
// kick, and who may leave. The expectations are written out from the draft's prose for each role, that is, its
// authorised changes as far as its capabilities let them be used on others.
// S003-021, S003-049, S003-050. Security case "policy change without the right; self-promotion; demoting a higher role".
func TestEveryPairOfRoles(t *testing.T) {
	const all4 = "0>1,2,3,4 1>0,2,3,4 2>0,1,3,4 3>0,1,2,4 4>0,1,2,3"
	rooms := []struct {
		name  string
		roles RoleData
		moves map[uint32]string // by the actor's role; roles that are left out may do nothing to others
		kick  []uint32          // roles that may kick everybody
		leave []uint32          // roles that may leave
	}{
		{"cooperatively administered", cooperative(), map[uint32]string{
			2: "0>2 2>0",
			3: "0>1,2,3 1>0,2,3 2>0,1,3 3>0,1,2",
			4: all4,
			// It lacks canAddParticipant and may put outsiders only on the ban list; (1,[2…]) is not authorised.
			5: "0>1 1>0 2>0,1 3>0,1 4>0,1",
		}, []uint32{3, 4}, []uint32{2, 3, 4}},
		{"strictly administered", strict(), map[uint32]string{
			3: "0>1,2,3 1>0,2,3 2>0,1,3 3>0,1,2",
			4: all4,
			5: "0>1 1>0 2>0,1 3>0,1 4>0,1",
		}, []uint32{3, 4}, []uint32{2, 3, 4}},
		{"moderated", moderated(), map[uint32]string{
			5: "0>1,2,3,4,5 1>0,2,3,4,5 2>0,1,3,4,5 3>0,1,2,4,5 4>0,1,2,3,5 5>0,1,2,3,4",
			6: "0>1,2,3,4,5,6 1>0,2,3,4,5,6 2>0,1,3,4,5,6 3>0,1,2,4,5,6 4>0,1,2,3,5,6 5>0,1,2,3,4,6 6>0,1,2,3,4,5",
			7: "0>1 1>0 2>0,1 3>0,1 4>0,1 5>0,1 6>0,1",
		}, []uint32{5, 6}, []uint32{2, 3, 4, 5, 6}},
		{"multi-organization administered", organizations(), map[uint32]string{
			5: "0>2,5 2>0,1,5 5>0,1,2",
			6: "0>3,6 3>0,1,6 6>0,1,3",
			7: "0>4,7 4>0,1,7 7>0,1,4",
			8: "0>1,2,3,4,5,6,7,8 1>0,2,3,4,5,6,7,8 2>0,1,5,8 3>0,1,6 4>0,1,7 5>0,1,2,8 6>0,1,3 7>0,1,4 8>0,1,2,5",
			9: "0>1 1>0 3>0,1 4>0,1 5>0,1 6>0,1 7>0,1 8>0,1",
		}, []uint32{5, 6, 7, 8}, []uint32{2, 3, 4, 5, 6, 7, 8}},
	}
	for _, r := range rooms {
		t.Run(r.name, func(t *testing.T) {
			if err := r.roles.Check(); err != nil {
				t.Fatal(err)
			}
			s := populated(t, r.roles)
			if d := s.Check(); !d.Allowed {
				t.Fatal(d)
			}
			for _, role := range r.roles {
				actor := Actor{URI: user(role.Index, 1)}
				if got := transitions(s, actor); got != r.moves[role.Index] {
					t.Errorf("role %d may move\n%q, want\n%q", role.Index, got, r.moves[role.Index])
				}
				for _, target := range r.roles {
					if target.Index <= RoleBanned || !target.MayBeActive() {
						continue
					}
					d := Decide(s, actor, Change{Kind: RemoveClient, User: user(target.Index, 2), Clients: 1})
					if want := slices.Contains(r.kick, role.Index); d.Allowed != want && (want && d.Reason != ReasonTooFewActive || !want) {
						t.Errorf("role %d kicks role %d: %v", role.Index, target.Index, d)
					}
				}
				d := Decide(s, actor, Change{Kind: RemoveParticipant, User: actor.URI})
				if want := slices.Contains(r.leave, role.Index); d.Allowed != want {
					t.Errorf("role %d leaves: %v", role.Index, d)
				}
				for _, target := range r.roles {
					if d := Decide(s, actor, Change{Kind: ChangeRole, User: actor.URI, Role: target.Index}); d.Allowed {
						t.Errorf("role %d gives itself role %d", role.Index, target.Index)
					}
				}
			}
		})
	}
}

// TestLastOfARole: security case "removing the last admin".
func TestLastOfARole(t *testing.T) {
	list := ParticipantList{{user(2, 1), 2}, {user(3, 1), 3}, {user(4, 1), 4}, {user(5, 1), 5}}
	s := room(t, cooperative(), list)
	super, admin := Actor{URI: user(4, 1)}, Actor{URI: user(3, 1)}
	for name, c := range map[string]struct {
		actor  Actor
		change Change
	}{
		"removed":  {super, Change{Kind: RemoveParticipant, User: admin.URI}},
		"demoted":  {super, Change{Kind: ChangeRole, User: admin.URI, Role: 2}},
		"promoted": {super, Change{Kind: ChangeRole, User: admin.URI, Role: 4}},
		"banned":   {super, Change{Kind: ChangeRole, User: admin.URI, Role: 1}},
		"leaves":   {admin, Change{Kind: RemoveParticipant, User: admin.URI}},
	} {
		if d := Decide(s, c.actor, c.change); d.Reason != ReasonTooFew {
			t.Errorf("the last group admin is %s: %v", name, d)
		}
	}
	if d := Decide(s, super, Change{Kind: RemoveParticipant, User: super.URI}); !d.Allowed {
		t.Errorf("the last super admin has no minimum: %v", d)
	}
}
