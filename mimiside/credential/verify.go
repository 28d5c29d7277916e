package credential

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Bounds on what is looked at.
const (
	// MaxChain is how many certificates a credential may have, MaxCertificate how long each may be in bytes.
	MaxChain       = 4
	MaxCertificate = 8 << 10
	// MaxURIs is how many URIs a client's certificate may name.
	MaxURIs = 8
	// MaxValidity is how long a client's certificate may be valid.
	MaxValidity = 400 * 24 * time.Hour
	// MaxAuthorities is how many authorities of a provider count.
	MaxAuthorities = 8
)

// Why a certificate is refused, all of them permanent but ErrNotYet. Test with errors.Is.
var (
	ErrForm      = errors.New("the certificate chain cannot be read, or is too long or too large")
	ErrUse       = errors.New("the certificate is not one of a client")
	ErrKey       = errors.New("the certificate is for another key")
	ErrNames     = errors.New("the certificate's names are not those of one client, its user and their domain")
	ErrNotYet    = errors.New("the certificate is not valid yet")
	ErrExpired   = errors.New("the certificate has expired")
	ErrLife      = errors.New("the certificate is valid for too long")
	ErrUntrusted = errors.New("the certificate does not chain to an authority of the provider that it names")
)

// Query is what is asked of a credential.
type Query struct {
	Credential *mls.Credential
	// SignatureKey is the key of the leaf, as it stands there.
	SignatureKey []byte
	// Authorities are those of the provider whose user the credential names.
	Authorities []*x509.Certificate
	Now         time.Time
	// Expired accepts a certificate that was good until it ended: that of a member who was let in while it was good.
	Expired bool
}

// Verify judges an X.509 credential (RFC 9420 §5.3.1; docs/credentials.md). The chain must go, certificate by certificate, to one
// of the authorities, the first one must be for the leaf's key, be in force, and name one client, its user and nobody of
// another domain.
func Verify(q Query) (room.Identity, error) {
	chain, err := parse(q.Credential)
	if err != nil {
		return room.Identity{}, err
	}
	leaf := chain[0]
	if err := checkUse(leaf); err != nil {
		return room.Identity{}, err
	}
	if key := publicBytes(leaf); key == nil || !bytes.Equal(key, q.SignatureKey) {
		return room.Identity{}, ErrKey
	}
	id, err := checkNames(q.Credential, leaf)
	if err != nil {
		return room.Identity{}, err
	}
	at := q.Now
	switch {
	case at.Before(leaf.NotBefore):
		return room.Identity{}, ErrNotYet
	case leaf.NotAfter.Sub(leaf.NotBefore) > MaxValidity:
		return room.Identity{}, ErrLife
	case at.After(leaf.NotAfter) && !q.Expired:
		return room.Identity{}, ErrExpired
	case at.After(leaf.NotAfter):
		at = leaf.NotAfter
	}
	return id, checkChain(chain, q.Authorities, at)
}

func parse(cred *mls.Credential) ([]*x509.Certificate, error) {
	if cred.Type != mls.CredentialX509 || len(cred.Certificates) == 0 || len(cred.Certificates) > MaxChain {
		return nil, ErrForm
	}
	chain := make([]*x509.Certificate, len(cred.Certificates))
	for i, der := range cred.Certificates {
		if len(der) > MaxCertificate {
			return nil, ErrForm
		}
		var err error
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("%w: certificate %d", ErrForm, i)
		}
	}
	return chain, nil
}

func checkUse(leaf *x509.Certificate) error {
	switch {
	case leaf.Version != 3, leaf.IsCA:
		return ErrUse
	case leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return ErrUse
	case len(leaf.DNSNames)+len(leaf.IPAddresses) > 0: // of a host or a provider
		return ErrUse
	}
	return nil
}

// publicBytes returns the key of a certificate as a leaf node has it (RFC 9420 §5.1.1), nil for other kinds of keys.
func publicBytes(cert *x509.Certificate) []byte {
	switch key := cert.PublicKey.(type) {
	case ed25519.PublicKey:
		return key
	case *ecdsa.PublicKey:
		if b, err := key.Bytes(); err == nil {
			return b
		}
	}
	return nil
}

// checkNames demands a client and its user of one domain, and an acct: URI of no other domain.
func checkNames(cred *mls.Credential, leaf *x509.Certificate) (room.Identity, error) {
	if len(leaf.URIs) > MaxURIs {
		return room.Identity{}, ErrNames
	}
	id, err := room.IdentityOf(cred)
	if err != nil {
		return id, fmt.Errorf("%w: %w", ErrNames, err)
	}
	if id.Client == "" {
		return id, fmt.Errorf("%w: no client", ErrNames)
	}
	client, err := id.Client.Parse()
	if err != nil {
		return id, fmt.Errorf("%w: %w", ErrNames, err)
	}
	if user, ok := client.User(); !ok || !user.Same(id.User) {
		return id, fmt.Errorf("%w: the client is another user's", ErrNames)
	}
	for _, u := range leaf.URIs {
		switch u.Scheme {
		case "mimi":
			// Rooms, groups and providers are no members.
			p, err := wire.ParseURI(u.String())
			if err != nil || p.Kind() != wire.KindClient && p.Kind() != wire.KindUser {
				return id, fmt.Errorf("%w: a MIMI URI of another kind", ErrNames)
			}
		case "acct":
			at := strings.LastIndexByte(u.Opaque, '@')
			if at <= 0 || wire.LowerDomain(u.Opaque[at+1:]) != id.Domain() {
				return id, fmt.Errorf("%w: an account of another domain", ErrNames)
			}
		default:
			return id, fmt.Errorf("%w: a URI of another scheme", ErrNames)
		}
	}
	return id, nil
}

// checkChain demands that the chain leads in the order given to one of the authorities, which may be its last certificate.
func checkChain(chain, authorities []*x509.Certificate, at time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for i, c := range authorities {
		if i < MaxAuthorities {
			roots.AddCert(c)
		}
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	paths, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	for _, path := range paths {
		if begins(path, chain) {
			return nil
		}
	}
	return fmt.Errorf("%w: the certificates are not in order", ErrUntrusted)
}

func begins(path, with []*x509.Certificate) bool {
	if len(path) < len(with) {
		return false
	}
	for i := range with {
		if !path[i].Equal(with[i]) {
			return false
		}
	}
	return true
}

// ParseAuthorities reads the certificates of a provider's authorities (DER). Those that cannot be read or are none are left out.
func ParseAuthorities(list [][]byte) []*x509.Certificate {
	var out []*x509.Certificate
	for _, der := range list {
		if len(out) == MaxAuthorities {
			break
		}
		if len(der) > MaxCertificate {
			continue
		}
		if c, err := x509.ParseCertificate(der); err == nil && c.IsCA && c.BasicConstraintsValid {
			out = append(out, c)
		}
	}
	return out
}
