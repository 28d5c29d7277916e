package store

import (
	"context"
	"encoding/json"
	"fmt"
)

// PeerAuthorities returns the certificates of the authorities that a provider published last, or ErrNotFound when it was never asked.
func (r *Reader) PeerAuthorities(ctx context.Context, domain string) ([][]byte, error) {
	text, err := value[string](ctx, r, `SELECT authorities FROM peer WHERE domain = $1`, domain)
	if err == nil && text == "" {
		err = ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	var certs [][]byte
	if err := json.Unmarshal([]byte(text), &certs); err != nil {
		return nil, fmt.Errorf("reading the authorities of %s: %w", domain, err)
	}
	return certs, nil
}

// SetPeerAuthorities keeps the certificates of a provider's authorities in place of the last ones.
func (tx *Tx) SetPeerAuthorities(ctx context.Context, domain string, certs [][]byte) error {
	if certs == nil {
		certs = [][]byte{}
	}
	text, err := json.Marshal(certs)
	if err != nil {
		return err
	}
	_, err = tx.exec(ctx, `INSERT INTO peer (domain, authorities) VALUES ($1, $2)
		ON CONFLICT (domain) DO UPDATE SET authorities = excluded.authorities`, domain, string(text))
	return err
}
