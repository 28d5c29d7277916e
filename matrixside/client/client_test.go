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
	"slices"
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

func TestDuplicateReactionIsDone(t *testing.T) {
	f := newFake(t).on("PUT /rooms/!r:hs/send/*", 400, `{"errcode":"M_DUPLICATE_ANNOTATION"}`)
	if res := newClient(t, f).Do(t.Context(), row(event.Send{Type: "m.reaction", Content: event.EncodeReaction("$a", "x", nil)}, "k")); res.Class != Done || res.EventID() != "" {
		t.Fatalf("%+v", res)
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

// A homeserver that stopped before it answered has forgotten the transaction id: what an earlier try made is found by
// its mark, and nothing is sent twice.
func TestRepeatedMessageIsNotDoubled(t *testing.T) {
	const ghost = id.UserID("@mimi_a:hs")
	content := `{"body":"hi","msgtype":"m.text","im.mimi.message":{"id":"01ab","part":0,"room":"mimi://a.example/r/1"}}`
	other := strings.Replace(content, "01ab", "01ac", 1)
	event1 := `{"chunk":[{"event_id":"$other","type":"m.room.message","sender":"` + string(ghost) + `","content":` + other + `},` +
		`{"event_id":"$there","type":"m.room.message","sender":"` + string(ghost) + `","content":` + content + `}]}`
	for _, c := range []struct {
		name, page string
		status     int
		class      Class
		id         string
		puts       int
	}{
		{"it is there", event1, 200, Done, "$there", 0},
		{"it is not there", `{"chunk":[{"event_id":"$other","type":"m.room.message","sender":"` + string(ghost) + `","content":` + other + `}]}`, 200, Done, "$new", 1},
		{"of somebody else", strings.ReplaceAll(event1, string(ghost), "@mallory:hs"), 200, Done, "$new", 1},
		{"nobody answers yet", `{}`, 502, Retry, "", 0},
		{"the room may not be read", `{"errcode":"M_FORBIDDEN","error":"no"}`, 403, Done, "$new", 1},
	} {
		f := ghostly(newFake(t)).on("GET /rooms/!r:hs/messages", c.status, c.page).
			on("PUT /rooms/!r:hs/send/*", 200, `{"event_id":"$new"}`)
		row := Row{Request: event.NewRequest(event.Send{Sender: ghost, Type: "m.room.message", Content: json.RawMessage(content)}), Room: "!r:hs", Txn: "row1", Repeated: true}
		cl := newClient(t, f)
		cl.setKnown(ghost)
		r := cl.Do(t.Context(), row)
		puts := 0
		for _, call := range f.log {
			if strings.HasPrefix(call, "PUT /rooms/!r:hs/send/") {
				puts++
			}
		}
		if r.Class != c.class || string(r.EventID()) != c.id || puts != c.puts {
			t.Errorf("%s: %v %s %v, sent %d times; want %v %s, %d times", c.name, r.Class, r.EventID(), r.Err, puts, c.class, c.id, c.puts)
		}
	}
}

// A state event that may have been sent is not sent over what somebody has set since.
func TestRepeatedState(t *testing.T) {
	rename := event.State{Type: "m.room.name", Content: json.RawMessage(`{"name":"new"}`), Was: json.RawMessage(`{"name":"old"}`)}
	first := rename
	first.Was = json.RawMessage(`{"name":""}`)
	unknown := rename
	unknown.Was = nil
	for _, c := range []struct {
		name   string
		args   event.State
		status int
		now    string
		class  Class
		sent   bool
	}{
		{"never sent", rename, 200, `{"name":"old","more":1}`, Done, true},
		{"sent already", rename, 200, `{"name":"new"}`, Done, false},
		{"changed since", rename, 200, `{"name":"newest"}`, Done, false},
		{"the first name, never sent", first, 404, `{"errcode":"M_NOT_FOUND","error":"none"}`, Done, true},
		{"the first name, sent", first, 200, `{"name":"new"}`, Done, false},
		{"not known what was", unknown, 200, `{"name":"newest"}`, Done, true},
		{"may not look", rename, 403, `{"errcode":"M_FORBIDDEN","error":"no"}`, Done, true},
		{"nobody answers yet", rename, 502, `{}`, Retry, false},
	} {
		for _, repeated := range []bool{true, false} {
			f := newFake(t).on("GET /rooms/!r:hs/state/m.room.name/", c.status, c.now).on("PUT /rooms/!r:hs/state/m.room.name/", 200, `{"event_id":"$new"}`)
			q := row(c.args, "k")
			q.Repeated = repeated
			res := newClient(t, f).Do(t.Context(), q)
			sent := slices.ContainsFunc(f.log, func(call string) bool { return strings.HasPrefix(call, "PUT /rooms/") })
			if repeated && res.Class != c.class || !repeated && res.Class != Done || sent != (c.sent || !repeated) {
				t.Errorf("%s, repeated %v: %v %v, sent %v", c.name, repeated, res.Class, res.Err, sent)
			}
		}
	}
}

// A change of membership that may have been carried out is compared with what is: who left and was invited again does
// not leave twice, and nobody is put out twice.
func TestRepeatedMembership(t *testing.T) {
	const ghost, person = id.UserID("@mimi_a:hs"), id.UserID("@person:hs")
	leave := func(was event.Membership) event.Args { return event.LeaveRoom{Sender: ghost, Was: was} }
	kick := func(was event.Membership) event.Args { return event.KickUser{Target: person, Was: was} }
	for _, c := range []struct {
		name string
		args event.Args
		user id.UserID
		now  string // of the user; "" for a room without the bot, in which the ghost may not look either
		sent bool
	}{
		{"left already", leave(event.Join), ghost, "leave", false},
		{"left and invited again", leave(event.Join), ghost, "invite", false},
		{"still there", leave(event.Join), ghost, "join", true},
		{"declines an invitation", leave(event.Invite), ghost, "invite", true},
		{"not known what it was", leave(""), ghost, "invite", true},
		{"a room that nobody may look into", leave(event.Join), ghost, "", false},
		{"an invitation that nobody may look at", leave(event.Invite), ghost, "", true},
		{"put out already", kick(event.Join), person, "leave", false},
		{"put out and invited again", kick(event.Join), person, "invite", false},
		{"still in", kick(event.Join), person, "join", true},
		{"accepted meanwhile", kick(event.Invite), person, "join", true},
		{"invited already", event.InviteUser{Target: person}, person, "join", false},
		{"not invited", event.InviteUser{Target: person}, person, "leave", true},
		{"banned already", event.BanUser{Target: person}, person, "ban", false},
		{"not banned", event.BanUser{Target: person}, person, "join", true},
		{"unbanned already", event.UnbanUser{Target: person}, person, "leave", false},
		{"not unbanned", event.UnbanUser{Target: person}, person, "ban", true},
	} {
		for _, repeated := range []bool{true, false} {
			state := "GET /rooms/!r:hs/state/m.room.member/" + string(c.user)
			f := ghostly(newFake(t)).on("POST /rooms/!r:hs/*", 200, `{}`)
			if c.now == "" {
				f.on(state, 403, `{"errcode":"M_FORBIDDEN"}`)
			} else {
				f.on(state, 200, `{"membership":"`+c.now+`"}`)
			}
			cl := newClient(t, f)
			cl.setKnown(ghost)
			q := row(c.args, "k")
			q.Repeated = repeated
			res := cl.Do(t.Context(), q)
			sent := slices.ContainsFunc(f.log, func(call string) bool { return strings.HasPrefix(call, "POST /rooms/") })
			if res.Class != Done || sent != (c.sent || !repeated) {
				t.Errorf("%s, repeated %v: %v %v, sent %v", c.name, repeated, res.Class, res.Err, sent)
			}
		}
	}
}
