package mapping

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"maunium.net/go/mautrix/id"
	"pgregory.net/rapid"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

func drawLevels(t *rapid.T) event.PowerLevels {
	level := rapid.SampledFrom([]int64{-5, -1, 0, 1, 10, 25, 50, 75, 100})
	p := event.PowerLevels{
		Users: map[id.UserID]int64{}, Events: map[string]int64{},
		UsersDefault: rapid.SampledFrom([]int64{-1, 0, 10, 50}).Draw(t, "users_default"), EventsDefault: level.Draw(t, "events_default"),
		StateDefault: level.Draw(t, "state_default"), Invite: level.Draw(t, "invite"), Kick: level.Draw(t, "kick"),
		Ban: level.Draw(t, "ban"), Redact: level.Draw(t, "redact"), NotifyRoom: 50,
	}
	for _, typ := range []string{event.TypeMessage, event.TypeReaction, event.TypeRedaction, event.TypeName, event.TypeTopic, event.TypeAvatar, event.TypePowerLevels, event.TypeEncrypted, event.TypeJoinRules} {
		if rapid.Bool().Draw(t, "has "+typ) {
			p.Events[typ] = level.Draw(t, typ)
		}
	}
	for n := range rapid.IntRange(0, 6).Draw(t, "users") {
		p.Users[id.UserID(fmt.Sprintf("@u%d:hs", n))] = level.Draw(t, "level")
	}
	if rapid.Bool().Draw(t, "creators") {
		p.Creators = []id.UserID{"@u0:hs"}
	}
	return p
}

func levelsOf(p event.PowerLevels, users []id.UserID) []int64 {
	var out []int64
	for _, u := range users {
		out = append(out, p.User(u))
	}
	return out
}

// parseState is the state of a room whose components are given.
func parseState(components map[uint16][]byte) (*policy.State, error) {
	return policy.ParseState(func(id uint16) ([]byte, bool) { data, ok := components[id]; return data, ok })
}

// ladderRoles are muted, member, moderator and admin, each with the rights of the one below; members have more on top.
func ladderRoles(more ...policy.Capability) policy.RoleData {
	muted := policy.ReadingCapabilities()
	member := slices.Concat(muted, policy.WritingCapabilities(), policy.ReactingCapabilities(), []policy.Capability{policy.CanDeleteOwnMessage}, more)
	moderator := slices.Concat(member, []policy.Capability{policy.CanRemoveParticipant, policy.CanKick, policy.CanBan, policy.CanUnBan, policy.CanChangeUserRole,
		policy.CanDeleteOtherMessage, policy.CanDeleteOtherReaction, policy.CanChangeRoomName, policy.CanChangeRoomDescription, policy.CanChangeRoomAvatar,
		policy.CanChangeRoomSubject, policy.CanChangeRoomMood})
	if !slices.Contains(more, policy.CanAddParticipant) {
		moderator = append(moderator, policy.CanAddParticipant)
	}
	return policy.Ladder(nil, policy.RoleMember, []policy.Rung{
		{Index: policy.RoleMuted, Name: "muted", Capabilities: muted},
		{Index: policy.RoleMember, Name: "member", Capabilities: member},
		{Index: policy.RoleModerator, Name: "moderator", Capabilities: moderator},
		{Index: policy.RoleAdmin, Name: "admin", Capabilities: append(moderator, policy.CanChangeOtherPolicyAttribute)},
	})
}

// stateOf is a room with one participant a user, all active.
func stateOf(t interface{ Fatal(...any) }, roles policy.RoleData, list policy.ParticipantList) *policy.State {
	s, err := parseState(map[uint16][]byte{
		policy.ComponentRoles: roles.Marshal(), policy.ComponentParticipants: list.Marshal(),
	})
	if err != nil {
		t.Fatal(err)
	}
	leaves := map[string]int{}
	for _, p := range list {
		if p.Role != policy.RoleBanned {
			leaves[p.User] = 1
		}
	}
	return s.WithClients(leaves)
}

// No translation of power levels hands out a right: whatever the policy of a
// hub room lets a user do, Matrix would let the user do, too. (KeepPeers of the
// hub's envelope stands between equals.)
// S003-050
func TestHierarchyHandsOutNoRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawLevels(t)
		opt := HubOptions{JoinRule: rapid.SampledFrom([]string{"public", "invite"}).Draw(t, "join"), Encrypted: rapid.Bool().Draw(t, "encrypted")}
		users := []id.UserID{"@u0:hs", "@u1:hs", "@u2:hs", "@u3:hs", "@u4:hs", "@u5:hs", "@x:hs"}
		var ranks Ranks
		h := ranks.Hierarchy(p, levelsOf(p, users), opt)
		if err := h.Roles.Check(); err != nil {
			t.Fatal(err)
		}
		var list policy.ParticipantList
		for _, u := range users {
			list = append(list, policy.UserRolePair{User: string(u), Role: h.RoleOf(p.User(u))})
		}
		list = append(list, policy.UserRolePair{User: "bot", Role: policy.RoleBridge}, policy.UserRolePair{User: "banned", Role: policy.RoleBanned})
		s := stateOf(t, h.Roles, list)
		for _, a := range users {
			actor, l := policy.Actor{URI: string(a)}, p.User(a)
			may := func(c policy.Change) bool { return policy.Decide(s, actor, c).Allowed }
			fail := func(what string) {
				t.Fatalf("%s at %d may %s; levels %s, roles %+v", a, l, what, p.Encode(), h.Roles)
			}
			message := p.Event(event.TypeMessage)
			if opt.Encrypted {
				message = max(message, p.Event(event.TypeEncrypted))
			}
			for _, c := range []struct {
				cap  policy.Capability
				need int64
			}{
				{policy.CanSendMessage, message}, {policy.CanReactToMessage, p.Event(event.TypeReaction)}, {policy.CanDeleteOtherMessage, p.Redact},
				{policy.CanDeleteOwnMessage, p.Event(event.TypeRedaction)}, {policy.CanAddParticipant, p.Invite}, {policy.CanRemoveParticipant, p.Kick}, {policy.CanBan, p.Ban},
				{policy.CanUnBan, max(p.Ban, p.Kick)}, {policy.CanChangeUserRole, p.State(event.TypePowerLevels)}, {policy.CanChangeRoomName, p.State(event.TypeName)},
				{policy.CanChangeRoomSubject, p.State(event.TypeTopic)}, {policy.CanChangeRoomAvatar, p.State(event.TypeAvatar)},
			} {
				if may(policy.Change{Kind: policy.Use, Capability: c.cap}) && l < c.need {
					fail(c.cap.String())
				}
			}
			for _, c := range []policy.Capability{policy.CanKick, policy.CanChangeRoleDefinitions, policy.CanDestroyRoom, policy.CanChangePreauthorizedUserList, policy.CanChangeRoomMembershipStyle, policy.CanChangeOtherPolicyAttribute} {
				if may(policy.Change{Kind: policy.Use, Capability: c}) {
					fail(c.String())
				}
			}
			for _, b := range users {
				lt := p.User(b)
				if a == b {
					continue
				}
				peers := h.RoleOf(l) == h.RoleOf(lt)
				if may(policy.Change{Kind: policy.RemoveParticipant, User: string(b)}) && !(l >= p.Kick && l > lt) && !peers {
					fail("remove " + string(b))
				}
				if may(policy.Change{Kind: policy.ChangeRole, User: string(b), Role: policy.RoleBanned}) && !(l >= p.Ban && l > lt) {
					fail("ban " + string(b))
				}
				for _, r := range h.Roles {
					if r.Index <= policy.RoleBanned || r.Index == h.RoleOf(lt) {
						continue
					}
					to, known := h.LevelOf(r.Index)
					if may(policy.Change{Kind: policy.ChangeRole, User: string(b), Role: r.Index}) && !(known && l >= p.State(event.TypePowerLevels) && l > lt && to <= l) {
						fail(fmt.Sprintf("move %s to role %d", b, r.Index))
					}
				}
			}
			for _, gone := range []string{"bot"} {
				if may(policy.Change{Kind: policy.RemoveParticipant, User: gone}) || may(policy.Change{Kind: policy.ChangeRole, User: gone, Role: h.Newcomer}) {
					fail("touch the bridge")
				}
			}
			for _, r := range h.Roles {
				to, known := h.LevelOf(r.Index)
				allowed := l >= p.Invite && (r.Index == h.Newcomer || known && l >= p.State(event.TypePowerLevels) && to <= l)
				if r.Index == policy.RoleBanned {
					allowed = l >= p.Ban
				}
				if r.Index != policy.RoleNone && may(policy.Change{Kind: policy.AddParticipant, User: "new", Role: r.Index}) && !allowed {
					fail(fmt.Sprintf("add to role %d", r.Index))
				}
			}
			if may(policy.Change{Kind: policy.RemoveParticipant, User: "banned"}) && l < max(p.Ban, p.Kick) {
				fail("lift a ban")
			}
		}
		outsider := policy.Actor{URI: "outsider"}
		if policy.Decide(s, outsider, policy.Change{Kind: policy.Join, Role: h.Newcomer, Clients: 1}).Allowed != (opt.JoinRule == "public") {
			t.Fatal("joining does not follow the join rule")
		}
	})
}

// What the usual levels of a Matrix room become.
func TestHierarchyOfAnOrdinaryRoom(t *testing.T) {
	o, _ := event.ParseObject([]byte(`{"users":{"@admin:hs":100,"@mod:hs":50}}`))
	p := event.ParsePowerLevels(o)
	var ranks Ranks
	h := ranks.Hierarchy(p, []int64{100, 50, 0}, HubOptions{JoinRule: "invite"})
	var names []string
	for _, r := range h.Roles {
		names = append(names, fmt.Sprintf("%d %s", r.Index, r.Name))
	}
	want := []string{"0 none", "1 banned", "2 muted", "9 bridge", "10 member", "11 moderator", "12 admin"}
	if !reflect.DeepEqual(names, want) || h.Newcomer != 10 {
		t.Fatalf("%v, newcomer %d", names, h.Newcomer)
	}
	mod := h.Roles.Role(11)
	if !mod.Has(policy.CanBan) || mod.MayMove(12, 0) || !mod.MayMove(10, 1) || !mod.MayMove(0, 10) || mod.MayMove(10, 12) || !mod.MayMove(10, 2) {
		t.Errorf("moderator: %+v", mod)
	}
	if l, ok := h.LevelOf(policy.RoleMuted); !ok || l >= 0 {
		t.Errorf("muted has level %d", l)
	}
	// The index of a level stays, and is never given to another.
	raw, _ := json.Marshal(ranks)
	var again Ranks
	if err := json.Unmarshal(raw, &again); err != nil {
		t.Fatal(err)
	}
	p.Users["@new:hs"] = 75
	p.Redact = 60
	next := again.Hierarchy(p, []int64{100, 75, 50, 0}, HubOptions{})
	if next.RoleOf(100) != 12 || next.RoleOf(50) != 11 || next.RoleOf(0) != 10 || next.RoleOf(75) != 13 || next.RoleOf(80) != 13 {
		t.Errorf("after a change: %+v", again)
	}
}

func TestHierarchyBoundsLevels(t *testing.T) {
	p := event.ParsePowerLevels(nil)
	var levels []int64
	for n := range int64(500) {
		levels = append(levels, 50+n)
	}
	var ranks Ranks
	h := ranks.Hierarchy(p, levels, HubOptions{})
	if len(h.Roles) > maxRungs+4 || h.RoleOf(549) == h.RoleOf(548) || h.RoleOf(300) != h.RoleOf(299) {
		t.Errorf("%d roles", len(h.Roles))
	}
}

func drawRoles(t *rapid.T) policy.RoleData {
	n := rapid.IntRange(1, 5).Draw(t, "roles")
	roles := policy.RoleData{{Index: 0, Name: "none"}, {Index: 1, Name: policy.BannedName}}
	caps := []policy.Capability{policy.CanSendMessage, policy.CanReactToMessage, policy.CanAddParticipant, policy.CanRemoveParticipant, policy.CanBan, policy.CanChangeUserRole,
		policy.CanDeleteOtherMessage, policy.CanDeleteOwnMessage, policy.CanChangeRoomName, policy.CanChangeRoomSubject, policy.CanChangeRoomDescription, policy.CanChangeRoomAvatar, policy.CanChangeRoleDefinitions}
	for i := range n {
		r := policy.Role{Index: uint32(i + 2), Name: fmt.Sprint("r", i), Capabilities: rapid.SliceOfNDistinct(rapid.SampledFrom(caps), 0, len(caps), func(c policy.Capability) policy.Capability { return c }).Draw(t, "caps")}
		for j := range n {
			if rapid.Bool().Draw(t, "over") {
				r.AuthorizedChanges = append(r.AuthorizedChanges, policy.RoleChangeTargets{From: uint32(j + 2), Targets: []uint32{0, 1, uint32(2 + rapid.IntRange(0, n-1).Draw(t, "to"))}})
			}
		}
		roles = append(roles, r)
	}
	return roles
}

// The power levels of a portal give nobody what his role does not have, and the
// bot stands above everybody.
func TestStandingHandsOutNoRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roles := drawRoles(t)
		s := NewStanding(roles)
		var list policy.ParticipantList
		for n := range rapid.IntRange(0, 8).Draw(t, "participants") {
			list = append(list, policy.UserRolePair{User: fmt.Sprintf("mimi://a/u/%d", n), Role: uint32(2 + rapid.IntRange(0, len(roles)-3).Draw(t, "role"))})
		}
		mxid := func(uri string) (id.UserID, bool) { return id.UserID("@" + uri[len("mimi://a/u/"):] + ":hs"), true }
		p := s.PowerLevels(list, "@bot:hs", mxid)
		for _, u := range list {
			m, _ := mxid(u.User)
			l, r := p.User(m), roles.Role(u.Role)
			if l != s.Level(u.Role) || l >= LevelBot {
				t.Fatalf("%s has level %d, role %d has %d", m, l, u.Role, s.Level(u.Role))
			}
			for _, c := range []struct {
				need int64
				cap  policy.Capability
			}{
				{p.Event(event.TypeMessage), policy.CanSendMessage}, {p.Event(event.TypeReaction), policy.CanReactToMessage}, {p.Event(event.TypeRedaction), policy.CanDeleteOwnMessage},
				{p.Redact, policy.CanDeleteOtherMessage}, {p.Invite, policy.CanAddParticipant}, {p.Kick, policy.CanRemoveParticipant}, {p.Ban, policy.CanBan},
				{p.State(event.TypeName), policy.CanChangeRoomName}, {p.State(event.TypeTopic), policy.CanChangeRoomSubject}, {p.State(event.TypeTopic), policy.CanChangeRoomDescription},
				{p.State(event.TypeAvatar), policy.CanChangeRoomAvatar}, {p.State(event.TypePowerLevels), policy.CanChangeUserRole},
			} {
				if l >= c.need && !r.Has(c.cap) {
					t.Fatalf("role %d at %d has %v on Matrix only; roles %+v, levels %s", u.Role, l, c.cap, roles, p.Encode())
				}
			}
			for _, typ := range []string{event.TypeTombstone, event.TypeEncryption, event.TypeServerACL, event.TypeJoinRules, event.TypeHistoryVisibility, event.TypeCanonicalAlias} {
				if l >= p.State(typ) {
					t.Fatalf("role %d may send %s", u.Role, typ)
				}
			}
		}
		if p.User("@bot:hs") != LevelBot {
			t.Fatal("the bot has no power")
		}
		// Who can put down another and not be put down by him stands higher within a class.
		for a := range s.levels {
			for b := range s.levels {
				if s.class(a) == s.class(b) && s.above(a, b) && !s.above(b, a) && s.Level(a) < s.Level(b) {
					t.Fatalf("role %d is over %d and at %d, %d", a, b, s.Level(a), s.Level(b))
				}
			}
		}
	})
}

func TestStandingOfAnOrdinaryRoom(t *testing.T) {
	s := NewStanding(ladderRoles(policy.CanAddParticipant))
	for role, want := range map[uint32]int64{policy.RoleMuted: -1, policy.RoleMember: 0, policy.RoleModerator: 50, policy.RoleAdmin: 60, policy.RoleBridge: 90} {
		if s.Level(role) != want {
			t.Errorf("role %d has level %d, want %d", role, s.Level(role), want)
		}
	}
	p := s.PowerLevels(policy.ParticipantList{{User: "a", Role: policy.RoleMember}, {User: "b", Role: policy.RoleMember}, {User: "c", Role: policy.RoleAdmin}}, "@bot:hs",
		func(uri string) (id.UserID, bool) { return id.UserID("@" + uri + ":hs"), uri != "" })
	if p.UsersDefault != 0 || !reflect.DeepEqual(p.Users, map[id.UserID]int64{"@c:hs": 60, "@bot:hs": 100}) || p.Kick != 50 || p.Ban != 50 || p.Invite != 0 || p.StateDefault != 100 {
		t.Errorf("%s", p.Encode())
	}
	if role, ok := s.RoleFor(50, policy.RoleAdmin, policy.RoleMember); !ok || role != policy.RoleModerator {
		t.Error(role, ok)
	}
	if _, ok := s.RoleFor(50, policy.RoleMember, policy.RoleMember); ok {
		t.Error("a member made a moderator")
	}
	if _, ok := s.RoleFor(55, policy.RoleAdmin, policy.RoleMember); ok {
		t.Error("a level between roles")
	}
}

func TestPowerLevelsOfAHugeRoomAreBounded(t *testing.T) {
	s := NewStanding(ladderRoles())
	var list policy.ParticipantList
	for n := range 5000 {
		list = append(list, policy.UserRolePair{User: fmt.Sprintf("mimi://a.example/u/%040d", n), Role: []uint32{policy.RoleMuted, policy.RoleMember, policy.RoleAdmin}[n%3]})
	}
	p := s.PowerLevels(list, "@bot:hs", func(uri string) (id.UserID, bool) { return id.UserID("@" + uri + ":hs.example"), true })
	if len(p.Users) > maxLevelUsers+1 || p.UsersDefault != -1 || len(p.Encode()) > 60000 {
		t.Errorf("%d users, default %d, %d octets", len(p.Users), p.UsersDefault, len(p.Encode()))
	}
	if !slices.Contains(slices.Collect(mapsValues(p.Users)), 60) {
		t.Error("no admin is named")
	}
}

func mapsValues(m map[id.UserID]int64) func(func(int64) bool) {
	return func(yield func(int64) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

func TestLevelChanges(t *testing.T) {
	a := event.ParsePowerLevels(nil)
	a.Users["@x:hs"], a.Users["@y:hs"] = 50, 10
	b := a.Clone()
	b.Users["@x:hs"] = 100
	delete(b.Users, "@y:hs")
	users, thresholds := LevelChanges(a, b)
	if want := []LevelChange{{"@x:hs", 50, 100}, {"@y:hs", 10, 0}}; !reflect.DeepEqual(users, want) || thresholds {
		t.Errorf("%v %v", users, thresholds)
	}
	b.Kick = 1
	if _, thresholds = LevelChanges(a, b); !thresholds {
		t.Error("a changed threshold is not seen")
	}
}

func TestMetadata(t *testing.T) {
	before := policy.RoomMetaData{RoomURI: testRoom, RoomName: "old", RoomSubject: "topic", RoomMood: "calm", Descriptions: []policy.RichDescription{
		{MediaType: "text/plain", LanguageTag: "fr", Content: []byte("sujet")}, {MediaType: "text/html", Content: []byte("<b>topic</b>")}}}
	next := Metadata(before, event.Room{Name: "new\x00", Topic: "topic"}, "https://b.example/a")
	if next.RoomName != "new" || next.RoomURI != testRoom || next.RoomMood != "calm" || len(next.Descriptions) != 2 || next.RoomAvatar == "" {
		t.Errorf("%+v", next)
	}
	next = Metadata(before, event.Room{Topic: "other", TopicHTML: "<b>other</b>"}, "")
	if len(next.Descriptions) != 2 || next.Descriptions[0].LanguageTag != "fr" || string(next.Descriptions[1].Content) != "**other**" {
		t.Errorf("%+v", next.Descriptions)
	}
	next = Metadata(before, event.Room{Topic: "other"}, "")
	if len(next.Descriptions) != 1 {
		t.Errorf("a description of the old topic stayed: %+v", next.Descriptions)
	}
	s := ShowMetadata(before, nil)
	if s.Name != "old" || s.Topic != "topic" || s.TopicHTML != "<b>topic</b>" || s.Mood != "calm" {
		t.Errorf("%+v", s)
	}
	before.RoomSubject = ""
	if s = ShowMetadata(before, []string{"fr"}); s.Topic != "sujet" {
		t.Errorf("%+v", s)
	}
	before.RoomAvatar = "javascript:x"
	if s = ShowMetadata(before, nil); s.Avatar != "" {
		t.Error(s.Avatar)
	}
	o, err := event.ParseObject(TopicContent(Shown{Topic: `a "b"`, TopicHTML: "<b>x</b>"}))
	if err != nil {
		t.Fatal(err)
	}
	if text, rich := event.ParseTopic(o); text != `a "b"` || rich != "<b>x</b>" {
		t.Error(text, rich)
	}
}

func TestConditions(t *testing.T) {
	roles := ladderRoles()
	if h := HistoryPolicy("joined", roles); h.Sharing != policy.Forbidden || HistoryVisibility(h) != "joined" {
		t.Errorf("%+v", h)
	}
	if h := HistoryPolicy("shared", roles); h.Sharing != policy.Optional || slices.Contains(h.Roles, 0) || slices.Contains(h.Roles, 1) || HistoryVisibility(h) != "shared" {
		t.Errorf("%+v", h)
	} else if _, err := policy.UnmarshalHistoryPolicy(h.Marshal()); err != nil {
		t.Error(err)
	}
	after := uint32(60)
	if c, n := Retention(policy.MessageExpiration{Expiring: policy.Required, Max: 3600, DefaultAfter: &after}); n != 60 || string(c) != `{"max_lifetime":3600000}` {
		t.Error(string(c), n)
	}
	if c, n := Retention(policy.MessageExpiration{Expiring: policy.Forbidden, Max: 5}); c != nil || n != 0 {
		t.Error(string(c), n)
	}
	if x, ok := Expiration(86400000); !ok || x.Max != 86400 || x.Expiring != policy.Optional {
		t.Errorf("%+v", x)
	}
	if why, unwise := Unbridgeable(event.Room{History: "world_readable"}); why == "" || !unwise {
		t.Error(why)
	}
	if why, unwise := Unbridgeable(event.Room{Create: event.Create{Type: "m.space"}}); why == "" || unwise {
		t.Error(why)
	}
}

// Whoever comes into a portal of moderators only is none until the levels say so.
func TestNewcomersOfAPortalHaveNoPower(t *testing.T) {
	roles := ladderRoles()
	list := policy.ParticipantList{{User: "mimi://a.example/u/a", Role: policy.RoleAdmin}, {User: "mimi://a.example/u/b", Role: policy.RoleModerator}}
	p := NewStanding(roles).PowerLevels(list, "@bot:hs", func(uri string) (id.UserID, bool) { return id.UserID("@" + uri[len(uri)-1:] + ":hs"), true })
	if p.UsersDefault >= p.Kick || p.UsersDefault > 0 {
		t.Errorf("newcomers have level %d, kicking takes %d", p.UsersDefault, p.Kick)
	}
}
