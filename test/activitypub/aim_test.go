package activitypub

import (
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// TestTwoBridgesOverAIM: a channel at one, members at both: Create with its Welcome, messages through the channel, Add and Remove with
// their commits, a commit that comes too late. S000-061 … S000-078.
func TestTwoBridgesOverAIM(t *testing.T) {
	a, b := newBridge(t, "alice"), newBridge(t, "bob", "carol")
	defer a.passing.Wait()
	alice, bob, carol := a.site.User("alice"), b.site.User("bob"), b.site.User("carol")
	room := a.site.Room("x")
	a.addActor(room)
	const group = "mimi://a.example/r/x"
	_, own := a.newPackage(alice)
	_, kp := a.claim("bob@" + b.site.Host())
	thread, e, err := ap.StartThread(rand.Reader, time.Now(), config, group, room, a.mlsKeys[room], []*mls.KeyPackage{own.KeyPackage, kp}, false)
	if err != nil {
		t.Fatal(err)
	}
	w, _, _ := ap.ParseMLS(e.Welcome)
	if _, err := thread.JoinMore(time.Now(), w.Welcome, []mls.JoinKey{own}); err != nil {
		t.Fatal(err)
	}
	channel := &ap.Channel{Thread: thread, ID: room}
	a.channels[room], a.threads[group] = channel, thread
	a.post(room, ap.Post{Inbox: bob + "/inbox", Body: a.site.ChannelCreate(ap.Envelope{ID: a.id(), Actor: room, To: []string{bob}}, room, "MIMI discussion group", e.Welcome)})
	if e := b.effect(); len(e.Joined) != 3 {
		t.Fatalf("%+v", e)
	}
	there := b.threads[group]

	// Alice's words come from the channel.
	said, err := thread.Say(rand.Reader, alice, note(alice, "welcome").Marshal(false))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range a.site.FanOut(ap.Envelope{ID: a.id(), Actor: room}, alice, nil, said.Message, a.recipients(channel.Actors())) {
		a.post(room, p)
	}
	if s := b.hears(); s.Sender != alice {
		t.Fatal(s.Sender)
	}
	// Bob's go to the channel, addressed to its followers.
	say := func(actor, text string) int {
		e, err := there.Say(rand.Reader, actor, note(actor, text).Marshal(false))
		if err != nil {
			t.Fatal(err)
		}
		return b.post(actor, ap.Post{Inbox: room + "/inbox", Body: b.site.ChannelMessage(ap.Envelope{ID: b.id(), Actor: actor}, room, e.Message)})
	}
	if code := say(bob, "hello"); code != 202 {
		t.Fatal(code)
	}
	if s := a.hears(); s.Sender != bob || contentOf(t, s).Item.Content != "hello" {
		t.Fatalf("%+v", s)
	}
	// Bob adds Carol; meanwhile the channel's own commit takes the epoch: his comes too late.
	token, ck := b.newPackage(carol)
	delete(b.packages, token) // she is added by her own bridge, which does not wait for the channel to send her the Welcome
	lost, err := there.Stage(rand.Reader, time.Now(), bob, []*mls.KeyPackage{ck.KeyPackage}, nil)
	if err != nil {
		t.Fatal(err)
	}
	won, err := thread.Commit(rand.Reader, time.Now(), room, nil, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	add := func(commit, welcome []byte) int {
		return b.post(bob, ap.Post{Inbox: room + "/inbox", Body: b.site.ChannelAdd(ap.Envelope{ID: b.id(), Actor: bob}, room, carol, commit, welcome)})
	}
	if code := add(lost.Commit(), lost.Welcome()); code != 409 {
		t.Fatal(code)
	}
	for _, p := range a.site.FanOut(ap.Envelope{ID: a.id(), Actor: room}, room, nil, won.Commit, a.recipients(channel.Actors())) {
		a.post(room, p)
	}
	b.effect()
	again, err := there.Commit(rand.Reader, time.Now(), bob, []*mls.KeyPackage{ck.KeyPackage}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if code := add(again.Commit, again.Welcome); code != 202 {
		t.Fatal(code)
	}
	if e := a.effect(); !slices.Equal(e.Joined, []string{carol}) {
		t.Fatalf("%+v", e)
	}
	wm, _, _ := ap.ParseMLS(again.Welcome)
	if _, err := there.JoinMore(time.Now(), wm.Welcome, []mls.JoinKey{ck}); err != nil {
		t.Fatal(err)
	}
	if code := say(carol, "I am here"); code != 202 {
		t.Fatal(code)
	}
	if s := a.hears(); s.Sender != carol {
		t.Fatal(s.Sender)
	}
	gone, err := there.Commit(rand.Reader, time.Now(), bob, nil, []string{carol}, false)
	if err != nil {
		t.Fatal(err)
	}
	if code := b.post(bob, ap.Post{Inbox: room + "/inbox", Body: b.site.ChannelRemove(ap.Envelope{ID: b.id(), Actor: bob}, room, carol, gone.Commit)}); code != 202 {
		t.Fatal(code)
	}
	if e := a.effect(); !slices.Equal(e.Left, []string{carol}) {
		t.Fatalf("%+v", e)
	}
	if code := b.post(carol, ap.Post{Inbox: room + "/inbox", Body: b.site.ChannelMessage(ap.Envelope{ID: b.id(), Actor: carol}, room, gone.Commit)}); code != 403 {
		t.Fatal(fmt.Sprint("somebody who left: ", code))
	}
}
