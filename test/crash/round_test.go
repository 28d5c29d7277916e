package crash

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/test/fakes"
	"github.com/matrix-mimi/bridge/test/fakes/stage"
)

// Domains of the bridges: the hub of every room, and the follower.
const hub, follower = "a.example", "b.example"

// waitLimit is how long a wait goes on without anything happening. As long as something does the round's own limit holds:
// on a machine with much else to do everything takes longer.
const waitLimit = 40 * time.Second

// round is one conversation in a room of its own.
type round struct {
	ctx  context.Context
	n    int
	a, b *stage.Bridge
	// room at the hub's homeserver, portal at the follower's
	room, portal      string
	alice, carol, bob string
	dave, eve         string
	aliceAtB, bobAtA  string
	carolAtB          string
	daveAtA, eveAtA   string
	said              []line
	texts             int
	where             string
	lastName          string
	made              *made
	reused            []string
}

// line is something that was said while both sides were in the room.
type line struct {
	text     string
	from     string // user where it was said
	ghost    string // who says it on the other side
	fromHub  bool
	position int
}

func (r *round) play() error {
	r.names()
	for _, step := range []struct {
		name string
		play func() error
	}{
		{"invite", r.invite}, {"talk", func() error { return r.talk(2) }}, {"burst", r.burst}, {"rename", r.rename}, {"second user", r.second}, {"kick", r.kick},
		{"leave and return", r.leave}, {"collision", r.collide}, {"last words", func() error { return r.talk(2) }},
	} {
		r.where = step.name
		if err := step.play(); err != nil {
			return fmt.Errorf("round %d, %s: %w", r.n, step.name, err)
		}
	}
	return nil
}

func (r *round) names() {
	name := func(who string) string { return fmt.Sprintf("%s%d", who, r.n) }
	r.alice, r.carol = r.a.Homeserver.Register(name("alice")), r.a.Homeserver.Register(name("carol"))
	r.bob, r.dave, r.eve = r.b.Homeserver.Register(name("bob")), r.b.Homeserver.Register(name("dave")), r.b.Homeserver.Register(name("eve"))
	r.aliceAtB, r.carolAtB = r.b.Ghost(hub, name("alice")), r.b.Ghost(hub, name("carol"))
	r.bobAtA, r.daveAtA, r.eveAtA = r.a.Ghost(follower, name("bob")), r.a.Ghost(follower, name("dave")), r.a.Ghost(follower, name("eve"))
}

// wait waits for a condition at one homeserver.
func (r *round) wait(h *fakes.Homeserver, what string, holds func() bool) error {
	ctx, cancel := patient(r.ctx, r.stir)
	defer cancel()
	return h.Wait(ctx, what, holds)
}

// stir is a number that changes while something happens: at the homeservers, or between the bridges.
func (r *round) stir() int64 {
	n := r.a.Homeserver.Changes() + r.b.Homeserver.Changes()
	for _, b := range []*stage.Bridge{r.a, r.b} {
		n += b.Link.Asked.Load() + b.Link.Answered.Load()
	}
	return n
}

// patient is a context that ends when a number has not changed for waitLimit.
func patient(ctx context.Context, stir func() int64) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(waitLimit / 40)
		defer tick.Stop()
		last, since := stir(), time.Now()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if n := stir(); n != last {
				last, since = n, time.Now()
			} else if time.Since(since) > waitLimit {
				cancel(fmt.Errorf("nothing happened for %v", waitLimit))
				return
			}
		}
	}()
	return ctx, func() {
		close(done)
		cancel(nil)
	}
}

func (r *round) member(b *stage.Bridge, room, user, want string) error {
	return r.wait(b.Homeserver, fmt.Sprintf("%s to be %s in %s", user, want, room), func() bool { return b.Homeserver.Member(room, user) == want })
}

// invite: alice makes a room, carol comes in, bob is invited across.
func (r *round) invite() error {
	h := r.a.Homeserver
	r.room = h.Create(r.alice, fmt.Sprintf("Room %d", r.n))
	for _, act := range [][3]string{{"invite", r.alice, r.carol}, {"join", r.carol, r.carol}, {"invite", r.alice, r.bobAtA}} {
		if err := h.Act(r.room, act[0], act[1], act[2]); err != nil {
			return err
		}
	}
	err := r.wait(r.b.Homeserver, "bob's invitation", func() bool {
		r.portal = r.b.Homeserver.RoomOf(r.bob, "invite")
		return r.portal != ""
	})
	if err != nil {
		return err
	}
	if err := r.b.Homeserver.Act(r.portal, "join", r.bob, r.bob); err != nil {
		return err
	}
	return r.member(r.a, r.room, r.bobAtA, "join")
}

// say lets a person say something that the other side must see.
func (r *round) say(who, ghost string, atHub bool) {
	r.texts++
	l := line{text: fmt.Sprintf("round %d line %d", r.n, r.texts), from: who, ghost: ghost, fromHub: atHub, position: r.texts}
	r.said = append(r.said, l)
	if atHub {
		r.a.Homeserver.Say(r.room, who, l.text)
	} else {
		r.b.Homeserver.Say(r.portal, who, l.text)
	}
}

// heard waits until everything that was said is seen on the other side.
func (r *round) heard() error {
	for _, atHub := range []bool{true, false} {
		b, room := r.a, r.room
		if atHub {
			b, room = r.b, r.portal
		}
		err := r.wait(b.Homeserver, "everything that was said", func() bool {
			have := map[string]bool{}
			for _, t := range b.Homeserver.Texts(room) {
				have[t.Body] = true
			}
			for _, l := range r.said {
				if l.fromHub == atHub && !have[l.text] {
					return false
				}
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	for _, b := range []*stage.Bridge{r.a, r.b} {
		reused, err := r.made.note(r.ctx, b)
		if err != nil {
			return err
		}
		r.reused = append(r.reused, reused...)
	}
	return nil
}

// talk lets alice, bob and carol speak, several at once.
func (r *round) talk(times int) error {
	for range times {
		r.say(r.alice, r.aliceAtB, true)
		r.say(r.bob, r.bobAtA, false)
		r.say(r.carol, r.carolAtB, true)
		r.say(r.alice, r.aliceAtB, true)
		r.say(r.bob, r.bobAtA, false)
		if err := r.heard(); err != nil {
			return err
		}
	}
	return nil
}

// burst lets bob say more at once than goes to the hub one by one.
func (r *round) burst() error {
	for range 15 {
		r.say(r.bob, r.bobAtA, false)
	}
	return r.heard()
}

func (r *round) name(name string) error {
	r.lastName = name
	r.a.Homeserver.Set(r.room, r.alice, "m.room.name", map[string]any{"name": name})
	return r.wait(r.b.Homeserver, "the new name", func() bool { return r.b.Homeserver.State(r.portal, "m.room.name", "name") == name })
}

func (r *round) rename() error { return r.name(fmt.Sprintf("Renamed %d", r.n)) }

// second: bob brings dave in, a commit of the follower's.
func (r *round) second() error {
	if err := r.enter(r.dave); err != nil {
		return err
	}
	if err := r.member(r.a, r.room, r.daveAtA, "join"); err != nil {
		return err
	}
	r.say(r.dave, r.daveAtA, false)
	r.say(r.alice, r.aliceAtB, true)
	return r.heard()
}

func (r *round) enter(user string) error {
	if err := r.b.Homeserver.Act(r.portal, "invite", r.bob, user); err != nil {
		return err
	}
	return r.b.Homeserver.Act(r.portal, "join", user, user)
}

func (r *round) kick() error {
	if err := r.a.Homeserver.Act(r.room, "kick", r.alice, r.daveAtA); err != nil {
		return err
	}
	if err := r.member(r.b, r.portal, r.dave, "leave"); err != nil {
		return err
	}
	return r.talk(1)
}

// leave: bob, the last of his side, leaves and is invited again.
func (r *round) leave() error {
	if err := r.b.Homeserver.Act(r.portal, "leave", r.bob, r.bob); err != nil {
		return err
	}
	if err := r.member(r.a, r.room, r.bobAtA, "leave"); err != nil {
		return err
	}
	if err := r.a.Homeserver.Act(r.room, "invite", r.alice, r.bobAtA); err != nil {
		return err
	}
	if err := r.member(r.b, r.portal, r.bob, "invite"); err != nil {
		return err
	}
	if err := r.b.Homeserver.Act(r.portal, "join", r.bob, r.bob); err != nil {
		return err
	}
	if err := r.member(r.a, r.room, r.bobAtA, "join"); err != nil {
		return err
	}
	// The ghosts of the hub's people are there again before they speak.
	return r.member(r.b, r.portal, r.aliceAtB, "join")
}

// collide: both sides change the group at the same time; the follower's commit loses.
func (r *round) collide() error {
	r.b.Link.Hold()
	held := true
	release := func() {
		if held {
			held = false
			r.b.Link.Release()
		}
	}
	defer release()
	before, err := r.epoch()
	if err != nil {
		return err
	}
	r.lastName = fmt.Sprintf("Collided %d", r.n)
	r.a.Homeserver.Set(r.room, r.alice, "m.room.name", map[string]any{"name": r.lastName})
	if err := poll(r.ctx, "the hub's commit", r.stir, func() (bool, error) {
		now, err := r.epoch()
		return now > before, err
	}); err != nil {
		return err
	}
	asked, answered := r.a.Link.Asked.Load(), r.a.Link.Answered.Load()
	if err := r.enter(r.eve); err != nil {
		return err
	}
	if err := poll(r.ctx, "the follower's commit to be answered", r.stir, func() (bool, error) {
		return r.a.Link.Asked.Load() > asked && r.a.Link.Answered.Load() > answered, nil
	}); err != nil {
		return err
	}
	release()
	if err := r.wait(r.b.Homeserver, "the name", func() bool { return r.b.Homeserver.State(r.portal, "m.room.name", "name") == r.lastName }); err != nil {
		return err
	}
	if err := r.member(r.a, r.room, r.eveAtA, "join"); err != nil {
		return err
	}
	r.say(r.eve, r.eveAtA, false)
	return r.heard()
}

// epoch is the one that the hub is in.
func (r *round) epoch() (int64, error) {
	db, err := r.a.Database()
	if err != nil {
		return 0, err
	}
	defer db.Close()
	return stage.Count(r.ctx, db, "SELECT epoch FROM room WHERE matrix_room_id = '"+r.room+"'")
}

// poll asks until a condition holds that nobody announces, as long as stir changes.
func poll(ctx context.Context, what string, stir func() int64, holds func() (bool, error)) error {
	ctx, cancel := patient(ctx, stir)
	defer cancel()
	for {
		ok, err := holds()
		if ok && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (%v)", what, context.Cause(ctx), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// verdict is what the auditor found.
type verdict struct {
	lost, doubled, reused, forked int
	notes                         []string
}

func (v *verdict) note(format string, args ...any) {
	v.notes = append(v.notes, fmt.Sprintf(format, args...))
}

func (v *verdict) add(w verdict) {
	v.lost, v.doubled, v.reused, v.forked = v.lost+w.lost, v.doubled+w.doubled, v.reused+w.reused, v.forked+w.forked
	v.notes = append(v.notes, w.notes...)
}

// audit compares what was said with what was seen.
func (r *round) audit() verdict {
	var v verdict
	for _, atHub := range []bool{true, false} {
		b, room := r.a, r.room
		if atHub {
			b, room = r.b, r.portal
		}
		seen, last := map[string]int{}, map[string]int{}
		at := map[string]line{}
		for _, l := range r.said {
			if l.fromHub == atHub {
				at[l.text] = l
			}
		}
		for _, t := range b.Homeserver.Texts(room) {
			l, ok := at[t.Body]
			switch {
			case ok:
				seen[t.Body]++
				if t.Sender != l.ghost {
					v.lost++
					v.note("round %d: %q came from %s, not %s", r.n, t.Body, t.Sender, l.ghost)
				}
				if seen[t.Body] == 1 && l.position < last[t.Sender] {
					v.lost++
					v.note("round %d: %q came after a later one of the same sender", r.n, t.Body)
				}
				last[t.Sender] = max(last[t.Sender], l.position)
			case t.MsgType == "m.notice" && strings.Contains(t.Body, "not "): // it was not delivered, could not be decrypted
				v.lost++
				v.note("round %d: %s got the notice %q", r.n, b.Domain, t.Body)
			}
		}
		for text := range at {
			switch n := seen[text]; {
			case n == 0:
				v.lost++
				v.note("round %d: %q was never seen at %s", r.n, text, b.Domain)
			case n > 1:
				v.doubled += n - 1
				v.note("round %d: %q was seen %d times at %s", r.n, text, n, b.Domain)
			}
		}
	}
	for _, key := range r.reused {
		v.reused++
		v.note("round %d: a generation was used for two ciphertexts: %s", r.n, key)
	}
	r.auditMembers(&v)
	return v
}

// auditMembers compares who is in the two rooms.
func (r *round) auditMembers(v *verdict) {
	check := func(b *stage.Bridge, room string, want ...string) {
		bot := b.Homeserver.MXID("mimibot")
		got := slices.DeleteFunc(b.Homeserver.Members(room), func(m string) bool { return strings.HasPrefix(m, bot+" ") || strings.HasSuffix(m, " leave") })
		slices.Sort(want)
		if !slices.Equal(got, want) {
			v.forked++
			v.note("round %d: members at %s are %q, should be %q", r.n, b.Domain, got, want)
		}
	}
	check(r.a, r.room, r.alice+" join", r.carol+" join", r.bobAtA+" join", r.eveAtA+" join")
	check(r.b, r.portal, r.bob+" join", r.eve+" join", r.aliceAtB+" join", r.carolAtB+" join", r.b.Ghost(hub, "mimibot")+" join")
}
