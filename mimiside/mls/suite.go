package mls

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"io"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// suiteParams are the algorithms of one cipher suite (RFC 9420 §5.1).
type suiteParams struct {
	kem     hpke.KEM
	kdf     hpke.KDF
	aead    hpke.AEAD
	newHash func() hash.Hash
	newAEAD func(key []byte) (cipher.AEAD, error)
	curve   elliptic.Curve // of the signature scheme; nil means Ed25519
	nh      int            // bytes of a hash and of a secret (KDF.Nh)
	nk      int            // bytes of an AEAD key
	nsk     int            // bytes of an HPKE private key
}

const nonceSize = 12 // AEAD.Nn of every suite

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// The table is written once and only read.
var suites = map[Suite]*suiteParams{
	SuiteX25519AES128Ed25519: {hpke.DHKEM(ecdh.X25519()), hpke.HKDFSHA256(), hpke.AES128GCM(), sha256.New, newGCM,
		nil, 32, 16, 32},
	SuiteP256AES128P256: {hpke.DHKEM(ecdh.P256()), hpke.HKDFSHA256(), hpke.AES128GCM(), sha256.New, newGCM,
		elliptic.P256(), 32, 16, 32},
	SuiteX25519ChaCha20Ed25519: {hpke.DHKEM(ecdh.X25519()), hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), sha256.New,
		chacha20poly1305.New, nil, 32, 32, 32},
	SuiteP521AES256P521: {hpke.DHKEM(ecdh.P521()), hpke.HKDFSHA512(), hpke.AES256GCM(), sha512.New, newGCM,
		elliptic.P521(), 64, 32, 66},
	SuiteP384AES256P384: {hpke.DHKEM(ecdh.P384()), hpke.HKDFSHA384(), hpke.AES256GCM(), sha512.New384, newGCM,
		elliptic.P384(), 48, 32, 48},
}

// Suites returns the suites that the engine implements, lowest number first.
func Suites() []Suite {
	return []Suite{SuiteX25519AES128Ed25519, SuiteP256AES128P256, SuiteX25519ChaCha20Ed25519, SuiteP521AES256P521,
		SuiteP384AES256P384}
}

// Check returns an error with ErrUnknownSuite when the engine does not implement the suite. The other methods and
// functions that take a suite return the same error, or panic where they return none: call Check on what came from
// outside first.
func (s Suite) Check() error {
	_, err := s.params()
	return err
}

func (s Suite) params() (*suiteParams, error) {
	if p := suites[s]; p != nil {
		return p, nil
	}
	return nil, failf(KindUnsupported, "use cipher suite", ErrUnknownSuite, "0x%04x", uint16(s))
}

func (s Suite) must() *suiteParams {
	p, err := s.params()
	if err != nil {
		panic(err)
	}
	return p
}

// HashLength returns the bytes of a hash, a MAC and a secret of the suite (KDF.Nh).
func (s Suite) HashLength() int { return s.must().nh }

// Hash returns the hash of the concatenated parts.
func (s Suite) Hash(parts ...[]byte) []byte {
	p := s.must()
	if p.nh == sha256.Size && len(parts) == 1 {
		sum := sha256.Sum256(parts[0])
		return sum[:]
	}
	h := p.newHash()
	for _, part := range parts {
		h.Write(part)
	}
	return h.Sum(make([]byte, 0, p.nh))
}

// MAC returns the HMAC of data under key (RFC 9420 §5.2).
func (s Suite) MAC(key Secret, data []byte) []byte {
	p := s.must()
	m := hmac.New(p.newHash, key)
	m.Write(data)
	return m.Sum(make([]byte, 0, p.nh))
}

// Extract is KDF.Extract (RFC 9420 §5.1).
func (s Suite) Extract(salt, ikm Secret) Secret {
	prk, err := hkdf.Extract(s.must().newHash, ikm, salt)
	if err != nil {
		panic("mls: HKDF-Extract refused: " + err.Error()) // only in FIPS mode with short keys
	}
	return prk
}

// ExpandWithLabel derives length bytes from secret under a label that the prefix "MLS 1.0 " is put before
// (RFC 9420 §8).
func (s Suite) ExpandWithLabel(secret Secret, label string, context []byte, length int) Secret {
	p := s.must()
	info := make([]byte, 0, 32+len(label)+len(context))
	info = tlspl.AppendUint16(info, uint16(length))
	info = appendLabel(info, label)
	info = tlspl.AppendOpaque(info, context)
	if length <= p.nh { // the first block of HKDF-Expand, without its bookkeeping
		m := hmac.New(p.newHash, secret)
		m.Write(append(info, 1))
		return m.Sum(make([]byte, 0, p.nh))[:length:length]
	}
	out, err := hkdf.Expand(p.newHash, secret, string(info), length)
	if err != nil {
		panic("mls: HKDF-Expand refused: " + err.Error()) // more than 255 blocks were asked for
	}
	return out
}

// DeriveSecret derives a secret of the suite's hash length with an empty context (RFC 9420 §8).
func (s Suite) DeriveSecret(secret Secret, label string) Secret {
	return s.ExpandWithLabel(secret, label, nil, s.must().nh)
}

// deriveTreeSecret is DeriveTreeSecret: the context is a generation (RFC 9420 §9).
func (s Suite) deriveTreeSecret(secret Secret, label string, generation uint32, length int) Secret {
	return s.ExpandWithLabel(secret, label, tlspl.AppendUint32(make([]byte, 0, 4), generation), length)
}

func (s Suite) zeroSecret() Secret { return make(Secret, s.must().nh) }

// newAEAD returns the suite's message cipher under key; the key's length is the suite's by construction.
func (s Suite) newAEAD(key Secret) cipher.AEAD {
	aead, err := s.must().newAEAD(key)
	if err != nil {
		panic("mls: AEAD refused its key: " + err.Error())
	}
	return aead
}

// appendLabel appends "MLS 1.0 " and label as opaque<V>.
func appendLabel(b []byte, label string) []byte {
	b = tlspl.AppendLength(b, len(labelPrefix)+len(label))
	b = append(b, labelPrefix...)
	return append(b, label...)
}

const labelPrefix = "MLS 1.0 "

// labelled returns the encoding of a struct of a prefixed label and a value: SignContent and EncryptContext.
func labelled(label string, value []byte) []byte {
	b := make([]byte, 0, len(labelPrefix)+len(label)+len(value)+8)
	return tlspl.AppendOpaque(appendLabel(b, label), value)
}

// RefHash is the hash reference of an object (RFC 9420 §5.2). The label is complete: no prefix is added.
func RefHash(suite Suite, label string, value []byte) ([]byte, error) {
	if err := suite.Check(); err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(label)+len(value)+8)
	return suite.Hash(tlspl.AppendOpaque(tlspl.AppendString(b, label), value)), nil
}

// Labels of hash references (RFC 9420 §5.2).
const (
	refLabelKeyPackage = "MLS 1.0 KeyPackage Reference"
	refLabelProposal   = "MLS 1.0 Proposal Reference"
)

// randomBytes reads n bytes from rand.
func randomBytes(rand io.Reader, n int) (Secret, error) {
	b := make(Secret, n)
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, fail(KindBug, "read randomness", ErrRandom)
	}
	return b, nil
}
