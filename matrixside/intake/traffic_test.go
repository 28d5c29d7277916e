package intake

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
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
	came := func(n int) {
		for range n {
			traffic.Came()
		}
	}
	for range 10 { // one after the other, slowly
		came(muchTraffic - 1)
		c.advance(time.Second)
	}
	if traffic.busy() {
		t.Error("four in a second are much")
	}
	came(muchTraffic)
	if !traffic.busy() {
		t.Error("five in a second are not much")
	}
	c.advance(calmAfter - time.Millisecond)
	if !traffic.busy() {
		t.Error("it is calm too early")
	}
	c.advance(time.Millisecond)
	if traffic.busy() {
		t.Error("it is never calm again")
	}
	var none *Traffic
	if none.busy() {
		t.Error("much comes to nobody")
	}
}

// While much is pushed, no /sync is left open: the one that is comes to its end, and then the homeserver is asked now and then.
func TestNoSyncIsLeftOpenWhileMuchComes(t *testing.T) {
	c := &handClock{now: time.Unix(1_700_000_000, 0)}
	traffic := &Traffic{Now: c.Now}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	asked, end := make(chan string), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timeout := r.URL.Query().Get("timeout")
		select {
		case asked <- timeout:
		case <-r.Context().Done():
			return
		}
		if timeout != "0" {
			select {
			case <-end:
			case <-r.Context().Done():
				if ctx.Err() == nil {
					t.Error("a request is cut off")
				}
				return
			}
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
	open := strconv.FormatInt(syncTimeout.Milliseconds(), 10)
	want(open)
	for range muchTraffic {
		traffic.Came()
	}
	end <- struct{}{}
	want("0")
	want("0")
	c.advance(calmAfter)
	for got := "0"; got != open; { // some may have been on their way
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
