package load

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/test/fakes/stage"
	"github.com/matrix-mimi/bridge/test/harness"
)

// goalRate is what part of the homeserver's own send rate goes through the bridge.
const goalRate = 0.95

// TestReal sends over a real homeserver: first in a room that the bridge is not in, then through the bridge, then without
// it again.
func TestReal(t *testing.T) {
	// With status events the homeserver takes two events a message: the message, and that it was delivered.
	for _, status := range []bool{false, true} {
		t.Run(fmt.Sprintf("status=%v", status), func(t *testing.T) { testReal(t, status) })
		if !full() {
			return
		}
	}
}

func testReal(t *testing.T, status bool) {
	bin := build(t)
	bins, err := harness.BuildDendrite(t.Context(), testWriter{t})
	if err != nil {
		t.Skipf("no homeserver: %v", err)
	}
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	const name = "hs.a.example"
	s := open(t, stage.Options{Bin: bin, Bridge: map[string]any{"message_status_events": status}, Homeserver: func(string) (string, string) { return name, "http://" + harness.Loopback(port) }})
	hs, err := harness.StartHomeserver(s.ctx, harness.Software{Dendrite: bins}, harness.HomeserverConfig{ServerName: name, Dir: filepath.Join(t.TempDir(), "hs"), Port: port,
		Registrations: []string{s.a.Registration()}})
	s.must(err)
	t.Cleanup(func() {
		if err := hs.Stop(); err != nil {
			t.Error(err)
		}
	})
	s.must(s.a.Start(s.ctx))
	alice, err := hs.User(s.ctx, "alice")
	s.must(err)
	// As many members as the other room will have: the homeserver works for each of them.
	plain, err := alice.CreateRoom(s.ctx, &mautrix.ReqCreateRoom{Name: "Plain"})
	s.must(err)
	for _, local := range []string{"carol", "dave"} {
		other, err := hs.User(s.ctx, local)
		s.must(err)
		_, err = alice.InviteUser(s.ctx, plain.RoomID, &mautrix.ReqInviteUser{UserID: other.UserID})
		s.must(err)
		_, err = other.JoinRoomByID(s.ctx, plain.RoomID)
		s.must(err)
	}
	made, err := alice.CreateRoom(s.ctx, &mautrix.ReqCreateRoom{Name: "Bridged", Invite: []id.UserID{id.UserID(s.a.Ghost(peer, "bob"))}})
	s.must(err)
	s.must(s.p.Wait(s.ctx, "the Welcome", func() bool { s.room = s.p.Room(); return s.room != "" && s.p.Clients(s.room) == 1 }))
	count := 10
	if full() {
		count = 500
	}
	fmt.Printf("# Dendrite %s with SQLite, load average %s, %d cores\n", harness.DendriteVersion, load(), runtime.NumCPU())
	send := func(room id.RoomID, n int, what string) time.Duration {
		began := time.Now()
		for i := range n {
			_, err := alice.SendMessageEvent(s.ctx, room, event.EventMessage, &event.MessageEventContent{MsgType: event.MsgText, Body: fmt.Sprintf("%s %d", what, i)})
			s.must(err)
		}
		return time.Since(began)
	}
	send(plain.RoomID, count/10, "warm")
	send(made.RoomID, count/10, "warm")
	s.must(s.p.Wait(s.ctx, "the first messages", func() bool { return len(s.p.Arrivals(s.room)) >= count/10 }))
	var raw, out, in time.Duration
	parts := 5 // the homeserver's own rate changes with the load of the machine: the three are measured in turn
	for part := range parts {
		n := count / parts
		raw += send(plain.RoomID, n, "plain")
		had := len(s.p.Arrivals(s.room))
		began := time.Now()
		send(made.RoomID, n, "bridged")
		s.must(s.p.Wait(s.ctx, "the messages", func() bool { return len(s.p.Arrivals(s.room)) >= had+n }))
		out += time.Since(began)
		in += s.answers(alice, made.RoomID, n, part)
	}
	rate := func(d time.Duration) float64 { return float64(count/parts*parts) / d.Seconds() }
	condition := fmt.Sprintf("dendrite,status-events=%v", status)
	line("homeserver-own-rate", condition, fmt.Sprintf("%.0f/s", rate(raw)), 1)
	line("matrix-to-mimi-rate", condition, fmt.Sprintf("%.0f/s", rate(out)), rate(out)/rate(raw))
	line("mimi-to-matrix-rate", condition, fmt.Sprintf("%.0f/s", rate(in)), rate(in)/rate(raw))
	if full() && (rate(out) < goalRate*rate(raw) || rate(in) < goalRate*rate(raw)) {
		fmt.Printf("# the goal of %.2f is missed\n", goalRate)
	}
}

// answers lets bob write messages and returns how long it takes until the homeserver shows the last of them to alice.
func (s *setting) answers(alice *mautrix.Client, room id.RoomID, n, part int) time.Duration {
	s.t.Helper()
	text := func(i int) string { return fmt.Sprintf("answer %d of %d", i, part) }
	bodies := make([][]byte, n)
	for i := range bodies {
		_, body, err := s.p.Compose(s.room, s.bob, text(i))
		s.must(err)
		bodies[i] = body
	}
	db, err := s.a.Database()
	s.must(err)
	defer db.Close()
	began := time.Now()
	for _, body := range bodies {
		s.must(s.p.Submit(s.ctx, domain, s.room, body))
	}
	// The homeserver is asked when the last is on its way: that it is there is written down with what comes next for the lane, a little later.
	const most = time.Minute
	for time.Since(began) < most {
		left, err := stage.Count(s.ctx, db, `SELECT COUNT(*) FROM outbound WHERE dest = 'matrix'`)
		s.must(err)
		pause := 5 * time.Millisecond
		switch {
		case left > 20:
			pause = 50 * time.Millisecond // looking costs too
		case left <= 1:
			page, err := alice.Messages(s.ctx, room, "", "", mautrix.DirectionBackward, nil, 1)
			s.must(err)
			if len(page.Chunk) == 1 && page.Chunk[0].Content.Raw["body"] == text(n-1) {
				return time.Since(began)
			}
		}
		select {
		case <-s.ctx.Done():
			s.t.Fatal(context.Cause(s.ctx))
		case <-time.After(pause):
		}
	}
	s.t.Fatalf("the answers are not there after %v", most)
	return 0
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}
