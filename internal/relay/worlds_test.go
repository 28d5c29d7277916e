package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
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

// side is one of the three rooms, with its own person.
type side struct {
	name string
	hs   *fakeHS
	room *hsRoom
	who  string
}

func (c *threeWorlds) sides() []side {
	return []side{{"Matrix", c.a.hs, c.room, c.alice}, {"MIMI", c.m.hs, c.portalM, c.mia}, {"ActivityPub", c.p.hs, c.portalP, c.pia}}
}

// TestRelationsBetweenWorlds: whoever answers, reacts, edits or takes back, it lands on the right message in all three rooms. Ids are mapped over the Matrix event that a
// message is in the room where the worlds meet.
func TestRelationsBetweenWorlds(t *testing.T) {
	c := newThreeWorlds(t, true)
	for _, author := range c.sides() {
		for _, other := range c.sides() {
			if other.name == author.name {
				continue
			}
			text := "by " + author.name + " for " + other.name
			author.hs.say(author.room, author.who, text)
			c.settle()
			c.everywhere(text)
			at := other.said(t, text)
			other.hs.emit(other.room, other.who, event.TypeMessage, nil, merge(map[string]any{"msgtype": "m.text", "body": "answer to " + text}, inReply(at.id)), 0)
			other.hs.emit(other.room, other.who, event.TypeReaction, nil, map[string]any{"m.relates_to": map[string]any{"rel_type": "m.annotation", "event_id": at.id, "key": "👍"}}, 0)
			c.settle()
			for _, seen := range c.sides() {
				first := seen.said(t, text)
				if got := seen.said(t, "answer to "+text).relation().ReplyTo; string(got) != first.id {
					t.Errorf("%s: the answer of %s in %s is to %q, not %q", text, other.name, seen.name, got, first.id)
				}
				if n := seen.related(event.TypeReaction, first.id); n != 1 {
					t.Errorf("%s: %d reactions of %s in %s", text, n, other.name, seen.name)
				}
			}
			mine := author.said(t, text)
			author.hs.emit(author.room, author.who, event.TypeMessage, nil, merge(map[string]any{"msgtype": "m.text", "body": "* changed"}, editOf(mine.id, text+" changed")), 0)
			c.settle()
			for _, seen := range c.sides() {
				if n := seen.related(event.TypeMessage, seen.said(t, text).id); n != 1 {
					t.Errorf("%s: %d edits in %s", text, n, seen.name)
				}
			}
			author.hs.redact(author.room, author.who, mine.id)
			c.settle()
			for _, seen := range c.sides() {
				if !seen.said(t, text).redacted {
					t.Errorf("%s: it still stands in %s", text, seen.name)
				}
			}
		}
	}
}

// said is the message with exactly this text.
func (s side) said(t *testing.T, text string) *hsEvent {
	t.Helper()
	for i := range s.room.timeline {
		if ev := &s.room.timeline[i]; ev.typ == event.TypeMessage && ev.object().Str("body") == text {
			return ev
		}
	}
	t.Fatalf("no %q in the room of %s: %q", text, s.name, s.hs.texts(s.room))
	return nil
}

// related counts the events of a type that annotate or replace an event.
func (s side) related(typ, to string) int {
	n := 0
	for i := range s.room.timeline {
		ev := &s.room.timeline[i]
		if r := ev.relation(); ev.typ == typ && (string(r.Annotates) == to || string(r.Replaces) == to) {
			n++
		}
	}
	return n
}

// TestComingAndGoingBetweenWorlds: who comes into the room and leaves it does so in all worlds, also by the hand of others; and so does the room's name.
func TestComingAndGoingBetweenWorlds(t *testing.T) {
	c := newThreeWorlds(t, true)
	aliceAtM, aliceAtP := c.m.ghost("mimi://a.example/u/alice"), "@acct_alice=40a.example:"+c.p.hs.server
	// Each sees all others, under names that lead to them.
	joined := func(s side) string { return strings.Join(s.hs.joined(s.room), " ") }
	for _, want := range []string{aliceAtM, "acct__pia"} {
		if got := joined(c.sides()[1]); !strings.Contains(got, want) {
			t.Errorf("in the room of MIMI are %q, not %q", got, want)
		}
	}
	for _, want := range []string{aliceAtP, "mimi__m.example=3d2fmia"} {
		if got := joined(c.sides()[2]); !strings.Contains(got, want) {
			t.Errorf("in the room of ActivityPub are %q, not %q", got, want)
		}
	}
	c.a.hs.set(c.room, c.alice, event.TypeName, map[string]string{"name": "Yard"})
	c.settle()
	for _, s := range c.sides() {
		if got := s.room.str(event.TypeName, "name"); got != "Yard" {
			t.Errorf("the room of %s is called %q", s.name, got)
		}
	}
	// Somebody who may, in another world.
	c.a.hs.set(c.room, c.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{c.alice: 100, c.piaAtA: 50, c.miaAtA: 50}})
	c.settle()
	c.p.hs.set(c.portalP, c.pia, event.TypeName, map[string]string{"name": "Pia's"})
	c.settle()
	for _, s := range c.sides() {
		if got := s.room.str(event.TypeName, "name"); got != "Pia's" {
			t.Errorf("after Pia the room of %s is called %q", s.name, got)
		}
	}
	c.m.hs.set(c.portalM, c.mia, event.TypeName, map[string]string{"name": "Mia's"})
	c.settle()
	for _, s := range c.sides() {
		if got := s.room.str(event.TypeName, "name"); got != "Mia's" {
			t.Errorf("after Mia the room of %s is called %q", s.name, got)
		}
	}
	// Pia goes, and is gone in the MIMI room; Mia is put out on Matrix, and is gone from the channel.
	c.p.hs.leave(c.portalP, c.pia)
	c.settle()
	if got := joined(c.sides()[1]); strings.Contains(got, "acct__pia") {
		t.Errorf("Pia is gone, and in the room of MIMI are %q", got)
	}
	c.a.hs.kick(c.room, c.alice, c.miaAtA)
	c.settle()
	members, err := c.a.face.Members(context.Background(), channelToken(t, c.a, c.room))
	if err != nil || !slices.Equal(members, []string{c.a.face.Site.User("alice")}) {
		t.Errorf("followers are %q %v", members, err)
	}
}

// TestModeratorsOfOtherWorlds: what somebody with the power takes back is gone in all worlds in which its author is one of the room's own.
func TestModeratorsOfOtherWorlds(t *testing.T) {
	c := newThreeWorlds(t, true)
	c.m.hs.say(c.portalM, c.mia, "rude")
	c.settle()
	c.everywhere("rude")
	sides := c.sides()
	c.a.hs.redact(c.room, c.alice, sides[0].said(t, "rude").id)
	c.settle()
	for _, s := range sides {
		if !s.said(t, "rude").redacted {
			t.Errorf("it still stands in the room of %s", s.name)
		}
	}
}

// TestGuestsAreMetInTheRoomOnly: nobody of one world reaches a guest of the other outside of the room that they share, and nobody who was never in such a room is an actor.
func TestGuestsAreMetInTheRoomOnly(t *testing.T) {
	c := newThreeWorlds(t, false)
	ctx := context.Background()
	before := len(c.a.hs.order)
	if err := c.p.face.StartChat(ctx, c.pia, "acct:mimi_m.example=2fmia@a.example"); err != nil {
		t.Logf("refused: %v", err)
	}
	c.settle()
	if err := c.m.relay.StartChat(ctx, c.mia, "mimi://a.example/u/acct_pia=40p.example"); err != nil {
		t.Logf("refused: %v", err)
	}
	c.settle()
	if n := len(c.a.hs.order) - before; n != 0 {
		t.Errorf("%d rooms more where the worlds meet", n)
	}
	if got := c.p.hs.roomOf(c.pia, "join"); got != c.portalP {
		t.Error("Pia is in another room")
	}
	if _, err := c.a.face.Find(ctx, "acct:mimi_m.example=2fmax@a.example"); err == nil {
		t.Error("somebody who was never here is an actor")
	}
	if _, err := c.a.face.Find(ctx, "acct:acct_pia=40p.example@a.example"); err == nil {
		t.Error("a ghost of the ActivityPub world is an actor there")
	}
}

// TestGhostsOfMIMICostNothingOutsideChannels: what a ghost of a MIMI user says is stored where the room is a channel, and nowhere else.
func TestGhostsOfMIMICostNothingOutsideChannels(t *testing.T) {
	c, ctx := newChannelWorld(t), context.Background()
	ghost := "@" + mapping.GhostPrefix + "c.example_=2fu_=2fx:" + c.a.hs.server
	if !c.a.relay.mimiGhost(ghost) {
		t.Fatal(ghost)
	}
	for room, want := range map[string]bool{"!other:" + c.a.hs.server: false, c.room.id: true} {
		ev, err := event.ParseChecked([]byte(fmt.Sprintf(`{"type":"m.room.message","event_id":"$x%d","room_id":%q,"sender":%q,"origin_server_ts":1,"content":{"msgtype":"m.text","body":"hi"}}`,
			len(room), room, ghost)))
		c.must(err)
		d := Delivery{Source: "appservice", ID: "txn " + room, Events: []event.Event{ev}}
		_, err = c.a.relay.Accept(ctx, d)
		c.must(err)
		if stored, err := c.a.relay.Accept(ctx, d); err != nil || stored != want {
			t.Errorf("%s: stored: %v, %v", room, stored, err)
		}
	}
}
