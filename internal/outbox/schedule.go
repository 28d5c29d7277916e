package outbox

import (
	"slices"
	"sync"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
)

// scheduler decides which lane is worked on next. Each destination has its own line, the lines take
// turns, and a line whose destination fails gets few requests or none: so the slowest does not delay
// the others. In a line, lanes with news and lanes that waited take turns (one new for one old, as
// Postfix does it), so that a backlog delays live messages little and the other way round.
type scheduler struct {
	mu      sync.Mutex
	most    int
	limits  func(dest string) (first, most int)
	active  map[store.Lane]*run
	peers   map[string]*peer
	ring    []*peer // peers with waiting lanes
	waiting int
}

// peer is a destination as this process knows it.
type peer struct {
	dest        string
	fresh, old  []store.Lane
	queued      map[store.Lane]bool
	turn        bool
	inFlight    int
	first, most int
	limit       int
	credit      int
	failures    int       // in a row, as far as they are not forgiven
	unanswered  int       // since it answered last
	until       time.Time // nothing is sent before, except for one probe when it is over
}

const (
	peerFirst      = 2
	peerMost       = 20
	breakerAfter   = 5
	breakerFirst   = 5 * time.Second
	breakerMost    = time.Minute
	maxIdlePeers   = 10_000
	maxClosedDests = 400
)

func newScheduler(most int, limits func(string) (int, int)) *scheduler {
	return &scheduler{most: most, limits: limits, active: map[store.Lane]*run{}, peers: map[string]*peer{}}
}

func (s *scheduler) peer(dest string) *peer {
	p := s.peers[dest]
	if p == nil {
		if len(s.peers) >= maxIdlePeers {
			for d, q := range s.peers {
				if q.inFlight == 0 && len(q.queued) == 0 && q.failures == 0 {
					delete(s.peers, d)
				}
			}
		}
		first, most := s.limits(dest)
		if first <= 0 {
			first = peerFirst
		}
		if most <= 0 {
			most = peerMost
		}
		p = &peer{dest: dest, queued: map[store.Lane]bool{}, first: min(first, most), most: most, limit: min(first, most)}
		s.peers[dest] = p
	}
	return p
}

// add puts a lane into its line, once.
func (s *scheduler) add(l store.Lane, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.active[l]; r != nil {
		if fresh {
			r.again = true
			select {
			case r.hurry <- struct{}{}:
			default:
			}
		}
		return
	}
	p := s.peer(l.Dest)
	if p.queued[l] || s.waiting >= maxWaiting {
		return
	}
	if len(p.queued) == 0 {
		s.ring = append(s.ring, p)
	}
	p.queued[l] = true
	s.waiting++
	if fresh {
		p.fresh = append(p.fresh, l)
	} else {
		p.old = append(p.old, l)
	}
}

// allowed is how many requests a destination may have in flight now.
func (p *peer) allowed(now time.Time) int {
	switch {
	case now.Before(p.until):
		return 0
	case p.failures >= breakerAfter:
		return 1
	case p.failures > 0:
		return min(p.first, peerFirst)
	default:
		return p.limit
	}
}

// next takes the next lane that may be worked on and marks it active.
func (s *scheduler) next(now time.Time) (*run, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.active) >= s.most {
		return nil, false
	}
	for range len(s.ring) {
		p := s.ring[0]
		s.ring = s.ring[1:]
		if p.inFlight >= p.allowed(now) {
			s.ring = append(s.ring, p)
			continue
		}
		l := p.take()
		s.waiting--
		if len(p.queued) > 0 {
			s.ring = append(s.ring, p)
		}
		p.inFlight++
		r := &run{lane: l, hurry: make(chan struct{}, 1)}
		s.active[l] = r
		return r, true
	}
	return nil, false
}

func (p *peer) take() store.Lane {
	from := &p.fresh
	if p.turn = !p.turn; p.turn && len(p.old) > 0 || len(p.fresh) == 0 {
		from = &p.old
	}
	l := (*from)[0]
	*from = (*from)[1:]
	delete(p.queued, l)
	return l
}

// woken tells whether a run's lane was woken, and forgets it: its rows are read next.
func (s *scheduler) woken(r *run) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	again := r.again
	r.again = false
	select {
	case <-r.hurry:
	default:
	}
	return again
}

// done ends a run. If the lane was woken meanwhile or wants more, it is put in line again.
func (s *scheduler) done(r *run, more bool) {
	s.mu.Lock()
	delete(s.active, r.lane)
	s.peer(r.lane.Dest).inFlight--
	again := r.again
	s.mu.Unlock()
	if again || more {
		s.add(r.lane, again && !more)
	}
}

// answered notes that a destination answered a request, and tells whether it is back after it was away.
func (s *scheduler) answered(dest string) (back bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peer(dest)
	back, p.failures, p.unanswered = p.failures >= breakerAfter, 0, 0
	if p.credit++; p.credit >= p.limit && p.limit < p.most {
		p.limit, p.credit = p.limit+1, 0
	}
	return back
}

// failed notes that a destination could not be reached or is in trouble, and how long to leave it
// alone. After five failures in a row one probe at a time goes out, each 5 s to 1 min.
func (s *scheduler) failed(dest string, now time.Time, pause time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peer(dest)
	p.limit, p.credit = p.first, 0
	p.failures++
	p.unanswered++
	if n := p.failures - breakerAfter; n >= 0 {
		pause = max(pause, min(breakerFirst<<min(n, 10), breakerMost))
	}
	p.until = now.Add(pause)
}

// pause leaves a destination alone for a while, as it asked.
func (s *scheduler) pause(dest string, now time.Time, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peer(dest)
	p.limit, p.credit = p.first, 0
	p.until = now.Add(min(d, backoffLong))
}

// forgive lets a destination be tried at once.
func (s *scheduler) forgive(dest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.peers[dest]; p != nil {
		p.until = time.Time{}
		p.failures = min(p.failures, 1)
	}
}

func (s *scheduler) failing(dest string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peers[dest]
	return p != nil && p.failures > 0
}

// closed names destinations of which no more lanes are wanted now: nothing may be sent to them, or
// their line is long enough.
func (s *scheduler) closed(now time.Time) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for d, p := range s.peers {
		if (now.Before(p.until) || len(p.queued) >= pollLanes) && len(out) < maxClosedDests {
			out = append(out, d)
		}
	}
	slices.Sort(out)
	return out
}

// away names destinations that answered none of the last requests.
func (s *scheduler) away() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for d, p := range s.peers {
		if p.unanswered >= breakerAfter {
			out = append(out, d)
		}
	}
	slices.Sort(out)
	return out
}

func (s *scheduler) running() []*run {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*run, 0, len(s.active))
	for _, r := range s.active {
		out = append(out, r)
	}
	return out
}

// numbers for the gauges.
func (s *scheduler) numbers() (active, waiting, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.peers {
		if p.failures >= breakerAfter {
			open++
		}
	}
	return len(s.active), s.waiting, open
}
