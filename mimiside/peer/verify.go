package peer

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// MaxNames is how many DNS names of a certificate are looked at.
const MaxNames = 100

// Why a certificate is refused. Test with errors.Is.
var (
	ErrNoCertificate = errors.New("no certificate")
	ErrCertificate   = errors.New("certificate not accepted")
	ErrBlocked       = errors.New("provider is blocked")
)

// VerifyServer judges the certificate that a host showed when we connected to it on behalf of a peer: it must be for
// the host, and for the peer's domain as well unless the rule says ForeignHost, by an authority or a pin of the
// rule. The domain must be written out in the certificate; a wildcard covers hosts only.
func VerifyServer(chain []*x509.Certificate, rule Rule, domain, host string, now time.Time) error {
	if rule.Blocked {
		return ErrBlocked
	}
	if len(chain) == 0 {
		return ErrNoCertificate
	}
	if err := verifyChain(chain, rule, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, now); err != nil {
		return err
	}
	host, domain = wire.LowerDomain(host), wire.LowerDomain(domain)
	if host != domain {
		if err := chain[0].VerifyHostname(host); err != nil {
			return fmt.Errorf("%w: %w", ErrCertificate, err)
		}
		if rule.ForeignHost {
			return nil
		}
	}
	if !names(chain[0], domain) {
		return fmt.Errorf("%w: %s is not among its DNS names", ErrCertificate, domain)
	}
	return nil
}

// VerifyClient judges the certificate of a client that wants to be the provider of the domain.
func VerifyClient(chain []*x509.Certificate, rule Rule, domain string, now time.Time) error {
	if rule.Blocked {
		return ErrBlocked
	}
	if len(chain) == 0 {
		return ErrNoCertificate
	}
	if !names(chain[0], domain) {
		return fmt.Errorf("%w: %s is not among its DNS names", ErrCertificate, domain)
	}
	usages := map[EKU][]x509.ExtKeyUsage{
		EKUEither:     {x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		EKUClientAuth: {x509.ExtKeyUsageClientAuth},
		EKUAny:        {x509.ExtKeyUsageAny},
	}[rule.EKU]
	return verifyChain(chain, rule, usages, now)
}

func verifyChain(chain []*x509.Certificate, rule Rule, usages []x509.ExtKeyUsage, now time.Time) error {
	leaf := chain[0]
	options := x509.VerifyOptions{Roots: rule.Roots, Intermediates: x509.NewCertPool(), KeyUsages: usages, CurrentTime: now}
	if len(rule.Pins) > 0 {
		if !pinned(leaf, rule.Pins) {
			return fmt.Errorf("%w: its key is not pinned", ErrCertificate)
		}
		// The pin replaces the issuer: dates and usages are still checked.
		options.Roots = x509.NewCertPool()
		options.Roots.AddCert(leaf)
	}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(options); err != nil {
		return fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	return nil
}

func pinned(leaf *x509.Certificate, pins []Pin) bool {
	pin := PinOf(leaf)
	for _, p := range pins {
		if p == pin {
			return true
		}
	}
	return false
}

// names tells whether a domain is written out among the dNSNames of a certificate. Wildcards, common names and
// addresses do not count (RFC 6125 §6.4 allows to refuse them; a provider is one domain).
func names(cert *x509.Certificate, domain string) bool {
	for i, name := range cert.DNSNames {
		if i < MaxNames && strings.IndexByte(name, '*') < 0 && wire.LowerDomain(name) == wire.LowerDomain(domain) {
			return true
		}
	}
	return false
}

// onlyName returns the one domain that a certificate is for, or "" when it is for none or for several.
func onlyName(cert *x509.Certificate) string {
	if len(cert.DNSNames) != 1 || !wire.ValidDomain(cert.DNSNames[0]) {
		return ""
	}
	return wire.LowerDomain(cert.DNSNames[0])
}
