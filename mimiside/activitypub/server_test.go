package activitypub

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// shelf is a Backend with one user and one room, that remembers what it received.
type shelf struct {
	members []string
	got     []Delivered
	refuse  error
	leaving string // group id
	trouble error  // of asking for it
	gate    *Gate  // nil: one that blocks nobody
	refused []Event
}

func (s *shelf) Find(_ context.Context, resource string) (Found, error) {
	if resource == "acct:alice@b.example" {
		return Found{Subject: resource, Actor: "https://b.example/ap/u/alice", Profile: "https://matrix.to/#/@alice:b"}, nil
	}
	return Found{}, ErrNotFound
}

func (s *shelf) User(_ context.Context, name string) (Profile, error) {
	switch name {
	case "alice":
	case "deleted":
		return Profile{}, ErrDeleted
	default:
		return Profile{}, ErrNotFound
	}
	return Profile{Name: name, Username: name, MXID: "@alice:b", PublicPEM: "x"}, nil
}

func (s *shelf) Room(_ context.Context, token string) (RoomProfile, error) {
	if token != "x" {
		return RoomProfile{}, ErrNotFound
	}
	return RoomProfile{Token: token, Alias: "room", PublicPEM: "x"}, nil
}
func (s *shelf) Instance(context.Context) (string, error) { return "x", nil }
func (s *shelf) Users(context.Context) (int, error)       { return 1, nil }
func (s *shelf) Claim(_ context.Context, _, requester string) (Offer, error) {
	return Offer{Token: "1", Public: []byte(requester), Suite: 1}, nil
}
func (s *shelf) Offered(_ context.Context, _, token, _ string) (Offer, error) {
	if token != "1" {
		return Offer{}, ErrNotFound
	}
	return Offer{Token: token, Public: []byte("kp"), Suite: 1}, nil
}
func (s *shelf) Members(context.Context, string) ([]string, error) { return s.members, nil }
func (s *shelf) GroupInfo(context.Context, string) ([]byte, error) { return []byte("info"), nil }
func (s *shelf) List(_ context.Context, _ Box, _, reader, _ string, _ int) (Listing, error) {
	if reader == "" {
		return Listing{}, nil
	}
	return Listing{Items: []Object{{"id": "1"}}, Total: 30, Next: "n"}, nil
}
func (s *shelf) Object(context.Context, string, string) (Object, error) { return nil, ErrNotFound }
func (s *shelf) HostsGroup(context.Context, string) (bool, error)       { return false, nil }
func (s *shelf) Leaving(_ context.Context, group []byte) (bool, error) {
	return string(group) == s.leaving, s.trouble
}
func (s *shelf) Receive(_ context.Context, d Delivered) (bool, error) {
	s.got = append(s.got, d)
	return true, s.refuse
}

// TestTheFace: what each address answers, signed and unsigned (rows "Body size", "Content type", "Delete storms", "KeyPackage draining").
func TestTheFace(t *testing.T) {
	w := newWeb(t)
	bob := w.actor("bob", testKey(0))
	create := func(change func(Object)) string {
		o := Object{"id": bob + "/1", "type": "Create", "actor": bob, "object": Object{"id": bob + "/2", "type": "Note", "content": "hi"}}
		if change != nil {
			change(o)
		}
		return string(o.Marshal())
	}
	gone := w.URL + "/u/gone"
	for _, tc := range []struct {
		name, method, path, body string
		signer                   string
		header                   map[string]string
		members                  []string
		refuse                   error
		code                     int
		has                      string
	}{
		{name: "actor", method: "GET", path: "/ap/u/alice", code: 200, has: `"type":"Person"`},
		{name: "actor for a browser", method: "GET", path: "/ap/u/alice", header: map[string]string{"Accept": "text/html,*/*"}, code: 303},
		{name: "actor that is not", method: "GET", path: "/ap/u/eve", code: 404},
		{name: "actor that was deleted", method: "GET", path: "/ap/u/deleted", code: 410},
		{name: "escaped path", method: "GET", path: "/ap/u/%61lice", code: 404},
		{name: "room", method: "GET", path: "/ap/r/x", code: 200, has: `"type":["Service"]`},
		{name: "instance", method: "GET", path: "/ap/actor", code: 200, has: `"type":"Application"`},
		{name: "nodeinfo links", method: "GET", path: "/.well-known/nodeinfo", code: 200, has: "/ap/nodeinfo/2.1"},
		{name: "nodeinfo", method: "GET", path: "/ap/nodeinfo/2.1", code: 200, has: `"activitypub"`},
		{name: "packages unsigned", method: "GET", path: "/ap/u/alice/keyPackages", code: 401},
		{name: "packages", method: "GET", path: "/ap/u/alice/keyPackages", signer: bob, code: 200, has: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"},
		{name: "package", method: "GET", path: "/ap/u/alice/keyPackages/1", signer: bob, code: 200, has: `"KeyPackage"`},
		{name: "package of another", method: "GET", path: "/ap/u/alice/keyPackages/2", signer: bob, code: 404},
		{name: "outbox", method: "GET", path: "/ap/u/alice/outbox", signer: bob, code: 200, has: `"totalItems":30`},
		{name: "page", method: "GET", path: "/ap/u/alice/outbox?page=1", signer: bob, code: 200, has: `"next":"https://b.example/ap/u/alice/outbox?page=1&before=n"`},
		{name: "messages are the user's own", method: "GET", path: "/ap/u/alice/messages", signer: bob, code: 403},
		{name: "followers", method: "GET", path: "/ap/u/alice/followers", code: 200, has: `"orderedItems":[]`},
		{name: "members for others", method: "GET", path: "/ap/r/x/followers", signer: bob, code: 403},
		{name: "members for members", method: "GET", path: "/ap/r/x/followers", signer: bob, members: []string{bob}, code: 200, has: bob},
		{name: "state of the group unsigned", method: "GET", path: "/ap/r/x/groupInfo", members: []string{bob}, code: 401},
		{name: "state of the group for others", method: "GET", path: "/ap/r/x/groupInfo", signer: bob, code: 403},
		{name: "state of the group", method: "GET", path: "/ap/r/x/groupInfo", signer: bob, members: []string{bob}, code: 200, has: `"GroupInfo"`},
		{name: "inbox by GET", method: "GET", path: "/ap/u/alice/inbox", code: 405},
		{name: "POST elsewhere", method: "POST", path: "/ap/u/alice", code: 405},
		{name: "inbox", method: "POST", path: "/ap/u/alice/inbox", body: create(nil), signer: bob, code: 202},
		{name: "shared inbox", method: "POST", path: "/ap/inbox", body: create(nil), signer: bob, code: 202},
		{name: "unsigned", method: "POST", path: "/ap/inbox", body: create(nil), code: 401},
		{name: "type", method: "POST", path: "/ap/inbox", body: create(nil), signer: bob, header: map[string]string{"Content-Type": "text/plain"}, code: 415},
		{name: "size", method: "POST", path: "/ap/inbox", body: strings.Repeat("x", 2000), signer: bob, code: 413},
		{name: "not JSON", method: "POST", path: "/ap/inbox", body: "hello", signer: bob, code: 400},
		{name: "another actor", method: "POST", path: "/ap/inbox", body: create(func(o Object) { o["actor"] = w.URL + "/u/eve" }), signer: bob, code: 401},
		{name: "MLS that is none", method: "POST", path: "/ap/inbox", body: create(func(o Object) {
			o["object"] = Object{"id": bob + "/2", "type": "Welcome", "content": "AAAA"}
		}), signer: bob, code: 400},
		{name: "an Announce of strangers", method: "POST", path: "/ap/inbox", body: create(func(o Object) {
			o["type"], o["object"] = "Announce", Object{"type": "Create", "id": "https://c.example/1", "actor": "https://c.example/u/c", "object": Object{"type": "Note"}}
		}), signer: bob, code: 403},
		{name: "another epoch", method: "POST", path: "/ap/inbox", body: create(nil), signer: bob, refuse: ErrEpoch, code: 409},
		{name: "nobody's", method: "POST", path: "/ap/inbox", body: create(nil), signer: bob, refuse: ErrNotFound, code: 404},
		{name: "the database fails", method: "POST", path: "/ap/inbox", body: create(nil), signer: bob, refuse: context.DeadlineExceeded, code: 503},
		{name: "somebody gone deletes themself", method: "POST", path: "/ap/inbox", signer: gone, code: 202,
			body: string(Object{"id": gone + "/1", "type": "Delete", "actor": gone, "object": gone}.Marshal())},
		{name: "somebody gone says something", method: "POST", path: "/ap/inbox", signer: gone, code: 401,
			body: string(Object{"id": gone + "/1", "type": "Create", "actor": gone, "object": gone}.Marshal())},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := &shelf{refuse: tc.refuse, members: tc.members}
			s, err := NewServer(ServerConfig{Site: Site{Base: "https://b.example"}, Backend: b, Gate: testGate(t), MaxInbox: 1000, Now: func() time.Time { return testNow }})
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(tc.method, "https://b.example"+tc.path, strings.NewReader(tc.body))
			r.Header.Set("Content-Type", TypeActivity)
			for k, v := range tc.header {
				r.Header.Set(k, v)
			}
			if tc.signer != "" {
				if err := (SigningKey{ID: KeyID(tc.signer), Private: testKey(0)}).Sign(r, []byte(tc.body), Cavage, testNow); err != nil {
					t.Fatal(err)
				}
			}
			rec := httptest.NewRecorder()
			s.ServeHTTP(rec, r)
			if rec.Code != tc.code || !strings.Contains(rec.Body.String(), tc.has) {
				t.Fatalf("%d %s", rec.Code, rec.Body)
			}
			if (rec.Code == http.StatusAccepted && tc.signer == bob) && len(b.got) != 1 {
				t.Fatal("answered before it was received")
			}
		})
	}
}

// TestPackagesCannotBeDrained (row "KeyPackage draining"): claims are bounded by requester and by user.
func TestPackagesCannotBeDrained(t *testing.T) {
	w := newWeb(t)
	bob := w.actor("bob", testKey(0))
	s, err := NewServer(ServerConfig{Site: Site{Base: "https://b.example"}, Backend: &shelf{}, Gate: testGate(t), PackagesPerRequester: 2, Now: func() time.Time { return testNow }})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{200, 200, 429} {
		r := httptest.NewRequest("GET", "https://b.example/ap/u/alice/keyPackages", nil)
		if err := (SigningKey{ID: KeyID(bob), Private: testKey(0)}).Sign(r, nil, RFC9421, testNow); err != nil {
			t.Fatal(err)
		}
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, r)
		if rec.Code != want {
			t.Errorf("%d: %d", i, rec.Code)
		}
	}
}

// TestWebFingerAnswers: one resource, which is ours. S000-043, S000-044.
func TestWebFingerAnswers(t *testing.T) {
	s, err := NewServer(ServerConfig{Site: Site{Base: "https://b.example"}, Backend: &shelf{}, Gate: testGate(t)})
	if err != nil {
		t.Fatal(err)
	}
	for query, code := range map[string]int{
		"?resource=acct:alice@b.example": 200, "?resource=acct%3Aalice%40b.example&rel=self": 200, "?resource=acct:eve@b.example": 404, "": 400, "?resource=a&resource=b": 400,
	} {
		rec := httptest.NewRecorder()
		s.WebFinger(rec, httptest.NewRequest("GET", "https://b.example/.well-known/webfinger"+query, nil))
		if rec.Code != code {
			t.Errorf("%q: %d", query, rec.Code)
		}
		if code != 200 {
			continue
		}
		if _, actor, err := ParseJRD(rec.Body.Bytes()); err != nil || actor != "https://b.example/ap/u/alice" || rec.Header().Get("Content-Type") != typeJRD {
			t.Errorf("%q: %s %v", query, actor, err)
		}
	}
}
