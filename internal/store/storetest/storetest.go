// Package storetest gives tests an empty, migrated database: SQLite in the test's directory, and
// PostgreSQL from BRIDGE_TEST_POSTGRES (a connection URL whose user may create databases) or from a
// throwaway cluster. Databases made here do not sync their commits unless a test asks for it.
package storetest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/sealed"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/test/harness"
)

// EnvPostgres names the variable with the URL of a PostgreSQL server to test on.
const EnvPostgres = "BRIDGE_TEST_POSTGRES"

var cluster struct {
	once     sync.Once
	admin    string
	template string
	keys     *sealed.KeyFile
	stop     func() error
	err      error
	mu       sync.Mutex
	n        int
}

// Main runs the tests and stops the cluster that they may have started. Use it as TestMain where a
// test asks for PostgreSQL.
func Main(m *testing.M) {
	code := m.Run()
	if cluster.stop != nil {
		if err := cluster.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping PostgreSQL:", err)
		}
	}
	os.Exit(code)
}

// Each runs a test on both databases. Where there is no PostgreSQL, and with -short, that half is skipped and says so.
func Each(t *testing.T, fn func(t *testing.T, cfg store.Config)) {
	t.Helper()
	for _, driver := range []string{"sqlite", "postgres"} {
		t.Run(driver, func(t *testing.T) { fn(t, Config(t, driver)) })
	}
}

// Config returns the configuration of a new empty database that is migrated.
func Config(t testing.TB, driver string) store.Config {
	t.Helper()
	if driver == "sqlite" {
		cfg := store.Config{Driver: driver, DSN: filepath.Join(t.TempDir(), "bridge.db"), AllowUnsafe: true, Sealer: Keys(t)}
		if _, err := store.Migrate(context.Background(), cfg); err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	if testing.Short() {
		t.Skip("NOT TESTED ON POSTGRESQL: -short")
	}
	cluster.once.Do(startCluster)
	if errors.Is(cluster.err, harness.ErrNoPostgres) {
		t.Skip("NOT TESTED ON POSTGRESQL: ", cluster.err)
	}
	if cluster.err != nil {
		t.Fatal(cluster.err)
	}
	dsn, err := newDatabase(cluster.template)
	if err != nil {
		t.Fatal(err)
	}
	return store.Config{Driver: "postgres", DSN: dsn, AllowUnsafe: true, Sealer: cluster.keys, MaxConns: 10}
}

// Open opens a database for the time of a test.
func Open(t testing.TB, cfg store.Config) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// Keys makes a key file in the test's directory.
func Keys(t testing.TB) *sealed.KeyFile {
	t.Helper()
	f, err := sealed.CreateKeyFile(rand.Reader, filepath.Join(t.TempDir(), "bridge.key"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Room makes a room with random id and returns its head.
func Room(t testing.TB, db *store.DB) store.Room {
	t.Helper()
	id, err := store.NewRoomID(time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var room store.Room
	err = db.Tx(context.Background(), func(tx *store.Tx) error {
		if err := tx.CreateRoom(context.Background(), store.Room{ID: id, Kind: store.RoomHub, Epoch: -1, CreatedMS: 1}); err != nil {
			return err
		}
		room, err = tx.Room(context.Background(), id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return room
}

func startCluster() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cluster.admin = os.Getenv(EnvPostgres)
	if cluster.admin == "" {
		pg, err := harness.StartPostgres(ctx, harness.PostgresConfig{Unsynced: true})
		if err != nil {
			cluster.err = err
			return
		}
		cluster.stop = pg.Stop
		if cluster.admin, cluster.err = pg.Database(ctx, "admin"); cluster.err != nil {
			return
		}
	}
	if cluster.keys, cluster.err = sealed.NewKeyFile(rand.Reader); cluster.err != nil {
		return
	}
	var dsn string
	if dsn, cluster.err = newDatabase(""); cluster.err != nil {
		return
	}
	u, err := url.Parse(dsn)
	if err != nil {
		cluster.err = err
		return
	}
	if _, cluster.err = store.Migrate(ctx, store.Config{Driver: "postgres", DSN: dsn, AllowUnsafe: true, Sealer: cluster.keys}); cluster.err != nil {
		return
	}
	cluster.template = filepath.Base(u.Path)
}

// newDatabase makes a database, as a copy of a template if one is named.
func newDatabase(template string) (string, error) {
	cluster.mu.Lock() // a template can be copied by one at a time only
	defer cluster.mu.Unlock()
	u, err := url.Parse(cluster.admin)
	if err != nil {
		return "", fmt.Errorf("%s is not a URL", EnvPostgres)
	}
	db, err := sql.Open("postgres", cluster.admin)
	if err != nil {
		return "", err
	}
	defer db.Close()
	cluster.n++
	var tag [4]byte
	_, _ = rand.Read(tag[:])
	name := fmt.Sprintf("bridge_test_%s_%d", hex.EncodeToString(tag[:]), cluster.n)
	q := `CREATE DATABASE ` + name
	if template != "" {
		q += ` TEMPLATE ` + template
	}
	if _, err := db.Exec(q); err != nil {
		return "", fmt.Errorf("making a test database: %w", err)
	}
	u.Path = "/" + name
	return u.String(), nil
}
