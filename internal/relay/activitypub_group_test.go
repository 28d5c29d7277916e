package relay

import (
	"context"
	"strings"
	"testing"
	"time"
)

// apGroup is a conversation of bridges: alice and dave at a, bob at b, carol at c, dora at d.
type apGroup struct {
	*apPair
	t           *testing.T
	c, d        *apNode
	carol, dora string
	dave        string
	ct, dt      *hsRoom
}

func newAPGroup(t *testing.T) *apGroup {
	t.Helper()
	w := newWorld(t, "sqlite")
	places := map[string]string{}
	g := &apGroup{apPair: &apPair{a: newAPNode(t, w, places, "a.example"), b: newAPNode(t, w, places, "b.example")}, t: t, c: newAPNode(t, w, places, "c.example"), d: newAPNode(t, w, places, "d.example")}
	g.alice, g.dave, g.bob = g.a.hs.mxid("alice"), g.a.hs.mxid("dave"), g.b.hs.mxid("bob")
	g.carol, g.dora = g.c.hs.mxid("carol"), g.d.hs.mxid("dora")
	g.a.hs.users = map[string]bool{g.alice: true, g.dave: true}
	g.b.hs.users = map[string]bool{g.bob: true}
	g.c.hs.users = map[string]bool{g.carol: true}
	g.d.hs.users = map[string]bool{g.dora: true}
	if err := g.a.face.StartChat(context.Background(), g.alice, "@bob@b.example"); err != nil {
		t.Fatal(err)
	}
	g.settle()
	g.at, g.bt = g.a.hs.roomOf(g.alice, "invite"), g.b.hs.roomOf(g.bob, "invite")
	g.a.hs.join(g.at, g.alice)
	g.b.hs.join(g.bt, g.bob)
	g.settle()
	return g
}

func (g *apGroup) settle() {
	g.t.Helper()
	settleAP(g.t, g.a, g.b, g.c, g.d)
}

func (g *apGroup) invite(n *apNode, room *hsRoom, by, handle string) {
	g.t.Helper()
	if err := n.face.InviteToChannel(context.Background(), room.id, by, handle, ""); err != nil {
		g.t.Fatal(err)
	}
}

// heard checks that a message stands in rooms, once in each.
func (g *apGroup) heard(text string, rooms map[*apNode]*hsRoom) {
	g.t.Helper()
	for n, room := range rooms {
		if got := strings.Count(strings.Join(n.hs.texts(room), "\n")+"\n", ": "+text+"\n"); got != 1 {
			g.t.Errorf("%q stands %d times at %s: %q", text, got, n.domain, n.hs.texts(room))
		}
	}
}

func (g *apGroup) rooms() map[*apNode]*hsRoom {
	return map[*apNode]*hsRoom{g.a: g.at, g.b: g.bt, g.c: g.ct}
}

func (g *apGroup) ghost(n *apNode, name, domain string) string {
	return "@acct_" + name + "=40" + domain + ":" + n.hs.server
}

// TestAGroupOfThreeBridges: more than two talk: somebody of a third server is added by command, somebody of the first by a Matrix invitation; who leaves goes by a
// proposal that others commit, who is kicked by a commit. S000-080 … S000-084, S001-016.
func TestAGroupOfThreeBridges(t *testing.T) {
	g := newAPGroup(t)
	g.invite(g.a, g.at, g.alice, "@carol@c.example")
	g.settle()
	g.ct = g.c.hs.roomOf(g.carol, "invite")
	if g.ct == nil {
		t.Fatalf("carol was not invited: %q", g.a.hs.texts(g.at))
	}
	g.c.hs.join(g.ct, g.carol)
	g.settle()
	g.c.hs.say(g.ct, g.carol, "hello from c")
	g.settle()
	g.b.hs.say(g.bt, g.bob, "hello from b")
	g.settle()
	g.heard("hello from c", g.rooms())
	g.heard("hello from b", g.rooms())

	g.a.hs.invite(g.at, g.alice, g.dave)
	g.a.hs.join(g.at, g.dave)
	g.settle()
	g.a.hs.say(g.at, g.dave, "dave is here")
	g.settle()
	g.heard("dave is here", g.rooms())
	if m := g.ct.members[g.ghost(g.c, "dave", "a.example")]; m != "join" {
		t.Errorf("dave is %q at c", m)
	}

	g.c.hs.leave(g.ct, g.carol)
	g.settle()
	g.a.w.now = g.a.w.now.Add(10 * time.Second)
	g.settle()
	for n, room := range map[*apNode]*hsRoom{g.a: g.at, g.b: g.bt} {
		if m := room.members[g.ghost(n, "carol", "c.example")]; m != "leave" {
			t.Errorf("carol is %q at %s", m, n.domain)
		}
	}
	g.a.hs.say(g.at, g.alice, "without carol")
	g.settle()
	g.heard("without carol", map[*apNode]*hsRoom{g.a: g.at, g.b: g.bt})

	g.a.hs.kick(g.at, g.alice, g.ghost(g.a, "bob", "b.example"))
	g.settle()
	if m := g.bt.members[g.bob]; m != "leave" {
		t.Errorf("bob is %q at b", m)
	}
}

// TestTwoAddAtOnce: two members add somebody at the same time and go on talking. One of the commits wins; the other is made again, and what was said upon
// it is heard, once (docs/activitypub.md).
func TestTwoAddAtOnce(t *testing.T) {
	g := newAPGroup(t)
	g.invite(g.a, g.at, g.alice, "@carol@c.example")
	g.invite(g.b, g.bt, g.bob, "@dora@d.example")
	work := func(n *apNode) {
		for range 5 {
			if d, ok := n.hs.delivery(); ok {
				if _, err := n.relay.Accept(context.Background(), d); err != nil {
					t.Fatal(err)
				}
			}
			rooms, _ := n.db.Rooms(context.Background(), [16]byte{}, 100)
			for _, r := range rooms {
				n.drain(r.ID)
			}
		}
	}
	// Both commit before either has heard of the other.
	work(g.a)
	work(g.b)
	g.a.hs.say(g.at, g.alice, "alice goes on")
	g.b.hs.say(g.bt, g.bob, "bob goes on")
	work(g.a)
	work(g.b)
	g.settle()
	if g.ct = g.c.hs.roomOf(g.carol, "invite"); g.ct == nil {
		t.Fatalf("carol was not invited: %q %q", g.a.hs.texts(g.at), g.b.hs.texts(g.bt))
	}
	g.c.hs.join(g.ct, g.carol)
	if g.dt = g.d.hs.roomOf(g.dora, "invite"); g.dt == nil {
		t.Fatalf("dora was not invited: %q %q", g.a.hs.texts(g.at), g.b.hs.texts(g.bt))
	}
	g.d.hs.join(g.dt, g.dora)
	g.settle()
	g.heard("alice goes on", map[*apNode]*hsRoom{g.a: g.at, g.b: g.bt})
	g.heard("bob goes on", map[*apNode]*hsRoom{g.a: g.at, g.b: g.bt})
	g.c.hs.say(g.ct, g.carol, "all together")
	g.settle()
	all := g.rooms()
	all[g.d] = g.dt
	g.heard("all together", all)
}
