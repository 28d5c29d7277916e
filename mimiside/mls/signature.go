package mls

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"io"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// SignatureKey is a private signature key of a suite (RFC 9420 §5.1.1, §5.1.2). It prints as [secret].
type SignatureKey struct {
	suite Suite
	pub   []byte
	ed    ed25519.PrivateKey
	ec    *ecdsa.PrivateKey
}

// GenerateSignatureKey makes a signature key from rand.
func GenerateSignatureKey(rand io.Reader, suite Suite) (*SignatureKey, error) {
	p, err := suite.params()
	if err != nil {
		return nil, err
	}
	seed, err := randomBytes(rand, max(p.nsk, 32))
	if err != nil {
		return nil, err
	}
	defer seed.Wipe()
	if p.curve == nil {
		return NewSignatureKey(suite, seed[:ed25519.SeedSize])
	}
	// A uniform scalar from a seed: DeriveKeyPair of the KEM on the same curve (RFC 9180 §7.1.3).
	k, err := p.kemOfCurve().DeriveKeyPair(seed)
	if err != nil {
		return nil, fail(KindBug, "generate signature key", ErrKey)
	}
	scalar, err := k.Bytes()
	if err != nil {
		return nil, fail(KindBug, "generate signature key", ErrKey)
	}
	return NewSignatureKey(suite, scalar)
}

func (p *suiteParams) kemOfCurve() hpke.KEM {
	switch p.curve {
	case elliptic.P256():
		return hpke.DHKEM(ecdh.P256())
	case elliptic.P384():
		return hpke.DHKEM(ecdh.P384())
	default:
		return hpke.DHKEM(ecdh.P521())
	}
}

// NewSignatureKey reads a private key: an Ed25519 seed of 32 bytes, or an ECDSA scalar, whose leading zeros may be
// missing.
func NewSignatureKey(suite Suite, priv Secret) (*SignatureKey, error) {
	p, err := suite.params()
	if err != nil {
		return nil, err
	}
	if p.curve == nil {
		if len(priv) != ed25519.SeedSize {
			return nil, fail(KindInvalid, "read signature key", ErrKey)
		}
		ed := ed25519.NewKeyFromSeed(priv)
		return &SignatureKey{suite: suite, ed: ed, pub: ed.Public().(ed25519.PublicKey)}, nil
	}
	scalar := make(Secret, (p.curve.Params().BitSize+7)/8)
	if len(priv) > len(scalar) {
		return nil, fail(KindInvalid, "read signature key", ErrKey)
	}
	copy(scalar[len(scalar)-len(priv):], priv)
	ec, err := ecdsa.ParseRawPrivateKey(p.curve, scalar)
	if err != nil {
		return nil, fail(KindInvalid, "read signature key", ErrKey)
	}
	pub, err := ec.PublicKey.Bytes()
	if err != nil {
		return nil, fail(KindInvalid, "read signature key", ErrKey)
	}
	return &SignatureKey{suite: suite, ec: ec, pub: pub}, nil
}

// Suite returns the suite that the key is bound to.
func (k *SignatureKey) Suite() Suite { return k.suite }

// Public returns the public key as it stands in leaf nodes: 32 bytes, or an uncompressed point.
func (k *SignatureKey) Public() []byte { return k.pub }

// As returns the same key bound to another suite, false when that has another signature scheme.
func (k *SignatureKey) As(suite Suite) (*SignatureKey, bool) {
	if !suite.SignsLike(k.suite) {
		return nil, false
	}
	same := *k
	same.suite = suite
	return &same, true
}

// SignsLike tells whether two suites have one signature scheme. Suites that the engine does not implement have none.
func (s Suite) SignsLike(other Suite) bool {
	a, b := suites[s], suites[other]
	return a != nil && b != nil && a.curve == b.curve
}

// CryptoPublic returns the public key as the standard library has it, for certificates.
func (k *SignatureKey) CryptoPublic() crypto.PublicKey {
	if k.ed != nil {
		return k.ed.Public()
	}
	return &k.ec.PublicKey
}

// Private returns the seed or scalar that NewSignatureKey reads.
func (k *SignatureKey) Private() Secret {
	if k.ed != nil {
		return Secret(k.ed.Seed())
	}
	b, err := k.ec.Bytes()
	if err != nil {
		panic("mls: ECDSA key without a scalar: " + err.Error())
	}
	return b
}

// Format prints [secret] whatever the verb is.
func (SignatureKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, secretText) }

// MarshalJSON returns "[secret]".
func (SignatureKey) MarshalJSON() ([]byte, error) { return Secret(nil).MarshalJSON() }

const signatureKeyVersion = 1

// Marshal returns the private key for sealed storage: a version byte, the suite, the private key.
func (k *SignatureKey) Marshal() Secret {
	b := tlspl.AppendUint16([]byte{signatureKeyVersion}, uint16(k.suite))
	return tlspl.AppendOpaque(b, k.Private())
}

// UnmarshalSignatureKey reads what Marshal wrote.
func UnmarshalSignatureKey(b Secret) (*SignatureKey, error) {
	r := tlspl.NewReader(b)
	k, err := readSignatureKey(r)
	if cerr := r.Close(); cerr != nil {
		return nil, fail(KindMalformed, "decode signature key", cerr)
	}
	return k, err
}

func readSignatureKey(r *tlspl.Reader) (*SignatureKey, error) {
	version, suite, priv := r.Uint8(), Suite(r.Uint16()), r.Opaque(-1)
	if err := r.Err(); err != nil {
		return nil, fail(KindMalformed, "decode signature key", err)
	}
	if version != signatureKeyVersion {
		return nil, fail(KindUnsupported, "decode signature key", ErrStateVersion)
	}
	return NewSignatureKey(suite, priv)
}

// SignWithLabel signs content under a label that the prefix "MLS 1.0 " is put before (RFC 9420 §5.1.2). ECDSA
// signatures are ASN.1 DER and deterministic (RFC 6979), so that no randomness is needed.
func SignWithLabel(key *SignatureKey, label string, content []byte) ([]byte, error) {
	msg := labelled(label, content)
	if key.ed != nil {
		return ed25519.Sign(key.ed, msg), nil
	}
	p := key.suite.must()
	sig, err := key.ec.Sign(nil, p.signatureDigest(msg), p.signatureHash())
	if err != nil {
		return nil, fail(KindBug, "sign", err)
	}
	return sig, nil
}

// Sign is SignWithLabel.
func (k *SignatureKey) Sign(label string, content []byte) ([]byte, error) {
	return SignWithLabel(k, label, content)
}

// VerifyWithLabel verifies a signature that SignWithLabel made (RFC 9420 §5.1.2): ErrSignature when it does not
// hold, ErrKey when pub is no public key of the suite.
func VerifyWithLabel(suite Suite, pub []byte, label string, content, signature []byte) error {
	p, err := suite.params()
	if err != nil {
		return err
	}
	if err := p.checkSignaturePublicKey(pub); err != nil {
		return err
	}
	msg := labelled(label, content)
	if p.curve == nil {
		if !ed25519.Verify(pub, msg, signature) {
			return fail(KindInvalid, "verify signature", ErrSignature)
		}
		return nil
	}
	ec, err := ecdsa.ParseUncompressedPublicKey(p.curve, pub)
	if err != nil {
		return fail(KindInvalid, "verify signature", ErrKey)
	}
	if !ecdsa.VerifyASN1(ec, p.signatureDigest(msg), signature) {
		return fail(KindInvalid, "verify signature", ErrSignature)
	}
	return nil
}

func (p *suiteParams) checkSignaturePublicKey(pub []byte) error {
	want := ed25519.PublicKeySize
	if p.curve != nil {
		want = 1 + 2*((p.curve.Params().BitSize+7)/8)
	}
	if len(pub) != want {
		return fail(KindInvalid, "read signature public key", ErrKey)
	}
	return nil
}

func (p *suiteParams) signatureDigest(msg []byte) []byte {
	switch p.curve {
	case elliptic.P256():
		d := sha256.Sum256(msg)
		return d[:]
	case elliptic.P384():
		d := sha512.Sum384(msg)
		return d[:]
	default:
		d := sha512.Sum512(msg)
		return d[:]
	}
}

func (p *suiteParams) signatureHash() crypto.Hash {
	switch p.curve {
	case elliptic.P256():
		return crypto.SHA256
	case elliptic.P384():
		return crypto.SHA384
	default:
		return crypto.SHA512
	}
}
