package relay

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

// threeWorlds is a Matrix room of a.example with alice in it, which is a MIMI room with mia of m.example and a channel with pia of p.example. m.example has no ActivityPub face,
// and p.example has nobody in the MIMI room.
type threeWorlds struct {
	t                *testing.T
	w                *world
	a, p             *apNode
	m                *node
	alice, mia, pia  string
	room             *hsRoom // at a
	portalM, portalP *hsRoom
	// miaAtA and piaAtA are the ghosts in alice's room.
	miaAtA, piaAtA string
}

func (c *threeWorlds) settle() {
	c.t.Helper()
	for round := 0; round < 300; round++ {
		if c.a.turn(c.t)+c.p.turn(c.t)+c.m.turn() == 0 {
			return
		}
	}
	c.t.Fatal("they do not come to rest")
}

func (c *threeWorlds) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// newThreeWorlds makes the room; mimiFirst says which of the two other worlds comes first.
func newThreeWorlds(t *testing.T, mimiFirst bool) *threeWorlds {
	t.Helper()
	w := newWorld(t, "sqlite")
	places := map[string]string{}
	c := &threeWorlds{t: t, w: w, a: newAPNode(t, w, places, "a.example"), p: newAPNode(t, w, places, "p.example"), m: w.add("m.example", Config{})}
	c.alice, c.mia, c.pia = c.a.hs.mxid("alice"), c.m.hs.mxid("mia"), c.p.hs.mxid("pia")
	c.a.hs.users = map[string]bool{c.alice: true}
	c.m.hs.users = map[string]bool{c.mia: true}
	c.p.hs.users = map[string]bool{c.pia: true}
	c.miaAtA = c.a.ghost("mimi://m.example/u/mia")
	c.piaAtA = "@acct_pia=40p.example:" + c.a.hs.server
	c.room = c.a.hs.create(c.alice, "Garden", "plants")
	c.a.hs.invite(c.room, c.alice, c.a.hs.mxid("mimibot"))
	c.settle()
	mimi := func() {
		c.must(c.a.relay.Invite(context.Background(), c.room.id, c.alice, "mimi://m.example/u/mia", ""))
		c.settle()
		if c.portalM = c.m.hs.roomOf(c.mia, "invite"); c.portalM == nil {
			t.Fatalf("mia was not invited: %q", c.a.hs.texts(c.room))
		}
		c.m.hs.join(c.portalM, c.mia)
		c.settle()
	}
	channel := func() {
		c.must(c.a.face.OfferChannel(context.Background(), c.room.id, c.alice, ""))
		c.settle()
		c.must(c.a.face.InviteToChannel(context.Background(), c.room.id, c.alice, "@pia@p.example", ""))
		c.settle()
		if c.portalP = c.p.hs.roomOf(c.pia, "invite"); c.portalP == nil {
			t.Fatalf("pia was not invited: %q", c.a.hs.texts(c.room))
		}
		c.p.hs.join(c.portalP, c.pia)
		c.settle()
	}
	if mimiFirst {
		mimi()
		channel()
	} else {
		channel()
		mimi()
	}
	return c
}

// everywhere demands that a text stands once in each of the three rooms.
func (c *threeWorlds) everywhere(text string) {
	c.t.Helper()
	for name, got := range map[string][]string{"Matrix": c.a.hs.texts(c.room), "MIMI": c.m.hs.texts(c.portalM), "ActivityPub": c.p.hs.texts(c.portalP)} {
		n := 0
		for _, s := range got {
			if strings.HasSuffix(s, ": "+text) {
				n++
			}
		}
		if n != 1 {
			c.t.Errorf("%q stands %d times in the room of %s: %q", text, n, name, got)
		}
	}
}

// TestThreeWorldsInOneRoom: people of Matrix, MIMI and ActivityPub in one Matrix room read each other, once, whichever of the other worlds came first, and over restarts.
func TestThreeWorldsInOneRoom(t *testing.T) {
	for name, mimiFirst := range map[string]bool{"MIMI first": true, "ActivityPub first": false} {
		t.Run(name, func(t *testing.T) {
			c := newThreeWorlds(t, mimiFirst)
			if got := c.a.hs.joined(c.room); !slices.Contains(got, c.miaAtA) || !slices.Contains(got, c.piaAtA) {
				t.Fatalf("in the room are %q", got)
			}
			for _, forget := range []bool{false, true} {
				if forget {
					c.a.relay.Forget()
					c.m.relay.Forget()
					c.p.relay.Forget()
				}
				suffix := map[bool]string{true: " again"}[forget]
				c.a.hs.say(c.room, c.alice, "from Matrix"+suffix)
				c.settle()
				c.m.hs.say(c.portalM, c.mia, "from MIMI"+suffix)
				c.settle()
				c.p.hs.say(c.portalP, c.pia, "from ActivityPub"+suffix)
				c.settle()
				for _, text := range []string{"from Matrix", "from MIMI", "from ActivityPub"} {
					c.everywhere(text + suffix)
				}
			}
			members, err := c.a.face.Members(context.Background(), channelToken(t, c.a, c.room))
			if err != nil || len(members) != 3 {
				t.Errorf("followers are %q %v", members, err)
			}
		})
	}
}

func channelToken(t *testing.T, n *apNode, room *hsRoom) string {
	t.Helper()
	id, err := n.db.RoomIDByName(context.Background(), store.NameChannel, room.id)
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

var _ = event.TypeName
