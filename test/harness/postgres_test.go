package harness

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"testing"
	"time"
)

func TestPostgresIsSyncedUnlessAskedAndSurvivesACrash(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for name, unsynced := range map[string]bool{"on": false, "off": true} {
		t.Run("fsync="+name, func(t *testing.T) {
			pg, err := StartPostgres(ctx, PostgresConfig{Unsynced: unsynced})
			if errors.Is(err, ErrNoPostgres) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := pg.Stop(); err != nil {
					t.Error(err)
				}
				if _, err := os.Stat(pg.dir); !os.IsNotExist(err) {
					t.Errorf("%s is left behind: %v", pg.dir, err)
				}
			})
			uri, err := pg.Database(ctx, t.Name())
			if err != nil {
				t.Fatal(err)
			}
			other, err := pg.Database(ctx, t.Name())
			if err != nil || other == uri {
				t.Fatalf("second database is %s, %v; the first is %s", other, err, uri)
			}
			db, err := sql.Open("postgres", uri)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
				var got string
				if err := db.QueryRowContext(ctx, "SHOW "+setting).Scan(&got); err != nil || got != name {
					t.Fatalf("%s is %q, %v; want %q", setting, got, err, name)
				}
			}
			if unsynced {
				return
			}
			if _, err := db.ExecContext(ctx, "CREATE TABLE kept (n INT); INSERT INTO kept VALUES (7)"); err != nil {
				t.Fatal(err)
			}
			if err := pg.Crash(); err != nil {
				t.Fatal(err)
			}
			if err := pg.Start(ctx); err != nil {
				t.Fatal(err)
			}
			fresh, err := sql.Open("postgres", uri)
			if err != nil {
				t.Fatal(err)
			}
			defer fresh.Close()
			var n int
			if err := fresh.QueryRowContext(ctx, "SELECT n FROM kept").Scan(&n); err != nil || n != 7 {
				t.Fatalf("after the crash the committed row reads %d, %v", n, err)
			}
		})
	}
}
