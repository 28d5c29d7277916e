package store

import "context"

// Peers lists the domains of the providers of which something is noted: that they are blocked, or their authorities.
func (r *Reader) Peers(ctx context.Context) ([]string, error) {
	return column[string](ctx, r, `SELECT domain FROM peer ORDER BY domain`)
}

// BlockedPeers lists the providers that an administrator has blocked.
func (r *Reader) BlockedPeers(ctx context.Context) ([]string, error) {
	return column[string](ctx, r, `SELECT domain FROM peer WHERE blocked = 1 ORDER BY domain`)
}

// SetPeerBlocked says whether a provider is blocked.
func (tx *Tx) SetPeerBlocked(ctx context.Context, domain string, blocked bool) error {
	_, err := tx.exec(ctx, `INSERT INTO peer (domain, blocked) VALUES ($1, $2) ON CONFLICT (domain) DO UPDATE SET blocked = excluded.blocked`, domain, bit(blocked))
	return err
}
