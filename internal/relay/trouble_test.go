package relay

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Both sides change the room in the same epoch: one commit wins, the other is built anew from its wish (T8).
func TestCommitCollision(t *testing.T) { modes(t, testCommitCollision) }

func testCommitCollision(t *testing.T, m mode) {
	p := newPair(t, m).begin()
	carol, dave := p.a.hs.mxid("carol"), p.b.hs.mxid("dave")
	p.b.hs.invite(p.portal, p.bob, dave)
	p.b.hs.join(p.portal, dave)
	// B stages its commit but does not send it before A has made its own.
	p.deliverMatrix(p.b)
	p.b.drainAll()
	p.a.hs.invite(p.room, p.alice, carol)
	p.a.hs.join(p.room, carol)
	p.deliverMatrix(p.a)
	p.a.drainAll()
	p.settle()
	p.pass(time.Minute)
	p.equal("carol's ghost", p.portal.members[p.b.ghost("mimi://a.example/u/carol")], "join")
	p.equal("dave's ghost", p.room.members[p.a.ghost("mimi://b.example/u/dave")], "join")
	p.talk(1)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}

func (w *world) deliverMatrix(n *node) {
	if d, ok := n.hs.delivery(); ok {
		if _, err := n.relay.Accept(context.Background(), d); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (n *node) drainAll() {
	rooms, err := n.db.Rooms(context.Background(), store.RoomID{}, 1000)
	if err != nil {
		n.w.t.Fatal(err)
	}
	for _, r := range rooms {
		for n.drain(r.ID) > 0 {
		}
	}
}

// A commit that never arrives: the follower notices, asks the hub and joins anew.
func TestLostCommit(t *testing.T) {
	p := newPair(t, warm).begin()
	dave := p.b.hs.mxid("dave")
	p.b.hs.invite(p.portal, p.bob, dave)
	p.b.hs.join(p.portal, dave)
	p.settle()
	lost := 0
	p.fault = func(from, to, verb string, body []byte) fault {
		if verb != verbNotify || lost > 0 {
			return deliver
		}
		lost++
		return dropRequest
	}
	carol := p.a.hs.mxid("carol")
	p.a.hs.invite(p.room, p.alice, carol)
	p.a.hs.join(p.room, carol)
	p.settle()
	p.equal("lost", lost, 1)
	// The hub gives the delivery up.
	p.dropLane(p.a, destMIMI+"b.example")
	p.a.hs.say(p.room, p.alice, "do you hear me?")
	p.settle()
	p.pass(2 * time.Minute)
	p.equal("state at B", p.b.room(p.portal).State, stateActive)
	p.portal.find(t, event.TypeMessage, "some messages may be missing")
	p.talk(1)
	p.b.hs.say(p.portal, dave, "me too")
	p.pass(time.Minute)
	p.last("A", p.a.hs.texts(p.room), local(p.a.ghost("mimi://b.example/u/dave"))+": me too")
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	if n := len(p.b.view(p.portal).group.OwnLeaves()); n != 2 {
		t.Errorf("B has %d own leaves, want 2", n)
	}
	p.noTrouble()
}

// dropLane forgets what is to be sent to a destination.
func (w *world) dropLane(n *node, dest string) {
	ctx := context.Background()
	lanes, err := n.db.OldLanes(ctx, store.Never, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, l := range lanes {
		if l.Dest != dest {
			continue
		}
		head, err := n.db.LaneRows(ctx, l, 100, 1<<20)
		if err != nil {
			w.t.Fatal(err)
		}
		err = n.db.Tx(ctx, func(tx *store.Tx) error {
			for _, row := range head.Rows {
				if err := tx.DropOutbound(ctx, l, row.Seq); err != nil {
					return err
				}
			}
			_, err := tx.WakeLanes(ctx, dest)
			return err
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// A message of an epoch that the hub does not take any more is said again in the new one, with the same id (T3).
func TestSayAgain(t *testing.T) {
	p := newPair(t, warm).begin()
	p.b.hs.say(p.portal, p.bob, "late")
	p.deliverMatrix(p.b)
	p.b.drainAll()
	for i := range 4 {
		p.a.hs.set(p.room, p.alice, "m.room.topic", map[string]string{"topic": strings.Repeat("x", i+1)})
		p.deliverMatrix(p.a)
		p.a.drainAll()
	}
	p.settle()
	p.pass(time.Minute)
	p.equal("A", p.a.hs.texts(p.room), []string{local(p.bobAtA) + ": late"})
	p.talk(1)
	p.noTrouble()
}

// The keys of our leaves are renewed every week, one leaf after the other.
func TestWeeklyRenewal(t *testing.T) {
	p := newPair(t, warm).begin()
	keys := func(n *node, r *hsRoom) map[mls.LeafIndex]string {
		v, out := n.view(r), map[mls.LeafIndex]string{}
		for _, l := range v.group.OwnLeaves() {
			m, _ := v.group.Member(l)
			out[l] = string(m.Leaf.EncryptionKey)
		}
		return out
	}
	beforeA, beforeB := keys(p.a, p.room), keys(p.b, p.portal)
	p.pass(8 * 24 * time.Hour)
	p.pass(time.Hour)
	for n, was := range map[*node]map[mls.LeafIndex]string{p.a: beforeA, p.b: beforeB} {
		r := map[*node]*hsRoom{p.a: p.room, p.b: p.portal}[n]
		for leaf, key := range keys(n, r) {
			if was[leaf] == key {
				t.Errorf("%s: leaf %d was not renewed", n.domain, leaf)
			}
		}
	}
	p.talk(1)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}

// After a restore nothing is sent before the keys were renewed (T17).
func TestUpdateBeforeSendAfterRestore(t *testing.T) {
	p := newPair(t, warm).begin()
	for _, n := range []*node{p.a, p.b} {
		before := map[*node]*hsRoom{p.a: p.room, p.b: p.portal}[n]
		epoch := n.room(before).Epoch
		if _, _, err := n.db.BeginRecovery(context.Background()); err != nil {
			t.Fatal(err)
		}
		p.talk(1)
		if now := n.room(before).Epoch; now <= epoch {
			t.Errorf("%s sent in epoch %d, which is the one of the backup", n.domain, now)
		}
		if n.room(before).Refresh {
			t.Errorf("%s is still to be refreshed", n.domain)
		}
	}
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}

// After a failover that lost nothing, the hub's commits are on their way: a follower waits for them, and reads what comes with them,
// before it joins anew.
func TestFollowerCatchesUpAfterAFailover(t *testing.T) {
	p := newPair(t, warm).begin()
	away := true
	p.fault = func(_, _, verb string, _ []byte) fault {
		if away && verb == verbNotify {
			return dropRequest
		}
		return deliver
	}
	p.a.hs.say(p.room, p.alice, "before the commit")
	p.a.hs.set(p.room, p.alice, "m.room.topic", map[string]string{"topic": "new epoch"})
	p.settle()
	if _, _, err := p.b.db.BeginRecovery(context.Background()); err != nil {
		t.Fatal(err)
	}
	p.settle()
	if p.calls[verbGroupInfo] == 0 {
		t.Fatal("the groups were not compared")
	}
	away = false
	p.pass(time.Minute)
	p.equal("B", p.b.hs.texts(p.portal), []string{local(p.aliceAtB) + ": before the commit"})
	p.talk(1)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}

// A user of another provider joins a public room by its address.
func TestJoinByURI(t *testing.T) { modes(t, testJoinByURI) }

func testJoinByURI(t *testing.T, m mode) {
	p := newPair(t, m)
	p.room = p.a.hs.create(p.alice, "Open", "")
	p.a.hs.set(p.room, p.alice, "m.room.join_rules", map[string]string{"join_rule": "public"})
	p.a.hs.invite(p.room, p.alice, p.a.hs.mxid("mimibot"))
	p.settle()
	if err := p.a.relay.Plumb(context.Background(), p.room.id, p.alice, ""); err != nil {
		t.Fatal(err)
	}
	p.settle()
	uri := p.a.room(p.room).URI
	if err := p.b.relay.Join(context.Background(), p.bob, uri, ""); err != nil {
		t.Fatal(err)
	}
	p.settle()
	if p.portal = p.b.hs.roomOf(p.bob, "invite"); p.portal == nil {
		t.Fatalf("bob was not let in: A %q B %q", p.a.hs.rows, p.b.hs.rows)
	}
	p.b.hs.join(p.portal, p.bob)
	p.settle()
	p.equal("bob's ghost", p.room.members[p.bobAtA], "join")
	p.talk(1)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}

// A private room does not let anybody in by its address, and says no more than a room that is not there.
func TestJoinOfPrivateRoomIsRefused(t *testing.T) {
	p := newPair(t, warm).begin()
	eve := p.b.hs.mxid("eve")
	chat := p.b.hs.create(eve, "", "")
	p.b.hs.invite(chat, eve, p.b.hs.mxid("mimibot"))
	p.settle()
	uri := p.a.room(p.room).URI
	dave := p.nodesUser("b.example", "dave")
	if err := p.b.relay.Join(context.Background(), dave, "mimi://a.example/r/nothing", ""); err != nil {
		t.Fatal(err)
	}
	p.settle()
	if r := p.b.hs.roomOf(dave, "invite"); r != nil {
		t.Error("dave got into a room that is not there")
	}
	if err := p.b.relay.Join(context.Background(), eve, uri, ""); err != nil {
		t.Fatal(err)
	}
	p.settle()
	if p.portal.members[eve] != "" {
		t.Error("eve got into a private room")
	}
	p.talk(1)
	p.noTrouble()
}

func (w *world) nodesUser(domain, name string) string { return w.nodes[domain].hs.mxid(name) }

func TestStartChat(t *testing.T) { modes(t, testStartChat) }

func testStartChat(t *testing.T, m mode) {
	p := newPair(t, m)
	if err := p.a.relay.StartChat(context.Background(), p.alice, "mimi://b.example/u/bob"); err != nil {
		t.Fatal(err)
	}
	p.settle()
	p.room = p.a.hs.roomOf(p.alice, "invite")
	if p.room == nil {
		t.Fatalf("alice was not invited: %q", p.a.hs.rows)
	}
	p.a.hs.join(p.room, p.alice)
	p.settle()
	if p.portal = p.b.hs.roomOf(p.bob, "invite"); p.portal == nil {
		t.Fatalf("bob was not invited: A %q B %q", p.a.hs.rows, p.b.hs.rows)
	}
	p.b.hs.join(p.portal, p.bob)
	p.settle()
	p.talk(1)
	p.noTrouble()
}

func TestInviteByCommand(t *testing.T) {
	p := newPair(t, warm)
	p.room = p.a.hs.create(p.alice, "Tea", "")
	p.a.hs.invite(p.room, p.alice, p.a.hs.mxid("mimibot"))
	p.settle()
	p.a.hs.say(p.room, p.alice, "!mimi invite mimi://b.example/u/bob")
	p.a.hs.say(p.room, p.alice, "!mimikry is no command")
	p.settle()
	if len(p.a.cmds) == 0 || p.a.cmds[0].Text != "invite mimi://b.example/u/bob" {
		t.Fatalf("commands: %+v", p.a.cmds)
	}
	if err := p.a.relay.Invite(context.Background(), p.room.id, p.alice, "mimi://b.example/u/bob", ""); err != nil {
		t.Fatal(err)
	}
	p.settle()
	if p.portal = p.b.hs.roomOf(p.bob, "invite"); p.portal == nil {
		t.Fatal("bob was not invited")
	}
	p.b.hs.join(p.portal, p.bob)
	p.settle()
	p.talk(1)
	p.noTrouble()
}

// The peer is away for an hour: what was said arrives in order, once.
func TestPeerAway(t *testing.T) {
	p := newPair(t, warm).begin()
	away := true
	p.fault = func(from, to, verb string, _ []byte) fault {
		if away {
			return dropRequest
		}
		return deliver
	}
	var want []string
	for i := range 20 {
		text := strings.Repeat("m", i+1)
		p.a.hs.say(p.room, p.alice, text)
		want = append(want, local(p.aliceAtB)+": "+text)
		p.settle()
	}
	p.pass(time.Hour)
	p.equal("B while away", p.b.hs.texts(p.portal), []string{})
	away = false
	p.pass(time.Minute)
	p.equal("B", p.b.hs.texts(p.portal), want)
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
	p.portal = p.b.hs.roomOf(p.bob, "invite")
	p.b.hs.join(p.portal, p.bob)
	p.settle()
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

// giveUp closes what waits for a destination as dead, as the outbox does after limits.dead_after.
func (w *world) giveUp(n *node, dest string) {
	w.t.Helper()
	ctx, given := context.Background(), 0
	lanes, err := n.db.OldLanes(ctx, store.Never, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, l := range lanes {
		if l.Dest != dest {
			continue
		}
		head, err := n.db.LaneRows(ctx, l, 100, 1<<20)
		if err != nil {
			w.t.Fatal(err)
		}
		var dead []store.Closing
		for _, row := range head.Rows {
			dead = append(dead, store.Closing{Row: row, Outcome: store.Outcome{Class: store.OutcomeDead, Reason: "expired"}})
		}
		given += len(dead)
		err = n.db.Tx(ctx, func(tx *store.Tx) error {
			lease, err := tx.ClaimLane(ctx, l, "test", 10_000, true)
			if err != nil {
				return err
			}
			_, _, _, err = tx.CloseOutbound(ctx, lease, dead, w.now.UnixMilli(), 10_000, true)
			return err
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	if given == 0 {
		w.t.Fatalf("nothing waits for %s", dest)
	}
}

// Who wrote what could not be delivered in all its time is told, whichever side leads the room; and it is a dead letter.
func TestSenderIsToldOfWhatIsGivenUp(t *testing.T) {
	p := newPair(t, warm).begin()
	away := false
	p.fault = func(_, _, _ string, _ []byte) fault {
		if away {
			return dropRequest
		}
		return deliver
	}
	for day := range 3 {
		away = true
		p.pass(24 * time.Hour)
		p.a.hs.say(p.room, p.alice, "one")
		p.a.hs.say(p.room, p.alice, "two")
		id := p.b.hs.say(p.portal, p.bob, "three")
		p.settle()
		p.giveUp(p.a, destMIMI+"b.example")
		p.giveUp(p.b, destMIMI+"a.example")
		p.a.hs.say(p.room, p.alice, "four")
		p.settle()
		p.giveUp(p.a, destMIMI+"b.example")
		p.settle()
		p.equal("notices at A", strings.Count(strings.Join(p.a.hs.texts(p.room), "\n"), "notice mimibot: ⚠ b.example did not answer for too long. Its people did not get all of what was written here."), day+1)
		p.last("B", p.b.hs.texts(p.portal), "bob: three", "notice mimibot: ⚠ Your message was not delivered: the room's provider could not be reached.")
		var status string
		for _, ev := range p.portal.timeline {
			if ev.typ == event.TypeSendStatus && strings.Contains(string(ev.content), id) {
				status = string(ev.content)
			}
		}
		if !strings.Contains(status, "FAIL_RETRIABLE") || !strings.Contains(status, "m.foreign_network_error") {
			t.Errorf("bob's client is told %q", status)
		}
		away = false
		p.pass(time.Minute)
		p.talk(1)
	}
	letters, err := p.a.db.DeadLetters(context.Background(), 100)
	if err != nil || len(letters) < 3*3 || !strings.Contains(strings.Join(p.a.alerts, "\n"), "b.example was given up") {
		t.Errorf("%d dead letters, %v; alerts %q", len(letters), err, p.a.alerts)
	}
}

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

// A client that was removed while its user stayed a participant comes back when the user writes something (mapping §3).
func TestRemovedClientComesBack(t *testing.T) {
	p := newPair(t, warm).begin()
	_, err := p.a.relay.runStep(context.Background(), p.a.room(p.room).ID, nil, store.Settle{}, func(s *step) error {
		leaf, _ := s.room.ownLeaf(s.bot)
		plan := &plan{committer: s.bot, leaf: leaf}
		plan.removed = map[mls.LeafIndex]bool{}
		plan.removeLeaves(s.room.leaves.Of("mimi://b.example/u/bob"))
		params, err := s.commitParams(plan)
		if err != nil {
			return err
		}
		staged, err := s.room.group.StageCommit(s.Rand, s.now, params)
		if err != nil {
			return err
		}
		return s.commitAsHub(plan, staged)
	})
	if err != nil {
		t.Fatal(err)
	}
	p.settle()
	p.equal("bob's ghost", p.room.members[p.bobAtA], "join")
	p.equal("state at B", p.b.room(p.portal).State, stateClosed)
	p.last("bob is told", p.b.hs.texts(p.portal), "notice mimibot: Your client was removed from this room. It comes back when you write something.")
	p.b.hs.say(p.portal, p.bob, "I am back")
	p.settle()
	p.last("A", p.a.hs.texts(p.room), local(p.bobAtA)+": I am back")
	p.talk(1)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}

// What the homeserver lost is made up for within the hour.
func TestHourlyComparison(t *testing.T) {
	p := newPair(t, warm).begin()
	// Events that never reached the bridges: carol joined, the name changed, a ghost fell out of the portal.
	carol := p.a.hs.mxid("carol")
	p.a.hs.invite(p.room, p.alice, carol)
	p.a.hs.join(p.room, carol)
	p.a.hs.set(p.room, p.alice, "m.room.name", map[string]string{"name": "Lost and found"})
	p.a.hs.queue = nil
	p.b.hs.member(p.portal, p.aliceAtB, p.aliceAtB, "leave", "")
	p.b.hs.queue = nil
	p.settle()
	p.pass(2 * time.Hour)
	p.equal("carol's ghost", p.portal.members[p.b.ghost("mimi://a.example/u/carol")], "join")
	p.equal("name at B", p.portal.str("m.room.name", "name"), "Lost and found")
	p.equal("alice's ghost", p.portal.members[p.aliceAtB], "join")
	p.talk(1)
	p.noTrouble()
}

// What the comparison reads before the homeserver has told of it is news: nobody who was put out comes back, and nobody's invitation
// is lost.
func TestComparisonBeforeTheNews(t *testing.T) {
	p := newPair(t, warm).begin()
	carol := p.b.hs.mxid("carol")
	p.b.hs.users[carol] = true
	carolAtA := p.a.ghost("mimi://b.example/u/carol")
	p.a.hs.kick(p.room, p.alice, p.bobAtA)
	p.a.hs.invite(p.room, p.alice, carolAtA)
	late := p.a.hs.queue
	p.a.hs.queue = nil
	p.a.hs.rows = nil
	p.pass(2 * time.Hour)
	p.a.hs.queue = late
	p.settle()
	p.pass(2 * time.Hour)
	p.equal("bob's ghost", p.room.members[p.bobAtA], "leave")
	p.equal("bob", p.portal.members[p.bob], "leave")
	for _, row := range p.a.hs.rows {
		if strings.HasPrefix(row, "join "+p.bobAtA) {
			t.Error("bob's ghost came back")
		}
	}
	p.equal("carol's ghost", p.room.members[carolAtA], "join")
	if r := p.b.hs.roomOf(carol, "invite"); r == nil {
		t.Error("carol was not invited")
	}
}

// While something that was decided is not done in the Matrix room yet, what is read there is old.
func TestComparisonWhileSomethingWaits(t *testing.T) {
	p := newPair(t, warm).begin()
	ctx, head := context.Background(), p.a.room(p.room)
	old, err := p.a.hs.RoomState(ctx, p.a.hs.mxid("mimibot"), p.room.id)
	must0(t, err)
	_, err = p.a.relay.runStep(ctx, head.ID, nil, store.Settle{}, func(s *step) error {
		s.matrix(event.State{Type: event.TypeName, Content: mustJSON(map[string]string{"name": "Park"})})
		s.room.matrix.Name = "Park"
		return nil
	})
	must0(t, err)
	_, err = p.a.relay.runStep(ctx, head.ID, nil, store.Settle{}, func(s *step) error { return s.onRead(old) })
	must0(t, err)
	p.equal("name as decided", p.a.view(p.room).matrix.Name, "Park")
}

// However often a room was left and joined anew, it is compared once an hour.
func TestOneComparisonAnHour(t *testing.T) {
	p := newPair(t, warm).begin()
	for range 2 {
		p.a.hs.kick(p.room, p.alice, p.bobAtA)
		p.settle()
		p.a.hs.invite(p.room, p.alice, p.bobAtA)
		p.settle()
		p.b.hs.join(p.portal, p.bob)
		p.settle()
	}
	p.pass(90 * time.Minute)
	p.b.hs.reads = 0
	p.pass(10 * time.Hour)
	if p.b.hs.reads < 9 || p.b.hs.reads > 11 {
		t.Errorf("the portal was read %d times in ten hours", p.b.hs.reads)
	}
	p.talk(1)
	p.noTrouble()
}

func TestUnplumbAndPlumbAgain(t *testing.T) {
	p := newPair(t, warm).begin()
	if err := p.a.relay.Unplumb(context.Background(), p.room.id, p.alice, ""); err != nil {
		t.Fatal(err)
	}
	p.settle()
	p.equal("bob's ghost", p.room.members[p.bobAtA], "leave")
	p.equal("bob", p.portal.members[p.bob], "leave")
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	p.b.hs.join(p.portal, p.bob)
	p.settle()
	p.talk(1)
	p.noTrouble()
}

// The homeserver does not make the portal at first: what is said meanwhile is shown when it does.
func TestPortalIsMadeLater(t *testing.T) {
	p := newPair(t, warm)
	refusals := 0
	p.b.hs.refuse = func(verb string, args event.Object) bool {
		if verb != "create_room" || refusals == 2 {
			return false
		}
		refusals++
		return true
	}
	p.room = p.a.hs.create(p.alice, "Tea", "")
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	p.a.hs.say(p.room, p.alice, "are you there?")
	p.settle()
	p.pass(10 * time.Minute)
	if p.portal = p.b.hs.roomOf(p.bob, "invite"); p.portal == nil {
		t.Fatalf("bob was not invited: %q", p.b.hs.rows)
	}
	p.b.hs.join(p.portal, p.bob)
	p.settle()
	p.equal("B", p.b.hs.texts(p.portal), []string{local(p.aliceAtB) + ": are you there?"})
	p.talk(1)
	p.equal("alerts", len(p.b.alerts), 2)
}

// Two requests that are the same come at once: one is carried out, both get its answer.
func TestEqualRequestsAtOnce(t *testing.T) {
	p := newPair(t, warm).begin()
	uri := wire.IdentifierURI(p.a.room(p.room).URI)
	v := p.b.view(p.portal)
	leaf, _ := v.ownLeaf("mimi://b.example/u/bob")
	m, _, err := v.group.Protect(p.b.relay.Rand, leaf, []byte("x"), room.MessageAAD(v.group.Dictionary(), []byte("salt"), []byte("x")), 0)
	if err != nil {
		t.Fatal(err)
	}
	body := (&wire.SubmitMessageRequest{Message: wire.NewMessage(m.Message), SendingURI: "mimi://b.example/u/bob"}).Marshal()
	answers := make([]string, 8)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			r, err := p.a.relay.SubmitMessage(context.Background(), "b.example", uri, body)
			if err != nil {
				t.Error(err)
			}
			answers[i] = string(r.Body)
		})
	}
	wg.Wait()
	for _, a := range answers[1:] {
		if a != answers[0] {
			t.Errorf("answers differ: %x and %x", answers[0], a)
		}
	}
	log, err := p.a.db.RoomLog(context.Background(), p.a.room(p.room).ID, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range log {
		if e.Kind == "message" {
			n++
		}
	}
	p.equal("messages accepted", n, 1)
}

// Several are invited at once, one of whom is not there.
func TestInvitesAtOnce(t *testing.T) { modes(t, testInvitesAtOnce) }

func testInvitesAtOnce(t *testing.T, m mode) {
	p := newPair(t, m, "c.example")
	c := p.nodes["c.example"]
	eve := c.hs.mxid("eve")
	c.hs.users[eve] = true
	nobody := p.a.ghost("mimi://c.example/u/nobody")
	p.room = p.a.hs.create(p.alice, "All", "")
	for _, u := range []string{nobody, p.bobAtA, p.a.ghost("mimi://c.example/u/eve")} {
		p.a.hs.invite(p.room, p.alice, u)
	}
	p.settle()
	p.equal("nobody", p.room.members[nobody], "leave")
	p.portal = p.b.hs.roomOf(p.bob, "invite")
	other := c.hs.roomOf(eve, "invite")
	if p.portal == nil || other == nil {
		t.Fatal("somebody was not invited")
	}
	p.b.hs.join(p.portal, p.bob)
	c.hs.join(other, eve)
	p.settle()
	p.talk(1)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal, c: other})
	p.noTrouble()
}
