package outbox

import (
	"sync"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
)

// run is a lane that is worked on.
type run struct {
	lane   store.Lane
	again  bool          // woken since it was last read (scheduler.woken)
	hurry  chan struct{} // has a word when again is set
	mu     sync.Mutex
	held   holding
	cancel func()
	ahead  ahead
}

// holding is a lease and the time at which it was asked for, from which it may be trusted.
type holding struct {
	lease store.LaneLease
	asked time.Time
	rests bool  // the lane had no more rows
	sent  int64 // the last of them
}

// holding returns what the run holds.
func (r *run) holding() holding {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

// lease returns the lease that the run holds.
func (r *run) lease() store.LaneLease { return r.holding().lease }

func (r *run) hold(h holding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = h
}

// read notes how much was ever added to the lane when its rows were read, and returns the lease.
func (r *run) read(work int64) store.LaneLease {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held.lease.Work = work
	return r.held.lease
}

// asked notes that the lease was renewed, and when that was asked for.
func (r *run) asked(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held.asked = at
}
