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

// TestTheLastComesBackToAChannelBeforeTheyAreOut: the last of a server leaves, which only the channel can commit, and comes back, by themselves or by the bot, before it
// has. Nobody of theirs is left to bring them in again, so they ask the channel: where its room lets everybody in they stay, otherwise they are put out and told.
func TestTheLastComesBackToAChannelBeforeTheyAreOut(t *testing.T) {
	for _, rule := range []string{"public", "invite"} {
		for _, by := range []string{"themselves", "the bot"} {
			c := newChannelWorld(t)
			c.a.hs.set(c.room, c.alice, event.TypeJoinRules, map[string]string{"join_rule": rule})
			c.invite()
			_, st, err := c.a.face.hostedRoom(context.Background(), c.token())
			c.must(err)
			c.b.away = true
			c.b.hs.leave(c.there, c.bob)
			c.settle()
			if by == "the bot" {
				c.must(c.b.face.JoinChannel(context.Background(), c.bob, "@"+st.Account+"@a.example"))
			} else {
				c.b.hs.invite(c.there, c.b.hs.mxid("admin"), c.bob)
			}
			c.settle()
			if by == "the bot" && c.there.members[c.bob] != "invite" {
				t.Fatalf("bob's membership is %q", c.there.members[c.bob])
			}
			c.b.hs.join(c.there, c.bob)
			c.settle()
			before := len(c.there.timeline)
			c.b.away = false
			c.settle()
			want := map[string]string{"public": "join", "invite": "leave"}[rule]
			if got := c.there.members[c.bob]; got != want {
				t.Errorf("%s, by %s: bob's membership is %q", rule, by, got)
			}
			moved := 0
			for _, ev := range c.there.timeline[before:] {
				if ev.typ == event.TypeMember && *ev.key == c.bob {
					moved++
				}
			}
			if moved > 1 || rule == "public" && moved > 0 {
				t.Errorf("%s, by %s: bob was moved %d times", rule, by, moved)
			}
			if rule == "public" {
				c.b.hs.say(c.there, c.bob, "I am back")
				c.settle()
				c.hears(c.a.hs, c.room, "I am back", 1)
			}
			if members, err := c.a.face.Members(context.Background(), c.token()); err != nil || slices.Contains(members, c.b.face.Site.User("bob")) != (rule == "public") {
				t.Errorf("%s, by %s: followers are %q %v", rule, by, members, err)
			}
		}
	}
}
