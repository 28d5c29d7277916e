package activitypub

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// TestFedifyTakesWhatWeSend: good and bad signatures in both schemes, what is covered, what the activity says. S000-036, S000-093.
func TestFedifyTakesWhatWeSend(t *testing.T) {
	peer := startNode(t, "fedify")
	b := newBridge(t, "alice", "dave")
	alice, dave := b.site.User("alice"), b.site.User("dave")
	origin := peer.event("ready")["origin"].(string)
	_, kp := b.newPackage(alice)
	message := func(id string) ap.Object {
		return b.site.MLSCreate(ap.Envelope{ID: id, Actor: alice, To: []string{origin + "/u/fedi"}, Published: time.Now()}, kp.KeyPackage.Message())
	}
	key := func(actor, signer string) ap.SigningKey {
		return ap.SigningKey{ID: ap.KeyID(actor), Private: b.keys[signer]}
	}
	n := 0
	// send posts an activity with a signature that change may spoil, and returns the status.
	send := func(inbox string, k ap.SigningKey, scheme ap.Scheme, at time.Time, o ap.Object, change func(*http.Request)) int {
		body := o.Marshal()
		r, err := http.NewRequest(http.MethodPost, origin+inbox, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", ap.TypeActivity)
		if k.Private != nil {
			if err := k.Sign(r, body, scheme, at); err != nil {
				t.Fatal(err)
			}
		}
		if change != nil {
			change(r)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode >= 500 {
			t.Logf("%s", answer)
		}
		return res.StatusCode
	}
	fresh := func() ap.Object { n++; return message(fmt.Sprint("f", n)) }
	body := func(s string) func(*http.Request) {
		return func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(s)), int64(len(s))
		}
	}
	now := time.Now()
	other := strings.Replace(string(message("f-other").Marshal()), "KeyPackage", "Welcome", 1)
	with := func(change func(ap.Object)) ap.Object { o := fresh(); change(o); return o }
	for _, tc := range []struct {
		name string
		code int
		do   func(ap.Scheme) int
	}{
		{"good", 202, func(s ap.Scheme) int { return send("/u/fedi/inbox", key(alice, alice), s, now, fresh(), nil) }},
		{"shared inbox", 202, func(s ap.Scheme) int { return send("/inbox", key(alice, alice), s, now, fresh(), nil) }},
		{"50 minutes old", 202, func(s ap.Scheme) int {
			return send("/inbox", key(alice, alice), s, now.Add(-50*time.Minute), fresh(), nil)
		}},
		{"2 hours old", 401, func(s ap.Scheme) int {
			return send("/inbox", key(alice, alice), s, now.Add(-2*time.Hour), fresh(), nil)
		}},
		{"body changed", 401, func(s ap.Scheme) int { return send("/inbox", key(alice, alice), s, now, fresh(), body(other)) }},
		{"another's key", 401, func(s ap.Scheme) int { return send("/inbox", key(alice, dave), s, now, fresh(), nil) }},
		{"signed by another", 401, func(s ap.Scheme) int { return send("/inbox", key(dave, dave), s, now, fresh(), nil) }},
		{"unsigned", 401, func(s ap.Scheme) int { return send("/inbox", ap.SigningKey{}, s, now, fresh(), nil) }},
		{"AIM Add with inline terms", 202, func(s ap.Scheme) int {
			n++
			return send("/inbox", key(alice, alice), s, now, b.site.ChannelAdd(ap.Envelope{ID: fmt.Sprint("f", n), Actor: alice, To: []string{origin + "/u/fedi"}}, b.site.Room("x"), dave, kp.KeyPackage.Message(), kp.KeyPackage.Message()), nil)
		}},
		{"channel's Create in a member's name", 202, func(s ap.Scheme) int {
			n++
			return send("/inbox", key(alice, alice), s, now, b.site.MLSCreate(ap.Envelope{ID: fmt.Sprint("f", n), Actor: alice, Author: dave, To: []string{origin + "/u/fedi"}}, kp.KeyPackage.Message()), nil)
		}},
		{"context that cannot be fetched", 500, func(s ap.Scheme) int {
			return send("/inbox", key(alice, alice), s, now, with(func(o ap.Object) {
				o["@context"] = []any{"https://www.w3.org/ns/activitystreams", "urn:ietf:ns:mimi"}
			}), nil)
		}},
		{"lone type", 400, func(s ap.Scheme) int {
			return send("/inbox", key(alice, alice), s, now, with(func(o ap.Object) { o["object"].(ap.Object)["type"] = "KeyPackage" }), nil)
		}},
	} {
		for _, scheme := range []ap.Scheme{ap.Cavage, ap.RFC9421} {
			t.Run(tc.name+" "+string(scheme), func(t *testing.T) {
				if code := tc.do(scheme); code != tc.code {
					t.Errorf("status %d, want %d", code, tc.code)
				}
			})
		}
	}
}

// TestFedifyTakesItOnce: delivered twice, dispatched once; and our double knock leaves the origin with the scheme that it took.
func TestFedifyTakesItOnce(t *testing.T) {
	peer := startNode(t, "fedify")
	b := newBridge(t, "alice")
	alice := b.site.User("alice")
	origin := peer.event("ready")["origin"].(string)
	_, kp := b.newPackage(alice)
	o := b.site.MLSCreate(ap.Envelope{ID: "once", Actor: alice, To: []string{origin + "/u/fedi"}}, kp.KeyPackage.Message())
	for range 2 {
		if code := b.post(alice, ap.Post{Inbox: origin + "/inbox", Body: o}); code != 202 {
			t.Fatal(code)
		}
	}
	m := peer.event("activity")
	if m["id"] != o["id"] || m["actor"] != alice || m["body"] != string(o.Marshal()) {
		t.Fatal(jsonOf(m))
	}
	select {
	case again := <-peer.Events:
		t.Fatal(jsonOf(again))
	default:
	}
}

// TestFedifyReadsOurActors: WebFinger, the actor with its keys and inboxes, by address and by handle. S000-030, S000-031, S000-041 … S000-044.
func TestFedifyReadsOurActors(t *testing.T) {
	peer := startNode(t, "fedify")
	b := newBridge(t, "alice")
	b.addActor(b.site.Room("x"))
	peer.event("ready")
	alice := b.site.User("alice")
	m := peer.ask("lookup", map[string]any{"what": alice})
	if m["type"] != "Person" || m["actor"] != alice || m["inbox"] != alice+"/inbox" || m["shared"] != b.site.SharedInbox() || m["name"] != "alice" {
		t.Fatal(jsonOf(m))
	}
	if m := peer.ask("lookup", map[string]any{"what": b.site.Room("x")}); m["type"] != "Service" {
		t.Fatal(jsonOf(m))
	}
	if m := peer.ask("lookup", map[string]any{"what": b.site.Instance()}); m["type"] != "Application" {
		t.Fatal(jsonOf(m))
	}
}

// TestWeTakeWhatFedifySends: it knocks with RFC 9421 first; and it knocks twice where that is refused, and the second is no replay.
func TestWeTakeWhatFedifySends(t *testing.T) {
	peer := startNode(t, "fedify")
	b := newBridge(t, "alice")
	alice := b.site.User("alice")
	origin := peer.event("ready")["origin"].(string)
	for range 2 {
		sent := peer.ask("send", map[string]any{"to": alice, "inbox": alice + "/inbox", "content": "hello"})
		b.mu.Lock()
		got := b.got[len(b.got)-1]
		b.mu.Unlock()
		if got.Activity.ID != sent["activity"] || got.Activity.Actor != origin+"/u/fedi" || got.Inbox != alice || got.MLS != nil {
			t.Fatalf("%+v", got)
		}
	}
	a, err := b.people.Actor(context.Background(), origin+"/u/fedi", false)
	if err != nil || ap.DialectOf(a, false) != ap.DialectNone || a.SharedInbox != origin+"/inbox" {
		t.Fatalf("%+v %v", a, err)
	}
	// An inbox that refuses RFC 9421 gets the same activity signed as draft-cavage.
	var schemes []string
	old := newRefusing(t, func(r *http.Request) bool {
		schemes = append(schemes, map[bool]string{true: "rfc9421", false: "cavage"}[r.Header.Get("Signature-Input") != ""])
		return r.Header.Get("Signature-Input") != ""
	})
	peer.ask("send", map[string]any{"to": alice, "inbox": old + "/ap/u/alice/inbox", "content": "hello again"})
	if strings.Join(schemes, " ") != "rfc9421 cavage" {
		t.Fatal(schemes)
	}
}

// newRefusing is an inbox that refuses some requests and takes all others.
func newRefusing(t *testing.T, refuse func(*http.Request) bool) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuse(r) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(s.Close)
	return s.URL
}
