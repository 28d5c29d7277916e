package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/matrix-mimi/bridge/internal/outbox"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
	"github.com/matrix-mimi/bridge/mapping"
)

// Three bridges whose relays and outboxes run: many rooms talk at once, on PostgreSQL with two processes a bridge.
func TestLive(t *testing.T) {
	rooms, lines := 6, 10
	if testing.Short() {
		rooms, lines = 3, 5
	}
	t.Run("sqlite", func(t *testing.T) { testLive(t, "sqlite", 1, rooms, lines) })
	t.Run("postgres", func(t *testing.T) { testLive(t, "postgres", 2, rooms, lines) })
}

// lockedHS is a homeserver of which several may ask at once.
type lockedHS struct {
	mu      sync.Mutex
	changed *sync.Cond // of mu: something was done at the homeserver
	*fakeHS
}

// do does something at the homeserver, and wakes those who wait for something to be done.
func (h *lockedHS) do(what func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.changed.Broadcast()
	what()
}

func (h *lockedHS) UserExists(ctx context.Context, mxid string) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fakeHS.UserExists(ctx, mxid)
}

func (h *lockedHS) RoomState(ctx context.Context, as, roomID string) ([]json.RawMessage, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fakeHS.RoomState(ctx, as, roomID)
}

func (h *lockedHS) Event(ctx context.Context, as, roomID, eventID string) (json.RawMessage, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fakeHS.Event(ctx, as, roomID, eventID)
}

// live are the homeservers and processes of a running world.
type live struct {
	t    *testing.T
	stop context.CancelFunc
	ctx  context.Context
	wg   sync.WaitGroup
	hs   []*lockedHS
	// worlds has one for each process of a bridge; the processes of one world speak with each other.
	worlds []*world
}

var liveDomains = []string{"a.example", "b.example", "c.example"}

func newLive(t *testing.T, driver string, processes int) *live {
	l := &live{t: t}
	l.ctx, l.stop = context.WithCancel(context.Background())
	for range processes {
		l.worlds = append(l.worlds, &world{t: t, driver: driver, nodes: map[string]*node{}})
	}
	for _, d := range liveDomains {
		cfg := storetest.Config(t, driver)
		hs := &lockedHS{}
		hs.changed = sync.NewCond(&hs.mu)
		hs.fakeHS = newHS("hs."+d, time.Now, func(mxid string) bool { return l.worlds[0].nodes[d].relay.ours(mxid) })
		l.hs = append(l.hs, hs)
		for _, w := range l.worlds {
			w.nodes[d] = l.process(w, d, cfg, hs)
		}
		to := l.worlds[len(l.hs)%processes].nodes[d].relay
		l.wg.Go(func() { l.push(hs, to) })
	}
	return l
}

func (l *live) process(w *world, domain string, cfg store.Config, hs *lockedHS) *node {
	n := &node{w: w, domain: domain, hs: hs.fakeHS, log: zerolog.Nop(), db: storetest.Open(l.t, cfg)}
	var out *outbox.Outbox
	var err error
	n.relay, err = New(l.ctx, Deps{
		Store: n.db, Naming: mapping.Naming{Domain: domain, Server: hs.server},
		Config:    Config{Bot: hs.mxid("mimibot"), Combine: -1, AskAfter: time.Second},
		Requester: n, Homeserver: hs, WakeLanes: func(lanes []store.Woken) { out.WakeLanes(lanes...) },
		Alert: func(kind, message string) { l.t.Errorf("%s: alert %s: %s", domain, kind, message) },
		Clock: time.Now, Log: n.log,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	send := func(_ context.Context, rows []store.Outbound) outbox.Result {
		var o store.Outcome
		var ok bool
		if strings.HasPrefix(rows[0].Dest, destMatrix) {
			hs.do(func() { o, ok = n.send(rows[0]) })
		} else {
			o, ok = n.send(rows[0])
		}
		if !ok {
			return outbox.Result{Class: outbox.Retry}
		}
		res := outbox.Result{Class: outbox.Done, Status: o.Status, Body: o.Body, EventID: o.EventID, AcceptedMS: o.AcceptedMS}
		if o.Class == "refused" {
			res.Class = outbox.Refused
		}
		return res
	}
	route := outbox.Route{Sender: outbox.SenderFunc(send)}
	out, err = outbox.New(outbox.Config{
		Store: n.db, Routes: map[string]outbox.Route{"matrix": route, "mimi": route}, Wake: func(rooms []store.RoomID) { n.relay.Wake(rooms...) },
		First: 100 * time.Millisecond, Most: time.Second, Log: n.log,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, run := range []func(context.Context) error{n.relay.Run, out.Run} {
		l.wg.Go(func() {
			if err := run(l.ctx); err != nil {
				l.t.Error(err)
			}
		})
	}
	return n
}

// push brings the events of a homeserver to a process.
func (l *live) push(hs *lockedHS, to *Relay) {
	defer context.AfterFunc(l.ctx, func() { hs.do(func() {}) })()
	for {
		d, ok := hs.next(l.ctx)
		if !ok {
			return
		}
		// What was taken is brought until it is accepted.
		for {
			_, err := to.Accept(context.WithoutCancel(l.ctx), d)
			if err == nil || !sleep(l.ctx, 10*time.Millisecond) {
				break
			}
			l.t.Logf("%s: not accepted: %v", hs.server, err)
		}
	}
}

// next waits for the next delivery; false when the context ends.
func (h *lockedHS) next(ctx context.Context) (Delivery, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ctx.Err() == nil {
		if d, ok := h.delivery(); ok {
			return d, true
		}
		h.changed.Wait()
	}
	return Delivery{}, false
}

// wait waits until something is so, which is asked of one homeserver under its lock.
func (l *live) wait(hs *lockedHS, what func() string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.ctx, 90*time.Second)
	defer cancel()
	defer context.AfterFunc(ctx, func() { hs.do(func() {}) })()
	hs.mu.Lock()
	defer hs.mu.Unlock()
	defer hs.changed.Broadcast() // who asks may do something, too
	for missing := what(); missing != ""; missing = what() {
		if ctx.Err() != nil {
			l.t.Fatalf("%s: %s", hs.server, missing)
		}
		hs.changed.Wait()
	}
}

func testLive(t *testing.T, driver string, processes, rooms, lines int) {
	l := newLive(t, driver, processes)
	defer func() {
		l.stop()
		l.wg.Wait()
	}()
	var wg sync.WaitGroup
	for i := range rooms {
		wg.Go(func() { l.converse(i, lines) })
	}
	wg.Wait()
	for _, n := range l.worlds[0].nodes {
		broken, err := n.db.BrokenInputs(context.Background(), 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range broken {
			t.Errorf("%s: broken input %s %s: %s", n.domain, b.Kind, b.Source, b.Reason)
		}
	}
}

// converse lets a user of each bridge talk in a room of their own.
func (l *live) converse(i, lines int) {
	var users, uris []string
	for k, d := range liveDomains {
		local := fmt.Sprintf("user%d", i)
		users, uris = append(users, l.hs[k].mxid(local)), append(uris, "mimi://"+d+"/u/"+local)
		l.hs[k].do(func() { l.hs[k].users[users[k]] = true })
	}
	hub := i % len(liveDomains)
	seen := make([]*hsRoom, len(liveDomains))
	own := l.hs[hub]
	own.do(func() {
		seen[hub] = own.create(users[hub], fmt.Sprintf("Room %d", i), "")
		for k := range liveDomains {
			if k != hub {
				own.invite(seen[hub], users[hub], l.worlds[0].nodes[liveDomains[hub]].ghost(uris[k]))
			}
		}
	})
	for k, hs := range l.hs {
		if k == hub {
			continue
		}
		l.wait(hs, func() string {
			if seen[k] = hs.roomOf(users[k], "invite"); seen[k] == nil {
				return users[k] + " is not invited"
			}
			hs.join(seen[k], users[k])
			return ""
		})
	}
	for k, hs := range l.hs {
		l.wait(hs, func() string {
			for j, u := range uris {
				if j == k {
					continue
				}
				if ghost := l.worlds[0].nodes[liveDomains[k]].ghost(u); seen[k].members[ghost] != "join" {
					return ghost + " has not joined"
				}
			}
			return ""
		})
	}
	var wg sync.WaitGroup
	for k, hs := range l.hs {
		wg.Go(func() {
			for n := range lines {
				hs.do(func() { hs.say(seen[k], users[k], fmt.Sprintf("%d of %d", n, k)) })
				sleep(l.ctx, time.Duration(1+(i+k+n)%7)*time.Millisecond) // people do not say all at once
			}
		})
	}
	wg.Wait()
	// Everybody reads each speaker's lines, in the speaker's order.
	for k, hs := range l.hs {
		for j := range l.hs {
			var want []string
			for n := range lines {
				want = append(want, fmt.Sprintf("%d of %d", n, j))
			}
			l.wait(hs, func() string {
				var got []string
				for _, text := range hs.texts(seen[k]) {
					if _, body, _ := strings.Cut(text, ": "); strings.HasSuffix(body, fmt.Sprintf(" of %d", j)) {
						got = append(got, body)
					}
				}
				if !slices.Equal(got, want) {
					return fmt.Sprintf("room %d: of %d came %q", i, j, got)
				}
				return ""
			})
		}
	}
}
