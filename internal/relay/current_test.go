package relay

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// together is a pair that shares the extensions, in a conversation.
func together(t *testing.T, m mode, more ...string) *pair {
	p := newPair(t, m, more...)
	for _, d := range p.order {
		p.offers[d] = true
	}
	return p.begin()
}

func TestTypingBothWays(t *testing.T) {
	for name, m := range map[string]mode{"warm": warm, "restarting": restarting, "doubling": doubling} {
		t.Run(name, func(t *testing.T) {
			p := together(t, m)
			p.a.hs.types(p.room, p.alice, p.bobAtA) // a ghost's typing does not go back
			p.settle()
			p.equal("seen at B", p.b.hs.typed, []string{local(p.aliceAtB) + " 30s"})
			p.pass(25 * time.Second) // still typing: said again
			p.equal("seen at B", p.b.hs.typed, []string{local(p.aliceAtB) + " 30s", local(p.aliceAtB) + " 30s"})
			p.a.hs.types(p.room)
			p.settle()
			p.last("at B", p.b.hs.typed, local(p.aliceAtB)+" 0s")
			p.b.hs.types(p.portal, p.bob)
			p.settle()
			p.equal("seen at A", p.a.hs.typed, []string{local(p.bobAtA) + " 30s"})
			// Somebody who is forgotten typing ends.
			p.pass(10 * time.Minute)
			p.last("at A", p.a.hs.typed, local(p.bobAtA)+" 0s")
			n := len(p.a.hs.typed)
			p.pass(10 * time.Minute)
			p.equal("typing", len(p.a.hs.typed), n)
			p.noTrouble()
		})
	}
}

func TestPresence(t *testing.T) {
	p := together(t, warm)
	is := func(state, text string) {
		p.b.hs.ephemeral = append(p.b.hs.ephemeral, event.Ephemeral{Type: event.TypePresence, Presence: &event.Presence{User: userID(p.bob), State: state, Text: text}})
		p.settle()
	}
	is("online", "at work")
	p.equal("at A", p.a.hs.present, []string{local(p.bobAtA) + " online at work"})
	is("unavailable", "")
	is("offline", "")
	is("online", "") // the newest counts
	p.pass(time.Minute)
	p.equal("at A", p.a.hs.present, []string{local(p.bobAtA) + " online at work", local(p.bobAtA) + " online "})
	is("online", "") // nothing new
	p.pass(time.Minute)
	p.equal("presences", len(p.a.hs.present), 2)
	p.b.relay.ShowPresence = nil // switched off
	is("offline", "")
	p.pass(time.Minute)
	p.equal("presences", len(p.a.hs.present), 2)
	p.noTrouble()
}

// The hub passes typing on to those that share it, and not back.
func TestTypingThroughTheHub(t *testing.T) {
	p := together(t, warm, "c.example", "d.example")
	p.offers["d.example"] = false
	rooms := map[string]*hsRoom{}
	for _, d := range []string{"c.example", "d.example"} {
		n := p.nodes[d]
		carol := n.hs.mxid("carol")
		n.hs.users[carol] = true
		p.a.hs.invite(p.room, p.alice, p.a.ghost("mimi://"+d+"/u/carol"))
		p.settle()
		rooms[d] = n.hs.roomOf(carol, "invite")
		if rooms[d] == nil {
			t.Fatalf("carol of %s was not invited", d)
		}
		n.hs.join(rooms[d], carol)
		p.settle()
	}
	p.b.hs.types(p.portal, p.bob)
	p.settle()
	p.equal("at A", p.a.hs.typed, []string{local(p.bobAtA) + " 30s"})
	p.equal("at B", p.b.hs.typed, []string(nil))
	p.equal("at C", p.nodes["c.example"].hs.typed, []string{local(p.nodes["c.example"].ghost(bobURI)) + " 30s"})
	p.equal("at D", p.nodes["d.example"].hs.typed, []string(nil))
	p.noTrouble()
}

func TestNoTypingTowardsOthers(t *testing.T) {
	p := newPair(t, warm).begin()
	p.a.hs.types(p.room, p.alice)
	p.settle()
	p.equal("at B", p.b.hs.typed, []string(nil))
	p.equal("calls", p.calls[verbStatus], 0)
}

// A new name is seen at once.
func TestNewNameIsToldAtOnce(t *testing.T) {
	p := together(t, warm)
	p.b.hs.names[p.bob] = [2]string{"Robert", p.b.files.add(onePixel)}
	p.b.hs.join(p.portal, p.bob) // the homeserver says it by a member event
	p.pass(time.Second)
	got := p.a.hs.names[p.bobAtA]
	p.equal("bob at A", got[0], "Robert (b.example)")
	p.equal("picture", len(p.a.files.repo[got[1]]), len(onePixel))
	n := p.calls[verbStatus]
	p.b.hs.join(p.portal, p.bob) // nothing new
	p.settle()
	p.equal("calls", p.calls[verbStatus], n)
	p.noTrouble()
}

// A status that is not its sender's to say, late, of another epoch or overtaken has no effect.
func TestStatusIsChecked(t *testing.T) {
	p := together(t, warm)
	ctx := context.Background()
	var captured []byte
	p.fault = func(from, _, verb string, body []byte) fault {
		if verb == verbStatus {
			captured = slices.Clone(body)
			return dropRequest
		}
		return deliver
	}
	p.b.hs.types(p.portal, p.bob)
	p.settle()
	p.fault = nil
	p.b.relay.current = newCurrent() // bob is not heard of again
	if captured == nil {
		t.Fatal("nothing was sent")
	}
	room := p.view(p.a).uri()
	give := func(peer string, body []byte) error {
		_, err := p.a.relay.Status(ctx, peer, room, body)
		p.settle()
		return err
	}
	if err := give("c.example", captured); !errors.Is(err, ErrNotFound) {
		t.Errorf("in the name of another provider: %v", err)
	}
	m, err := wire.UnmarshalStatusMessage(captured)
	must0(t, err)
	spoiled := *m
	spoiled.Ciphertext = append(slices.Clone(m.Ciphertext[:len(m.Ciphertext)-1]), m.Ciphertext[len(m.Ciphertext)-1]^1)
	if err := give("b.example", spoiled.Marshal()); !errors.Is(err, wire.ErrSignature) {
		t.Errorf("a status that was changed: %v", err)
	}
	own := *m
	own.Leaf = 0 // the bot's
	if err := give("b.example", own.Marshal()); !errors.Is(err, ErrForbidden) {
		t.Errorf("a status of our own client: %v", err)
	}
	old := *m
	old.Epoch--
	must0(t, give("b.example", old.Marshal()))
	p.equal("typing", p.a.hs.typed, []string(nil))
	must0(t, give("b.example", captured))
	must0(t, give("b.example", captured)) // again
	p.equal("typing", p.a.hs.typed, []string{local(p.bobAtA) + " 30s"})
	p.now = p.now.Add(3 * time.Minute)
	p.a.relay.current = newCurrent()
	must0(t, give("b.example", captured)) // late
	p.equal("typing", len(p.a.hs.typed), 1)
	if _, err := p.b.relay.Status(ctx, "c.example", room, captured); !errors.Is(err, ErrNotFound) {
		t.Errorf("a follower takes a status from another than the hub: %v", err)
	}
	used := len(p.a.relay.statuses.used)
	if _, err := p.a.relay.Status(ctx, "b.example", "mimi://a.example/r/none", captured); !errors.Is(err, ErrNotFound) {
		t.Errorf("a room that is not there: %v", err)
	}
	p.equal("what is counted after a name that was made up", len(p.a.relay.statuses.used), used)
	must0(t, give("b.example", captured))
	for _, bad := range [][]byte{own.Marshal(), spoiled.Marshal()} {
		if give("b.example", bad) == nil || p.a.relay.slot(p.a.room(p.room).ID).mem == nil {
			t.Error("a status that was refused made the room be loaded anew")
		}
	}
	// Nothing of all that was written.
	row, err := p.a.db.Room(ctx, p.a.room(p.room).ID)
	must0(t, err)
	must0(t, give("b.example", captured))
	again, err := p.a.db.Room(ctx, row.ID)
	must0(t, err)
	p.equal("version", again.Version, row.Version)
}

func (p *pair) view(n *node) *roomView {
	return n.view(map[*node]*hsRoom{p.a: p.room, p.b: p.portal}[n])
}

// What waits to go to a place is bounded, and the newest counts.
func TestCurrentIsBounded(t *testing.T) {
	c := newCurrent()
	for n := range maxCurrent + 10 {
		c.put(currentKey{to: "x", room: string(rune(n))}, currentItem{untilMS: int64(n)})
	}
	c.put(currentKey{to: "x", room: string(rune(50))}, currentItem{untilMS: store.Never})
	to, items := c.take()
	if len(to) != 1 || len(items["x"]) != maxCurrent || !slices.ContainsFunc(items["x"], func(i currentItem) bool { return i.untilMS == store.Never }) {
		t.Errorf("%q, %d items", to, len(items["x"]))
	}
	for n := range maxPlaces + 10 {
		c.put(currentKey{to: strconv.Itoa(n)}, currentItem{})
	}
	c.put(currentKey{to: "x"}, currentItem{})
	if to, _ := c.take(); len(to) != maxPlaces-1 || slices.Contains(to, "x") {
		t.Errorf("%d places, with x, where something is on its way: %v", len(to), slices.Contains(to, "x"))
	}
	c.sent("x")
	if to, items := c.take(); len(to) != 1 || len(items["x"]) != 1 {
		t.Errorf("afterwards: %q, %d items", to, len(items["x"]))
	}
	q := newQuota(2)
	now := time.Unix(1e9, 0)
	var got []string
	for _, k := range strings.Fields("a a a b") {
		if q.take(k, now) {
			got = append(got, k)
		}
	}
	if q.take("a", now.Add(time.Hour)) {
		got = append(got, "later")
	}
	if strings.Join(got, " ") != "a a b later" {
		t.Errorf("%q", got)
	}
}

// A provider that does not answer holds the others up by one request, not by all that wait for it.
func TestSilentProviderGetsOneStatus(t *testing.T) {
	p := newPair(t, warm)
	tried := map[string]int{}
	for _, to := range []string{"silent.example", "far.example"} {
		for n := range 3 {
			p.a.relay.current.put(currentKey{to: to, room: string(rune('a' + n))}, currentItem{untilMS: store.Never, do: func(context.Context) error {
				if tried[to]++; to == "silent.example" {
					return context.DeadlineExceeded
				}
				return errNetwork
			}})
		}
	}
	p.a.relay.FlushCurrent(context.Background())
	p.equal("silent", tried["silent.example"], 1)
	p.equal("far", tried["far.example"], 3)
}

// While one provider is slow, the others get what comes, and of what is for the slow one nothing is lost to theirs.
func TestSlowProviderHoldsUpNobody(t *testing.T) {
	p := newPair(t, warm)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.a.relay.currentLoop(ctx)
	}()
	defer func() {
		stop()
		<-done
	}()
	got, slow := make(chan string), make(chan struct{})
	put := func(to, room string, wait <-chan struct{}) {
		p.a.relay.current.put(currentKey{to: to, room: room}, currentItem{untilMS: store.Never, do: func(context.Context) error {
			if wait != nil {
				<-wait
			}
			select {
			case got <- to + room:
			case <-ctx.Done():
			}
			return nil
		}})
	}
	put("slow.example", "1", slow)
	put("far.example", "1", nil)
	p.equal("first", <-got, "far.example1")
	put("slow.example", "2", nil)
	for n := range 2 * maxCurrent {
		put("far.example", strconv.Itoa(n+2), nil)
	}
	for range maxCurrent {
		if from := <-got; !strings.HasPrefix(from, "far.example") {
			t.Fatalf("%s came although what is before it is not through", from)
		}
	}
	close(slow)
	for n := range 2 {
		want := "slow.example" + strconv.Itoa(n+1)
		for from := range got {
			if from == want {
				break
			}
		}
	}
}
