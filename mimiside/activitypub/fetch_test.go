package activitypub

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/netguard"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// TestFetchesThatAreRefused are the rows "SSRF", "Redirects", "Body size", "Content type" and "Cross-origin ids" of the security list.
func TestFetchesThatAreRefused(t *testing.T) {
	w, other := newWeb(t), newWeb(t)
	redirect := func(to string) func(http.ResponseWriter, *http.Request) {
		return func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, to, http.StatusFound) }
	}
	typed := func(contentType, body string) func(http.ResponseWriter, *http.Request) {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", contentType)
			rw.Write([]byte(body))
		}
	}
	w.put("/good", Object{"id": w.URL + "/good"})
	w.put("/moved", redirect("/good"))
	w.put("/twice", redirect("/moved"))
	w.put("/loop", redirect("/loop"))
	w.put("/alias", Object{"id": w.URL + "/good"})
	w.put("/elsewhere", Object{"id": other.URL + "/good"})
	w.put("/html", typed("text/html", "<html>"))
	w.put("/json", typed("application/json", `{"id":"`+w.URL+`/json"}`))
	w.put("/ld", typed(typeLD, `{"id":"`+w.URL+`/ld"}`))
	w.put("/ldbare", typed("application/ld+json", `{"id":"`+w.URL+`/ldbare"}`))
	w.put("/big", typed(TypeActivity, `{"id":"`+w.URL+`/big","x":"`+strings.Repeat("x", maxActorBody)+`"}`))
	w.put("/bad", typed(TypeActivity, `{"id":`))
	w.put("/gone", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusGone) })
	w.put("/busy", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusServiceUnavailable) })
	f := testFetcher(FetcherConfig{})
	for path, want := range map[string]error{
		"/good": nil, "/moved": nil, "/twice": nil, "/alias": nil, "/ld": nil, "/good#main-key": nil,
		"/loop": ErrUnfit, "/elsewhere": ErrUnfit, "/html": ErrUnfit, "/json": ErrUnfit, "/ldbare": ErrUnfit, "/big": ErrUnfit, "/bad": ErrUnfit,
		"/gone": ErrGone, "/nothing": ErrGone, "/busy": ErrFetch,
	} {
		if _, err := f.Document(context.Background(), w.URL+path); !errors.Is(err, want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	strict := NewFetcher(FetcherConfig{Transport: netguard.New(netguard.Config{Timeout: time.Second}).Transport(nil)})
	for _, address := range []string{
		w.URL + "/good", "http://a.example/x", "https://127.0.0.1/x", "https://[::1]/x", "https://169.254.169.254/latest", "ftp://a.example/x", "https://a@b.example/",
		"file:///etc/passwd", "https://localhost/x", "", "https://",
	} {
		if _, err := strict.Document(context.Background(), address); !errors.Is(err, ErrUnfit) && !errors.Is(err, netguard.ErrRefused) {
			t.Errorf("%s: %v", address, err)
		}
	}
	blocked := testFetcher(FetcherConfig{Blocked: func(string) bool { return true }})
	if _, err := blocked.Document(context.Background(), w.URL+"/good"); !errors.Is(err, ErrUnfit) {
		t.Error(err)
	}
}

// TestAFallToHTTPIsRefused: a redirect from https to http is not followed.
func TestAFallToHTTPIsRefused(t *testing.T) {
	f := testFetcher(FetcherConfig{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		h := http.Header{"Location": {"http://a.example/x"}}
		return &http.Response{StatusCode: 302, Header: h, Body: http.NoBody, Request: r}, nil
	})})
	if _, err := f.Document(context.Background(), "https://a.example/x"); !errors.Is(err, ErrUnfit) {
		t.Fatal(err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestGETsAreSigned: with the instance actor's key, each hop anew.
func TestGETsAreSigned(t *testing.T) {
	w := newWeb(t)
	site := Site{Base: w.URL}
	w.put("/ap/actor", site.InstanceActor(pemOf(testKey(0))))
	g := testGate(t)
	seen := 0
	check := func(next func(http.ResponseWriter, *http.Request)) func(http.ResponseWriter, *http.Request) {
		return func(rw http.ResponseWriter, r *http.Request) {
			actor, err := g.Signer(r.Context(), IncomingRequest(r, "http", r.Host, nil))
			if err != nil || actor != site.Instance() {
				t.Errorf("%s: %q %v", r.URL, actor, err)
			}
			seen++
			next(rw, r)
		}
	}
	w.put("/a", check(func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/b?x=1", http.StatusFound) }))
	w.put("/b", check(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", TypeActivity)
		rw.Write(Object{"id": w.URL + "/b?x=1"}.Marshal())
	}))
	f := testFetcher(FetcherConfig{Key: SigningKey{KeyID(site.Instance()), testKey(0)}})
	if _, err := f.Document(context.Background(), w.URL+"/a"); err != nil || seen != 2 {
		t.Fatal(err, seen)
	}
}

// TestDoubleKnock: cavage first; a server that refuses it gets RFC 9421 with the same bytes, and that is remembered; and back.
func TestDoubleKnock(t *testing.T) {
	w := newWeb(t)
	var schemes []Scheme
	takes := RFC9421
	w.put("/inbox", func(rw http.ResponseWriter, r *http.Request) {
		scheme := Cavage
		if r.Header.Get("Signature-Input") != "" {
			scheme = RFC9421
		}
		schemes = append(schemes, scheme)
		if scheme != takes {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		rw.WriteHeader(http.StatusAccepted)
	})
	memory := NewSchemeMemory("")
	s := NewSender(testFetcher(FetcherConfig{Memory: memory}))
	key := SigningKey{"https://b.example/ap/u/alice#main-key", testKey(0)}
	for i, want := range [][]Scheme{{Cavage, RFC9421}, {RFC9421}, {RFC9421, Cavage}, {Cavage}} {
		if i == 2 {
			takes = Cavage
		}
		schemes = nil
		d, err := s.Deliver(context.Background(), key, w.URL+"/inbox", []byte(helloBody))
		if err != nil || !d.Done() || len(schemes) != len(want) || schemes[0] != want[0] {
			t.Fatalf("%d: %+v %v %v", i, d, err, schemes)
		}
	}
	takes = ""
	if d, err := s.Deliver(context.Background(), key, w.URL+"/inbox", []byte(helloBody)); err != nil || d.Done() || d.Status != 401 || d.Refused() { // it may take it later
		t.Fatalf("%+v %v", d, err)
	}
	fixed := NewSender(testFetcher(FetcherConfig{Memory: NewSchemeMemory(Cavage)}))
	schemes = nil
	if _, err := fixed.Deliver(context.Background(), key, w.URL+"/inbox", []byte(helloBody)); err != nil || len(schemes) != 1 {
		t.Fatal(err, schemes)
	}
}

// TestAnAdvertisedScheme: an actor whose generator implements RFC 9421 is sent to that way first (FEP-844e), unless it is known what its server takes.
func TestAnAdvertisedScheme(t *testing.T) {
	for name, tc := range map[string]struct {
		implements any
		took       Scheme
		want       Scheme
	}{
		"advertised":             {[]any{Object{"href": implementsRFC9421}}, "", RFC9421},
		"not advertised":         {nil, "", Cavage},
		"known by what it takes": {[]any{Object{"href": implementsRFC9421}}, Cavage, Cavage},
	} {
		t.Run(name, func(t *testing.T) {
			w, m := newWeb(t), NewSchemeMemory("")
			id := w.URL + "/u/bob"
			w.put("/u/bob", Object{"id": id, "type": "Person", "inbox": id + "/inbox", "generator": Object{"type": "Application", "implements": tc.implements}})
			if tc.took != "" {
				m.Took(originOf(id), tc.took, testNow)
			}
			if _, err := NewPeople(testFetcher(FetcherConfig{Memory: m})).Actor(context.Background(), id, false); err != nil {
				t.Fatal(err)
			}
			if got := m.First(originOf(id), testNow); got != tc.want {
				t.Errorf("%s is tried first, want %s", got, tc.want)
			}
			if m.First(originOf(id), testNow.Add(31*24*time.Hour)) != Cavage {
				t.Error("not forgotten")
			}
		})
	}
}

// TestPackagesInEveryForm: string, object, Collection, OrderedCollection, pages, array, both property names. S001-035, S001-094.
func TestPackagesInEveryForm(t *testing.T) {
	w := newWeb(t)
	id := w.URL + "/u/bob"
	m := newMember(t, id)
	object := Object{"id": w.URL + "/kp/1", "type": []any{"Object", "KeyPackage"}, "content": base64.StdEncoding.EncodeToString(m.key.KeyPackage.Marshal())}
	w.put("/kp/1", object)
	w.put("/kps", Object{"id": w.URL + "/kps", "type": "Collection", "items": []any{w.URL + "/kp/1"}})
	w.put("/paged", Object{"id": w.URL + "/paged", "type": "OrderedCollection", "first": w.URL + "/page1"})
	w.put("/page1", Object{"id": w.URL + "/page1", "type": "OrderedCollectionPage", "orderedItems": []any{}, "next": w.URL + "/page2"})
	w.put("/page2", Object{"id": w.URL + "/page2", "type": "OrderedCollectionPage", "orderedItems": []any{object}})
	other := newWeb(t)
	other.put("/kp/1", object)
	for name, tc := range map[string]struct {
		property string
		value    any
		count    int
	}{
		"URL":                {"keyPackages", w.URL + "/kps", 1},
		"prefixed":           {"mls:keyPackages", w.URL + "/kps", 1},
		"embedded":           {"keyPackages", Object{"type": "Collection", "items": []any{object}}, 1},
		"ordered":            {"keyPackages", Object{"type": "OrderedCollection", "orderedItems": []any{object}}, 1},
		"array of objects":   {"keyPackages", []any{object}, 1},
		"array of URLs":      {"keyPackages", []any{w.URL + "/kp/1", w.URL + "/nothing"}, 1},
		"one object":         {"keyPackages", object, 1},
		"pages":              {"keyPackages", w.URL + "/paged", 1},
		"another origin":     {"keyPackages", []any{other.URL + "/kp/1"}, 0},
		"one that is broken": {"keyPackages", []any{Object{"type": "KeyPackage", "content": "AAAA"}, object}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := NewPeople(testFetcher(FetcherConfig{}))
			w.put("/u/bob", Object{"id": id, "type": "Person", "inbox": id + "/inbox", tc.property: tc.value})
			a, err := p.Actor(context.Background(), id, false)
			if err != nil {
				t.Fatal(err)
			}
			list, err := p.Packages(context.Background(), a, nil)
			if err != nil || len(list) != tc.count {
				t.Fatalf("%d %v", len(list), err)
			}
		})
	}
}

// TestAPackageIsItsActors: a KeyPackage names its actor, and its signatures hold. S001-044.
func TestAPackageIsItsActors(t *testing.T) {
	const bob = "https://a.example/u/bob"
	broken := *newMember(t, bob).key.KeyPackage
	broken.Signature = append([]byte{}, broken.Signature...)
	broken.Signature[0] ^= 1
	for name, tc := range map[string]struct {
		kp *mls.KeyPackage
		ok bool
	}{
		"own": {newMember(t, bob).key.KeyPackage, true}, "of another": {newMember(t, "https://a.example/u/eve").key.KeyPackage, false}, "broken signature": {&broken, false},
	} {
		if err := CheckOwn(tc.kp, bob); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestResolve finds actors by WebFinger, also where the account's domain is another than the server's. S000-042 … S000-044.
func TestResolve(t *testing.T) {
	w, alias, evil := newWeb(t), newWeb(t), newWeb(t)
	bob := w.actor("bob", testKey(0))
	host := func(x *web) string { return strings.TrimPrefix(x.URL, "http://") }
	jrd := func(x *web, subject, actor string) {
		x.put("/.well-known/webfinger", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", typeJRD)
			rw.Write(Found{Subject: subject, Actor: actor}.JRD().Marshal())
		})
	}
	jrd(w, "acct:bob@"+host(w), bob)
	jrd(alias, "acct:bob@"+host(w), bob)
	evilBob := evil.actor("bob", testKey(1))
	jrd(evil, "acct:bob@"+host(w), evilBob)
	p := NewPeople(testFetcher(FetcherConfig{}))
	for acct, want := range map[string]string{"acct:bob@" + host(w): bob, "acct:robert@" + host(alias): bob, "acct:bob@" + host(evil): evilBob} {
		a, err := p.Resolve(context.Background(), acct)
		if err != nil || a.ID != want {
			t.Errorf("%s: %v %v", acct, a, err)
		}
	}
	a, _ := p.Actor(context.Background(), bob, false)
	if acct, ok := p.AcctOf(context.Background(), a); !ok || acct != "acct:bob@"+host(w) {
		t.Error(acct, ok)
	}
	// One who says to be called bob, whom the server calls otherwise.
	w.put("/u/eve", Object{"id": w.URL + "/u/eve", "type": "Person", "preferredUsername": "bob", "inbox": w.URL + "/u/eve/inbox"})
	eve, err := p.Actor(context.Background(), w.URL+"/u/eve", false)
	if err != nil {
		t.Fatal(err)
	}
	if acct, ok := p.AcctOf(context.Background(), eve); ok || acct != "" {
		t.Errorf("eve goes by %q", acct)
	}
	// Names that would turn the words around them, or be words of ours.
	for _, name := range []string{"bob\u202e", "bob\nsays", "bob\u00a0x", "bob\u2066"} {
		w.put("/u/mallory", Object{"id": w.URL + "/u/mallory", "type": "Person", "preferredUsername": name, "inbox": w.URL + "/u/mallory/inbox"})
		mallory, err := p.Actor(context.Background(), w.URL+"/u/mallory", true)
		if err != nil {
			t.Fatal(err)
		}
		if acct, ok := p.AcctOf(context.Background(), mallory); ok || acct != "" {
			t.Errorf("mallory goes by %q", acct)
		}
	}
	for url, want := range map[string]bool{"https://a.example/u/bob": true, "https://a.example/u/b%C3%B6b": true, "https://a.example/u/böb": true, "https://a.example/u/\u202ebob": false, "https://a.example/u/b ob": false, "https://a.example/\u2028": false} {
		if validURL(url) != want {
			t.Errorf("%q is taken: %v", url, !want)
		}
	}
	for _, bad := range []string{"bob@x", "acct:bob", "acct:@x"} {
		if _, err := p.Resolve(context.Background(), bad); err == nil {
			t.Error(bad)
		}
	}
}

// TestDialects are the rules of docs/activitypub.md.
func TestDialects(t *testing.T) {
	for name, tc := range map[string]struct {
		a     RemoteActor
		spoke bool
		want  Dialect
	}{
		"with packages":       {RemoteActor{Type: "Person", KeyPackages: []any{}}, false, DialectE2EE},
		"channel that says":   {RemoteActor{Type: "Service", Implements: []string{implementsMIMI}}, false, DialectAIM},
		"group that spoke":    {RemoteActor{Type: "Group"}, true, DialectAIM},
		"plain person":        {RemoteActor{Type: "Person"}, false, DialectNone},
		"channel that is not": {RemoteActor{Type: "Service"}, false, DialectNone},
	} {
		if got := DialectOf(&tc.a, tc.spoke); got != tc.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestNamesComeBack: names are reversible and made of characters that look the same in every path.
func TestNamesComeBack(t *testing.T) {
	for _, s := range []string{"alice", "a_b", "@bob:hs.example", "Ä=x", "_", "__40", "a.b-c"} {
		n := EscapeName(s)
		if strings.Trim(n, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			t.Errorf("%q", n)
		}
		if back, err := UnescapeName(n); err != nil || back != s {
			t.Errorf("%q → %q → %q %v", s, n, back, err)
		}
	}
	for _, bad := range []string{"", "A", "_", "_4", "_4g", "_61", "a_"} {
		if _, err := UnescapeName(bad); !errors.Is(err, ErrName) {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzHTTPSignatureHeader(f *testing.F) {
	key := SigningKey{ID: "https://a.example/u/bob#main-key", Private: testKey(0)}
	for _, scheme := range []Scheme{Cavage, RFC9421} {
		r := post(helloBody)
		if err := key.Sign(r, []byte(helloBody), scheme, testNow); err != nil {
			f.Fatal(err)
		}
		f.Add(r.Header.Get("Signature"), r.Header.Get("Signature-Input"))
	}
	f.Add(`keyId="x",headers="(created)",created=1,signature="AA=="`, "")
	f.Fuzz(func(t *testing.T, signature, input string) {
		r := post(helloBody)
		r.Header.Set("Digest", digestOf([]byte(helloBody)))
		r.Header.Set("Content-Digest", contentDigestOf([]byte(helloBody)))
		r.Header.Set("Date", testNow.Format(http.TimeFormat))
		r.Header.Set("Signature", signature)
		if input != "" {
			r.Header.Set("Signature-Input", input)
		}
		sig, err := ReadSignature(incoming(r, helloBody), testNow)
		if err != nil {
			return
		}
		if err := sig.Verify(&testKey(1).PublicKey); err == nil {
			t.Fatal("a signature of nobody verifies")
		}
	})
}

func FuzzWebFinger(f *testing.F) {
	f.Add(Found{Subject: "acct:a@b", Actor: "https://b/u/a", Profile: "https://b/@a"}.JRD().Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, actor, err := ParseJRD(b); err == nil && !validURL(actor) {
			t.Fatalf("%q", actor)
		}
	})
}

func FuzzActivityJSON(f *testing.F) {
	f.Add([]byte(`{"id":"https://a.example/a/1","type":["Create"],"actor":{"id":"https://a.example/u/bob"},"to":["Public"],"object":{"type":"Note"}}`))
	f.Add([]byte(`{"type":"Add","actor":"https://a.example/u/bob","commit":"AAEA"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ReadActivity(b)
		if err != nil {
			return
		}
		a, err := r.Check("https://a.example/u/bob", true)
		if err != nil {
			return
		}
		if a.Actor != "https://a.example/u/bob" || a.ID != "" && !sameOrigin(a.ID, a.Actor) || len(a.To) > maxRecipients {
			t.Fatalf("%+v", a)
		}
		again, err := ParseObject(a.Raw.Marshal())
		if err != nil || !bytes.Equal(again.Marshal(), a.Raw.Marshal()) {
			t.Fatalf("it does not come back: %v", err)
		}
		if a.Object != nil {
			_, _ = MLSCarrier(a.Object)
		}
	})
}
