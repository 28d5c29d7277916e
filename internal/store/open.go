package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/jmoiron/sqlx/reflectx"
	_ "github.com/lib/pq" // the driver "postgres"
	"github.com/rs/zerolog"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/matrix-mimi/bridge/internal/sealed"
)

type dialect int

const (
	sqliteDialect dialect = iota
	postgresDialect
)

// Config says which database to open.
type Config struct {
	// Driver is "sqlite" or "postgres".
	Driver string
	// DSN is a file path for SQLite, a connection string or postgres:// URL for PostgreSQL.
	DSN string
	// Sealer is the key file that wraps the data keys. Needed.
	Sealer *sealed.KeyFile
	// MaxConns bounds the connections to PostgreSQL. 0 means 20.
	MaxConns int
	// AllowUnsafe lets a database run that does not sync its commits. Only for tests: MLS state that
	// a crash rolls back makes nonces be used twice. It is logged as a warning at each start.
	AllowUnsafe bool
	// MarkerFile is a small file beside the process by which a restored database is told from the one
	// that was used last (T17), and its own leases from those of others. "" means "<file>.marker" for SQLite and none for
	// PostgreSQL. Processes must not share it; its directory must be writable.
	MarkerFile string
	// Clock, if set, takes the place of the database's clock. Only for tests.
	Clock func() time.Time
	// Log takes warnings. The zero value is silent.
	Log zerolog.Logger
	// OnRetry, if set, is told the code of each failure after which a transaction is run again.
	OnRetry func(code string)
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	Reader
	cfg       Config
	dialect   dialect
	pool      *sqlx.DB // PostgreSQL: all; SQLite: the readers
	writer    *sqliteWriter
	side      *sql.DB
	mapper    *reflectx.Mapper
	ring      *sealed.Ring
	rand      io.Reader
	clock     func() time.Time
	lock      io.Closer
	keysRead  atomic.Int64 // when the data keys were read, in milliseconds
	keysMu    sync.Mutex
	restore   RestoreReport
	mark      marker
	life      string                 // random: this run of the process
	changed   atomic.Bool            // something was written since the last Mark
	timeline  atomic.Pointer[string] // PostgreSQL's, once it was asked
	failover  failover
	closed    atomic.Bool
	migrating bool
}

const (
	defaultMaxConns = 20
	sqliteReaders   = 4                // connections beside the writer's
	sideConns       = 4                // to PostgreSQL, beside those of the pool
	oldestServer    = 130_000          // server_version_num of PostgreSQL 13
	writerPatience  = 30 * time.Second // how long one waits for its turn to write to SQLite
	closingMark     = 3 * time.Second  // the marker at the end may take so long
)

// Open opens a database that Migrate brought up to date, checks that it keeps what it commits, loads
// the data keys, and looks whether it was restored (see Restored). Errors to expect: ErrSchema,
// ErrNewerSchema, ErrUnsafe, ErrInUse, sealed.ErrWrongKeyFile.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	db, err := connect(ctx, cfg, false)
	if err != nil {
		return nil, err
	}
	if err := db.start(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (db *DB) start(ctx context.Context) error {
	if err := db.checkSchema(ctx); err != nil {
		return err
	}
	if err := db.checkDurability(ctx); err != nil {
		if !errors.Is(err, ErrUnsafe) || !db.cfg.AllowUnsafe {
			return err
		}
		db.cfg.Log.Warn().Err(err).Msg("UNSAFE DATABASE ALLOWED: a crash can lose acknowledged messages and break MLS groups. For tests only")
	}
	if err := db.startKeys(ctx); err != nil {
		return err
	}
	if err := db.openMarker(); err != nil {
		return err
	}
	return db.detectRestore(ctx)
}

// connect opens the pools and nothing else.
func connect(ctx context.Context, cfg Config, migrating bool) (*DB, error) {
	if cfg.Sealer == nil {
		return nil, errors.New("opening the database: no key file was given")
	}
	db := &DB{cfg: cfg, mapper: reflectx.NewMapper("db"), ring: sealed.NewRing(), rand: rand.Reader, clock: cfg.Clock, migrating: migrating,
		life: newMark()[:16], failover: newFailover()}
	db.Reader.db = db
	var err error
	switch cfg.Driver {
	case "sqlite":
		db.dialect = sqliteDialect
		err = db.connectSQLite(ctx)
	case "postgres":
		db.dialect = postgresDialect
		err = db.connectPostgres(ctx)
	default:
		err = fmt.Errorf("there is no database driver %q: use sqlite or postgres", cfg.Driver)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the database: %w", err), db.Close())
	}
	return db, nil
}

// Close closes everything. Transactions that run are waited for. Closing again does nothing.
func (db *DB) Close() error {
	if db.closed.Swap(true) {
		return nil
	}
	var errs []error
	if db.timeline.Load() != nil && db.failover.err() == nil {
		ctx, cancel := context.WithTimeout(context.Background(), closingMark)
		errs = append(errs, db.Mark(ctx))
		cancel()
	}
	if db.side != nil && db.side != db.sqlPool() {
		errs = append(errs, db.side.Close())
	}
	if p, ok := db.Reader.h.(*prepared); ok {
		errs = append(errs, p.close())
	}
	if db.pool != nil {
		errs = append(errs, db.pool.Close())
	}
	if db.writer != nil { // the last connection to go empties SQLite's log into the file
		errs = append(errs, db.writer.close())
	}
	if db.lock != nil {
		errs = append(errs, db.lock.Close())
	}
	errs = append(errs, db.mark.close())
	return errors.Join(errs...)
}

func (db *DB) sqlPool() *sql.DB {
	if db.pool == nil {
		return nil
	}
	return db.pool.DB
}

// Driver returns "sqlite" or "postgres".
func (db *DB) Driver() string { return db.cfg.Driver }

// Ping says whether the database can be written.
func (db *DB) Ping(ctx context.Context) error {
	return db.Tx(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, `INSERT INTO instance (key, value) VALUES ('ping', '1') ON CONFLICT (key) DO UPDATE SET value = excluded.value`)
		return err
	})
}

// Side returns a pool on the same database for a library that brings its own tables and SQL
// (mautrix's crypto store). Never use it inside Tx: on SQLite it would wait for itself.
func (db *DB) Side() *sql.DB { return db.side }

// Connections returns how many connections of the pool are in use.
func (db *DB) Connections() int { return db.pool.Stats().InUse }

// Alone says that no other process can use the database.
func (db *DB) Alone() bool { return db.dialect == sqliteDialect }

// Now asks the database what time it is.
func (db *DB) Now(ctx context.Context) (time.Time, error) {
	ms, err := value[int64](ctx, &db.Reader, `SELECT {now}`)
	return Time(ms), err
}

// nowSQL is the database's time in milliseconds as SQL, one for a whole statement: PostgreSQL compares no index with a time that
// moves on while it reads (clock_timestamp), and would go through all rooms and lanes to find the few that are due.
func (db *DB) nowSQL() string {
	switch {
	case db.clock != nil:
		return fmt.Sprintf("CAST(%d AS BIGINT)", Millis(db.clock()))
	case db.dialect == postgresDialect:
		return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT)"
	default:
		return "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
	}
}

func (db *DB) connectSQLite(ctx context.Context) error {
	path := strings.TrimPrefix(db.cfg.DSN, "file:")
	if path == "" || strings.Contains(path, ":memory:") || strings.ContainsAny(path, "?#%") {
		return fmt.Errorf("%q is not the plain path of a file", db.cfg.DSN)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return err
	}
	db.lock = lock
	if db.cfg.MarkerFile == "" {
		db.cfg.MarkerFile = path + ".marker"
	}
	sync := "FULL"
	if db.cfg.AllowUnsafe {
		sync = "OFF"
	}
	dsn := func(extra ...string) string {
		q := url.Values{"_pragma": append([]string{"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(" + sync + ")",
			"foreign_keys(1)", "secure_delete(1)", "wal_autocheckpoint(4000)", "temp_store(MEMORY)", "trusted_schema(0)"}, extra...)}
		q.Set("_txlock", "immediate")
		return "file:" + path + "?" + q.Encode()
	}
	writers, err := sql.Open("sqlite", dsn("cache_size(-8000)")) // 8 MB: what messages write is mostly at hand then
	if err != nil {
		return err
	}
	if db.writer, err = newSQLiteWriter(ctx, writers); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	readers, err := sql.Open("sqlite", dsn("query_only(1)"))
	if err != nil {
		return err
	}
	readers.SetMaxOpenConns(sqliteReaders)
	readers.SetMaxIdleConns(sqliteReaders)
	db.pool = sqlx.NewDb(readers, "sqlite")
	db.Reader.h = &prepared{direct: readers, all: map[string]*sql.Stmt{}, prepare: readers.PrepareContext}
	if db.side, err = sql.Open("sqlite", dsn()); err != nil {
		return err
	}
	db.side.SetMaxOpenConns(sqliteReaders)
	return nil
}

func (db *DB) connectPostgres(ctx context.Context) error {
	defaults := postgresDefaults
	if db.migrating {
		defaults = migrationDefaults
	}
	dsn, err := postgresDSN(db.cfg.DSN, defaults)
	if err != nil {
		return err
	}
	if dsn, err = db.named(dsn); err != nil {
		return err
	}
	opened, err := db.openPostgres(dsn)
	if err != nil {
		return err
	}
	pool := sqlx.NewDb(opened, "postgres")
	n := db.cfg.MaxConns
	if n <= 0 {
		n = defaultMaxConns
	}
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	db.pool = pool
	db.Reader.h = pool.DB
	// Libraries write JSON as bytes, which PostgreSQL takes as text only.
	if dsn, err = withParameter(dsn, "binary_parameters", "no"); err != nil {
		return err
	}
	if db.side, err = db.openPostgres(dsn); err != nil {
		return err
	}
	db.side.SetMaxOpenConns(sideConns)
	db.side.SetMaxIdleConns(sideConns)
	db.side.SetConnMaxIdleTime(5 * time.Minute)
	var version int
	if err := pool.GetContext(ctx, &version, `SELECT CAST(current_setting('server_version_num') AS INTEGER)`); err != nil {
		return err
	}
	return checkServer(version)
}

// checkServer refuses a PostgreSQL that is too old. version is its server_version_num: 130000 is 13.0.
func checkServer(version int) error {
	if version < oldestServer {
		return fmt.Errorf("PostgreSQL %d is too old: %d or newer is needed", version/10_000, oldestServer/10_000)
	}
	return nil
}

// withParameter sets a parameter of a DSN made by postgresDSN; the last one counts.
func withParameter(dsn, key, value string) (string, error) {
	if !strings.Contains(dsn, "://") {
		return dsn + " " + key + "=" + value, nil
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", errors.New("the connection URL cannot be read")
	}
	q := u.Query()
	q.Set(key, value)
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// Settings that every connection gets unless the DSN says otherwise.
var postgresDefaults = [][2]string{
	{"binary_parameters", "yes"},
	{"connect_timeout", "10"},
	{"application_name", applicationName},
	{"statement_timeout", "5000"},
	{"lock_timeout", "2000"},
	{"idle_in_transaction_session_timeout", "10000"},
	{"timezone", "UTC"},
}

// A migration may take as long as it takes, but does not make others wait for a lock for ever.
var migrationDefaults = [][2]string{
	{"binary_parameters", "yes"},
	{"connect_timeout", "10"},
	{"application_name", "mimi-bridge migrate"},
	{"statement_timeout", "0"},
	{"lock_timeout", "60000"},
	{"idle_in_transaction_session_timeout", "0"},
	{"timezone", "UTC"},
}

// postgresDSN adds what is missing. sslmode must be said.
func postgresDSN(dsn string, defaults [][2]string) (string, error) {
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		fields := " " + strings.ToLower(dsn)
		if !strings.Contains(fields, " sslmode=") {
			return "", errors.New("the connection string must say sslmode (disable, require, verify-ca or verify-full)")
		}
		for _, d := range defaults {
			if !strings.Contains(fields, " "+d[0]+"=") {
				dsn += " " + d[0] + "=" + d[1]
			}
		}
		return dsn, nil
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", errors.New("the connection URL cannot be read") // the parser's error shows the password
	}
	q := u.Query()
	if !q.Has("sslmode") {
		return "", errors.New("the connection URL must say sslmode (disable, require, verify-ca or verify-full)")
	}
	for _, d := range defaults {
		if !q.Has(d[0]) {
			q.Set(d[0], d[1])
		}
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}
