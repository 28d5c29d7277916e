package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
	"github.com/matrix-mimi/bridge/test/harness"
)

// A PostgreSQL that syncs its commits is taken without an override; what it acknowledged survives its
// crash, and the store works on by itself when it is back.
func TestACrashedPostgresKeepsWhatItAcknowledged(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED ON POSTGRESQL: -short")
	}
	long, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	pg, err := harness.StartPostgres(long, harness.PostgresConfig{})
	if errors.Is(err, harness.ErrNoPostgres) {
		t.Skip("NOT TESTED ON POSTGRESQL: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	})
	dsn, err := pg.Database(long, "crash")
	if err != nil {
		t.Fatal(err)
	}
	cfg := store.Config{Driver: "postgres", DSN: dsn, Sealer: storetest.Keys(t)}
	if _, err := store.Migrate(long, cfg); err != nil {
		t.Fatal(err)
	}
	db := storetest.Open(t, cfg)
	room := storetest.Room(t, db)
	for range 20 {
		must(t, db, func(ctx context.Context, tx *store.Tx) (err error) {
			room, err = tx.StepRoom(ctx, room, store.Settle{})
			return err
		})
	}
	if err := pg.Crash(); err != nil {
		t.Fatal(err)
	}
	if err := db.Ping(long); err == nil || !store.Temporary(err) {
		t.Fatalf("while it is down: %v", err)
	}
	if err := pg.Start(long); err != nil {
		t.Fatal(err)
	}
	if err := db.Ping(long); err != nil {
		t.Fatalf("when it is back: %v", err)
	}
	if got := ok(db.Room(ctx, room.ID))(t); got.Version != room.Version {
		t.Fatalf("version %d was acknowledged, %d is stored", room.Version, got.Version)
	}
	if r := storetest.Open(t, cfg).Restored(); r.Restored {
		t.Fatalf("a crash looks like a restore: %+v", r)
	}
}
