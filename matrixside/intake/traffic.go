package intake

import (
	"sync"
	"time"
)

// Traffic knows whether the homeserver pushes much just now. A Dendrite that holds a /sync open works in it for every message in the
// bot's rooms, also when its filter lets nothing of it through: about a tenth of what it works for the message. So a [Loop] does not
// leave one open while much comes, but asks now and then; what only comes that way is late by as much (pollEvery).
//
// The zero value is ready for use, by several goroutines.
type Traffic struct {
	// Now is the clock; nil is the system's.
	Now func() time.Time

	mu    sync.Mutex
	began time.Time // of the second that is counted
	count int       // transactions in it
	until time.Time // much comes until then, at least
}

const (
	muchTraffic = 5               // transactions in a second are much
	calmAfter   = 2 * time.Second // since there were so many
	pollEvery   = 300 * time.Millisecond
)

func (t *Traffic) now() time.Time {
	if t.Now != nil {
		return t.Now()
	}
	return time.Now()
}

// Came says that the homeserver pushed a transaction.
func (t *Traffic) Came() {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.began) >= time.Second {
		t.began, t.count = now, 0
	}
	if t.count++; t.count >= muchTraffic {
		t.until = now.Add(calmAfter)
	}
}

// busy tells whether much comes. Nothing ever comes to nil.
func (t *Traffic) busy() bool {
	if t == nil {
		return false
	}
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	return now.Before(t.until)
}
