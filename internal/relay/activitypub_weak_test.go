package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// TestAnActivityStandsWhereItBelongs: however many of ours an activity names, it stands among the messages of those alone who are in its conversation.
func TestAnActivityStandsWhereItBelongs(t *testing.T) {
	p, ctx := newAPPair(t), context.Background()
	room, _, err := p.b.face.Owns(ctx, p.bt.id)
	if err != nil {
		t.Fatal(err)
	}
	var octets []byte
	if err := p.b.face.run(ctx, room, func(x *apStep) error {
		e, err := x.thread.Say(x.Rand, p.bobID, []byte(`{"type":"Note","id":"urn:uuid:1","content":"to all"}`))
		if err == nil {
			x.apply(e)
			octets = e.Message
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	d := ap.Delivered{Activity: &ap.Activity{ID: p.bobID + "/many", Type: "Create", Actor: p.bobID, To: []string{p.aliceID}}, MLS: &ap.MLSObject{Bytes: octets}, Body: []byte(`{"id":"x"}`)}
	for n := range 900 {
		d.Activity.To = append(d.Activity.To, p.a.face.Site.User(fmt.Sprint("user", n)))
	}
	count := func(actor string) int {
		t.Helper()
		l, err := p.a.face.List(ctx, ap.BoxIn, actor, actor, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		return l.Total
	}
	before := count(p.aliceID)
	if fresh, err := p.a.face.Receive(ctx, d); err != nil || !fresh {
		t.Fatal(fresh, err)
	}
	if got := count(p.aliceID); got != before+1 {
		t.Errorf("alice has %d of %d", got, before+1)
	}
	if got := count(p.a.face.Site.User("user7")); got != 0 {
		t.Errorf("somebody who is not there has %d", got)
	}
	if list, ok := p.a.face.receivedActivity(d, func(string) bool { return true }); !ok || len(list.Lists) > maxReceivers {
		t.Errorf("%d places", len(list.Lists))
	}
}

// TestOneKnockForManyQuestions: who asks again and again to be let into a channel whose room can be knocked at, knocks once.
func TestOneKnockForManyQuestions(t *testing.T) {
	c := newChannelWorld(t)
	c.a.hs.set(c.room, c.alice, event.TypeJoinRules, map[string]string{"join_rule": "knock"})
	c.settle()
	carol, channel := c.b.face.Site.User("carol"), c.a.face.Site.Room(c.token())
	knocks := 0
	for n := range 5 {
		follow := c.b.face.Site.Follow(ap.Envelope{ID: fmt.Sprint("f", n), Actor: carol}, channel)
		if code := c.push(c.b, carol, channel+"/inbox", follow.Marshal()); code != 202 {
			t.Fatal(code)
		}
		id, err := store.ParseRoomID(c.token())
		c.must(err)
		c.a.drain(id)
		lanes, err := c.a.db.DueLanes(context.Background(), "test", 100)
		c.must(err)
		for _, l := range lanes {
			head, err := c.a.db.LaneRows(context.Background(), l, 100, 1<<20)
			c.must(err)
			for _, row := range head.Rows {
				if row.Verb == string(event.VerbKnock) {
					knocks++
				}
			}
		}
		c.settle()
	}
	if knocks != 1 {
		t.Errorf("%d knocks", knocks)
	}
}

// TestKeysAreMadeOnce: of many who need the key of an actor at once all get the same, and it is the one that is stored.
func TestKeysAreMadeOnce(t *testing.T) {
	n, ctx := newAPNode(t, newWorld(t, "sqlite"), map[string]string{}, "a.example"), context.Background()
	actor := n.face.Site.User("alice")
	made, client := make([]string, 8), make([]string, 8)
	var all sync.WaitGroup
	for i := range made {
		all.Go(func() {
			pem, err := n.face.pem(ctx, actor)
			key, keyErr := n.face.clientKey(ctx, actor)
			if err != nil || keyErr != nil {
				t.Error(err, keyErr)
				return
			}
			made[i], client[i] = pem, string(key.Public())
		})
	}
	all.Wait()
	pem, err := n.face.pem(ctx, actor)
	if err != nil {
		t.Fatal(err)
	}
	for i := range made {
		if made[i] != pem || client[i] != client[0] {
			t.Errorf("number %d has another key", i)
		}
	}
}

// TestKeysOfOthersAreNotWaitedFor: while the key of one actor is made, those of others are had.
func TestKeysOfOthersAreNotWaitedFor(t *testing.T) {
	n, ctx := newAPNode(t, newWorld(t, "sqlite"), map[string]string{}, "a.example"), context.Background()
	begun, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := n.face.secret(ctx, "slow", func() ([]byte, error) { close(begun); <-goOn; return []byte("x"), nil })
		done <- err
	}()
	<-begun
	if _, err := n.face.Key(ctx, n.face.Site.User("bob")); err != nil {
		t.Error(err)
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestWhatPeopleAreTold: errors of other servers and of the database reach nobody who gives a command, but in words.
func TestWhatPeopleAreTold(t *testing.T) {
	n := newAPNode(t, newWorld(t, "sqlite"), map[string]string{}, "a.example")
	inner := errors.New("dial tcp 10.0.0.7:443: sqlite /var/lib")
	for text, err := range map[string]error{
		"their server does not answer":                     fmt.Errorf("%w: https://x.example/: %w", ap.ErrFetch, inner),
		"nobody there goes by that name":                   fmt.Errorf("%w: %w: %w", ap.ErrFetch, ap.ErrGone, inner),
		"their server answers what is not understood here": fmt.Errorf("%w: %w: %w", ap.ErrFetch, ap.ErrUnfit, inner),
		"the server is blocked":                            fmt.Errorf("%w: %w: %w", ap.ErrUnfit, ap.ErrBlocked, inner),
		"something went wrong here: try again later":       inner,
		"@x@y cannot take encrypted messages":              fmt.Errorf("%w: @x@y cannot take encrypted messages", ErrRefused),
	} {
		got := n.face.tell(err)
		if got == nil || got.Error() != text || !errors.Is(got, err) {
			t.Errorf("%v is told as %v", err, got)
		}
	}
	for _, err := range []error{nil, ErrNoChannel, context.Canceled} {
		if n.face.tell(err) != err { //nolint:errorlint // the very same
			t.Errorf("%v became another", err)
		}
	}
	if _, err := n.face.Fingerprints(context.Background(), n.hs.mxid("alice"), "@bob@nowhere.example"); err == nil || strings.Contains(err.Error(), "dial") || strings.Contains(err.Error(), "http") {
		t.Errorf("shown: %v", err)
	}
	if err := n.face.StartChat(context.Background(), n.hs.mxid("alice"), "no account"); err == nil || !errors.Is(err, mapping.ErrIdentifier) {
		t.Errorf("shown: %v", err)
	}
}
