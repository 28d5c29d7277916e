package activitypub

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// testNow is the time of all tests.
var testNow = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

var keyPool = sync.OnceValue(func() []*rsa.PrivateKey {
	var out []*rsa.PrivateKey
	for range 3 {
		k, err := NewKey()
		if err != nil {
			panic(err)
		}
		out = append(out, k)
	}
	return out
})

func testKey(n int) *rsa.PrivateKey { return keyPool()[n] }

func pemOf(k *rsa.PrivateKey) string {
	s, err := PublicPEM(&k.PublicKey)
	if err != nil {
		panic(err)
	}
	return s
}

// web is another server: documents by path, on plain HTTP.
type web struct {
	*httptest.Server
	mu       sync.Mutex
	docs     map[string]any // Object, or http.HandlerFunc
	requests []string
}

func newWeb(t testing.TB) *web {
	w := &web{docs: map[string]any{}}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		d := w.docs[r.URL.Path]
		w.requests = append(w.requests, r.Method+" "+r.URL.Path)
		w.mu.Unlock()
		switch d := d.(type) {
		case Object:
			rw.Header().Set("Content-Type", TypeActivity)
			rw.Write(d.Marshal())
		case func(http.ResponseWriter, *http.Request):
			d(rw, r)
		default:
			http.NotFound(rw, r)
		}
	}))
	t.Cleanup(w.Close)
	return w
}

func (w *web) put(path string, d any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.docs[path] = d
}

// actor puts a Person at /u/<name> with a key, and returns its id.
func (w *web) actor(name string, key *rsa.PrivateKey) string {
	id := w.URL + "/u/" + name
	w.put("/u/"+name, Object{"id": id, "type": "Person", "preferredUsername": name, "inbox": id + "/inbox", "outbox": id + "/outbox",
		"publicKey": publicKey(id, pemOf(key))})
	return id
}

func testFetcher(cfg FetcherConfig) *Fetcher {
	if cfg.Transport == nil {
		cfg.Transport = http.DefaultTransport
	}
	cfg.AllowHTTP = true
	if cfg.Now == nil {
		cfg.Now = func() time.Time { return testNow }
	}
	return NewFetcher(cfg)
}

func testGate(t testing.TB) *Gate {
	return NewGate(GateConfig{People: NewPeople(testFetcher(FetcherConfig{})), Now: func() time.Time { return testNow }})
}

// post is a request to an inbox of ours.
func post(body string) *http.Request {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "https://b.example/ap/u/alice/inbox", strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	r.Header.Set("Content-Type", TypeActivity)
	return r
}

func incoming(r *http.Request, body string) Incoming {
	return IncomingRequest(r, "https", "b.example", []byte(body))
}

// member is somebody with a KeyPackage.
type member struct {
	id  string
	key mls.JoinKey
}

var testCapabilities = mls.Capabilities{
	Versions: []mls.ProtocolVersion{mls.VersionMLS10}, Suites: []mls.Suite{mls.SuiteX25519AES128Ed25519}, Credentials: []mls.CredentialType{mls.CredentialBasic},
	Proposals: []mls.ProposalType{mls.ProposalSelfRemove},
}

func newMember(t testing.TB, id string) member {
	t.Helper()
	key, err := mls.GenerateSignatureKey(rand.Reader, mls.SuiteX25519AES128Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	kp, private, err := mls.NewKeyPackage(rand.Reader, mls.KeyPackageParams{Suite: mls.SuiteX25519AES128Ed25519, Credential: mls.BasicCredential([]byte(id)),
		SignatureKey: key, Capabilities: testCapabilities, Lifetime: testLifetime()})
	if err != nil {
		t.Fatal(err)
	}
	return member{id, mls.JoinKey{KeyPackage: kp, Private: private}}
}

func testLifetime() mls.Lifetime {
	return mls.Lifetime{NotBefore: uint64(testNow.Add(-time.Hour).Unix()), NotAfter: uint64(testNow.Add(90 * 24 * time.Hour).Unix())}
}
