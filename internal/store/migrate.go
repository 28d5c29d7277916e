package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

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
	return goose.NewProvider(d, pool, files, goose.WithTableName(schemaTable), goose.WithDisableGlobalRegistry(true))
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
