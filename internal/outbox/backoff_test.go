package outbox

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
)

// tries returns when something was sent in a time, counted from its beginning.
func (w *world) tries(o *Outbox, lasts time.Duration) string {
	start := w.clock.Now()
	var tries []time.Duration
	for w.clock.Now().Sub(start) < lasts {
		o.turn(ctx)
		if w.took() != "" {
			tries = append(tries, w.clock.Now().Sub(start).Truncate(time.Second))
		}
		w.clock.advance(time.Second)
	}
	return fmt.Sprint(tries)
}

func TestBackOff(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(), w.room()
		w.answer(func([]store.Outbound) Result { return Result{Class: Retry, Status: 502} })
		w.put(&room, "mimi:a", "submitMessage", "a")
		// 5 s doubled to 10 min; after 1 h each hour. The breaker's probes (5 s … 1 min) lie below.
		want := "[0s 5s 15s 35s 1m15s 2m35s 5m15s 10m35s 20m35s 30m35s 40m35s 50m35s 1h0m35s 2h0m35s 3h0m35s]"
		if got := w.tries(o, 4*time.Hour); got != want {
			t.Fatalf("tried at %s,\nwant %s", got, want)
		}
	})
}

func TestBackoffJitterAndWish(t *testing.T) {
	for _, c := range []struct {
		before        int64
		failing, wish time.Duration
		x             float64
		want          time.Duration
	}{
		{0, 0, 0, 0, 3750 * time.Millisecond}, {0, 0, 0, 0.999999, 6250 * time.Millisecond}, {1, 0, 0, 0.5, 10 * time.Second}, {50, 0, 0, 0.5, 10 * time.Minute},
		{3, time.Hour, 0, 0.5, time.Hour}, {0, 0, time.Minute, 0, time.Minute}, {0, 0, time.Minute, 0.999999, 75 * time.Second}, {0, 0, 1000 * time.Hour, 0, time.Hour},
	} {
		if got := backoff(backoffFirst, backoffMost, c.before, c.failing, c.wish, c.x).Round(time.Millisecond); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// A route that counts tries waits as it says and refuses the row then; the lane goes on.
func TestARouteThatCountsTries(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(func(c *Config) {
			c.Routes["media"] = Route{Sender: w, Waits: []time.Duration{30 * time.Second, 150 * time.Second}}
		}), w.room()
		w.answer(func([]store.Outbound) Result { return Result{Class: Retry, Status: 408} })
		w.put(&room, "media:a", "fetch", "x")
		if got := w.tries(o, 10*time.Minute); got != "[0s 30s 3m0s]" || w.left() != 0 {
			t.Fatalf("tried at %s, %d rows are left", got, w.left())
		}
	})
}

func TestRetryAfterIsKept(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, one, two := w.outbox(), w.room(), w.room()
		w.answer(func([]store.Outbound) Result { return Result{Class: Retry, Status: 429, RetryAfter: 40 * time.Second} })
		w.put(&one, "mimi:a", "submitMessage", "a")
		o.turn(ctx)
		w.took()
		w.put(&two, "mimi:a", "submitMessage", "b")
		w.clock.advance(39 * time.Second)
		o.turn(ctx)
		w.want(w.took(), "") // other lanes to this peer keep still too
		w.answer(func([]store.Outbound) Result { return Result{Class: Done} })
		w.clock.advance(12 * time.Second)
		o.turn(ctx)
		if got := w.took(); !strings.Contains(got, ": a") || !strings.Contains(got, ": b") {
			t.Fatalf("after the wait came %q", got)
		}
	})
}

func TestAPeerThatCallsIsTriedAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, room := w.outbox(), w.room()
		w.answer(func([]store.Outbound) Result { return Result{Class: Retry} })
		w.put(&room, "mimi:a", "submitMessage", "a")
		for range 8 {
			o.turn(ctx)
			w.clock.advance(time.Hour)
		}
		o.turn(ctx)
		w.took()
		w.answer(func([]store.Outbound) Result { return Result{Class: Done} })
		w.clock.advance(time.Second)
		o.turn(ctx)
		w.want(w.took(), "")
		o.Called("mimi:b")
		o.turn(ctx)
		w.want(w.took(), "")
		o.Called("mimi:a")
		o.turn(ctx)
		w.want(w.took(), "mimi:a: a")
	})
}

// When one lane gets through to a peer that was away, the others do not wait for their own back-off.
func TestAPeerThatIsBackIsTriedAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		o, one, two := w.outbox(), w.room(), w.room()
		w.answer(func([]store.Outbound) Result { return Result{Class: Retry} })
		w.put(&one, "mimi:a", "submitMessage", "a")
		for range 8 {
			o.turn(ctx)
			w.clock.advance(time.Hour)
		}
		o.turn(ctx) // the next try of this lane is in an hour
		w.took()
		w.clock.advance(breakerMost)
		w.answer(func([]store.Outbound) Result { return Result{Class: Done} })
		w.put(&two, "mimi:a", "submitMessage", "b")
		o.turn(ctx)
		o.turn(ctx)
		w.want(w.took(), "mimi:a: b; mimi:a: a")
	})
}
