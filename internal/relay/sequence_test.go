package relay

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/follower"
)

// sequence plays what people and networks do, in any order, and checks what must hold whatever happens
// (docs/flow.md, T1 to T17).
type sequence struct {
	*pair
	data  []byte
	rand  *rand.Rand
	said  []saying
	n     int
	stay  int  // counts the comings and goings of bob
	in    bool // bob is in the room as far as people did what they did
	carol bool
	trace []string
}

// saying is a message and under which circumstances it was said.
type saying struct {
	text string
	by   *node
	stay int
}

// byte takes the next decision.
func (q *sequence) byte(n int) int {
	if len(q.data) == 0 {
		return 0
	}
	b := int(q.data[0]) % n
	q.data = q.data[1:]
	return b
}

func (q *sequence) note(format string, args ...any) {
	q.trace = append(q.trace, fmt.Sprintf(format, args...))
}

func runSequence(t *testing.T, data []byte) {
	q := &sequence{pair: newPair(t, warm), data: data}
	for _, n := range q.nodes {
		// What was said in epochs that a rejoin jumps over cannot be read: here nothing is to be lost but by chance.
		n.conf.Waiting = follower.Bounds{Ahead: 1000, Rows: 1000, Bytes: 16 << 20, Age: time.Hour}
		n.start()
	}
	q.begin()
	q.in = true
	seed := uint64(len(data))
	for _, b := range data {
		seed = seed*31 + uint64(b)
	}
	q.rand = rand.New(rand.NewPCG(seed, 1))
	q.offers["a.example"], q.offers["b.example"] = seed%2 == 1, seed%2 == 1
	switch q.byte(4) {
	case 1:
		q.shuffle = q.rand
	case 2:
		q.restart = true
	case 3:
		q.restart, q.shuffle = true, q.rand
	}
	q.fault = func(_, _, verb string, _ []byte) fault {
		switch r := q.rand.IntN(20); {
		case q.waited(verb):
			return deliver
		case r == 0:
			return dropRequest
		case r == 1:
			return dropAnswer
		case r == 2:
			return twice
		}
		return deliver
	}
	for len(q.data) > 0 {
		q.op()
	}
	q.check()
	if t.Failed() {
		t.Logf("what happened: %s", strings.Join(q.trace, "; "))
	}
}

// op does one thing.
func (q *sequence) op() {
	switch q.byte(12) {
	case 0, 1:
		q.say(q.a, q.room, q.alice)
	case 2, 3:
		if q.in {
			q.say(q.b, q.portal, q.bob)
		}
	case 4:
		q.bobComesOrGoes()
	case 5:
		user := q.a.hs.mxid("carol")
		if q.carol = !q.carol; q.carol {
			q.a.hs.invite(q.room, q.alice, user)
			q.a.hs.join(q.room, user)
		} else {
			q.a.hs.leave(q.room, user)
		}
		q.note("carol in=%v", q.carol)
	case 6:
		if !q.in {
			return
		}
		user := q.b.hs.mxid("dave")
		if q.portal.members[user] == "join" {
			q.b.hs.leave(q.portal, user)
		} else {
			if q.portal.members[user] != "invite" {
				q.b.hs.invite(q.portal, q.bob, user)
			}
			q.b.hs.join(q.portal, user)
		}
		q.note("dave %s", q.portal.members[user])
	case 7:
		q.n++
		q.a.hs.set(q.room, q.alice, "m.room.name", map[string]string{"name": fmt.Sprintf("name %d", q.n)})
		q.note("name %d", q.n)
	case 8:
		n := q.someNode()
		q.note("restart %s", n.domain)
		n.relay.Forget()
		n.start()
	case 9:
		d := []time.Duration{time.Second, 10 * time.Second, 40 * time.Second, 3 * time.Minute}[q.byte(4)]
		q.now = q.now.Add(d)
		q.note("+%v", d)
	case 10:
		n := q.someNode()
		q.note("turn %s", n.domain)
		n.turn()
	case 11:
		q.step()
	}
}

func (q *sequence) someNode() *node { return q.nodes[q.order[q.byte(2)]] }

// step does a small part of what there is to do.
func (q *sequence) step() {
	n := q.someNode()
	switch q.byte(4) {
	case 0:
		q.deliverMatrix(n)
		q.note("deliver to %s", n.domain)
	case 1:
		n.pump()
		q.note("pump %s", n.domain)
	case 2:
		q.land()
		q.note("land")
	case 3:
		n.drainAll()
		q.note("drain %s", n.domain)
	}
}

func (q *sequence) say(n *node, r *hsRoom, user string) {
	q.n++
	text := fmt.Sprintf("message %d", q.n)
	n.hs.say(r, user, text)
	stay := -1
	if q.in {
		stay = q.stay
	}
	q.said = append(q.said, saying{text, n, stay})
	q.note("%s: %s", local(user), text)
}

// bobComesOrGoes changes bob's membership and lets everything settle, so that it is clear what he must see.
func (q *sequence) bobComesOrGoes() {
	how := q.byte(3)
	q.note("bob in=%v how=%d", q.in, how)
	q.calm()
	q.stay++
	if q.in {
		q.in = false
		switch how {
		case 0:
			q.a.hs.kick(q.room, q.alice, q.bobAtA)
		default:
			q.b.hs.leave(q.portal, q.bob)
		}
		q.calm()
		return
	}
	q.a.hs.invite(q.room, q.alice, q.bobAtA)
	q.calm()
	if q.portal.members[q.bob] != "invite" {
		q.t.Fatalf("bob was not invited again: he is at %q; at A his ghost is at %q; state %s; %s", q.portal.members[q.bob], q.room.members[q.bobAtA],
			q.b.room(q.portal).State, strings.Join(q.trace, "; "))
	}
	q.b.hs.join(q.portal, q.bob)
	q.calm()
	q.in = true
}

// calm lets everything come to rest, with a network that works.
func (q *sequence) calm() {
	f := q.fault
	q.fault = nil
	q.pass(3 * time.Minute)
	q.fault = f
}

func (q *sequence) check() {
	q.calm()
	q.fault = nil
	q.noTrouble()
	for _, side := range []struct {
		n    *node
		r    *hsRoom
		self string
	}{{q.a, q.room, "alice"}, {q.b, q.portal, "bob"}} {
		count := map[string]int{}
		for _, line := range side.n.hs.texts(side.r) {
			_, text, _ := strings.Cut(line, ": ")
			count[text]++
		}
		for _, s := range q.said {
			switch {
			case count[s.text] > 1:
				q.t.Errorf("%s shows %q %d times", side.n.domain, s.text, count[s.text])
			case count[s.text] == 0 && s.by != side.n && s.stay == q.stay && q.in:
				q.t.Errorf("%s does not show %q", side.n.domain, s.text)
			}
		}
	}
	if !q.in {
		return
	}
	if s := q.b.room(q.portal).State; s != stateActive {
		q.t.Errorf("B is %s", s)
		return
	}
	q.agree(map[*node]*hsRoom{q.a: q.room, q.b: q.portal})
	q.talk(q.n + 1)
	name := q.room.str("m.room.name", "name")
	q.equal("name at B", q.portal.str("m.room.name", "name"), name)
	carol := "leave"
	if q.carol {
		carol = "join"
	}
	if got := q.portal.members[q.b.ghost("mimi://a.example/u/carol")]; got != carol && (got != "" || q.carol) {
		q.t.Errorf("carol's ghost is at %q, want %q", got, carol)
	}
	var waiting int
	for _, n := range []*node{q.a, q.b} {
		rooms, err := n.db.Rooms(q.t.Context(), store.RoomID{}, 100)
		if err != nil {
			q.t.Fatal(err)
		}
		for _, r := range rooms {
			in, err := n.db.InputsIn(q.t.Context(), r.ID, store.InputWaiting, 100)
			if err != nil {
				q.t.Fatal(err)
			}
			for _, i := range in {
				q.t.Logf("%s: %s waits: %s", n.domain, i.Kind, i.Reason)
			}
			waiting += len(in)
		}
	}
	if waiting > 0 {
		q.t.Errorf("%d inputs wait for ever", waiting)
	}
}

// FuzzStepSequence plays random interleavings of inputs, crashes and answers.
func FuzzStepSequence(f *testing.F) {
	for seed := range 4 {
		f.Add(randomBytes(uint64(seed), 40))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 200 {
			return
		}
		runSequence(t, data)
	})
}

func randomBytes(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 7))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestStepSequences plays some of them each time; RELAY_SEQUENCES=100+400 plays others.
func TestStepSequences(t *testing.T) {
	first, n := 0, 12
	if testing.Short() {
		n = 4
	}
	if more := os.Getenv("RELAY_SEQUENCES"); more != "" {
		if _, err := fmt.Sscanf(more, "%d+%d", &first, &n); err != nil {
			t.Fatalf("RELAY_SEQUENCES is %q, not first+number: %v", more, err)
		}
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runSequence(t, randomBytes(uint64(seed), 60)) })
	}
}
