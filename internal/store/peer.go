package store

import "context"

// Peer is another provider as we know it.
type Peer struct {
	Domain       string `db:"domain"`
	Directory    string `db:"directory"` // as fetched
	DirectoryMS  int64  `db:"directory_ms"`
	Blocked      bool   `db:"blocked"`
	Failures     int64  `db:"failures"` // in a row
	FailingSince int64  `db:"failing_since_ms"`
	LastContact  int64  `db:"last_contact_ms"` // it answered or called
	LastError    string `db:"last_error"`
	Data         string `db:"data"`
}

const peerColumns = `domain, directory, directory_ms, blocked, failures, failing_since_ms, last_contact_ms, last_error, data`

// Peer returns a provider, or ErrNotFound.
func (r *Reader) Peer(ctx context.Context, domain string) (Peer, error) {
	return get[Peer](ctx, r, `SELECT `+peerColumns+` FROM peer WHERE domain = $1`, domain)
}

// Peers returns every provider.
func (r *Reader) Peers(ctx context.Context) ([]Peer, error) {
	return list[Peer](ctx, r, `SELECT `+peerColumns+` FROM peer ORDER BY domain`)
}

// PutDirectory keeps a provider's directory.
func (tx *Tx) PutDirectory(ctx context.Context, domain, directory string, nowMS int64) error {
	_, err := tx.exec(ctx, `INSERT INTO peer (domain, directory, directory_ms) VALUES ($1, $2, $3)
		ON CONFLICT (domain) DO UPDATE SET directory = excluded.directory, directory_ms = excluded.directory_ms`, domain, directory, nowMS)
	return err
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

// PeerAnswered notes that a provider answered or called.
func (tx *Tx) PeerAnswered(ctx context.Context, domain string, nowMS int64) error {
	_, err := tx.exec(ctx, `INSERT INTO peer (domain, last_contact_ms) VALUES ($1, $2)
		ON CONFLICT (domain) DO UPDATE SET last_contact_ms = excluded.last_contact_ms, failures = 0, failing_since_ms = 0, last_error = ''`, domain, nowMS)
	return err
}

// PeerFailed notes that a provider could not be reached.
func (tx *Tx) PeerFailed(ctx context.Context, domain, reason string, nowMS int64) error {
	_, err := tx.exec(ctx, `INSERT INTO peer (domain, failures, failing_since_ms, last_error) VALUES ($1, 1, $2, $3)
		ON CONFLICT (domain) DO UPDATE SET failures = peer.failures + 1, last_error = excluded.last_error,
		failing_since_ms = CASE WHEN peer.failures = 0 THEN excluded.failing_since_ms ELSE peer.failing_since_ms END`, domain, nowMS, cut(reason, 500))
	return err
}
