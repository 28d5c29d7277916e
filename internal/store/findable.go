package store

import "context"

// Findable is something that a user wants to be found by.
type Findable struct {
	MXID      string `db:"mxid"`
	Field     string `db:"field"`
	Value     string `db:"value"`
	Folded    string `db:"folded"` // the form that is compared
	CreatedMS int64  `db:"created_ms"`
}

// Findables returns what a user wants to be found by, in the order of the fields.
func (r *Reader) Findables(ctx context.Context, mxid string) ([]Findable, error) {
	return list[Findable](ctx, r, `SELECT mxid, field, value, folded, created_ms FROM findable WHERE mxid = $1 ORDER BY field`, mxid)
}

// FindableBy returns the users with a value in a field, in order, after one of them ("" for the first).
func (r *Reader) FindableBy(ctx context.Context, field, folded, after string, limit int) ([]string, error) {
	return column[string](ctx, r, `SELECT mxid FROM findable WHERE field = $1 AND folded = $2 AND mxid > $3 ORDER BY mxid LIMIT $4`, field, folded, after, limit)
}

// ScopesWith returns the scopes in which a setting has a value, in order, after one of them ("" for the first).
func (r *Reader) ScopesWith(ctx context.Context, key, value, after string, limit int) ([]string, error) {
	return column[string](ctx, r, `SELECT scope FROM setting WHERE key = $1 AND value = $2 AND scope > $3 ORDER BY scope LIMIT $4`, key, value, after, limit)
}

// PutFindable writes what a user wants to be found by, in place of what was in the field.
func (tx *Tx) PutFindable(ctx context.Context, f Findable) error {
	_, err := tx.exec(ctx, `INSERT INTO findable (mxid, field, value, folded, created_ms) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (mxid, field) DO UPDATE SET value = excluded.value, folded = excluded.folded, created_ms = excluded.created_ms`,
		f.MXID, f.Field, f.Value, f.Folded, f.CreatedMS)
	return err
}

// DropFindable forgets a field, and tells whether it was there.
func (tx *Tx) DropFindable(ctx context.Context, mxid, field string) (bool, error) {
	n, err := tx.exec(ctx, `DELETE FROM findable WHERE mxid = $1 AND field = $2`, mxid, field)
	return n > 0, err
}

// ForgetFindable forgets by what, and by which introductions, others reach a user.
func (tx *Tx) ForgetFindable(ctx context.Context, mxid string) error {
	if _, err := tx.exec(ctx, `DELETE FROM findable WHERE mxid = $1`, mxid); err != nil {
		return err
	}
	_, err := tx.exec(ctx, `DELETE FROM introduction WHERE mxid = $1`, mxid)
	return err
}
