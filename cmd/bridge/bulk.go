package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/matrix-mimi/bridge/internal/outbox"
	"github.com/matrix-mimi/bridge/internal/store"
	mimi "github.com/matrix-mimi/bridge/mimiside/client"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// bulkVerbs are the draft's requests of which several, about one or several
// rooms, may share a request of an extension (docs/extensions.md).
var bulkVerbs = map[wire.Verb]wire.Verb{wire.VerbSubmitMessage: wire.VerbSubmitMessages, wire.VerbNotify: wire.VerbNotifyRooms}

const (
	bulkDirect = 2       // requests of a kind to one provider that are under way before others wait and travel together
	bulkBytes  = 4 << 20 // of requests that travel together, about
)

// bulk lets what several lanes have for one provider travel together. A lane's
// request goes by itself as long as few are under way. Then the next ones wait
// until one of those has come back, and all that wait by then are one request,
// which the first of them sends. So nothing is delayed to gather more.
type bulk struct {
	mu    sync.Mutex
	peers map[bulkKey]*bulkPeer
}

type bulkKey struct {
	domain string
	verb   wire.Verb
}

type bulkPeer struct {
	running int
	waiting []*bulkCall
}

// bulkCall is the request of a lane that waits: for its turn to send what is
// given to it, or for its result.
type bulkCall struct {
	rows []store.Outbound
	turn chan []*bulkCall
	done chan outbox.Result
}

func newBulk() *bulk { return &bulk{peers: map[bulkKey]*bulkPeer{}} }

// send sends rows of a lane, by themselves or with those of others.
func (b *bulk) send(ctx context.Context, domain string, verb wire.Verb, rows []store.Outbound, s mimiSender) outbox.Result {
	key := bulkKey{domain, verb}
	call := &bulkCall{rows: rows, turn: make(chan []*bulkCall, 1), done: make(chan outbox.Result, 1)}
	if b.enter(key, call) {
		defer b.leave(key)
		return s.alone(ctx, domain, rows)
	}
	select {
	case res := <-call.done:
		return res
	case list := <-call.turn:
		defer b.leave(key)
		return b.lead(ctx, domain, verb, list, s)
	case <-ctx.Done():
	}
	if b.withdraw(key, call) {
		return outbox.Result{Class: outbox.Retry, Reason: ctx.Err().Error()}
	}
	// Its turn, or its result, came at the same moment.
	select {
	case res := <-call.done:
		return res
	case list := <-call.turn:
		defer b.leave(key)
		return b.lead(ctx, domain, verb, list, s) // ends at once, and gives the others back
	}
}

// lead sends what waited and returns the leader's own result.
func (b *bulk) lead(ctx context.Context, domain string, verb wire.Verb, list []*bulkCall, s mimiSender) outbox.Result {
	var results []outbox.Result
	defer func() {
		for i, c := range list[1:] {
			res := outbox.Result{Class: outbox.Retry, Reason: "bug: sending panicked"}
			if results != nil {
				res = results[i+1]
			}
			c.done <- res
		}
	}()
	if len(list) == 1 {
		results = []outbox.Result{s.alone(ctx, domain, list[0].rows)}
	} else {
		results = s.together(ctx, domain, verb, list)
	}
	return results[0]
}

// enter says that a request may go by itself; otherwise it waits.
func (b *bulk) enter(key bulkKey, c *bulkCall) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.peers[key]
	if p == nil {
		p = &bulkPeer{}
		b.peers[key] = p
	}
	if p.running < bulkDirect {
		p.running++
		return true
	}
	p.waiting = append(p.waiting, c)
	return false
}

// leave gives the turn of a request that came back to what waits.
func (b *bulk) leave(key bulkKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.peers[key]
	if len(p.waiting) == 0 {
		if p.running--; p.running == 0 {
			delete(b.peers, key)
		}
		return
	}
	n, count, size := 0, 0, 0
	for n < len(p.waiting) {
		rows := p.waiting[n].rows
		entries := len(rows)
		if key.verb == wire.VerbNotifyRooms {
			entries = 1
		}
		count += entries
		for i := range rows {
			size += len(rows[i].Data)
		}
		if n > 0 && (count > wire.MaxBulk || size > bulkBytes) {
			break
		}
		n++
	}
	list := p.waiting[:n:n]
	p.waiting = slices.Clone(p.waiting[n:])
	list[0].turn <- list
}

// withdraw takes a request that waits back; false when it is too late.
func (b *bulk) withdraw(key bulkKey, c *bulkCall) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.peers[key]
	if p == nil {
		return false
	}
	i := slices.Index(p.waiting, c)
	if i < 0 {
		return false
	}
	p.waiting = slices.Delete(p.waiting, i, i+1)
	return true
}

// together sends requests of several lanes as one and says what became of each.
// The rows of a notify are one request about their room, those of submitted
// messages one each.
func (s mimiSender) together(ctx context.Context, domain string, verb wire.Verb, list []*bulkCall) []outbox.Result {
	var requests wire.RoomRequests
	counts := make([]int, len(list))
	for i, c := range list {
		room := wire.IdentifierURI(c.rows[0].Target)
		if verb == wire.VerbNotifyRooms {
			requests, counts[i] = append(requests, wire.RoomRequest{RoomID: room, Request: joined(c.rows)}), 1
			continue
		}
		for _, row := range c.rows {
			requests = append(requests, wire.RoomRequest{RoomID: room, Request: row.Data})
		}
		counts[i] = len(c.rows)
	}
	res, err := s.request(ctx, domain, string(verb), "mimi://"+domain, requests.Marshal())
	results := make([]outbox.Result, len(list))
	codes, bad := bulkCodes(res, err, len(requests))
	if bad {
		one := s.result(string(verb), res, err)
		for i, c := range list {
			results[i] = one
			if one.Class != outbox.Retry {
				results[i] = s.again(ctx, domain, c)
			}
		}
		return results
	}
	for i, c := range list {
		results[i] = s.bulkResult(ctx, domain, verb, c, codes[:counts[i]], res.Status)
		codes = codes[counts[i]:]
	}
	return results
}

// bulkCodes reads the answer to a request for several; bad when there is none that
// fits.
func bulkCodes(res mimi.Result, err error, n int) (codes []wire.BulkCode, bad bool) {
	if err != nil || res.Class() != mimi.Done {
		return nil, true
	}
	a, err := wire.UnmarshalBulkResponse(res.Body)
	if err != nil || len(a.Codes) != n {
		return nil, true
	}
	return a.Codes, false
}

// bulkResult is what the codes of a lane's requests mean for its rows.
func (s mimiSender) bulkResult(ctx context.Context, domain string, verb wire.Verb, c *bulkCall, codes []wire.BulkCode, status int) outbox.Result {
	switch {
	case slices.Contains(codes, wire.BulkRefused):
		return s.again(ctx, domain, c)
	case slices.Contains(codes, wire.BulkLater):
		return outbox.Result{Class: outbox.Retry, Status: http.StatusTooManyRequests, Reason: "the provider will take it later"}
	case verb == wire.VerbSubmitMessages:
		return outbox.Result{Class: outbox.Taken, Status: status}
	}
	return outbox.Result{Class: outbox.Done, Status: status}
}

// again sends by the draft's request what was not taken with others. Several
// submitted messages are parted by the outbox first.
func (s mimiSender) again(ctx context.Context, domain string, c *bulkCall) outbox.Result {
	if c.rows[0].Verb == string(wire.VerbSubmitMessage) && len(c.rows) > 1 {
		return outbox.Result{Class: outbox.Refused, Reason: fmt.Sprintf("%s does not take %d messages together", domain, len(c.rows))}
	}
	return s.alone(ctx, domain, c.rows)
}
