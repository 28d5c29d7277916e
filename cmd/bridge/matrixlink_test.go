package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/matrix-mimi/bridge/internal/config"
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
	defer hs.Close()
	client, err := matrix.New(matrix.Config{Homeserver: hs.URL, Token: "token", Bot: "@mimibot:hs.example"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{}
	cfg.Appservice.ID, cfg.Homeserver.PingInterval = "mimi", config.Duration(time.Hour)
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
