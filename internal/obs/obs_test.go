package obs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestLogLinesHoldFieldsAndNoSecrets(t *testing.T) {
	for _, format := range []string{"json", "console", "auto"} {
		var out bytes.Buffer
		red := &Redactor{}
		red.Add("as-token-1234", "as-token-1234-longer", "ab")
		log, err := NewLogger(LogOptions{Level: "info", Format: format, Out: &out, Redact: red})
		if err != nil {
			t.Fatal(err)
		}
		red.Add("late-secret")
		log.Info().Str("room", "!r:hs").Err(errors.New("GET /?access_token=as-token-1234-longer: refused late-secret")).Msg("tried as-token-1234")
		log.Debug().Msg("too fine")
		text := out.String()
		for _, secret := range []string{"as-token", "longer", "late-secret"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s: %s holds %s", format, text, secret)
			}
		}
		if strings.Count(text, "[secret]") != 3 || !strings.Contains(text, "!r:hs") || strings.Contains(text, "too fine") {
			t.Errorf("%s: %s", format, text)
		}
		if format == "console" {
			continue
		}
		var line map[string]any
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		for _, field := range []string{"ts", "level", "msg", "err", "room"} {
			if line[field] == nil {
				t.Errorf("no %s in %s", field, text)
			}
		}
	}
}

func TestUnknownLevelIsAnError(t *testing.T) {
	if _, err := NewLogger(LogOptions{Level: "loud", Format: "json", Out: io.Discard}); err == nil {
		t.Error("no error")
	}
}

func get(t *testing.T, h http.Handler, path, from string) (int, string) {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, path, nil)
	req.RemoteAddr = from
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec.Code, rec.Body.String()
}

const here = "127.0.0.1:5"

func TestReadinessStartsFalseAndFollowsTheChecks(t *testing.T) {
	health := NewHealth(time.Now, time.Minute)
	var db error
	health.Check("database", func(context.Context) error { return db })
	h := AdminHandler(AdminOptions{Health: health, Registry: NewRegistry("v0")})
	want := func(code int, word string) {
		t.Helper()
		if got, body := get(t, h, "/readyz", here); got != code || !strings.Contains(body, word) {
			t.Errorf("%d %s; want %d with %q", got, body, code, word)
		}
	}
	want(503, "starting")
	health.Started()
	want(200, "true")
	db = errors.New("database is gone")
	want(503, "database is gone")
	db = nil
	want(200, "true")
	health.Stopping()
	want(503, "stopping")
}

// What only warns is told with the readiness and does not decide it.
func TestWarningsDoNotDecideReadiness(t *testing.T) {
	health := NewHealth(time.Now, time.Minute)
	away := errors.New("the homeserver is away")
	err := away
	health.Warn("homeserver", func(context.Context) error { return err })
	h := AdminHandler(AdminOptions{Health: health, Registry: NewRegistry("v0")})
	health.Started()
	for _, path := range []string{"/readyz", "/statusz"} {
		for _, c := range []struct {
			err  error
			want bool
		}{{away, true}, {nil, false}} {
			err = c.err
			if code, body := get(t, h, path, here); code != 200 || strings.Contains(body, `"homeserver": "the homeserver is away"`) != c.want {
				t.Errorf("%s with %v: %d %s", path, c.err, code, body)
			}
		}
	}
}

func TestLivenessNeedsTheLoopToTurn(t *testing.T) {
	now := time.Unix(1000, 0)
	health := NewHealth(func() time.Time { return now }, 30*time.Second)
	h := AdminHandler(AdminOptions{Health: health, Registry: NewRegistry("v0")})
	if code, _ := get(t, h, "/livez", here); code != 200 {
		t.Error(code)
	}
	now = now.Add(31 * time.Second)
	if code, _ := get(t, h, "/livez", here); code != 503 {
		t.Error(code)
	}
	health.Beat()
	if code, _ := get(t, h, "/livez", here); code != 200 {
		t.Error(code)
	}
}

func TestStatusShowsPartsAndTheirErrors(t *testing.T) {
	health := NewHealth(time.Now, time.Minute)
	health.Status("queues", func(context.Context) (any, error) { return map[string]int{"outbound": 3}, nil })
	health.Status("peers", func(context.Context) (any, error) { return nil, errors.New("no database") })
	h := AdminHandler(AdminOptions{Health: health, Registry: NewRegistry("v0")})
	code, body := get(t, h, "/statusz", here)
	var got struct {
		Live   bool
		Queues map[string]int
		Peers  map[string]string
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 {
		t.Fatal(code, body, err)
	}
	if !got.Live || got.Queues["outbound"] != 3 || got.Peers["error"] != "no database" {
		t.Error(body)
	}
}

func TestMetricsAreServedUnderTheNamespace(t *testing.T) {
	reg := NewRegistry("v9.9")
	reg.Counter("step_broken_total", "Inputs set aside.").WithLabelValues().Add(2)
	reg.Seconds("step_seconds", "Time of a step.", "direction").WithLabelValues("out").Observe(0.01)
	reg.GaugeFunc("room_workers", "Workers.", func() float64 { return 7 })
	_, body := get(t, AdminHandler(AdminOptions{Health: NewHealth(time.Now, time.Minute), Registry: reg}), "/metrics", here)
	for _, want := range []string{`mimibridge_build_info{go=`, `version="v9.9"} 1`, "mimibridge_step_broken_total 2", `mimibridge_step_seconds_count{direction="out"} 1`, "mimibridge_room_workers 7", "go_goroutines", "process_open_fds"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestPprofIsForLoopbackOnly(t *testing.T) {
	o := AdminOptions{Health: NewHealth(time.Now, time.Minute), Registry: NewRegistry("v0"), Pprof: true}
	for from, want := range map[string]int{here: 200, "[::1]:5": 200, "10.0.0.7:5": 403, "@": 403} {
		if code, _ := get(t, AdminHandler(o), "/debug/pprof/cmdline", from); code != want {
			t.Errorf("%s gets %d, want %d", from, code, want)
		}
	}
	o.Pprof = false
	if code, _ := get(t, AdminHandler(o), "/debug/pprof/cmdline", here); code != 404 {
		t.Errorf("switched off, it answers %d", code)
	}
}

func TestAdminListensAndStops(t *testing.T) {
	a, err := StartAdmin(AdminOptions{Listen: "127.0.0.1:0", Health: NewHealth(time.Now, time.Minute), Registry: NewRegistry("v0")})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + a.Addr().String() + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := a.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := http.Get("http://" + a.Addr().String() + "/livez"); err == nil {
		t.Error("still answers")
	}
}
