package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/matrix-mimi/bridge/internal/outbox"
	"github.com/matrix-mimi/bridge/internal/store"
	mimi "github.com/matrix-mimi/bridge/mimiside/client"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// hubOf plays a provider that holds back the draft's requests until it is let go.
type hubOf struct {
	t      *testing.T
	share  bool
	code   func(q wire.RoomRequest) wire.BulkCode
	fail   error
	hold   chan struct{}
	began  chan string
	mu     sync.Mutex
	single []string // "verb target body"
	bodies [][]string
}

func newHubOf(t *testing.T) *hubOf {
	return &hubOf{t: t, share: true, hold: make(chan struct{}), began: make(chan string, 100), code: func(wire.RoomRequest) wire.BulkCode { return wire.BulkTaken }}
}

func (h *hubOf) request(_ context.Context, domain, verb, target string, body []byte) (mimi.Result, error) {
	h.began <- verb
	switch wire.Verb(verb) {
	case wire.VerbSubmitMessages, wire.VerbNotifyRooms:
		if h.fail != nil {
			return mimi.Result{}, h.fail
		}
		requests, err := wire.UnmarshalRoomRequests(body)
		if err != nil || target != "mimi://"+domain {
			h.t.Errorf("%s to %q: %v", verb, target, err)
		}
		var a wire.BulkResponse
		var got []string
		for _, q := range requests {
			a.Codes = append(a.Codes, h.code(q))
			got = append(got, string(q.RoomID)+" "+string(q.Request))
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.bodies = append(h.bodies, got)
		return mimi.Result{Status: http.StatusAccepted, Body: a.Marshal()}, nil
	}
	h.mu.Lock()
	h.single = append(h.single, fmt.Sprintf("%s %s %s", verb, target, body))
	h.mu.Unlock()
	<-h.hold
	return mimi.Result{Status: http.StatusOK, Body: (&wire.SubmitMessageResponse{AcceptedTimestamp: 7}).Marshal()}, nil
}

func rowsOf(verb, room string, data ...string) (rows []store.Outbound) {
	for _, d := range data {
		rows = append(rows, store.Outbound{Dest: "mimi:b.example", Verb: verb, Target: "mimi://b.example/r/" + room, Data: []byte(d)})
	}
	return rows
}

// lanes sends rows of several lanes at once, of which the first two are held, and returns what became of each.
func (h *hubOf) lanes(s mimiSender, lanes ...[]store.Outbound) []outbox.Result {
	results := make([]outbox.Result, len(lanes))
	var wg sync.WaitGroup
	for i, rows := range lanes {
		wg.Go(func() { results[i] = s.Send(h.t.Context(), rows) })
		if i < bulkDirect {
			<-h.began
			continue
		}
		for waits := 0; waits < i-bulkDirect+1; { // until it stands in line
			s.bulk.mu.Lock()
			waits = 0
			for _, p := range s.bulk.peers {
				waits += len(p.waiting)
			}
			s.bulk.mu.Unlock()
		}
	}
	close(h.hold)
	wg.Wait()
	return results
}

// S004-045, S004-058: what several rooms have for one provider travels in one request as soon as two requests are under way.
func TestRequestsOfRoomsTravelTogether(t *testing.T) {
	for verb, class := range map[string]outbox.Class{"submitMessage": outbox.Taken, "notify": outbox.Done} {
		h := newHubOf(t)
		s := mimiSender{request: h.request, share: func(string, string) bool { return h.share }, bulk: newBulk()}
		results := h.lanes(s, rowsOf(verb, "1", "a"), rowsOf(verb, "2", "b"), rowsOf(verb, "3", "c", "d"), rowsOf(verb, "4", "e"), rowsOf(verb, "5", "f"))
		if len(h.single) != 2 || len(h.bodies) != 1 || results[0].Class != outbox.Done {
			t.Fatalf("%s: %q, %q, %v", verb, h.single, h.bodies, results)
		}
		want := map[string]string{"notify": "[mimi://b.example/r/3 cd mimi://b.example/r/4 e mimi://b.example/r/5 f]",
			"submitMessage": "[mimi://b.example/r/3 c mimi://b.example/r/3 d mimi://b.example/r/4 e mimi://b.example/r/5 f]"}[verb]
		if got := fmt.Sprint(h.bodies[0]); got != want {
			t.Errorf("%s: %s", verb, got)
		}
		for _, r := range results[2:] {
			if r.Class != class {
				t.Errorf("%s: %+v", verb, r)
			}
		}
		if len(s.bulk.peers) != 0 {
			t.Error("something is remembered")
		}
	}
}

// What is not taken with others is sent by the draft's request, a row at a time; what may be taken later is tried again.
func TestWhatIsNotTakenTogether(t *testing.T) {
	h := newHubOf(t)
	h.code = func(q wire.RoomRequest) wire.BulkCode {
		return map[string]wire.BulkCode{"c": wire.BulkTaken, "d": wire.BulkRefused, "e": wire.BulkRefused, "f": wire.BulkLater}[string(q.Request)]
	}
	s := mimiSender{request: h.request, share: func(string, string) bool { return true }, bulk: newBulk()}
	const verb = "submitMessage"
	results := h.lanes(s, rowsOf(verb, "1", "a"), rowsOf(verb, "2", "b"), rowsOf(verb, "3", "c", "d"), rowsOf(verb, "4", "e"), rowsOf(verb, "5", "f"))
	for i, want := range []outbox.Class{outbox.Done, outbox.Done, outbox.Refused, outbox.Done, outbox.Retry} {
		if results[i].Class != want {
			t.Errorf("%d: %+v", i, results[i])
		}
	}
	if got := h.single[len(h.single)-1]; got != verb+" mimi://b.example/r/4 e" {
		t.Error(got)
	}
	h = newHubOf(t)
	h.fail = &mimi.Error{Op: "x", Err: mimi.ErrNoEndpoint}
	s.request = h.request
	results = h.lanes(s, rowsOf(verb, "1", "a"), rowsOf(verb, "2", "b"), rowsOf(verb, "3", "c"), rowsOf(verb, "4", "d"))
	if results[2].Class != outbox.Done || results[3].Class != outbox.Done || len(h.single) != 4 {
		t.Errorf("without the endpoint: %+v", results)
	}
	h = newHubOf(t)
	h.fail = errors.New("no network")
	s.request = h.request
	results = h.lanes(s, rowsOf(verb, "1", "a"), rowsOf(verb, "2", "b"), rowsOf(verb, "3", "c"), rowsOf(verb, "4", "d"))
	if results[2].Class != outbox.Retry || results[3].Class != outbox.Retry {
		t.Errorf("without a network: %+v", results)
	}
}

// Towards a provider that does not publish the extension every room has its own request, and nobody waits for another.
func TestDraftPeersGetRequestsOfTheirOwn(t *testing.T) {
	h := newHubOf(t)
	h.share = false
	close(h.hold)
	s := mimiSender{request: h.request, share: func(string, string) bool { return h.share }, bulk: newBulk()}
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() { s.Send(t.Context(), rowsOf("submitMessage", fmt.Sprint(i), "x")) })
	}
	wg.Wait()
	if len(h.single) != 10 || len(h.bodies) != 0 {
		t.Errorf("%q %q", h.single, h.bodies)
	}
}

// Who gives up waiting leaves the line, and the others go on.
func TestALaneLeavesTheLine(t *testing.T) {
	h := newHubOf(t)
	s := mimiSender{request: h.request, share: func(string, string) bool { return true }, bulk: newBulk()}
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() { s.Send(t.Context(), rowsOf("notify", fmt.Sprint(i), "x")) })
		<-h.began
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if res := s.Send(ctx, rowsOf("notify", "3", "x")); res.Class != outbox.Retry {
		t.Errorf("%+v", res)
	}
	close(h.hold)
	wg.Wait()
	if len(s.bulk.peers) != 0 {
		t.Error("something is remembered")
	}
}
