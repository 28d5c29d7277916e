package outbox

import "time"

// Back-off of a lane: First, doubled up to Most, each ±25 %, and 1 h when it
// has failed for 1 h, unless Most is shorter than its default. A wish of the other side (Retry-After)
// is kept, up to 1 h, and never undercut.
const (
	backoffFirst = 5 * time.Second
	backoffMost  = 10 * time.Minute
	backoffLong  = time.Hour
	longAfter    = time.Hour
)

// backoff returns how long to wait after a failure. first and most are those of Config, before counts the failures in a row before it,
// failing is for how long they have gone on, x is random, 0 ≤ x < 1.
func backoff(first, most time.Duration, before int64, failing, retryAfter time.Duration, x float64) time.Duration {
	if retryAfter > 0 {
		return time.Duration(float64(min(retryAfter, backoffLong)) * (1 + x/4))
	}
	d := most
	if before < 10 {
		d = min(first<<max(before, 0), most)
	}
	if failing >= longAfter && most >= backoffMost {
		d = backoffLong
	}
	return time.Duration(float64(d) * (0.75 + x/2))
}
