package policy

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestParticipantUpdates(t *testing.T) {
	list := ParticipantList{{"u:a", 2}, {"u:b", 3}, {"u:c", 2}}
	up := func(changed []UserindexRolePair, removed []uint32, added ...UserRolePair) ParticipantListUpdate {
		return ParticipantListUpdate{changed, removed, added}
	}
	cases := []struct {
		name    string
		updates []ParticipantListUpdate
		want    ParticipantList // nil: refused
	}{
		{"role change, removal and addition", []ParticipantListUpdate{up([]UserindexRolePair{{0, 3}}, []uint32{1}, UserRolePair{"u:d", 2})},
			ParticipantList{{"u:a", 3}, {"u:c", 2}, {"u:d", 2}}},
		{"two updates, both with indices of the committed list", []ParticipantListUpdate{up(nil, []uint32{0}), up([]UserindexRolePair{{2, 4}}, nil, UserRolePair{"u:d", 2})},
			ParticipantList{{"u:b", 3}, {"u:c", 4}, {"u:d", 2}}},
		{"additions keep their order", []ParticipantListUpdate{up(nil, nil, UserRolePair{"u:z", 2}), up(nil, nil, UserRolePair{"u:y", 2})},
			ParticipantList{{"u:a", 2}, {"u:b", 3}, {"u:c", 2}, {"u:z", 2}, {"u:y", 2}}},
		{"empty update", []ParticipantListUpdate{up(nil, nil)}, list},
		{"everybody removed", []ParticipantListUpdate{up(nil, []uint32{2, 0, 1})}, ParticipantList{}},
		{"removed and changed", []ParticipantListUpdate{up([]UserindexRolePair{{1, 2}}, []uint32{1})}, nil},
		{"changed twice", []ParticipantListUpdate{up([]UserindexRolePair{{1, 2}, {1, 4}}, nil)}, nil},
		{"removed twice, in two updates", []ParticipantListUpdate{up(nil, []uint32{1}), up(nil, []uint32{1})}, nil},
		{"changed in one update and removed in another", []ParticipantListUpdate{up([]UserindexRolePair{{1, 2}}, nil), up(nil, []uint32{1})}, nil},
		{"added twice", []ParticipantListUpdate{up(nil, nil, UserRolePair{"u:d", 2}), up(nil, nil, UserRolePair{"u:d", 2})}, nil},
		{"added and there already", []ParticipantListUpdate{up(nil, nil, UserRolePair{"u:b", 3})}, nil},
		{"removed and added again", []ParticipantListUpdate{up(nil, []uint32{1}, UserRolePair{"u:b", 2})}, nil},
		{"index beyond the list", []ParticipantListUpdate{up(nil, []uint32{3})}, nil},
		{"index of an added user", []ParticipantListUpdate{up([]UserindexRolePair{{3, 3}}, nil, UserRolePair{"u:d", 2})}, nil},
		{"change to role 0", []ParticipantListUpdate{up([]UserindexRolePair{{0, 0}}, nil)}, nil},
		{"addition in role 0", []ParticipantListUpdate{up(nil, nil, UserRolePair{"u:d", 0})}, nil},
		{"addition of nobody", []ParticipantListUpdate{up(nil, nil, UserRolePair{"", 2})}, nil},
		{"no update", nil, nil},
	}
	logic := Components()[ComponentParticipants]
	for _, c := range cases {
		var updates [][]byte
		for _, u := range c.updates {
			updates = append(updates, u.Marshal())
		}
		got, err := logic.Apply(list.Marshal(), updates)
		if c.want == nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %x, %v", c.name, got, err)
			}
			continue
		}
		if err != nil || string(got) != string(c.want.Marshal()) {
			t.Errorf("%s: %x, %v, want %x", c.name, got, err, c.want.Marshal())
		}
	}
	first := up(nil, nil, UserRolePair{"u:a", 2})
	if got, err := logic.Apply(nil, [][]byte{first.Marshal()}); err != nil || string(got) != string(ParticipantList{{"u:a", 2}}.Marshal()) {
		t.Errorf("a list that was not there: %x, %v", got, err)
	}
	if _, err := logic.Apply([]byte{9}, [][]byte{first.Marshal()}); !errors.Is(err, ErrMalformed) {
		t.Errorf("broken current data: %v", err)
	}
}

// TestUpdateReaches: Update finds the way from any list to any set of roles, and Apply goes it.
func TestUpdateReaches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list ParticipantList
		want := make(map[string]uint32)
		for i := range rapid.IntRange(0, 20).Draw(t, "participants") {
			u := fmt.Sprintf("u:%d", i)
			list = append(list, UserRolePair{u, rapid.Uint32Range(1, 4).Draw(t, "role")})
			if role := rapid.Uint32Range(0, 4).Draw(t, "wanted role"); role > 0 {
				want[u] = role
			}
		}
		var added []UserRolePair
		for i := range rapid.IntRange(0, 3).Draw(t, "added") {
			added = append(added, UserRolePair{fmt.Sprintf("n:%d", i), 2})
		}
		u := list.Update(want, added)
		if u == nil {
			if len(added) > 0 || len(want) != len(list) {
				t.Fatal("no update where one is needed")
			}
			return
		}
		got, err := Components()[ComponentParticipants].Apply(list.Marshal(), [][]byte{u.Marshal()})
		if err != nil {
			t.Fatal(err)
		}
		next, err := UnmarshalParticipantList(got)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range added {
			want[p.User] = p.Role
		}
		if len(next) != len(want) {
			t.Fatalf("%d participants, want %d", len(next), len(want))
		}
		for _, p := range next {
			if want[p.User] != p.Role {
				t.Fatalf("%s has role %d, want %d", p.User, p.Role, want[p.User])
			}
		}
	})
}

func TestOtherComponents(t *testing.T) {
	components := Components()
	metadata := (&RoomMetaData{RoomURI: roomURI}).Marshal()
	if _, err := components[ComponentMetadata].Apply(metadata, [][]byte{metadata, metadata}); !errors.Is(err, ErrMalformed) {
		t.Errorf("two metadata updates in a commit: %v", err)
	}
	if _, err := components[ComponentMetadata].Apply(nil, [][]byte{{1}}); !errors.Is(err, ErrMalformed) {
		t.Errorf("broken metadata: %v", err)
	}
	if got, err := components[ComponentStatus].Apply([]byte{0, 0}, [][]byte{{1, 1}, {2, 2}}); err != nil || string(got) != "\x02\x02" {
		t.Errorf("two full replacements: %x, %v", got, err)
	}
	if got, err := components[ComponentAsset].Apply(nil, [][]byte{{0xff}}); err != nil || string(got) != "\xff" {
		t.Errorf("a structure that may be read in another way is kept: %x, %v", got, err)
	}
	if got, err := components[ComponentSafeAAD].Apply(nil, [][]byte{{}}); err != nil || got == nil || len(got) != 0 {
		t.Errorf("empty data is data: %v, %v", got, err)
	}
	if _, err := components[ComponentAsset].Apply(nil, [][]byte{make([]byte, MaxComponent+1)}); !errors.Is(err, ErrMalformed) {
		t.Errorf("too long: %v", err)
	}
	for id := ComponentFrankingAgent; id <= ComponentExpiration; id++ {
		if _, err := components[id].Apply(nil, nil); !errors.Is(err, ErrMalformed) {
			t.Errorf("component %#04x without update: %v", id, err)
		}
	}

	links := JoinLinks{"a", "b", "c"}.Marshal()
	update := func(removed []uint32, added ...string) []byte { return (&JoinLinksUpdate{removed, added}).Marshal() }
	got, err := components[ComponentJoinLinks].Apply(links, [][]byte{update([]uint32{0}), update([]uint32{2}, "d"), update(nil, "e")})
	if err != nil || string(got) != string(JoinLinks{"b", "d", "e"}.Marshal()) {
		t.Errorf("join links %x, %v", got, err)
	}
	for name, u := range map[string][][]byte{
		"removed twice": {update([]uint32{0}), update([]uint32{0})}, "beyond": {update([]uint32{3})},
		"there already": {update(nil, "a")}, "added twice": {update(nil, "x", "x")}, "empty": {update(nil, "")}, "broken": {{9}}, "none": nil,
	} {
		if got, err := components[ComponentJoinLinks].Apply(links, u); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	if _, err := components[ComponentJoinLinks].Apply([]byte{9}, [][]byte{update(nil, "x")}); !errors.Is(err, ErrMalformed) {
		t.Errorf("broken current links: %v", err)
	}
}

func TestOnlyListedComponentsAreInForce(t *testing.T) {
	s := populated(t, cooperative(), base(BaseRoomPolicy{MultiDevice: true, PolicyComponents: []uint16{ComponentRoles, ComponentStatus}}),
		func(d map[uint16][]byte) {
			d[ComponentStatus] = []byte{byte(Forbidden), byte(Required)}
			d[ComponentHistory] = (&HistoryPolicy{Sharing: Required, Roles: []uint32{2}, MaxPeriod: 9}).Marshal()
			d[ComponentJoinLinks] = JoinLinks{"x"}.Marshal()
			d[ComponentPreauth] = PreAuthData{{TargetRole: Role{Index: 4}}}.Marshal()
			d[ComponentFrankingAgent] = (&FrankingAgentData{[]byte{1}, []byte{0, 1, 0}}).Marshal()
			d[0x8001] = []byte{1}
		})
	switch {
	case s.Status.ReadReceipts != Required:
		t.Error("a listed component is not in force")
	case s.History.Sharing != Forbidden, len(s.Preauth) != 0:
		t.Error("a component that is not listed is in force")
	case len(s.JoinLinks) != 1, s.Franking == nil:
		t.Error("data that is no policy depends on the list")
	case s.RoleIndex(user(3, 1)) != 3, s.RoleIndex(outsider) != 0, s.Clients(user(3, 1)) != 1, s.Clients(user(1, 1)) != 0:
		t.Error("roles or clients")
	case s.Participants.Index(user(1, 2)) != 1, s.Participants.Index(outsider) != -1:
		t.Error("index in the list")
	}
	if got := s.InRole(2); !slices.Equal(got, []string{user(2, 1), user(2, 2)}) {
		t.Errorf("in role 2: %v", got)
	}
	if got := s.Providers(); len(got) != 1 || got["a.example"] != 8 {
		t.Errorf("providers %v", got)
	}
	if data, ok := s.Data(ComponentStatus); !ok || string(data) != "\x02\x01" {
		t.Errorf("data %x", data)
	}
	if d := s.Dictionary(); len(d) != 9 || d[0x8001] != nil {
		t.Errorf("dictionary of %d components", len(d))
	}

	empty, err := stateOf(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !empty.Base.MultiDevice || empty.Asset.MaxImage == 0 || empty.Expiration.Expiring != Optional || empty.Expiration.Max != unlimited || empty.Role(7).Name != "participant" ||
		empty.Role(1).MayBeActive() || len(empty.Role(0).Capabilities) != 0 {
		t.Errorf("defaults %+v", empty)
	}
	for _, id := range []uint16{ComponentParticipants, ComponentMetadata, ComponentRoles, ComponentPreauth, ComponentBase} {
		if _, err := stateOf(map[uint16][]byte{id: {0xff}}); !errors.Is(err, ErrMalformed) {
			t.Errorf("component %#04x that cannot be read: %v", id, err)
		}
	}
	odd, err := stateOf(map[uint16][]byte{ComponentOperational: {1}, ComponentAsset: {0xff}})
	if err != nil || !slices.Equal(odd.Unreadable, []uint16{ComponentAsset, ComponentOperational}) || odd.Asset.MaxImage == 0 || odd.Operational != nil {
		t.Errorf("unreadable attributes: %v, %v", odd.Unreadable, err)
	}
	if Authority("mimi://A.Example/u/x") != "a.example" || Authority("mimi://a.example") != "a.example" || Authority("acct:x@y") != "" {
		t.Error("authority of a URI")
	}
}

func TestCapabilityNames(t *testing.T) {
	all := Capabilities()
	if len(all) != 77 {
		t.Errorf("%d capabilities, the registry has 77", len(all))
	}
	of := map[string]Capability{}
	for _, c := range all {
		if other, taken := of[c.String()]; taken {
			t.Errorf("%#x and %#x are both %s", uint16(c), uint16(other), c)
		}
		of[c.String()] = c
	}
	if got := Capability(0xF001).String(); got != "capability 0xf001" {
		t.Errorf("an unknown capability is %q", got)
	}
}
