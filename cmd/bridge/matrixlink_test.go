package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/internal/obs"
	matrix "github.com/matrix-mimi/bridge/matrixside/client"
)

// What a homeserver answers that does not know the bridge, or does not reach it, comes with what to do.
func TestHomeserverTroubleComesWithARemedy(t *testing.T) {
	var status int
	var code string
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"errcode":"` + code + `"}`))
	}))
	defer hs.Close()
	client, err := matrix.New(matrix.Config{Homeserver: hs.URL, Token: "token", Bot: "@mimibot:hs.example"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		status     int
		code, want string
	}{
		{401, "M_UNKNOWN_TOKEN", "give it the file again"},
		{403, "M_FORBIDDEN", "server_name"},
		{502, "M_CONNECTION_FAILED", "appservice.address"},
		{502, "M_BAD_STATUS", "an old one"},
		{400, "M_URL_NOT_SET", "url"},
	} {
		status, code = c.status, c.code
		if got := remedy(client.Ping(t.Context(), "mimi", "1")); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", c.code, got)
		}
	}
	hs.Close()
	if got := remedy(client.Ping(t.Context(), "mimi", "1")); !strings.Contains(got, "homeserver.address") {
		t.Errorf("nobody there: %q", got)
	}
}

// asked is what it takes to ask a homeserver, which is closed with the test, as often as interval says.
func asked(t *testing.T, hs *httptest.Server, interval time.Duration) (*matrix.Client, *config.Config) {
	t.Helper()
	t.Cleanup(hs.Close)
	client, err := matrix.New(matrix.Config{Homeserver: hs.URL, Token: "token", Bot: "@mimibot:hs.example"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{}
	cfg.Appservice.ID, cfg.Homeserver.PingInterval = "mimi", config.Duration(interval)
	return client, cfg
}

// A homeserver that waits because the bridge was away learns at once that it is back.
func TestHomeserverIsPingedAtTheStart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	called := make(chan string, 1)
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case called <- r.Method + " " + r.URL.Path:
		default:
		}
		_, _ = w.Write([]byte("{}"))
	}))
	client, cfg := asked(t, hs, time.Hour)
	l := &matrixLink{cfg: cfg, client: client, up: func(bool) {}, log: zerolog.Nop()}
	done := make(chan struct{})
	go func() { defer close(done); l.watch(ctx, true) }()
	select {
	case got := <-called:
		if !strings.HasSuffix(got, "POST /_matrix/client/v1/appservice/mimi/ping") {
			t.Error(got)
		}
	case <-ctx.Done():
		t.Error("the homeserver was not asked")
	}
	cancel()
	<-done
}

// A homeserver that does not reach the bridge is told with what to do, in the log once, until it does; the bridge stays ready. While
// it is away it is asked sooner.
func TestHomeserverThatDoesNotReachTheBridge(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var reaches atomic.Bool
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !reaches.Load() {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte(`{"errcode":"M_CONNECTION_FAILED"}`))
			return
		}
		_, _ = w.Write([]byte("{}"))
	}))
	client, cfg := asked(t, hs, time.Millisecond)
	var log bytes.Buffer
	away := errors.New("away")
	heard := make(chan bool)
	a := &app{cfg: cfg, health: obs.NewHealth(time.Now, time.Minute), metrics: obs.NewRegistry("v0"), log: zerolog.New(&log)}
	l := a.newMatrixLink(client, nil, nil, nil)
	l.once.Do(func() { close(l.known) })
	l.up = func(ok bool) {
		select {
		case heard <- ok:
		case <-ctx.Done():
		}
	}
	a.health.Started()
	if w := a.health.Warnings(ctx); len(w) > 0 {
		t.Errorf("before it was asked: %q", w)
	}
	done := make(chan struct{})
	go func() { defer close(done); l.watch(ctx, true) }()
	for range 3 {
		if <-heard {
			t.Error("it does not reach the bridge")
		}
	}
	if w := a.health.Warnings(ctx)["homeserver"]; !strings.Contains(w, "M_CONNECTION_FAILED") || !strings.Contains(w, "appservice.address") {
		t.Errorf("warned of %q", w)
	}
	if bad := a.health.Ready(ctx); len(bad) > 0 {
		t.Errorf("not ready: %q", bad)
	}
	reaches.Store(true)
	for !<-heard {
	}
	<-heard // what was heard before this is noted
	if w := a.health.Warnings(ctx); len(w) > 0 {
		t.Errorf("it is there again: %q", w)
	}
	cancel()
	<-done
	for text, want := range map[string]int{"does not reach the bridge": 2, "is there again": 1} { // the first with its hint
		if got := strings.Count(log.String(), text); got != want {
			t.Errorf("%q stands %d times in the log: %s", text, got, log.String())
		}
	}
	for _, c := range []struct {
		interval, want time.Duration
		err            error
	}{{time.Hour, time.Hour, nil}, {time.Hour, 30 * time.Second, away}, {time.Second, time.Second, away}} {
		if got := askAgain(c.interval, c.err); got != c.want {
			t.Errorf("every %s, after %v: asked again after %s", c.interval, c.err, got)
		}
	}
}
