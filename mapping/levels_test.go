package mapping

import (
	"reflect"
	"slices"
	"testing"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// atZero are power levels where everybody may do everything.
func atZero() event.PowerLevels {
	return event.PowerLevels{Users: map[id.UserID]int64{}, Events: map[string]int64{event.TypeJoinRules: 0}, NotifyRoom: 50}
}

// Each threshold of Matrix gives the capabilities that stand for it, and no others: what a level of 29 lacks and one of 30 has when
// the threshold is 30.
func TestWhatAThresholdGives(t *testing.T) {
	writing := []policy.Capability{policy.CanSendMessage, policy.CanReplyToMessage, policy.CanReplyInTopic, policy.CanStartTopic, policy.CanEditOwnMessage, policy.CanEditOwnTopic,
		policy.CanUploadImage, policy.CanUploadAudio, policy.CanUploadVideo, policy.CanUploadAttachment, policy.CanSendLink, policy.CanSendLinkPreview}
	reacting := []policy.Capability{policy.CanReactToMessage, policy.CanEditReaction}
	ownDeletion := []policy.Capability{policy.CanDeleteOwnMessage, policy.CanDeleteOwnReaction}
	otherDeletion := []policy.Capability{policy.CanDeleteOtherMessage, policy.CanDeleteOtherReaction}
	links := []policy.Capability{policy.CanCreateJoinCode, policy.CanDeleteJoinCode}
	state := func(typ string) func(*event.PowerLevels) { return func(p *event.PowerLevels) { p.Events[typ] = 30 } }
	for name, c := range map[string]struct {
		set       func(*event.PowerLevels)
		encrypted bool
		want      [][]policy.Capability
	}{
		"events_default":                      {func(p *event.PowerLevels) { p.EventsDefault = 30 }, false, [][]policy.Capability{writing, reacting, ownDeletion, otherDeletion}},
		"m.room.message":                      {state(event.TypeMessage), false, [][]policy.Capability{writing}},
		"m.room.encrypted":                    {state(event.TypeEncrypted), false, nil},
		"m.room.encrypted where it counts":    {state(event.TypeEncrypted), true, [][]policy.Capability{writing, reacting}},
		"m.reaction":                          {state(event.TypeReaction), false, [][]policy.Capability{reacting}},
		"m.room.redaction":                    {state(event.TypeRedaction), false, [][]policy.Capability{ownDeletion, otherDeletion}},
		"redact":                              {func(p *event.PowerLevels) { p.Redact = 30 }, false, [][]policy.Capability{otherDeletion}},
		"invite":                              {func(p *event.PowerLevels) { p.Invite = 30 }, false, [][]policy.Capability{{policy.CanAddParticipant, policy.CanUnBan}, links}},
		"kick":                                {func(p *event.PowerLevels) { p.Kick = 30 }, false, [][]policy.Capability{{policy.CanRemoveParticipant, policy.CanUnBan}}},
		"ban":                                 {func(p *event.PowerLevels) { p.Ban = 30 }, false, [][]policy.Capability{{policy.CanBan, policy.CanUnBan}}},
		"m.room.power_levels":                 {state(event.TypePowerLevels), false, [][]policy.Capability{{policy.CanChangeUserRole}}},
		"m.room.name":                         {state(event.TypeName), false, [][]policy.Capability{{policy.CanChangeRoomName}}},
		"m.room.avatar":                       {state(event.TypeAvatar), false, [][]policy.Capability{{policy.CanChangeRoomAvatar}}},
		"m.room.topic":                        {state(event.TypeTopic), false, [][]policy.Capability{{policy.CanChangeRoomSubject, policy.CanChangeRoomDescription, policy.CanChangeRoomMood}}},
		"m.room.join_rules":                   {state(event.TypeJoinRules), false, [][]policy.Capability{links}},
		"state_default":                       {func(p *event.PowerLevels) { p.StateDefault = 30 }, false, [][]policy.Capability{{policy.CanChangeUserRole, policy.CanChangeRoomName, policy.CanChangeRoomAvatar, policy.CanChangeRoomSubject, policy.CanChangeRoomDescription, policy.CanChangeRoomMood}}},
		"m.sticker":                           {state(event.TypeSticker), false, nil},
		"a type that nobody knows":            {state("org.example.custom"), false, nil},
		"who may use @room, which stays here": {func(p *event.PowerLevels) { p.NotifyRoom = 30 }, false, nil},
	} {
		p := atZero()
		c.set(&p)
		o := HubOptions{Encrypted: c.encrypted}
		below, at := levelCapabilities(p, 29, o), levelCapabilities(p, 30, o)
		var gained []policy.Capability
		for _, x := range at {
			if !slices.Contains(below, x) {
				gained = append(gained, x)
			}
		}
		want := slices.Concat(c.want...)
		slices.Sort(gained)
		slices.Sort(want)
		if !slices.Equal(gained, want) {
			t.Errorf("%s gives %v, want %v", name, gained, want)
		}
		for _, x := range below {
			if !slices.Contains(at, x) {
				t.Errorf("%s takes %v", name, x)
			}
		}
	}
}

// Everybody may read, report and leave, whatever their level; what changes the room itself is the bridge's alone.
func TestWhatEverybodyMayAndNobody(t *testing.T) {
	p := event.ParsePowerLevels(nil)
	p.EventsDefault, p.Invite = 0, 0
	want := []policy.Capability{policy.CanReceiveMessage, policy.CanCopyMessage, policy.CanFollowLink, policy.CanCopyLink, policy.CanDownloadImage, policy.CanDownloadAudio, policy.CanDownloadVideo,
		policy.CanDownloadAttachment, policy.CanReportAbuse, policy.CanAddOwnClient, policy.CanRemoveOwnClient, policy.CanRemoveSelf}
	got := levelCapabilities(p, -1, HubOptions{})
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("a level below all thresholds has %v, want %v", got, want)
	}
	highest := levelCapabilities(p, event.CreatorLevel, HubOptions{})
	for _, c := range []policy.Capability{policy.CanEditOtherTopic, policy.CanChangeRoleDefinitions, policy.CanChangePreauthorizedUserList, policy.CanChangeRoomMembershipStyle, policy.CanDestroyRoom,
		policy.CanSendMLSReinitProposal, policy.CanKick, policy.CanChangeOwnRole, policy.CanOpenJoin, policy.CanUseJoinCode, policy.CanStartCall} {
		if slices.Contains(highest, c) {
			t.Errorf("somebody on Matrix has %v", c)
		}
	}
}

// Who may move whom into which role, in a room with the usual levels: those below, and no further up than oneself.
func TestWhoMovesWhom(t *testing.T) {
	o, _ := event.ParseObject([]byte(`{"users":{"@admin:hs":100,"@mod:hs":50},"events":{"m.room.power_levels":100}}`))
	var ranks Ranks
	h := ranks.Hierarchy(event.ParsePowerLevels(o), []int64{100, 50, 0}, HubOptions{JoinRule: "public"})
	const none, banned, muted, member, moderator, admin = 0, 1, policy.RoleMuted, 10, 11, 12
	for role, want := range map[uint32][]policy.RoleChangeTargets{
		none:   {{From: none, Targets: []uint32{member}}},
		banned: nil,
		muted:  {{From: muted, Targets: []uint32{none}}},
		member: {{From: none, Targets: []uint32{member}}, {From: member, Targets: []uint32{none}}},
		moderator: {{From: none, Targets: []uint32{banned, member}}, {From: banned, Targets: []uint32{none, member}}, {From: muted, Targets: []uint32{none, banned}},
			{From: member, Targets: []uint32{none, banned}}, {From: moderator, Targets: []uint32{none}}},
		admin: {{From: none, Targets: []uint32{banned, muted, member, moderator, admin}}, {From: banned, Targets: []uint32{none, member}},
			{From: muted, Targets: []uint32{none, banned, member, moderator, admin}}, {From: member, Targets: []uint32{none, banned, muted, moderator, admin}},
			{From: moderator, Targets: []uint32{none, banned, muted, member, admin}}, {From: admin, Targets: []uint32{none}}},
	} {
		if got := h.Roles.Role(role).AuthorizedChanges; !reflect.DeepEqual(got, want) {
			t.Errorf("role %d may make the changes\n     %v\nwant %v", role, got, want)
		}
	}
	for role, most := range map[uint32]uint32{none: 0, banned: 0, policy.RoleBridge: 1} {
		r := h.Roles.Role(role)
		limit := r.MaxActive
		if role == policy.RoleBridge {
			limit = r.MaxParticipants
		}
		if limit == nil || *limit != most {
			t.Errorf("role %d has the limit %v, want %d", role, limit, most)
		}
	}
	if !h.Roles.Role(none).Has(policy.CanOpenJoin) || h.Roles.Role(none).Has(policy.CanUseJoinCode) {
		t.Error("a public room does not let outsiders in")
	}
	h = ranks.Hierarchy(event.ParsePowerLevels(o), []int64{100, 50, 0}, HubOptions{JoinRule: "knock", JoinCodes: true})
	if h.Roles.Role(none).Has(policy.CanOpenJoin) || !h.Roles.Role(none).Has(policy.CanUseJoinCode) {
		t.Error("a room with join links does not take codes alone")
	}
}

// Each threshold of a portal is the lowest level from which on all roles have the capability that it stands for; where there is no
// such level it is the bot's.
func TestThresholdsOfAPortal(t *testing.T) {
	roles := func(c ...policy.Capability) policy.RoleData {
		all := policy.RoleData{{Index: 0, Name: "none"}, {Index: 1, Name: policy.BannedName}}
		for i, name := range []string{"member", "helper", "chief"} {
			r := policy.Role{Index: uint32(10 + i), Name: name, Capabilities: []policy.Capability{policy.CanSendMessage}}
			if i > 0 {
				r.Capabilities = append(r.Capabilities, policy.CanRemoveParticipant)
				r.AuthorizedChanges = []policy.RoleChangeTargets{{From: 10, Targets: []uint32{0}}}
			}
			if i > 1 {
				r.Capabilities = append(r.Capabilities, c...)
				r.AuthorizedChanges = append(r.AuthorizedChanges, policy.RoleChangeTargets{From: 11, Targets: []uint32{0}})
			}
			all = append(all, r)
		}
		return all
	}
	s := NewStanding(roles())
	if s.Level(10) != 0 || s.Level(11) != 50 || s.Level(12) != 60 {
		t.Fatalf("levels %d %d %d", s.Level(10), s.Level(11), s.Level(12))
	}
	for name, c := range map[string]struct {
		need []policy.Capability
		get  func(p event.PowerLevels) int64
	}{
		"m.reaction":          {[]policy.Capability{policy.CanReactToMessage}, func(p event.PowerLevels) int64 { return p.Event(event.TypeReaction) }},
		"m.room.redaction":    {[]policy.Capability{policy.CanDeleteOwnMessage}, func(p event.PowerLevels) int64 { return p.Event(event.TypeRedaction) }},
		"redact":              {[]policy.Capability{policy.CanDeleteOtherMessage}, func(p event.PowerLevels) int64 { return p.Redact }},
		"invite":              {[]policy.Capability{policy.CanAddParticipant}, func(p event.PowerLevels) int64 { return p.Invite }},
		"ban":                 {[]policy.Capability{policy.CanBan}, func(p event.PowerLevels) int64 { return p.Ban }},
		"m.room.name":         {[]policy.Capability{policy.CanChangeRoomName}, func(p event.PowerLevels) int64 { return p.State(event.TypeName) }},
		"m.room.avatar":       {[]policy.Capability{policy.CanChangeRoomAvatar}, func(p event.PowerLevels) int64 { return p.State(event.TypeAvatar) }},
		"m.room.topic":        {[]policy.Capability{policy.CanChangeRoomSubject, policy.CanChangeRoomDescription}, func(p event.PowerLevels) int64 { return p.State(event.TypeTopic) }},
		"mood":                {[]policy.Capability{policy.CanChangeRoomMood}, func(p event.PowerLevels) int64 { return p.State(event.TypeMood) }},
		"m.room.power_levels": {[]policy.Capability{policy.CanChangeUserRole}, func(p event.PowerLevels) int64 { return p.State(event.TypePowerLevels) }},
	} {
		levels := func(caps ...policy.Capability) event.PowerLevels {
			return NewStanding(roles(caps...)).PowerLevels(nil, "@bot:hs", nil)
		}
		if got := c.get(levels()); got != LevelBot {
			t.Errorf("%s is %d where nobody may", name, got)
		}
		if got := c.get(levels(c.need...)); got != 60 {
			t.Errorf("%s is %d where the highest may", name, got)
		}
	}
	p := s.PowerLevels(nil, "@bot:hs", nil)
	for name, got := range map[string]int64{"events_default": p.EventsDefault, "m.room.message": p.Event(event.TypeMessage), "m.room.encrypted": p.Event(event.TypeEncrypted)} {
		if got != 0 {
			t.Errorf("%s is %d", name, got)
		}
	}
	if p.Kick != 50 || p.NotifyRoom != 50 || p.StateDefault != LevelBot {
		t.Errorf("kick %d, @room %d, state_default %d", p.Kick, p.NotifyRoom, p.StateDefault)
	}
	// A right that a lower role has and a higher one lacks is nobody's on Matrix.
	odd := roles()
	odd[3].Capabilities = append(odd[3].Capabilities, policy.CanBan)
	if p = NewStanding(odd).PowerLevels(nil, "@bot:hs", nil); p.Ban != LevelBot {
		t.Errorf("ban is %d where the highest role lacks it", p.Ban)
	}
	// Who may remove clients only may not kick: that means to leave on Matrix.
	if p = NewStanding(policy.RoleData{{Index: 10, Name: "x", Capabilities: []policy.Capability{policy.CanSendMessage, policy.CanKick}}}).PowerLevels(nil, "@bot:hs", nil); p.Kick != LevelBot {
		t.Errorf("kick is %d", p.Kick)
	}
}

// Roles that can put each other down are equals; who is muted is below all, and who decides about the room is above.
func TestRanksOfRoles(t *testing.T) {
	all := func(list ...uint32) (out []policy.RoleChangeTargets) {
		for _, from := range list {
			out = append(out, policy.RoleChangeTargets{From: from, Targets: []uint32{0}})
		}
		return out
	}
	power := []policy.Capability{policy.CanSendMessage, policy.CanRemoveParticipant}
	s := NewStanding(policy.RoleData{
		{Index: 0, Name: "none"}, {Index: 1, Name: policy.BannedName},
		{Index: 2, Name: "listener", Capabilities: []policy.Capability{policy.CanReactToMessage}},
		{Index: 10, Name: "member", Capabilities: power[:1]},
		{Index: 11, Name: "red", Capabilities: power, AuthorizedChanges: all(10, 12)},
		{Index: 12, Name: "blue", Capabilities: power, AuthorizedChanges: all(10, 11)},
		{Index: 13, Name: "owner", Capabilities: append(power, policy.CanDestroyRoom), AuthorizedChanges: all(10, 11, 12)},
	})
	want := map[uint32]int64{0: 0, 1: 0, 2: -1, 10: 0, 11: 50, 12: 50, 13: 90}
	for role, level := range want {
		if s.Level(role) != level {
			t.Errorf("role %d has level %d, want %d", role, s.Level(role), level)
		}
	}
	// Of two roles on a level the one that the actor may give is meant, the lowest first.
	for _, c := range []struct {
		targets []uint32
		want    uint32
		ok      bool
	}{{[]uint32{11, 12}, 11, true}, {[]uint32{12}, 12, true}, {nil, 0, false}} {
		s.roles.Role(13).AuthorizedChanges = []policy.RoleChangeTargets{{From: 10, Targets: c.targets}}
		if role, ok := s.RoleFor(50, 13, 10); role != c.want || ok != c.ok {
			t.Errorf("%v: role %d, %v", c.targets, role, ok)
		}
	}
}

// The level of most people is the default of a portal, so that its power levels name few.
func TestDefaultLevelIsThatOfMost(t *testing.T) {
	s := NewStanding(ladderRoles())
	mxid := func(uri string) (id.UserID, bool) { return id.UserID("@" + uri + ":hs"), true }
	list := policy.ParticipantList{{User: "a", Role: policy.RoleMuted}, {User: "b", Role: policy.RoleMuted}, {User: "c", Role: policy.RoleMember}}
	p := s.PowerLevels(list, "@bot:hs", mxid)
	if p.UsersDefault != -1 || !reflect.DeepEqual(p.Users, map[id.UserID]int64{"@c:hs": 0, "@bot:hs": 100}) {
		t.Errorf("%s", p.Encode())
	}
}

// How who comes in and who reads what was said before is told, both ways.
func TestJoiningAndHistory(t *testing.T) {
	roles := ladderRoles()
	for visibility, want := range map[string]struct {
		sharing policy.Optionality
		shown   string
	}{
		"joined": {policy.Forbidden, "joined"}, "invited": {policy.Forbidden, "joined"}, "shared": {policy.Optional, "shared"},
		"": {policy.Optional, "shared"}, "world_readable": {policy.Optional, "shared"}, "of another version": {policy.Forbidden, "joined"},
	} {
		h := HistoryPolicy(visibility, roles)
		if h.Sharing != want.sharing || HistoryVisibility(h) != want.shown {
			t.Errorf("%q: %v, shown as %q", visibility, h.Sharing, HistoryVisibility(h))
		}
	}
	if HistoryVisibility(policy.HistoryPolicy{Sharing: policy.Required}) != "shared" {
		t.Error("history that must be shared is not shown as shared")
	}
	for _, rule := range []string{"public", "invite", "private", "knock", "restricted", "knock_restricted"} {
		var ranks Ranks
		h := ranks.Hierarchy(event.ParsePowerLevels(nil), nil, HubOptions{JoinRule: rule})
		for _, found := range []bool{false, true} {
			s, err := parseState(map[uint16][]byte{policy.ComponentRoles: h.Roles.Marshal(), policy.ComponentBase: (&policy.BaseRoomPolicy{Discoverable: found}).Marshal()})
			if err != nil {
				t.Fatal(err)
			}
			want := "invite"
			if rule == "public" && found {
				want = "public"
			}
			if got := JoinRule(s); got != want {
				t.Errorf("%s, to be found %v, is shown as %s", rule, found, got)
			}
		}
	}
}

// Level is the power level of a role; 0 for an unknown one.
func (s Standing) Level(role uint32) int64 { return s.levels[role] }
