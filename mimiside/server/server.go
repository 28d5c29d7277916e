package server

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/matrix-mimi/bridge/internal/stack"
	"github.com/matrix-mimi/bridge/mimiside/peer"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// WebFingerPath is where WebFinger queries go (RFC 7033 §4).
const WebFingerPath = "/.well-known/webfinger"

// DefaultPrefix is where the endpoints are, unless configured otherwise.
const DefaultPrefix = "/mimi/v1"

// Event tells an observer how a request ended, for metrics and logs.
type Event struct {
	Verb    wire.Verb // "" before it is known
	Peer    string    // "" before it is known
	Claimed string    // who a peer that is not known says that it is, "" when it does not
	Status  int
	Word    string // "" for success
	Err     error  // what was wrong, for the log; never for the peer
	Took    time.Duration
	In      int // bytes of the body
}

// Config says what a Server is made of. Domain, Handler, Book and Directory are needed.
type Config struct {
	Domain    string
	Handler   Handler
	Book      *peer.Book
	Directory func() *wire.Directory // asked at every request, so that it may change
	Prefix    string                 // DefaultPrefix when empty; no slash at the end
	WebFinger http.Handler           // nil: 404
	Other     http.Handler           // everything else, such as ActivityPub; nil: 404
	// Shares tells whether an extension is shared with a peer: whether its directory offers it, too. Nil shares none.
	Shares   func(ctx context.Context, domain, name string) (bool, error)
	Observe  func(Event)      // nil: nobody looks
	ErrorLog *log.Logger      // of net/http; nil: its default
	Now      func() time.Time // nil: time.Now

	SmallBody       int64         // bytes of a body; 0: 1 MiB
	LargeBody       int64         // bytes of the bodies that may hold a ratchet tree: update and notify; 0: 32 MiB
	AllBodies       int64         // bytes of the bodies over SmallBody that are held at once, of everybody; 0: 16 of LargeBody
	BodiesPerPeer   int64         // of one peer; 0: 4 of LargeBody
	BodyTimeout     time.Duration // for a whole body to arrive; 0: 30 s
	HandlerTimeout  time.Duration // for a Handler; 0: 60 s
	DownloadTimeout time.Duration // for a proxyDownload; 0: 10 min

	Connections           int // open at once, of everybody; 0: 8,192
	ConnectionsPerAddress int // open at once from one public address; 0: 512

	KeyMaterialPerUser int // requests an hour for one target by one peer; 0: 10
	KeyMaterialPerPeer int // requests an hour by one peer; 0: 1,000
	GroupInfoPerRoom   int // requests an hour for one room by one peer; 0: 10
}

// maxQuotaKeys bounds how many (peer, target) pairs are remembered.
const maxQuotaKeys = 1 << 16

// Server answers other providers. It is an http.Handler that must be served over TLS by HTTP or its like.
type Server struct {
	config   Config
	identify *peer.Identifier
	gate     *peer.Gate
	verbs    map[wire.Verb]verb

	userQuota, peerQuota, roomQuota *peer.Quota
	large                           largeBodies
}

// verb is how one endpoint is served.
type verb struct {
	method string
	limit  int64 // of the body; 0: there is none
	time   time.Duration
	path   func(s *Server, escaped string) (wire.URI, error)
	shared string // the extension that must be shared with the peer, "" for the draft's own verbs
	serve  func(s *Server, ctx context.Context, r Request, w http.ResponseWriter, h *http.Request) (int, error)
}

// New returns a Server.
func New(c Config) (*Server, error) {
	if !wire.ValidDomain(c.Domain) || c.Handler == nil || c.Book == nil || c.Directory == nil {
		return nil, errors.New("make the MIMI server: domain, handler, book and directory are needed")
	}
	defaults(&c)
	s := &Server{config: c, identify: peer.NewIdentifier(c.Domain, c.Book, c.Now), gate: peer.NewGate(c.Book, c.Now)}
	s.large = largeBodies{all: c.AllBodies, each: c.BodiesPerPeer, of: map[string]int64{}}
	s.userQuota = peer.NewQuota(c.KeyMaterialPerUser, time.Hour, maxQuotaKeys, c.Now)
	s.peerQuota = peer.NewQuota(c.KeyMaterialPerPeer, time.Hour, maxQuotaKeys, c.Now)
	s.roomQuota = peer.NewQuota(c.GroupInfoPerRoom, time.Hour, maxQuotaKeys, c.Now)
	s.verbs = map[wire.Verb]verb{
		wire.VerbKeyMaterial:     {http.MethodPost, c.SmallBody, c.HandlerTimeout, anyPath, "", (*Server).keyMaterial},
		wire.VerbUpdate:          {http.MethodPost, c.LargeBody, c.HandlerTimeout, roomPath, "", (*Server).update},
		wire.VerbNotify:          {http.MethodPost, c.LargeBody, c.HandlerTimeout, roomPath, "", (*Server).notify},
		wire.VerbSubmitMessage:   {http.MethodPost, c.SmallBody, c.HandlerTimeout, roomPath, "", (*Server).submitMessage},
		wire.VerbGroupInfo:       {http.MethodPost, c.SmallBody, c.HandlerTimeout, roomPath, "", (*Server).groupInfo},
		wire.VerbRequestConsent:  {http.MethodPost, c.SmallBody, c.HandlerTimeout, anyPath, "", (*Server).requestConsent},
		wire.VerbUpdateConsent:   {http.MethodPost, c.SmallBody, c.HandlerTimeout, anyPath, "", (*Server).updateConsent},
		wire.VerbIdentifierQuery: {http.MethodPost, c.SmallBody, c.HandlerTimeout, anyPath, "", (*Server).identifierQuery},
		wire.VerbReportAbuse:     {http.MethodPost, c.SmallBody, c.HandlerTimeout, roomPath, "", (*Server).reportAbuse},
		wire.VerbProxyDownload:   {http.MethodGet, 0, c.DownloadTimeout, nil, "", (*Server).proxyDownload},
	}
	for name, e := range extensions {
		s.verbs[name] = verb{http.MethodPost, e.limit(&c), c.HandlerTimeout, e.path, string(name), e.serve(name)}
	}
	return s, nil
}

func defaults(c *Config) {
	set(&c.Prefix, DefaultPrefix)
	set(&c.SmallBody, 1<<20)
	set(&c.LargeBody, 32<<20)
	set(&c.AllBodies, 16*c.LargeBody)
	set(&c.BodiesPerPeer, 4*c.LargeBody)
	set(&c.BodyTimeout, 30*time.Second)
	set(&c.HandlerTimeout, 60*time.Second)
	set(&c.DownloadTimeout, 10*time.Minute)
	set(&c.Connections, 8192)
	set(&c.ConnectionsPerAddress, 512)
	set(&c.KeyMaterialPerUser, 10)
	set(&c.KeyMaterialPerPeer, 1000)
	set(&c.GroupInfoPerRoom, 10)
	c.Domain = wire.LowerDomain(c.Domain)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Observe == nil {
		c.Observe = func(Event) {}
	}
	if c.WebFinger == nil {
		c.WebFinger = http.NotFoundHandler()
	}
	if c.Other == nil {
		c.Other = http.NotFoundHandler()
	}
}

func set[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// ServeHTTP answers one request. Paths are read as they were sent, without decoding or cleaning, because an identifier in
// them may hold encoded slashes.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	setWriteDeadline(w, s.config.HandlerTimeout+writeTime)
	switch {
	case path == wire.DirectoryPath:
		s.directory(w, r)
		return
	case path == WebFingerPath:
		s.config.WebFinger.ServeHTTP(w, r)
		return
	}
	name, v, escaped, ok := s.route(path)
	if !ok {
		s.config.Other.ServeHTTP(w, r)
		return
	}
	s.endpoint(w, r, name, v, escaped)
}

// route finds the verb of a path and what follows it. The slash between them may be missing, as in the draft's example of a
// directory.
func (s *Server) route(path string) (name wire.Verb, v verb, escaped string, ok bool) {
	rest, ok := strings.CutPrefix(path, s.config.Prefix+"/")
	if !ok {
		return "", verb{}, "", false
	}
	if own, ok := strings.CutPrefix(path, s.config.Prefix+wire.ExtensionPath); ok {
		return s.routeExtension(own)
	}
	for name, v := range s.verbs {
		after, ok := strings.CutPrefix(rest, string(name))
		if !ok || name.Extension() || strings.HasPrefix(rest, string(wire.VerbUpdateConsent)) && name == wire.VerbUpdate {
			continue
		}
		return name, v, strings.TrimPrefix(after, "/"), true
	}
	return "", verb{}, "", false
}

// endpoint serves a verb: method, sender, limits, path, and only then the body.
func (s *Server) endpoint(w http.ResponseWriter, r *http.Request, name wire.Verb, v verb, escaped string) {
	start := s.config.Now()
	e := Event{Verb: name}
	setWriteDeadline(w, s.config.BodyTimeout+v.time+writeTime)
	status, err := func() (int, error) {
		if r.Method != v.method {
			w.Header().Set("Allow", v.method)
			return 0, errMethod
		}
		domain, err := s.identify.Identify(r)
		if err != nil {
			e.Claimed, _ = peer.ParseFrom(r.Header.Get("From"))
			return 0, err
		}
		e.Peer = domain
		if err := s.countConnection(r.Context(), domain); err != nil {
			w.Header().Set("Connection", "close")
			return 0, err
		}
		leave, err := s.gate.Enter(domain)
		if err != nil {
			return 0, err
		}
		defer leave()
		stack.Deepen() // HTTP/2 gives each request a new goroutine; how many a peer has at once is bounded now
		if err := s.sharedWith(r.Context(), domain, v.shared); err != nil {
			return 0, err
		}
		return s.authenticated(w, r, v, escaped, domain, start, &e)
	}()
	e.Status, e.Err, e.Took = status, err, s.config.Now().Sub(start)
	if err != nil {
		f := failureOf(err)
		if errors.Is(err, errMethod) {
			f = failure{status: http.StatusMethodNotAllowed, word: WordMethod}
		}
		e.Status, e.Word = f.status, f.word
		// What is left of the body is not read to keep the connection: it may be endless.
		if e.In == 0 && r.ContentLength != 0 && v.method == http.MethodPost {
			w.Header().Set("Connection", "close")
		}
		f.write(w)
	}
	s.config.Observe(e)
}

var errMethod = errors.New("method is not allowed")

func (s *Server) authenticated(w http.ResponseWriter, r *http.Request, v verb, escaped, domain string, start time.Time, e *Event) (int, error) {
	q := Request{Peer: domain, Since: start}
	var err error
	if v.path != nil {
		if q.Path, err = v.path(s, escaped); err != nil {
			return 0, err
		}
	}
	if v.limit > 0 {
		release, err := s.hold(domain, r.ContentLength, v.limit)
		if err != nil {
			return 0, err
		}
		defer release()
		if q.Body, err = s.body(w, r, v.limit); err != nil {
			return 0, err
		}
		e.In = len(q.Body)
	}
	ctx, cancel := context.WithTimeout(r.Context(), v.time)
	defer cancel()
	return v.serve(s, ctx, q, w, r)
}

// DirectoryVerb is the verb of an Event for a provider that fetched the directory with its certificate. That is how one greets
// that has started; who fetches it without is not observed.
const DirectoryVerb wire.Verb = "directory"

// directory answers with where the endpoints are (draft-ietf-mimi-protocol-06 §5.1). It is for everyone, with a certificate or without.
func (s *Server) directory(w http.ResponseWriter, r *http.Request) {
	start := s.config.Now()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		failure{status: http.StatusMethodNotAllowed, word: WordMethod}.write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "max-age=3600")
	_, _ = w.Write(s.config.Directory().Marshal())
	if domain, err := s.identify.Identify(r); err == nil {
		s.config.Observe(Event{Verb: DirectoryVerb, Peer: domain, Status: http.StatusOK, Took: s.config.Now().Sub(start)})
	}
}

// Running returns how many requests and connections of peers are counted now, for a gauge.
func (s *Server) Running() (requests, connections int) { return s.gate.Running() }

// connection is what is remembered about one connection: whom it was counted for.
type connection struct {
	mu      sync.Mutex
	domain  string
	release func()
}

type connectionKey struct{}

// countConnection counts a connection for the first peer that is identified on it. Another peer on the same connection, which
// a certificate with several names allows, is not counted again.
func (s *Server) countConnection(ctx context.Context, domain string) error {
	c, ok := ctx.Value(connectionKey{}).(*connection)
	if !ok {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.release != nil {
		return nil
	}
	release, err := s.gate.Connect(domain)
	if err != nil {
		return err
	}
	c.domain, c.release = domain, release
	return nil
}

func (c *connection) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.release != nil {
		c.release()
	}
	c.release = func() {}
}

// HTTP returns an http.Server for the Server with all timeouts set, to be run with ServeTLS(listener, "", ""). Its TLS
// configuration is that of the keyring.
func (s *Server) HTTP(keys *peer.Keyring) *http.Server {
	var mu sync.Mutex
	open := map[net.Conn]*connection{}
	server := &http.Server{
		Handler:           s,
		TLSConfig:         keys.ServerTLS(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       s.config.BodyTimeout + 10*time.Second, // of what reads no body; body sets its own
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          s.config.ErrorLog,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250},
	}
	server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		c := &connection{}
		mu.Lock()
		open[conn] = c
		mu.Unlock()
		return context.WithValue(ctx, connectionKey{}, c)
	}
	server.ConnState = func(conn net.Conn, state http.ConnState) {
		if state != http.StateClosed && state != http.StateHijacked {
			return
		}
		mu.Lock()
		c := open[conn]
		delete(open, conn)
		mu.Unlock()
		if c != nil {
			c.close()
		}
	}
	return server
}

// Listen serves on a listener until the context ends, then lets requests in progress finish for at most grace.
func (s *Server) Listen(ctx context.Context, l net.Listener, keys *peer.Keyring, grace time.Duration) error {
	server := s.HTTP(keys)
	l = Limit(l, s.config.Connections, s.config.ConnectionsPerAddress)
	done := make(chan error, 1)
	go func() { done <- server.ServeTLS(l, "", "") }()
	select {
	case err := <-done:
		return fmt.Errorf("serve MIMI on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := server.Shutdown(stop)
	if err != nil {
		err = errors.Join(fmt.Errorf("stop serving MIMI: %w", err), server.Close())
	}
	<-done
	return err
}
