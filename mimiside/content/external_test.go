package content

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
	"pgregory.net/rapid"
)

func TestSealAndOpen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOfN(rapid.Byte(), 0, 5000).Draw(t, "plaintext")
		random := rapid.SliceOfN(rapid.Byte(), 28, 28).Draw(t, "random")
		buf := append(make([]byte, 0, len(plain)+SealOverhead), plain...)
		sealed, part, err := Seal(bytes.NewReader(random), buf)
		if err != nil {
			t.Fatal(err)
		}
		if part.EncAlg != AES128GCM || part.HashAlg != SHA256 || part.Size != uint64(len(plain)+16) || len(part.AAD) != 0 ||
			!bytes.Equal(append(bytes.Clone(part.Key), part.Nonce...), random) {
			t.Fatalf("part %#v", part)
		}
		if len(plain) > 0 && &sealed[0] != &buf[0] {
			t.Fatal("a buffer with room was not used in place")
		}
		sum := sha256.Sum256(sealed)
		if !bytes.Equal(sum[:], part.ContentHash) {
			t.Fatal("the hash is not over the ciphertext")
		}
		if i := rapid.IntRange(-1, len(sealed)-1).Draw(t, "flip"); i >= 0 {
			broken := bytes.Clone(sealed)
			broken[i] ^= 1
			if _, err := part.Open(broken); !errors.Is(err, ErrCrypto) {
				t.Fatalf("changed octet %d: %v", i, err)
			}
		}
		got, err := part.Open(sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("opened %x, %v", got, err)
		}
	})
	if _, _, err := Seal(bytes.NewReader(make([]byte, 27)), nil); err == nil {
		t.Error("a short source gave a key")
	}
}

// gcm encrypts as another implementation would.
func gcm(t *testing.T, key, nonce, plain, aad []byte, tag int) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithTagSize(block, tag)
	if err != nil {
		t.Fatal(err)
	}
	return aead.Seal(nil, nonce, plain, aad)
}

func TestOpenWhatOthersSend(t *testing.T) {
	key16, key32, nonce := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 32), bytes.Repeat([]byte{3}, 12)
	plain, aad := []byte("a picture of a cat"), []byte("aad")
	chacha, err := chacha20poly1305.New(key32)
	if err != nil {
		t.Fatal(err)
	}
	sha := func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }
	sha384 := func(b []byte) []byte { s := sha512.Sum384(b); return s[:] }
	sha512 := func(b []byte) []byte { s := sha512.Sum512(b); return s[:] }
	cases := []struct {
		name    string
		part    ExternalPart
		fetched []byte
		want    error
	}{
		{"AES-128-GCM", ExternalPart{EncAlg: 1, Key: key16, AAD: aad}, gcm(t, key16, nonce, plain, aad, 16), nil},
		{"AES-256-GCM", ExternalPart{EncAlg: 2, Key: key32, AAD: aad}, gcm(t, key32, nonce, plain, aad, 16), nil},
		{"number 8 with its tag of 12 octets", ExternalPart{EncAlg: 8, Key: key32}, gcm(t, key32, nonce, plain, nil, 12), nil},
		{"number 8 with a tag of 16 octets", ExternalPart{EncAlg: 8, Key: key32}, gcm(t, key32, nonce, plain, nil, 16), nil},
		{"ChaCha20-Poly1305", ExternalPart{EncAlg: 29, Key: key32, AAD: aad}, chacha.Seal(nil, nonce, plain, aad), nil},
		{"not encrypted", ExternalPart{}, plain, nil},
		{"not encrypted, size stated", ExternalPart{Size: uint64(len(plain))}, plain, nil},
		{"not encrypted, cut off", ExternalPart{Size: uint64(len(plain)) + 1}, plain, ErrCrypto},
		{"not encrypted, hash", ExternalPart{HashAlg: 1, ContentHash: sha(plain), Size: 9999}, plain, nil},
		{"not encrypted, other hash", ExternalPart{HashAlg: 1, ContentHash: sha(aad)}, plain, ErrCrypto},
		{"SHA-384", ExternalPart{HashAlg: 7, ContentHash: sha384(plain)}, plain, nil},
		{"SHA-512", ExternalPart{HashAlg: 8, ContentHash: sha512(plain)}, plain, nil},
		{"hash of the ciphertext", ExternalPart{EncAlg: 1, Key: key16, HashAlg: 1, ContentHash: sha(gcm(t, key16, nonce, plain, nil, 16))}, gcm(t, key16, nonce, plain, nil, 16), nil},
		{"hash and size of the plaintext", ExternalPart{EncAlg: 8, Key: key32, HashAlg: 1, ContentHash: sha(plain), Size: uint64(len(plain))}, gcm(t, key32, nonce, plain, nil, 16), nil},
		{"hash of neither", ExternalPart{EncAlg: 1, Key: key16, HashAlg: 1, ContentHash: sha(aad)}, gcm(t, key16, nonce, plain, nil, 16), ErrCrypto},
		{"other key", ExternalPart{EncAlg: 1, Key: make([]byte, 16)}, gcm(t, key16, nonce, plain, nil, 16), ErrCrypto},
		{"other aad", ExternalPart{EncAlg: 1, Key: key16, AAD: []byte("x")}, gcm(t, key16, nonce, plain, aad, 16), ErrCrypto},
		{"shorter than a tag", ExternalPart{EncAlg: 8, Key: key32}, []byte("short"), ErrCrypto},
		{"key too short", ExternalPart{EncAlg: 2, Key: key16}, plain, ErrMalformed},
		{"unknown algorithm", ExternalPart{EncAlg: 3, Key: key16}, plain, ErrUnsupported},
		{"unknown hash", ExternalPart{HashAlg: 2, ContentHash: make([]byte, 16)}, plain, ErrUnsupported},
		{"hash of wrong length", ExternalPart{HashAlg: 1, ContentHash: make([]byte, 31)}, plain, ErrMalformed},
	}
	for _, c := range cases {
		if c.part.EncAlg != 0 {
			c.part.Nonce = nonce
		}
		got, err := c.part.Open(bytes.Clone(c.fetched))
		if !errors.Is(err, c.want) || c.want == nil && (err != nil || !bytes.Equal(got, plain)) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	long := ExternalPart{EncAlg: 1, Key: key16, Nonce: make([]byte, 13), Size: MaxExternal + 1}
	if _, err := long.Open(plain); !errors.Is(err, ErrMalformed) {
		t.Errorf("nonce of 13 octets: %v", err)
	}
}

func TestCheckDownload(t *testing.T) {
	good := ExternalPart{URL: "https://files.example/x", Size: 100}
	cases := []struct {
		name   string
		change func(*ExternalPart)
		want   error
	}{
		{"good", func(*ExternalPart) {}, nil},
		{"http", func(p *ExternalPart) { p.URL = "http://files.example/x" }, nil},
		{"file", func(p *ExternalPart) { p.URL = "file:///etc/passwd" }, ErrUnsupported},
		{"data", func(p *ExternalPart) { p.URL = "data:text/plain,x" }, ErrUnsupported},
		{"no host", func(p *ExternalPart) { p.URL = "https:///x" }, ErrUnsupported},
		{"no URL", func(p *ExternalPart) { p.URL = "https://\x7f/" }, ErrMalformed},
		{"too large", func(p *ExternalPart) { p.Size = 101 }, ErrLimit},
		{"size unknown", func(p *ExternalPart) { p.Size = 0 }, nil},
		{"unknown AEAD", func(p *ExternalPart) { p.EncAlg, p.Nonce = 77, make([]byte, 12) }, ErrUnsupported},
	}
	for _, c := range cases {
		p := good
		c.change(&p)
		u, err := p.CheckDownload(100)
		if !errors.Is(err, c.want) || (err == nil) != (u != nil) || c.want == nil && err != nil {
			t.Errorf("%s: %v, %v", c.name, u, err)
		}
	}
	huge := ExternalPart{URL: good.URL, Size: MaxExternal + 1}
	if _, err := huge.CheckDownload(0); !errors.Is(err, ErrLimit) {
		t.Errorf("above the limit of Open: %v", err)
	}
}

func TestDigest(t *testing.T) {
	sum := sha256.Sum256([]byte("hello"))
	p := ExternalPart{HashAlg: SHA256, ContentHash: sum[:]}
	d := p.NewDigest()
	for _, s := range []string{"he", "", "llo"} {
		if n, err := d.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	if !d.Matches() {
		t.Error("hash in pieces differs")
	}
	if _, err := d.Write([]byte("!")); err != nil || d.Matches() {
		t.Error("another text has the same hash")
	}
	for size, want := range map[uint64]bool{0: true, 5: true, 6: false} {
		d := (&ExternalPart{Size: size}).NewDigest()
		if _, err := d.Write([]byte("hello")); err != nil || d.Matches() != want {
			t.Errorf("size %d: %v", size, d.Matches())
		}
	}
	d = (&ExternalPart{}).NewDigest()
	d.n = MaxExternal
	if _, err := d.Write([]byte{1}); !errors.Is(err, ErrLimit) {
		t.Errorf("above the limit: %v", err)
	}
}

// TestKeyIsNotPrinted: a part can be logged.
func TestKeyIsNotPrinted(t *testing.T) {
	p := ExternalPart{ContentType: "image/png", Key: []byte("topsecretkey"), EncAlg: 1}
	m := message(Part{Body: p})
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{p, m, m.Body} {
			s := fmt.Sprintf(format, v)
			if strings.Contains(s, "topsecret") || strings.Contains(s, "116 111 112") || strings.Contains(s, "0x74, 0x6f, 0x70") {
				t.Errorf("%s prints %s", format, s)
			}
		}
	}
}
