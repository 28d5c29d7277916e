package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

const schemaTable = "schema_version"

// migrationLock is an arbitrary number for the transaction lock that lets one process migrate.
const migrationLock = 0x6d696d69

func (db *DB) goose(pool *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return nil, err
	}
	d := goose.DialectPostgres
	if db.dialect == sqliteDialect {
		d = goose.DialectSQLite3
	}
	return goose.NewProvider(d, pool, files, goose.WithTableName(schemaTable), goose.WithDisableGlobalRegistry(true),
		goose.WithGoMigrations(goose.NewGoMigration(anewVersion, &goose.GoFunc{RunTx: db.remake}, nil)))
}

// anewVersion is that of the migration that is not SQL for both databases alike: remake.
const anewVersion = 71

// clustered are the tables that each message writes and that nothing refers to by another key: SQLite keeps them in the order of their
// primary key, without an index of its own for it.
var clustered = []string{"answer", "room_log", "outbound_mls", "seen", "outbound"}

// remake makes tables of SQLite anew WITHOUT ROWID, which PostgreSQL does not know, and takes a constraint off links, which SQLite cannot take
// off: the next migration has an index in its place.
func (db *DB) remake(ctx context.Context, tx *sql.Tx) error {
	if db.dialect != sqliteDialect {
		_, err := tx.ExecContext(ctx, `ALTER TABLE link DROP CONSTRAINT link_shard_room_event_id_key`)
		return err
	}
	for _, table := range clustered {
		if err := remakeTable(ctx, tx, table, func(body string) string { return body + " WITHOUT ROWID" }); err != nil {
			return fmt.Errorf("making table %s anew: %w", table, err)
		}
	}
	err := remakeTable(ctx, tx, "link", func(body string) string { return strings.Replace(body, "UNIQUE (shard, room, event_id),", "", 1) })
	if err != nil {
		return fmt.Errorf("making table link anew: %w", err)
	}
	return nil
}

// remakeTable makes a table of SQLite anew, with its rows and indexes, by what body makes of the definition that follows its name.
func remakeTable(ctx context.Context, tx *sql.Tx, table string, body func(string) string) error {
	var made, columns string
	if err := tx.QueryRowContext(ctx, `SELECT sql, (SELECT group_concat(name, ', ') FROM pragma_table_info(tbl_name)) FROM sqlite_schema WHERE type = 'table' AND name = ?`,
		table).Scan(&made, &columns); err != nil {
		return err
	}
	head := "CREATE TABLE " + table
	if !strings.HasPrefix(made, head) {
		return fmt.Errorf("it was made as %q", made)
	}
	statements := []string{
		head + "_anew" + body(strings.TrimPrefix(made, head)),
		"INSERT INTO " + table + "_anew (" + columns + ") SELECT " + columns + " FROM " + table,
		"DROP TABLE " + table,
		"ALTER TABLE " + table + "_anew RENAME TO " + table,
	}
	rows, err := tx.QueryContext(ctx, `SELECT sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL`, table)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var index string
		if err := rows.Scan(&index); err != nil {
			return err
		}
		statements = append(statements, index)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, q := range statements {
		if _, err := tx.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// Migrate brings the schema of a database up to date and returns its version. Running it again, or
// by several processes at once, is safe. ErrNewerSchema when a newer release migrated it.
func Migrate(ctx context.Context, cfg Config) (version int64, err error) {
	db, err := connect(ctx, cfg, true)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	pool := db.side
	if db.dialect == postgresDialect {
		guard, err := pool.BeginTx(ctx, nil)
		if err != nil {
			return 0, fmt.Errorf("migrating: %w", err)
		}
		defer guard.Rollback() //nolint:errcheck // it only holds the lock
		if _, err := guard.ExecContext(ctx, "SET LOCAL lock_timeout = 0"); err != nil {
			return 0, fmt.Errorf("migrating: %w", err)
		}
		if _, err := guard.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", migrationLock); err != nil {
			return 0, fmt.Errorf("waiting for another process to migrate: %w", err)
		}
	}
	p, err := db.goose(pool)
	if err != nil {
		return 0, fmt.Errorf("reading the migrations: %w", err)
	}
	if have, want, err := p.GetVersions(ctx); err == nil && have > 0 && have < want {
		cfg.Log.Info().Int64("from", have).Int64("to", want).Msg("the database is brought up to date: with millions of messages that takes minutes, and SQLite needs as much free space again")
	}
	if _, err := p.Up(ctx); err != nil {
		return 0, fmt.Errorf("migrating: %w", err)
	}
	if err := db.checkSchema(ctx); err != nil {
		return 0, err
	}
	if db.dialect == postgresDialect {
		if err := tune(ctx, pool); err != nil {
			return 0, err
		}
	}
	return p.GetDBVersion(ctx)
}

// checkSchema compares the database's version with the newest migration of this program.
func (db *DB) checkSchema(ctx context.Context) error {
	p, err := db.goose(db.side)
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}
	have, want, err := p.GetVersions(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("asking for the schema's version: %w", err)
	case have > want:
		return fmt.Errorf("it is %d, this program knows %d: %w", have, want, ErrNewerSchema)
	case have < want:
		return fmt.Errorf("it is %d, this program needs %d (run `bridge migrate`): %w", have, want, ErrSchema)
	}
	return nil
}

// tune sets storage parameters that only PostgreSQL has: room for updates in place on hot rows, and
// eager cleaning of queues.
func tune(ctx context.Context, pool *sql.DB) error {
	for _, t := range []string{"room", "lane", "piece"} {
		if _, err := pool.ExecContext(ctx, `ALTER TABLE `+t+` SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05)`); err != nil {
			return fmt.Errorf("tuning table %s: %w", t, err)
		}
	}
	for _, t := range []string{"input", "outbound", "body", "seen", "outbound_mls", "answer"} {
		if _, err := pool.ExecContext(ctx, `ALTER TABLE `+t+` SET (autovacuum_vacuum_scale_factor = 0.02)`); err != nil {
			return fmt.Errorf("tuning table %s: %w", t, err)
		}
	}
	return nil
}
