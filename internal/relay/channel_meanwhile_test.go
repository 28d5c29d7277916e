package relay

import (
	"context"
	"slices"
	"testing"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// TestWhoLeavesAChannelBeforeTheyAreIn: while the channel's server is away, somebody comes into the portal and goes again, or is put out. They are not invited when it
// is back, and are not in the channel.
func TestWhoLeavesAChannelBeforeTheyAreIn(t *testing.T) {
	for _, gone := range []string{"leave", "kick"} {
		c := newChannelWorld(t)
		c.invite()
		c.b.away = true
		c.carolComes()
		c.settle()
		before := len(c.there.timeline)
		if gone == "leave" {
			c.b.hs.leave(c.there, c.carol)
		} else {
			c.b.hs.kick(c.there, c.bob, c.carol)
		}
		c.settle()
		c.b.away = false
		c.settle()
		for _, ev := range c.there.timeline[before+1:] {
			if ev.typ == event.TypeMember && *ev.key == c.carol {
				t.Errorf("after a %s %s did %s to carol", gone, ev.sender, ev.content)
			}
		}
		members, err := c.a.face.Members(context.Background(), c.token())
		if len(members) != 2 || err != nil {
			t.Errorf("after a %s followers are %q %v", gone, members, err)
		}
		c.carolComes()
		c.b.hs.say(c.there, c.carol, "here I am")
		c.settle()
		c.hears(c.a.hs, c.room, "here I am", 1)
	}
}

// TestWhoComesBackToAChannelBeforeTheyAreOut: somebody leaves and comes back while the channel's server is away. They stay.
func TestWhoComesBackToAChannelBeforeTheyAreOut(t *testing.T) {
	c := newChannelWorld(t)
	c.invite()
	c.carolComes()
	c.settle()
	c.b.away = true
	c.b.hs.leave(c.there, c.carol)
	c.settle()
	c.carolComes()
	c.settle()
	c.b.away = false
	c.settle()
	if got := c.there.members[c.carol]; got != "join" {
		t.Errorf("carol's membership is %q", got)
	}
	if members, _ := c.a.face.Members(context.Background(), c.token()); !slices.Contains(members, c.b.face.Site.User("carol")) {
		t.Errorf("followers are %q", members)
	}
	c.b.hs.say(c.there, c.carol, "I am back")
	c.settle()
	c.hears(c.a.hs, c.room, "I am back", 1)
}
