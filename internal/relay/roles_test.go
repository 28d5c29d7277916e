package relay

import (
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// Power levels become roles, and roles power levels; what the hub refuses is taken back.
func TestPowerLevelsAndRoles(t *testing.T) { modes(t, testPowerLevelsAndRoles) }

func testPowerLevelsAndRoles(t *testing.T, m mode) {
	p := newPair(t, m).begin()
	bob := "mimi://b.example/u/bob"
	roleOfBob := func() string { return p.a.view(p.room).policy.Role(p.a.view(p.room).policy.RoleIndex(bob)).Name }
	p.equal("role at first", roleOfBob(), "member")
	p.a.hs.set(p.room, p.alice, "m.room.power_levels", map[string]any{"users": map[string]int{p.alice: 100, p.bobAtA: 50}})
	p.settle()
	p.equal("role", roleOfBob(), "moderator")
	if level := p.portal.power.User(userID(p.bob)); level < 50 {
		t.Errorf("bob has level %d in the portal", level)
	}
	// A moderator may change the name.
	p.b.hs.set(p.portal, p.bob, "m.room.name", map[string]string{"name": "Wine"})
	p.settle()
	p.equal("name at A", p.room.str("m.room.name", "name"), "Wine")
	// And kick: carol, whom alice let in.
	carol := p.a.hs.mxid("carol")
	p.a.hs.invite(p.room, p.alice, carol)
	p.a.hs.join(p.room, carol)
	p.settle()
	p.b.hs.kick(p.portal, p.bob, p.b.ghost("mimi://a.example/u/carol"))
	p.settle()
	p.equal("carol", p.room.members[carol], "leave")
	// But not alice, who stands above him.
	p.b.hs.kick(p.portal, p.bob, p.aliceAtB)
	p.settle()
	p.equal("alice", p.room.members[p.alice], "join")
	p.equal("alice's ghost", p.portal.members[p.aliceAtB], "join")
	// Muted, he is told that nobody hears him.
	p.a.hs.set(p.room, p.alice, "m.room.power_levels", map[string]any{"users": map[string]int{p.alice: 100, p.bobAtA: -1}})
	p.settle()
	p.equal("role", roleOfBob(), "level -1")
	n := len(p.a.hs.texts(p.room))
	p.portal.power.Users[userID(p.bob)] = 0 // his client did not notice
	id := p.b.hs.say(p.portal, p.bob, "can you hear me?")
	p.settle()
	if got := p.a.hs.texts(p.room); len(got) != n {
		t.Errorf("A shows what a muted user said: %q", got)
	}
	told := false
	for _, ev := range p.portal.timeline {
		told = told || ev.typ == "com.beeper.message_send_status" && strings.Contains(string(ev.content), id) && strings.Contains(string(ev.content), "FAIL_PERMANENT")
	}
	if !told {
		t.Error("bob was not told by a status event")
	}
	p.last("B", p.b.hs.texts(p.portal), "notice mimibot: ⚠ Your message was not delivered: the room does not accept this message.")
	p.noTrouble()
}

// In rooms of version 12 creators stand above everybody and are not in the power levels (MSC4289).
func TestCreatorsOfARoom(t *testing.T) {
	p := newPair(t, warm)
	carol := p.a.hs.mxid("carol")
	p.room = p.a.hs.create(p.alice, "Tea", "")
	p.a.hs.set(p.room, p.alice, event.TypeCreate, map[string]any{"room_version": "12", "additional_creators": []string{carol}})
	p.a.hs.set(p.room, p.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{p.bobAtA: 50}})
	p.a.hs.invite(p.room, p.alice, carol)
	p.a.hs.join(p.room, carol)
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	p.bobJoins()
	for _, user := range []string{"alice", "carol"} {
		state := p.a.view(p.room).policy
		p.equal("role of "+user, state.Role(state.RoleIndex("mimi://a.example/u/"+user)).Name, "creator")
		ghost := p.b.ghost("mimi://a.example/u/" + user)
		if bob := p.portal.power.User(userID(p.bob)); bob < 50 || p.portal.power.User(userID(ghost)) <= bob {
			t.Errorf("%s has level %d in the portal, bob %d", user, p.portal.power.User(userID(ghost)), bob)
		}
		p.b.hs.kick(p.portal, p.bob, ghost)
		p.settle()
		p.equal(user, p.room.members[p.a.hs.mxid(user)], "join")
		p.equal(user+" in the group", state.RoleIndex("mimi://a.example/u/"+user) > policy.RoleBanned, true)
	}
	// Nobody is made a creator, and giving others a role leaves the creators out of the power levels.
	p.a.hs.set(p.room, p.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{p.bobAtA: 100}})
	p.settle()
	state := p.a.view(p.room).policy
	p.equal("role of bob", state.Role(state.RoleIndex("mimi://b.example/u/bob")).Name, "admin")
	// It goes on in a room of an older version, where the power levels say it.
	next := p.a.hs.create(p.alice, "Tea", "")
	p.a.hs.set(p.room, p.alice, event.TypeTombstone, map[string]string{"replacement_room": next.id})
	p.a.hs.invite(next, p.alice, p.a.hs.mxid("mimibot"))
	p.pass(2 * time.Minute)
	state = p.a.view(next).policy
	p.equal("role of alice", state.Role(state.RoleIndex("mimi://a.example/u/alice")).Name, "admin")
}
