package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/peer"
	"github.com/matrix-mimi/bridge/mimiside/peer/ca"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

const room = "mimi://a.example/r/clubhouse"

// world is a provider b.example, our client, and hosts on loopback that it may talk to.
type world struct {
	t         *testing.T
	ca        *ca.CA
	book      *peer.Book
	overrides map[string]string
	dialled   []string // what went to the dialer, past the overrides
	mu        sync.Mutex
	clock     time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	c, err := ca.New("trusted", ca.P256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, ca: c, book: peer.NewBook(peer.Rules{Default: peer.Rule{Roots: c.Pool()}}), overrides: map[string]string{}, clock: time.Now()}
}

func (w *world) now() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.clock }

func (w *world) pass(d time.Duration) { w.mu.Lock(); defer w.mu.Unlock(); w.clock = w.clock.Add(d) }

func (w *world) cert(o ca.Options, names ...string) tls.Certificate {
	w.t.Helper()
	cert, err := w.ca.Issue(time.Now(), o, names...)
	if err != nil {
		w.t.Fatal(err)
	}
	return cert
}

// host runs a server for a name with a certificate.
func (w *world) host(name string, cert tls.Certificate, h http.Handler) {
	w.t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert}
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	w.t.Cleanup(s.Close)
	w.overrides[name] = s.Listener.Addr().String()
}

func (w *world) client(edit func(*Config)) *Client {
	w.t.Helper()
	keys, err := peer.NewKeyring("b.example", w.cert(ca.Options{}, "b.example"))
	if err != nil {
		w.t.Fatal(err)
	}
	config := Config{Keys: keys, Book: w.book, Overrides: w.overrides, Now: w.now, UserAgent: "test", Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.dialled = append(w.dialled, address)
		return nil, errors.New("refused by the dialer")
	}}
	if edit != nil {
		edit(&config)
	}
	c, err := New(config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.CloseIdle)
	return c
}

// provider is a handler with a directory whose endpoints are all below base, and an endpoint.
func provider(base string, endpoint http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wire.DirectoryPath {
			dir, err := wire.NewDirectory(base, nil)
			if err != nil {
				panic(err)
			}
			_, _ = w.Write(dir.Marshal())
			return
		}
		endpoint(w, r)
	})
}

// temporary tells whether the request that failed with err may succeed later: it may unless an Error says otherwise.
func temporary(err error) bool {
	var e *Error
	return !errors.As(err, &e) || e.Temporary
}

func TestARequestTakesItsBytesThereAndBringsTheAnswer(t *testing.T) {
	w := newWorld(t)
	var seen *http.Request
	var body []byte
	w.host("a.example", w.cert(ca.Options{}, "a.example"), provider("https://a.example/v1", func(rw http.ResponseWriter, r *http.Request) {
		seen = r
		body, _ = io.ReadAll(r.Body)
		rw.Header().Set("Retry-After", "7")
		rw.WriteHeader(http.StatusTooManyRequests)
		_, _ = rw.Write([]byte("answer"))
	}))
	r, err := w.client(nil).Update(t.Context(), "A.example", room, []byte{0, 1, 2})
	if err != nil {
		t.Fatal(err)
	}
	if r.Status != 429 || string(r.Body) != "answer" || r.RetryAfter != 7*time.Second || r.Class() != Retry {
		t.Errorf("%+v", r)
	}
	if !bytes.Equal(body, []byte{0, 1, 2}) {
		t.Errorf("body %x", body)
	}
	if seen.URL.EscapedPath() != "/v1/update/mimi%3A%2F%2Fa.example%2Fr%2Fclubhouse" || seen.Host != "a.example" || seen.Header.Get("From") != "mimi@b.example" ||
		seen.Header.Get("Accept-Encoding") != "identity" || seen.Header.Get("Content-Type") != "application/octet-stream" || seen.Header.Get("User-Agent") != "test" {
		t.Errorf("%s %s %v", seen.URL.EscapedPath(), seen.Host, seen.Header)
	}
	if len(seen.TLS.PeerCertificates) == 0 || seen.TLS.PeerCertificates[0].DNSNames[0] != "b.example" || seen.ProtoMajor != 2 {
		t.Error("our certificate was not shown, or not over HTTP/2")
	}
}

// S000-092: the one who answers must be the provider; nothing is sent to anybody else.
// Providers that answer an identifier query by the status alone are understood.
func TestIdentifierQueryAnsweredByStatus(t *testing.T) {
	w := newWorld(t)
	full := &wire.IdentifierResponse{Code: wire.IdentifierAmbiguous}
	var status int
	var body []byte
	w.host("a.example", w.cert(ca.Options{}, "a.example"), provider("https://a.example/v1", func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(status)
		_, _ = rw.Write(body)
	}))
	c := w.client(nil)
	for _, v := range []struct {
		status int
		body   []byte
		want   wire.IdentifierQueryCode
	}{
		{200, full.Marshal(), wire.IdentifierAmbiguous},
		{200, nil, wire.IdentifierSuccess},
		{404, []byte("not found"), wire.IdentifierNotFound},
	} {
		status, body = v.status, v.body
		r, err := c.IdentifierQuery(t.Context(), "a.example", nil)
		if err != nil || r.Class() != Done {
			t.Fatalf("%d: %+v, %v", v.status, r, err)
		}
		received, err := wire.UnmarshalIdentifierResponse(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		if a, err := received.Check("a.example"); err != nil || a.Code != v.want {
			t.Errorf("%d says %+v, %v", v.status, a, err)
		}
	}
	status, body = 403, nil
	if r, err := c.IdentifierQuery(t.Context(), "a.example", nil); err != nil || r.Class() == Done {
		t.Errorf("a refusal is %+v, %v", r, err)
	}
}

func TestWrongServer(t *testing.T) {
	stray, err := ca.New("stray", ca.P256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	issue := func(c *ca.CA, o ca.Options, names ...string) tls.Certificate {
		t.Helper()
		cert, err := c.Issue(time.Now(), o, names...)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	old := ca.Options{NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)}
	for name, cert := range map[string]tls.Certificate{
		"other":     w.cert(ca.Options{}, "c.example"),
		"wildcard":  w.cert(ca.Options{}, "*.example"),
		"cn":        w.cert(ca.Options{CommonName: "cn.example"}),
		"ip":        w.cert(ca.Options{IPs: []net.IP{{127, 0, 0, 1}}}),
		"expired":   w.cert(old, "expired.example"),
		"selfmade":  w.cert(ca.Options{SelfSigned: true}, "selfmade.example"),
		"wrongca":   issue(stray, ca.Options{}, "wrongca.example"),
		"subdomain": w.cert(ca.Options{}, "x.subdomain.example"),
	} {
		w.host(name+".example", cert, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Errorf("%s: a request was sent", name) }))
		_, err := w.client(nil).Update(t.Context(), name+".example", wire.IdentifierURI("mimi://"+name+".example/r/x"), nil)
		if !errors.Is(err, peer.ErrCertificate) || !temporary(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An endpoint on another host must cover the provider's domain too, unless the rule says otherwise.
func TestForeignHost(t *testing.T) {
	w := newWorld(t)
	w.host("a.example", w.cert(ca.Options{}, "a.example"), provider("https://mimi.host.example/v1", nil))
	w.host("mimi.host.example", w.cert(ca.Options{}, "mimi.host.example"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) }))
	if _, err := w.client(nil).Update(t.Context(), "a.example", room, nil); !errors.Is(err, peer.ErrCertificate) {
		t.Errorf("the host alone: %v", err)
	}
	w.book.Replace(peer.Rules{Default: peer.Rule{Roots: w.ca.Pool(), ForeignHost: true}})
	if r, err := w.client(nil).Update(t.Context(), "a.example", room, nil); err != nil || string(r.Body) != "mimi.host.example" {
		t.Errorf("allowed: %q, %v", r.Body, err)
	}
}

// Redirects are not followed, to another host or to the same one.
func TestRedirect(t *testing.T) {
	w := newWorld(t)
	w.host("c.example", w.cert(ca.Options{}, "c.example", "a.example"), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("followed") }))
	target := "https://c.example/v1/update/x"
	w.host("a.example", w.cert(ca.Options{}, "a.example"), provider("https://a.example/v1", func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			t.Error("followed")
		}
		http.Redirect(rw, r, target, http.StatusTemporaryRedirect)
	}))
	c := w.client(nil)
	for _, target = range []string{"https://c.example/v1/update/x", "https://a.example/elsewhere"} {
		r, err := c.Update(t.Context(), "a.example", room, []byte("x"))
		if err != nil || r.Status != http.StatusTemporaryRedirect || r.Class() != Refused {
			t.Errorf("%s: %+v, %v", target, r, err)
		}
	}
	// nor is that of a directory
	w.host("d.example", w.cert(ca.Options{}, "d.example"), http.RedirectHandler("https://c.example"+wire.DirectoryPath, http.StatusFound))
	if _, err := c.Directory(t.Context(), "d.example"); err == nil || !temporary(err) {
		t.Errorf("directory: %v", err)
	}
}

func TestGarbageAnswers(t *testing.T) {
	w := newWorld(t)
	for name, h := range map[string]http.HandlerFunc{
		"html":   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"status": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		"empty":  func(w http.ResponseWriter, _ *http.Request) {},
		"http": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"update":"http://a.example/{x}"}`)
		},
		"endless": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, io.LimitReader(zeros{}, 1<<20)) },
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
		},
		"gzip": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Encoding", "gzip") },
		"header": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
		},
	} {
		w.host(name+".example", w.cert(ca.Options{}, name+".example"), h)
		if dir, err := w.client(nil).Directory(t.Context(), name+".example"); err == nil {
			t.Errorf("%s: a directory: %v", name, dir)
		}
	}
	w.host("a.example", w.cert(ca.Options{}, "a.example"), provider("https://a.example/v1", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, io.LimitReader(zeros{}, 1001))
	}))
	c := w.client(func(c *Config) { c.SmallResponse, c.LargeResponse = 1000, 1001 })
	if _, err := c.Update(t.Context(), "a.example", room, nil); !errors.Is(err, ErrTooLarge) || temporary(err) {
		t.Errorf("an answer over the limit: %v", err)
	}
	if r, err := c.GroupInfo(t.Context(), "a.example", room, nil); err != nil || len(r.Body) != 1001 {
		t.Errorf("an answer at the larger limit: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// After a 404 the directory is fetched anew, and an endpoint that moved is found; the draft's missing slash is tried.
func TestNotFound(t *testing.T) {
	w := newWorld(t)
	version, fetched := 1, 0
	var paths []string
	w.host("a.example", w.cert(ca.Options{}, "a.example"), http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wire.DirectoryPath {
			fetched++
			_, _ = fmt.Fprintf(rw, `{"update":"https://a.example/v%d/update{roomId}","notify":"https://a.example/n/{roomId}"}`, version)
			return
		}
		paths = append(paths, r.URL.EscapedPath())
		if !strings.HasPrefix(r.URL.EscapedPath(), "/v2/update/") {
			rw.WriteHeader(http.StatusNotFound)
		}
	}))
	c := w.client(nil)
	r, err := c.Update(t.Context(), "a.example", room, nil)
	if err != nil || r.Status != 404 || fetched != 1 || len(paths) != 2 || !strings.HasPrefix(paths[1], "/v1/update/") {
		t.Errorf("%d, %v, fetched %d times, %q", r.Status, err, fetched, paths)
	}
	version = 2
	w.pass(2 * time.Minute)
	paths = nil
	r, err = c.Update(t.Context(), "a.example", room, nil)
	if err != nil || r.Status != 200 || fetched != 2 || len(paths) != 4 {
		t.Errorf("%d, %v, fetched %d times, %q", r.Status, err, fetched, paths)
	}
	if _, err := c.GroupInfo(t.Context(), "a.example", room, nil); !errors.Is(err, ErrNoEndpoint) || temporary(err) {
		t.Errorf("an endpoint that the directory lacks: %v", err)
	}
}

// A peer that cannot be reached is left alone after a few tries; a block holds at once.
func TestUnreachable(t *testing.T) {
	w := newWorld(t)
	c := w.client(nil)
	for range 5 {
		if _, err := c.Directory(t.Context(), "gone.example"); err == nil || !temporary(err) {
			t.Fatalf("%v", err)
		}
		c.directories.Forget("gone.example")
	}
	w.mu.Lock()
	dialled := len(w.dialled)
	first := w.dialled[0]
	w.mu.Unlock()
	if dialled != 5 || first != "gone.example:443" {
		t.Errorf("dialled %d times, %s", dialled, first)
	}
	_, err := c.Directory(t.Context(), "gone.example")
	if !errors.Is(err, peer.ErrOpen) || RetryAfter(err) <= 0 || !temporary(err) || len(c.Open()) != 1 {
		t.Errorf("%v", err)
	}
	w.book.Replace(peer.Rules{Default: peer.Rule{Blocked: true}})
	if _, err := c.Directory(t.Context(), "other.example"); !errors.Is(err, peer.ErrBlocked) || temporary(err) {
		t.Errorf("blocked: %v", err)
	}
	for _, domain := range []string{"", "127.0.0.1", "a.example:8443", "a.example/x", "user@a.example"} {
		if _, err := c.Directory(t.Context(), domain); !errors.Is(err, wire.ErrURI) {
			t.Errorf("%q: %v", domain, err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.dialled) != 5 {
		t.Errorf("dialled %q", w.dialled)
	}
}

func TestWeAreNoPeerOfOurselves(t *testing.T) {
	w := newWorld(t)
	if _, err := w.client(nil).Directory(t.Context(), "b.example"); err == nil || temporary(err) {
		t.Errorf("%v", err)
	}
}

// A certificate that was replaced is shown to peers as soon as connections are made anew.
func TestOwnCertificateReplaced(t *testing.T) {
	w := newWorld(t)
	var shown []string
	w.host("a.example", w.cert(ca.Options{}, "a.example"), provider("https://a.example/v1", func(rw http.ResponseWriter, r *http.Request) {
		shown = append(shown, r.TLS.PeerCertificates[0].SerialNumber.String())
	}))
	c := w.client(nil)
	for range 2 {
		if r, err := c.Update(t.Context(), "a.example", room, nil); err != nil || r.Status != 200 {
			t.Fatalf("%d, %v", r.Status, err)
		}
		if err := c.config.Keys.Replace(w.cert(ca.Options{}, "b.example")); err != nil {
			t.Fatal(err)
		}
		c.CloseIdle()
	}
	if len(shown) != 2 || shown[0] == shown[1] {
		t.Errorf("shown: %q", shown)
	}
}

// A request that takes too long ends, and may be tried again.
func TestTimeout(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	w.host("a.example", w.cert(ca.Options{}, "a.example"), provider("https://a.example/v1", func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(func() { close(release) })
	c := w.client(func(c *Config) { c.RequestTimeout = 200 * time.Millisecond })
	if _, err := c.Update(t.Context(), "a.example", room, nil); err == nil || !temporary(err) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Update(ctx, "a.example", room, nil); !errors.Is(err, context.Canceled) || !temporary(err) {
		t.Errorf("%v", err)
	}
}

func TestWhichStatusesAreTriedAgain(t *testing.T) {
	for status, want := range map[int]Class{200: Done, 201: Done, 204: Done, 301: Refused, 400: Refused, 403: Refused, 404: Refused, 408: Retry, 413: Refused, 421: Retry,
		425: Retry, 429: Retry, 500: Retry, 501: Refused, 502: Retry, 503: Retry, 505: Refused} {
		if got := (Result{Status: status}).Class(); got != want {
			t.Errorf("%d: %v", status, got)
		}
	}
}

func TestRetryAfterForms(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for v, want := range map[string]time.Duration{"": 0, "5": 5 * time.Second, "99999": time.Hour, "-1": 0, "x": 0, "Fri, 01 May 2026 12:01:00 GMT": time.Minute,
		"Fri, 01 May 2026 11:00:00 GMT": 0, "Sat, 01 May 2027 12:00:00 GMT": time.Hour} {
		if got := retryAfter(http.Header{"Retry-After": {v}}, now); got != want {
			t.Errorf("%q: %v, want %v", v, got, want)
		}
	}
}

func TestAClientNeedsKeysAndDialer(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("a client without keys and dialer was made")
	}
}

// A peer that calls us is alive: it is asked again at once, whatever failed before.
func TestHeardPeerIsAskedAtOnce(t *testing.T) {
	w := newWorld(t)
	c := w.client(nil)
	for range 6 {
		if _, err := c.Directory(t.Context(), "gone.example"); err == nil {
			t.Fatal("there is no such host")
		}
		c.directories.Forget("gone.example")
	}
	w.mu.Lock()
	before := len(w.dialled)
	w.mu.Unlock()
	c.Heard("gone.example")
	_, err := c.Directory(t.Context(), "gone.example")
	w.mu.Lock()
	defer w.mu.Unlock()
	if errors.Is(err, peer.ErrOpen) || len(w.dialled) != before+1 {
		t.Errorf("dialled %d times more: %v", len(w.dialled)-before, err)
	}
}
