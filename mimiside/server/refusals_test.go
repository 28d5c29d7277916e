package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/client"
	"github.com/matrix-mimi/bridge/mimiside/peer"
	"github.com/matrix-mimi/bridge/mimiside/peer/ca"
	"github.com/matrix-mimi/bridge/mimiside/server"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

var emptyOptions ca.Options

// watched is a body that knows whether somebody read it.
type watched struct {
	io.Reader
	read atomic.Bool
}

func (w *watched) Read(b []byte) (int, error) { w.read.Store(true); return w.Reader.Read(b) }

// Who is not a provider, or not the one that he says, is refused with 403 before a byte of the body is read.
func TestSenderRefused(t *testing.T) {
	w := start(t, nil)
	stray, err := w.stray.Issue(time.Now(), emptyOptions, "b.example")
	if err != nil {
		t.Fatal(err)
	}
	yesterday := ca.Options{NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)}
	for name, c := range map[string]struct {
		certs []tls.Certificate
		from  string
		word  string
	}{
		"no certificate":    {nil, "mimi@b.example", server.WordNoCertificate},
		"expired":           {[]tls.Certificate{w.cert(yesterday, "b.example")}, "mimi@b.example", server.WordBadCertificate},
		"self-made":         {[]tls.Certificate{w.cert(ca.Options{SelfSigned: true}, "b.example")}, "mimi@b.example", server.WordBadCertificate},
		"wrong CA":          {[]tls.Certificate{stray}, "mimi@b.example", server.WordBadCertificate},
		"wildcard":          {[]tls.Certificate{w.cert(emptyOptions, "*.example")}, "mimi@b.example", server.WordFromMismatch},
		"CN only":           {[]tls.Certificate{w.cert(ca.Options{CommonName: "b.example"})}, "mimi@b.example", server.WordFromMismatch},
		"IP SAN":            {[]tls.Certificate{w.cert(ca.Options{IPs: []net.IP{{127, 0, 0, 1}}})}, "mimi@b.example", server.WordFromMismatch},
		"IP SAN, no From":   {[]tls.Certificate{w.cert(ca.Options{IPs: []net.IP{{127, 0, 0, 1}}})}, "", server.WordFromMissing},
		"From of another":   {[]tls.Certificate{w.cert(emptyOptions, "b.example")}, "mimi@c.example", server.WordFromMismatch},
		"From no address":   {[]tls.Certificate{w.cert(emptyOptions, "b.example")}, "b.example", server.WordFromMismatch},
		"two names no From": {[]tls.Certificate{w.cert(emptyOptions, "b.example", "c.example")}, "", server.WordFromMissing},
		"blocked":           {[]tls.Certificate{w.cert(emptyOptions, "blocked.example")}, "mimi@blocked.example", server.WordBlocked},
		"ourselves":         {[]tls.Certificate{w.cert(emptyOptions, "a.example")}, "mimi@a.example", server.WordFromMismatch},
	} {
		c2 := w.raw(c.certs...)
		for verb, b := range bodies() {
			body := &watched{Reader: bytes.NewReader(b)}
			req, err := http.NewRequest(http.MethodPost, "https://a.example/mimi/v1/"+string(verb)+"/"+wire.PathEscape(room), body)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = int64(len(b))
			req.Header.Set("Expect", "100-continue")
			if c.from != "" {
				req.Header.Set("From", c.from)
			}
			response, err := c2.Do(req)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			text, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || response.StatusCode != http.StatusForbidden || string(text) != c.word+"\n" {
				t.Errorf("%s, %s: %d %q, %v", name, verb, response.StatusCode, text, err)
			}
			if body.read.Load() {
				t.Errorf("%s, %s: the body was asked for", name, verb)
			}
			claimed, said := strings.CutPrefix(c.from, "mimi@")
			if e := <-w.events; e.Word != c.word || e.Status != http.StatusForbidden || e.In != 0 || e.Peer != "" || said && e.Claimed != claimed {
				t.Errorf("%s, %s: counted as %+v", name, verb, e)
			}
		}
		w.nothing(name)
	}
}

func TestBodyRefused(t *testing.T) {
	w := start(t, func(c *server.Config) { c.LargeBody = 2 << 20 })
	c := w.raw(w.cert(emptyOptions, "b.example"))
	chunked := func(n int) io.Reader { return io.LimitReader(zeros{}, int64(n)) }
	for name, b := range map[string]struct {
		verb   wire.Verb
		body   io.Reader
		status int
		word   string
	}{
		"over 1 MiB":         {wire.VerbSubmitMessage, bytes.NewReader(make([]byte, 1<<20+1)), 413, server.WordTooLarge},
		"over, chunked":      {wire.VerbSubmitMessage, chunked(1<<20 + 1), 413, server.WordTooLarge},
		"update over":        {wire.VerbUpdate, chunked(2<<20 + 1), 413, server.WordTooLarge},
		"update under":       {wire.VerbUpdate, chunked(2 << 20), 400, server.WordMalformed},
		"empty":              {wire.VerbUpdate, nil, 400, server.WordMalformed},
		"garbage":            {wire.VerbUpdate, strings.NewReader("garbage"), 400, server.WordMalformed},
		"trailing byte":      {wire.VerbSubmitMessage, bytes.NewReader(append(bodies()[wire.VerbSubmitMessage], 0)), 400, server.WordMalformed},
		"consent of another": {wire.VerbRequestConsent, bytes.NewReader(bodies()[wire.VerbUpdateConsent]), 400, server.WordMalformed},
		"report of another": {wire.VerbReportAbuse, bytes.NewReader((&wire.AbuseReport{ReportingUser: "mimi://c.example/u/x",
			AllegedAbuserURI: user}).Marshal()), 403, server.WordForbidden},
		"consent in another's name": {wire.VerbRequestConsent, bytes.NewReader((&wire.ConsentEntry{Operation: wire.ConsentRequest,
			RequesterURI: "mimi://c.example/u/x", TargetURI: user}).Marshal()), 403, server.WordForbidden},
		"empty query": {wire.VerbIdentifierQuery, bytes.NewReader((&wire.IdentifierRequest{}).Marshal()), 400, server.WordMalformed},
	} {
		status, text, _ := post(t, c, "/mimi/v1/"+string(b.verb)+"/"+wire.PathEscape(room), "mimi@b.example", b.body)
		if status != b.status || text != b.word+"\n" {
			t.Errorf("%s: %d %q", name, status, text)
		}
		w.nothing(name)
	}
	req, err := http.NewRequest(http.MethodPost, "https://a.example/mimi/v1/update/"+wire.PathEscape(room), bytes.NewReader(bodies()[wire.VerbUpdate]))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Encoding", "gzip")
	response, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("gzip: %d", response.StatusCode)
	}
	w.nothing("gzip")
	response, err = c.Get("https://a.example/mimi/v1/update/" + wire.PathEscape(room))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != http.MethodPost {
		t.Errorf("GET: %d", response.StatusCode)
	}
	w.nothing("GET")
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// A body that does not come is not waited for, over HTTP/1.1 and HTTP/2.
func TestSlowBody(t *testing.T) {
	w := start(t, func(c *server.Config) { c.BodyTimeout = 50 * time.Millisecond })
	for _, h2 := range []bool{false, true} {
		c := w.raw(w.cert(emptyOptions, "b.example"))
		c.Transport.(*http.Transport).ForceAttemptHTTP2 = h2
		reader, writer := io.Pipe()
		go func() { _, _ = writer.Write([]byte{1, 2, 3}) }() // and no more
		status, text, _ := post(t, c, "/mimi/v1/update/"+wire.PathEscape(room), "mimi@b.example", reader)
		writer.Close()
		if status != http.StatusRequestTimeout || text != server.WordTimeout+"\n" {
			t.Errorf("HTTP/2 %v: %d %q", h2, status, text)
		}
		w.nothing("slow body")
	}
}

// After a body was read in time the work on it may take longer than the body's time.
func TestSlowHandler(t *testing.T) {
	w := start(t, func(c *server.Config) { c.BodyTimeout = 50 * time.Millisecond })
	w.handler.answer = func(ctx context.Context, _ call) (server.Answer, error) {
		select {
		case <-ctx.Done():
			return server.Answer{}, ctx.Err()
		case <-time.After(150 * time.Millisecond): // longer than the body's time, which is what is tested
			return server.Answer{}, nil
		}
	}
	for _, h2 := range []bool{false, true} {
		c := w.raw(w.cert(emptyOptions, "b.example"))
		c.Transport.(*http.Transport).ForceAttemptHTTP2 = h2
		if status, text, _ := post(t, c, "/mimi/v1/update/"+wire.PathEscape(room), "mimi@b.example", bytes.NewReader(bodies()[wire.VerbUpdate])); status != http.StatusOK {
			t.Errorf("HTTP/2 %v: %d %q", h2, status, text)
		}
	}
}

func TestPeerLimits(t *testing.T) {
	w := start(t, nil)
	w.book.Replace(peer.Rules{Default: peer.Rule{Roots: w.ca.Pool(), Limits: peer.Limits{PerSecond: 0.001, Burst: 4, Concurrent: 1, Connections: 1}}})
	inside, release := make(chan struct{}), make(chan struct{})
	w.handler.answer = func(context.Context, call) (server.Answer, error) {
		inside <- struct{}{}
		<-release
		return server.Answer{}, nil
	}
	b := w.provider("b.example")
	first := make(chan client.Result, 1)
	go func() {
		r, err := b.Update(context.Background(), "a.example", room, bodies()[wire.VerbUpdate])
		if err != nil {
			t.Error(err)
		}
		first <- r
	}()
	<-inside
	// one at a time: the second on the same HTTP/2 connection waits for nobody
	r, err := b.Update(t.Context(), "a.example", room, bodies()[wire.VerbUpdate])
	if err != nil || r.Status != http.StatusTooManyRequests || r.RetryAfter == 0 {
		t.Errorf("a second request at once: %d %q, %v", r.Status, r.Body, err)
	}
	// one connection: another one of the same provider is refused, of another provider not
	raw := w.raw(w.cert(emptyOptions, "b.example"))
	if status, _, header := post(t, raw, "/mimi/v1/update/"+wire.PathEscape(room), "mimi@b.example", bytes.NewReader(bodies()[wire.VerbUpdate])); status != 429 || header.Get("Retry-After") == "" {
		t.Errorf("a second connection: %d", status)
	}
	close(release)
	if r := <-first; r.Status != http.StatusOK {
		t.Errorf("the first request: %d", r.Status)
	}
	go func() { <-inside }()
	if status, _, _ := post(t, w.raw(w.cert(emptyOptions, "c.example")), "/mimi/v1/update/"+wire.PathEscape(room), "mimi@c.example",
		bytes.NewReader(bodies()[wire.VerbUpdate])); status != http.StatusOK {
		t.Errorf("another provider: %d", status)
	}
}

// Large bodies that are in memory at once are bounded, for each provider and for all: one provider does not take the place of the
// others, and what was refused is taken later.
func TestLargeBodiesAreBounded(t *testing.T) {
	body := bodies()[wire.VerbUpdate]
	size := int64(len(body))
	w := start(t, func(c *server.Config) { c.SmallBody, c.BodiesPerPeer, c.AllBodies = 10, 2*size, 3*size })
	inside, release := make(chan struct{}), make(chan struct{})
	w.handler.answer = func(context.Context, call) (server.Answer, error) {
		inside <- struct{}{}
		<-release
		return server.Answer{}, nil
	}
	var wg sync.WaitGroup
	send := func(c *client.Client) int {
		r, err := c.Update(context.Background(), "a.example", room, body)
		if err != nil {
			t.Error(err)
		}
		return r.Status
	}
	b, c, d := w.provider("b.example"), w.provider("c.example"), w.provider("d.example")
	hold := func(from *client.Client) {
		wg.Go(func() {
			if status := send(from); status != http.StatusOK {
				t.Errorf("within the bounds: %d", status)
			}
		})
		<-inside
	}
	hold(b)
	hold(b)
	if status := send(b); status != http.StatusTooManyRequests {
		t.Errorf("b's third: %d", status)
	}
	hold(c)
	if status := send(d); status != http.StatusTooManyRequests {
		t.Errorf("beyond the bound of all: %d", status)
	}
	close(release)
	wg.Wait()
	go func() { <-inside }()
	if status := send(d); status != http.StatusOK {
		t.Errorf("later: %d", status)
	}
}

// S004-021, S004-040: claims of KeyPackages and of GroupInfos are counted.
func TestQuotas(t *testing.T) {
	w := start(t, func(c *server.Config) { c.KeyMaterialPerUser, c.KeyMaterialPerPeer, c.GroupInfoPerRoom = 2, 3, 1 })
	b := w.provider("b.example")
	other := wire.KeyMaterialRequest{RequestingUser: "mimi://b.example/u/bob", TargetUser: "mimi://a.example/u/carol"}
	for i, c := range []struct {
		target wire.IdentifierURI
		body   []byte
		status int
	}{{user, bodies()[wire.VerbKeyMaterial], 200}, {user, bodies()[wire.VerbKeyMaterial], 200}, {user, bodies()[wire.VerbKeyMaterial], 429},
		{"mimi://a.example/u/carol", other.Marshal(), 429}} {
		r, err := b.KeyMaterial(t.Context(), "a.example", c.target, c.body)
		if err != nil || r.Status != c.status {
			t.Errorf("keyMaterial %d: %d %q, %v", i, r.Status, r.Body, err)
		}
	}
	for i, status := range []int{200, 429} {
		if r, err := b.GroupInfo(t.Context(), "a.example", room, bodies()[wire.VerbGroupInfo]); err != nil || r.Status != status {
			t.Errorf("groupInfo %d: %d, %v", i, r.Status, err)
		}
	}
	if r, err := b.GroupInfo(t.Context(), "a.example", "mimi://a.example/r/other", bodies()[wire.VerbGroupInfo]); err != nil || r.Status != 200 {
		t.Errorf("another room: %d, %v", r.Status, err)
	}
	if r, err := w.provider("c.example").GroupInfo(t.Context(), "a.example", room, bodies()[wire.VerbGroupInfo]); err != nil || r.Status != 200 {
		t.Errorf("another provider: %d, %v", r.Status, err)
	}
}

// Rules that are replaced hold for the next request on an open connection.
func TestRulesReplaced(t *testing.T) {
	w := start(t, nil)
	b := w.provider("b.example")
	if r, err := b.Update(t.Context(), "a.example", room, bodies()[wire.VerbUpdate]); err != nil || r.Status != 200 {
		t.Fatalf("%d, %v", r.Status, err)
	}
	w.handler.taken()
	w.book.Replace(peer.Rules{Default: peer.Rule{Roots: w.ca.Pool(), Blocked: true}})
	if r, err := b.Update(t.Context(), "a.example", room, bodies()[wire.VerbUpdate]); err != nil || r.Status != 403 || string(r.Body) != server.WordBlocked+"\n" {
		t.Errorf("%d %q, %v", r.Status, r.Body, err)
	}
	w.nothing("blocked")
}

// A handler that takes too long is told so, and the peer may try again.
func TestHandlerTimeout(t *testing.T) {
	w := start(t, func(c *server.Config) { c.HandlerTimeout = 30 * time.Millisecond })
	w.handler.answer = func(ctx context.Context, _ call) (server.Answer, error) {
		<-ctx.Done()
		return server.Answer{}, ctx.Err()
	}
	r, err := w.provider("b.example").Update(t.Context(), "a.example", room, bodies()[wire.VerbUpdate])
	if err != nil || r.Status != http.StatusServiceUnavailable || r.RetryAfter == 0 {
		t.Errorf("%d %q, %v", r.Status, r.Body, err)
	}
	if e := <-w.events; !errors.Is(e.Err, context.DeadlineExceeded) {
		t.Errorf("%v", e.Err)
	}
}
