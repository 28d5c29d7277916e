package store

import (
	"context"
	"fmt"
)

// ActorKey is the signature key of a client of an actor of another server.
type ActorKey struct {
	Actor       string `db:"actor"`
	Fingerprint []byte `db:"fingerprint"` // SHA-256 of the key
	Client      string `db:"client"`      // what the actor says the client is, or ""
	Offered     bool   `db:"offered"`     // it was among the KeyPackages when they were last read
	FirstMS     int64  `db:"first_ms"`    // when it was first seen
	MarkedMS    int64  `db:"marked_ms"`   // when the reader marked it as right, 0 when not
}

// ActorKeys lists every key that was ever seen of an actor, oldest first, with the marks of a Matrix user ("" for none).
func (r *Reader) ActorKeys(ctx context.Context, actor, mxid string) ([]ActorKey, error) {
	return list[ActorKey](ctx, r, `SELECT k.actor, k.fingerprint, k.client, k.offered, k.first_ms, COALESCE(m.at_ms, 0) AS marked_ms
		FROM ap_key AS k LEFT JOIN ap_key_mark AS m ON m.mxid = $2 AND m.actor = k.actor AND m.fingerprint = k.fingerprint
		WHERE k.actor = $1 ORDER BY k.first_ms, k.fingerprint`, actor, mxid)
}

// MarkActorKeys notes that a Matrix user compared keys of an actor and found them right.
func (tx *Tx) MarkActorKeys(ctx context.Context, mxid, actor string, fingerprints [][]byte, nowMS int64) error {
	for _, f := range fingerprints {
		if _, err := tx.exec(ctx, `INSERT INTO ap_key_mark (mxid, actor, fingerprint, at_ms) VALUES ($1, $2, $3, $4) ON CONFLICT (mxid, actor, fingerprint) DO NOTHING`,
			mxid, actor, f, nowMS); err != nil {
			return fmt.Errorf("marking a key: %w", err)
		}
	}
	return nil
}

// maxActorKeys bounds the keys that are remembered of an actor; the oldest that are offered no longer go first.
const maxActorKeys = 100

// SeeActorKeys notes keys of an actor. When they are all that the actor offers now (all), the others are noted as offered no longer. It returns those that
// are new, and whether any was known before.
func (tx *Tx) SeeActorKeys(ctx context.Context, actor string, keys []ActorKey, all bool, nowMS int64) (fresh []ActorKey, known bool, err error) {
	had, err := tx.ActorKeys(ctx, actor, "")
	if err != nil {
		return nil, false, err
	}
	before := map[string]bool{}
	for _, k := range had {
		before[string(k.Fingerprint)] = true
	}
	if all {
		if _, err := tx.exec(ctx, `UPDATE ap_key SET offered = 0 WHERE actor = $1`, actor); err != nil {
			return nil, false, err
		}
	}
	for _, k := range keys {
		if !before[string(k.Fingerprint)] {
			fresh = append(fresh, k)
		}
		if _, err := tx.exec(ctx, `INSERT INTO ap_key (actor, fingerprint, client, offered, first_ms, seen_ms) VALUES ($1, $2, $3, $4, $5, $5)
			ON CONFLICT (actor, fingerprint) DO UPDATE SET offered = CASE WHEN excluded.offered = 1 THEN 1 ELSE ap_key.offered END, seen_ms = excluded.seen_ms,
			client = CASE WHEN excluded.client = '' THEN ap_key.client ELSE excluded.client END`,
			actor, k.Fingerprint, cut(k.Client, 200), bit(k.Offered), nowMS); err != nil {
			return nil, false, fmt.Errorf("noting a key: %w", err)
		}
	}
	if len(had)+len(fresh) > maxActorKeys {
		_, err = tx.exec(ctx, `DELETE FROM ap_key WHERE actor = $1 AND offered = 0 AND fingerprint IN
			(SELECT fingerprint FROM ap_key WHERE actor = $1 AND offered = 0 ORDER BY seen_ms LIMIT `+number(len(had)+len(fresh)-maxActorKeys)+`)`, actor)
	}
	return fresh, len(had) > 0, err
}

// Spend notes that a KeyPackage of an actor must not be used (again); names are its id and its octets.
func (tx *Tx) Spend(ctx context.Context, actor string, nowMS int64, names ...[]byte) error {
	for _, n := range names {
		if _, err := tx.exec(ctx, `INSERT INTO ap_spent (actor, name, created_ms) VALUES ($1, $2, $3) ON CONFLICT (actor, name) DO NOTHING`, actor, shortHash(n), nowMS); err != nil {
			return err
		}
	}
	return nil
}

// Spent tells since when a KeyPackage with that name (its id or its octets) must not be used (again), in milliseconds since 1970; 0: it may be.
func (r *Reader) Spent(ctx context.Context, actor string, name []byte) (int64, error) {
	return value[int64](ctx, r, `SELECT COALESCE(MAX(created_ms), 0) FROM ap_spent WHERE actor = $1 AND name = $2`, actor, shortHash(name))
}
