package relay

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// A cursor says where the next page of a search begins. It is encrypted, because that may be a user who is not found; it is good
// for the same provider and the same query, and for an hour.

const (
	cursorSecret = "search.cursor"
	cursorLasts  = time.Hour
)

// loadCursorKey makes the key of cursors where there is none yet.
func (r *Relay) loadCursorKey(ctx context.Context) error {
	key, err := r.secret(ctx, cursorSecret, func() ([]byte, error) {
		b := make([]byte, 32)
		_, err := io.ReadFull(r.Rand, b)
		return b, err
	})
	if err != nil {
		return fmt.Errorf("load the key of cursors: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return fmt.Errorf("load the key of cursors: %w", err)
	}
	r.cursors, err = cipher.NewGCM(block)
	return err
}

// cursorFor is what a cursor is bound to.
func cursorFor(peer string, q *wire.IdentifierRequest) []byte {
	h := sha256.New()
	h.Write([]byte(peer))
	h.Write([]byte{0})
	h.Write((&wire.IdentifierRequest{Elements: q.Elements}).Marshal())
	return h.Sum(nil)
}

func (r *Relay) sealCursor(peer string, q *wire.IdentifierRequest, after string) ([]byte, error) {
	nonce := make([]byte, r.cursors.NonceSize())
	if _, err := io.ReadFull(r.Rand, nonce); err != nil {
		return nil, fmt.Errorf("make a cursor: %w", err)
	}
	plain := binary.BigEndian.AppendUint64(nil, uint64(r.Clock().Add(cursorLasts).UnixMilli()))
	return r.cursors.Seal(nonce, nonce, append(plain, after...), cursorFor(peer, q)), nil
}

// openCursor says where a page begins: "" for the first.
func (r *Relay) openCursor(peer string, q *wire.IdentifierRequest, cursor []byte) (string, error) {
	if len(cursor) == 0 {
		return "", nil
	}
	n := r.cursors.NonceSize()
	if len(cursor) > n {
		plain, err := r.cursors.Open(nil, cursor[:n], cursor[n:], cursorFor(peer, q))
		if err == nil && len(plain) > 8 && int64(binary.BigEndian.Uint64(plain)) > r.Clock().UnixMilli() {
			return string(plain[8:]), nil
		}
	}
	return "", fmt.Errorf("%w: the cursor is not of this search, or too old", wire.ErrMalformed)
}
