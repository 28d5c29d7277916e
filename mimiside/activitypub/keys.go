package activitypub

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Bounds on RSA keys of others, in bits: shorter ones are forged, longer ones cost us time.
const (
	minRSABits = 2048
	maxRSABits = 8192
	maxPEM     = 16 << 10
)

// ErrPEM says that a published key cannot be used. It is permanent for that text.
var ErrPEM = errors.New("public key cannot be used")

// NewKey makes the key with which an actor signs requests: RSA of 2,048 bits, which every server takes.
func NewKey() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, minRSABits) }

// PublicPEM returns a public key as SubjectPublicKeyInfo in PEM, the form of publicKeyPem.
func PublicPEM(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("write a public key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

// ParsePublicPEM reads publicKeyPem: SubjectPublicKeyInfo, or PKCS #1 as some servers publish it. RSA of 2,048 to 8,192 bits,
// ECDSA on P-256, P-384 and P-521, Ed25519.
func ParsePublicPEM(text string) (crypto.PublicKey, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("%w: %d octets", ErrPEM, len(text))
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, fmt.Errorf("%w: not PEM", ErrPEM)
	}
	var key any
	var err error
	if block.Type == "RSA PUBLIC KEY" {
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	} else {
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrPEM, err)
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
			return nil, fmt.Errorf("%w: RSA of %d bits", ErrPEM, n)
		}
		return k, nil
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return k, nil
	}
	return nil, fmt.Errorf("%w: kind %T", ErrPEM, key)
}

// MarshalPrivateKey and ParsePrivateKey are the form for sealed storage (PKCS #8).
func MarshalPrivateKey(key *rsa.PrivateKey) ([]byte, error) { return x509.MarshalPKCS8PrivateKey(key) }

// ParsePrivateKey reads what MarshalPrivateKey wrote. Its errors hold no key.
func ParsePrivateKey(der []byte) (*rsa.PrivateKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("stored signing key is damaged")
	}
	r, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("stored signing key is not RSA")
	}
	return r, nil
}
