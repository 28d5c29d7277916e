package peer

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Why a request has no acceptable sender, besides what is wrong with its certificate. Test with errors.Is.
var (
	ErrFromMissing  = errors.New("no From header")
	ErrFromMismatch = errors.New("From header does not fit the certificate")
)

// ParseFrom reads a From header of draft-ietf-mimi-protocol-06 §4.1: the addr-spec mimi@<domain>. It returns the
// domain in lower case. Display names, comments, angle brackets and other local parts are refused.
func ParseFrom(header string) (domain string, err error) {
	header = strings.Trim(header, " \t")
	local, domain, ok := strings.Cut(header, "@")
	if !ok || !strings.EqualFold(local, "mimi") || !wire.ValidDomain(domain) {
		return "", fmt.Errorf("%w: it is not mimi@ and a domain", ErrFromMismatch)
	}
	return wire.LowerDomain(domain), nil
}

// FormatFrom returns the From header of a domain.
func FormatFrom(domain string) string { return "mimi@" + domain }

// identityCacheSize bounds how many verified certificates are remembered, identityCacheTime for how long.
const (
	identityCacheSize = 4096
	identityCacheTime = 10 * time.Minute
)

// Identifier tells which provider sent a request. It remembers certificates that it accepted, because one connection
// carries many requests.
type Identifier struct {
	own  string
	book *Book
	now  func() time.Time

	mu       sync.Mutex
	rules    *Rules // the rules under which known was filled
	accepted map[identityKey]time.Time
}

type identityKey struct {
	chain  [sha256.Size]byte
	domain string
}

// NewIdentifier returns an Identifier for the provider of the domain own, which accepts nobody in its own name.
func NewIdentifier(own string, book *Book, now func() time.Time) *Identifier {
	return &Identifier{own: wire.LowerDomain(own), book: book, now: now, accepted: map[identityKey]time.Time{}}
}

// Identify returns the domain of the provider that sent a request: the one of the From header, when the client
// certificate is for it and acceptable under the rule for it. Without the header the certificate decides if it
// names exactly one domain and the rule allows. It reads headers only, never the body.
func (i *Identifier) Identify(r *http.Request) (domain string, err error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return "", ErrNoCertificate
	}
	chain := r.TLS.PeerCertificates
	switch from := r.Header.Values("From"); len(from) {
	case 0:
		if domain = onlyName(chain[0]); domain == "" {
			return "", ErrFromMissing
		}
		if i.book.Of(domain).RequireFrom {
			return "", ErrFromMissing
		}
	case 1:
		if domain, err = ParseFrom(from[0]); err != nil {
			return "", err
		}
		if !names(chain[0], domain) {
			return "", fmt.Errorf("%w: the certificate is not for %s", ErrFromMismatch, domain)
		}
	default:
		return "", fmt.Errorf("%w: it is there more than once", ErrFromMismatch)
	}
	if domain == i.own {
		return "", fmt.Errorf("%w: it names ourselves", ErrFromMismatch)
	}
	if err := i.verify(chain, domain); err != nil {
		return "", err
	}
	return domain, nil
}

func (i *Identifier) verify(chain []*x509.Certificate, domain string) error {
	rules, now := i.book.current(), i.now()
	rule := i.book.Of(domain)
	if rule.Blocked {
		return ErrBlocked
	}
	key := identityKey{chainHash(chain), domain}
	i.mu.Lock()
	if i.rules != rules {
		i.rules = rules
		clear(i.accepted)
	}
	until, ok := i.accepted[key]
	i.mu.Unlock()
	if ok && now.Before(until) {
		return nil
	}
	if err := VerifyClient(chain, rule, domain, now); err != nil {
		return err
	}
	until = now.Add(identityCacheTime)
	for _, c := range chain {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.rules != rules {
		return nil // the rules changed meanwhile: accepted once, not remembered
	}
	if len(i.accepted) >= identityCacheSize {
		clear(i.accepted)
	}
	i.accepted[key] = until
	return nil
}

func chainHash(chain []*x509.Certificate) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, c := range chain {
		one := sha256.Sum256(c.Raw)
		h.Write(one[:])
	}
	h.Sum(sum[:0])
	return sum
}
