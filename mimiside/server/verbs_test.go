package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/client"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/server"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

const (
	room = "mimi://a.example/r/clubhouse"
	user = "mimi://a.example/u/alice"
)

func application() wire.Message {
	m := mls.PrivateMessage{GroupID: []byte("mimi://a.example/g/clubhouse"), Epoch: 1, ContentType: mls.ContentApplication, Ciphertext: []byte{1}}
	return wire.NewMessage(m.Message())
}

func proposal() wire.Message {
	m := mls.PublicMessage{Content: mls.FramedContent{GroupID: []byte("g"), ContentType: mls.ContentProposal, Sender: mls.MemberSender(0),
		Proposal: &mls.Proposal{Type: mls.ProposalRemove}}}
	return wire.NewMessage(m.Message())
}

// bodies are requests of b.example that a.example understands.
func bodies() map[wire.Verb][]byte {
	submit := wire.SubmitMessageRequest{Message: application(), SendingURI: "mimi://b.example/u/bob"}
	update := wire.HandshakeBundle{Message: proposal()}
	key := wire.KeyMaterialRequest{RequestingUser: "mimi://b.example/u/bob", TargetUser: user, AcceptableSuites: []mls.Suite{1}, RequesterCredential: mls.BasicCredential(nil)}
	info := wire.GroupInfoRequest{Suite: 1, Credential: mls.BasicCredential(nil)}
	ask := wire.ConsentEntry{Operation: wire.ConsentRequest, RequesterURI: "mimi://b.example/u/bob", TargetURI: user}
	give := wire.ConsentEntry{Operation: wire.ConsentGrant, RequesterURI: user, TargetURI: "mimi://b.example/u/bob"}
	query := wire.IdentifierRequest{Elements: []wire.QueryElement{{Type: wire.SearchNick, Value: "alice"}}}
	report := wire.AbuseReport{AllegedAbuserURI: user}
	notify := wire.FanoutMessage{Timestamp: 1, Message: application()}
	return map[wire.Verb][]byte{
		wire.VerbSubmitMessage: submit.Marshal(), wire.VerbUpdate: update.Marshal(), wire.VerbKeyMaterial: key.Marshal(), wire.VerbGroupInfo: info.Marshal(),
		wire.VerbRequestConsent: ask.Marshal(), wire.VerbUpdateConsent: give.Marshal(), wire.VerbIdentifierQuery: query.Marshal(),
		wire.VerbReportAbuse: report.Marshal(), wire.VerbNotify: notify.Marshal(),
	}
}

// Every verb goes from the client of one provider to the handler of another, bytes and sender unchanged.
func TestVerbs(t *testing.T) {
	w := start(t, nil)
	b := w.provider("b.example")
	body := bodies()
	const own = wire.IdentifierURI("mimi://b.example/r/own")
	created := map[wire.Verb]bool{wire.VerbNotify: true, wire.VerbRequestConsent: true, wire.VerbUpdateConsent: true, wire.VerbReportAbuse: true}
	for verb, c := range map[wire.Verb]struct {
		send func(context.Context, string, wire.IdentifierURI, []byte) (client.Result, error)
		uri  wire.IdentifierURI
		path string
	}{
		wire.VerbKeyMaterial:    {b.KeyMaterial, user, user},
		wire.VerbUpdate:         {b.Update, room, room},
		wire.VerbSubmitMessage:  {b.SubmitMessage, room, room},
		wire.VerbNotify:         {b.Notify, own, string(own)},
		wire.VerbGroupInfo:      {b.GroupInfo, room, room},
		wire.VerbReportAbuse:    {b.ReportAbuse, room, room},
		wire.VerbRequestConsent: {b.RequestConsent, user, "mimi://a.example"},
		wire.VerbUpdateConsent:  {b.UpdateConsent, user, "mimi://a.example"},
		wire.VerbIdentifierQuery: {func(ctx context.Context, domain string, _ wire.IdentifierURI, body []byte) (client.Result, error) {
			return b.IdentifierQuery(ctx, domain, body)
		}, "", "mimi://a.example"},
	} {
		r, err := c.send(t.Context(), "A.example", c.uri, body[verb])
		if err != nil {
			t.Errorf("%s: %v", verb, err)
			continue
		}
		status, answer := http.StatusOK, "answer to "+string(verb)
		if created[verb] {
			status = http.StatusCreated
		}
		if verb == wire.VerbNotify {
			answer = ""
		}
		if r.Status != status || string(r.Body) != answer || r.Class() != client.Done {
			t.Errorf("%s: %d %q", verb, r.Status, r.Body)
		}
		calls := w.handler.taken()
		if len(calls) != 1 || calls[0].verb != verb || calls[0].Peer != "b.example" || calls[0].Path.String() != c.path || !bytes.Equal(calls[0].Body, body[verb]) {
			t.Errorf("%s: %+v", verb, calls)
		}
		if e := <-w.events; e.Verb != verb || e.Peer != "b.example" || e.Status != status || e.Word != "" || e.In != len(body[verb]) {
			t.Errorf("%s: event %+v", verb, e)
		}
	}
}

// The three forms of an identifier in a path, and the slash that the draft's example forgets.
func TestPathForms(t *testing.T) {
	w := start(t, nil)
	c := w.raw(w.cert(emptyOptions, "b.example"))
	for _, path := range []string{"/mimi%3A%2F%2Fa.example%2Fr%2Fclubhouse", "/a.example/r/clubhouse", "/a.example%2Fr%2Fclubhouse", "/mimi://a.example/r/clubhouse",
		"mimi%3A%2F%2Fa.example%2Fr%2Fclubhouse"} {
		status, text, _ := post(t, c, "/mimi/v1/update"+path, "mimi@b.example", bytes.NewReader(bodies()[wire.VerbUpdate]))
		calls := w.handler.taken()
		if status != http.StatusOK || len(calls) != 1 || calls[0].Path.String() != room {
			t.Errorf("%s: %d %q, %+v", path, status, text, calls)
		}
	}
	for _, path := range []string{"", "/", "/a.example", "/a.example/u/alice", "/..%2F..", "/%zz", "/a.example%2Fr%2Fx%00"} {
		req, err := http.NewRequest(http.MethodPost, "https://a.example/mimi/v1/update", bytes.NewReader(bodies()[wire.VerbUpdate]))
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = "//a.example/mimi/v1/update" + path
		req.Header.Set("From", "mimi@b.example")
		response, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", path, response.StatusCode)
		}
		w.nothing(path)
	}
	for _, path := range []string{"/mimi/v1/unknown/a.example", "/mimi/v2/update/a.example/r/x", "/", "/mimi/v1"} {
		if status, _, _ := post(t, c, path, "mimi@b.example", nil); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
}

// The hub of a room is in its URI: nobody else fans out to it.
func TestNotifyFromAnother(t *testing.T) {
	w := start(t, nil)
	b := w.provider("b.example")
	for _, uri := range []wire.IdentifierURI{"mimi://c.example/r/x", room} {
		r, err := b.Notify(t.Context(), "a.example", uri, bodies()[wire.VerbNotify])
		if err != nil || r.Status != http.StatusForbidden || r.Class() != client.Refused {
			t.Errorf("%s: %d %q, %v", uri, r.Status, r.Body, err)
		}
		w.nothing(string(uri))
	}
}

// 201 goes out after the handler has returned and not before.
func TestNotifyAnswersAfterTheHandler(t *testing.T) {
	w := start(t, nil)
	inside, release := make(chan struct{}), make(chan struct{})
	w.handler.answer = func(context.Context, call) (server.Answer, error) {
		close(inside)
		<-release
		return server.Answer{}, nil
	}
	b := w.provider("b.example")
	answered := make(chan client.Result, 1)
	go func() {
		r, err := b.Notify(context.Background(), "a.example", "mimi://b.example/r/own", bodies()[wire.VerbNotify])
		if err != nil {
			t.Error(err)
		}
		answered <- r
	}()
	<-inside
	select {
	case r := <-answered:
		t.Fatalf("answered %d while the handler was at work", r.Status)
	default:
	}
	close(release)
	if r := <-answered; r.Status != http.StatusCreated {
		t.Errorf("%d", r.Status)
	}
}

// What a handler's errors become; none of their text leaves the house.
func TestHandlerErrors(t *testing.T) {
	w := start(t, nil)
	b := w.provider("b.example")
	secret := errors.New("secret detail")
	for _, c := range []struct {
		err    error
		status int
		retry  time.Duration
		class  client.Class
	}{
		{fmt.Errorf("%w: %w", server.ErrForbidden, secret), 403, 0, client.Refused},
		{fmt.Errorf("%w: %w", server.ErrNotFound, secret), 404, 0, client.Refused},
		{fmt.Errorf("%w: %w", wire.ErrMalformed, secret), 400, 0, client.Refused},
		{fmt.Errorf("%w: %w", wire.ErrSignature, secret), 403, 0, client.Refused},
		{&server.RetryAfter{After: 90 * time.Second, Err: fmt.Errorf("%w: %w", server.ErrBusy, secret)}, 429, 90 * time.Second, client.Retry},
		{&server.RetryAfter{After: 100 * time.Millisecond, Err: server.ErrTemporary}, 503, time.Second, client.Retry},
		{fmt.Errorf("%w: %w", server.ErrTemporary, secret), 503, 5 * time.Second, client.Retry},
		{secret, 500, 0, client.Retry},
	} {
		w.handler.answer = func(context.Context, call) (server.Answer, error) { return server.Answer{}, c.err }
		r, err := b.Update(t.Context(), "a.example", room, bodies()[wire.VerbUpdate])
		if err != nil {
			t.Fatal(err)
		}
		if r.Status != c.status || r.RetryAfter != c.retry || r.Class() != c.class || strings.Contains(string(r.Body), "secret") {
			t.Errorf("%v: %d %q, retry after %v", c.err, r.Status, r.Body, r.RetryAfter)
		}
		status, word := server.StatusOf(c.err)
		if status != c.status || string(r.Body) != word+"\n" {
			t.Errorf("%v: StatusOf says %d %q", c.err, status, word)
		}
		if e := <-w.events; !errors.Is(e.Err, errors.Unwrap(c.err)) && !errors.Is(e.Err, c.err) {
			t.Errorf("%v: the log gets %v", c.err, e.Err)
		}
	}
}

// An answer that the handler chose goes out as it is: the stored answer to a repeated request.
func TestAnswerOfTheHandler(t *testing.T) {
	w := start(t, nil)
	b := w.provider("b.example")
	w.handler.answer = func(context.Context, call) (server.Answer, error) {
		return server.Answer{Status: 202, Body: []byte{0, 1, 2}, RetryAfter: 3 * time.Second}, nil
	}
	r, err := b.SubmitMessage(t.Context(), "a.example", room, bodies()[wire.VerbSubmitMessage])
	if err != nil || r.Status != 202 || !bytes.Equal(r.Body, []byte{0, 1, 2}) || r.RetryAfter != 3*time.Second || r.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestProxyDownload(t *testing.T) {
	w := start(t, nil)
	b := w.provider("b.example")
	u, err := wire.CheckDownloadURL("https://cdn.c.example/x?y=z%20")
	if err != nil {
		t.Fatal(err)
	}
	var asked server.Download
	w.handler.asset = func(d server.Download) (*server.Asset, error) {
		asked = d
		return &server.Asset{Status: http.StatusPartialContent, Body: io.NopCloser(strings.NewReader("part")),
			Header: http.Header{"Content-Type": {"image/png"}, "Content-Range": {"bytes 0-3/9"}, "Set-Cookie": {"x=y"}}}, nil
	}
	d, err := b.ProxyDownload(t.Context(), "a.example", u, "bytes=0-3", `"tag"`)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(d.Body)
	if err != nil || string(text) != "part" || d.Status != 206 || d.Header.Get("Content-Range") == "" || d.Header.Get("Set-Cookie") != "" {
		t.Errorf("%d %q %v, %v", d.Status, text, d.Header, err)
	}
	if err := d.Body.Close(); err != nil {
		t.Error(err)
	}
	if asked.URL.String() != u.String() || asked.Range != "bytes=0-3" || asked.IfNoneMatch != `"tag"` {
		t.Errorf("asked for %+v", asked)
	}
	w.handler.taken()
	w.handler.answer = func(context.Context, call) (server.Answer, error) { return server.Answer{}, server.ErrForbidden }
	d, err = b.ProxyDownload(t.Context(), "a.example", u, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Body.Close(); err != nil || d.Status != http.StatusForbidden {
		t.Errorf("a host that is not allowed: %d, %v", d.Status, err)
	}
	w.handler.taken()
	// an open proxy it is not: what is no plain https URL does not reach the handler
	raw := w.raw(w.cert(emptyOptions, "b.example"))
	for _, bad := range []string{"http://cdn.example/x", "https://127.0.0.1/x", "https://cdn.example:8443/x", "file:///etc/passwd"} {
		req, err := http.NewRequest(http.MethodGet, "https://a.example/mimi/v1/proxyDownload/"+wire.PathEscape(bad), nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := raw.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, response.StatusCode)
		}
		w.nothing(bad)
	}
}

// The directory and WebFinger are for everyone; S000-028.
func TestDirectoryAndWebFinger(t *testing.T) {
	w := start(t, func(c *server.Config) {
		c.WebFinger = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Query().Get("resource")) })
		c.Other = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })
	})
	for _, c := range []*http.Client{w.raw(), w.raw(w.cert(emptyOptions, "b.example"))} {
		for path, want := range map[string]string{"/.well-known/mimi-protocol-directory": "keyMaterial", "/.well-known/webfinger?resource=acct:x@a.example": "acct:x@a.example", "/r/x": ""} {
			response, err := c.Get("https://a.example" + path)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || !strings.Contains(string(b), want) {
				t.Errorf("%s: %q, %v", path, b, err)
			}
			if want == "" && response.StatusCode != http.StatusTeapot {
				t.Errorf("%s: %d", path, response.StatusCode)
			}
		}
	}
	dir, err := w.provider("b.example").Directory(t.Context(), "a.example")
	if err != nil || len(dir.Endpoints) != len(wire.Verbs()) || dir.Bridge == nil {
		t.Errorf("%v, %v", dir, err)
	}
	if status, _, header := post(t, w.raw(), wire.DirectoryPath, "", nil); status != http.StatusMethodNotAllowed || header.Get("Allow") == "" {
		t.Errorf("POST of the directory: %d", status)
	}
}

// A provider that fetches the directory shows that it is there; without a good certificate of its own nobody does.
func TestGreetingsAreSeen(t *testing.T) {
	w := start(t, nil)
	stray, err := w.stray.Issue(time.Now(), emptyOptions, "c.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*http.Client{w.raw(), w.raw(stray), w.raw(w.cert(emptyOptions, "blocked.example"))} {
		response, err := c.Get("https://a.example" + wire.DirectoryPath)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("the directory: %d", response.StatusCode)
		}
	}
	if _, err := w.provider("b.example").Directory(t.Context(), "a.example"); err != nil {
		t.Fatal(err)
	}
	if domain := <-w.greeted; domain != "b.example" || len(w.greeted) != 0 {
		t.Errorf("seen: %q and %d more", domain, len(w.greeted))
	}
}

func TestConfig(t *testing.T) {
	if _, err := server.New(server.Config{}); err == nil {
		t.Error("an empty configuration makes a server")
	}
	if !reflect.DeepEqual(server.DefaultPrefix, "/mimi/v1") {
		t.Error("the prefix is published in configurations and must stay")
	}
}
