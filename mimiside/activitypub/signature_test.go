package activitypub

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

const helloBody = `{"type":"Create"}`

// TestSignaturesComeBack: what we sign verifies, in both schemes, for GET and POST, with a query and an escaped path.
func TestSignaturesComeBack(t *testing.T) {
	key := SigningKey{ID: "https://a.example/u/bob#main-key", Private: testKey(0)}
	for _, scheme := range []Scheme{Cavage, RFC9421} {
		for _, tc := range []struct{ name, method, url, body string }{
			{"POST", http.MethodPost, "https://b.example/ap/inbox", helloBody},
			{"GET", http.MethodGet, "https://b.example/ap/u/alice", ""},
			{"query", http.MethodGet, "https://b.example/ap/u/alice/outbox?page=1&x=%20", ""},
			{"escaped path", http.MethodPost, "https://b.example/ap/u/%40alice/inbox", helloBody},
		} {
			t.Run(string(scheme)+" "+tc.name, func(t *testing.T) {
				r, err := http.NewRequest(tc.method, tc.url, strings.NewReader(tc.body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", TypeActivity)
				if err := key.Sign(r, []byte(tc.body), scheme, testNow); err != nil {
					t.Fatal(err)
				}
				sig, err := ReadSignature(incoming(r, tc.body), testNow)
				if err != nil {
					t.Fatal(err)
				}
				if sig.Scheme != scheme || sig.KeyID != key.ID {
					t.Fatalf("%+v", sig)
				}
				if err := sig.Verify(&testKey(0).PublicKey); err != nil {
					t.Fatal(err)
				}
				if err := sig.Verify(&testKey(1).PublicKey); !errors.Is(err, ErrSignature) {
					t.Fatalf("another key: %v", err)
				}
			})
		}
	}
}

// TestSignaturesThatDoNotCount are the rows "Replay" and "Digest" of the security list, and the library's gaps (docs/activitypub.md).
func TestSignaturesThatDoNotCount(t *testing.T) {
	key := SigningKey{ID: "https://a.example/u/bob#main-key", Private: testKey(0)}
	signed := func(scheme Scheme, at time.Time) *http.Request {
		r := post(helloBody)
		if err := key.Sign(r, []byte(helloBody), scheme, at); err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, tc := range []struct {
		name   string
		make   func() *http.Request
		body   string
		reason string
	}{
		{"unsigned", func() *http.Request { return post(helloBody) }, helloBody, "not signed"},
		{"cavage: body changed", func() *http.Request { return signed(Cavage, testNow) }, helloBody + " ", "digest mismatch"},
		{"9421: body changed", func() *http.Request { return signed(RFC9421, testNow) }, helloBody + " ", "digest mismatch"},
		{"cavage: too old", func() *http.Request { return signed(Cavage, testNow.Add(-2*time.Hour)) }, helloBody, "too long ago"},
		{"9421: too old", func() *http.Request { return signed(RFC9421, testNow.Add(-2*time.Hour)) }, helloBody, "too long ago"},
		{"cavage: future", func() *http.Request { return signed(Cavage, testNow.Add(time.Hour)) }, helloBody, "in the future"},
		{"9421: future", func() *http.Request { return signed(RFC9421, testNow.Add(time.Hour)) }, helloBody, "in the future"},
		{"cavage: duplicate keyId", edit(signed(Cavage, testNow), "Signature", `keyId="https://a.example/u/bob#main-key"`, `keyId="https://a.example/u/eve#main-key",keyId="https://a.example/u/bob#main-key"`), helloBody, "duplicate parameter keyId"},
		{"cavage: only date covered", edit(signed(Cavage, testNow), "Signature", `headers="(request-target) host date digest content-type"`, `headers="date"`), helloBody, "not covered: (request-target)"},
		{"cavage: digest not covered", edit(signed(Cavage, testNow), "Signature", `digest content-type"`, `content-type"`), helloBody, "not covered: digest"},
		{"cavage: host not covered", edit(signed(Cavage, testNow), "Signature", ` host `, ` `), helloBody, "not covered: host"},
		{"cavage: date not covered", edit(signed(Cavage, testNow), "Signature", ` date `, ` `), helloBody, "not covered: date"},
		{"cavage: covered twice", edit(signed(Cavage, testNow), "Signature", ` date `, ` date date `), helloBody, "covered twice"},
		{"cavage: no digest field", del(signed(Cavage, testNow), "Digest"), helloBody, "no known algorithm"},
		{"cavage: algorithm of another key", edit(signed(Cavage, testNow), "Signature", `algorithm="hs2019"`, `algorithm="ed25519"`), helloBody, "does not fit the key"},
		{"cavage: hmac", edit(signed(Cavage, testNow), "Signature", `algorithm="hs2019"`, `algorithm="hmac-sha256"`), helloBody, "does not fit the key"},
		{"cavage: keyId is no URL", edit(signed(Cavage, testNow), "Signature", `https://a.example/u/bob#main-key`, `bob`), helloBody, "no URL"},
		{"cavage: two signatures", add(signed(Cavage, testNow), "Signature"), helloBody, "2 signatures"},
		{"9421: digest removed", del(signed(RFC9421, testNow), "Content-Digest"), helloBody, "missing"},
		{"9421: digest not covered", edit(signed(RFC9421, testNow), "Signature-Input", ` "content-digest"`, ``), helloBody, "not covered: content-digest"},
		{"9421: method not covered", edit(signed(RFC9421, testNow), "Signature-Input", `"@method" `, ``), helloBody, "not covered: @method"},
		{"9421: target not covered", edit(signed(RFC9421, testNow), "Signature-Input", `"@target-uri" `, ``), helloBody, "not covered: @target-uri"},
		{"9421: created missing", edit(signed(RFC9421, testNow), "Signature-Input", `;created=`, `;other=`), helloBody, "created is needed"},
		{"9421: component parameter", edit(signed(RFC9421, testNow), "Signature-Input", `"@authority"`, `"@authority";req`), helloBody, "not supported"},
		{"9421: no signature of the label", edit(signed(RFC9421, testNow), "Signature", `sig1=`, `sig2=`), helloBody, "missing"},
		{"9421: another time", edit(signed(RFC9421, testNow), "Signature-Input", `;created=17`, `;created=16`), helloBody, "too long ago"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sig, err := ReadSignature(incoming(tc.make(), tc.body), testNow)
			if err == nil {
				err = sig.Verify(&testKey(0).PublicKey)
			}
			if err == nil || !strings.Contains(err.Error(), tc.reason) {
				t.Fatalf("got %v, want %q", err, tc.reason)
			}
		})
	}
}

func edit(r *http.Request, field, old, new string) func() *http.Request {
	return func() *http.Request {
		r.Header.Set(field, strings.Replace(r.Header.Get(field), old, new, 1))
		return r
	}
}

func del(r *http.Request, field string) func() *http.Request {
	return func() *http.Request { r.Header.Del(field); return r }
}

func add(r *http.Request, field string) func() *http.Request {
	return func() *http.Request { r.Header.Add(field, r.Header.Get(field)); return r }
}

// TestSpellingsOfCavage: what servers in use write, and the library cannot read.
func TestSpellingsOfCavage(t *testing.T) {
	key := SigningKey{ID: "https://a.example/u/bob,x#main-key", Private: testKey(0)}
	for name, change := range map[string]func(*http.Request){
		"space after commas": func(r *http.Request) { set(r, func(s string) string { return strings.ReplaceAll(s, `",`, `", `) }) },
		"no algorithm": func(r *http.Request) {
			set(r, func(s string) string { return strings.Replace(s, `algorithm="hs2019",`, ``, 1) })
		},
		"rsa-sha256": func(r *http.Request) {
			set(r, func(s string) string { return strings.Replace(s, `hs2019`, `rsa-sha256`, 1) })
		},
		"unknown parameter": func(r *http.Request) { set(r, func(s string) string { return s + `,opaque="x,y=z"` }) },
		"in Authorization": func(r *http.Request) {
			r.Header.Set("Authorization", "Signature "+r.Header.Get("Signature"))
			r.Header.Del("Signature")
		},
		"another credential":   func(r *http.Request) { r.Header.Set("Authorization", "Bearer a-signature-is-not-this") },
		"digest in lower case": func(r *http.Request) { r.Header.Set("Digest", r.Header.Get("Digest")) },
	} {
		t.Run(name, func(t *testing.T) {
			r := post(helloBody)
			if err := key.Sign(r, []byte(helloBody), Cavage, testNow); err != nil {
				t.Fatal(err)
			}
			change(r)
			sig, err := ReadSignature(incoming(r, helloBody), testNow)
			if err == nil {
				err = sig.Verify(&testKey(0).PublicKey)
			}
			if err != nil || sig.KeyID != key.ID {
				t.Fatal(err)
			}
		})
	}
}

func set(r *http.Request, f func(string) string) {
	r.Header.Set("Signature", f(r.Header.Get("Signature")))
}

// TestPublicKeys: SPKI and PKCS #1, and bounds.
func TestPublicKeys(t *testing.T) {
	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&testKey(0).PublicKey)}))
	for name, text := range map[string]string{"SPKI": pemOf(testKey(0)), "PKCS1": pkcs1} {
		if _, err := ParsePublicPEM(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{"empty": "", "text": "hello", "huge": strings.Repeat("x", maxPEM+1)} {
		if _, err := ParsePublicPEM(text); !errors.Is(err, ErrPEM) {
			t.Errorf("%s: %v", name, err)
		}
	}
	der, err := MarshalPrivateKey(testKey(0))
	if err != nil {
		t.Fatal(err)
	}
	if k, err := ParsePrivateKey(der); err != nil || !k.Equal(testKey(0)) {
		t.Fatal(err)
	}
}

// TestTheKeyBelongsToItsActor (row "Key confusion").
func TestTheKeyBelongsToItsActor(t *testing.T) {
	ours, other := newWeb(t), newWeb(t)
	bob := ours.actor("bob", testKey(0))
	eve := other.actor("eve", testKey(1))
	// A key apart, as GoToSocial publishes it.
	carol := ours.actor("carol", testKey(2))
	path := ours.URL + "/u/dora/main-key"
	dora := ours.URL + "/u/dora"
	ours.put("/u/dora", Object{"id": dora, "type": "Person", "inbox": dora + "/inbox", "publicKey": Object{"id": path, "owner": dora, "publicKeyPem": pemOf(testKey(2))}})
	ours.put("/u/dora/main-key", Object{"id": dora, "type": "Person", "publicKey": Object{"id": path, "owner": dora, "publicKeyPem": pemOf(testKey(2))}})
	// Documents that claim what is not theirs.
	other.put("/key", Object{"id": other.URL + "/key", "owner": bob, "publicKeyPem": pemOf(testKey(1))})
	other.put("/u/fake", Object{"id": bob, "type": "Person", "inbox": bob + "/inbox", "publicKey": publicKey(bob, pemOf(testKey(1)))})
	ours.put("/u/list", Object{"id": ours.URL + "/u/list", "type": "Person", "inbox": ours.URL + "/u/list/inbox", "publicKey": []any{
		publicKey(ours.URL+"/u/list", pemOf(testKey(0))), Object{"id": ours.URL + "/u/list#second", "owner": ours.URL + "/u/list", "publicKeyPem": pemOf(testKey(2))}}})
	ours.put("/u/foreign", Object{"id": ours.URL + "/u/foreign", "type": "Person", "inbox": ours.URL + "/u/foreign/inbox",
		"publicKey": Object{"id": KeyID(ours.URL + "/u/foreign"), "owner": bob, "publicKeyPem": pemOf(testKey(1))}})
	for _, tc := range []struct {
		name, keyID string
		key         int
		want        string
	}{
		{"fragment", KeyID(bob), 0, bob},
		{"no fragment", bob, 0, bob},
		{"key apart", path, 2, dora},
		{"second key", ours.URL + "/u/list#second", 2, ours.URL + "/u/list"},
		{"other server's own actor", KeyID(eve), 1, eve},
		{"wrong key", KeyID(carol), 0, ""},
		{"unknown fragment", bob + "#other", 0, ""},
		{"key of another origin", other.URL + "/key", 1, ""},
		{"document of another actor", other.URL + "/u/fake#main-key", 1, ""},
		{"key owned by another", KeyID(ours.URL + "/u/foreign"), 1, ""},
		{"nothing there", ours.URL + "/u/nobody#main-key", 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := post(helloBody)
			if err := (SigningKey{ID: tc.keyID, Private: testKey(tc.key)}).Sign(r, []byte(helloBody), Cavage, testNow); err != nil {
				t.Fatal(err)
			}
			actor, err := testGate(t).Signer(context.Background(), incoming(r, helloBody))
			if actor != tc.want || (tc.want == "") != errors.Is(err, ErrSignature) {
				t.Fatalf("%q %v", actor, err)
			}
		})
	}
}

// TestAKeyThatChangedIsFetchedAgain: a remembered key that does not verify is looked up once more.
func TestAKeyThatChangedIsFetchedAgain(t *testing.T) {
	w, g := newWeb(t), testGate(t)
	bob := w.actor("bob", testKey(0))
	try := func(key int) error {
		r := post(helloBody)
		if err := (SigningKey{ID: KeyID(bob), Private: testKey(key)}).Sign(r, []byte(helloBody), Cavage, testNow); err != nil {
			t.Fatal(err)
		}
		_, err := g.Signer(context.Background(), incoming(r, helloBody))
		return err
	}
	if err := try(0); err != nil {
		t.Fatal(err)
	}
	w.actor("bob", testKey(1))
	if err := try(1); err != nil {
		t.Fatal(err)
	}
	if err := try(0); !errors.Is(err, ErrSignature) {
		t.Fatalf("the old key still counts: %v", err)
	}
}

// TestCheapChecksComeFirst: nothing is fetched for a request that cannot count, of a blocked server, or over the quota
// (rows "Inbox flooding" and "Blocked origins").
func TestCheapChecksComeFirst(t *testing.T) {
	w := newWeb(t)
	bob := w.actor("bob", testKey(0))
	signed := func() Incoming {
		r := post(helloBody)
		if err := (SigningKey{ID: KeyID(bob), Private: testKey(0)}).Sign(r, []byte(helloBody), Cavage, testNow); err != nil {
			t.Fatal(err)
		}
		return incoming(r, helloBody)
	}
	people := NewPeople(testFetcher(FetcherConfig{}))
	now := func() time.Time { return testNow }
	blocked := NewGate(GateConfig{People: people, Now: now, Blocked: func(string) bool { return true }})
	if _, err := blocked.Signer(context.Background(), signed()); !errors.Is(err, ErrBlocked) {
		t.Fatal(err)
	}
	bad := signed()
	bad.Body = []byte("other")
	few := NewGate(GateConfig{People: people, Now: now, PerOrigin: 1, PerKey: 1})
	if _, err := few.Signer(context.Background(), bad); !errors.Is(err, ErrSignature) {
		t.Fatal(err)
	}
	if len(w.requests) != 0 {
		t.Fatal("something was fetched: ", w.requests)
	}
	if _, err := few.Signer(context.Background(), signed()); err != nil {
		t.Fatal(err)
	}
	if _, err := few.Signer(context.Background(), signed()); !errors.Is(err, ErrTooMany) {
		t.Fatal(err)
	}
}

// TestOthersDoNotUseUpAQuota: requests that only name the key of somebody, and servers that do not answer for theirs, keep nobody out who is known.
func TestOthersDoNotUseUpAQuota(t *testing.T) {
	w := newWeb(t)
	bob := w.actor("bob", testKey(0))
	signed := func(by string, key int) Incoming {
		r := post(helloBody)
		if err := (SigningKey{ID: KeyID(by), Private: testKey(key)}).Sign(r, []byte(helloBody), Cavage, testNow); err != nil {
			t.Fatal(err)
		}
		return incoming(r, helloBody)
	}
	g := NewGate(GateConfig{People: NewPeople(testFetcher(FetcherConfig{})), Now: func() time.Time { return testNow }, PerOrigin: 3, PerKey: 3, Lookups: 1})
	if _, err := g.Signer(context.Background(), signed(bob, 0)); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := g.Signer(context.Background(), signed(bob, 1)); err == nil {
			t.Fatal("a forged signature counts")
		}
	}
	before := len(w.requests)
	if _, err := g.lookups.Begin(context.Background(), "https://slow.example/key"); err != nil { // somebody's server does not answer
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := g.Signer(ctx, signed(bob, 0)); err != nil {
		t.Errorf("after forged ones: %v", err)
	}
	if len(w.requests) != before {
		t.Errorf("asked for a key that is known: %q", w.requests[before:])
	}
}
