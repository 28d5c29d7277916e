package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/client"
	"github.com/matrix-mimi/bridge/mimiside/peer"
	"github.com/matrix-mimi/bridge/mimiside/peer/ca"
	"github.com/matrix-mimi/bridge/mimiside/server"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// recorder is a Handler that writes down what it was asked for.
type recorder struct {
	mu     sync.Mutex
	calls  []call
	answer func(ctx context.Context, c call) (server.Answer, error)
	asset  func(d server.Download) (*server.Asset, error)
}

type call struct {
	verb wire.Verb
	server.Request
	value any
}

func (h *recorder) call(ctx context.Context, v wire.Verb, r server.Request, value any) (server.Answer, error) {
	c := call{v, r, value}
	h.mu.Lock()
	h.calls = append(h.calls, c)
	answer := h.answer
	h.mu.Unlock()
	if answer == nil {
		return server.Answer{Body: []byte("answer to " + v)}, nil
	}
	return answer(ctx, c)
}

func (h *recorder) taken() []call {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.calls
	h.calls = nil
	return c
}

func (h *recorder) KeyMaterial(ctx context.Context, r server.Request, q *wire.ReceivedKeyMaterialRequest) (server.Answer, error) {
	return h.call(ctx, wire.VerbKeyMaterial, r, q)
}
func (h *recorder) Update(ctx context.Context, r server.Request, q *wire.ReceivedUpdateRequest) (server.Answer, error) {
	return h.call(ctx, wire.VerbUpdate, r, q)
}
func (h *recorder) SubmitMessage(ctx context.Context, r server.Request, q *wire.ReceivedSubmitMessageRequest) (server.Answer, error) {
	return h.call(ctx, wire.VerbSubmitMessage, r, q)
}
func (h *recorder) Notify(ctx context.Context, r server.Request, q *wire.ReceivedNotify) (server.Answer, error) {
	a, err := h.call(ctx, wire.VerbNotify, r, q)
	a.Body = nil
	return a, err
}
func (h *recorder) GroupInfo(ctx context.Context, r server.Request, q *wire.ReceivedGroupInfoRequest) (server.Answer, error) {
	return h.call(ctx, wire.VerbGroupInfo, r, q)
}
func (h *recorder) RequestConsent(ctx context.Context, r server.Request, e *wire.ConsentEntry) (server.Answer, error) {
	return h.call(ctx, wire.VerbRequestConsent, r, e)
}
func (h *recorder) UpdateConsent(ctx context.Context, r server.Request, e *wire.ConsentEntry) (server.Answer, error) {
	return h.call(ctx, wire.VerbUpdateConsent, r, e)
}
func (h *recorder) IdentifierQuery(ctx context.Context, r server.Request, q *wire.IdentifierRequest) (server.Answer, error) {
	return h.call(ctx, wire.VerbIdentifierQuery, r, q)
}
func (h *recorder) ReportAbuse(ctx context.Context, r server.Request, a *wire.AbuseReport) (server.Answer, error) {
	return h.call(ctx, wire.VerbReportAbuse, r, a)
}
func (h *recorder) ProxyDownload(ctx context.Context, r server.Request, d server.Download) (*server.Asset, error) {
	if _, err := h.call(ctx, wire.VerbProxyDownload, r, d); err != nil {
		return nil, err
	}
	return h.asset(d)
}
func (h *recorder) Extension(ctx context.Context, v wire.Verb, r server.Request) (server.Answer, error) {
	return h.call(ctx, v, r, nil)
}

// world is the provider a.example on loopback, and what others need to reach it.
type world struct {
	t       *testing.T
	ca      *ca.CA
	stray   *ca.CA // an authority that nobody trusts
	handler *recorder
	book    *peer.Book
	events  chan server.Event // of verbs
	greeted chan string       // who fetched the directory with a certificate
	address string
	server  *server.Server
}

// start runs a.example. edit may change its configuration.
func start(t *testing.T, edit func(*server.Config)) *world {
	t.Helper()
	w := &world{t: t, handler: &recorder{}, events: make(chan server.Event, 1000), greeted: make(chan string, 1000)}
	var err error
	if w.ca, err = ca.New("trusted", ca.P256, time.Now()); err != nil {
		t.Fatal(err)
	}
	if w.stray, err = ca.New("stray", ca.Ed25519, time.Now()); err != nil {
		t.Fatal(err)
	}
	w.book = peer.NewBook(peer.Rules{Default: peer.Rule{Roots: w.ca.Pool()}, Peers: map[string]peer.Rule{"blocked.example": {Roots: w.ca.Pool(), Blocked: true}}})
	directory, err := wire.NewDirectory("https://a.example/mimi/v1", &wire.BridgeDirectory{Version: 1})
	if err != nil {
		t.Fatal(err)
	}
	config := server.Config{Domain: "a.example", Handler: w.handler, Book: w.book, Directory: func() *wire.Directory { return directory },
		ErrorLog: log.New(io.Discard, "", 0), Observe: func(e server.Event) {
			if e.Verb == server.DirectoryVerb {
				w.greeted <- e.Peer
				return
			}
			w.events <- e
		}}
	if edit != nil {
		edit(&config)
	}
	if w.server, err = server.New(config); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = listener.Addr().String()
	keys, err := peer.NewKeyring("a.example", w.cert(ca.Options{}, "a.example"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.server.Listen(ctx, listener, keys, 10*time.Second) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return w
}

func (w *world) cert(o ca.Options, names ...string) tls.Certificate {
	w.t.Helper()
	cert, err := w.ca.Issue(time.Now(), o, names...)
	if err != nil {
		w.t.Fatal(err)
	}
	return cert
}

// raw returns an HTTP client that shows a certificate, or none, and is otherwise nobody's. It speaks HTTP/1.1.
func (w *world) raw(certs ...tls.Certificate) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:       &tls.Config{RootCAs: w.ca.Pool(), ServerName: "a.example"},
		ExpectContinueTimeout: time.Minute,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, w.address)
		},
	}
	transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if len(certs) == 0 {
			return &tls.Certificate{}, nil
		}
		return &certs[0], nil
	}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// directoryOf is what a provider of the tests publishes.
func directoryOf(t *testing.T, domain string, bridge *wire.BridgeDirectory) *wire.Directory {
	t.Helper()
	d, err := wire.NewDirectory("https://"+domain+"/mimi/v1", bridge)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// provider returns the client of another provider whose certificate is good and who publishes the extensions.
func (w *world) provider(domain string) *client.Client {
	w.t.Helper()
	return w.providerAt(domain, time.Now)
}

// providerAt is provider with a clock of its own.
func (w *world) providerAt(domain string, now func() time.Time) *client.Client {
	w.t.Helper()
	keys, err := peer.NewKeyring(domain, w.cert(ca.Options{}, domain))
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := client.New(client.Config{Keys: keys, Book: peer.NewBook(peer.Rules{Default: peer.Rule{Roots: w.ca.Pool()}}),
		Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("no host but those of the test")
		},
		Overrides: map[string]string{"a.example": w.address}, UserAgent: "test", Now: now,
		Own: directoryOf(w.t, domain, &wire.BridgeDirectory{Version: 1})})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.CloseIdle)
	return c
}

func post(t *testing.T, c *http.Client, path, from string, body io.Reader) (status int, text string, header http.Header) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "https://a.example"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if from != "" {
		req.Header.Set("From", from)
	}
	response, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(b), response.Header
}

// nothing demands that the handler was not called.
func (w *world) nothing(name string) {
	w.t.Helper()
	if calls := w.handler.taken(); len(calls) != 0 {
		w.t.Errorf("%s: the handler was called: %v", name, calls)
	}
}
