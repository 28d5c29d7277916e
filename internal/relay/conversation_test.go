package relay

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// pair is a conversation between alice at A, the hub, and bob at B.
type pair struct {
	*world
	a, b       *node
	alice, bob string
	room       *hsRoom // at A
	portal     *hsRoom // at B
	bobAtA     string
	aliceAtB   string
}

func newPair(t testing.TB, m mode, more ...string) *pair {
	t.Helper()
	probe := &world{driver: "sqlite"}
	m(probe)
	w := newWorld(t, probe.driver, append([]string{"a.example", "b.example"}, more...)...)
	m(w)
	p := &pair{world: w, a: w.nodes["a.example"], b: w.nodes["b.example"]}
	p.alice, p.bob = p.a.hs.mxid("alice"), p.b.hs.mxid("bob")
	p.b.hs.users[p.bob] = true
	p.bobAtA, p.aliceAtB = p.a.ghost("mimi://b.example/u/bob"), p.b.ghost("mimi://a.example/u/alice")
	return p
}

// mode is a way in which the world goes on around a conversation.
type mode func(*world)

func warm(*world) {}

// restarting forgets everything in memory between any two steps, as kills at every commit boundary do.
func restarting(w *world) { w.restart = true }

// doubling brings every request twice, as a retry after a lost answer does.
func doubling(w *world) {
	w.fault = func(_, _, _ string, _ []byte) fault { return twice }
}

// losing lets every answer but the second to the same request get lost.
func losing(w *world) {
	had := map[string]bool{}
	w.fault = func(from, to, verb string, body []byte) fault {
		key := from + to + verb + string(body)
		if had[key] || w.waited(verb) {
			return deliver
		}
		had[key] = true
		return dropAnswer
	}
	w.patience = 10 * time.Second
}

// shuffling lets fan-outs arrive in any order, as those of a hub that does not wait do.
func shuffling(w *world) { w.shuffle = rand.New(rand.NewPCG(1, 2)) }

// postgres keeps everything in PostgreSQL.
func postgres(w *world) { w.driver = "postgres" }

func modes(t *testing.T, test func(*testing.T, mode)) {
	for name, m := range map[string]mode{"warm": warm, "restarting": restarting, "doubling": doubling, "losing": losing, "shuffling": shuffling} {
		t.Run(name, func(t *testing.T) { test(t, m) })
	}
}

// begin lets alice invite bob, who joins.
func (p *pair) begin() *pair {
	p.t.Helper()
	p.room = p.a.hs.create(p.alice, "Tea", "about tea")
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	p.bobJoins()
	return p
}

// bobJoins lets bob take the invitation that he has to have.
func (p *pair) bobJoins() {
	p.t.Helper()
	if p.portal = p.b.hs.roomOf(p.bob, "invite"); p.portal == nil {
		p.t.Fatalf("bob was not invited; rows at B %q, rows at A %q, alerts %q %q", p.b.hs.rows, p.a.hs.rows, p.a.alerts, p.b.alerts)
	}
	p.b.hs.join(p.portal, p.bob)
	p.settle()
}

// talk lets both say something and demands that both see it.
func (p *pair) talk(n int) {
	p.t.Helper()
	one, two := fmt.Sprintf("ping %d", n), fmt.Sprintf("pong %d", n)
	p.a.hs.say(p.room, p.alice, one)
	p.settle()
	p.b.hs.say(p.portal, p.bob, two)
	p.settle()
	p.last("A", p.a.hs.texts(p.room), "alice: "+one, local(p.bobAtA)+": "+two)
	p.last("B", p.b.hs.texts(p.portal), local(p.aliceAtB)+": "+one, "bob: "+two)
}

// last demands that the last texts are these.
func (w *world) last(what string, got []string, want ...string) {
	w.t.Helper()
	if len(got) > len(want) {
		got = got[len(got)-len(want):]
	}
	w.equal(what, got, want)
}

// agree demands that all bridges of a room are in the same epoch with the same secrets.
func (w *world) agree(rooms map[*node]*hsRoom) {
	w.t.Helper()
	var first string
	for _, d := range w.order {
		n := w.nodes[d]
		r := rooms[n]
		if r == nil {
			continue
		}
		v := n.view(r)
		if v.group == nil {
			w.t.Errorf("%s has no group", d)
			continue
		}
		mark := fmt.Sprintf("%d %x", v.group.Epoch(), v.group.EpochAuthenticator())
		if first == "" {
			first = mark
		}
		w.equal("epoch of "+d, mark, first)
	}
}

func local(mxid string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(mxid, "@"), ":")
	return name
}

// The smallest conversation: a Matrix user of A invites one of B; they talk both ways.
func TestInviteAndTalk(t *testing.T) { modes(t, testInviteAndTalk) }

func testInviteAndTalk(t *testing.T, m mode) {
	p := newPair(t, m).begin()
	p.equal("joined at A", p.a.hs.joined(p.room), []string{p.alice, p.bobAtA, p.a.hs.mxid("mimibot")})
	p.talk(1)
	p.talk(2)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}

func TestPortalLooks(t *testing.T) { modes(t, testPortalLooks) }

func testPortalLooks(t *testing.T, m mode) {
	p := newPair(t, m).begin()
	p.equal("name", p.portal.str("m.room.name", "name"), "Tea")
	p.equal("topic", p.portal.str("m.room.topic", "topic"), "about tea")
	head := p.a.room(p.room)
	var info struct {
		Bot      string `json:"bridgebot"`
		Protocol struct{ ID string }
		Network  struct{ ID string }
		Channel  struct {
			ID   string
			Name string `json:"displayname"`
		}
	}
	if err := json.Unmarshal(p.portal.state["m.bridge\x00mimi:"+head.URI], &info); err != nil {
		t.Fatalf("the portal has no m.bridge state for %s: %v", head.URI, err)
	}
	p.equal("m.bridge", []string{info.Bot, info.Protocol.ID, info.Network.ID, info.Channel.ID, info.Channel.Name},
		[]string{p.b.hs.mxid("mimibot"), "mimi", "a.example", head.URI, "Tea"})
	p.equal("members", p.b.hs.joined(p.portal), slices.Sorted(slices.Values([]string{p.bob, p.aliceAtB, p.b.ghost("mimi://a.example/u/mimibot"), p.b.hs.mxid("mimibot")})))
	p.equal("kinds", []store.RoomKind{head.Kind, p.b.room(p.portal).Kind}, []store.RoomKind{store.RoomHub, store.RoomFollower})
	p.noTrouble()
}

func TestFormattedTextNoticeAndEmote(t *testing.T) { modes(t, testFormattedTextNoticeAndEmote) }

func testFormattedTextNoticeAndEmote(t *testing.T, m mode) {
	p := newPair(t, m).begin()
	p.shuffle = nil // order is the hub's promise
	p.a.hs.emit(p.room, p.alice, "m.room.message", nil, map[string]any{"msgtype": "m.text", "body": "bold move", "format": "org.matrix.custom.html",
		"formatted_body": "<strong>bold</strong> move"}, 0)
	p.a.hs.emit(p.room, p.alice, "m.room.message", nil, map[string]any{"msgtype": "m.notice", "body": "note"}, 0)
	p.a.hs.emit(p.room, p.alice, "m.room.message", nil, map[string]any{"msgtype": "m.emote", "body": "waves"}, 0)
	p.settle()
	p.last("B", p.b.hs.texts(p.portal), local(p.aliceAtB)+": **bold** move", "notice "+local(p.aliceAtB)+": note", "emote "+local(p.aliceAtB)+": waves")
	var html string
	for _, ev := range p.portal.timeline {
		if ev.typ == "m.room.message" && strings.Contains(string(ev.content), "formatted_body") {
			html = string(ev.content)
		}
	}
	if !strings.Contains(html, "strong\\u003ebold") && !strings.Contains(html, "<strong>bold</strong>") {
		t.Errorf("formatting was lost: %s", html)
	}
	p.noTrouble()
}

func TestNameAndTopicBothWays(t *testing.T) { modes(t, testNameAndTopicBothWays) }

func testNameAndTopicBothWays(t *testing.T, m mode) {
	p := newPair(t, m).begin()
	p.a.hs.set(p.room, p.alice, "m.room.name", map[string]string{"name": "Coffee"})
	p.a.hs.set(p.room, p.alice, "m.room.topic", map[string]string{"topic": "about coffee"})
	p.settle()
	p.equal("name at B", p.portal.str("m.room.name", "name"), "Coffee")
	p.equal("topic at B", p.portal.str("m.room.topic", "topic"), "about coffee")
	// bob is no moderator: the change is taken back and he is told.
	p.b.hs.set(p.portal, p.bob, "m.room.name", map[string]string{"name": "Wine"})
	p.settle()
	p.equal("name at A", p.room.str("m.room.name", "name"), "Coffee")
	p.equal("name at B after", p.portal.str("m.room.name", "name"), "Coffee")
	p.talk(1)
	p.noTrouble()
}

// Two users of the same bridge in one room share one MLS group.
func TestSecondUserOfEachBridge(t *testing.T) { modes(t, testSecondUserOfEachBridge) }

func testSecondUserOfEachBridge(t *testing.T, m mode) {
	p := newPair(t, m).begin()
	carol, dave := p.a.hs.mxid("carol"), p.b.hs.mxid("dave")
	p.b.hs.users[dave] = true
	p.a.hs.invite(p.room, p.alice, carol)
	p.a.hs.join(p.room, carol)
	p.settle()
	carolAtB := p.b.ghost("mimi://a.example/u/carol")
	p.equal("carol's ghost", p.portal.members[carolAtB], "join")
	daveAtA := p.a.ghost("mimi://b.example/u/dave")
	p.a.hs.invite(p.room, carol, daveAtA)
	p.settle()
	p.equal("dave", p.portal.members[dave], "invite")
	p.b.hs.join(p.portal, dave)
	p.a.hs.say(p.room, carol, "I am carol")
	p.b.hs.say(p.portal, dave, "I am dave")
	p.settle()
	p.last("A", p.a.hs.texts(p.room), "carol: I am carol", local(daveAtA)+": I am dave")
	p.last("B", p.b.hs.texts(p.portal), "dave: I am dave", local(carolAtB)+": I am carol")
	if n := len(p.b.view(p.portal).group.OwnLeaves()); n != 2 {
		t.Errorf("B has %d own leaves, want 2", n)
	}
	p.talk(1)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}

func TestThreeProviders(t *testing.T) { modes(t, testThreeProviders) }

func testThreeProviders(t *testing.T, m mode) {
	p := newPair(t, m, "c.example").begin()
	c := p.nodes["c.example"]
	eve := c.hs.mxid("eve")
	c.hs.users[eve] = true
	// The follower's user invites: the request for KeyPackages goes over the hub, the Welcome too.
	eveAtB := p.b.ghost("mimi://c.example/u/eve")
	p.b.hs.invite(p.portal, p.bob, eveAtB)
	p.settle()
	portal := c.hs.roomOf(eve, "invite")
	if portal == nil {
		t.Fatalf("eve was not invited; A %q B %q C %q", p.a.hs.rows, p.b.hs.rows, c.hs.rows)
	}
	c.hs.join(portal, eve)
	c.hs.say(portal, eve, "hi all")
	p.settle()
	p.talk(1)
	eveAtA := p.a.ghost("mimi://c.example/u/eve")
	p.equal("A", p.a.hs.texts(p.room)[0], local(eveAtA)+": hi all")
	p.equal("B", p.b.hs.texts(p.portal)[0], local(eveAtB)+": hi all")
	p.last("C", c.hs.texts(portal), "eve: hi all", local(c.ghost("mimi://a.example/u/alice"))+": ping 1", local(c.ghost("mimi://b.example/u/bob"))+": pong 1")
	p.equal("eve's ghost at B", p.portal.members[eveAtB], "join")
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal, c: portal})
	p.noTrouble()
}

func TestKickBanUnban(t *testing.T) { modes(t, testKickBanUnban) }

func testKickBanUnban(t *testing.T, m mode) {
	p := newPair(t, m).begin()
	p.a.hs.kick(p.room, p.alice, p.bobAtA)
	p.settle()
	p.equal("bob after kick", p.portal.members[p.bob], "leave")
	p.equal("state at B", p.b.room(p.portal).State, stateClosed)
	// He comes back by a new invitation, into the same portal.
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	p.equal("bob invited again", p.portal.members[p.bob], "invite")
	p.b.hs.join(p.portal, p.bob)
	p.settle()
	p.talk(1)
	p.a.hs.ban(p.room, p.alice, p.bobAtA)
	p.settle()
	p.equal("bob after ban", p.portal.members[p.bob], "ban")
	if role := p.a.view(p.room).policy.RoleIndex("mimi://b.example/u/bob"); role != policy.RoleBanned {
		t.Errorf("bob has role %d", role)
	}
	p.a.hs.unban(p.room, p.alice, p.bobAtA)
	p.settle()
	if role := p.a.view(p.room).policy.RoleIndex("mimi://b.example/u/bob"); role != policy.RoleNone {
		t.Errorf("bob has role %d after the unban", role)
	}
	// B has nobody in the room and hears of it with the next invitation.
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	p.equal("bob invited after the ban", p.portal.members[p.bob], "invite")
	p.b.hs.join(p.portal, p.bob)
	p.settle()
	p.talk(2)
	p.noTrouble()
}

func TestLeaveAndReturn(t *testing.T) { modes(t, testLeaveAndReturn) }

func testLeaveAndReturn(t *testing.T, m mode) {
	p := newPair(t, m).begin()
	p.b.hs.leave(p.portal, p.bob)
	p.settle()
	p.equal("bob's ghost", p.room.members[p.bobAtA], "leave")
	p.equal("state at B", p.b.room(p.portal).State, stateClosed)
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	p.b.hs.join(p.portal, p.bob)
	p.settle()
	p.talk(1)
	// And the hub's side.
	carol := p.a.hs.mxid("carol")
	p.a.hs.invite(p.room, p.alice, carol)
	p.a.hs.join(p.room, carol)
	p.settle()
	p.a.hs.leave(p.room, p.alice)
	p.settle()
	p.equal("alice's ghost", p.portal.members[p.aliceAtB], "leave")
	p.a.hs.invite(p.room, carol, p.alice)
	p.a.hs.join(p.room, p.alice)
	p.settle()
	p.equal("alice's ghost again", p.portal.members[p.aliceAtB], "join")
	p.talk(2)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}

func TestRejectedInvite(t *testing.T) { modes(t, testRejectedInvite) }

func testRejectedInvite(t *testing.T, m mode) {
	p := newPair(t, m)
	p.room = p.a.hs.create(p.alice, "", "")
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	p.portal = p.b.hs.roomOf(p.bob, "invite")
	p.b.hs.leave(p.portal, p.bob)
	p.settle()
	p.equal("bob's ghost", p.room.members[p.bobAtA], "leave")
	p.noTrouble()
}

func TestInviteOfNobody(t *testing.T) { modes(t, testInviteOfNobody) }

func testInviteOfNobody(t *testing.T, m mode) {
	p := newPair(t, m)
	p.room = p.a.hs.create(p.alice, "", "")
	ghost := p.a.ghost("mimi://b.example/u/nobody")
	p.a.hs.invite(p.room, p.alice, ghost)
	p.settle()
	p.equal("ghost", p.room.members[ghost], "leave")
	// The room can still be used for somebody who is there.
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	p.bobJoins()
	p.talk(1)
	p.noTrouble()
}

// A Matrix user of the portal is brought in by bob, who may add people.
func TestJoinOfFollowersUser(t *testing.T) { modes(t, testJoinOfFollowersUser) }

func testJoinOfFollowersUser(t *testing.T, m mode) {
	p := newPair(t, m).begin()
	dave := p.b.hs.mxid("dave")
	p.b.hs.invite(p.portal, p.bob, dave)
	p.b.hs.join(p.portal, dave)
	p.settle()
	daveAtA := p.a.ghost("mimi://b.example/u/dave")
	p.equal("dave's ghost", p.room.members[daveAtA], "join")
	p.b.hs.say(p.portal, dave, "hi")
	p.settle()
	p.last("A", p.a.hs.texts(p.room), local(daveAtA)+": hi")
	p.b.hs.leave(p.portal, p.bob)
	p.settle()
	p.pass(time.Minute)
	p.equal("bob's ghost", p.room.members[p.bobAtA], "leave")
	p.b.hs.say(p.portal, dave, "still here")
	p.settle()
	p.last("A", p.a.hs.texts(p.room), local(daveAtA)+": still here")
	p.noTrouble()
}

// bob invites a Matrix user of the hub itself.
func TestFollowerInvitesUserOfHub(t *testing.T) { modes(t, testFollowerInvitesUserOfHub) }

func testFollowerInvitesUserOfHub(t *testing.T, m mode) {
	p := newPair(t, m).begin()
	dave := p.a.hs.mxid("dave")
	p.a.hs.users[dave] = true
	p.b.hs.invite(p.portal, p.bob, p.b.ghost("mimi://a.example/u/dave"))
	p.settle()
	p.equal("dave", p.room.members[dave], "invite")
	p.a.hs.join(p.room, dave)
	p.a.hs.say(p.room, dave, "thanks bob")
	p.settle()
	p.last("B", p.b.hs.texts(p.portal), local(p.b.ghost("mimi://a.example/u/dave"))+": thanks bob")
	p.talk(1)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}

func TestKickAndBanOfMatrixUsers(t *testing.T) { modes(t, testKickAndBanOfMatrixUsers) }

func testKickAndBanOfMatrixUsers(t *testing.T, m mode) {
	p := newPair(t, m).begin()
	carol := p.a.hs.mxid("carol")
	p.a.hs.invite(p.room, p.alice, carol)
	p.a.hs.join(p.room, carol)
	p.settle()
	ghost := p.b.ghost("mimi://a.example/u/carol")
	p.a.hs.kick(p.room, p.alice, carol)
	p.settle()
	p.equal("after the kick", p.portal.members[ghost], "leave")
	p.a.hs.ban(p.room, p.alice, carol)
	p.settle()
	p.equal("after the ban", p.portal.members[ghost], "ban")
	p.a.hs.unban(p.room, p.alice, carol)
	p.settle()
	p.equal("after the unban", p.portal.members[ghost], "leave")
	p.a.hs.invite(p.room, p.alice, carol)
	p.a.hs.join(p.room, carol)
	p.settle()
	p.equal("after the return", p.portal.members[ghost], "join")
	p.talk(1)
	p.noTrouble()
}

func TestEditsReactionsAndRedactions(t *testing.T) {
	p := newPair(t, warm).begin()
	p.settle()
	id := p.a.hs.say(p.room, p.alice, "helo")
	p.settle()
	p.a.hs.emit(p.room, p.alice, "m.room.message", nil, map[string]any{"msgtype": "m.text", "body": "* hello", "m.new_content": map[string]string{"msgtype": "m.text", "body": "hello"},
		"m.relates_to": map[string]string{"rel_type": "m.replace", "event_id": id}}, 0)
	p.settle()
	shown := p.portal.find(t, "m.room.message", `"helo"`).id
	p.b.hs.emit(p.portal, p.bob, "m.reaction", nil, map[string]any{"m.relates_to": map[string]string{"rel_type": "m.annotation", "event_id": shown, "key": "👍"}}, 0)
	p.settle()
	last := p.portal.timeline[len(p.portal.timeline)-2]
	if !strings.Contains(string(last.content), "m.replace") || !strings.Contains(string(last.content), shown) {
		t.Errorf("the edit at B: %s", last.content)
	}
	reaction := p.room.timeline[len(p.room.timeline)-1]
	if reaction.typ != "m.reaction" || !strings.Contains(string(reaction.content), id) || !strings.Contains(string(reaction.content), "👍") {
		t.Errorf("the reaction at A: %s %s", reaction.typ, reaction.content)
	}
	p.a.hs.emit(p.room, p.alice, "m.room.redaction", nil, map[string]string{"redacts": id}, 0)
	p.settle()
	for _, ev := range p.portal.timeline {
		if ev.id == shown && !ev.redacted {
			t.Error("the message was not redacted at B")
		}
	}
	p.noTrouble()
}
