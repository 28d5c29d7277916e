package store

import (
	"context"
	"strings"

	sqlite3 "modernc.org/sqlite/lib"
)

// SealedColumns are the columns that the rotation of keys seals anew, as table.column.
func SealedColumns() []string {
	var out []string
	for _, c := range sealedColumns {
		out = append(out, c.table+"."+c.column)
	}
	return out
}

// ForgetChanges makes Close write no marker.
func (db *DB) ForgetChanges() { db.changed.Store(false) }

// Instance is what the database says of itself.
func (db *DB) Instance(ctx context.Context) (map[string]string, error) { return db.instance(ctx) }

// CheckServer refuses a PostgreSQL that is too old.
var CheckServer = checkServer

// FindActivity looks for an activity by its id or object.
const FindActivity = findActivity

// ShardOwner returns who holds a shard now, or ErrNotFound.
func (r *Reader) ShardOwner(ctx context.Context, s Shard) (string, error) {
	return value[string](ctx, r, `SELECT owner FROM shard_lease WHERE shard = $1 AND until_ms > {now}`, s)
}

// Plan is how SQLite would carry out a query.
func (db *DB) Plan(ctx context.Context, query string, args ...any) ([]string, error) {
	type step struct {
		ID     int64  `db:"id"`
		Parent int64  `db:"parent"`
		Unused int64  `db:"notused"`
		Detail string `db:"detail"`
	}
	steps, err := list[step](ctx, &db.Reader, "EXPLAIN QUERY PLAN "+query, args...)
	var out []string
	for _, s := range steps {
		out = append(out, s.Detail)
	}
	return out, err
}

// InLine is how many wait for SQLite's writer, and how many for company.
func (db *DB) InLine() (turn, company int) {
	db.writer.mu.Lock()
	defer db.writer.mu.Unlock()
	return len(db.writer.line), len(db.writer.later)
}

// IsConstraint says whether err is the database refusing a row that breaks one of its guards.
func IsConstraint(err error) bool {
	return strings.HasPrefix(sqlState(err), "23") || sqliteCode(err)&0xff == sqlite3.SQLITE_CONSTRAINT
}
