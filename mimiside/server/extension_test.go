package server_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/client"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/server"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// extensionBodies are requests of b.example that a.example understands.
func extensionBodies() map[wire.Verb][]byte {
	keys := wire.KeyMaterialsRequest{TargetUsers: []wire.IdentifierURI{user},
		KeyMaterialRequest: wire.KeyMaterialRequest{RequestingUser: "mimi://b.example/u/bob", AcceptableSuites: []mls.Suite{1}, RequesterCredential: mls.BasicCredential(nil)}}
	requests := wire.RoomRequests{{RoomID: room, Request: []byte{1}}}.Marshal()
	verdicts := wire.SubmitVerdicts{{RoomID: "mimi://b.example/r/own", Response: wire.SubmitMessageResponse{StatusCode: wire.SubmitNotAllowed}}}
	return map[wire.Verb][]byte{
		wire.VerbKeyMaterials:   keys.Marshal(),
		wire.VerbSubmitMessages: requests,
		wire.VerbSubmitVerdicts: verdicts.Marshal(),
		wire.VerbNotifyRooms:    requests,
		wire.VerbRoomDestroyed:  (&wire.RoomDestroyed{RoomID: room}).Marshal(),
		wire.VerbUserDeleted:    (&wire.UserDeleted{UserURI: "mimi://b.example/u/bob"}).Marshal(),
		wire.VerbProfiles:       (&wire.ProfilesRequest{Users: []wire.IdentifierURI{user}}).Marshal(),
		wire.VerbLinkStatus:     (&wire.LinkStatusRequest{JoiningCode: []byte("abc")}).Marshal(),
		wire.VerbKnock:          (&wire.KnockRequest{Operation: wire.KnockAsk, User: "mimi://b.example/u/bob"}).Marshal(),
		wire.VerbKnockOutcome:   (&wire.KnockOutcome{RoomID: "mimi://b.example/r/x", User: user}).Marshal(),
		wire.VerbStatus:         (&wire.StatusMessage{Epoch: 1, Nonce: make([]byte, 12), Ciphertext: []byte{1}}).Marshal(),
	}
}

// sharesWith lets a.example share the extensions with these domains.
func sharesWith(domains ...string) func(*server.Config) {
	return func(c *server.Config) {
		c.Shares = func(_ context.Context, domain, _ string) (bool, error) {
			if domain == "away.example" {
				return false, errors.New("its directory cannot be fetched")
			}
			for _, d := range domains {
				if d == domain {
					return true, nil
				}
			}
			return false, nil
		}
	}
}

// Every extension goes from the client of one provider to the handler of another, bytes and sender unchanged; from a peer that
// does not publish it nothing is taken.
func TestExtensions(t *testing.T) {
	w := start(t, sharesWith("b.example"))
	b := w.provider("b.example")
	raw := map[string]*http.Client{"": w.raw()} // one a provider: connections are bounded
	for _, from := range []string{"b.example", "c.example", "away.example", "blocked.example"} {
		raw[from] = w.raw(w.cert(emptyOptions, from))
	}
	for _, verb := range wire.ExtensionVerbs() {
		body := extensionBodies()[verb]
		target := wire.IdentifierURI("mimi://a.example")
		if dir, err := b.Directory(t.Context(), "a.example"); err != nil {
			t.Fatal(err)
		} else if tmpl, _ := dir.Endpoint(verb); bytes.HasSuffix([]byte(tmpl.String()), []byte("{roomId}")) {
			target = room
		}
		r, err := b.Extension(t.Context(), "a.example", verb, target, body)
		if err != nil || r.Status != http.StatusOK || string(r.Body) != "answer to "+string(verb) {
			t.Errorf("%s: %v %q, %v", verb, r.Status, r.Body, err)
			continue
		}
		calls := w.handler.taken()
		if len(calls) != 1 || calls[0].verb != verb || calls[0].Peer != "b.example" || !bytes.Equal(calls[0].Body, body) || calls[0].Path.String() != string(target) {
			t.Errorf("%s: %v", verb, calls)
		}
		path := server.DefaultPrefix + wire.ExtensionPath + string(verb) + "/" + wire.PathEscape(string(target))
		for from, want := range map[string]struct {
			status int
			word   string
		}{"c.example": {http.StatusForbidden, server.WordNotShared}, "away.example": {http.StatusServiceUnavailable, server.WordTemporary},
			"blocked.example": {http.StatusForbidden, server.WordBlocked}} {
			status, word, _ := post(t, raw[from], path, "mimi@"+from, bytes.NewReader(body))
			if status != want.status || word != want.word+"\n" {
				t.Errorf("%s from %s: %d %q", verb, from, status, word)
			}
		}
		if status, _, _ := post(t, raw["b.example"], path, "mimi@b.example", bytes.NewReader([]byte{9})); status != http.StatusBadRequest {
			t.Errorf("%s: nonsense is answered with %d", verb, status)
		}
		if status, _, _ := post(t, raw["b.example"], path, "mimi@b.example", bytes.NewReader(make([]byte, 64<<20))); status != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: a body that is too large is answered with %d", verb, status)
		}
		if status, _, _ := post(t, raw[""], path, "mimi@b.example", bytes.NewReader(body)); status != http.StatusForbidden {
			t.Errorf("%s: without a certificate it is answered with %d", verb, status)
		}
		w.nothing(string(verb))
	}
}

// A message is not larger with others than alone.
func TestSubmittedTogetherIsNoLarger(t *testing.T) {
	w := start(t, sharesWith("b.example"))
	c := w.raw(w.cert(emptyOptions, "b.example"))
	for size, want := range map[int]int{1 << 20: http.StatusOK, 1<<20 + 1: http.StatusRequestEntityTooLarge} {
		body := wire.RoomRequests{{RoomID: room, Request: []byte{1}}, {RoomID: room, Request: make([]byte, size)}}.Marshal()
		for verb, status := range map[wire.Verb]int{wire.VerbSubmitMessages: want, wire.VerbNotifyRooms: http.StatusOK} {
			path := server.DefaultPrefix + wire.ExtensionPath + string(verb) + "/a.example"
			if got, _, _ := post(t, c, path, "mimi@b.example", bytes.NewReader(body)); got != status {
				t.Errorf("%s of %d octets: %d, want %d", verb, size, got, status)
			}
		}
	}
	w.handler.taken()
}

// Switched off, an extension is no endpoint: the draft's peers and ours see the same 404.
func TestExtensionsOff(t *testing.T) {
	w := start(t, func(c *server.Config) {
		sharesWith("b.example")(c)
		plain := directoryOf(t, "a.example", nil)
		c.Directory = func() *wire.Directory { return plain }
	})
	path := server.DefaultPrefix + wire.ExtensionPath + string(wire.VerbKeyMaterials) + "/a.example"
	if status, _, _ := post(t, w.raw(w.cert(emptyOptions, "b.example")), path, "mimi@b.example", bytes.NewReader(nil)); status != http.StatusNotFound {
		t.Errorf("status %d", status)
	}
	b := w.provider("b.example")
	if !b.MayShare("a.example", string(wire.VerbKeyMaterials)) {
		t.Error("what is not known counts as refused")
	}
	if _, err := b.Extension(t.Context(), "a.example", wire.VerbKeyMaterials, "mimi://a.example", nil); !errors.Is(err, client.ErrNoEndpoint) {
		t.Errorf("a request to who does not publish it: %v", err)
	}
	if b.MayShare("a.example", string(wire.VerbKeyMaterials)) {
		t.Error("the directory says that it is not shared")
	}
	if shares, err := b.Shares(t.Context(), "a.example", string(wire.VerbKeyMaterials)); shares || err != nil {
		t.Error(shares, err)
	}
	w.nothing("off")
}

// A peer that begins to publish an extension, or stops, is noticed when the extension is next asked for.
func TestExtensionsComeAndGo(t *testing.T) {
	offers := directoryOf(t, "a.example", &wire.BridgeDirectory{Version: 1, Features: []string{"other"}})
	plain := directoryOf(t, "a.example", nil)
	var now atomic.Pointer[wire.Directory]
	now.Store(plain)
	w := start(t, func(c *server.Config) {
		sharesWith("b.example")(c)
		c.Directory = now.Load
	})
	var passed atomic.Int64
	b := w.providerAt("b.example", func() time.Time { return time.Now().Add(time.Duration(passed.Load())) })
	const name = string(wire.VerbUserDeleted)
	shares := func(want bool) {
		t.Helper()
		if got, err := b.Shares(t.Context(), "a.example", name); got != want || err != nil {
			t.Errorf("shares: %v, %v", got, err)
		}
	}
	shares(false)
	now.Store(offers)
	shares(false) // a directory that young is not fetched again
	passed.Store(int64(2 * time.Minute))
	shares(true)
	if !b.MayShare("a.example", name) || b.MayShare("a.example", "other") {
		t.Error("what only one side offers is shared, or what both do is not")
	}
	body := (&wire.UserDeleted{UserURI: "mimi://b.example/u/bob"}).Marshal()
	if r, err := b.Extension(t.Context(), "a.example", wire.VerbUserDeleted, "mimi://a.example", body); err != nil || r.Status != http.StatusOK {
		t.Errorf("%v, %v", r, err)
	}
	// Switched off again: the endpoint is gone, and so is the offer in the directory that is fetched for it.
	now.Store(plain)
	passed.Store(int64(5 * time.Minute))
	if r, err := b.Extension(t.Context(), "a.example", wire.VerbUserDeleted, "mimi://a.example", body); err != nil || r.Status != http.StatusNotFound {
		t.Errorf("%v, %v", r, err)
	}
	if b.MayShare("a.example", name) {
		t.Error("it still counts as shared")
	}
}
