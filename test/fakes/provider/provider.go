// Package provider is a MIMI provider that answers at once: all its users exist, every key request is served, every
// invitation is followed, and what it is told is remembered. With it the bridge's own cost is measured, and requests are
// made that no honest provider makes. It uses the bridge's own MLS engine and structs, so it shows nothing about their
// correctness; test/interop does.
package provider

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/peer/ca"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
	"github.com/matrix-mimi/bridge/puppets"
)

const prefix = "/mimi/v1"

// Provider is one. It is safe for concurrent use.
type Provider struct {
	Domain    string
	listener  net.Listener
	server    *http.Server
	hubs      map[string]string // domain → host:port
	authority *ca.CA
	client    *http.Client
	mlsc      mls.Config

	mu      sync.Mutex
	users   map[string]puppets.Client
	stock   map[string]puppets.KeyPackage // by KeyPackageRef
	rooms   map[string]*Room
	changed chan struct{}
	refuse  error
	away    bool
}

// Room is a room that the provider's users are in.
type Room struct {
	URI, Hub string
	group    *mls.Group
	// Arrivals are when application messages came, in their order.
	arrivals []time.Time
	welcomes int
}

// New starts a provider under a domain at an address (host:port). hubs says where other providers listen.
func New(domain, listen string, authority *ca.CA, hubs map[string]string) (*Provider, error) {
	cert, err := authority.Issue(time.Now(), ca.Options{}, domain)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	p := &Provider{Domain: domain, listener: ln, hubs: hubs, authority: authority, users: map[string]puppets.Client{}, stock: map[string]puppets.KeyPackage{},
		rooms: map[string]*Room{}, changed: make(chan struct{})}
	p.client = p.ClientWith(&cert)
	p.mlsc = mls.Config{Validator: mls.ValidatorFunc(func(mls.CredentialCheck) error { return nil }), Components: map[mls.ComponentID]mls.ComponentLogic{}}
	for id, logic := range policy.Components() {
		p.mlsc.Components[mls.ComponentID(id)] = logic
	}
	p.server = &http.Server{Handler: http.HandlerFunc(p.serve), TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert},
		ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = p.server.ServeTLS(ln, "", "") }()
	return p, nil
}

// Addr is where it listens.
func (p *Provider) Addr() string { return p.listener.Addr().String() }

// Close ends it.
func (p *Provider) Close() {
	_ = p.server.Close()
	p.client.CloseIdleConnections()
}

// Reach says where another provider listens.
func (p *Provider) Reach(domain, addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hubs[domain] = addr
}

// ClientWith is an HTTP client with another certificate, or none (nil).
func (p *Provider) ClientWith(cert *tls.Certificate) *http.Client {
	cfg := &tls.Config{RootCAs: p.authority.Pool()}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, _, _ := net.SplitHostPort(addr)
			p.mu.Lock()
			to := p.hubs[host]
			p.mu.Unlock()
			return (&net.Dialer{}).DialContext(ctx, network, to)
		}}}
}

// Call is a request of the provider. Zero fields are what an honest one sends.
type Call struct {
	To, Verb, Target string
	Body             []byte
	From             string
	Client           *http.Client
}

// Do makes a request and returns status and body of the answer.
func (p *Provider) Do(ctx context.Context, c Call) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+c.To+prefix+"/"+c.Verb+"/"+wire.PathEscape(c.Target), bytes.NewReader(c.Body))
	if err != nil {
		return 0, nil, err
	}
	if c.From == "" {
		c.From = p.Domain
	}
	if c.Client == nil {
		c.Client = p.client
	}
	req.Header.Set("From", "mimi@"+c.From)
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := c.Client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// Away lets the provider answer nothing but 503, or be there again.
func (p *Provider) Away(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = yes
}

func (p *Provider) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	away := p.away
	p.mu.Unlock()
	if away {
		http.Error(w, "away", http.StatusServiceUnavailable)
		return
	}
	path := r.URL.EscapedPath()
	if path == wire.DirectoryPath {
		d, err := wire.NewDirectory("https://"+p.Domain+prefix, nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(d.Marshal())
		return
	}
	verb, escaped, _ := strings.Cut(strings.TrimPrefix(path, prefix+"/"), "/")
	body, err := io.ReadAll(r.Body)
	arrived := time.Now()
	status, answer := http.StatusNotFound, []byte(nil)
	if err == nil {
		switch wire.Verb(verb) {
		case wire.VerbKeyMaterial:
			status = http.StatusOK
			answer, err = p.keyMaterial(body)
		case wire.VerbNotify:
			status = http.StatusCreated
			err = p.notified(escaped, r.Header.Get("From"), body, arrived)
		}
	}
	if err != nil {
		p.mu.Lock()
		p.refuse = errors.Join(p.refuse, fmt.Errorf("%s: %w", verb, err))
		p.mu.Unlock()
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

// User is the MIMI URI of a user.
func (p *Provider) User(local string) string { return "mimi://" + p.Domain + "/u/" + local }

func (p *Provider) keyMaterial(body []byte) ([]byte, error) {
	received, err := wire.UnmarshalKeyMaterialRequest(body)
	if err != nil {
		return nil, err
	}
	q, err := received.Check()
	if err != nil {
		return nil, err
	}
	user := string(q.TargetUser)
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.users[user]
	if !ok {
		key, err := mls.GenerateSignatureKey(rand.Reader, q.AcceptableSuites[0])
		if err != nil {
			return nil, err
		}
		uri := strings.Replace(user, "/u/", "/d/", 1) + "/one"
		c = puppets.Client{UserURI: user, ClientURI: uri, Credential: puppets.BasicCredential(uri), Key: key}
		p.users[user] = c
	}
	kp, err := puppets.NewKeyPackage(rand.Reader, time.Now(), c, false)
	if err != nil {
		return nil, err
	}
	p.stock[string(kp.Public.Ref())] = kp
	answer := wire.KeyMaterialResponse{UserStatus: wire.KeyMaterialSuccess, UserURI: q.TargetUser,
		Clients: []wire.ClientKeyMaterial{{ClientURI: wire.IdentifierURI(c.ClientURI), KeyPackage: kp.Public}}}
	return answer.Marshal(), nil
}
