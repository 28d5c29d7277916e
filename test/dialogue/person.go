package dialogue

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// Person is an ordinary Matrix client and what it has seen.
type Person struct {
	Name string // "alice@one"
	*mautrix.Client

	world *World
	short string // homeserver
	local string

	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	changed chan struct{} // closed and replaced whenever something was seen
	rooms   map[id.RoomID]*RoomView
	present map[id.UserID]event.Presence
	labels  map[string]id.RoomID // what the script calls a room
	current string               // label of the room that lines without "in" mean
	since   string
	secrets atomic.Pointer[secrets] // of a client that encrypts
}

// RoomView is a room as one person sees it.
type RoomView struct {
	ID         id.RoomID
	Membership event.Membership
	Direct     bool // the invitation said is_direct
	Inviter    id.UserID
	State      map[event.Type]map[string]*event.Event
	Timeline   []*Seen
}

// Seen is one event of a timeline.
type Seen struct {
	*event.Event
	At   time.Time // when /sync brought it
	used bool      // a line of the script has seen it
}

func newPerson(w *World, name string, cli *mautrix.Client) *Person {
	local, short, _ := strings.Cut(name, "@")
	return &Person{Name: name, Client: cli, world: w, local: local, short: short,
		changed: make(chan struct{}), done: make(chan struct{}), rooms: map[id.RoomID]*RoomView{}, present: map[id.UserID]event.Presence{}, labels: map[string]id.RoomID{}}
}

// start makes the first /sync, so that nothing that happens from now on is
// missed, and goes on in the background.
func (p *Person) start(ctx context.Context) error {
	p.Client.DefaultHTTPRetries = 0
	filter, err := p.CreateFilter(ctx, &mautrix.Filter{
		Room: &mautrix.RoomFilter{Timeline: &mautrix.FilterPart{Limit: 500}},
	})
	if err != nil {
		return fmt.Errorf("%s: make a filter: %w", p.Name, err)
	}
	resp, err := p.SyncRequest(ctx, 0, "", filter.FilterID, false, event.PresenceOnline)
	if err != nil {
		return fmt.Errorf("%s: first sync: %w", p.Name, err)
	}
	p.take(ctx, resp)
	sctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel = cancel
	go p.sync(sctx, filter.FilterID)
	return nil
}

// pollMillis is how long one /sync may wait. Dendrite does not wake the /sync of
// somebody who is banned after a kick, so that news comes with the next one.
const pollMillis = 2000

// sync reads until it is stopped; a homeserver that is away is asked again.
func (p *Person) sync(ctx context.Context, filter string) {
	defer close(p.done)
	for ctx.Err() == nil {
		resp, err := p.SyncRequest(ctx, pollMillis, p.since, filter, false, event.PresenceOnline)
		if err == nil {
			p.take(ctx, resp)
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (p *Person) stop() {
	p.cancel()
	<-p.done
}

// take puts a sync response into the person's view.
func (p *Person) take(ctx context.Context, resp *mautrix.RespSync) {
	p.unlock(ctx, resp, p.since)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since = resp.NextBatch
	for room, r := range resp.Rooms.Join {
		v := p.view(room)
		v.Membership = event.MembershipJoin
		p.put(v, r.State.Events, r.Timeline.Events)
		p.put(v, nil, ephemeral(r.Ephemeral.Events))
	}
	for room, r := range resp.Rooms.Leave {
		v := p.view(room)
		if p.staleLeave(v, r) {
			continue
		}
		p.put(v, r.State.Events, r.Timeline.Events)
		v.Membership = event.MembershipLeave
		if me := v.member(p.UserID); me != nil && me.Content.AsMember().Membership == event.MembershipBan {
			v.Membership = event.MembershipBan
		}
	}
	// After the rooms that were left: a response can bring the end of an old
	// invitation together with a new one.
	for room, r := range resp.Rooms.Invite {
		v := p.view(room)
		// An invitation begins anew: what was known of an earlier stay is old.
		v.Membership, v.State = event.MembershipInvite, map[event.Type]map[string]*event.Event{}
		p.put(v, r.State.Events, nil)
		if me := v.member(p.UserID); me != nil {
			v.Direct, v.Inviter = me.Content.AsMember().IsDirect, me.Sender
		}
	}
	for room, r := range resp.Rooms.Knock {
		v := p.view(room)
		v.Membership = event.MembershipKnock
		p.put(v, r.State.Events, nil)
	}
	for _, e := range resp.Presence.Events {
		e.Type.Class = event.EphemeralEventType
		if e.Content.ParseRaw(e.Type) == nil {
			p.present[e.Sender] = e.Content.AsPresence().Presence
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// staleLeave recognises a leave that was told before: Dendrite tells of a
// refused invitation twice, the second time perhaps after the next invitation.
func (p *Person) staleLeave(v *RoomView, r *mautrix.SyncLeftRoom) bool {
	for _, e := range r.Timeline.Events {
		if !v.has(e.ID) {
			return false
		}
	}
	return len(r.Timeline.Events) > 0
}

// ephemeral keeps typing and receipts, which have no id and no sender.
func ephemeral(in []*event.Event) []*event.Event {
	var out []*event.Event
	for _, e := range in {
		if e.Type == event.EphemeralEventTyping || e.Type == event.EphemeralEventReceipt {
			out = append(out, e)
		}
	}
	return out
}

func (p *Person) view(room id.RoomID) *RoomView {
	v := p.rooms[room]
	if v == nil {
		v = &RoomView{ID: room, State: map[event.Type]map[string]*event.Event{}}
		p.rooms[room] = v
	}
	return v
}

// put adds state and timeline events; an event id that is there already is not
// added again (a join can bring an old timeline once more).
func (p *Person) put(v *RoomView, state, timeline []*event.Event) {
	set := func(e *event.Event) {
		if e.StateKey == nil {
			return
		}
		if v.State[e.Type] == nil {
			v.State[e.Type] = map[string]*event.Event{}
		}
		v.State[e.Type][*e.StateKey] = e
	}
	for _, e := range state {
		parse(e, true)
		set(e)
	}
	for _, e := range timeline {
		parse(e, e.StateKey != nil)
		set(e)
		if e.ID != "" && v.has(e.ID) {
			continue
		}
		v.Timeline = append(v.Timeline, &Seen{Event: p.plain(e), At: time.Now()})
	}
}

func parse(e *event.Event, state bool) {
	e.Type.Class = event.MessageEventType
	switch {
	case state:
		e.Type.Class = event.StateEventType
	case e.Type.Type == "m.typing" || e.Type.Type == "m.receipt":
		e.Type.Class = event.EphemeralEventType
	}
	// What cannot be parsed stays raw; a line that looks for it then fails.
	_ = e.Content.ParseRaw(e.Type)
}

func (v *RoomView) has(eventID id.EventID) bool {
	for _, s := range v.Timeline {
		if s.ID == eventID {
			return true
		}
	}
	return false
}

func (v *RoomView) member(user id.UserID) *event.Event {
	return v.State[event.StateMember][string(user)]
}

// Name is the room's name in the state that the person knows.
func (v *RoomView) Name() string {
	if e := v.State[event.StateRoomName][""]; e != nil {
		return e.Content.AsRoomName().Name
	}
	return ""
}

// Topic is the room's topic.
func (v *RoomView) Topic() string {
	if e := v.State[event.StateTopic][""]; e != nil {
		return e.Content.AsTopic().Topic
	}
	return ""
}

// Joined lists the joined members.
func (v *RoomView) Joined() map[id.UserID]bool {
	out := map[id.UserID]bool{}
	for user, e := range v.State[event.StateMember] {
		if e.Content.AsMember().Membership == event.MembershipJoin {
			out[id.UserID(user)] = true
		}
	}
	return out
}

// Await waits until look finds what it wants in the person's view. look runs
// under the view's lock and must not call the person's other methods.
func (p *Person) Await(ctx context.Context, what string, look func(rooms map[id.RoomID]*RoomView) bool) error {
	for {
		p.mu.Lock()
		found, changed := look(p.rooms), p.changed
		p.mu.Unlock()
		if found {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s does not see %s: %w\n%s", p.Name, what, ctx.Err(), p.describe(12))
		}
	}
}

// room returns the room that a label means to this person.
func (p *Person) room(label string) (id.RoomID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if label == "" {
		label = p.current
	}
	if label == "" {
		return "", fmt.Errorf("%s is in no room yet", p.Name)
	}
	room, ok := p.labels[label]
	if !ok {
		return "", fmt.Errorf("%s knows no room %q", p.Name, label)
	}
	return room, nil
}

// call gives a room its name in the script and makes it the person's current.
func (p *Person) call(label string, room id.RoomID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.labels[label], p.current = room, label
}

// label is the reverse of room.
func (p *Person) label(room id.RoomID) string {
	for l, r := range p.labels {
		if r == room {
			return l
		}
	}
	return string(room)
}

// describe prints the end of what the person has seen, for messages.
func (p *Person) describe(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, v := range p.rooms {
		fmt.Fprintf(&b, "  %s sees room %q (%s, %s):\n", p.Name, p.label(v.ID), v.Name(), v.Membership)
		for _, s := range v.Timeline[max(0, len(v.Timeline)-n):] {
			content, _ := json.Marshal(s.Content.Raw)
			key := ""
			if s.StateKey != nil {
				key = " " + *s.StateKey
			}
			fmt.Fprintf(&b, "    %s %s%s %.200s\n", s.Sender, s.Type.Type, key, content)
		}
	}
	return b.String()
}
