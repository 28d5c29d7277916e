package content

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
)

const (
	// StreamBuffer is how many octets SealStream and OpenStream hold at once.
	StreamBuffer = 64 << 10
	// MaxHeld is the largest external content in octets that OpenStream takes of the one algorithm that it cannot
	// stream, ChaCha20-Poly1305: that is held in memory.
	MaxHeld = 64 << 20
)

// SealStream is [Seal] for content that is read from src and whose ciphertext is written to dst, at most limit octets of
// plaintext (0 allows MaxExternal). It holds StreamBuffer octets. What was written before an error is worthless.
func SealStream(rand io.Reader, dst io.Writer, src io.Reader, limit int64) (ExternalPart, error) {
	if limit <= 0 || limit > MaxExternal-SealOverhead {
		limit = MaxExternal - SealOverhead
	}
	secret := make([]byte, 16+aeadNonceSize)
	if _, err := io.ReadFull(rand, secret); err != nil {
		return ExternalPart{}, fmt.Errorf("drawing a key for external content: %w", err)
	}
	part := ExternalPart{EncAlg: AES128GCM, Key: secret[:16:16], Nonce: secret[16:], HashAlg: SHA256}
	g, err := newGCMStream(part.Key, part.Nonce, nil)
	if err != nil {
		return ExternalPart{}, err
	}
	sum := sha256.New()
	buf := make([]byte, StreamBuffer)
	for {
		n, err := io.ReadFull(src, buf)
		if int64(g.length)+int64(n) > limit {
			return ExternalPart{}, overLimit("external content of more than %d octets", limit)
		}
		g.encrypt(buf[:n])
		sum.Write(buf[:n])
		if _, werr := dst.Write(buf[:n]); werr != nil {
			return ExternalPart{}, fmt.Errorf("writing external content: %w", werr)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return ExternalPart{}, fmt.Errorf("reading external content: %w", err)
		}
	}
	tag := g.tag()
	sum.Write(tag)
	if _, err := dst.Write(tag); err != nil {
		return ExternalPart{}, fmt.Errorf("writing external content: %w", err)
	}
	part.ContentHash, part.Size = sum.Sum(nil), g.length+SealOverhead
	return part, nil
}

// OpenStream is [ExternalPart.Open] for content of size octets in a file: it writes the plaintext to dst and returns its
// length. It holds StreamBuffer octets, and all of the content for ChaCha20-Poly1305, of which it takes MaxHeld. It writes
// before it knows whether the content is genuine: after an error all that was written must be thrown away.
func (p *ExternalPart) OpenStream(dst io.Writer, fetched io.ReaderAt, size int64) (int64, error) {
	if size > MaxExternal {
		return 0, overLimit("external content of %d octets", size)
	}
	if err := p.checkAlgorithms(); err != nil {
		return 0, err
	}
	whole := func() io.Reader { return io.NewSectionReader(fetched, 0, size) }
	switch p.EncAlg {
	case NoAEAD:
		d := p.NewDigest()
		n, err := io.CopyBuffer(io.MultiWriter(dst, d), onlyReader{whole()}, make([]byte, StreamBuffer))
		if err == nil && !d.Matches() {
			err = fmt.Errorf("%w: hash or size differs", ErrCrypto)
		}
		return n, err
	case ChaCha20Poly1305:
		if size > MaxHeld {
			return 0, overLimit("external content of %d octets for AEAD number %d", size, p.EncAlg)
		}
		held := make([]byte, size)
		if _, err := io.ReadFull(whole(), held); err != nil {
			return 0, fmt.Errorf("reading external content: %w", err)
		}
		plaintext, err := p.Open(held)
		if err != nil {
			return 0, err
		}
		n, err := dst.Write(plaintext)
		return int64(n), err
	case AES256GCM12:
		if _, err := p.openGCM(io.Discard, whole(), size, 12); err == nil {
			return p.openGCM(dst, whole(), size, 12)
		}
	}
	return p.openGCM(dst, whole(), size, SealOverhead)
}

// onlyReader hides the other methods of a reader, so that copying from it uses the given buffer.
type onlyReader struct{ io.Reader }

// openGCM decrypts AES-GCM with a tag of tagSize octets and compares tag and hash.
func (p *ExternalPart) openGCM(dst io.Writer, src io.Reader, size int64, tagSize int) (int64, error) {
	length := size - int64(tagSize)
	if length < 0 {
		return 0, fmt.Errorf("%w: does not decrypt", ErrCrypto)
	}
	g, err := newGCMStream(p.Key, p.Nonce, p.AAD)
	if err != nil {
		return 0, err
	}
	var outer, inner hash.Hash
	if p.HashAlg != NoHash {
		outer, inner = p.HashAlg.New(), p.HashAlg.New()
	}
	buf := make([]byte, StreamBuffer)
	for left := length; left > 0; {
		b := buf[:min(left, StreamBuffer)]
		if _, err := io.ReadFull(src, b); err != nil {
			return 0, fmt.Errorf("reading external content: %w", err)
		}
		if outer != nil {
			outer.Write(b)
		}
		g.decrypt(b)
		if inner != nil {
			inner.Write(b)
		}
		if _, err := dst.Write(b); err != nil {
			return 0, fmt.Errorf("writing external content: %w", err)
		}
		left -= int64(len(b))
	}
	tag := make([]byte, tagSize)
	if _, err := io.ReadFull(src, tag); err != nil {
		return 0, fmt.Errorf("reading external content: %w", err)
	}
	if subtle.ConstantTimeCompare(tag, g.tag()[:tagSize]) != 1 {
		return 0, fmt.Errorf("%w: does not decrypt", ErrCrypto)
	}
	if outer == nil {
		return length, nil
	}
	outer.Write(tag)
	if subtle.ConstantTimeCompare(outer.Sum(nil), p.ContentHash)|subtle.ConstantTimeCompare(inner.Sum(nil), p.ContentHash) != 1 {
		return 0, fmt.Errorf("%w: hash differs", ErrCrypto)
	}
	return length, nil
}

// gcmStream is AES-GCM with a nonce of 12 octets in pieces (NIST SP 800-38D §7), for content too large for a buffer: the
// standard library has it in one piece only. Its multiplication looks up tables by data, so that an observer of the
// processor's caches might learn about the key; it is used for the keys of single files only.
type gcmStream struct {
	ctr    cipher.Stream
	mask   [16]byte
	table  [16]gcmElement
	y      gcmElement
	part   [16]byte // a block that is not complete
	filled int
	aad    uint64
	length uint64
}

// gcmElement is an element of GF(2^128); low has its first eight octets.
type gcmElement struct{ low, high uint64 }

func newGCMStream(key, nonce, aad []byte) (*gcmStream, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("external content: %w", err)
	}
	var h, counter [16]byte
	block.Encrypt(h[:], h[:])
	copy(counter[:], nonce)
	counter[15] = 1
	g := &gcmStream{ctr: cipher.NewCTR(block, counter[:])}
	g.ctr.XORKeyStream(g.mask[:], g.mask[:])
	x := gcmElement{binary.BigEndian.Uint64(h[:8]), binary.BigEndian.Uint64(h[8:])}
	g.table[reverse4(1)] = x
	for i := 2; i < 16; i += 2 {
		d := g.table[reverse4(i/2)].double()
		g.table[reverse4(i)] = d
		g.table[reverse4(i+1)] = gcmElement{d.low ^ x.low, d.high ^ x.high}
	}
	g.update(aad)
	g.pad()
	g.aad = uint64(len(aad))
	return g, nil
}

func (g *gcmStream) encrypt(b []byte) {
	g.ctr.XORKeyStream(b, b)
	g.update(b)
	g.length += uint64(len(b))
}

func (g *gcmStream) decrypt(b []byte) {
	g.update(b)
	g.ctr.XORKeyStream(b, b)
	g.length += uint64(len(b))
}

// tag ends the stream.
func (g *gcmStream) tag() []byte {
	g.pad()
	g.y.low ^= g.aad * 8
	g.y.high ^= g.length * 8
	g.multiply()
	out := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, g.y.low), g.y.high)
	subtle.XORBytes(out, out, g.mask[:])
	return out
}

func (g *gcmStream) update(b []byte) {
	if g.filled > 0 {
		n := copy(g.part[g.filled:], b)
		g.filled += n
		if b = b[n:]; g.filled < len(g.part) {
			return
		}
		g.block(g.part[:])
		g.filled = 0
	}
	for ; len(b) >= 16; b = b[16:] {
		g.block(b)
	}
	g.filled = copy(g.part[:], b)
}

func (g *gcmStream) pad() {
	if g.filled > 0 {
		clear(g.part[g.filled:])
		g.block(g.part[:])
		g.filled = 0
	}
}

func (g *gcmStream) block(b []byte) {
	g.y.low ^= binary.BigEndian.Uint64(b)
	g.y.high ^= binary.BigEndian.Uint64(b[8:])
	g.multiply()
}

// gcmReduction has what is added for the four bits that a shift pushes out.
var gcmReduction = [16]uint64{0x0000, 0x1c20, 0x3840, 0x2460, 0x7080, 0x6ca0, 0x48c0, 0x54e0, 0xe100, 0xfd20, 0xd940, 0xc560, 0x9180, 0x8da0, 0xa9c0, 0xb5e0}

// multiply sets y to y·H, four bits at a time.
func (g *gcmStream) multiply() {
	var z gcmElement
	for _, word := range [2]uint64{g.y.high, g.y.low} {
		for range 16 {
			out := z.high & 0xf
			z.high = z.high>>4 | z.low<<60
			z.low = z.low>>4 ^ gcmReduction[out]<<48
			t := &g.table[word&0xf]
			z.low ^= t.low
			z.high ^= t.high
			word >>= 4
		}
	}
	g.y = z
}

func (e gcmElement) double() gcmElement {
	d := gcmElement{low: e.low >> 1, high: e.high>>1 | e.low<<63}
	if e.high&1 == 1 {
		d.low ^= 0xe100000000000000
	}
	return d
}

// reverse4 reverses the order of four bits.
func reverse4(i int) int {
	i = i<<2&0xc | i>>2&0x3
	return i<<1&0xa | i>>1&0x5
}
