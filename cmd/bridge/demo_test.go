package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The demonstration as such, with a script that needs no bridge.
func TestDemoPlaysAScriptAndClearsUp(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED WITH A HOMESERVER: -short")
	}
	script := filepath.Join(t.TempDir(), "script.txt")
	text := "title \"small\"\nhomeserver one\nalice@one: creates public room \"A\"\nbob@one: joins \"A\"\nalice@one: says \"hi\"\nbob@one: sees \"hi\" from alice@one\n"
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out := must(t, "demo", "--script", script, "--dir", t.TempDir())
	for _, want := range []string{"alice@one: says \"hi\"", "ms after it was sent", "bob@one sees \"A\" (join):", "alice: hi", "\ndemo ok: 1 messages, 0 lost, 0 doubled\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	text += "alice@one: says \"nobody hears this\"\n"
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := do(t, "demo", "--script", script); err == nil || !strings.Contains(err.Error(), "2 messages, 1 lost, 0 doubled") {
		t.Errorf("a lost message gives %v\n%s", err, out)
	}
}

// watched is an output that closes seen when a text has been written to it.
type watched struct {
	mu   sync.Mutex
	buf  strings.Builder
	text string
	seen chan struct{}
	once sync.Once
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(b)
	if strings.Contains(w.buf.String(), w.text) {
		w.once.Do(func() { close(w.seen) })
	}
	return len(b), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// With --keep the demonstration goes on running until it is told to stop, and people can log in with what it prints.
func TestDemoIsKept(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED WITH A HOMESERVER: -short")
	}
	script := filepath.Join(t.TempDir(), "script.txt")
	if err := os.WriteFile(script, []byte("title \"small\"\nhomeserver one\nalice@one: creates public room \"A\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out := &watched{text: "password", seen: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- demo(ctx, out, demoOptions{keep: true, script: script}) }()
	select {
	case <-out.seen:
	case err := <-ended:
		t.Fatalf("it ended: %v\n%s", err, out)
	}
	m := regexp.MustCompile(`homeserver (\S+)  user (\S+)  password (\S+)\n`).FindStringSubmatch(out.String())
	if m == nil {
		t.Fatalf("it is not said how to log in:\n%s", out)
	}
	body := fmt.Sprintf(`{"type":"m.login.password","identifier":{"type":"m.id.user","user":%q},"password":%q}`, m[2], m[3])
	resp, err := http.Post(m[1]+"/_matrix/client/v3/login", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the login is answered with %s", resp.Status)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ends with %v", err)
	}
	if _, err := http.Get(m[1] + "/_matrix/client/versions"); err == nil {
		t.Error("the homeserver still runs")
	}
}

// A step that takes long says every 15 s that it goes on.
func TestLongStepsShowProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &watched{seen: make(chan struct{})}
		stop := progress(out, "still building")
		<-time.After(40 * time.Second) // in the bubble's time
		stop()
		<-time.After(time.Minute)
		if got := out.String(); got != "still building (15 s)\nstill building (30 s)\n" {
			t.Errorf("%q", got)
		}
	})
}
