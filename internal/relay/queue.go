package relay

import (
	"sync"

	"github.com/matrix-mimi/bridge/internal/store"
)

// queue holds the rooms that have something to do, each at most once, and which of them are being worked on. A room that
// is woken while it is worked on comes again afterwards. Hints may get lost in a crash: polling finds the room.
type queue struct {
	mu    sync.Mutex
	more  chan struct{} // of capacity 1: there may be something
	line  []store.RoomID
	state map[store.RoomID]roomQueue
}

type roomQueue uint8

const (
	queued       roomQueue = iota + 1 // it stands in the line
	working                           // a worker has it
	workingAgain                      // a worker has it, and it goes into the line again afterwards
)

func newQueue() *queue {
	return &queue{more: make(chan struct{}, 1), state: map[store.RoomID]roomQueue{}}
}

// maxQueue bounds the line; the rest is found by polling.
const maxQueue = 10000

func (q *queue) push(id store.RoomID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch q.state[id] {
	case queued, workingAgain:
		return
	case working:
		q.state[id] = workingAgain
		return
	}
	if len(q.line) >= maxQueue {
		return
	}
	q.state[id] = queued
	q.line = append(q.line, id)
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// pop takes the next room; false when there is none.
func (q *queue) pop() (store.RoomID, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.line) == 0 {
		return store.RoomID{}, false
	}
	id := q.line[0]
	q.line = q.line[1:]
	q.state[id] = working
	if len(q.line) > 0 {
		q.signal()
	}
	return id, true
}

// done ends the work on a room; when it was woken meanwhile it is queued again.
func (q *queue) done(id store.RoomID) {
	q.mu.Lock()
	again := q.state[id] == workingAgain
	delete(q.state, id)
	q.mu.Unlock()
	if again {
		q.push(id)
	}
}
