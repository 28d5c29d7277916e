package relay

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// publish lets everybody into the room and its portal; power are its power levels.
func (p *pair) publish(power map[string]any) {
	p.t.Helper()
	p.a.hs.set(p.room, p.alice, event.TypeJoinRules, map[string]string{"join_rule": "public"})
	p.a.hs.set(p.room, p.alice, event.TypePowerLevels, power)
	p.settle()
	p.commitBy(p.a, p.room, botURI, func(s *step, c *plan) {
		base := s.room.policy.Base
		base.Discoverable = true
		c.proposals = append(c.proposals, appDataUpdate(mls.ComponentBaseRoomPolicy, base.Marshal()))
	})
}

// newcomers are people at B whom nobody knows yet.
func (p *pair) newcomers(names ...string) (mxids []string) {
	for _, name := range names {
		mxid := p.b.hs.mxid(name)
		p.b.hs.users[mxid] = true
		mxids = append(mxids, mxid)
	}
	return mxids
}

// hubAway lets nothing of B reach its hub until back is called.
func (p *pair) hubAway() (back func()) {
	away := true
	p.fault = func(from, _, _ string, _ []byte) fault {
		if away && from == "b.example" {
			return dropRequest
		}
		return deliver
	}
	return func() { away = false }
}

// Where a room may be found and lets everybody in, its portal does, too: whoever joins there joins the MIMI room.
func TestPublicPortalIsJoined(t *testing.T) {
	modes(t, func(t *testing.T, m mode) {
		p := newPair(t, m).begin()
		p.a.hs.set(p.room, p.alice, event.TypeJoinRules, map[string]string{"join_rule": "public"})
		p.a.hs.set(p.room, p.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{p.alice: 100}, "invite": 50})
		p.settle()
		p.equal("join rule where the room is not to be found", p.portal.str(event.TypeJoinRules, "join_rule"), "invite")
		p.commitBy(p.a, p.room, botURI, func(s *step, c *plan) {
			base := s.room.policy.Base
			base.Discoverable = true
			c.proposals = append(c.proposals, appDataUpdate(mls.ComponentBaseRoomPolicy, base.Marshal()))
		})
		p.equal("join rule", p.portal.str(event.TypeJoinRules, "join_rule"), "public")
		dave := p.newcomers("dave")[0]
		p.b.hs.join(p.portal, dave)
		p.settle()
		p.pass(time.Minute)
		p.equal("dave", p.portal.members[dave], "join")
		p.equal("dave's ghost", p.room.members[p.a.ghost("mimi://b.example/u/dave")], "join")
		p.b.hs.say(p.portal, dave, "here I am")
		p.settle()
		p.last("A", p.a.hs.texts(p.room), local(p.a.ghost("mimi://b.example/u/dave"))+": here I am")
		p.talk(1)
		// Whom the hub does not let in goes out of the portal, too.
		p.a.hs.set(p.room, p.alice, event.TypeServerACL, map[string]any{"allow": []string{"*"}, "deny": []string{"b.example"}})
		eve := p.newcomers("eve")[0]
		p.b.hs.join(p.portal, eve)
		p.settle()
		p.pass(time.Minute)
		p.equal("eve", p.portal.members[eve], "leave")
		p.talk(2)
		p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
		p.noTrouble()
	})
}

// Who goes away from a portal while the hub is asked to let them in is not brought into the room, and not invited again: whether they came in
// by themselves or were invited, and whether they left or were put out.
func TestWhoLeavesAPortalBeforeTheyAreLetIn(t *testing.T) {
	const uri = "mimi://b.example/u/dave"
	for _, held := range []string{verbGroupInfo, verbUpdate} {
		for _, invited := range []bool{false, true} {
			for _, gone := range []string{"leave", "kick", "ban"} {
				if invited && held == verbGroupInfo {
					continue // nobody asks for it
				}
				t.Run(fmt.Sprint(held, " invited ", invited, " ", gone), func(t *testing.T) {
					p := newPair(t, warm).begin()
					invite := 50
					if invited {
						invite = 0
					}
					p.publish(map[string]any{"users": map[string]int{p.alice: 100, p.bobAtA: 50}, "invite": invite})
					dave := p.newcomers("dave")[0]
					p.fault = func(from, _, verb string, _ []byte) fault {
						if from == "b.example" && verb == held {
							return dropRequest
						}
						return deliver
					}
					if invited {
						p.b.hs.invite(p.portal, p.bob, dave)
					}
					p.b.hs.join(p.portal, dave)
					p.settle()
					before := len(p.portal.timeline)
					want := "leave"
					switch gone {
					case "leave":
						p.b.hs.leave(p.portal, dave)
					case "kick":
						p.b.hs.kick(p.portal, p.bob, dave)
					default:
						p.b.hs.ban(p.portal, p.bob, dave)
						want = "ban"
					}
					p.settle()
					p.fault = nil
					p.pass(2 * time.Minute)
					p.equal("dave", p.portal.members[dave], want)
					for _, ev := range p.portal.timeline[before+1:] {
						if ev.key != nil && *ev.key == dave {
							t.Errorf("%s did %s to dave", ev.sender, ev.content)
						}
					}
					if role := p.a.view(p.room).policy.RoleIndex(uri); role > policy.RoleBanned || p.room.members[p.a.ghost(uri)] == "join" {
						t.Errorf("dave is in the room with role %d", role)
					}
					p.equal("wishes left", len(p.b.view(p.portal).intents), 0)
					// The door is still open, but for who is banned.
					if gone != "ban" {
						if invited {
							p.b.hs.invite(p.portal, p.bob, dave)
						}
						p.b.hs.join(p.portal, dave)
						p.pass(time.Minute)
						p.equal("dave's ghost", p.room.members[p.a.ghost(uri)], "join")
					}
					p.talk(1)
					p.noTrouble()
				})
			}
		}
	}
}

// Who left a room that does not let them go, and so stays a participant, is not invited again when a client of somebody else begins the group anew.
func TestWhoLeftIsNotInvitedByAnothersReturn(t *testing.T) {
	p := newPair(t, warm).begin()
	carol := p.newcomers("carol")[0]
	p.b.hs.invite(p.portal, p.bob, carol)
	p.b.hs.join(p.portal, carol)
	p.settle()
	p.nobodyLeaves()
	p.b.hs.leave(p.portal, carol)
	p.settle()
	p.commitBy(p.a, p.room, botURI, func(s *step, c *plan) { c.removeLeaves(s.room.leaves.Of(bobURI)) })
	p.b.hs.say(p.portal, p.bob, "I am back")
	p.pass(time.Minute)
	p.last("A", p.a.hs.texts(p.room), local(p.bobAtA)+": I am back")
	p.equal("carol", p.portal.members[carol], "leave")
	// Her own wish brings her back.
	must0(t, p.b.relay.Join(context.Background(), carol, p.a.room(p.room).URI, ""))
	p.pass(time.Minute)
	p.equal("carol", p.portal.members[carol], "invite")
	p.talk(1)
	p.noTrouble()
}

// A client that the hub does not let come back is nothing to somebody else who joins meanwhile: that one gets in.
func TestRefusalIsOfWhoItIsAbout(t *testing.T) {
	p := newPair(t, warm).begin()
	p.publish(map[string]any{"users": map[string]int{p.alice: 100}, "invite": 50})
	people := p.newcomers("carol", "dave")
	carol, dave := people[0], people[1]
	p.b.hs.join(p.portal, carol)
	p.settle()
	p.commitBy(p.a, p.room, botURI, func(s *step, c *plan) { c.removeLeaves(s.room.leaves.Of(bobURI)) })
	held := true
	p.fault = func(from, _, verb string, _ []byte) fault {
		if held && from == "b.example" && verb == verbUpdate {
			return dropRequest
		}
		return deliver
	}
	p.b.hs.say(p.portal, p.bob, "I am back")
	p.settle()
	must0(t, p.b.relay.Join(context.Background(), dave, p.a.room(p.room).URI, ""))
	p.settle()
	// The hub does not know any more to whom it lent the group's state.
	_, err := p.a.relay.runStep(context.Background(), p.a.room(p.room).ID, nil, store.Settle{}, func(s *step) error {
		s.room.st.Lent = nil
		return nil
	})
	must0(t, err)
	held = false
	p.pass(5 * time.Minute)
	p.equal("dave", p.portal.members[dave], "invite")
	p.equal("dave's ghost", p.room.members[p.a.ghost("mimi://b.example/u/dave")], "join")
	p.talk(1)
	p.noTrouble()
}

// Whom a moderator of a portal invites is no moderator, although nobody but moderators is there to be counted.
func TestModeratorsInviteMembers(t *testing.T) {
	p := newPair(t, warm).begin()
	p.a.hs.set(p.room, p.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{p.alice: 100, p.bobAtA: 50}})
	p.settle()
	carol := p.newcomers("carol")[0]
	p.b.hs.invite(p.portal, p.bob, carol)
	p.b.hs.join(p.portal, carol)
	eve := "mimi://a.example/u/eve"
	p.a.hs.users[p.a.hs.mxid("eve")] = true
	p.b.hs.invite(p.portal, p.bob, p.b.ghost(eve))
	p.settle()
	for _, user := range []string{"mimi://b.example/u/carol", eve} {
		p.equal("role of "+user, p.a.view(p.room).policy.RoleIndex(user), policy.RoleMember)
	}
	p.equal("power of carol's ghost", p.room.power.User(userID(p.a.ghost("mimi://b.example/u/carol"))), 0)
	p.noTrouble()
}

// Where all who may speak have power over others, who is invited gets the least, however many have more.
func TestWhoIsInvitedGetsTheLeastPower(t *testing.T) {
	roles := map[uint32][]policy.Capability{
		2: {policy.CanReceiveMessage},
		3: {policy.CanSendMessage, policy.CanRemoveParticipant, policy.CanBan, policy.CanAddParticipant},
		4: {policy.CanSendMessage, policy.CanRemoveParticipant, policy.CanCopyMessage, policy.CanFollowLink, policy.CanCopyLink},
		5: {policy.CanSendMessage, policy.CanChangeUserRole, policy.CanDeleteOtherMessage, policy.CanDestroyRoom},
	}
	for _, c := range []struct{ given, also, want uint32 }{{3, 4, 4}, {5, 4, 4}, {5, 3, 3}, {2, 3, 3}, {2, 2, 2}} {
		s := &step{room: &roomView{head: store.Room{Kind: store.RoomFollower}}}
		var definitions policy.RoleData
		for i := range uint32(6) {
			r := policy.Role{Index: i, Capabilities: roles[i]}
			if i == 3 {
				r.AuthorizedChanges = []policy.RoleChangeTargets{{From: policy.RoleNone, Targets: []uint32{c.given, c.also}}}
			}
			definitions = append(definitions, r)
		}
		list := policy.ParticipantList{{User: bobURI, Role: 3}}
		for n := range 9 { // most have the first
			list = append(list, policy.UserRolePair{User: fmt.Sprintf("mimi://a.example/u/%d", n), Role: c.given})
		}
		dict := map[uint16][]byte{policy.ComponentRoles: definitions.Marshal(), policy.ComponentParticipants: list.Marshal(),
			policy.ComponentBase: (&policy.BaseRoomPolicy{PolicyComponents: []uint16{policy.ComponentRoles}}).Marshal()}
		var err error
		s.room.policy, err = policy.ParseState(func(id uint16) ([]byte, bool) { data, ok := dict[id]; return data, ok })
		must0(t, err)
		if got := s.roleFor(&store.Intent{Actor: bobURI}, intentData{}); got != c.want {
			t.Errorf("of %d and %d: %d, want %d", c.given, c.also, got, c.want)
		}
	}
}

// Who comes into a portal by themselves and says something at once is heard when they are let in, and only then.
func TestWhoJoinsAPortalSpeaksAtOnce(t *testing.T) {
	p := newPair(t, warm).begin()
	p.publish(map[string]any{"users": map[string]int{p.alice: 100}, "invite": 50})
	people := p.newcomers("dave", "eve")
	dave, eve := people[0], people[1]
	p.b.hs.join(p.portal, dave)
	p.b.hs.say(p.portal, dave, "hello all")
	p.settle()
	p.last("A", p.a.hs.texts(p.room), local(p.a.ghost("mimi://b.example/u/dave"))+": hello all")
	p.a.hs.set(p.room, p.alice, event.TypeServerACL, map[string]any{"allow": []string{"*"}, "deny": []string{"b.example"}})
	p.b.hs.join(p.portal, eve)
	p.b.hs.say(p.portal, eve, "hello?")
	p.settle()
	p.equal("eve", p.portal.members[eve], "leave")
	p.b.hs.say(p.portal, p.bob, "somebody was here")
	p.settle()
	for _, text := range p.a.hs.texts(p.room) {
		if strings.Contains(text, "hello?") {
			t.Errorf("A hears %q", text)
		}
	}
	p.talk(1)
	p.noTrouble()
}

// While somebody waits to be let in by a hub that does not answer, the people of the portal are told of it all the same.
func TestDelayIsToldBesideAJoin(t *testing.T) {
	p := newPair(t, warm).begin()
	p.publish(map[string]any{"users": map[string]int{p.alice: 100}, "invite": 50})
	back := p.hubAway()
	dave := p.newcomers("dave")[0]
	p.b.hs.join(p.portal, dave)
	p.settle()
	p.b.hs.say(p.portal, p.bob, "is anybody there?")
	p.pass(2 * time.Minute)
	must0(t, p.b.relay.TellDelays(context.Background()))
	p.settle()
	p.last("B", p.b.hs.texts(p.portal), "notice mimibot: a.example, which leads this room, does not answer. What you write waits until it does.")
	back()
	p.pass(10 * time.Minute)
	p.talk(1)
	p.noTrouble()
}

// Those who come into a portal while its hub is away stay there, and are let in when it is back, one after the other.
func TestJoinersOutlastAnAbsentHub(t *testing.T) {
	p := newPair(t, warm).begin()
	p.publish(map[string]any{"users": map[string]int{p.alice: 100}, "invite": 50})
	back := p.hubAway()
	users := p.newcomers("dave", "eve", "carol")
	for _, mxid := range users {
		p.b.hs.join(p.portal, mxid)
		p.pass(2 * time.Minute)
	}
	p.pass(3 * time.Hour)
	for _, mxid := range users {
		p.equal(mxid, p.portal.members[mxid], "join")
	}
	back()
	p.pass(30 * time.Minute)
	for _, mxid := range users {
		p.equal(mxid, p.portal.members[mxid], "join")
		p.equal("the ghost of "+mxid, p.room.members[p.a.ghost("mimi://b.example/u/"+local(mxid))], "join")
	}
	p.talk(1)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}

// A client that comes back and somebody who joins ask the hub, which is away, for the same thing. Both get it when it is there.
func TestSomebodyJoinsWhileAClientComesBack(t *testing.T) {
	p := newPair(t, warm).begin()
	p.publish(map[string]any{"users": map[string]int{p.alice: 100}, "invite": 50})
	people := p.newcomers("carol", "dave")
	carol, dave := people[0], people[1]
	p.b.hs.join(p.portal, carol)
	p.settle()
	p.commitBy(p.a, p.room, botURI, func(s *step, c *plan) { c.removeLeaves(s.room.leaves.Of(bobURI)) })
	back := p.hubAway()
	p.b.hs.join(p.portal, dave)
	p.settle()
	p.b.hs.say(p.portal, p.bob, "I am back")
	p.pass(20 * time.Minute)
	back()
	p.pass(20 * time.Minute)
	p.equal("dave's ghost", p.room.members[p.a.ghost("mimi://b.example/u/dave")], "join")
	p.equal("dave", p.portal.members[dave], "join")
	p.last("A", p.a.hs.texts(p.room), local(p.bobAtA)+": I am back")
	p.talk(1)
	p.noTrouble()
}

// A ghost that is put out while the hub is asked to let its user in goes again, and does not come back by itself.
func TestGhostIsPutOutBeforeItsUserIsLetIn(t *testing.T) {
	for _, ban := range []bool{false, true} {
		p := newPair(t, warm).begin()
		p.a.hs.set(p.room, p.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{p.alice: 100, p.bobAtA: 50}})
		p.settle()
		const uri = "mimi://a.example/u/eve"
		eve, ghost := p.a.hs.mxid("eve"), p.b.ghost(uri)
		p.a.hs.users[eve] = true
		held := true
		p.fault = func(from, _, verb string, _ []byte) fault {
			if held && from == "b.example" && verb == verbUpdate {
				return dropRequest
			}
			return deliver
		}
		p.b.hs.invite(p.portal, p.bob, ghost)
		p.settle()
		want, role := "leave", policy.RoleNone
		if ban {
			p.b.hs.ban(p.portal, p.bob, ghost)
			want, role = "ban", policy.RoleBanned
		} else {
			p.b.hs.kick(p.portal, p.bob, ghost)
		}
		p.settle()
		before := len(p.portal.timeline)
		held = false
		p.pass(2 * time.Minute)
		p.equal("eve's ghost", p.portal.members[ghost], want)
		p.equal("eve's role", p.a.view(p.room).policy.RoleIndex(uri), role)
		if p.room.members[eve] == "join" {
			t.Error("eve is in the room")
		}
		for _, ev := range p.portal.timeline[before:] {
			if ev.typ == event.TypeMember && *ev.key == ghost {
				t.Errorf("%s did %s to eve's ghost", ev.sender, ev.content)
			}
		}
		p.equal("wishes left", len(p.b.view(p.portal).intents), 0)
		p.talk(1)
		p.noTrouble()
	}
}
