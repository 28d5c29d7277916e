package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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

// Statements are all that SQLite was asked so far, each as it is compiled.
func (db *DB) Statements() []string {
	var out []string
	for _, p := range []*prepared{db.Reader.h.(*prepared), db.writer.h} {
		p.mu.RLock()
		out = slices.AppendSeq(out, maps.Keys(p.all))
		p.mu.RUnlock()
	}
	return out
}

// Uses says how PostgreSQL would carry out one of the statements of a SQLite database, with so many parameters, if reading a whole table cost more than anything.
func (db *DB) Uses(ctx context.Context, sqlite *DB, query string, params int) (string, error) {
	query = strings.ReplaceAll(query, sqlite.nowSQL(), db.nowSQL())
	args := ""
	if params > 0 {
		args = "(" + strings.TrimSuffix(strings.Repeat("NULL,", params), ",") + ")"
	}
	conn, err := db.side.Conn(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	for _, q := range []string{"SET enable_seqscan = off", "SET plan_cache_mode = force_generic_plan", "DEALLOCATE ALL", "PREPARE asked AS " + query} {
		if _, err := conn.ExecContext(ctx, q); err != nil {
			return "", fmt.Errorf("%s: %w", q, err)
		}
	}
	rows, err := conn.QueryContext(ctx, "EXPLAIN (COSTS OFF) EXECUTE asked"+args)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	plan := ""
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return "", err
		}
		plan += line + "\n"
	}
	return plan, rows.Err()
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

// MigrateTo brings a new database to the schema of an older release.
func MigrateTo(ctx context.Context, cfg Config, version int64) (err error) {
	db, err := connect(ctx, cfg, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := db.goose(db.side)
	if err != nil {
		return err
	}
	_, err = p.UpTo(ctx, version)
	return err
}
