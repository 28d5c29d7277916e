package content

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// What the stream seals the single-shot implementation opens, and the other way round, for every algorithm and length.
func TestStreamIsTheSameAsOneShot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.IntRange(0, 70), rapid.IntRange(StreamBuffer-40, StreamBuffer+40), rapid.IntRange(0, 3*StreamBuffer)).Draw(t, "n")
		plain := bytes.Repeat([]byte(rapid.StringN(1, 37, 37).Draw(t, "unit")), n)[:n]
		rand := bytes.NewReader(rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(t, "rand"))
		var sealed bytes.Buffer
		part, err := SealStream(rand, &sealed, bytes.NewReader(plain), 0)
		if err != nil {
			t.Fatal(err)
		}
		if part.Size != uint64(sealed.Len()) {
			t.Fatalf("size %d of %d octets", part.Size, sealed.Len())
		}
		opened, err := part.Open(bytes.Clone(sealed.Bytes()))
		if err != nil || !bytes.Equal(opened, plain) {
			t.Fatalf("opened %d octets: %v", len(opened), err)
		}
		for alg, shape := range map[AEAD][2]int{AES128GCM: {16, 16}, AES256GCM: {32, 16}, AES256GCM12: {32, rapid.SampledFrom([]int{12, 16}).Draw(t, "tag")}, ChaCha20Poly1305: {32, 16}} {
			p := ExternalPart{EncAlg: alg, Key: bytes.Repeat([]byte{7}, shape[0]), Nonce: bytes.Repeat([]byte{9}, 12), HashAlg: SHA256,
				AAD: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "aad")}
			aead, err := newAEAD(alg, p.Key, shape[1])
			if err != nil {
				t.Fatal(err)
			}
			box := aead.Seal(nil, p.Nonce, plain, p.AAD)
			sum := sha256.Sum256(box)
			if rapid.Bool().Draw(t, "hash of the plaintext") {
				sum = sha256.Sum256(plain)
			}
			p.ContentHash = sum[:]
			var out bytes.Buffer
			if n, err := p.OpenStream(&out, bytes.NewReader(box), int64(len(box))); err != nil || n != int64(len(plain)) || !bytes.Equal(out.Bytes(), plain) {
				t.Fatalf("AEAD %d: %d octets: %v", alg, n, err)
			}
			box[rapid.IntRange(0, len(box)-1).Draw(t, "flip")] ^= 1
			if _, err := p.OpenStream(&bytes.Buffer{}, bytes.NewReader(box), int64(len(box))); !errors.Is(err, ErrCrypto) {
				t.Fatalf("AEAD %d: a changed file opens: %v", alg, err)
			}
		}
	})
}

func TestStreamLimitsAndHashes(t *testing.T) {
	rand := bytes.NewReader(make([]byte, 256))
	if _, err := SealStream(rand, &bytes.Buffer{}, bytes.NewReader(make([]byte, 11)), 10); !errors.Is(err, ErrLimit) {
		t.Errorf("more than the limit: %v", err)
	}
	var sealed bytes.Buffer
	part, err := SealStream(rand, &sealed, bytes.NewReader([]byte("content")), 0)
	if err != nil {
		t.Fatal(err)
	}
	part.ContentHash[0] ^= 1
	if _, err := part.OpenStream(&bytes.Buffer{}, bytes.NewReader(sealed.Bytes()), int64(sealed.Len())); !errors.Is(err, ErrCrypto) {
		t.Errorf("another hash: %v", err)
	}
	plain := ExternalPart{HashAlg: SHA256, ContentHash: make([]byte, 32)}
	if _, err := plain.OpenStream(&bytes.Buffer{}, bytes.NewReader([]byte("x")), 1); !errors.Is(err, ErrCrypto) {
		t.Errorf("another hash without encryption: %v", err)
	}
}

func BenchmarkSealStream(b *testing.B) {
	data := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	for b.Loop() {
		if _, err := SealStream(bytes.NewReader(make([]byte, 32)), &bytes.Buffer{}, bytes.NewReader(data), 0); err != nil {
			b.Fatal(err)
		}
	}
}
