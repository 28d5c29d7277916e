package mls

import (
	"crypto/hpke"
	"io"
	"slices"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// HPKECiphertext is the output of EncryptWithLabel (RFC 9420 §7.6).
type HPKECiphertext struct {
	KEMOutput  []byte
	Ciphertext []byte
}

// ReadHPKECiphertext reads an HPKECiphertext from a stream.
func ReadHPKECiphertext(r *tlspl.Reader) HPKECiphertext {
	return HPKECiphertext{KEMOutput: r.Opaque(-1), Ciphertext: r.Opaque(-1)}
}

func (c *HPKECiphertext) append(b []byte) []byte {
	return tlspl.AppendOpaque(tlspl.AppendOpaque(b, c.KEMOutput), c.Ciphertext)
}

// Marshal returns the encoding.
func (c *HPKECiphertext) Marshal() []byte { return c.append(nil) }

// DeriveKeyPair derives an HPKE key pair from ikm (RFC 9180 §7.1.3). The private key has the fixed length of the
// suite.
func DeriveKeyPair(suite Suite, ikm Secret) (priv Secret, pub []byte, err error) {
	p, err := suite.params()
	if err != nil {
		return nil, nil, err
	}
	k, err := p.kem.DeriveKeyPair(ikm)
	if err != nil {
		return nil, nil, failf(KindBug, "derive HPKE key pair", ErrKey, "input key material is too short")
	}
	b, err := k.Bytes()
	if err != nil {
		return nil, nil, fail(KindBug, "derive HPKE key pair", ErrKey)
	}
	return b, k.PublicKey().Bytes(), nil
}

// GenerateKeyPair makes an HPKE key pair from rand.
func GenerateKeyPair(rand io.Reader, suite Suite) (priv Secret, pub []byte, err error) {
	p, err := suite.params()
	if err != nil {
		return nil, nil, err
	}
	ikm, err := randomBytes(rand, max(p.nsk, p.nh))
	if err != nil {
		return nil, nil, err
	}
	defer ikm.Wipe()
	return DeriveKeyPair(suite, ikm)
}

// PublicKeyOf returns the HPKE public key of priv, ErrKey when priv is none of the suite.
func PublicKeyOf(suite Suite, priv Secret) ([]byte, error) {
	p, err := suite.params()
	if err != nil {
		return nil, err
	}
	k, err := p.privateKey(priv)
	if err != nil {
		return nil, err
	}
	return k.PublicKey().Bytes(), nil
}

// CheckPublicKey tells whether pub is an HPKE public key of the suite to which something can be encrypted: right length, point
// on the curve, not of small order.
func CheckPublicKey(suite Suite, pub []byte) error {
	p, err := suite.params()
	if err != nil {
		return err
	}
	_, err = p.publicKey(pub)
	return err
}

// privateKey pads what lacks leading zeros: P-521 scalars are written both ways.
func (p *suiteParams) privateKey(priv Secret) (hpke.PrivateKey, error) {
	if n := len(priv); n < p.nsk && n > 0 {
		padded := make(Secret, p.nsk)
		copy(padded[p.nsk-n:], priv)
		priv = padded
	}
	k, err := p.kem.NewPrivateKey(priv)
	if err != nil {
		return nil, fail(KindInvalid, "read HPKE private key", ErrKey)
	}
	return k, nil
}

func (p *suiteParams) publicKey(pub []byte) (hpke.PublicKey, error) {
	k, err := p.kem.NewPublicKey(pub)
	if err != nil || p.kem.ID() == kemX25519 && smallOrder(pub) {
		return nil, fail(KindInvalid, "read HPKE public key", ErrKey)
	}
	return k, nil
}

const kemX25519 = 0x0020 // RFC 9180 §7.1

// smallOrders are the X25519 public keys on which whoever encrypts agrees on zero (RFC 7748 §6.1), so that encrypting fails.
var smallOrders = [][32]byte{
	{},
	{1},
	{0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
		0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00},
	{0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
		0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57},
	nearPrime(0xec), nearPrime(0xed), nearPrime(0xee),
}

// nearPrime is p-1, p or p+1 of the field of X25519, by its lowest byte.
func nearPrime(lowest byte) (key [32]byte) {
	for i := range key {
		key[i] = 0xff
	}
	key[0], key[31] = lowest, 0x7f
	return key
}

func smallOrder(pub []byte) bool {
	key := [32]byte(pub)
	key[31] &= 0x7f // the highest bit counts for nothing
	return slices.Contains(smallOrders, key)
}

// EncryptWithLabel encrypts plaintext to the HPKE public key pub (RFC 9420 §5.1.3). The label gets the prefix
// "MLS 1.0 ". The ephemeral key comes from the operating system's generator inside crypto/hpke, which takes no
// other: this is the one place where randomness is not an argument.
func EncryptWithLabel(suite Suite, pub []byte, label string, context, plaintext []byte) (HPKECiphertext, error) {
	p, err := suite.params()
	if err != nil {
		return HPKECiphertext{}, err
	}
	pk, err := p.publicKey(pub)
	if err != nil {
		return HPKECiphertext{}, fail(KindInvalid, "encrypt to HPKE key", err)
	}
	enc, sender, err := hpke.NewSender(pk, p.kdf, p.aead, labelled(label, context))
	if err != nil {
		return HPKECiphertext{}, fail(KindInvalid, "encrypt to HPKE key", ErrKey)
	}
	ct, err := sender.Seal(nil, plaintext)
	if err != nil {
		return HPKECiphertext{}, fail(KindBug, "encrypt to HPKE key", err)
	}
	return HPKECiphertext{KEMOutput: enc, Ciphertext: ct}, nil
}

// DecryptWithLabel decrypts what EncryptWithLabel made (RFC 9420 §5.1.3); ErrDecrypt when it was made for another
// key, label or context, or was changed.
func DecryptWithLabel(suite Suite, priv Secret, label string, context []byte, c HPKECiphertext) (Secret, error) {
	p, err := suite.params()
	if err != nil {
		return nil, err
	}
	sk, err := p.privateKey(priv)
	if err != nil {
		return nil, err
	}
	recipient, err := hpke.NewRecipient(c.KEMOutput, sk, p.kdf, p.aead, labelled(label, context))
	if err != nil {
		return nil, fail(KindInvalid, "decrypt with HPKE key", ErrDecrypt)
	}
	pt, err := recipient.Open(nil, c.Ciphertext)
	if err != nil {
		return nil, fail(KindInvalid, "decrypt with HPKE key", ErrDecrypt)
	}
	return pt, nil
}

const externalInitLabel = "MLS 1.0 external init secret"

// externalInitSend makes the init secret of an external commit for a group with the given external_pub and the KEM
// output that carries it (RFC 9420 §8.3).
func externalInitSend(suite Suite, externalPub []byte) (kemOutput []byte, initSecret Secret, err error) {
	p, err := suite.params()
	if err != nil {
		return nil, nil, err
	}
	pk, err := p.publicKey(externalPub)
	if err != nil {
		return nil, nil, fail(KindInvalid, "use external_pub", err)
	}
	enc, sender, err := hpke.NewSender(pk, p.kdf, p.aead, nil)
	if err != nil {
		return nil, nil, fail(KindInvalid, "use external_pub", ErrKey)
	}
	out, err := sender.Export(externalInitLabel, p.nh)
	if err != nil {
		return nil, nil, fail(KindBug, "use external_pub", err)
	}
	return enc, out, nil
}

// externalInitReceive recovers the init secret of an external commit from its KEM output (RFC 9420 §8.3).
func externalInitReceive(suite Suite, externalPriv Secret, kemOutput []byte) (Secret, error) {
	p, err := suite.params()
	if err != nil {
		return nil, err
	}
	sk, err := p.privateKey(externalPriv)
	if err != nil {
		return nil, err
	}
	recipient, err := hpke.NewRecipient(kemOutput, sk, p.kdf, p.aead, nil)
	if err != nil {
		return nil, fail(KindInvalid, "receive ExternalInit", ErrDecrypt)
	}
	out, err := recipient.Export(externalInitLabel, p.nh)
	if err != nil {
		return nil, fail(KindBug, "receive ExternalInit", err)
	}
	return out, nil
}
