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
