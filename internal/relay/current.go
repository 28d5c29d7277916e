package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// current carries current status (docs/extensions.md): who is typing, and what people call themselves now. It is held in memory only.
// What is newer takes the place of what has not gone out yet, what is late is dropped, and nothing is tried twice: a
// message never waits for it.
type current struct {
	mu sync.Mutex
	// typing are the users of ours who type, by Matrix room.
	typing map[id.RoomID]map[string]*typist
	// present are users of ours whose presence is known.
	present map[string]*presentUser
	// renamed are users whose profile may have changed, told are the profiles as last sent.
	renamed map[string]bool
	told    map[string]wire.Profile
	// out is what goes out, by where it goes, at most one of each key.
	out map[string]*currentLine
	// newest is the time of the newest status of each user of others.
	newest map[currentKey]uint64
	more   chan struct{}
}

// currentLine is what waits to go to one place.
type currentLine struct {
	order []currentKey
	items map[currentKey]currentItem
	busy  bool // what was taken before is still on its way
}

type typist struct {
	sentMS  int64 // 0: not yet
	stopped bool
	sinceMS int64
}

// currentKey names what there can be one of: to a provider ("" for the homeserver), about a room, what.
type currentKey struct{ to, room, what string }

type currentItem struct {
	untilMS int64 // it is of no use later
	do      func(ctx context.Context) error
}

const (
	// typingFor is for how long somebody is shown typing who is not heard of again, typingAgain after what time it is said
	// again, typingMost how long at all.
	typingFor   = 30 * time.Second
	typingAgain = 20 * time.Second
	typingMost  = 5 * time.Minute
	// maxCurrent bounds what waits to go to one place, maxPlaces the places, and maxSeen the tables of what was seen.
	maxCurrent = 1000
	maxPlaces  = 1000
	maxSeen    = 20_000
	// currentTimeout bounds one request.
	currentTimeout = 5 * time.Second
	// maxTypingRoom is the largest room, in participants, in which typing is told.
	maxTypingRoom = 200
)

func newCurrent() *current {
	return &current{typing: map[id.RoomID]map[string]*typist{}, present: map[string]*presentUser{}, renamed: map[string]bool{}, told: map[string]wire.Profile{},
		out: map[string]*currentLine{}, newest: map[currentKey]uint64{}, more: make(chan struct{}, 1)}
}

func (l *current) wake() {
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// put lets something go out.
func (l *current) put(k currentKey, item currentItem) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := l.out[k.to]
	if line == nil {
		if len(l.out) >= maxPlaces {
			return
		}
		line = &currentLine{items: map[currentKey]currentItem{}}
		l.out[k.to] = line
	}
	if _, ok := line.items[k]; !ok {
		if len(line.order) >= maxCurrent {
			delete(line.items, line.order[0])
			line.order = line.order[1:]
		}
		line.order = append(line.order, k)
	}
	line.items[k] = item
	l.wake()
}

// take returns what is to go out, by where it goes. Until sent is called, nothing more goes there.
func (l *current) take() (to []string, items map[string][]currentItem) {
	l.mu.Lock()
	defer l.mu.Unlock()
	items = map[string][]currentItem{}
	for _, place := range sortedKeys(l.out) {
		line := l.out[place]
		if line.busy {
			continue
		}
		to = append(to, place)
		for _, k := range line.order {
			items[place] = append(items[place], line.items[k])
		}
		l.out[place] = &currentLine{items: map[currentKey]currentItem{}, busy: true}
	}
	return to, items
}

// sent says that what was taken for a place is gone, or given up.
func (l *current) sent(to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if line := l.out[to]; line != nil && len(line.order) > 0 {
		line.busy = false
		l.wake()
		return
	}
	delete(l.out, to)
}

// fresh tells whether a status of a user is newer than those that were seen.
func (l *current) fresh(k currentKey, at uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, ok := l.newest[k]; ok && at <= last {
		return false
	}
	if len(l.newest) >= maxSeen {
		clear(l.newest)
	}
	l.newest[k] = at
	return true
}

// setTyping takes who types in a Matrix room, as the homeserver tells it: all of them, each time somebody begins or ends.
func (r *Relay) setTyping(e *event.Ephemeral) {
	if e.Type != event.TypeTyping || r.ShowTyping == nil {
		return
	}
	l, now := r.current, r.Clock().UnixMilli()
	l.mu.Lock()
	defer l.mu.Unlock()
	room := l.typing[e.Room]
	types := map[string]bool{}
	for _, u := range e.Typing {
		if mxid := string(u); r.exported(mxid) && len(types) < maxCurrent {
			types[mxid] = true
		}
	}
	for mxid := range types {
		if t := room[mxid]; t != nil {
			t.stopped = false
			continue
		}
		if room == nil {
			if len(l.typing) >= maxCurrent {
				return
			}
			room = map[string]*typist{}
			l.typing[e.Room] = room
		}
		room[mxid] = &typist{sinceMS: now}
	}
	for mxid, t := range room {
		t.stopped = !types[mxid]
	}
	l.wake()
}

// typed lists what is to be told of typing now: for how long each user is shown, 0 for one who ended.
func (l *current) typed(nowMS int64) map[id.RoomID]map[string]time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[id.RoomID]map[string]time.Duration{}
	for room, users := range l.typing {
		for mxid, t := range users {
			over := t.stopped || nowMS-t.sinceMS > typingMost.Milliseconds()
			if !over && t.sentMS != 0 && nowMS-t.sentMS < typingAgain.Milliseconds() {
				continue
			}
			if over {
				delete(users, mxid)
				if t.sentMS == 0 {
					continue // nobody was told
				}
			}
			if out[room] == nil {
				out[room] = map[string]time.Duration{}
			}
			if out[room][mxid] = typingFor; over {
				out[room][mxid] = 0
			}
			t.sentMS = nowMS
		}
		if len(users) == 0 {
			delete(l.typing, room)
		}
	}
	return out
}

// renamedUser notes that a user of ours may have another name or picture now.
func (l *current) renamedUser(mxid string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.renamed) < maxCurrent {
		l.renamed[mxid] = true
	}
	l.wake()
}

func (l *current) takeRenamed() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := sortedKeys(l.renamed)
	clear(l.renamed)
	return out
}

// changed tells whether a profile differs from the one that was told last.
func (l *current) changed(mxid string, p wire.Profile) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.Time = 0
	if last, ok := l.told[mxid]; ok && last == p {
		return false
	}
	if len(l.told) >= maxSeen {
		clear(l.told)
	}
	l.told[mxid] = p
	return true
}

// currentLoop sends current status until the context ends. It waits for nobody who is slow.
func (r *Relay) currentLoop(ctx context.Context) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	places := make(chan struct{}, r.cfg.CurrentWorkers)
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.current.more:
		case <-tick.C:
		}
		r.flushCurrent(ctx, func(send func()) {
			wg.Go(func() {
				places <- struct{}{}
				defer func() { <-places }()
				send()
			})
		})
	}
}

// FlushCurrent sends what there is of current status, and waits until it is gone or given up.
func (r *Relay) FlushCurrent(ctx context.Context) {
	r.flushCurrent(ctx, func(send func()) { send() })
}

// flushCurrent lets what there is of current status be sent, to each provider by itself.
func (r *Relay) flushCurrent(ctx context.Context, begin func(send func())) {
	r.sealTyping(ctx)
	r.sealProfiles(ctx)
	r.sealPresence(ctx)
	to, items := r.current.take()
	for _, domain := range to {
		begin(func() {
			defer r.current.sent(domain)
			for _, item := range items[domain] {
				// Who does not answer gets nothing more now.
				if errors.Is(r.sendCurrent(ctx, item), context.DeadlineExceeded) {
					return
				}
			}
		})
	}
}

func (r *Relay) sendCurrent(ctx context.Context, item currentItem) error {
	if r.Clock().UnixMilli() > item.untilMS {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, currentTimeout)
	defer cancel()
	err := item.do(ctx)
	if err != nil && ctx.Err() == nil {
		r.Log.Debug().Err(err).Msg("current status was not delivered")
	}
	return err
}
