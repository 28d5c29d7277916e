package relay

import (
	"context"
	"slices"
	"testing"

	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// TestWhoInvitesIsToldThatAChannelRefuses: a member without the power invites somebody of their server, who comes and speaks, and somebody of the channel's server.
// The channel refuses both. Who invited is told whom it is about, and nobody stays in the Matrix room who is not in the channel.
func TestWhoInvitesIsToldThatAChannelRefuses(t *testing.T) {
	c := newChannelWorld(t)
	c.invite()
	c.a.hs.set(c.room, c.alice, event.TypePowerLevels, map[string]any{"invite": 50, "users": map[string]int{c.alice: 100, c.a.hs.mxid("mimibot"): 100}})
	c.settle()
	c.carolComes()
	c.b.hs.say(c.there, c.carol, "am I in?")
	c.settle()
	told := "notice mimibot: " + c.b.face.Site.User("carol") + " could not be added: the channel does not allow it."
	if got := c.b.hs.texts(c.there); !slices.Contains(got, told) {
		t.Errorf("who invited is told %q", got)
	}
	if got := c.b.hs.joined(c.there); slices.Contains(got, c.carol) {
		t.Errorf("joined are %q", got)
	}
	c.hears(c.a.hs, c.room, "am I in?", 0)

	c.must(c.b.face.InviteToChannel(context.Background(), c.there.id, c.bob, "@dave@a.example", ""))
	c.settle()
	told = "notice mimibot: " + c.a.face.Site.User("dave") + " could not be added: the channel does not allow it."
	if got := c.b.hs.texts(c.there); !slices.Contains(got, told) {
		t.Errorf("who invited is told %q", got)
	}
	members, err := c.a.face.Members(context.Background(), c.token())
	if len(members) != 2 || err != nil {
		t.Errorf("followers are %q %v", members, err)
	}

	// A removal that is refused: the ghost comes back.
	alice := "@acct_alice=40a.example:" + c.b.hs.server
	c.b.hs.kick(c.there, c.bob, alice)
	c.settle()
	if got := c.b.hs.joined(c.there); !slices.Contains(got, alice) {
		t.Errorf("joined are %q: %q", got, c.b.hs.texts(c.there))
	}
	c.b.hs.say(c.there, c.bob, "still here")
	c.settle()
	c.hears(c.a.hs, c.room, "still here", 1)
}

// TestAChannelThatKeepsItsName: a change of name and topic that the channel refuses goes back in Matrix, and who made it is told; one that it allows stays.
func TestAChannelThatKeepsItsName(t *testing.T) {
	c := newChannelWorld(t)
	c.invite()
	was := c.there.str(event.TypeTopic, "topic")
	c.b.hs.set(c.there, c.bob, event.TypeName, map[string]string{"name": "Bob's garden"})
	c.b.hs.set(c.there, c.bob, event.TypeTopic, map[string]string{"topic": "Bob's plants"})
	c.settle()
	if name, topic := c.there.str(event.TypeName, "name"), c.there.str(event.TypeTopic, "topic"); name != "Garden" || topic != was {
		t.Errorf("the portal is called %q, its topic is %q", name, topic)
	}
	texts := c.b.hs.texts(c.there)
	for _, what := range []string{"name", "topic"} {
		if told := "notice mimibot: The " + what + " of this room was not changed: the channel does not allow it."; !slices.Contains(texts, told) {
			t.Errorf("who changed the %s is told %q", what, texts)
		}
	}
	if name := c.room.str(event.TypeName, "name"); name != "Garden" {
		t.Errorf("the channel is called %q", name)
	}
	ghost := "@acct_bob=40b.example:" + c.a.hs.server
	c.a.hs.set(c.room, c.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{c.alice: 100, c.a.hs.mxid("mimibot"): 100, ghost: 50}})
	c.settle()
	c.b.hs.set(c.there, c.bob, event.TypeName, map[string]string{"name": "Our garden"})
	c.settle()
	if here, there := c.room.str(event.TypeName, "name"), c.there.str(event.TypeName, "name"); here != "Our garden" || there != "Our garden" {
		t.Errorf("the channel is called %q, the portal %q", here, there)
	}
}

// TestWhoLeavesAChannelIsNotAskedBack: a channel that does not let one of ours take another out, as those of other software may not. Who left by themselves goes by
// what their own client proposes, and is not invited again.
func TestWhoLeavesAChannelIsNotAskedBack(t *testing.T) {
	c := newChannelWorld(t)
	c.invite()
	c.carolComes()
	c.settle()
	c.a.face.mu.Lock()
	for id, p := range c.a.face.known {
		p.Dialect = ap.DialectE2EE
		c.a.face.known[id] = p
	}
	c.a.face.mu.Unlock()
	c.b.hs.leave(c.there, c.carol)
	c.settle()
	if got := c.there.members[c.carol]; got != "leave" {
		t.Errorf("carol's membership is %q", got)
	}
	if got := c.b.hs.texts(c.there); len(got) > 0 {
		t.Errorf("people are told %q", got)
	}
	if members, err := c.a.face.Members(context.Background(), c.token()); len(members) != 2 || err != nil {
		t.Errorf("followers are %q %v", members, err)
	}
}

// TestAChannelKeepsWhomAPortalBans: a ban that the channel does not follow is lifted, and what its person says is shown.
func TestAChannelKeepsWhomAPortalBans(t *testing.T) {
	c := newChannelWorld(t)
	c.invite()
	alice := "@acct_alice=40a.example:" + c.b.hs.server
	c.b.hs.ban(c.there, c.bob, alice)
	c.settle()
	if got := c.there.members[alice]; got != "join" {
		t.Errorf("alice's membership is %q", got)
	}
	told := []string{"notice mimibot: " + c.a.face.Site.User("alice") + " was not removed: the channel does not allow it."}
	if got := c.b.hs.texts(c.there); !slices.Equal(got, told) {
		t.Errorf("people are told %q", got)
	}
	c.a.hs.say(c.room, c.alice, "hello")
	c.settle()
	c.hears(c.b.hs, c.there, "hello", 1)
}

// TestSeveralChangesThatAChannelRefuses: the portal shows what the channel has, not one of the names that it refused.
func TestSeveralChangesThatAChannelRefuses(t *testing.T) {
	c := newChannelWorld(t)
	c.invite()
	rename := func(names ...string) {
		t.Helper()
		for _, name := range names {
			c.b.hs.set(c.there, c.bob, event.TypeName, map[string]string{"name": name})
		}
		c.settle()
		if name := c.there.str(event.TypeName, "name"); name != "Garden" {
			t.Errorf("after %q the portal is called %q", names, name)
		}
	}
	rename("One", "Two")
	rename("One", "Garden", "One")
	rename("Three")
}
