package activitypub

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// These are rows of the security list (docs/activitypub.md) that no other test has.

// TestEveryHopIsJudged (row "Redirects"): three are followed, a fourth is not, and each leads only where a fetch may go at all.
func TestEveryHopIsJudged(t *testing.T) {
	for name, tc := range map[string]struct {
		hops int
		to   string
		want error
	}{
		"three":           {hops: 3},
		"four":            {hops: 4, want: ErrUnfit},
		"to http":         {to: "http://a.example/end", want: ErrUnfit},
		"to an address":   {to: "https://127.0.0.1/end", want: ErrUnfit},
		"to IPv6":         {to: "https://[::1]/end", want: ErrUnfit},
		"to the blocked":  {to: "https://blocked.example/end", want: ErrUnfit},
		"to a file":       {to: "file:///end", want: ErrUnfit},
		"with a password": {to: "https://u:p@a.example/end", want: ErrUnfit},
	} {
		t.Run(name, func(t *testing.T) {
			asked := []string{}
			f := NewFetcher(FetcherConfig{Now: func() time.Time { return testNow }, Blocked: func(host string) bool { return host == "blocked.example" },
				Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
					asked = append(asked, r.URL.String())
					res := &http.Response{StatusCode: http.StatusFound, Header: http.Header{"Content-Type": {TypeActivity}}, Body: http.NoBody, Request: r}
					switch {
					case len(asked) == 1 && tc.to != "":
						res.Header.Set("Location", tc.to)
					case len(asked) <= tc.hops:
						res.Header.Set("Location", fmt.Sprintf("https://a.example/%d", len(asked)))
					default:
						res.StatusCode, res.Body = http.StatusOK, io.NopCloser(strings.NewReader(string(Object{"id": r.URL.String()}.Marshal())))
					}
					return res, nil
				})})
			_, err := f.Document(context.Background(), "https://a.example/0")
			if !errors.Is(err, tc.want) {
				t.Fatal(err)
			}
			if tc.to != "" && len(asked) != 1 {
				t.Fatal("was asked: ", asked)
			}
		})
	}
}

// TestADeliveryIsNotRedirected (row "Redirects").
func TestADeliveryIsNotRedirected(t *testing.T) {
	w := newWeb(t)
	for _, code := range []int{301, 302, 303, 307, 308} {
		w.put("/inbox", func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/other", code) })
		d, err := NewSender(testFetcher(FetcherConfig{})).Deliver(context.Background(), SigningKey{"https://b.example/ap/u/alice#main-key", testKey(0)}, w.URL+"/inbox", []byte(helloBody))
		if err == nil && d.Done() {
			t.Errorf("%d: %+v", code, d)
		}
	}
	for _, r := range w.requests {
		if strings.HasSuffix(r, "/other") {
			t.Fatal(r)
		}
	}
}

// TestTheWindowOfSignatures (row "Replay"): one hour back and five minutes ahead, to the second.
func TestTheWindowOfSignatures(t *testing.T) {
	key := SigningKey{ID: "https://a.example/u/bob#main-key", Private: testKey(0)}
	for _, scheme := range []Scheme{Cavage, RFC9421} {
		for off, fine := range map[time.Duration]bool{-time.Hour: true, -time.Hour - time.Second: false, 5 * time.Minute: true, 5*time.Minute + time.Second: false} {
			r := post(helloBody)
			if err := key.Sign(r, []byte(helloBody), scheme, testNow.Add(off)); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadSignature(incoming(r, helloBody), testNow); (err == nil) != fine {
				t.Errorf("%s %v: %v", scheme, off, err)
			}
		}
	}
}

// TestWhatTheInboxReads (rows "Body size", "Content type", "Delete storms", and the host that is signed): decided before or without a key.
func TestWhatTheInboxReads(t *testing.T) {
	w := newWeb(t)
	bob, gone := w.actor("bob", testKey(0)), w.URL+"/u/gone"
	by := func(actor, typ string, object any) string {
		return string(Object{"id": actor + "/1", "type": typ, "actor": actor, "object": object}.Marshal())
	}
	note := by(bob, "Create", Object{"id": bob + "/2", "type": "Note", "content": "hi"})
	for _, tc := range []struct {
		name, body, signer, contentType string
		host, forwarded                 string
		streamed                        bool
		code                            int
	}{
		{name: "activity", body: note, signer: bob, code: 202},
		{name: "with a charset", body: note, signer: bob, contentType: TypeActivity + "; charset=utf-8", code: 202},
		{name: "linked data of the profile", body: note, signer: bob, contentType: typeLD, code: 202},
		{name: "linked data", body: note, signer: bob, contentType: "application/ld+json", code: 415},
		{name: "linked data of another profile", body: note, signer: bob, contentType: `application/ld+json; profile="https://a.example/"`, code: 415},
		{name: "JSON", body: note, signer: bob, contentType: "application/json", code: 415},
		{name: "no sense", body: note, signer: bob, contentType: ";;", code: 415},
		{name: "too long, without its length", body: strings.Repeat("x", 2000), streamed: true, code: 413},
		{name: "too long, unsigned", body: strings.Repeat("x", 2000), code: 413},
		{name: "signed for another host", body: note, signer: bob, host: "c.example", code: 401},
		{name: "and the proxy says so", body: note, signer: bob, host: "c.example", forwarded: "c.example", code: 401},
		{name: "the proxy says otherwise", body: note, signer: bob, forwarded: "c.example", code: 202},
		{name: "somebody gone updates themself", body: by(gone, "Update", gone), signer: gone, code: 202},
		{name: "somebody gone deletes another", body: by(gone, "Delete", bob), signer: gone, code: 401},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := NewServer(ServerConfig{Site: Site{Base: "https://b.example"}, Backend: &shelf{}, Gate: testGate(t), MaxInbox: 1000, Now: func() time.Time { return testNow }})
			if err != nil {
				t.Fatal(err)
			}
			host := firstOf(tc.host, "b.example")
			r := httptest.NewRequest("POST", "https://"+host+"/ap/u/alice/inbox", strings.NewReader(tc.body))
			r.Header.Set("Content-Type", firstOf(tc.contentType, TypeActivity))
			if tc.streamed {
				r.ContentLength = -1
			}
			if tc.signer != "" {
				if err := (SigningKey{ID: KeyID(tc.signer), Private: testKey(0)}).Sign(r, []byte(tc.body), Cavage, testNow); err != nil {
					t.Fatal(err)
				}
			}
			if tc.forwarded != "" {
				r.Header.Set("X-Forwarded-Host", tc.forwarded)
			}
			rec := httptest.NewRecorder()
			if s.ServeHTTP(rec, r); rec.Code != tc.code {
				t.Fatalf("%d %s", rec.Code, rec.Body)
			}
		})
	}
}

// TestAKeyThatIsNotThereIsNotLookedUpAgain (row "Inbox flooding"): for ten minutes.
func TestAKeyThatIsNotThereIsNotLookedUpAgain(t *testing.T) {
	w := newWeb(t)
	now := testNow
	clock := func() time.Time { return now }
	g := NewGate(GateConfig{People: NewPeople(testFetcher(FetcherConfig{Now: clock})), Now: clock})
	ask := func() int {
		r := post(helloBody)
		if err := (SigningKey{ID: w.URL + "/u/nobody#main-key", Private: testKey(0)}).Sign(r, []byte(helloBody), Cavage, now); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Signer(context.Background(), incoming(r, helloBody)); !errors.Is(err, ErrSignature) {
			t.Fatal(err)
		}
		return len(w.requests)
	}
	first := ask()
	if first == 0 || ask() != first {
		t.Fatal("looked up again: ", w.requests)
	}
	now = now.Add(failureAge + time.Second)
	if ask() == first {
		t.Fatal("never looked up again")
	}
}

// TestAKeyThatCannotBeHadNow (row "Inbox flooding"): is answered 401, as the field does, with the time after which the sender may try again.
func TestAKeyThatCannotBeHadNow(t *testing.T) {
	w := newWeb(t)
	busy := w.URL + "/u/busy"
	w.put("/u/busy", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusBadGateway) })
	b := &shelf{}
	rec := deliver(t, b, busy, string(Object{"id": busy + "/1", "type": "Like", "actor": busy, "object": busy}.Marshal()))
	if rec.Code != http.StatusUnauthorized || rec.Header().Get("Retry-After") == "" || len(b.got) != 0 || len(b.refused) != 1 || !errors.Is(b.refused[0].Err, ErrUnknownKey) {
		t.Errorf("%d %v %+v", rec.Code, rec.Header(), b.refused)
	}
	for status, refused := range map[int]bool{400: true, 401: false, 403: true, 404: true, 429: false, 503: false, 202: false} {
		if (Delivery{Status: status}).Refused() != refused {
			t.Errorf("a delivery that is answered %d is given up: %v", status, !refused)
		}
	}
}

// TestPackagesAreReadAsFarAsNeeded (row "Inbox flooding"): an actor that lists hundreds of KeyPackages by their addresses is asked for 20, and for no more than up to the one that is
// looked for.
func TestPackagesAreReadAsFarAsNeeded(t *testing.T) {
	w := newWeb(t)
	id := w.URL + "/u/bob"
	var list []any
	var third *mls.KeyPackage
	for n := range 30 {
		address := fmt.Sprintf("%s/kp/%d", w.URL, n)
		kp := newMember(t, id).key.KeyPackage
		if n == 2 {
			third = kp
		}
		w.put(fmt.Sprintf("/kp/%d", n), carrying(kp.Marshal(), Object{"id": address, "type": "KeyPackage", "attributedTo": id}))
		list = append(list, address)
	}
	p, bob := NewPeople(testFetcher(FetcherConfig{})), &RemoteActor{ID: id, KeyPackages: list}
	all, err := p.Packages(context.Background(), bob, nil)
	if err != nil || len(all) != maxPackageDocuments || len(w.requests) != maxPackageDocuments {
		t.Errorf("%d KeyPackages by %d questions, %v", len(all), len(w.requests), err)
	}
	w.requests = nil
	some, err := p.PackagesUntil(context.Background(), bob, nil, func(kp *mls.KeyPackage) bool { return bytes.Equal(kp.Leaf.SignatureKey, third.Leaf.SignatureKey) })
	if err != nil || len(some) != 3 || len(w.requests) != 3 {
		t.Errorf("%d KeyPackages by %d questions, %v", len(some), len(w.requests), err)
	}
}

// TestAnActorsInboxIsItsOwn (row "Cross-origin ids"): nothing is delivered to another server because an actor names it.
func TestAnActorsInboxIsItsOwn(t *testing.T) {
	const id = "https://a.example/u/bob"
	actor := func(change Object) *Document {
		o := Object{"id": id, "type": "Person", "inbox": id + "/inbox"}
		for k, v := range change {
			o[k] = v
		}
		return &Document{URL: id, Object: o}
	}
	for name, bad := range map[string]Object{
		"inbox of another server": {"inbox": "https://c.example/inbox"}, "inbox of another port": {"inbox": "https://a.example:8448/inbox"}, "inbox over http": {"inbox": "http://a.example/u/bob/inbox"},
		"no inbox": {"inbox": ""}, "another id": {"id": "https://a.example/u/eve"}, "no person": {"type": "Note"},
	} {
		if _, err := ReadActor(actor(bad)); !errors.Is(err, ErrActor) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a, err := ReadActor(actor(Object{"endpoints": Object{"sharedInbox": "https://c.example/inbox"}}))
	if err != nil || a.Inbox != id+"/inbox" || a.SharedInbox != "" {
		t.Fatalf("%+v %v", a, err)
	}
}

// TestAWebFingerAnswerIsSmall (row "Body size").
func TestAWebFingerAnswerIsSmall(t *testing.T) {
	w := newWeb(t)
	bob := w.actor("bob", testKey(0))
	host := strings.TrimPrefix(w.URL, "http://")
	for size, fine := range map[int]bool{0: true, 64 << 10: false} {
		w.put("/.well-known/webfinger", func(rw http.ResponseWriter, _ *http.Request) {
			o := Found{Subject: "acct:bob@" + host, Actor: bob}.JRD()
			o["x"] = strings.Repeat("x", size)
			rw.Header().Set("Content-Type", typeJRD)
			rw.Write(o.Marshal())
		})
		if _, err := NewPeople(testFetcher(FetcherConfig{})).Resolve(context.Background(), "acct:bob@"+host); (err == nil) != fine {
			t.Errorf("%d octets: %v", size, err)
		}
	}
}

// TestWhatIsTakenFromABlockedServer (row "Blocked origins"): handshakes of a group that ours are leaving, from members whose signature counts, and nothing else.
func TestWhatIsTakenFromABlockedServer(t *testing.T) {
	w := newWeb(t)
	bob := w.actor("bob", testKey(0))
	kinds := everyKind(t)
	create := func(kind string, change func(Object)) string {
		o := Object{"id": bob + "/1", "type": "Create", "actor": bob, "object": carrying(kinds[kind], Object{"id": bob + "/2", "attributedTo": bob})}
		if change != nil {
			change(o)
		}
		return string(o.Marshal())
	}
	std := base64.StdEncoding.EncodeToString
	for name, tc := range map[string]struct {
		body    string
		leaving string
		code    int
	}{
		"a commit":                  {create("PublicMessage", nil), "mimi://b.example/g/1", 202},
		"of a group we stay in":     {create("PublicMessage", nil), "", 403},
		"of another group":          {create("PublicMessage", nil), "mimi://b.example/g/2", 403},
		"a message":                 {create("PrivateMessage", nil), "mimi://b.example/g/1", 403},
		"a Welcome":                 {create("Welcome", nil), "mimi://b.example/g/1", 403},
		"a Note":                    {create("PublicMessage", func(o Object) { o["object"] = Object{"id": bob + "/2", "type": "Note", "content": "x"} }), "mimi://b.example/g/1", 403},
		"a commit beside a message": {create("PrivateMessage", func(o Object) { o["commit"] = std(kinds["PublicMessage"]) }), "mimi://b.example/g/1", 403},
		"a Remove": {create("Welcome", func(o Object) {
			o["type"], o["object"], o["target"], o["commit"] = "Remove", bob, "https://b.example/ap/r/x/followers", std(kinds["PublicMessage"])
		}), "mimi://b.example/g/1", 202},
	} {
		t.Run(name, func(t *testing.T) {
			clock := func() time.Time { return testNow }
			blocked := func(string) bool { return true }
			people := NewPeople(testFetcher(FetcherConfig{Blocked: blocked}))
			b := &shelf{leaving: tc.leaving, gate: NewGate(GateConfig{People: people, Blocked: blocked, Now: clock})}
			if rec := deliver(t, b, bob, tc.body); rec.Code != tc.code || (len(b.got) == 1) != (tc.code == 202) {
				t.Errorf("%d, %d taken", rec.Code, len(b.got))
			}
		})
	}
	b := &shelf{leaving: "mimi://b.example/g/1", gate: NewGate(GateConfig{People: NewPeople(testFetcher(FetcherConfig{})), Blocked: func(string) bool { return true }, Now: func() time.Time { return testNow }})}
	if rec := deliver(t, b, w.actor("eve", testKey(1)), create("PublicMessage", nil)); rec.Code != 401 {
		t.Errorf("with a signature that does not count: %d", rec.Code)
	}
	b.trouble = errors.New("the database is away")
	if rec := deliver(t, b, bob, create("PublicMessage", nil)); rec.Code != 503 {
		t.Errorf("while it is not known whether ours leave: %d", rec.Code)
	}
}

// TestOneDomainDoesNotHoldUpOthers (row "Inbox flooding"): a domain that answers slowly, under whatever names below it, has its share of what is looked up at once, and no more.
func TestOneDomainDoesNotHoldUpOthers(t *testing.T) {
	l := NewLookups(6, 2)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var done []func()
	for n, tc := range []struct {
		address string
		err     error
	}{
		{"https://a.slow.example/k", nil}, {"https://b.slow.example:8448/k", nil}, {"https://slow.example/k", ErrTooMany}, {"https://c.a.slow.example/k", ErrTooMany},
		{"https://one.github.io/k", nil}, {"https://two.github.io/k", nil}, {"https://three.github.io/k", nil}, // each is somebody else's
		{"https://fast.example/k", nil}, {"https://last.example/k", ErrTooMany}, // all turns are taken
	} {
		c := context.Background()
		if n == 8 {
			c = ctx
		}
		end, err := l.Begin(c, tc.address)
		if !errors.Is(err, tc.err) {
			t.Fatalf("%s: %v", tc.address, err)
		}
		if err == nil {
			done = append(done, end)
		}
	}
	for _, end := range done {
		end()
	}
	if len(l.busy) != 0 || len(l.all) != 0 {
		t.Errorf("what has ended is counted: %v", l.busy)
	}
}
