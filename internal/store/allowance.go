package store

import (
	"context"
	"fmt"
	"time"
)

// Allow counts n uses of something limited, such as claims of a peer, in fixed windows of the clock
// given. ErrNoCapacity when the limit would be passed; then the transaction must not go on, so that
// what was refused is not counted.
func (tx *Tx) Allow(ctx context.Context, name, key string, n, limit int64, window time.Duration, now time.Time) error {
	w := window.Milliseconds()
	start := now.UnixMilli() / w * w
	used, err := value[int64](ctx, &tx.Reader, `INSERT INTO allowance (name, key, window_ms, used, until_ms) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (name, key, window_ms) DO UPDATE SET used = allowance.used + excluded.used RETURNING used`, name, key, start, n, start+w)
	if err != nil {
		return fmt.Errorf("counting %s: %w", name, err)
	}
	if used > limit {
		return fmt.Errorf("%s of %s: %w", name, key, ErrNoCapacity)
	}
	return nil
}

// AuditEntry is something that an operator or administrator did.
type AuditEntry struct {
	AtMS    int64  `db:"at_ms"`
	Actor   string `db:"actor"`
	Action  string `db:"action"`
	Subject string `db:"subject"`
	Detail  string `db:"detail"`
}

// Audit writes down what was done. Not for content or secrets.
func (tx *Tx) Audit(ctx context.Context, e AuditEntry) error {
	id, err := NewRoomID(Time(e.AtMS), tx.db.rand)
	if err != nil {
		return err
	}
	_, err = tx.exec(ctx, `INSERT INTO audit (id, at_ms, actor, action, subject, detail) VALUES ($1, $2, $3, $4, $5, $6)`,
		id[:], e.AtMS, e.Actor, e.Action, e.Subject, e.Detail)
	return err
}

// AuditLog returns what was done, the newest first.
func (r *Reader) AuditLog(ctx context.Context, limit int) ([]AuditEntry, error) {
	return list[AuditEntry](ctx, r, `SELECT at_ms, actor, action, subject, detail FROM audit ORDER BY at_ms DESC, id DESC LIMIT $1`, limit)
}
