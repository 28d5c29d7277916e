package relay

import (
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// setLevels writes power levels as alice's client does.
func (p *pair) setLevels(more map[string]any, users map[string]int) {
	p.t.Helper()
	all := map[string]int{p.alice: 100}
	for u, l := range users {
		all[u] = l
	}
	p.a.hs.set(p.room, p.alice, event.TypePowerLevels, merge(map[string]any{"users": all}, more))
	p.settle()
}

// A threshold that changes changes what roles may, on both sides; a level that comes into use becomes a role, and one that nobody has
// any more goes.
func TestThresholdsAndLevelsThatChange(t *testing.T) {
	modes(t, func(t *testing.T, m mode) {
		p := newPair(t, m).begin()
		member := func() *policy.Role { return p.a.view(p.room).policy.Role(policy.RoleMember) }
		p.equal("anybody may invite", []any{member().Has(policy.CanAddParticipant), p.portal.power.Invite <= p.portal.power.User(userID(p.bob))}, []any{true, true})
		p.setLevels(map[string]any{"invite": 50, "events": map[string]int{event.TypeTopic: 0}}, nil)
		p.equal("who may what", []any{member().Has(policy.CanAddParticipant), member().Has(policy.CanChangeRoomSubject)}, []any{false, true})
		p.equal("in the portal", []any{p.portal.power.Invite > p.portal.power.User(userID(p.bob)), p.portal.power.State(event.TypeTopic) <= p.portal.power.User(userID(p.bob))}, []any{true, true})
		p.b.hs.set(p.portal, p.bob, event.TypeTopic, map[string]string{"topic": "by bob"})
		p.settle()
		p.equal("topic", p.room.str(event.TypeTopic, "topic"), "by bob")
		p.setLevels(nil, map[string]int{p.bobAtA: 75})
		s := p.a.view(p.room).policy
		own := s.RoleIndex(bobURI)
		p.equal("role", s.Role(own).Name, "level 75")
		p.setLevels(nil, nil)
		p.pass(2 * time.Hour)
		s = p.a.view(p.room).policy
		p.equal("role again", s.RoleIndex(bobURI), policy.RoleMember)
		if s.Role(own) != nil {
			t.Error("a role that nobody has and no level stands for is still there")
		}
		p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
		p.noTrouble()
	})
}

// Who gives up their own power on Matrix has less in MIMI.
func TestLevelGivenUp(t *testing.T) {
	p := newPair(t, warm).begin()
	carol := p.a.hs.mxid("carol")
	p.a.hs.invite(p.room, p.alice, carol)
	p.a.hs.join(p.room, carol)
	p.setLevels(nil, map[string]int{carol: 100})
	role := func() string {
		s := p.a.view(p.room).policy
		return s.Role(s.RoleIndex("mimi://a.example/u/carol")).Name
	}
	p.equal("role", role(), "admin")
	p.a.hs.set(p.room, carol, event.TypePowerLevels, map[string]any{"users": map[string]int{p.alice: 100, carol: 50}})
	p.settle()
	p.equal("role", role(), "moderator")
	p.noTrouble()
}

// What the roles of a room do not have is taken back in its portal, and who did it is told: thresholds, levels between roles, levels of
// people whom one may not move.
func TestLevelsThatARoomLacks(t *testing.T) {
	p := newPair(t, warm)
	p.begin()
	carol := p.a.hs.mxid("carol")
	p.a.hs.invite(p.room, p.alice, carol)
	p.a.hs.join(p.room, carol)
	p.setLevels(nil, map[string]int{p.bobAtA: 50})
	before := p.portal.power.Clone()
	carolAtB := userID(p.b.ghost("mimi://a.example/u/carol"))
	for name, change := range map[string]func(l *event.PowerLevels){
		"threshold":          func(l *event.PowerLevels) { l.Kick = 0 },
		"level between":      func(l *event.PowerLevels) { l.Users[carolAtB] = 7 },
		"somebody above":     func(l *event.PowerLevels) { l.Users[userID(p.aliceAtB)] = 0 },
		"somebody outside":   func(l *event.PowerLevels) { l.Users["@stranger:hs.b.example"] = before.User(userID(p.bob)) },
		"more than one has":  func(l *event.PowerLevels) { l.Users[carolAtB] = before.User(userID(p.aliceAtB)) },
		"default of the new": func(l *event.PowerLevels) { l.UsersDefault = before.User(userID(p.bob)) },
	} {
		levels := before.Clone()
		change(&levels)
		ev := len(p.portal.timeline)
		p.b.hs.set(p.portal, p.bob, event.TypePowerLevels, levels.Encode())
		p.settle()
		if !p.portal.power.Equal(before) {
			t.Errorf("%s stands: %s", name, p.portal.power.Encode())
		}
		told := false
		for _, e := range p.portal.timeline[ev:] {
			told = told || strings.Contains(string(e.content), "the other changes were taken back")
		}
		if !told {
			t.Errorf("%s: bob was not told", name)
		}
	}
	s := p.a.view(p.room).policy
	p.equal("roles", []string{s.Role(s.RoleIndex("mimi://a.example/u/carol")).Name, s.Role(s.RoleIndex(aliceURI)).Name}, []string{"member", "admin"})
	p.talk(1)
	p.noTrouble()
}

// A role that a MIMI moderator gives goes back where nobody of the bridge may write power levels, and people are told once.
func TestRoleThatCannotBeShown(t *testing.T) {
	p := newPair(t, warm).begin()
	carol := p.a.hs.mxid("carol")
	p.a.hs.invite(p.room, p.alice, carol)
	p.a.hs.join(p.room, carol)
	p.setLevels(nil, map[string]int{p.bobAtA: 50})
	ghost := userID(p.b.ghost("mimi://a.example/u/carol"))
	raise := func() {
		levels := p.portal.power.Clone()
		levels.Users[ghost] = levels.User(userID(p.bob))
		p.b.hs.set(p.portal, p.bob, event.TypePowerLevels, levels.Encode())
	}
	// The right to it is taken away on Matrix, and the roles do not follow yet.
	raise()
	p.deliverMatrix(p.b)
	p.b.drainAll()
	p.room.power.Events = map[string]int64{event.TypePowerLevels: 100}
	p.a.view(p.room)
	_, err := p.a.relay.runStep(t.Context(), p.a.room(p.room).ID, nil, store.Settle{}, func(s *step) error {
		s.room.matrix.Power = p.room.power.Encode()
		return nil
	})
	must0(t, err)
	p.settle()
	s := p.a.view(p.room).policy
	p.equal("role", s.Role(s.RoleIndex("mimi://a.example/u/carol")).Name, "member")
	p.equal("level at A", p.room.power.User(id.UserID(carol)), int64(0))
	p.last("told", p.a.hs.texts(p.room), "notice mimibot: A role was given in the MIMI room that I may not give here. Give me the power to change power levels.")
	p.noTrouble()
}
