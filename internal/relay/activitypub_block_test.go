package relay

import (
	"context"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
)

// block lets a bridge speak with a domain no more, twice: at the second time nothing is left to be done.
func (n *apNode) block(t *testing.T, domain string) {
	t.Helper()
	n.blocks[domain] = true
	n.face.People.Forget("http://" + domain + "/ap/u/bob")
	for range 2 {
		if err := n.face.LeaveBlocked(context.Background()); err != nil {
			t.Fatal(err)
		}
		for n.turn(t) > 0 {
		}
	}
}

// epochOfRoom is the epoch of the group behind a Matrix room, -1 for none.
func (n *apNode) epochOfRoom(t *testing.T, room *hsRoom) int64 {
	t.Helper()
	head, err := n.db.RoomByName(context.Background(), store.NameMatrix, room.id)
	if err != nil {
		t.Fatal(err)
	}
	return head.Epoch
}

func count(texts []string, part string) int {
	return strings.Count(strings.Join(texts, "\n"), part)
}

// TestAConversationWithABlockedServerIsLeft (docs/activitypub.md, "Blocked origins"): whoever is ours leaves, once, and is told; the commit of the leave is taken from the
// blocked server, and nothing else is; what is said after that goes nowhere.
func TestAConversationWithABlockedServerIsLeft(t *testing.T) {
	g := newAPGroup(t)
	g.a.hs.invite(g.at, g.alice, g.dave)
	g.a.hs.join(g.at, g.dave)
	g.settle()
	before := g.a.epochOfRoom(t, g.at)
	g.a.block(t, "b.example")
	if got := count(g.a.hs.texts(g.at), "has blocked b.example"); got != 1 {
		t.Fatalf("told %d times: %q", got, g.a.hs.texts(g.at))
	}
	// Dave is out by a commit, Alice waits for one of the others.
	if now := g.a.epochOfRoom(t, g.at); now != before+1 {
		t.Fatalf("epoch %d after %d", now, before)
	}
	g.a.hs.say(g.at, g.alice, "does anybody hear me?")
	g.b.hs.say(g.bt, g.bob, "buy this")
	g.settle()
	if got := count(g.a.hs.texts(g.at), "buy this"); got != 0 {
		t.Error("a blocked server is heard")
	}
	if got := count(g.b.hs.texts(g.bt), "does anybody"); got != 0 {
		t.Error("a blocked server hears")
	}
	if got := count(g.a.hs.texts(g.at), "left the conversation"); got != 1 {
		t.Errorf("who speaks is told %d times: %q", got, g.a.hs.texts(g.at))
	}
	g.a.w.now = g.a.w.now.Add(timeToCommit)
	g.settle()
	if now := g.a.epochOfRoom(t, g.at); now != -1 {
		t.Errorf("the group is still here in epoch %d", now)
	}
	if m := g.bt.members[g.ghost(g.b, "alice", "a.example")]; m != "leave" {
		t.Errorf("alice is %q at b", m)
	}
	if m := g.at.members[g.alice]; m != "join" {
		t.Errorf("alice is %q in the room, where she may read what was said", m)
	}
	// After the block is lifted there can be another conversation of the same people.
	delete(g.a.blocks, "b.example")
	g.a.face.People.Forget(g.b.face.Site.User("bob"))
	if err := g.a.face.StartChat(context.Background(), g.alice, "@bob@b.example"); err != nil {
		t.Fatal(err)
	}
	g.settle()
	if room := g.a.hs.roomOf(g.alice, "invite"); room == nil || room == g.at {
		t.Error("no new conversation")
	}
}

// timeToCommit is longer than anybody waits before they commit what others proposed.
const timeToCommit = 301 * 1e9

// TestALeaveThatNobodyCommitsEnds: after a week the group is forgotten.
func TestALeaveThatNobodyCommitsEnds(t *testing.T) {
	g := newAPGroup(t)
	g.b.blocks["a.example"] = true // it does not hear of the leave
	g.a.block(t, "b.example")
	g.settle()
	if now := g.a.epochOfRoom(t, g.at); now < 0 {
		t.Fatal("gone already")
	}
	g.a.w.now = g.a.w.now.Add(leaveTime)
	g.settle()
	if now := g.a.epochOfRoom(t, g.at); now != -1 {
		t.Errorf("still in epoch %d", now)
	}
}

// TestBlockedPeopleAreNotBroughtIn: a conversation into which others bring somebody of a blocked server is left; a Welcome to one with such people is refused.
func TestBlockedPeopleAreNotBroughtIn(t *testing.T) {
	g := newAPGroup(t)
	g.a.blocks["c.example"] = true
	g.invite(g.b, g.bt, g.bob, "@carol@c.example")
	g.settle()
	if got := count(g.a.hs.texts(g.at), "has blocked c.example"); got != 1 {
		t.Fatalf("told %d times: %q", got, g.a.hs.texts(g.at))
	}
	g.a.w.now = g.a.w.now.Add(timeToCommit)
	g.settle()
	if now := g.a.epochOfRoom(t, g.at); now != -1 {
		t.Errorf("the group is still here in epoch %d", now)
	}
	rooms := len(g.a.hs.order)
	if err := g.b.face.StartChat(context.Background(), g.bob, "@alice@a.example", "@carol@c.example"); err != nil {
		t.Fatal(err)
	}
	g.settle()
	if len(g.a.hs.order) != rooms {
		t.Error("a conversation with blocked people is joined")
	}
}

// TestChannelsAndBlockedServers: from a channel of ours the people of a blocked server are removed; a channel that a blocked server leads is left.
func TestChannelsAndBlockedServers(t *testing.T) {
	t.Run("ours", func(t *testing.T) {
		c := newChannelWorld(t)
		c.invite()
		c.a.block(t, "b.example")
		members, err := c.a.face.Members(context.Background(), c.token())
		if err != nil || len(members) != 1 {
			t.Errorf("%q %v", members, err)
		}
		if got := count(c.a.hs.texts(c.room), "has blocked b.example"); got != 1 {
			t.Errorf("told %d times", got)
		}
		if m := c.room.members["@acct_bob=40b.example:"+c.a.hs.server]; m != "leave" {
			t.Errorf("bob is %q", m)
		}
		if err := c.a.face.judgeAlone(t, c, "bob"); err == nil {
			t.Error("bob may be brought back")
		}
	})
	t.Run("theirs", func(t *testing.T) {
		c := newChannelWorld(t)
		c.invite()
		c.b.hs.invite(c.there, c.bob, c.carol)
		c.b.hs.join(c.there, c.carol)
		c.settle()
		channel := c.a.face.Site.Room(c.token())
		c.b.block(t, "a.example")
		c.settle()
		if got := c.epoch(c.b, store.NameActor, channel); got != -1 {
			t.Errorf("still in epoch %d: %q", got, c.b.hs.texts(c.there))
		}
		members, err := c.a.face.Members(context.Background(), c.token())
		if err != nil || len(members) != 1 {
			t.Errorf("%q %v", members, err)
		}
		if m := c.there.members[c.bob]; m != "join" {
			t.Errorf("bob is %q in the room", m)
		}
	})
}

// judgeAlone asks whether alice could add somebody of the other server.
func (a *ActivityPub) judgeAlone(t *testing.T, c *channelWorld, name string) error {
	t.Helper()
	id, err := store.ParseRoomID(c.token())
	c.must(err)
	return a.run(context.Background(), id, func(x *apStep) error {
		return x.judge(a.Site.User("alice"), []string{c.b.face.Site.User(name)}, nil)
	})
}
