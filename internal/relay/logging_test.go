package relay

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// forbidsLogging is a logging policy that no bridge can keep.
var forbidsLogging = (&policy.LoggingPolicy{Logging: policy.Forbidden}).Marshal()

// statuses counts the events that tell senders of failures with a text.
func (p *pair) statuses(r *hsRoom, text string) (n int) {
	for _, ev := range r.timeline {
		if ev.typ == event.TypeSendStatus && strings.Contains(string(ev.content), text) {
			n++
		}
	}
	return n
}

// Ours leave a room that comes to forbid logging, all of them, unless the operator allows it: they are told why and keep the portal to
// read, and nothing goes over any more. When the room allows it again they can be invited again.
func TestRoomThatComesToForbidLogging(t *testing.T) {
	modes(t, func(t *testing.T, m mode) {
		p := newPair(t, m).begin()
		carol, carolURI := p.b.hs.mxid("carol"), "mimi://b.example/u/carol"
		p.b.hs.users[carol] = true
		p.a.hs.invite(p.room, p.alice, p.a.ghost(carolURI))
		p.settle()
		p.b.hs.join(p.portal, carol)
		p.settle()
		p.talk(1)
		p.setPolicy(policy.ComponentLogging, forbidsLogging)
		p.pass(2 * time.Minute)
		v := p.a.view(p.room)
		for _, user := range []string{bobURI, carolURI} {
			p.equal(user, []int{int(v.policy.RoleIndex(user)), len(v.leaves.Of(wire.IdentifierURI(user)))}, []int{0, 0})
		}
		p.equal("in the portal", []string{p.portal.members[p.bob], p.portal.members[carol]}, []string{"join", "join"})
		told := slices.DeleteFunc(p.b.hs.texts(p.portal), func(s string) bool { return !strings.Contains(s, "forbids logging") })
		p.equal("told", len(told), 1)
		p.equal("the operator is told", len(p.b.alerts), 1)
		p.a.hs.say(p.room, p.alice, "between us")
		p.b.hs.say(p.portal, p.bob, "who hears me?")
		p.settle()
		p.equal("nobody", p.statuses(p.portal, whyUnlogged), 1)
		p.equal("nothing went over", []bool{p.heard(p.portal, p.b, "between us"), p.heard(p.room, p.a, "who hears me?")}, []bool{false, false})

		p.setPolicy(policy.ComponentLogging, (&policy.LoggingPolicy{}).Marshal())
		p.a.hs.invite(p.room, p.alice, p.bobAtA)
		p.settle()
		p.pass(time.Minute)
		p.equal("bob", p.portal.members[p.bob], "join")
		p.talk(2)
	})
}

// With the operator's leave they stay.
func TestLoggingMayBeForbiddenWhereTheOperatorAllowsIt(t *testing.T) {
	p := newPair(t, warm)
	p.b.conf.AllowLoggingForbidden = true
	p.b.start()
	p.begin()
	p.setPolicy(policy.ComponentLogging, forbidsLogging)
	p.pass(2 * time.Minute)
	p.talk(1)
	p.noTrouble()

	// Who takes that back is heard when the room is looked at next.
	p.b.conf.AllowLoggingForbidden = false
	p.b.start()
	p.pass(2 * time.Hour)
	p.equal("bob", p.a.view(p.room).policy.RoleIndex(bobURI), policy.RoleNone)
}

// Nothing of what is said there meanwhile is shown, and a hub that does not let them go is asked again.
func TestRoomThatForbidsLoggingIsLeftInTheEnd(t *testing.T) {
	p := newPair(t, warm).begin()
	p.talk(1)
	away := true
	p.fault = func(from, _, verb string, _ []byte) fault {
		if away && from == "b.example" && verb == verbUpdate {
			return dropRequest
		}
		return deliver
	}
	p.setPolicy(policy.ComponentLogging, forbidsLogging)
	p.a.hs.say(p.room, p.alice, "between us")
	p.settle()
	p.b.hs.say(p.portal, p.bob, "who hears me?")
	p.settle()
	p.equal("nothing went over", []bool{p.heard(p.portal, p.b, "between us"), p.heard(p.room, p.a, "who hears me?")}, []bool{false, false})
	p.b.giveUp(destMIMI + "a.example") // after five days
	p.settle()
	p.equal("bob", p.a.view(p.room).policy.RoleIndex(bobURI), policy.RoleMember)
	away = false
	p.pass(2 * time.Hour)
	p.equal("bob", p.a.view(p.room).policy.RoleIndex(bobURI), policy.RoleNone)
	p.equal("state", p.b.room(p.portal).State, stateClosed)
}

// Whose role does not let them leave stays on the list, without a client; writing brings none back.
func TestRoomThatForbidsLoggingWithoutTheRightToLeave(t *testing.T) {
	p := newPair(t, warm).begin()
	p.nobodyLeaves()
	p.setPolicy(policy.ComponentLogging, forbidsLogging)
	p.pass(2 * time.Minute)
	p.equal("clients", len(p.a.view(p.room).leaves.Of(bobURI)), 0)
	p.b.hs.say(p.portal, p.bob, "who hears me?")
	p.pass(2 * time.Minute)
	p.equal("clients", len(p.a.view(p.room).leaves.Of(bobURI)), 0)
	p.equal("nobody", p.statuses(p.portal, whyUnlogged), 1)
}

// A room that we lead cannot come to forbid it, whoever asks: no power level gives that right.
func TestRoomOfOursDoesNotForbidLogging(t *testing.T) {
	p := newPair(t, warm).begin()
	p.a.hs.set(p.room, p.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{p.alice: 100, p.bobAtA: 100}})
	p.settle()
	p.refusedUpdate("forbid logging", "b.example", p.forge(appDataUpdate(mls.ComponentLoggingPolicy, forbidsLogging)), wire.UpdateNotAllowed)
}
