package relay

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// These are rows of the security list (docs/activitypub.md) that need a whole bridge.

// TestWhatCameIsRememberedForAMonth (row "Replay"): a message and a question that come again within 30 days, in other activities or by another inbox, count once; what is
// remembered of them outlives every signature that could bring them again, and goes after that.
func TestWhatCameIsRememberedForAMonth(t *testing.T) {
	c, ctx := newChannelWorld(t), context.Background()
	c.invite()
	bob, channel := c.b.face.Site.User("bob"), c.a.face.Site.Room(c.token())
	thread, err := c.b.face.threadOf(ctx, store.DerivedRoomID("channel", channel))
	c.must(err)
	said, err := thread.Say(c.b.relay.Rand, bob, []byte(`{"type":"Note","id":"urn:uuid:1","content":"only once"}`))
	c.must(err)
	carol := c.b.face.Site.User("carol")
	follow := c.b.face.Site.Follow(ap.Envelope{ID: "f", Actor: carol}, channel).Marshal()
	room, err := store.ParseRoomID(c.token())
	c.must(err)
	n := 0
	send := func() {
		t.Helper()
		n++
		message := c.b.face.Site.ChannelMessage(ap.Envelope{ID: strings.Repeat("m", n), Actor: bob}, channel, said.Message).Marshal()
		for _, inbox := range []string{channel + "/inbox", c.a.face.Site.SharedInbox()} {
			if code := c.push(c.b, bob, inbox, message); code != 202 {
				t.Fatal(code)
			}
		}
		if code := c.push(c.b, carol, channel+"/inbox", follow); code != 202 {
			t.Fatal(code)
		}
		c.settle()
		c.hears(c.a.hs, c.room, "only once", 1)
	}
	remembered := func() int {
		t.Helper()
		total := 0
		for kind, key := range map[string]string{"ap": hashKey(said.Message), "ap-activity": c.b.face.Site.ObjectID("f")} {
			seen, err := c.a.db.WasSeen(ctx, room, kind, key)
			c.must(err)
			if seen {
				total++
			}
		}
		return total
	}
	send()
	send()
	for _, tc := range []struct {
		after time.Duration
		want  int
	}{{30 * 24 * time.Hour, 2}, {6 * 24 * time.Hour, 0}} {
		c.w.now = c.w.now.Add(tc.after)
		if _, err := c.a.db.Cleanup(ctx, store.DefaultRetention, c.w.now, 1000, 1); err != nil {
			t.Fatal(err)
		}
		if got := remembered(); got != tc.want {
			t.Errorf("%d of 2 remembered after %v more", got, tc.after)
		}
		if tc.want > 0 {
			send()
		}
	}
}

// TestNothingIsSaidBeforeAnInvitationIsTaken (row "Group stuffing"): whoever is added from outside is invited to a Matrix room, and until they have joined nothing goes out in
// their name, also not when they decline but that they leave.
func TestNothingIsSaidBeforeAnInvitationIsTaken(t *testing.T) {
	w := newWorld(t, "sqlite")
	places := map[string]string{}
	a, b := newAPNode(t, w, places, "a.example"), newAPNode(t, w, places, "b.example")
	alice, bob := a.hs.mxid("alice"), b.hs.mxid("bob")
	a.hs.users, b.hs.users = map[string]bool{alice: true}, map[string]bool{bob: true}
	ctx := context.Background()
	if err := a.face.StartChat(ctx, alice, "@bob@b.example"); err != nil {
		t.Fatal(err)
	}
	settleAP(t, a, b)
	at, bt := a.hs.roomOf(alice, "invite"), b.hs.roomOf(bob, "invite")
	a.hs.join(at, alice)
	a.hs.say(at, alice, "are you there?")
	settleAP(t, a, b)
	if m := bt.members[bob]; m != "invite" {
		t.Fatalf("bob is %q", m)
	}
	l, err := a.face.List(ctx, ap.BoxIn, a.face.Site.User("alice"), a.face.Site.User("alice"), "", 20)
	if err != nil || len(l.Items) != 0 {
		t.Errorf("%d activities came in the name of somebody who did not accept, %v", len(l.Items), err)
	}
	b.hs.leave(bt, bob)
	settleAP(t, a, b)
	w.now = w.now.Add(timeToCommit)
	settleAP(t, a, b)
	if m := at.members["@acct_bob=40b.example:"+a.hs.server]; m != "leave" {
		t.Errorf("after declining bob is %q", m)
	}
}

// TestLookupsForOthersAreBounded: what a request makes the bridge fetch of a domain waits for its turn; the request is refused for now, nothing is written, and it
// is taken when it comes again.
func TestLookupsForOthersAreBounded(t *testing.T) {
	c := newChannelWorld(t)
	c.must(c.a.face.StartChat(context.Background(), c.alice, "@bob@b.example"))
	rooms, err := c.a.db.Rooms(context.Background(), store.RoomID{}, 100)
	c.must(err)
	for _, r := range rooms {
		c.a.drain(r.ID)
	}
	rows := c.deliveries(c.a)
	if len(rows) == 0 {
		t.Fatal("nothing is to be sent")
	}
	alice := c.a.face.Site.User("alice")
	var turns []func()
	for range maxLooksPerDomain { // others ask for people of the same domain, which answers slowly
		done, err := c.b.face.looks.Begin(context.Background(), "http://www.a.example/somebody")
		c.must(err)
		turns = append(turns, done)
	}
	if code := c.push(c.a, alice, rows[0].Target, rows[0].Data); code != 429 {
		t.Errorf("beyond the bound: %d", code)
	}
	if c.b.hs.roomOf(c.bob, "invite") != nil {
		t.Error("somebody was invited by it")
	}
	for _, done := range turns {
		done()
	}
	if code := c.push(c.a, alice, rows[0].Target, rows[0].Data); code != 202 {
		t.Errorf("when it comes again: %d", code)
	}
	c.settle()
	if c.b.hs.roomOf(c.bob, "invite") == nil {
		t.Error("nobody was invited in the end")
	}
}
