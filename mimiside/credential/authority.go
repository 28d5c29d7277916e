package credential

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"time"

	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

const (
	// AuthorityLife is how long an authority is valid.
	AuthorityLife = 10 * 365 * 24 * time.Hour
	// AuthorityRest is how long an authority that issues must still be valid; before that the next one takes over.
	AuthorityRest = 2 * 365 * 24 * time.Hour
	// Skew is how long before its making a certificate is valid, for peers whose clocks are behind.
	Skew = time.Hour
	// day is how long the same certificate is issued to the same client.
	day = 24 * time.Hour
)

// Authority issues the certificates of one provider's clients. It prints as its certificate only.
type Authority struct {
	Certificate *x509.Certificate
	key         ed25519.PrivateKey
}

// NewAuthority makes an authority for a provider's domain, with 32 + 16 bytes of rand.
func NewAuthority(rand io.Reader, now time.Time, domain string) (*Authority, error) {
	random := make([]byte, ed25519.SeedSize+16)
	if _, err := io.ReadFull(rand, random); err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	key := ed25519.NewKeyFromSeed(random[:ed25519.SeedSize])
	template := &x509.Certificate{
		SerialNumber: serial(random[ed25519.SeedSize:]),
		Subject:      pkix.Name{CommonName: "MIMI credentials of " + domain},
		DNSNames:     []string{domain},
		NotBefore:    now.Add(-Skew), NotAfter: now.Add(AuthorityLife),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	return &Authority{Certificate: cert, key: key}, nil
}

// sign makes a certificate. Ed25519 needs no randomness, so the same template gives the same certificate.
func sign(template, parent *x509.Certificate, public any, key ed25519.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(nil, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// serial makes a positive serial number of at most 127 bits (RFC 5280 §4.1.2.2).
func serial(b []byte) *big.Int {
	n := new(big.Int).SetBytes(b[:16])
	return n.SetBit(n, 127, 0).SetBit(n, 0, 1)
}

const authorityVersion = 1

// Marshal returns certificate and key for sealed storage.
func (a *Authority) Marshal() mls.Secret {
	return tlspl.AppendOpaque(tlspl.AppendOpaque([]byte{authorityVersion}, a.Certificate.Raw), a.key.Seed())
}

// UnmarshalAuthority reads what Marshal wrote.
func UnmarshalAuthority(b mls.Secret) (*Authority, error) {
	r := tlspl.NewReader(b)
	version, der, seed := r.Uint8(), r.Opaque(-1), r.Opaque(-1)
	if err := r.Close(); err != nil || version != authorityVersion || len(seed) != ed25519.SeedSize {
		return nil, errors.New("read the provider's authority: unknown form")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the provider's authority: %w", err)
	}
	return &Authority{Certificate: cert, key: ed25519.NewKeyFromSeed(seed)}, nil
}

// Subject is who a certificate is for.
type Subject struct {
	// User and Client are MIMI URIs of the authority's provider; Acct is the user's acct: URI, "" for none.
	User, Client, Acct string
	// Key is the client's signature key.
	Key *mls.SignatureKey
}

// Issue returns an X.509 credential that is valid for life after now and at least a day longer, and the time from which another one
// is to be asked for. The same subject gets the very same bytes until then, from every process that has the authority.
func (a *Authority) Issue(now time.Time, s Subject, life time.Duration) (cred mls.Credential, until time.Time, err error) {
	from := now.UTC().Truncate(day)
	until = from.Add(day)
	var uris []*url.URL
	for _, text := range []string{s.Client, s.User, s.Acct} {
		if text == "" {
			continue
		}
		u, err := url.Parse(text)
		if err != nil || u.String() != text {
			return cred, until, fmt.Errorf("issue a certificate for %s: %q cannot stand in a certificate", s.Client, text)
		}
		uris = append(uris, u)
	}
	template := &x509.Certificate{
		SerialNumber: a.serialOf(s, from),
		URIs:         uris, // with an empty subject: the extension is critical (RFC 5280 §4.2.1.6)
		NotBefore:    from.Add(-Skew), NotAfter: until.Add(life + day),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	cert, err := sign(template, a.Certificate, s.Key.CryptoPublic(), a.key)
	if err != nil {
		return cred, until, fmt.Errorf("issue a certificate for %s: %w", s.Client, err)
	}
	cred = mls.X509Credential(cert.Raw)
	if id, err := checkNames(&cred, cert); err != nil || string(id.User) != s.User || string(id.Client) != s.Client {
		return cred, until, fmt.Errorf("issue a certificate for %s: %w", s.Client, errors.Join(err, ErrNames))
	}
	return cred, until, nil
}

// serialOf makes the serial number of a certificate from what stands in it.
func (a *Authority) serialOf(s Subject, from time.Time) *big.Int {
	h := sha256.New()
	for _, part := range [][]byte{a.Certificate.Raw, []byte(s.Client), []byte(s.User), []byte(s.Acct), s.Key.Public(),
		binary.BigEndian.AppendUint64(nil, uint64(from.Unix()))} {
		h.Write(tlspl.AppendOpaque(nil, part))
	}
	return serial(h.Sum(nil))
}
