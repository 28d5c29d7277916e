// Package media moves files between the Matrix media repository and the MIMI side, where files are encrypted one by one and
// lie on web servers (draft-ietf-mimi-content-08, ExternalPart). It keeps the bridge's own encrypted files in a directory and serves
// them, and it is the sender of the outbox's "media" lanes.
//
// Assets are not held in memory: a transfer has a few buffers of 64 KiB and temporary files without a name. Held are what is
// encrypted with ChaCha20-Poly1305 (up to content.MaxHeld), what travels in a message (Upload.Inline, MaxPreview) and pictures of
// rooms (Pictures.Limit). How many transfers run at once is bounded.
//
// It does not know rooms: what may be fetched, from where and how large it may be is decided by the relay and stands in the job.
package media

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// Verbs of rows, and the kind of their lanes.
const (
	Kind       = "media"
	VerbUpload = "upload" // a file of Matrix becomes an asset; the body is an Upload, the answer an Uploaded
	VerbFetch  = "fetch"  // a file of a MIMI message goes to Matrix; the body is a Fetch, the answer a Fetched
)

// Bounds of what comes with a file.
const (
	MaxPreview   = 16 << 10  // octets of a preview that travels in a message
	MaxThumbnail = 256 << 10 // octets of a preview that is taken from a message
)

// Errors that end the tries. All others are temporary.
var (
	ErrRefused  = errors.New("the file cannot be had")
	ErrTooLarge = errors.New("the file is too large")
	// ErrExpired: the time up to which its sender keeps the file is over.
	ErrExpired = errors.New("the file has expired")
	ErrDamaged = errors.New("the file is not what was announced")
)

// Upload is a file of the Matrix media repository that is to become an asset.
type Upload struct {
	MXC       string               `json:"mxc"`
	Encrypted *event.EncryptedFile `json:"file,omitempty"`
	Mimetype  string               `json:"type,omitempty"`
	Limit     int64                `json:"limit"` // octets of plaintext
	// Thumbnail becomes a preview if it is small enough.
	Thumbnail *Upload `json:"thumbnail,omitempty"`
	// Inline is up to how many octets a file becomes no asset: it travels in the message.
	Inline int64 `json:"inline,omitempty"`
}

// inlineScheme begins the URL of a file that travels in the message.
const inlineScheme = "inline:"

// IsInline tells whether an address is one of a file that travels in the message (Uploaded.Inline).
func IsInline(address string) bool { return strings.HasPrefix(address, inlineScheme) }

// Uploaded is an asset.
type Uploaded struct {
	Token string `json:"token"`
	Size  int64  `json:"size"` // octets of plaintext
	// Part has the encryption, URL and size.
	Part        content.ExternalPart `json:"part"`
	Sniffed     string               `json:"sniffed,omitempty"` // media type that the content looks like, "" if that says nothing
	Preview     []byte               `json:"preview,omitempty"`
	PreviewType string               `json:"preview_type,omitempty"`
	// Inline is the file itself when it is no asset; Part then has an address that IsInline knows, and Token is no file's.
	Inline []byte `json:"inline,omitempty"`
}

// Fetch is a file of a MIMI message that is to be put into the Matrix media repository.
type Fetch struct {
	External *content.ExternalPart `json:"external,omitempty"`
	Inline   []byte                `json:"inline,omitempty"` // instead of External
	Mimetype string                `json:"type"`
	Name     string                `json:"name,omitempty"`
	Limit    int64                 `json:"limit"` // octets of what is at the URL
	// Hub is the provider to download through, "" for none; Direct allows to ask the asset's own host.
	Hub    string `json:"hub,omitempty"`
	Direct bool   `json:"direct,omitempty"`
	// User uploads it; Encrypt encrypts it for an encrypted room.
	User          string `json:"user"`
	Encrypt       bool   `json:"encrypt,omitempty"`
	Thumbnail     []byte `json:"thumbnail,omitempty"`
	ThumbnailType string `json:"thumbnail_type,omitempty"`
}

// Fetched is a file in the Matrix media repository.
type Fetched struct {
	MXC       string               `json:"mxc,omitempty"`
	Encrypted *event.EncryptedFile `json:"file,omitempty"`
	Size      int64                `json:"size"`
	Width     int64                `json:"w,omitempty"`
	Height    int64                `json:"h,omitempty"`
	Thumbnail *Fetched             `json:"thumbnail,omitempty"`
}

// Homeserver is its media repository. Errors that wrap ErrRefused or ErrTooLarge are final.
type Homeserver interface {
	Download(ctx context.Context, mxc string, limit int64) (io.ReadCloser, error)
	Upload(ctx context.Context, user string, r io.Reader, size int64, contentType, name string) (mxc string, err error)
}

// Remote fetches assets of other providers. Errors that wrap ErrRefused are final.
type Remote interface {
	// Proxy asks a hub for it (draft-ietf-mimi-protocol-06 §5.10), Direct the host of the URL itself.
	Proxy(ctx context.Context, hub, url string) (io.ReadCloser, error)
	Direct(ctx context.Context, url string) (io.ReadCloser, error)
}

// attachmentStream is the stream cipher of Matrix attachments (Matrix spec, "Sending encrypted attachments"): AES-256-CTR, and a
// SHA-256 of the ciphertext.
func attachmentStream(f *event.EncryptedFile) (cipher.Stream, error) {
	key, err := base64.RawURLEncoding.DecodeString(f.Key.Key)
	if err != nil || len(key) != 32 || f.Key.Algorithm != "A256CTR" || f.Version != "v2" {
		return nil, fmt.Errorf("%w: its key is of an unknown kind", ErrDamaged)
	}
	iv, err := decodeBase64(f.IV)
	if err != nil || len(iv) != 16 {
		return nil, fmt.Errorf("%w: it has no initialization vector", ErrDamaged)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewCTR(block, iv), nil
}

// decodeBase64 takes standard base64 with and without padding.
func decodeBase64(s string) ([]byte, error) {
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
}

// newAttachment draws a key for a file.
func newAttachment() (*event.EncryptedFile, error) {
	var secret [40]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return nil, err
	}
	f := &event.EncryptedFile{Version: "v2", Hashes: map[string]string{}}
	f.Key.Algorithm, f.Key.Extractable, f.Key.KeyType, f.Key.KeyOps = "A256CTR", true, "oct", []string{"encrypt", "decrypt"}
	f.Key.Key = base64.RawURLEncoding.EncodeToString(secret[:32])
	var iv [16]byte
	copy(iv[:8], secret[32:]) // the other half counts blocks
	f.IV = base64.RawStdEncoding.EncodeToString(iv[:])
	return f, nil
}

// cipherReader decrypts what is read and hashes the ciphertext.
type cipherReader struct {
	from   io.Reader
	stream cipher.Stream // nil: not encrypted
	sum    hash.Hash
}

// decrypting reads a file of Matrix as plaintext. Its verify must be called at the end.
func decrypting(from io.Reader, f *event.EncryptedFile) (*cipherReader, error) {
	r := &cipherReader{from: from, sum: sha256.New()}
	if f == nil {
		return r, nil
	}
	var err error
	r.stream, err = attachmentStream(f)
	return r, err
}

func (r *cipherReader) Read(b []byte) (int, error) {
	n, err := r.from.Read(b)
	r.sum.Write(b[:n])
	if r.stream != nil {
		r.stream.XORKeyStream(b[:n], b[:n])
	}
	return n, err
}

// verify compares the hash of an encrypted file after all was read.
func (r *cipherReader) verify(f *event.EncryptedFile) error {
	if f == nil {
		return nil
	}
	want, err := decodeBase64(f.Hashes["sha256"])
	if err != nil || subtle.ConstantTimeCompare(want, r.sum.Sum(nil)) != 1 {
		return fmt.Errorf("%w: its hash differs", ErrDamaged)
	}
	return nil
}

// encrypting reads plaintext as a file of Matrix, and hashes the ciphertext.
type encrypting struct {
	from   io.Reader
	stream cipher.Stream
	sum    hash.Hash
}

func (r *encrypting) Read(b []byte) (int, error) {
	n, err := r.from.Read(b)
	r.stream.XORKeyStream(b[:n], b[:n])
	r.sum.Write(b[:n])
	return n, err
}
