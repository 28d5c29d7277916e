package store_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

// start opens a database, closes it again, and returns what was found.
func start(t *testing.T, cfg store.Config) store.RestoreReport {
	t.Helper()
	db, err := store.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	return db.Restored()
}

// T17: a database that lost what was committed is told from the one that was used last.
func TestARestoredSQLiteIsDetected(t *testing.T) {
	cfg := storetest.Config(t, "sqlite")
	for range 3 {
		if r := start(t, cfg); r.Restored {
			t.Fatalf("an ordinary start: %+v", r)
		}
	}
	backup, err := os.ReadFile(cfg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		start(t, cfg)
	}
	for _, f := range []string{"-wal", "-shm"} {
		if err := os.RemoveAll(cfg.DSN + f); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(cfg.DSN, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := start(t, cfg); !r.Restored || !strings.Contains(r.Reason, "marker") {
		t.Fatalf("after restoring a backup: %+v", r)
	}
	// It is remembered until the recovery was begun, also through a crash.
	db := storetest.Open(t, cfg)
	if !db.Restored().Restored {
		t.Fatal("the restore was forgotten")
	}
	room := fullRoom(t, db)
	must(t, db, func(ctx context.Context, tx *store.Tx) error {
		return tx.AddKeyPackages(ctx, store.KeyPackage{Ref: []byte{1}, UserURI: "u", ClientURI: "c", Public: []byte{1}, NotAfterMS: 9})
	})
	rooms, kps, err := db.BeginRecovery(ctx)
	if err != nil || rooms != 1 || kps != 1 {
		t.Fatalf("%d rooms, %d KeyPackages, %v", rooms, kps, err)
	}
	if r := ok(db.Room(ctx, room.ID))(t); !r.Refresh || r.Version <= room.Version || r.DueMS != 0 {
		t.Fatalf("the room after it: %+v", r)
	}
	db.Close()
	if r := start(t, cfg); r.Restored {
		t.Fatalf("after the recovery: %+v", r)
	}
}

// A backup that was made while the process ran is recognised too: the process marks the state as it goes, and when it ends.
func TestABackupOfTheLastRunIsDetected(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		cfg.MarkerFile = filepath.Join(t.TempDir(), "marker")
		for _, end := range []string{"stopped", "killed after a mark"} {
			db, err := store.Open(ctx, cfg)
			if err != nil || db.Restored().Restored {
				t.Fatal(err, db.Restored())
			}
			backup := instanceRows(t, db)
			must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.SetSetting(ctx, "", "x", end) })
			if end != "stopped" {
				if err := db.Mark(ctx); err != nil {
					t.Fatal(err)
				}
				crash(db)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			restoreInstance(t, cfg, backup)
			if db, err = store.Open(ctx, cfg); err != nil || !db.Restored().Restored || !strings.Contains(db.Restored().Reason, "marker") {
				t.Fatalf("%s: %v, %+v", end, err, db.Restored())
			}
			if _, _, err := db.BeginRecovery(ctx); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
		// Another installation on the same database has a marker of its own.
		other := cfg
		other.MarkerFile = filepath.Join(t.TempDir(), "marker")
		for range 2 {
			for _, c := range []store.Config{cfg, other} {
				if r := start(t, c); r.Restored {
					t.Fatalf("an ordinary start: %+v", r)
				}
			}
		}
	})
}

// crash makes Close write no marker, as a process that is killed does not.
func crash(db *store.DB) { db.ForgetChanges() }

func instanceRows(t *testing.T, db *store.DB) map[string]string {
	t.Helper()
	rows, err := db.Instance(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// restoreInstance puts back what a database says of itself.
func restoreInstance(t *testing.T, cfg store.Config, rows map[string]string) {
	t.Helper()
	raw, err := sql.Open(cfg.Driver, cfg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec(`DELETE FROM instance`); err != nil {
		t.Fatal(err)
	}
	for k, v := range rows {
		if _, err := raw.Exec(`INSERT INTO instance (key, value) VALUES ($1, $2)`, k, v); err != nil {
			t.Fatal(err)
		}
	}
}

// A crash between the database's marker and the file's is no restore.
func TestACrashWhileMarkingIsNoRestore(t *testing.T) {
	cfg := storetest.Config(t, "sqlite")
	start(t, cfg)
	before, err := os.ReadFile(cfg.DSN + ".marker")
	if err != nil {
		t.Fatal(err)
	}
	start(t, cfg)
	if err := os.WriteFile(cfg.DSN+".marker", before, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := start(t, cfg); r.Restored {
		t.Fatalf("%+v", r)
	}
}

func TestAPromotedPostgresIsDetected(t *testing.T) {
	cfg := storetest.Config(t, "postgres")
	start(t, cfg)
	if r := start(t, cfg); r.Restored {
		t.Fatalf("an ordinary start: %+v", r)
	}
	raw, err := sql.Open("postgres", cfg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	// What a promotion changes is the timeline that the server tells.
	if _, err := raw.Exec(`UPDATE instance SET value = '0' WHERE key = 'timeline'`); err != nil {
		t.Fatal(err)
	}
	if r := start(t, cfg); !r.Restored || !strings.Contains(r.Reason, "timeline") {
		t.Fatalf("after a promotion: %+v", r)
	}
}
