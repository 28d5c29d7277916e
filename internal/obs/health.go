package obs

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Health answers whether the process lives, whether it can work, and how it
// does. It starts not ready.
type Health struct {
	now     func() time.Time
	maxBeat time.Duration

	beat     atomic.Int64 // unix nanoseconds
	ready    atomic.Bool
	stopping atomic.Bool

	mu       sync.Mutex
	checks   []named[func(context.Context) error]
	warnings []named[func(context.Context) error]
	status   []named[func(context.Context) (any, error)]
}

type named[T any] struct {
	name string
	f    T
}

// NewHealth makes a Health. The process counts as dead when Beat was not called
// for maxBeat; now is the clock.
func NewHealth(now func() time.Time, maxBeat time.Duration) *Health {
	h := &Health{now: now, maxBeat: maxBeat}
	h.Beat()
	return h
}

// Beat says that the main loop turns.
func (h *Health) Beat() { h.beat.Store(h.now().UnixNano()) }

// Started says that everything was started: from now on the checks decide.
func (h *Health) Started() { h.ready.Store(true) }

// Stopping says that the process takes no more work.
func (h *Health) Stopping() { h.stopping.Store(true) }

// Check adds a condition of readiness. The function must return within its
// context and must be safe to call at any time, also concurrently.
func (h *Health) Check(name string, f func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, named[func(context.Context) error]{name, f})
}

// Warn adds something that is told beside the readiness and does not decide it. The function is bound as that of Check is.
func (h *Health) Warn(name string, f func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.warnings = append(h.warnings, named[func(context.Context) error]{name, f})
}

// Status adds a part of /statusz; its result must be fit for JSON and hold ids
// and numbers only.
func (h *Health) Status(name string, f func(context.Context) (any, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status = append(h.status, named[func(context.Context) (any, error)]{name, f})
}

// checkTime bounds all checks of one request together, and all warnings.
const checkTime = 2 * time.Second

// Live says whether the main loop has turned lately.
func (h *Health) Live() bool {
	return h.now().Sub(time.Unix(0, h.beat.Load())) <= h.maxBeat
}

// Ready returns what stands against being ready, by name of the check; nothing
// means ready.
func (h *Health) Ready(ctx context.Context) map[string]string {
	switch {
	case h.stopping.Load():
		return map[string]string{"process": "stopping"}
	case !h.ready.Load():
		return map[string]string{"process": "starting"}
	}
	h.mu.Lock()
	checks := h.checks
	h.mu.Unlock()
	return failing(ctx, checks)
}

// Warnings returns what does not work although the process may be ready, by name.
func (h *Health) Warnings(ctx context.Context) map[string]string {
	h.mu.Lock()
	warnings := h.warnings
	h.mu.Unlock()
	return failing(ctx, warnings)
}

func failing(ctx context.Context, checks []named[func(context.Context) error]) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	bad := map[string]string{}
	for _, c := range checks {
		if err := c.f(ctx); err != nil {
			bad[c.name] = err.Error()
		}
	}
	return bad
}

func (h *Health) serveLive(w http.ResponseWriter, _ *http.Request) {
	if !h.Live() {
		http.Error(w, "the main loop does not turn", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

func (h *Health) serveReady(w http.ResponseWriter, r *http.Request) {
	bad := h.Ready(r.Context())
	code := http.StatusOK
	if len(bad) > 0 {
		code = http.StatusServiceUnavailable
	}
	writeJSON(w, code, map[string]any{"ready": len(bad) == 0, "problems": bad, "warnings": h.Warnings(r.Context())})
}

func (h *Health) serveStatus(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*checkTime)
	defer cancel()
	h.mu.Lock()
	parts := h.status
	h.mu.Unlock()
	out := map[string]any{"live": h.Live(), "problems": h.Ready(ctx), "warnings": h.Warnings(ctx)}
	for _, p := range parts {
		v, err := p.f(ctx)
		if err != nil {
			v = map[string]string{"error": err.Error()}
		}
		out[p.name] = v
	}
	writeJSON(w, http.StatusOK, out)
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v)
}
