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
	p.a.forget(destMIMI + "b.example")
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
		p.a.giveUp(destMIMI + "b.example")
		p.b.giveUp(destMIMI + "a.example")
		p.a.hs.say(p.room, p.alice, "four")
		p.settle()
		p.a.giveUp(destMIMI + "b.example")
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
	if err != nil || len(letters) < 3*3 {
		t.Errorf("%d dead letters, %v", len(letters), err)
	}
	// The operator is told once a day and room, however much was given up.
	p.equal("alerts", strings.Count(strings.Join(p.a.alerts, "\n"), "deliveries to b.example in room"), 3)
}

// A client that was removed while its user stayed a participant comes back when the user writes something (docs/mapping.md §4).
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
