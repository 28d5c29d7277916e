// Package ca is a small certificate authority for providers that trust each other by arrangement: demos, tests and
// closed federations. It issues certificates that are valid for a provider's domain as server and as client.
//
// It keeps nothing: no serial numbers, no revocation. Who needs those runs a real authority.
package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// KeyType is the kind of key that certificates are made with.
type KeyType int

// Key types. P-256 is what every TLS stack accepts.
const (
	P256 KeyType = iota
	Ed25519
)

// CA is an authority: a self-signed certificate and its key.
type CA struct {
	Certificate *x509.Certificate
	key         crypto.Signer
	keyType     KeyType
}

// New makes an authority that is valid from an hour before now for ten years.
func New(name string, keyType KeyType, now time.Time) (*CA, error) {
	key, err := newKey(keyType)
	if err != nil {
		return nil, fmt.Errorf("make a certificate authority: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, fmt.Errorf("make a certificate authority: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make a certificate authority: %w", err)
	}
	return &CA{Certificate: cert, key: key, keyType: keyType}, nil
}

// Pool returns a pool that holds this authority and no other.
func (c *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.Certificate)
	return pool
}

// PEM returns the authority's certificate.
func (c *CA) PEM() []byte { return encodeCert(c.Certificate.Raw) }

// Options change what Issue makes. The zero value gives a provider's certificate: valid from an hour before now for
// 90 days, for server and client authentication.
type Options struct {
	NotBefore, NotAfter time.Time
	Usages              []x509.ExtKeyUsage
	CommonName          string   // no name in it counts; for tests
	IPs                 []net.IP // no address counts; for tests
	SelfSigned          bool     // signed by its own key instead of the authority's; for tests
}

// Issue makes a key and a certificate for the DNS names. now is used where Options leave the dates open.
func (c *CA) Issue(now time.Time, o Options, names ...string) (tls.Certificate, error) {
	key, err := newKey(c.keyType)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue a certificate for %v: %w", names, err)
	}
	serial, err := newSerial()
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue a certificate for %v: %w", names, err)
	}
	if o.NotBefore.IsZero() {
		o.NotBefore = now.Add(-time.Hour)
	}
	if o.NotAfter.IsZero() {
		o.NotAfter = now.AddDate(0, 0, 90)
	}
	if o.Usages == nil {
		o.Usages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: o.CommonName},
		NotBefore:    o.NotBefore,
		NotAfter:     o.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  o.Usages,
		DNSNames:     names,
		IPAddresses:  o.IPs,
	}
	parent, signer := c.Certificate, c.key
	if o.SelfSigned {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue a certificate for %v: %w", names, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue a certificate for %v: %w", names, err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// Write writes a certificate that Issue made to certFile and its key to keyFile (mode 0600).
func Write(cert tls.Certificate, certFile, keyFile string) error {
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return fmt.Errorf("write a certificate's key: %w", err)
	}
	var certs []byte
	for _, c := range cert.Certificate {
		certs = append(certs, encodeCert(c)...)
	}
	for _, f := range []string{certFile, keyFile} {
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			return fmt.Errorf("write a certificate: %w", err)
		}
	}
	if err := os.WriteFile(certFile, certs, 0o644); err != nil {
		return fmt.Errorf("write a certificate: %w", err)
	}
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("write a certificate's key: %w", err)
	}
	return nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func newKey(t KeyType) (crypto.Signer, error) {
	if t == Ed25519 {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
}
