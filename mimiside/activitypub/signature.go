package activitypub

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"net/http"
	"strings"
	"time"
)

// Errors of request signatures. Both are permanent for the request.
var (
	// ErrNoSignature: the request carries none.
	ErrNoSignature = errors.New("request is not signed")
	// ErrSignature: there is one, and it does not count.
	ErrSignature = errors.New("signature refused")
)

// How far a signature's time may be off: into the past for slow queues, into the future for clocks.
const (
	maxSignatureAge  = time.Hour
	maxSignatureSkew = 5 * time.Minute
)

// maxSignatureFields bounds a Signature field in octets.
const maxSignatureField = 8 << 10

// Scheme is a kind of HTTP signatures.
type Scheme string

// The schemes.
const (
	Cavage  Scheme = "cavage"  // draft-cavage-http-signatures-12
	RFC9421 Scheme = "rfc9421" // RFC 9421
)

// ReceivedSignature is the signature of a request whose coverage, time and digest were checked, and whose key is not known
// yet. Verify makes it count.
type ReceivedSignature struct {
	KeyID   string
	Scheme  Scheme
	Created time.Time
	verify  func(pub crypto.PublicKey) error
}

// Verify checks the signature under the key that KeyID names.
func (s *ReceivedSignature) Verify(pub crypto.PublicKey) error { return s.verify(pub) }

// Incoming is a request as far as its signature is concerned.
type Incoming struct {
	Method string
	// Host is the name that the request was meant for, from the configuration: never from a header that a proxy or the sender wrote.
	Host string
	// Scheme is https, or http in tests.
	Scheme string
	// EscapedPath and RawQuery are as they were sent.
	EscapedPath, RawQuery string
	Header                http.Header
	Body                  []byte
}

// IncomingRequest takes what a signature can cover from a request and its body.
func IncomingRequest(r *http.Request, scheme, host string, body []byte) Incoming {
	return Incoming{Method: r.Method, Host: host, Scheme: scheme, EscapedPath: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery, Header: r.Header, Body: body}
}

// ReadSignature finds the signature of a request and makes all checks that need no key. Of a request with both kinds the
// one of RFC 9421 counts.
func ReadSignature(in Incoming, now time.Time) (*ReceivedSignature, error) {
	switch {
	case len(in.Header.Values("Signature-Input")) > 0:
		return readRFC9421(in, now)
	case len(in.Header.Values("Signature")) > 0 || strings.HasPrefix(in.Header.Get("Authorization"), "Signature "):
		return readCavage(in, now)
	}
	return nil, ErrNoSignature
}

// checkWindow tells whether a signature made at a time may count now.
func checkWindow(at, now time.Time) error {
	if at.Before(now.Add(-maxSignatureAge)) {
		return refuse("signed too long ago")
	}
	if at.After(now.Add(maxSignatureSkew)) {
		return refuse("signed in the future")
	}
	return nil
}

// SigningKey is the private key of an actor with the id under which the actor publishes it.
type SigningKey struct {
	ID      string
	Private *rsa.PrivateKey
}

// Sign signs a request with a scheme. The body must be the one that is sent; GETs have none. The request must be fresh: headers
// of an earlier signature are replaced. Date and Digest are set.
func (k SigningKey) Sign(r *http.Request, body []byte, scheme Scheme, now time.Time) error {
	for _, name := range []string{"Signature", "Signature-Input", "Digest", "Content-Digest", "Date", "Host"} {
		r.Header.Del(name)
	}
	r.Header.Set("Date", now.UTC().Format(http.TimeFormat))
	if scheme == RFC9421 {
		return k.signRFC9421(r, body, now)
	}
	return k.signCavage(r, body)
}

// hostOf is the host that a request goes to, with its port when that is not the scheme's own.
func hostOf(r *http.Request) string {
	if r.Host != "" {
		return r.Host
	}
	return r.URL.Host
}
