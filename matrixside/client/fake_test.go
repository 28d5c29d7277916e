package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

const token = "as-token-planted"

// fake answers like a homeserver: each "METHOD path" has a list of answers, of
// which the last one stays.
type fake struct {
	*httptest.Server
	mu      sync.Mutex
	answers map[string][]answer
	log     []string
	queries map[string]string
	bodies  map[string]string
}

type answer struct {
	status int
	body   string
	header map[string]string
}

func newFake(t *testing.T) *fake {
	f := &fake{answers: map[string][]answer{}, queries: map[string]string{}, bodies: map[string]string{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) on(call string, status int, body string) *fake {
	f.answers[call] = append(f.answers[call], answer{status: status, body: body})
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	call := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/_matrix/client/v3")
	body, _ := io.ReadAll(r.Body)
	f.log = append(f.log, call)
	f.queries[call], f.bodies[call] = r.URL.RawQuery, string(body)
	if r.Header.Get("Authorization") != "Bearer "+token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	list, ok := f.answers[call]
	if !ok {
		for prefix, l := range f.answers {
			if strings.HasSuffix(prefix, "*") && strings.HasPrefix(call, strings.TrimSuffix(prefix, "*")) {
				call, list, ok = prefix, l, true
			}
		}
	}
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"errcode":"M_UNRECOGNIZED","error":"no such endpoint"}`)
		return
	}
	if len(list) > 1 {
		f.answers[call] = list[1:]
	}
	for k, v := range list[0].header {
		w.Header().Set(k, v)
	}
	w.WriteHeader(list[0].status)
	fmt.Fprint(w, list[0].body)
}

func (f *fake) count(call string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, l := range f.log {
		if l == call || strings.HasSuffix(call, "*") && strings.HasPrefix(l, strings.TrimSuffix(call, "*")) {
			n++
		}
	}
	return n
}

type pendingMap map[string]id.EventID

func (p pendingMap) Resolve(_ context.Context, _ id.RoomID, mimiID []byte, part int) (id.EventID, error) {
	return p[fmt.Sprintf("%x/%d", mimiID, part)], nil
}

func newClient(t *testing.T, f *fake) *Client {
	t.Helper()
	c, err := New(Config{
		Homeserver: f.URL, Token: token, Bot: "@bot:hs", Timeout: 5 * time.Second,
		IsGhost:   func(u id.UserID) bool { return strings.HasPrefix(string(u), "@mimi_") },
		GhostName: func(context.Context, id.UserID) (string, string, error) { return "Ghost", "", nil },
		Pending:   pendingMap{"0102/0": "$real"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ghostly(f *fake) *fake {
	return f.on("POST /register", 200, `{"user_id":"@mimi_a:hs"}`).
		on("PUT /pushrules/global/override/.m.rule.master/enabled", 200, `{}`).
		on("PUT /profile/@mimi_a:hs/displayname", 200, `{}`)
}

func row(a event.Args, txn string) Row {
	return Row{Request: event.NewRequest(a), Room: "!r:hs", Txn: txn}
}
