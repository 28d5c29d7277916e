package store_test

import (
	"bytes"
	"context"
	"crypto/rand"
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

	"github.com/matrix-mimi/bridge/internal/sealed"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

// A database that does not sync its commits is refused (S: reliability.md §3, chasquid #78).
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

// Keys at rest (reliability.md §7): nothing planted is readable in the files, and the wrong key file
// stops the start.
func TestSecretsAreUnreadableAtRest(t *testing.T) {
	cfg := storetest.Config(t, "sqlite")
	db := storetest.Open(t, cfg)
	plant(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(cfg.DSN + "*")
	if err != nil || len(files) < 2 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("secret\x00")) || bytes.Contains(b, []byte("planted")) {
			t.Errorf("a secret is readable in %s", filepath.Base(f))
		}
	}
	cfg.Sealer = storetest.Keys(t)
	if _, err := store.Open(ctx, cfg); !errors.Is(err, sealed.ErrWrongKeyFile) {
		t.Fatalf("with the wrong key file: %v", err)
	}
}

// plant fills every sealed column.
func plant(t *testing.T, db *store.DB) store.Room {
	room := fullRoom(t, db)
	must(t, db, func(ctx context.Context, tx *store.Tx) error {
		if _, err := tx.AddUser(ctx, store.User{MXID: "@u:h", URI: "u", ClientURI: "c", PublicKey: []byte{1}, PrivateKey: []byte("planted user")}); err != nil {
			return err
		}
		return errors.Join(
			tx.AddKeyPackages(ctx, store.KeyPackage{Ref: []byte{1}, UserURI: "u", ClientURI: "c", Public: []byte{1}, Private: []byte("planted package")}),
			tx.SetSecret(ctx, "token", []byte("planted token"), 1))
	})
	lane := store.Lane{Room: room.ID, Dest: "ap:x"}
	must(t, db, func(ctx context.Context, tx *store.Tx) error {
		if _, err := tx.AddOutbound(ctx, []store.Outbound{{Room: room.ID, Dest: lane.Dest, Seq: 90, Verb: "x", Data: []byte("planted letter")}}); err != nil {
			return err
		}
		l, err := tx.ClaimLane(ctx, lane, "me", 1000, true)
		if err != nil {
			return err
		}
		head, err := tx.LaneRows(ctx, lane, 10, 1<<20)
		if err != nil {
			return err
		}
		_, _, _, err = tx.CloseOutbound(ctx, l, []store.Closing{{Row: head.Rows[0], Outcome: store.Outcome{Class: store.OutcomeDead}}}, 1, 1000, true)
		return err
	})
	return room
}

func TestDataKeysRotate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		// The database of a test is made anew with a key file of its own: this test changes it.
		keyPath := filepath.Join(t.TempDir(), "own.key")
		file, err := sealed.CreateKeyFile(rand.Reader, keyPath)
		if err != nil {
			t.Fatal(err)
		}
		now := &clock{now: time.UnixMilli(1_700_000_000_000)}
		cfg.Clock, cfg.Sealer = now.Now, file
		raw, err := sql.Open(cfg.Driver, cfg.DSN)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		if _, err := raw.Exec(`DELETE FROM data_key`); err != nil {
			t.Fatal(err)
		}
		db := storetest.Open(t, cfg)
		room := plant(t, db)
		several := cfg.Driver == "postgres"
		var other, sleeper *store.DB
		if several { // other processes, with their own copy of the file in memory
			theirs := cfg
			if theirs.Sealer, err = sealed.LoadKeyFile(keyPath); err != nil {
				t.Fatal(err)
			}
			other, sleeper = storetest.Open(t, theirs), storetest.Open(t, theirs)
		}
		rotateAll(t, db, file)
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return tx.SetSecret(ctx, "new", []byte("planted new"), 1)
		})
		if several {
			if got := ok(other.Secret(ctx, "new"))(t); string(got) != "planted new" {
				t.Fatal("another process cannot read what the new key sealed")
			}
		}
		if total := resealAll(t, db); total < 12 {
			t.Errorf("%d values were sealed anew", total)
		}
		if several {
			if ids := db.KeyIDs(); len(ids) != 2 {
				t.Fatalf("the old key went while another process could use it: %v", ids)
			}
			// One stood still, and goes on when the old key is over an hour old.
			now.add(time.Hour + time.Minute)
			must(t, sleeper, func(ctx context.Context, tx *store.Tx) error {
				return tx.SetSecret(ctx, "late", []byte("planted late"), 1)
			})
			if n := resealAll(t, db); n != 0 {
				t.Errorf("the sleeper sealed %d values with a retired key", n)
			}
		}
		if ids := db.KeyIDs(); len(ids) != 1 || ids[0] != 2 {
			t.Fatalf("data keys left: %v", ids)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if cfg.Sealer, err = sealed.LoadKeyFile(keyPath); err != nil || len(cfg.Sealer.Fingerprints()) != 1 {
			t.Fatalf("the key file after it: %v, %v", cfg.Sealer.Fingerprints(), err)
		}
		stillThere(t, storetest.Open(t, cfg), room)
	})
}

// rotateAll is what an operator does: a new key in the file, then a new data key.
func rotateAll(t *testing.T, db *store.DB, file *sealed.KeyFile) {
	t.Helper()
	if err := errors.Join(file.Add(rand.Reader), file.Save(), db.Rewrap(ctx), db.RotateDataKey(ctx)); err != nil {
		t.Fatal(err)
	}
	file.Retire()
	if err := file.Save(); err != nil {
		t.Fatal(err)
	}
}

func resealAll(t *testing.T, db *store.DB) (total int) {
	t.Helper()
	for {
		n, err := db.Reseal(ctx, 3)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return total
		}
		total += n
	}
}

func stillThere(t *testing.T, db *store.DB, room store.Room) {
	t.Helper()
	got := map[string]string{}
	for _, p := range ok(db.Pieces(ctx, room.ID))(t) {
		got[p.Key.Kind] = string(p.Data)
	}
	got["user"] = string(ok(db.User(ctx, "@u:h"))(t).PrivateKey)
	got["answer"] = string(ok(db.AnswerTo(ctx, room.ID, [32]byte{1}))(t).Body)
	got["asset"] = string(ok(db.Asset(ctx, "as"))(t).Key)
	got["package"] = string(ok(db.KeyPackage(ctx, []byte{1}))(t).Private)
	got["pending"] = string(ok(db.PendingCommit(ctx, room.ID))(t).Staged)
	for _, dest := range []string{"mimi:a", "matrix"} {
		got[dest] = string(ok(db.LaneRows(ctx, store.Lane{Room: room.ID, Dest: dest}, 5, 1<<20))(t).Rows[0].Data)
	}
	got["input"] = string(ok(db.InputsIn(ctx, room.ID, store.InputReady, 5))(t)[0].Body)
	want := map[string]string{"epoch": "epoch secret", "send": "ratchet secret", "user": "planted user", "answer": "answer secret", "asset": "asset secret", "package": "planted package",
		"pending": "staged secret", "mimi:a": "body secret", "matrix": "outbound secret", "input": "input secret"}
	same(t, "secrets", got, want)
}

// T17: a database that lost what was committed is told from the one that was used last.
func TestARestoredSQLiteIsDetected(t *testing.T) {
	cfg := storetest.Config(t, "sqlite")
	open := func() store.RestoreReport {
		t.Helper()
		db, err := store.Open(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		return db.Restored()
	}
	for range 3 {
		if r := open(); r.Restored {
			t.Fatalf("an ordinary start: %+v", r)
		}
	}
	backup, err := os.ReadFile(cfg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		open()
	}
	for _, f := range []string{"-wal", "-shm"} {
		if err := os.RemoveAll(cfg.DSN + f); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(cfg.DSN, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := open(); !r.Restored || !strings.Contains(r.Reason, "marker") {
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
	if r := open(); r.Restored {
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
				db, err := store.Open(ctx, c)
				if err != nil || db.Restored().Restored {
					t.Fatal(err, db.Restored())
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
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
	open := func() store.RestoreReport {
		db, err := store.Open(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		return db.Restored()
	}
	open()
	before, err := os.ReadFile(cfg.DSN + ".marker")
	if err != nil {
		t.Fatal(err)
	}
	open()
	if err := os.WriteFile(cfg.DSN+".marker", before, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := open(); r.Restored {
		t.Fatalf("%+v", r)
	}
}

func TestAPromotedPostgresIsDetected(t *testing.T) {
	cfg := storetest.Config(t, "postgres")
	open := func() store.RestoreReport {
		db, err := store.Open(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		return db.Restored()
	}
	open()
	if r := open(); r.Restored {
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
	if r := open(); !r.Restored || !strings.Contains(r.Reason, "timeline") {
		t.Fatalf("after a promotion: %+v", r)
	}
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
