package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/peer"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Result is what a peer answered. An answer of any status is a Result, not an error.
type Result struct {
	Status     int
	Body       []byte
	RetryAfter time.Duration // 0: the peer did not say
	Header     http.Header
}

// Class is what an answer means for a request that waits in the outbox.
type Class int

// Classes of answers.
const (
	Done    Class = iota // 2xx
	Retry                // 408, 421, 425, 429 and 5xx but 501 and 505: the same bytes may be taken later
	Refused              // everything else
)

// Class returns what the status means.
func (r Result) Class() Class {
	switch s := r.Status; {
	case s/100 == 2:
		return Done
	case s == http.StatusRequestTimeout, s == http.StatusMisdirectedRequest, s == http.StatusTooEarly, s == http.StatusTooManyRequests,
		s/100 == 5 && s != http.StatusNotImplemented && s != http.StatusHTTPVersionNotSupported:
		return Retry
	}
	return Refused
}

// Error is why no answer came.
type Error struct {
	Op        string // what was tried
	Peer      string
	Temporary bool // the same request may succeed later
	Err       error
}

// Error returns what was tried and why it failed.
func (e *Error) Error() string {
	kind := "permanent"
	if e.Temporary {
		kind = "temporary"
	}
	return fmt.Sprintf("%s at %s (%s): %v", e.Op, e.Peer, kind, e.Err)
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// RetryAfter returns for how long err says to wait, 0 when it does not say.
func RetryAfter(err error) time.Duration {
	var busy *peer.Busy
	if errors.As(err, &busy) {
		return busy.RetryAfter
	}
	return 0
}

// Reasons for errors. Test with errors.Is; peer.ErrBlocked, peer.ErrCertificate and peer.ErrOpen are others.
var (
	ErrNoEndpoint = errors.New("the peer's directory does not name the endpoint")
	ErrTooLarge   = errors.New("the answer is larger than allowed")
	ErrEncoding   = errors.New("the answer has a content encoding that was not asked for")
)

// post sends body to an endpoint of a peer. value is what the template's variable stands for.
func (c *Client) post(ctx context.Context, domain string, verb wire.Verb, value wire.URI, body []byte, limit int64) (Result, error) {
	return c.call(ctx, domain, verb, limit, func(t wire.Template) (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.Expand(value), bytes.NewReader(body))
		if err == nil {
			req.Header.Set("Content-Type", "application/octet-stream")
		}
		return req, err
	})
}

// call finds the endpoint and sends the request that build makes for it. After a 404 the template is tried with the slash that
// it may lack, and then, if it is another one, that of a directory fetched anew.
func (c *Client) call(ctx context.Context, domain string, verb wire.Verb, limit int64, build func(wire.Template) (*http.Request, error)) (Result, error) {
	domain = wire.LowerDomain(domain)
	op := string(verb)
	ctx, cancel := context.WithTimeout(ctx, c.config.RequestTimeout)
	defer cancel()
	send := func(t wire.Template) (Result, error) {
		req, err := build(t)
		if err != nil {
			return Result{}, &Error{op, domain, false, err}
		}
		r, err := c.do(req.WithContext(ctx), op, domain, limit)
		if slashed, ok := t.Slashed(); err == nil && r.Status == http.StatusNotFound && ok {
			if req, err = build(slashed); err != nil {
				return Result{}, &Error{op, domain, false, err}
			}
			r, err = c.do(req.WithContext(ctx), op, domain, limit)
		}
		return r, err
	}
	t, err := c.endpoint(ctx, domain, verb)
	if err != nil {
		return Result{}, err
	}
	r, err := send(t)
	if err != nil || r.Status != http.StatusNotFound || !c.directories.Expire(domain) {
		return r, err
	}
	again, err := c.endpoint(ctx, domain, verb)
	if err != nil || again == t {
		return r, nil
	}
	return send(again)
}

func (c *Client) endpoint(ctx context.Context, domain string, verb wire.Verb) (wire.Template, error) {
	dir, err := c.directories.Get(ctx, domain)
	if err != nil {
		return wire.Template{}, err
	}
	t, ok := dir.Endpoint(verb)
	if !ok || verb.Extension() && !peer.Shared(c.config.Own, dir, string(verb)) {
		return wire.Template{}, &Error{string(verb), domain, false, ErrNoEndpoint}
	}
	return t, nil
}

// do sends one request to a peer and reads the answer.
func (c *Client) do(req *http.Request, op, domain string, limit int64) (Result, error) {
	response, err := c.send(req, op, domain)
	if err != nil {
		return Result{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		c.breaker.Failure(domain)
		return Result{}, &Error{op, domain, true, fmt.Errorf("read the answer: %w", err)}
	}
	if int64(len(body)) > limit {
		return Result{}, &Error{op, domain, false, ErrTooLarge}
	}
	return Result{response.StatusCode, body, retryAfter(response.Header, c.config.Now()), response.Header}, nil
}

// send sends one request and returns the answer with its body unread.
func (c *Client) send(req *http.Request, op, domain string) (*http.Response, error) {
	if c.config.Book.Of(domain).Blocked {
		return nil, &Error{op, domain, false, peer.ErrBlocked}
	}
	if domain == c.Domain() {
		return nil, &Error{op, domain, false, errors.New("the peer is ourselves")}
	}
	if err := c.breaker.Allow(domain); err != nil {
		return nil, &Error{op, domain, true, err}
	}
	req.Header.Set("From", peer.FormatFrom(c.Domain()))
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", c.config.UserAgent)
	// Host is the URL's host. On the peer's own domain that is the peer; a port in it does not count for identification.
	if sameHost(req.URL, domain) {
		req.Host = req.URL.Host
	}
	client := http.Client{Transport: c.transport(domain), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(req)
	if err != nil {
		if req.Context().Err() == nil || errors.Is(req.Context().Err(), context.DeadlineExceeded) {
			c.breaker.Failure(domain)
		}
		return nil, &Error{op, domain, !errors.Is(err, peer.ErrBlocked), err}
	}
	if response.StatusCode >= 500 && response.StatusCode != http.StatusServiceUnavailable {
		c.breaker.Failure(domain)
	} else {
		c.breaker.Success(domain)
	}
	if e := response.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		response.Body.Close()
		return nil, &Error{op, domain, false, ErrEncoding}
	}
	return response, nil
}

// maxRetryAfter bounds what a peer may make us wait.
const maxRetryAfter = time.Hour

// retryAfter reads Retry-After (RFC 9110 §10.2.3): seconds or a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(v, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
