package intake

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
)

// handClock stands until it is moved.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestTrafficIsMuchFromFiveInASecond(t *testing.T) {
	c := &handClock{now: time.Unix(1_700_000_000, 0)}
	traffic := &Traffic{Now: c.Now}
	left := 0
	leave := func() { left++ }
	came := func(n int) {
		for range n {
			traffic.Came()
		}
	}
	for range 10 { // one after the other, slowly
		came(muchTraffic - 1)
		c.advance(time.Second)
	}
	if traffic.busy(leave) || left != 0 {
		t.Error("four in a second are much")
	}
	came(muchTraffic)
	if left != 1 || !traffic.busy(leave) {
		t.Errorf("five in a second are not much, or what waits was left %d times", left)
	}
	c.advance(calmAfter - time.Millisecond)
	if !traffic.busy(leave) {
		t.Error("it is calm too early")
	}
	c.advance(time.Millisecond)
	if traffic.busy(leave) {
		t.Error("it is never calm again")
	}
	var none *Traffic
	if none.busy(leave) {
		t.Error("much comes to nobody")
	}
}

// While much is pushed, no /sync stays open: the one that is is left, without harm, and then the homeserver is asked now and then.
func TestNoSyncStaysOpenWhileMuchComes(t *testing.T) {
	c := &handClock{now: time.Unix(1_700_000_000, 0)}
	traffic := &Traffic{Now: c.Now}
	asked := make(chan string)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timeout := r.URL.Query().Get("timeout")
		select {
		case asked <- timeout:
		case <-r.Context().Done():
			return
		}
		if timeout != "0" {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `{"next_batch":"s2"}`)
	}))
	defer srv.Close()
	cli, err := mautrix.NewClient(srv.URL, "@bot:hs", "x")
	if err != nil {
		t.Fatal(err)
	}
	cli.Log = zerolog.Nop()
	waits := map[time.Duration]int{}
	var failed int
	m := &memory{}
	l, err := NewLoop(SyncConfig{Client: cli, Sink: m, Positions: m, Traffic: traffic, Log: zerolog.Nop(),
		Wait: func(ctx context.Context, d time.Duration) error {
			waits[d]++
			return ctx.Err()
		},
		Observe: func(result string, _ *Transaction, _ time.Duration) {
			if result == "failed" {
				failed++
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	want := func(timeout string) {
		t.Helper()
		select {
		case got := <-asked:
			if got != timeout {
				t.Fatalf("the homeserver is asked to wait %s ms, want %s", got, timeout)
			}
		case <-ctx.Done():
			t.Fatal("the homeserver is not asked")
		}
	}
	want("0") // where to begin
	want("30000")
	for range muchTraffic {
		traffic.Came()
	}
	want("0")
	want("0")
	c.advance(calmAfter)
	for got := "0"; got != "30000"; { // some may have been on their way
		select {
		case got = <-asked:
		case <-ctx.Done():
			t.Fatal("no /sync is left open again")
		}
	}
	cancel()
	<-done
	if failed != 0 || len(waits) != 1 || waits[pollEvery] < 2 {
		t.Errorf("%d rounds failed, pauses were %v", failed, waits)
	}
}
