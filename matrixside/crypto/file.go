package crypto

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// ErrFileChanged says that an encrypted file is not the one that was sent.
var ErrFileChanged = errors.New("encrypted file was changed or is not whole")

// Sizes of what describes a file (Matrix spec, "Sending encrypted attachments").
const (
	fileKeySize   = 32
	fileNonceSize = 8
)

// Sealed is a file that is being encrypted: a reader of the ciphertext, which has as many octets as the file.
type Sealed struct {
	r      io.Reader
	stream cipher.Stream
	hash   hash.Hash
	file   event.EncryptedFile
	ended  bool
}

// SealFile encrypts a file with a key of its own while it is read. Two calls never give the same ciphertext, so a
// file that is to be uploaded again is sealed again.
func SealFile(rand io.Reader, r io.Reader) (*Sealed, error) {
	key, iv := make([]byte, fileKeySize), make([]byte, aes.BlockSize)
	if _, err := io.ReadFull(rand, key); err != nil {
		return nil, fmt.Errorf("encrypt file: %w", err)
	}
	// The lower half counts blocks from zero, as clients that count in 64 bits need.
	if _, err := io.ReadFull(rand, iv[:fileNonceSize]); err != nil {
		return nil, fmt.Errorf("encrypt file: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("encrypt file: %w", err)
	}
	s := &Sealed{r: r, stream: cipher.NewCTR(block, iv), hash: sha256.New()}
	s.file.Version, s.file.IV = "v2", base64.RawStdEncoding.EncodeToString(iv)
	s.file.Key.Algorithm, s.file.Key.KeyType, s.file.Key.Extractable = "A256CTR", "oct", true
	s.file.Key.KeyOps = []string{"encrypt", "decrypt"}
	s.file.Key.Key = base64.RawURLEncoding.EncodeToString(key)
	return s, nil
}

// Read implements io.Reader.
func (s *Sealed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.stream.XORKeyStream(p[:n], p[:n])
	s.hash.Write(p[:n])
	s.ended = s.ended || err == io.EOF
	return n, err
}

// File describes the file for the event that carries it, once it was read to its end; url is where it was uploaded.
func (s *Sealed) File(url string) (*event.EncryptedFile, error) {
	if !s.ended {
		// A reader that is told the length may never be asked for the end.
		if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			return nil, errors.New("describe encrypted file: it was not read to its end")
		}
	}
	f := s.file
	f.URL, f.Hashes = url, map[string]string{"sha256": base64.RawStdEncoding.EncodeToString(s.hash.Sum(nil))}
	return &f, nil
}

type opened struct {
	r      io.Reader
	stream cipher.Stream
	hash   hash.Hash
	want   []byte
}

// OpenFile decrypts a file while it is read. The hash is known at the end only: instead of io.EOF the reader then
// returns ErrFileChanged, and what was read must not be used.
func OpenFile(f *event.EncryptedFile, r io.Reader) (io.Reader, error) {
	if f == nil || f.Version != "v2" || f.Key.Algorithm != "A256CTR" {
		return nil, errors.New("decrypt file: its encryption is not known")
	}
	key, err := decode(base64.RawURLEncoding, f.Key.Key, fileKeySize)
	if err != nil {
		return nil, fmt.Errorf("decrypt file: key: %w", err)
	}
	iv, err := decode(base64.RawStdEncoding, f.IV, aes.BlockSize)
	if err != nil {
		return nil, fmt.Errorf("decrypt file: counter: %w", err)
	}
	want, err := decode(base64.RawStdEncoding, f.Hashes["sha256"], sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("decrypt file: hash: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("decrypt file: %w", err)
	}
	return &opened{r, cipher.NewCTR(block, iv), sha256.New(), want}, nil
}

// Read implements io.Reader.
func (o *opened) Read(p []byte) (int, error) {
	n, err := o.r.Read(p)
	o.hash.Write(p[:n])
	o.stream.XORKeyStream(p[:n], p[:n])
	if err == io.EOF && !hmac.Equal(o.hash.Sum(nil), o.want) {
		return n, ErrFileChanged
	}
	return n, err
}

// decode reads base64 of a known length; some clients pad it.
func decode(enc *base64.Encoding, text string, size int) ([]byte, error) {
	for len(text) > 0 && text[len(text)-1] == '=' {
		text = text[:len(text)-1]
	}
	b, err := enc.DecodeString(text)
	if err != nil || len(b) != size {
		return nil, errors.New("it is not of the right form")
	}
	return b, nil
}
