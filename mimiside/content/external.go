package content

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"fmt"
	"hash"
	"io"
	"net/url"

	"golang.org/x/crypto/chacha20poly1305"
)

// AEAD is an IANA AEAD algorithm number; 0 means not encrypted.
type AEAD uint16

// The algorithms of the IANA registry "AEAD Algorithms" that are known.
const (
	// NoAEAD: the content at the URL is not encrypted.
	NoAEAD    AEAD = 0
	AES128GCM AEAD = 1
	AES256GCM AEAD = 2
	// AES256GCM12 is AES-256-GCM with a tag of 12 octets. Some senders write the number but mean AES256GCM.
	AES256GCM12      AEAD = 8
	ChaCha20Poly1305 AEAD = 29
)

// HashAlgorithm is an IANA Named Information hash number; 0 means no hash.
type HashAlgorithm uint8

// The algorithms of the IANA registry "Named Information Hash Algorithm" that are known.
const (
	NoHash HashAlgorithm = 0
	SHA256 HashAlgorithm = 1
	SHA384 HashAlgorithm = 7
	SHA512 HashAlgorithm = 8
)

// Size returns the length of the hash in octets, 0 for NoHash and unknown algorithms.
func (h HashAlgorithm) Size() int {
	if f := h.New(); f != nil {
		return f.Size()
	}
	return 0
}

// New returns a running hash, nil for NoHash and unknown algorithms.
func (h HashAlgorithm) New() hash.Hash {
	switch h {
	case SHA256:
		return sha256.New()
	case SHA384:
		return sha512.New384()
	case SHA512:
		return sha512.New()
	}
	return nil
}

const (
	// MaxExternal is the largest external content in octets that Seal and Open take. An AEAD releases nothing
	// before it has seen everything, so that the content is held in one buffer; both work in place and need
	// no second one. Callers bound how many run at once.
	MaxExternal = 512 << 20
	// SealOverhead is by how many octets Seal makes content longer.
	SealOverhead = 16

	aeadNonceSize = 12
)

// Seal encrypts plaintext for an external part with AES-128-GCM, the one algorithm that every implementation
// has, under a key and nonce drawn from rand. It may overwrite plaintext and returns the ciphertext, in the same
// memory when cap(plaintext) allows SealOverhead more octets, and a part with EncAlg, Key, Nonce, HashAlg,
// ContentHash (SHA-256 of the ciphertext) and Size (of the ciphertext) filled in; the rest is for the caller.
func Seal(rand io.Reader, plaintext []byte) (ciphertext []byte, part ExternalPart, err error) {
	if len(plaintext) > MaxExternal-SealOverhead {
		return nil, ExternalPart{}, overLimit("external content of %d octets", len(plaintext))
	}
	secret := make([]byte, 16+aeadNonceSize)
	if _, err := io.ReadFull(rand, secret); err != nil {
		return nil, ExternalPart{}, fmt.Errorf("drawing a key for external content: %w", err)
	}
	part = ExternalPart{EncAlg: AES128GCM, Key: secret[:16:16], Nonce: secret[16:], HashAlg: SHA256}
	aead, err := newAEAD(part.EncAlg, part.Key, SealOverhead)
	if err != nil {
		return nil, ExternalPart{}, err
	}
	ciphertext = aead.Seal(plaintext[:0], part.Nonce, plaintext, nil)
	sum := sha256.Sum256(ciphertext)
	part.ContentHash, part.Size = sum[:], uint64(len(ciphertext))
	return ciphertext, part, nil
}

// newAEAD returns the algorithm with the given tag size in octets.
func newAEAD(alg AEAD, key []byte, tagSize int) (cipher.AEAD, error) {
	size := map[AEAD]int{AES128GCM: 16, AES256GCM: 32, AES256GCM12: 32, ChaCha20Poly1305: chacha20poly1305.KeySize}[alg]
	if size == 0 {
		return nil, fmt.Errorf("%w: AEAD number %d", ErrUnsupported, alg)
	}
	if len(key) != size {
		return nil, malformed("key of %d octets for AEAD number %d", len(key), alg)
	}
	if alg == ChaCha20Poly1305 {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("external content: %w", err)
	}
	return cipher.NewGCMWithTagSize(block, tagSize)
}

// CheckDownload tells, before anything is fetched, whether Open can work on the part: known algorithms, right
// lengths, a stated size of at most limit octets (0 allows MaxExternal), and a URL with scheme http or https
// and a host, which it returns. Whether the host may be contacted is for the room's asset policy to say.
func (p *ExternalPart) CheckDownload(limit uint64) (*url.URL, error) {
	u, err := url.Parse(p.URL)
	if err != nil {
		return nil, malformed("URL of external content does not parse")
	}
	if (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return nil, fmt.Errorf("%w: URL scheme %.20q of external content", ErrUnsupported, u.Scheme)
	}
	if limit == 0 || limit > MaxExternal {
		limit = MaxExternal
	}
	if p.Size > limit {
		return nil, overLimit("external content of %d octets, allowed are %d", p.Size, limit)
	}
	if err := p.checkAlgorithms(); err != nil {
		return nil, err
	}
	return u, nil
}

// checkAlgorithms checks that the hash and AEAD are known and that hash, key and nonce have their lengths.
func (p *ExternalPart) checkAlgorithms() error {
	if p.HashAlg != NoHash && p.HashAlg.Size() == 0 {
		return fmt.Errorf("%w: hash number %d", ErrUnsupported, p.HashAlg)
	}
	if p.HashAlg != NoHash && len(p.ContentHash) != p.HashAlg.Size() {
		return malformed("content hash of %d octets for hash number %d", len(p.ContentHash), p.HashAlg)
	}
	if p.EncAlg == NoAEAD {
		return nil
	}
	if len(p.Nonce) != aeadNonceSize {
		return malformed("nonce of %d octets", len(p.Nonce))
	}
	_, err := newAEAD(p.EncAlg, p.Key, SealOverhead)
	return err
}

// Open turns the octets found at the URL into the content: it compares the hash and decrypts. It overwrites
// fetched, and the result is in the same memory. The hash may be over what is at the URL, as the draft says,
// or over the decrypted content, as some senders do; either must match when there is one. Of a part without
// hash and encryption the length must match Size when that is stated; otherwise Size is only a hint.
// Errors wrap ErrCrypto, ErrUnsupported, ErrMalformed or ErrLimit and hold no content.
func (p *ExternalPart) Open(fetched []byte) ([]byte, error) {
	if len(fetched) > MaxExternal {
		return nil, overLimit("external content of %d octets", len(fetched))
	}
	if err := p.checkAlgorithms(); err != nil {
		return nil, err
	}
	hashed := p.HashAlg == NoHash || p.hashMatches(fetched)
	if p.EncAlg == NoAEAD {
		switch {
		case !hashed:
			return nil, fmt.Errorf("%w: hash differs", ErrCrypto)
		case p.HashAlg == NoHash && p.Size != 0 && p.Size != uint64(len(fetched)):
			return nil, fmt.Errorf("%w: %d octets where %d were announced", ErrCrypto, len(fetched), p.Size)
		}
		return fetched, nil
	}
	plaintext, err := p.decrypt(fetched)
	if err != nil {
		return nil, err
	}
	if !hashed && !p.hashMatches(plaintext) {
		return nil, fmt.Errorf("%w: hash differs", ErrCrypto)
	}
	return plaintext, nil
}

func (p *ExternalPart) hashMatches(b []byte) bool {
	h := p.HashAlg.New()
	h.Write(b)
	return subtle.ConstantTimeCompare(h.Sum(nil), p.ContentHash) == 1
}

// decrypt opens fetched in place. A failed attempt destroys the buffer, so that AES256GCM12, whose number some
// senders write over 16-octet tags, gets a copy for its first attempt.
func (p *ExternalPart) decrypt(fetched []byte) ([]byte, error) {
	if p.EncAlg == AES256GCM12 {
		short, err := newAEAD(p.EncAlg, p.Key, 12)
		if err != nil {
			return nil, err
		}
		if plaintext, err := short.Open(nil, p.Nonce, fetched, p.AAD); err == nil {
			return plaintext, nil
		}
	}
	aead, err := newAEAD(p.EncAlg, p.Key, SealOverhead)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(fetched[:0], p.Nonce, fetched, p.AAD)
	if err != nil {
		return nil, fmt.Errorf("%w: does not decrypt", ErrCrypto)
	}
	return plaintext, nil
}

// Digest hashes and counts a stream of any length without holding it: for parts that are not encrypted, and
// to compare a download with its hash while it is written to a file.
type Digest struct {
	part *ExternalPart
	h    hash.Hash
	n    uint64
}

// NewDigest returns a Digest that expects the hash and size of the part, which must have passed CheckDownload.
func (p *ExternalPart) NewDigest() *Digest { return &Digest{part: p, h: p.HashAlg.New()} }

// Write adds b; it fails with ErrLimit once more than MaxExternal octets were written.
func (d *Digest) Write(b []byte) (int, error) {
	if d.n += uint64(len(b)); d.n > MaxExternal {
		return 0, overLimit("external content of more than %d octets", MaxExternal)
	}
	if d.h != nil {
		d.h.Write(b)
	}
	return len(b), nil
}

// Matches tells whether the hash of all that was written is the stated one or, when none is stated, whether
// the length is the stated one or none is stated. A mismatch is final only for a part without encryption.
func (d *Digest) Matches() bool {
	if d.h != nil {
		return bytes.Equal(d.h.Sum(nil), d.part.ContentHash)
	}
	return d.part.Size == 0 || d.part.Size == d.n
}
