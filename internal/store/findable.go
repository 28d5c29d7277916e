package store

import (
	"context"
	"strings"
)

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

// FindablesOf returns what some users want to be found by, by user: of those in whose scope a setting has a value, also when they
// have no fields.
func (r *Reader) FindablesOf(ctx context.Context, key, value string, users []string) (map[string][]Findable, error) {
	out := make(map[string][]Findable, len(users))
	if len(users) == 0 {
		return out, nil
	}
	names := make([]any, len(users))
	for i, u := range users {
		names[i] = u
	}
	args := append([]any{key, value}, evened(names, users[0])...)
	rows, err := list[Findable](ctx, r, `SELECT s.scope AS mxid, COALESCE(f.field, '') AS field, COALESCE(f.value, '') AS value, COALESCE(f.folded, '') AS folded,
		COALESCE(f.created_ms, 0) AS created_ms FROM setting AS s LEFT JOIN findable AS f ON f.mxid = s.scope
		WHERE s.key = $1 AND s.value = $2 AND s.scope IN (`+strings.Trim(values(3, 1, len(args)-2), "()")+`) ORDER BY s.scope, f.field`, args...)
	for _, f := range rows {
		if out[f.MXID] = append(out[f.MXID], f); f.Field == "" {
			out[f.MXID] = nil
		}
	}
	return out, err
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
