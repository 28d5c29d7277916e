package crash

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/killpoint"
	"github.com/matrix-mimi/bridge/test/fakes"
	"github.com/matrix-mimi/bridge/test/fakes/stage"
)

// The hub is killed when one of two followers has a message and the other has not (K34): both get it, once.
func TestKilledBetweenFollowers(t *testing.T) {
	const third = "c.example"
	th := newTheatre(t, buildBridge(t), nil, third)
	th.n = 1
	ctx, cancel := context.WithTimeout(t.Context(), roundLimit)
	defer cancel()
	a, b, c := th.stage.Bridges[hub], th.stage.Bridges[follower], th.stage.Bridges[third]
	must := func(err error) {
		if t.Helper(); err != nil {
			t.Fatalf("%v\n%s", err, a.Process().LogTail(4000))
		}
	}
	alice := a.Homeserver.Register("alice")
	room := a.Homeserver.Create(alice, "Three")
	guests := map[*stage.Bridge]string{b: b.Homeserver.Register("bob"), c: c.Homeserver.Register("carla")}
	portals := map[*stage.Bridge]string{}
	for guest, local := range map[*stage.Bridge]string{b: "bob", c: "carla"} {
		ghost := a.Ghost(guest.Domain, local)
		must(a.Homeserver.Act(room, "invite", alice, ghost))
		must(guest.Homeserver.Wait(ctx, "the invitation", func() bool {
			portals[guest] = guest.Homeserver.RoomOf(guests[guest], "invite")
			return portals[guest] != ""
		}))
		must(guest.Homeserver.Act(portals[guest], "join", guests[guest], guests[guest]))
		must(a.Homeserver.Wait(ctx, "the guest", func() bool { return a.Homeserver.Member(room, ghost) == "join" }))
	}
	count := func(at *stage.Bridge, in, text string) (n int) {
		for _, said := range at.Homeserver.Texts(in) {
			if said.Body == text {
				n++
			}
		}
		return n
	}
	heard := func(text string, by ...*stage.Bridge) {
		t.Helper()
		for _, x := range by {
			must(x.Homeserver.Wait(ctx, text, func() bool { return count(x, portals[x], text) > 0 }))
		}
	}
	a.Homeserver.Say(room, alice, "before")
	heard("before", b, c)
	for _, x := range th.stage.Bridges {
		must(quiet(ctx, x))
	}
	for _, late := range []*stage.Bridge{b, c} {
		text, early := "half "+late.Domain, b
		if late == b {
			early = c
		}
		must(th.restart(hub, killpoint.Env+"=K34:1"))
		late.Link.Hold()
		a.Homeserver.Say(room, alice, text)
		select {
		case <-a.Process().Done():
		case <-ctx.Done():
			late.Link.Release()
			t.Fatal("the hub was not killed at K34")
		}
		if err := a.Process().Err(); !diedOfSIGKILL(err) {
			t.Errorf("the hub ended with %v", err)
		}
		heard(text, early)
		if n := count(late, portals[late], text); n != 0 {
			t.Errorf("%s has what was held up", late.Domain)
		}
		late.Link.Release()
		must(a.Start(ctx))
		heard(text, late)
	}
	b.Homeserver.Say(portals[b], guests[b], "after")
	heard("after", c)
	must(a.Homeserver.Wait(ctx, "after", func() bool { return count(a, room, "after") > 0 }))
	for _, x := range th.stage.Bridges {
		must(x.Homeserver.Wait(ctx, "all events to be taken", x.Homeserver.Idle))
		must(quiet(ctx, x))
		reused, err := th.made.note(ctx, x)
		must(err)
		if len(reused) > 0 {
			t.Errorf("generations were used for two ciphertexts: %q", reused)
		}
	}
	for _, text := range []string{"before", "half " + follower, "half " + third} {
		for _, x := range []*stage.Bridge{b, c} {
			if n := count(x, portals[x], text); n != 1 {
				t.Errorf("%q is %d times at %s", text, n, x.Domain)
			}
		}
	}
	th.close()
}

// talking begins a round in which a user of each bridge talks; must ends the test at an error, with the last of what the bridges logged.
func talking(t *testing.T) (th *theatre, r *round, must func(error)) {
	t.Helper()
	th = newTheatre(t, buildBridge(t), nil)
	th.n = 1
	ctx, cancel := context.WithTimeout(t.Context(), roundLimit)
	t.Cleanup(cancel)
	r = &round{ctx: ctx, n: th.n, a: th.stage.Bridges[hub], b: th.stage.Bridges[follower], made: th.made}
	r.names()
	must = func(err error) {
		if t.Helper(); err != nil {
			t.Fatalf("%v\n%s\n%s", err, r.a.Process().LogTail(4000), r.b.Process().LogTail(4000))
		}
	}
	must(r.invite())
	must(r.talk(1))
	return th, r, must
}

// A bridge that is told to stop while people talk ends within 20 s and without an error, whichever it is, and what was said is in
// the room once when it is there again.
func TestStopWhilePeopleTalk(t *testing.T) {
	th, r, must := talking(t)
	speak := func() {
		for range 30 {
			r.say(r.alice, r.aliceAtB, true)
			r.say(r.bob, r.bobAtA, false)
		}
	}
	for _, domain := range []string{hub, follower} {
		speak()
		began := time.Now()
		must(th.stage.Bridges[domain].Stop()) // an error when it takes longer, or ends with another exit code than 0
		t.Logf("%s stopped in %v", domain, time.Since(began))
		speak()
		must(th.stage.Bridges[domain].Start(r.ctx))
		must(r.heard())
	}
	for _, b := range th.stage.Bridges {
		must(r.wait(b.Homeserver, "all events to be taken", b.Homeserver.Idle))
		must(quiet(r.ctx, b))
		if n := b.Homeserver.Repeats(); n > 0 {
			t.Errorf("%s sent %d messages again that its homeserver had acknowledged", b.Domain, n)
		}
	}
	v := r.audit()
	if v.lost+v.doubled+v.reused > 0 {
		t.Errorf("%d lost, %d doubled, %d reused: %q", v.lost, v.doubled, v.reused, v.notes)
	}
	th.close()
}

// delivered waits until a bridge has the answers of other providers to all that it sent them.
func delivered(r *round, b *stage.Bridge) error {
	db, err := b.Database()
	if err != nil {
		return err
	}
	defer db.Close()
	return poll(r.ctx, "the answers of the other provider", r.stir, func() (bool, error) {
		left, err := stage.Count(r.ctx, db, `SELECT COUNT(*) FROM outbound WHERE dest LIKE 'mimi:%'`)
		return left == 0, err
	})
}

// It ends in time also while its homeserver and the other provider take requests and do not answer them, and what was on its way
// is in the rooms once.
func TestStopWhileNobodyAnswers(t *testing.T) {
	th, r, must := talking(t)
	for _, victim := range []*stage.Bridge{r.a, r.b} {
		other := r.a
		if victim == r.a {
			other = r.b
		}
		var silent atomic.Int64
		victim.Homeserver.SetFault(func(q *http.Request) fakes.Fault {
			if strings.Contains(q.URL.Path, "/send/") {
				silent.Add(1)
				return fakes.NoAnswer
			}
			return fakes.Fine
		})
		if victim == r.a {
			r.say(r.bob, r.bobAtA, false)
		} else {
			r.say(r.alice, r.aliceAtB, true)
		}
		must(poll(r.ctx, "a request that is not answered", r.stir, func() (bool, error) { return silent.Load() > 0, nil }))
		must(delivered(r, victim)) // what the other provider had before may be answered late
		other.Link.Hold()
		asked := other.Link.Answered.Load()
		r.say(r.alice, r.aliceAtB, true)
		r.say(r.bob, r.bobAtA, false)
		must(r.wait(victim.Homeserver, "all events to be taken", victim.Homeserver.Idle))
		began := time.Now()
		err := victim.Stop()
		t.Logf("%s stopped in %v", victim.Domain, time.Since(began))
		if other.Link.Answered.Load() != asked {
			t.Error("the other provider answered")
		}
		other.Link.Release()
		must(err)
		victim.Homeserver.SetFault(nil)
		must(victim.Start(r.ctx))
		must(r.heard())
	}
	for _, b := range th.stage.Bridges {
		must(quiet(r.ctx, b))
	}
	v := r.audit()
	if v.lost+v.doubled+v.reused > 0 {
		t.Errorf("%d lost, %d doubled, %d reused: %q", v.lost, v.doubled, v.reused, v.notes)
	}
	th.close()
}
