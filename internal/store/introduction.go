package store

import "context"

// Introduction is a code by which a user of ours can be reached without being asked. Hash is the SHA-256 of the code.
type Introduction struct {
	MXID      string `db:"mxid"`
	ID        string `db:"id"` // for people
	Hash      []byte `db:"hash"`
	Many      bool   `db:"many"` // for any number of people, otherwise for one
	Uses      int64  `db:"uses"`
	UntilMS   int64  `db:"until_ms"` // Never for without end
	CreatedMS int64  `db:"created_ms"`
}

// Introductions returns the codes of a user, the oldest first.
func (r *Reader) Introductions(ctx context.Context, mxid string) ([]Introduction, error) {
	return list[Introduction](ctx, r, `SELECT mxid, id, hash, many, uses, until_ms, created_ms FROM introduction WHERE mxid = $1 ORDER BY created_ms, id`, mxid)
}

// AddIntroduction writes a new code.
func (tx *Tx) AddIntroduction(ctx context.Context, i Introduction) error {
	_, err := tx.exec(ctx, `INSERT INTO introduction (mxid, id, hash, many, uses, until_ms, created_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		i.MXID, i.ID, i.Hash, bit(i.Many), i.Uses, i.UntilMS, i.CreatedMS)
	return err
}

// usedIntroduction is how long a code for one is kept after it was used, in milliseconds.
const usedIntroduction = 7 * 24 * 3_600_000

// UseIntroduction counts a use of a code by a MIMI user, and tells whether it was good for it. A code for one is good for the first
// who uses it, also when they ask again.
func (tx *Tx) UseIntroduction(ctx context.Context, mxid string, hash []byte, user string, nowMS int64) (good bool, err error) {
	n, err := tx.exec(ctx, `UPDATE introduction SET uses = uses + 1, last_user = $3,
		until_ms = CASE WHEN many = 0 AND until_ms > $5 THEN $5 ELSE until_ms END
		WHERE mxid = $1 AND hash = $2 AND until_ms > $4 AND (many = 1 OR uses = 0 OR last_user = $3)`, mxid, hash, user, nowMS, nowMS+usedIntroduction)
	return n > 0, err
}

// DropIntroduction forgets a code by its id, and tells whether it was there.
func (tx *Tx) DropIntroduction(ctx context.Context, mxid, id string) (bool, error) {
	n, err := tx.exec(ctx, `DELETE FROM introduction WHERE mxid = $1 AND id = $2`, mxid, id)
	return n > 0, err
}
