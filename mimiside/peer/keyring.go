package peer

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Keyring holds the provider's own certificate for both roles. It can be replaced while connections are open; new
// connections use the new one.
type Keyring struct {
	domain            string
	certFile, keyFile string
	cert              atomic.Pointer[tls.Certificate]
}

// NewKeyring returns a Keyring with a certificate that was made elsewhere. The certificate must be for the domain.
func NewKeyring(domain string, cert tls.Certificate) (*Keyring, error) {
	k := &Keyring{domain: wire.LowerDomain(domain)}
	return k, k.Replace(cert)
}

// LoadKeyring reads a certificate chain and its key from PEM files. Reload reads them again.
func LoadKeyring(domain, certFile, keyFile string) (*Keyring, error) {
	k := &Keyring{domain: wire.LowerDomain(domain), certFile: certFile, keyFile: keyFile}
	return k, k.Reload()
}

// Reload reads the files again. On an error the certificate in use stays.
func (k *Keyring) Reload() error {
	if k.certFile == "" {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(k.certFile, k.keyFile)
	if err != nil {
		return fmt.Errorf("load the certificate of %s: %w", k.domain, err)
	}
	return k.Replace(cert)
}

// Replace puts a certificate into use. It refuses one that is not for the domain.
func (k *Keyring) Replace(cert tls.Certificate) error {
	if len(cert.Certificate) == 0 {
		return fmt.Errorf("use the certificate of %s: %w", k.domain, errors.New("it is empty"))
	}
	if cert.Leaf == nil {
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil {
			return fmt.Errorf("use the certificate of %s: %w", k.domain, err)
		}
		cert.Leaf = leaf
	}
	if !names(cert.Leaf, k.domain) {
		return fmt.Errorf("use the certificate of %s: %w", k.domain, errors.New("the domain is not among its DNS names"))
	}
	k.cert.Store(&cert)
	return nil
}

// Domain returns the provider's own domain.
func (k *Keyring) Domain() string { return k.domain }

// Leaf returns the certificate in use.
func (k *Keyring) Leaf() *x509.Certificate { return k.cert.Load().Leaf }

// NotAfter returns when the certificate in use expires.
func (k *Keyring) NotAfter() time.Time { return k.Leaf().NotAfter }

// Certificate returns the certificate in use with its key.
func (k *Keyring) Certificate() *tls.Certificate { return k.cert.Load() }

// ServerTLS returns the TLS configuration of the provider's server. It asks for a client certificate and takes any,
// or none: the directory and WebFinger are for everyone, and whoever calls an endpoint is judged request by
// request by [Identifier.Identify], so that new rules hold for open connections and a refusal has a reason.
func (k *Keyring) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequestClientCert,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return k.cert.Load(), nil
		},
		// A resumed session would skip the proof that the client has its key today.
		SessionTicketsDisabled: true,
	}
}

// ClientTLS returns the TLS configuration for connections to a peer: the own certificate is always shown, and the
// peer's is judged by the rule in force when the connection is made.
func (k *Keyring) ClientTLS(book *Book, domain string, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return k.cert.Load(), nil
		},
		// Verification is VerifyConnection's: it knows the peer's rule, which crypto/tls does not.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			return VerifyServer(s.PeerCertificates, book.Of(domain), domain, s.ServerName, now())
		},
	}
}

// ReadPool reads certificates of authorities from a PEM file.
func ReadPool(file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("read authorities: %w", errors.New(file+" holds no certificate"))
	}
	return pool, nil
}

// ReadCertificates reads all certificates in a PEM file, as DER.
func ReadCertificates(file string) ([][]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	var out [][]byte
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("read certificates: %s: %w", file, err)
		}
		out = append(out, block.Bytes)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("read certificates: %w", errors.New(file+" holds no certificate"))
	}
	return out, nil
}
