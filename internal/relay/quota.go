package relay

import (
	"sync"
	"time"
)

// quota bounds what is too small and too frequent to be counted in the database: uses an hour by key, in fixed windows. It begins
// anew with the process.
type quota struct {
	mu    sync.Mutex
	limit int
	since time.Time
	used  map[string]int
}

// maxQuotaKeys bounds the keys; beyond, nobody new gets anything until the hour is over.
const maxQuotaKeys = 50_000

func newQuota(limit int) *quota { return &quota{limit: limit, used: map[string]int{}} }

// take counts a use, and tells whether there was one left.
func (q *quota) take(key string, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Sub(q.since) >= time.Hour {
		q.since = now
		clear(q.used)
	}
	n, known := q.used[key]
	if n >= q.limit || !known && len(q.used) >= maxQuotaKeys {
		return false
	}
	q.used[key] = n + 1
	return true
}
