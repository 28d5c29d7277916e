package store_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Every shard has one owner; processes share evenly; a dead one's are taken when its lease is over.
func TestShardsAreShared(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		c := &clock{now: time.UnixMilli(1_700_000_000_000)}
		cfg.Clock = c.Now
		db := storetest.Open(t, cfg)
		held := map[string][]store.Shard{}
		renew := func(owners ...string) {
			t.Helper()
			for _, o := range owners {
				must(t, db, func(ctx context.Context, tx *store.Tx) (err error) {
					held[o], err = tx.RenewShards(ctx, o)
					return err
				})
			}
			who := map[store.Shard]string{}
			for o, shards := range held {
				for _, s := range shards {
					if other, twice := who[s]; twice {
						t.Fatalf("shard %d belongs to %s and %s", s, o, other)
					}
					who[s] = o
				}
			}
		}
		sizes := func(a, b, c int) {
			t.Helper()
			if len(held["a"]) != a || len(held["b"]) != b || len(held["c"]) != c {
				t.Fatalf("shards: a %d, b %d, c %d; want %d, %d, %d", len(held["a"]), len(held["b"]), len(held["c"]), a, b, c)
			}
		}
		renew("a")
		sizes(1024, 0, 0)
		renew("b", "a", "b")
		sizes(512, 512, 0)
		renew("c", "a", "b", "c")
		sizes(342, 342, 340)
		// a is killed: its shards stay its own until the lease is over.
		c.add(store.LeaseRenew)
		renew("b", "c")
		sizes(342, 342, 340)
		delete(held, "a")
		c.add(store.LeaseLife - store.LeaseRenew)
		renew("b", "c")
		sizes(0, 512, 512)
		if owner := ok(db.ShardOwner(ctx, held["b"][0]))(t); owner != "b" {
			t.Fatalf("the shard belongs to %s", owner)
		}
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.ReleaseShards(ctx, "b") })
		delete(held, "b")
		renew("c")
		sizes(0, 0, 1024)
	})
}

func TestAllowancesAreCountedInWindows(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		now := time.UnixMilli(1_700_000_000_000)
		allow := func(key string, n int64) bool {
			return do(db, func(ctx context.Context, tx *store.Tx) error {
				return tx.Allow(ctx, "claims", key, n, 10, time.Hour, now)
			}) == nil
		}
		if !allow("p", 9) || allow("p", 2) || !allow("p", 1) || allow("p", 1) || !allow("q", 10) {
			t.Fatal("the limit of 10 is not kept")
		}
		now = now.Add(time.Hour)
		if !allow("p", 10) {
			t.Fatal("the next hour has no new allowance")
		}
		if n, err := db.Cleanup(ctx, store.Retention{}, now.Add(time.Hour), 100, 1); err != nil || n != 3 {
			t.Fatalf("%d rows were cleaned, %v", n, err)
		}
	})
}

// A process that was killed leaves no lease behind that the next one of its installation would have to wait for. Those of
// other installations stay, and with PostgreSQL also those of a process whose connections are still there.
func TestLeasesEndWithTheirProcess(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		cfg.MarkerFile = filepath.Join(t.TempDir(), "marker")
		other := cfg
		other.MarkerFile = filepath.Join(t.TempDir(), "marker")
		open := func(cfg store.Config) *store.DB {
			t.Helper()
			db, err := store.Open(context.Background(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			return db
		}
		take := func(db *store.DB, want int) {
			t.Helper()
			must(t, db, func(ctx context.Context, tx *store.Tx) error {
				held, err := tx.RenewShards(ctx, "relay/"+db.Life())
				if err == nil && len(held) != want {
					t.Errorf("%d shards are held, want %d", len(held), want)
				}
				return err
			})
		}
		room := store.Room{}
		for range 2 { // nothing is given back
			db := open(cfg)
			take(db, store.Shards)
			room = storetest.Room(t, db)
			must(t, db, func(ctx context.Context, tx *store.Tx) error {
				_, err := tx.AddOutbound(ctx, []store.Outbound{{Room: room.ID, Dest: "matrix", Seq: 1, Verb: "x"}})
				if err == nil {
					_, err = tx.ClaimLane(ctx, store.Lane{Room: room.ID, Dest: "matrix"}, "outbox/"+db.Life(), store.LeaseLife.Milliseconds(), true)
				}
				return err
			})
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if cfg.Driver == "sqlite" {
			other = cfg // there is no other beside it
		} else {
			db := open(other)
			take(db, 0)
			must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.ReleaseShards(ctx, "relay/"+db.Life()) })
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
		db := open(cfg)
		take(db, store.Shards)
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			l, err := tx.ClaimLane(ctx, store.Lane{Room: room.ID, Dest: "matrix"}, "outbox/"+db.Life(), 1, true)
			if err == nil && !l.Unclean {
				t.Error("the lane does not say that its sender died")
			}
			return err
		})
		life := db.Life()
		if err := db.Close(); err != nil || cfg.Driver == "sqlite" {
			return
		}
		// Something of the dead process still runs in the server.
		conn, err := sql.Open("postgres", cfg.DSN+"&application_name=mimi-bridge/"+life)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.Ping(); err != nil {
			t.Fatal(err)
		}
		db = open(cfg)
		take(db, 0)
		// A copy of the marker file says nothing of the process that has the file.
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.ReleaseShards(ctx, "relay/"+life) })
		take(db, store.Shards)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		copied := cfg
		copied.MarkerFile = filepath.Join(t.TempDir(), "marker")
		if err := os.WriteFile(copied.MarkerFile, ok(os.ReadFile(cfg.MarkerFile))(t), 0o600); err != nil {
			t.Fatal(err)
		}
		db = open(copied)
		defer db.Close()
		take(db, 0)
	})
}
