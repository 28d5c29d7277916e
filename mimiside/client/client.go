package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/peer"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Dialer connects to an address. In production it is one that refuses private addresses after resolution.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// Config says what a Client is made of. Keys, Book and Dial are needed.
type Config struct {
	Keys *peer.Keyring // our certificate; its domain is the sender of all requests
	Book *peer.Book
	Dial Dialer
	// Overrides sends connections for a host elsewhere: host name in lower case to address with port. An address from
	// here is dialled directly, past Dial, and the name is still what the certificate must be for.
	Overrides map[string]string
	Now       func() time.Time // nil: time.Now
	UserAgent string
	// Own is what we publish: the extensions in it are used with peers that publish them, too. Nil uses none.
	Own *wire.Directory

	ConnectTimeout  time.Duration // for connection and handshake; 0: 10 s
	RequestTimeout  time.Duration // for a whole request; 0: 90 s
	DownloadTimeout time.Duration // for a download; 0: 10 min
	SmallResponse   int64         // bytes of an answer; 0: 1 MiB
	LargeResponse   int64         // bytes of the answers to groupInfo and keyMaterial; 0: 32 MiB
}

// maxTransports bounds how many peers have open connections.
const maxTransports = 1024

// Client sends requests to providers.
type Client struct {
	config      Config
	breaker     *peer.Breaker
	directories *peer.Directories
	direct      net.Dialer

	mu         sync.Mutex
	transports map[string]*transport
}

type transport struct {
	http *http.Transport
	used time.Time
}

// New returns a Client.
func New(c Config) (*Client, error) {
	if c.Keys == nil || c.Book == nil || c.Dial == nil {
		return nil, errors.New("make the MIMI client: keyring, book and dialer are needed")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	set(&c.ConnectTimeout, 10*time.Second)
	set(&c.RequestTimeout, 90*time.Second)
	set(&c.DownloadTimeout, 10*time.Minute)
	set(&c.SmallResponse, 1<<20)
	set(&c.LargeResponse, 32<<20)
	cl := &Client{config: c, breaker: peer.NewBreaker(c.Now), transports: map[string]*transport{}}
	cl.directories = peer.NewDirectories(cl.fetchDirectory, c.Now)
	return cl, nil
}

func set[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Domain returns our own domain.
func (c *Client) Domain() string { return c.config.Keys.Domain() }

// Open returns the peers that are left alone after failures, for a gauge.
func (c *Client) Open() []string { return c.breaker.Open() }

// Heard says that a provider called us: it is alive, so failures of the past keep nobody from asking it at once.
func (c *Client) Heard(domain string) {
	c.breaker.Success(domain)
	c.directories.Forget(domain)
}

// CloseIdle closes connections that are not in use. After the own certificate or the rules were replaced it makes the next
// requests use the new ones.
func (c *Client) CloseIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for domain, t := range c.transports {
		t.http.CloseIdleConnections()
		delete(c.transports, domain)
	}
}

// transport returns the connections to a peer. They are kept apart by peer, because the rule by which a host's certificate
// is judged is the peer's.
func (c *Client) transport(domain string) *http.Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.config.Now()
	if t := c.transports[domain]; t != nil {
		t.used = now
		return t.http
	}
	if len(c.transports) >= maxTransports {
		oldest := ""
		for d, t := range c.transports {
			if oldest == "" || t.used.Before(c.transports[oldest].used) {
				oldest = d
			}
		}
		c.transports[oldest].http.CloseIdleConnections()
		delete(c.transports, oldest)
	}
	t := &http.Transport{
		DialContext:            c.dial,
		TLSClientConfig:        c.config.Keys.ClientTLS(c.config.Book, domain, c.config.Now),
		TLSHandshakeTimeout:    c.config.ConnectTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxConnsPerHost:        8, // well under the 20 that we allow a peer ourselves
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        90 * time.Second,
		ResponseHeaderTimeout:  c.config.RequestTimeout,
		MaxResponseHeaderBytes: 64 << 10,
	}
	c.transports[domain] = &transport{t, now}
	return t
}

func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.ConnectTimeout)
	defer cancel()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	if to, ok := c.config.Overrides[wire.LowerDomain(host)]; ok {
		return c.direct.DialContext(ctx, network, to)
	}
	return c.config.Dial(ctx, network, address)
}

// Directory returns where a peer's endpoints are (draft-ietf-mimi-protocol-06 §5.1), from memory as long as the peer lets it be kept.
func (c *Client) Directory(ctx context.Context, domain string) (*wire.Directory, error) {
	dir, err := c.directories.Get(ctx, domain)
	if err != nil {
		return nil, err
	}
	return dir, nil
}

// WithAssetsAt returns the providers that publish a host as one of their files, as far as their directories are in memory.
func (c *Client) WithAssetsAt(host string) []string {
	return c.directories.Find(func(d *wire.Directory) bool { return d.Bridge != nil && slices.Contains(d.Bridge.AssetDomains, host) })
}

// FreshDirectory is Directory, but fetches again what is older than a minute.
func (c *Client) FreshDirectory(ctx context.Context, domain string) (*wire.Directory, error) {
	c.directories.Expire(domain)
	return c.Directory(ctx, domain)
}

// fetchDirectory gets a directory from the peer's own domain, over a connection that is authenticated as the peer.
func (c *Client) fetchDirectory(ctx context.Context, domain string) (*wire.Directory, time.Duration, error) {
	const op = "fetch the directory"
	if !wire.ValidDomain(domain) {
		return nil, 0, &Error{op, domain, false, wire.ErrURI}
	}
	ctx, cancel := context.WithTimeout(ctx, 3*c.config.ConnectTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+wire.LowerDomain(domain)+wire.DirectoryPath, nil)
	if err != nil {
		return nil, 0, &Error{op, domain, false, err}
	}
	req.Header.Set("Accept", "application/json")
	r, err := c.do(req, op, domain, wire.MaxDirectory)
	if err != nil {
		return nil, 0, err
	}
	if r.Status != http.StatusOK {
		// A domain without a directory may get one; one that refuses us may change its mind.
		return nil, 0, &Error{op, domain, true, fmt.Errorf("HTTP status %d", r.Status)}
	}
	dir, err := wire.UnmarshalDirectory(r.Body)
	if err != nil {
		return nil, 0, &Error{op, domain, true, err}
	}
	return dir, peer.CacheTime(r.Header), nil
}

// sameHost tells whether a URL is on the peer's own domain.
func sameHost(u *url.URL, domain string) bool { return strings.EqualFold(u.Hostname(), domain) }
