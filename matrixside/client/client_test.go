package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

func TestOutcomesAreClassified(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   Class
		after  time.Duration
	}{
		{200, `{"event_id":"$e"}`, Done, 0},
		{200, `not json`, Retry, 0},
		{429, `{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":1500}`, Retry, 1500 * time.Millisecond},
		{403, `{"errcode":"M_FORBIDDEN"}`, Refused, 0},
		{403, `<html>forbidden by a proxy</html>`, Retry, 0},
		{404, `<html>wrong host</html>`, Retry, 0},
		{400, `{"errcode":"M_BAD_JSON"}`, Refused, 0},
		{413, `{"errcode":"M_TOO_LARGE"}`, Refused, 0},
		{401, `{"errcode":"M_UNKNOWN_TOKEN"}`, Retry, 0},
		{403, `{"errcode":"M_RESOURCE_LIMIT_EXCEEDED"}`, Retry, 0},
		{500, `{"errcode":"M_UNKNOWN"}`, Retry, 0},
		{502, ``, Retry, 0},
		{408, ``, Retry, 0},
	} {
		f := newFake(t).on("PUT /rooms/!r:hs/send/*", c.status, c.body)
		res := newClient(t, f).Do(t.Context(), row(event.Send{Type: "m.room.message", Content: []byte(`{"body":"x"}`)}, "k"))
		if res.Class != c.want || res.RetryAfter != c.after {
			t.Errorf("%d %s: %v after %v, want %v after %v", c.status, c.body, res.Class, res.RetryAfter, c.want, c.after)
		}
		if res.Err != nil && strings.Contains(res.Err.Error(), token) {
			t.Error("the token is in an error")
		}
	}
	f := newFake(t)
	f.Close()
	res := newClient(t, f).Do(t.Context(), row(event.Send{Type: "m.room.message", Content: []byte(`{}`)}, "k"))
	if res.Class != Retry || res.Status != 0 || res.Err == nil {
		t.Errorf("homeserver down: %+v", res)
	}
}

func TestTransactionIDNamesTheGhost(t *testing.T) {
	f := ghostly(newFake(t)).on("PUT /rooms/!r:hs/send/*", 200, `{"event_id":"$e"}`)
	c := newClient(t, f)
	send := func(sender id.UserID, key string) string {
		c.setKnown(sender)
		if res := c.Do(t.Context(), row(event.Send{Sender: sender, Type: "m.room.message", Content: []byte(`{"body":"x"}`), TS: 77}, key)); res.EventID() != "$e" {
			t.Fatalf("%+v", res)
		}
		call := f.log[len(f.log)-1]
		if q := f.queries[call]; !strings.Contains(q, "ts=77") || !strings.Contains(q, "user_id="+strings.NewReplacer("@", "%40", ":", "%3A").Replace(string(sender))) {
			t.Errorf("query %s", q)
		}
		return call
	}
	a1, a2, b, other := send("@mimi_a:hs", "7"), send("@mimi_a:hs", "7"), send("@mimi_b:hs", "7"), send("@mimi_a:hs", "8")
	if a1 != a2 || a1 == b || a1 == other {
		t.Errorf("transaction ids:\n%s\n%s\n%s\n%s", a1, a2, b, other)
	}
	if res := c.Do(t.Context(), row(event.Send{Type: "x", Content: []byte(`{}`)}, "")); res.Class != Refused {
		t.Error("a send without a transaction key was made")
	}
}

func TestGhostIsMadeOnDemandOnce(t *testing.T) {
	f := ghostly(newFake(t)).on("PUT /rooms/!r:hs/send/*", 200, `{"event_id":"$e"}`)
	c := newClient(t, f)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			c.Do(context.Background(), row(event.Send{Sender: "@mimi_a:hs", Type: "m.room.message", Content: []byte(`{}`)}, fmt.Sprint(i)))
		})
	}
	wg.Wait()
	for call, want := range map[string]int{"POST /register": 1, "PUT /pushrules/global/override/.m.rule.master/enabled": 1, "PUT /profile/@mimi_a:hs/displayname": 1, "PUT /rooms/!r:hs/send/*": 8} {
		if n := f.count(call); n != want {
			t.Errorf("%s: %d times, want %d", call, n, want)
		}
	}
	if !strings.Contains(f.bodies["POST /register"], `"username":"mimi_a"`) || !strings.Contains(f.bodies["PUT /profile/@mimi_a:hs/displayname"], "Ghost") {
		t.Error(f.bodies)
	}
}

func TestGhostThatExistsIsFine(t *testing.T) {
	f := newFake(t).on("POST /register", 400, `{"errcode":"M_USER_IN_USE"}`).
		on("PUT /pushrules/global/override/.m.rule.master/enabled", 200, `{}`).
		on("PUT /profile/@mimi_a:hs/displayname", 503, ``).on("PUT /profile/@mimi_a:hs/displayname", 200, `{}`)
	c := newClient(t, f)
	r := Row{Request: event.NewRequest(event.Register{User: "@mimi_a:hs", Name: "A"})}
	if res := c.Do(t.Context(), r); res.Class != Retry {
		t.Fatalf("half made ghost: %+v", res)
	}
	if res := c.Do(t.Context(), r); res.Class != Done {
		t.Fatalf("%+v", res)
	}
	if res := c.Do(t.Context(), Row{Request: event.NewRequest(event.Register{User: "@alice:hs"})}); res.Class != Refused {
		t.Error("registered a user outside the namespace")
	}
}

func TestMembershipThatIsSoAlreadyIsDone(t *testing.T) {
	member := "GET /rooms/!r:hs/state/m.room.member/@mimi_a:hs"
	for _, c := range []struct {
		args  event.Args
		call  string
		state string
		want  Class
	}{
		{event.InviteUser{Target: "@mimi_a:hs"}, "POST /rooms/!r:hs/invite", `{"membership":"join"}`, Done},
		{event.InviteUser{Target: "@mimi_a:hs"}, "POST /rooms/!r:hs/invite", `{"membership":"ban"}`, Refused},
		{event.KickUser{Target: "@mimi_a:hs"}, "POST /rooms/!r:hs/kick", `{"membership":"leave"}`, Done},
		{event.KickUser{Target: "@mimi_a:hs"}, "POST /rooms/!r:hs/kick", `{"membership":"join"}`, Refused},
		{event.BanUser{Target: "@mimi_a:hs"}, "POST /rooms/!r:hs/ban", `{"membership":"ban"}`, Done},
		{event.UnbanUser{Target: "@mimi_a:hs"}, "POST /rooms/!r:hs/unban", `{"membership":"leave"}`, Done},
		{event.UnbanUser{Target: "@mimi_a:hs"}, "POST /rooms/!r:hs/unban", `{"membership":"ban"}`, Refused},
		{event.LeaveRoom{Sender: "@mimi_a:hs"}, "POST /rooms/!r:hs/leave", `{"membership":"leave"}`, Done},
		{event.JoinRoom{Sender: "@mimi_a:hs"}, "POST /join/!r:hs", `{"membership":"join"}`, Done},
		{event.KnockRoom{Sender: "@mimi_a:hs"}, "POST /knock/!r:hs", `{"membership":"knock"}`, Done},
	} {
		f := ghostly(newFake(t)).on(c.call, 403, `{"errcode":"M_FORBIDDEN"}`).on(member, 200, c.state)
		if res := newClient(t, f).Do(t.Context(), row(c.args, "")); res.Class != c.want {
			t.Errorf("%T with %s: %v %v", c.args, c.state, res.Class, res.Err)
		}
	}
	f := ghostly(newFake(t)).on("POST /rooms/!r:hs/leave", 404, `{"errcode":"M_NOT_FOUND"}`).on(member, 404, `{"errcode":"M_NOT_FOUND"}`)
	if res := newClient(t, f).Do(t.Context(), row(event.LeaveRoom{Sender: "@mimi_a:hs"}, "")); res.Class != Done {
		t.Errorf("leaving a room one never was in: %+v", res)
	}
}

func TestJoinInvitesFirstWhereNeeded(t *testing.T) {
	f := ghostly(newFake(t)).on("POST /join/!r:hs", 403, `{"errcode":"M_FORBIDDEN"}`).on("POST /join/!r:hs", 200, `{"room_id":"!r:hs"}`).
		on("POST /rooms/!r:hs/invite", 200, `{}`)
	res := newClient(t, f).Do(t.Context(), row(event.JoinRoom{Sender: "@mimi_a:hs", InviteFirst: true, Via: []string{"hs"}}, ""))
	if res.RoomID() != "!r:hs" || f.count("POST /rooms/!r:hs/invite") != 1 || !strings.Contains(f.queries["POST /join/!r:hs"], "via=hs") {
		t.Fatalf("%+v %v", res, f.log)
	}
}

// Dendrite now and then refuses a join right after the invitation, which it shows already: it is tried again, a few times. Who is not invited, or is
// banned, is not.
func TestJoinRightAfterTheInvitation(t *testing.T) {
	const call, member, refusal = "POST /join/!r:hs", "GET /rooms/!r:hs/state/m.room.member/@mimi_a:hs", `{"errcode":"M_FORBIDDEN"}`
	joined := func(f *fake) *fake { return f.on(call, 200, `{"room_id":"!r:hs"}`) }
	for name, c := range map[string]struct {
		f     *fake
		args  event.JoinRoom
		tries int
		want  Class
	}{
		"refused once":                    {joined(newFake(t).on(call, 403, refusal).on(member, 200, `{"membership":"invite"}`)), event.JoinRoom{}, 2, Done},
		"refused for long":                {newFake(t).on(call, 403, refusal).on(member, 200, `{"membership":"invite"}`), event.JoinRoom{}, 1 + len(joinWaits), Refused},
		"where the bot is not":            {joined(newFake(t).on(call, 403, refusal).on(member, 403, refusal)), event.JoinRoom{}, 2, Done},
		"banned":                          {newFake(t).on(call, 403, refusal).on(member, 200, `{"membership":"ban"}`), event.JoinRoom{}, 1, Refused},
		"not invited":                     {newFake(t).on(call, 403, refusal).on(member, 404, `{"errcode":"M_NOT_FOUND"}`), event.JoinRoom{}, 1, Refused},
		"another refusal":                 {newFake(t).on(call, 400, `{"errcode":"M_BAD_STATE"}`).on(member, 200, `{"membership":"invite"}`), event.JoinRoom{}, 1, Refused},
		"invited first":                   {joined(newFake(t).on(call, 403, refusal).on(call, 403, refusal).on("POST /rooms/!r:hs/invite", 200, `{}`).on(member, 200, `{"membership":"invite"}`)), event.JoinRoom{InviteFirst: true}, 3, Done},
		"a room that nobody was asked to": {newFake(t).on("POST /join/!new:hs", 403, refusal), event.JoinRoom{Room: "!new:hs"}, 0, Refused},
	} {
		t.Run(name, func(t *testing.T) {
			client, waited := newClient(t, ghostly(c.f)), 0
			client.pause = func(context.Context, time.Duration) error { waited++; return nil }
			c.args.Sender = "@mimi_a:hs"
			res := client.Do(t.Context(), row(c.args, ""))
			if res.Class != c.want || c.f.count(call) != c.tries || waited > len(joinWaits) {
				t.Errorf("%v after %d tries, want %v after %d; waited %d times: %v", res.Class, c.f.count(call), c.want, c.tries, waited, c.f.log)
			}
		})
	}
}

// Who is in the row's room has not thereby come into another one: a room that replaces it, say.
func TestJoinOfAnotherRoomIsNotTakenForDone(t *testing.T) {
	f := ghostly(newFake(t)).on("POST /join/!new:hs", 403, `{"errcode":"M_FORBIDDEN"}`).
		on("GET /rooms/!r:hs/state/m.room.member/@bot:hs", 200, `{"membership":"join"}`).
		on("GET /rooms/!new:hs/state/m.room.member/@bot:hs", 403, `{"errcode":"M_FORBIDDEN"}`)
	if res := newClient(t, f).Do(t.Context(), row(event.JoinRoom{Sender: "@bot:hs", Room: "!new:hs"}, "")); res.Class != Refused {
		t.Fatalf("%+v %v", res, f.log)
	}
}

func TestRoomIsMadeOnce(t *testing.T) {
	inUse := `{"errcode":"M_ROOM_IN_USE"}`
	a := event.CreateRoom{Alias: "mimi_x", Name: "N", Invite: []id.UserID{"@alice:hs"}, Local: true, Levels: []byte(`{"users":{}}`)}
	f := newFake(t).on("POST /createRoom", 200, `{"room_id":"!new:hs"}`)
	if res := newClient(t, f).Do(t.Context(), row(a, "")); res.RoomID() != "!new:hs" {
		t.Fatalf("%+v", res)
	}
	if b := f.bodies["POST /createRoom"]; !strings.Contains(b, `"m.federate":false`) || !strings.Contains(b, `"room_alias_name":"mimi_x"`) {
		t.Error(b)
	}
	f = newFake(t).on("POST /createRoom", 400, inUse).on("GET /directory/room/#mimi_x:hs", 200, `{"room_id":"!old:hs"}`).
		on("GET /rooms/!old:hs/state/m.room.member/@bot:hs", 200, `{"membership":"join"}`).on("POST /rooms/!old:hs/invite", 200, `{}`)
	if res := newClient(t, f).Do(t.Context(), row(a, "")); res.RoomID() != "!old:hs" || f.count("POST /rooms/!old:hs/invite") != 1 {
		t.Fatalf("the room of an earlier try: %+v", res)
	}
	f = newFake(t).on("POST /createRoom", 400, inUse).on("GET /directory/room/#mimi_x:hs", 200, `{"room_id":"!evil:hs"}`).
		on("GET /rooms/!evil:hs/state/m.room.member/@bot:hs", 403, `{"errcode":"M_FORBIDDEN"}`)
	if res := newClient(t, f).Do(t.Context(), row(a, "")); res.Class != Refused {
		t.Fatalf("the room of somebody else: %+v", res)
	}
}

func TestReferencesToWaitingEvents(t *testing.T) {
	known, unknown := event.PendingID([]byte{1, 2}, 0), event.PendingID([]byte{9}, 0)
	f := newFake(t).on("PUT /rooms/!r:hs/send/*", 200, `{"event_id":"$e"}`).on("PUT /rooms/!r:hs/redact/*", 200, `{"event_id":"$e"}`)
	c := newClient(t, f)
	do := func(a event.Args) (Result, string) {
		res := c.Do(t.Context(), row(a, "k"))
		return res, f.bodies[f.log[max(0, len(f.log)-1)]]
	}
	message := func(r event.Relation, n *event.Message) event.Send {
		return event.Send{Type: "m.room.message", Content: event.Message{MsgType: "m.text", Body: "b", Relation: r, NewContent: n}.Encode()}
	}
	if _, body := do(message(event.Relation{ReplyTo: known}, nil)); !strings.Contains(body, `"event_id":"$real"`) {
		t.Error(body)
	}
	if _, body := do(message(event.Relation{ReplyTo: unknown, Thread: known}, nil)); strings.Contains(body, "pending") || !strings.Contains(body, `"m.thread"`) || strings.Contains(body, "in_reply_to") {
		t.Error(body)
	}
	if _, body := do(message(event.Relation{Replaces: unknown}, &event.Message{MsgType: "m.text", Body: "new"})); strings.Contains(body, "relates_to") || !strings.Contains(body, `"body":"new"`) {
		t.Error(body)
	}
	n := len(f.log)
	if res, _ := do(event.Send{Type: "m.reaction", Content: event.EncodeReaction(unknown, "x", nil)}); res.Class != Refused || len(f.log) != n {
		t.Errorf("reaction to nothing: %+v", res)
	}
	if res, _ := do(event.Redact{Event: unknown}); res.Class != Done || len(f.log) != n {
		t.Errorf("redaction of nothing: %+v", res)
	}
	if _, _ = do(event.Redact{Event: known}); !strings.Contains(f.log[len(f.log)-1], "/redact/$real/") {
		t.Error(f.log[len(f.log)-1])
	}
}

func TestMediaStreamsAndIsBounded(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 1000)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_matrix/media/v3/download/hs/abc", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("Content-Disposition", `inline; filename="a b.png"`)
		_, _ = w.Write(data)
	})
	mux.HandleFunc("POST /_matrix/media/v3/upload", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if !bytes.Equal(b, data) || r.Header.Get("Content-Type") != "image/png" || r.URL.Query().Get("filename") != "x.png" {
			w.WriteHeader(400)
		}
		fmt.Fprint(w, `{"content_uri":"mxc://hs/new"}`)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(404)
		fmt.Fprint(w, `{"errcode":"M_UNRECOGNIZED"}`)
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	c := newClient(t, &fake{Server: srv})
	m, err := c.Download(t.Context(), "mxc://hs/abc", int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(m)
	if err != nil || !bytes.Equal(got, data) || m.Type != "image/png" || m.Name != "a b.png" {
		t.Fatalf("%d octets %v %+v", len(got), err, m)
	}
	_ = m.Close()
	m, err = c.Download(t.Context(), "mxc://hs/abc", int64(len(data))-1)
	if err == nil {
		_, err = io.ReadAll(m)
	}
	if !errors.Is(err, ErrTooLarge) {
		t.Fatalf("above the limit: %v", err)
	}
	if _, err = c.Download(t.Context(), "https://hs/abc", 9); ClassOf(err) != Refused {
		t.Errorf("not mxc: %v", err)
	}
	if _, err = c.Download(t.Context(), "mxc://hs/none", 9); ClassOf(err) != Refused {
		t.Errorf("missing: %v", err)
	}
	mxc, err := c.Upload(t.Context(), "", bytes.NewReader(data), -1, "image/png", "x.png")
	if err != nil || mxc != "mxc://hs/new" {
		t.Fatal(mxc, err)
	}
}

func TestVerbsHaveArguments(t *testing.T) {
	c := newClient(t, newFake(t))
	for verb := range c.verbs {
		res := c.Do(t.Context(), Row{Request: event.Request{Verb: verb, Args: json.RawMessage(`[]`)}, Room: "!r:hs", Txn: "k"})
		if res.Class != Refused {
			t.Errorf("%s with bad arguments: %+v", verb, res)
		}
	}
	if res := c.Do(t.Context(), Row{Request: event.Request{Verb: "dance"}}); res.Class != Refused {
		t.Errorf("%+v", res)
	}
}
