package activitypub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Errors of fetching.
var (
	// ErrFetch: the document was not got, or is not one. Permanent when it wraps ErrGone or ErrUnfit, else temporary.
	ErrFetch = errors.New("fetch failed")
	// ErrGone: the server says that there is no such thing (404, 410) or that we may not see it (401, 403).
	ErrGone = errors.New("not there")
	// ErrUnfit: what came is too large, of another type, of another origin, or points elsewhere too often.
	ErrUnfit = errors.New("answer is not acceptable")
)

// Bounds on what is fetched.
const (
	maxActorBody = 256 << 10
	maxJRDBody   = 64 << 10
	maxRedirects = 3
)

// FetcherConfig says how a Fetcher reaches the world.
type FetcherConfig struct {
	// Transport makes the connections. It must dial through a guard that refuses private addresses and use no proxy
	// (netguard.Guard.Transport).
	Transport http.RoundTripper
	// Key signs GETs: that of the instance actor. The zero value leaves them unsigned.
	Key SigningKey
	// Timeout bounds one document with its redirects; 0: 15 s.
	Timeout   time.Duration
	UserAgent string
	// AllowHTTP lets addresses begin with http://, for tests.
	AllowHTTP bool
	// Blocked tells that a host is not spoken with; nil: none is.
	Blocked func(host string) bool
	Now     func() time.Time // nil: time.Now
	// Memory knows which signatures an origin takes; nil: cavage always.
	Memory *SchemeMemory
}

// Fetcher gets documents from other servers, signed as the instance actor. It is safe for concurrent use.
type Fetcher struct {
	cfg FetcherConfig
}

// NewFetcher makes a Fetcher.
func NewFetcher(cfg FetcherConfig) *Fetcher {
	if cfg.Timeout == 0 {
		cfg.Timeout = 15 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Blocked == nil {
		cfg.Blocked = func(string) bool { return false }
	}
	return &Fetcher{cfg: cfg}
}

// Despite is the Fetcher without its block list: for what must be done even so.
func (f *Fetcher) Despite() *Fetcher {
	g := *f
	g.cfg.Blocked = func(string) bool { return false }
	return &g
}

// Document is a document from another server whose id is the address that it came from.
type Document struct {
	URL  string
	Size int // octets of the JSON
	Object
}

// Document fetches an ActivityPub document. Its id must be the address that it was got from at last; when it is another one of
// the same origin it is fetched from there, once.
func (f *Fetcher) Document(ctx context.Context, address string) (*Document, error) {
	address, _, _ = strings.Cut(address, "#")
	for again := 0; ; again++ {
		body, final, err := f.get(ctx, address, TypeActivity+", "+typeLD, maxActorBody, isActivityType)
		if err != nil {
			return nil, err
		}
		o, err := ParseObject(body)
		if err != nil {
			return nil, unfit(address, "%v", err)
		}
		id := o.Str("id", "@id")
		if idOnly, _, _ := strings.Cut(id, "#"); idOnly == final || id == final {
			return &Document{URL: final, Size: len(body), Object: o}, nil
		}
		if again > 0 || !sameOrigin(id, final) {
			return nil, unfit(address, "its id is another address")
		}
		address, _, _ = strings.Cut(id, "#")
	}
}

// JRD fetches a WebFinger answer (RFC 7033).
func (f *Fetcher) JRD(ctx context.Context, host, resource string) ([]byte, error) {
	scheme := "https"
	if f.cfg.AllowHTTP {
		scheme = "http"
	}
	body, _, err := f.get(ctx, scheme+"://"+host+"/.well-known/webfinger?resource="+url.QueryEscape(resource), typeJRD+", application/json", maxJRDBody,
		func(t string, _ map[string]string) bool { return t == typeJRD || t == "application/json" })
	return body, err
}

func isActivityType(t string, params map[string]string) bool {
	return t == TypeActivity || t == "application/ld+json" && params["profile"] == activityStreams
}

func unfit(address, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %w: %s", ErrFetch, address, ErrUnfit, fmt.Sprintf(format, args...))
}

// get follows up to three redirects, each judged and signed anew, and returns the body and where it came from.
func (f *Fetcher) get(ctx context.Context, address, accept string, limit int64, fits func(string, map[string]string) bool) ([]byte, string, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	for hops := 0; ; hops++ {
		res, err := f.one(ctx, address, accept)
		if err != nil {
			return nil, "", err
		}
		next, body, err := f.take(res, address, limit, fits)
		if err != nil {
			return nil, "", err
		}
		if next == "" {
			return body, address, nil
		}
		if hops == maxRedirects {
			return nil, "", unfit(address, "more than %d redirects", maxRedirects)
		}
		address = next
	}
}

// checkAddress tells whether a URL may be requested at all. Where it leads is for the dialer.
func (f *Fetcher) checkAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || !validURL(address) || u.Opaque != "" {
		return nil, unfit(address, "no URL")
	}
	if u.Scheme != "https" && !f.cfg.AllowHTTP {
		return nil, unfit(address, "not https")
	}
	if f.cfg.Blocked(strings.ToLower(u.Hostname())) {
		return nil, fmt.Errorf("%w: %s: %w: %w", ErrFetch, address, ErrUnfit, ErrBlocked)
	}
	if ip := net.ParseIP(strings.Trim(u.Hostname(), "[]")); ip != nil && !f.cfg.AllowHTTP {
		return nil, unfit(address, "an address instead of a name")
	}
	u.Fragment = ""
	return u, nil
}

// one makes one request.
func (f *Fetcher) one(ctx context.Context, address, accept string) (*http.Response, error) {
	u, err := f.checkAddress(address)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, unfit(address, "%v", err)
	}
	r.Header.Set("Accept", accept)
	r.Header.Set("User-Agent", f.cfg.UserAgent)
	if f.cfg.Key.Private != nil {
		now := f.cfg.Now()
		if err := f.cfg.Key.Sign(r, nil, f.cfg.Memory.First(originOf(address), now), now); err != nil {
			return nil, err
		}
	}
	res, err := f.cfg.Transport.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFetch, address, err)
	}
	return res, nil
}

// take reads an answer: the next address of a redirect, or the body.
func (f *Fetcher) take(res *http.Response, address string, limit int64, fits func(string, map[string]string) bool) (next string, body []byte, err error) {
	defer res.Body.Close()
	switch {
	case res.StatusCode >= 300 && res.StatusCode < 400 && res.StatusCode != http.StatusNotModified:
		to, err := res.Location()
		if err != nil {
			return "", nil, unfit(address, "redirect to nowhere")
		}
		if from, _ := url.Parse(address); from.Scheme == "https" && to.Scheme != "https" {
			return "", nil, unfit(address, "redirect from https to %s", to.Scheme)
		}
		return to.String(), nil, nil
	case res.StatusCode == 401 || res.StatusCode == 403 || res.StatusCode == 404 || res.StatusCode == 410:
		return "", nil, fmt.Errorf("%w: %s: %w: status %d", ErrFetch, address, ErrGone, res.StatusCode)
	case res.StatusCode != http.StatusOK:
		return "", nil, fmt.Errorf("%w: %s: status %d", ErrFetch, address, res.StatusCode)
	}
	t, params, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil || !fits(t, params) {
		return "", nil, unfit(address, "content type %.60q", res.Header.Get("Content-Type"))
	}
	body, err = io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return "", nil, fmt.Errorf("%w: %s: %w", ErrFetch, address, err)
	}
	if int64(len(body)) > limit {
		return "", nil, unfit(address, "more than %d octets", limit)
	}
	return "", body, nil
}
