package peer

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"sync/atomic"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// EKU says which extended key usages a client certificate of a peer must have.
type EKU int

// Policies for extended key usages. Public authorities stopped issuing clientAuth, so the default takes a server
// certificate in the client's role too.
const (
	EKUEither     EKU = iota // clientAuth or serverAuth
	EKUClientAuth            // clientAuth
	EKUAny                   // not looked at
)

// Pin is the SHA-256 of a certificate's SubjectPublicKeyInfo.
type Pin [sha256.Size]byte

// PinOf returns the pin of a certificate.
func PinOf(cert *x509.Certificate) Pin { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// ParsePin reads a pin as 64 hexadecimal digits; colons between bytes are allowed.
func ParsePin(s string) (Pin, error) {
	var p Pin
	clean := make([]byte, 0, 2*len(p))
	for i := 0; i < len(s); i++ {
		if s[i] != ':' {
			clean = append(clean, s[i])
		}
	}
	if len(clean) != 2*len(p) {
		return p, fmt.Errorf("pin %q is not the hexadecimal SHA-256 of a public key", s)
	}
	if _, err := hex.Decode(p[:], clean); err != nil {
		return p, fmt.Errorf("pin %q is not the hexadecimal SHA-256 of a public key", s)
	}
	return p, nil
}

// Limits bound what one peer may ask for. Zero fields take the values of [DefaultLimits].
type Limits struct {
	PerSecond   float64 // requests a second, on average
	Burst       int     // requests at once
	Concurrent  int     // requests in progress
	Connections int     // open connections to us
}

// DefaultLimits are the limits of a peer without its own.
var DefaultLimits = Limits{PerSecond: 100, Burst: 400, Concurrent: 64, Connections: 20}

func (l Limits) withDefaults(d Limits) Limits {
	if l.PerSecond <= 0 {
		l.PerSecond = d.PerSecond
	}
	if l.Burst <= 0 {
		l.Burst = d.Burst
	}
	if l.Concurrent <= 0 {
		l.Concurrent = d.Concurrent
	}
	if l.Connections <= 0 {
		l.Connections = d.Connections
	}
	return l
}

// Rule is what the operator decided about one provider, or about all that have no rule of their own.
type Rule struct {
	// Blocked refuses the provider in both directions.
	Blocked bool
	// Roots are the authorities that may certify the provider. Nil means the public ones of the system.
	Roots *x509.CertPool
	// Pins, when there are any, take the place of Roots: the leaf must have one of these keys, whoever issued it.
	Pins []Pin
	// EKU is what the provider's client certificate must be for.
	EKU EKU
	// RequireFrom refuses requests without a From header even when the certificate names one domain only.
	RequireFrom bool
	// ForeignHost lets an endpoint on another host than the provider's domain show a certificate for that host
	// alone; otherwise it must cover the provider's domain as well.
	ForeignHost bool
	// Limits are the provider's limits.
	Limits Limits
}

// Rules are what the operator decided about all providers. They are not changed after they were handed to a Book.
type Rules struct {
	Default Rule
	Peers   map[string]Rule // by domain in lower case
}

// Of returns the rule for a domain.
func (r *Rules) Of(domain string) Rule {
	rule, ok := r.Peers[wire.LowerDomain(domain)]
	if !ok {
		rule = r.Default
	}
	rule.Limits = rule.Limits.withDefaults(r.Default.Limits.withDefaults(DefaultLimits))
	return rule
}

// Book holds the rules in force. They can be replaced while it is in use; the next request sees the new ones.
// On top of them stand the providers that were blocked while it runs.
type Book struct {
	rules   atomic.Pointer[Rules]
	blocked atomic.Pointer[map[string]bool]
}

// NewBook returns a Book with these rules.
func NewBook(r Rules) *Book {
	b := &Book{}
	b.Replace(r)
	return b
}

// Replace puts new rules in force.
func (b *Book) Replace(r Rules) { b.rules.Store(&r) }

// Block refuses these domains beside those that the rules refuse. The list takes the place of the one before.
func (b *Book) Block(domains []string) {
	set := make(map[string]bool, len(domains))
	for _, d := range domains {
		set[wire.LowerDomain(d)] = true
	}
	b.blocked.Store(&set)
}

// Of returns the rule in force for a domain.
func (b *Book) Of(domain string) Rule {
	rule := b.rules.Load().Of(domain)
	if set := b.blocked.Load(); set != nil && (*set)[wire.LowerDomain(domain)] {
		rule.Blocked = true
	}
	return rule
}

// current returns the rules in force; two calls give the same pointer as long as they were not replaced.
func (b *Book) current() *Rules { return b.rules.Load() }
