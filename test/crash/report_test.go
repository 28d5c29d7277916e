package crash

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/killpoint"
)

// report is what the kills of all theatres of a test came to. It is safe for concurrent use.
type report struct {
	began time.Time
	end   time.Time // nothing new is begun after it; the zero time is none

	mu    sync.Mutex
	kills map[string]int      // at a point
	lines map[string][]string // of a point, in the order they were played
	total verdict
}

func newReport(t *testing.T) *report {
	r := &report{began: time.Now(), kills: map[string]int{}, lines: map[string][]string{}}
	if deadline, ok := t.Deadline(); ok {
		r.end = deadline.Add(-2 * lastWords)
	}
	return r
}

func (r *report) played(k kill, word string, killed bool, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if killed {
		r.kills[k.point]++
	}
	r.lines[k.point] = append(r.lines[k.point], fmt.Sprintf("%s hit %d %s %.1f s", k.domain, k.hit, word, took.Seconds()))
	fmt.Printf("crash: %-4s %s hit %d: %s, %d ms\n", k.point, k.domain, k.hit, word, took.Milliseconds())
}

func (r *report) add(v verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total.add(v)
}

// missed are the points of a list at which nothing was killed.
func (r *report) missed(list []kill) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, k := range list {
		if r.kills[k.point] == 0 && !slices.Contains(out, k.point) {
			out = append(out, k.point)
		}
	}
	return out
}

// print says what became of every point, and the totals.
func (r *report) print(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kills := 0
	for _, point := range killpoint.Names {
		kills += r.kills[point]
		if lines := r.lines[point]; len(lines) > 0 {
			fmt.Printf("crash: %s %-4s %q\n", name, point, lines)
		}
	}
	fmt.Printf("crash: %s: %d kills at %d of %d points, %d lost, %d doubled, %d reused, %d forked, %d s\n", name, kills, len(r.kills), len(killpoint.Names),
		r.total.lost, r.total.doubled, r.total.reused, r.total.forked, int(time.Since(r.began).Seconds()))
}
