package store_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

// A database that does not sync its commits is refused.
func TestAnUnsafeDatabaseIsRefused(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		cfg := storetest.Config(t, "postgres") // its cluster runs with fsync off unless it was given
		var fsync, commit string
		db := storetest.Open(t, cfg)
		if err := errors.Join(db.Side().QueryRow(`SHOW fsync`).Scan(&fsync), db.Side().QueryRow(`SHOW synchronous_commit`).Scan(&commit)); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		cfg.Log = zerolog.New(&log)
		storetest.Open(t, cfg)
		cfg.AllowUnsafe = false
		if fsync == "on" && commit == "on" {
			u, err := url.Parse(cfg.DSN)
			if err != nil {
				t.Fatal(err)
			}
			q := u.Query()
			q.Set("synchronous_commit", "off")
			u.RawQuery = q.Encode()
			cfg.DSN = u.String()
		} else if !strings.Contains(log.String(), "UNSAFE") {
			t.Errorf("the override is not loud: %s", log.String())
		}
		if _, err := store.Open(ctx, cfg); !errors.Is(err, store.ErrUnsafe) {
			t.Fatalf("an unsafe database: %v", err)
		}
	})
	t.Run("sqlite", func(t *testing.T) {
		cfg := storetest.Config(t, "sqlite")
		cfg.AllowUnsafe = false
		db := storetest.Open(t, cfg) // synchronous=FULL is what Open asks for
		if db.Driver() != "sqlite" {
			t.Fatal(db.Driver())
		}
		if err := db.Ping(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

func TestASecondProcessOnSQLiteIsRefused(t *testing.T) {
	cfg := storetest.Config(t, "sqlite")
	db, err := store.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(ctx, cfg); !errors.Is(err, store.ErrInUse) {
		t.Fatalf("a second opening: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	storetest.Open(t, cfg)
	if st, err := os.Stat(cfg.DSN); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("the database's mode is %v, %v", st.Mode(), err)
	}
}

func TestOpenRefusesWhatItCannotUse(t *testing.T) {
	keys := storetest.Keys(t)
	path := filepath.Join(t.TempDir(), "x.db")
	for name, c := range map[string]struct {
		cfg  store.Config
		want string
	}{
		"no key file":   {store.Config{Driver: "sqlite", DSN: path}, "no key file"},
		"other driver":  {store.Config{Driver: "mysql", DSN: path, Sealer: keys}, "mysql"},
		"in memory":     {store.Config{Driver: "sqlite", DSN: ":memory:", Sealer: keys}, "plain path"},
		"with settings": {store.Config{Driver: "sqlite", DSN: "file:x.db?mode=ro", Sealer: keys}, "plain path"},
		"not migrated":  {store.Config{Driver: "sqlite", DSN: path, Sealer: keys}, "bridge migrate"},
		"no sslmode":    {store.Config{Driver: "postgres", DSN: "host=127.0.0.1 password=hunter2", Sealer: keys}, "sslmode"},
		"no sslmode 2":  {store.Config{Driver: "postgres", DSN: "postgres://u:hunter2@127.0.0.1/x", Sealer: keys}, "sslmode"},
		"bad url":       {store.Config{Driver: "postgres", DSN: "postgres://u:hunter2@127.0.0.1:port/x", Sealer: keys}, "cannot be read"},
	} {
		db, err := store.Open(ctx, c.cfg)
		if err == nil {
			db.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnOldPostgresIsRefused(t *testing.T) {
	if err := store.CheckServer(120_022); err == nil || err.Error() != "PostgreSQL 12 is too old: 13 or newer is needed" {
		t.Errorf("12.22: %v", err)
	}
	if err := store.CheckServer(130_000); err != nil {
		t.Errorf("13.0: %v", err)
	}
}

func TestMigrateFromNothingTwiceAndFromTheFuture(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		v1, err := store.Migrate(ctx, cfg)
		if err != nil || v1 < 2 {
			t.Fatalf("version %d, %v", v1, err)
		}
		db := storetest.Open(t, cfg)
		if _, err := db.Side().Exec(`INSERT INTO schema_version (version_id, is_applied) VALUES ($1, $2)`, v1+1, true); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Open(ctx, cfg); !errors.Is(err, store.ErrNewerSchema) {
			t.Fatalf("a schema of the future: %v", err)
		}
		if _, err := store.Migrate(ctx, cfg); !errors.Is(err, store.ErrNewerSchema) {
			t.Fatalf("migrating a schema of the future: %v", err)
		}
	})
}

func TestProcessesMigrateTogether(t *testing.T) {
	cfg := storetest.Config(t, "postgres")
	db, err := sql.Open("postgres", cfg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`DROP SCHEMA public CASCADE; CREATE SCHEMA public`); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := store.Migrate(ctx, cfg); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	storetest.Open(t, cfg)
}

func TestTheDatabaseTellsTheTime(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		now := ok(db.Now(ctx))(t)
		if d := time.Since(now); d < -time.Minute || d > time.Minute {
			t.Fatalf("the database's time is %v", now)
		}
	})
}

func ExampleConfig() {
	fmt.Println(store.RoomID{}.Shard())
	// Output: 261
}
