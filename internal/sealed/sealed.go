// Package sealed keeps secrets unreadable in the database: each value is encrypted with a data key,
// and the data keys are stored wrapped by a key that lies in a file outside the database
// (docs/security.md, "Secrets"). A value is bound to the row it belongs to, so that a
// ciphertext moved to another row does not open.
//
// The package does no SQL and decides no rotation; internal/store does. It cannot undo what the
// database keeps behind our back (old row versions, logs, backups): forward secrecy against a thief
// of database and key file reaches back to the last rotation of both.
package sealed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

// Format of a sealed value: one byte format, four bytes id of the data key (big endian), 24 bytes
// nonce, ciphertext with tag (XChaCha20-Poly1305).
const (
	format     = 1
	headSize   = 1 + 4
	nonceSize  = chacha20poly1305.NonceSizeX
	minimumLen = headSize + nonceSize + chacha20poly1305.Overhead
)

// Overhead is by how many bytes a sealed value is longer than the secret.
const Overhead = minimumLen

var (
	// ErrBroken says that a sealed value is not one, was changed, or belongs to another row. Permanent.
	ErrBroken = errors.New("sealed value does not open")
	// ErrUnknownKey says that the data key of a value is not loaded; another process may have made it.
	ErrUnknownKey = errors.New("unknown data key")
)

// Ring holds the data keys in the clear. It is safe for concurrent use.
type Ring struct {
	mu     sync.RWMutex
	keys   map[uint32]Secret
	active uint32
}

// NewRing returns an empty ring, which can seal nothing.
func NewRing() *Ring { return &Ring{keys: map[uint32]Secret{}} }

// NewDataKey makes a data key.
func NewDataKey(rand io.Reader) (Secret, error) {
	key := make([]byte, KeySize)
	if _, err := io.ReadFull(rand, key); err != nil {
		return nil, fmt.Errorf("making a data key: %w", err)
	}
	return key, nil
}

// Set replaces the keys; active names the one that seals and must be among them.
func (r *Ring) Set(keys map[uint32]Secret, active uint32) error {
	if len(keys[active]) != KeySize {
		return fmt.Errorf("data key %d is to be active and is not there", active)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys, r.active = maps.Clone(keys), active
	return nil
}

// Active returns the id of the key that seals.
func (r *Ring) Active() uint32 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.active
}

// IDs returns the ids of all keys in rising order.
func (r *Ring) IDs() []uint32 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.keys))
}

// Seal encrypts a secret under the active key and binds it to aad.
func (r *Ring) Seal(rand io.Reader, aad, secret []byte) ([]byte, error) {
	r.mu.RLock()
	key, id := r.keys[r.active], r.active
	r.mu.RUnlock()
	if key == nil {
		return nil, fmt.Errorf("sealing: %w", ErrUnknownKey)
	}
	var head [headSize]byte
	head[0] = format
	binary.BigEndian.PutUint32(head[1:], id)
	return sealWith(rand, key, head[:], aad, secret)
}

// Open decrypts a value sealed with the same aad. Errors: ErrUnknownKey, ErrBroken.
func (r *Ring) Open(aad, value []byte) (Secret, error) {
	id, err := KeyID(value)
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	key := r.keys[id]
	r.mu.RUnlock()
	if key == nil {
		return nil, fmt.Errorf("opening with data key %d: %w", id, ErrUnknownKey)
	}
	return openWith(key, value[headSize:], append(value[:headSize:headSize], aad...))
}

// KeyID returns the id of the data key of a sealed value.
func KeyID(value []byte) (uint32, error) {
	if len(value) < minimumLen || value[0] != format {
		return 0, fmt.Errorf("reading a value of %d bytes: %w", len(value), ErrBroken)
	}
	return binary.BigEndian.Uint32(value[1:headSize]), nil
}

// AAD writes the place of a value: a table and the row's key, each with its length, so that no two
// places give the same bytes. Accepted are string, []byte, [16]byte and int64.
func AAD(table string, key ...any) []byte {
	b := appendPart(make([]byte, 0, 64), table)
	for _, k := range key {
		switch v := k.(type) {
		case string:
			b = appendPart(b, v)
		case []byte:
			b = appendPart(b, string(v))
		case [16]byte:
			b = appendPart(b, string(v[:]))
		case int64:
			b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), uint64(v))
		default:
			panic(fmt.Sprintf("bug: a key of type %T cannot be part of a sealed value's place", k))
		}
	}
	return b
}

func appendPart(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

func sealWith(rand io.Reader, key Secret, head, aad, secret []byte) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(head)+nonceSize, len(head)+nonceSize+len(secret)+aead.Overhead())
	copy(out, head)
	nonce := out[len(head):]
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	if len(head) > 0 {
		aad = append(head[:len(head):len(head)], aad...)
	}
	return aead.Seal(out, nonce, secret, aad), nil
}

func openWith(key Secret, value, aad []byte) (Secret, error) {
	if len(value) < nonceSize+chacha20poly1305.Overhead {
		return nil, ErrBroken
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	out, err := aead.Open(nil, value[:nonceSize], value[nonceSize:], aad)
	if err != nil {
		return nil, ErrBroken
	}
	return out, nil
}
