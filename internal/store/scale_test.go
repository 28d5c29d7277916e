package store_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

// large are the tables that grow with rooms, users and messages.
const large = `room|room_name|epoch|piece|member|room_state|link|outbound_mls|seen|answer|room_log|input|lane|evidence|bridge_user|ghost|keypackage|keypackage_route|` +
	`consent|transaction_seen|setting|ap_activity|ap_listing|ap_spent|outbound|body|dead_letter|introduction|report|audit|allowance`

var (
	// scans is how SQLite says that it goes through a large table, or through all of it that has one of few values.
	scans = regexp.MustCompile(`^SCAN (` + large + `)\b|^SEARCH (room|keypackage|consent|input|lane) .*\((shard|state|direction|user_uri)=\?\)|` +
		`^SEARCH keypackage .*not_after_ms>|^SEARCH (seen|dead_letter|report|consent|room_log|answer|evidence) .*\(shard=\? AND room=\?\)`)
	// chooses are statements that look for rows; small are those of tables that are looked through each hour and stay small, or that
	// take any few rows.
	chooses   = regexp.MustCompile(`^(SELECT|UPDATE|DELETE)`)
	small     = regexp.MustCompile(`^DELETE FROM (consent WHERE \(direction, owner|body)|^UPDATE keypackage .* LIMIT`)
	seqScan   = regexp.MustCompile(`Seq Scan on (` + large + `)\b`)
	indexScan = regexp.MustCompile(`Index (Only )?Scan.* on (` + large + `)\b`)
)

// What runs every few moments, or for each request or message, is found by indexes on both databases, however large the tables are.
func TestWhatRunsOftenIsFoundByIndexes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		asked := db
		if cfg.Driver != "sqlite" { // the statements are the same
			asked = storetest.Open(t, storetest.Config(t, "sqlite"))
		}
		had := asked.Statements()
		for name, fn := range often(t, asked) {
			if err := fn(); err != nil && !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("%s: %v", name, err)
			}
			all := asked.Statements()
			for _, q := range all {
				if slices.Contains(had, q) || !chooses.MatchString(q) || small.MatchString(q) {
					continue
				}
				if db == asked {
					checkSQLite(t, db, name, q)
				} else {
					checkPostgres(t, db, asked, name, q)
				}
			}
			had = all
		}
	})
}

// often is what runs often, by what it is for.
func often(t *testing.T, db *store.DB) map[string]func() error {
	ctx := context.Background()
	room := storetest.Room(t, db).ID
	tx := func(fn func(ctx context.Context, tx *store.Tx) error) func() error {
		return func() error { return do(db, fn) }
	}
	return map[string]func() error{
		"due rooms":     func() error { _, err := db.DueRooms(ctx, "me", 256); return err },
		"due lanes":     func() error { _, err := db.DueLanes(ctx, "me", 256, "mimi:c.example"); return err },
		"failing lanes": func() error { _, err := db.FailingBetween(ctx, 1, 2); return err },
		"old lanes":     func() error { _, err := db.OldLanes(ctx, 1, 1, 100); return err },
		"old assets":    func() error { _, err := db.ExpiredAssets(ctx, 1, 100); return err },
		"stock":         func() error { _, err := db.KeyPackageStock(ctx, "mimi://a.example/u/x", 1); return err },
		"claimed":       func() error { _, err := db.ClaimedKeyPackage(ctx, "mimi://a.example/u/x", "y", 1); return err },
		"consents":      func() error { _, err := db.ConsentsBy(ctx, store.In, "mimi://b.example/u/y"); return err },
		"rooms":         func() error { _, err := db.Rooms(ctx, room, 100); return err },
		"memberships":   func() error { _, err := db.RoomsOf(ctx, "@x:a.example"); return err },
		"links":         func() error { _, err := db.LinksByMIMI(ctx, room, []byte{1}); return err },
		"a link":        func() error { _, err := db.LinkByEvent(ctx, room, "$1"); return err },
		"cleaning":      func() error { _, err := db.Cleanup(ctx, store.DefaultRetention, time.Now(), 100, 1); return err },
		"recovery":      func() error { _, _, err := db.BeginRecovery(ctx); return err },
		"a lane": func() error {
			_, err := db.LaneRows(ctx, store.Lane{Room: room, Dest: "mimi:b.example"}, 50, 1<<20)
			return err
		},
		"a claim": tx(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.ClaimKeyPackage(ctx, "mimi://a.example/u/x", []int64{1}, "b.example", "", 1, 1)
			return err
		}),
		"not tried": tx(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.FailWaiting(ctx, 1, "away", 100, "mimi:b.example", "mimi:c.example")
			return err
		}),
		"no consents":  tx(func(ctx context.Context, tx *store.Tx) error { return tx.DeleteConsents(ctx, "mimi://b.example/u/y") }),
		"not answered": tx(func(ctx context.Context, tx *store.Tx) error { _, err := tx.AskAgain(ctx, 1, 100); return err }),
		"an arrival": tx(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.AddInputs(ctx, []store.NewInput{{Room: room, Kind: "x", Epoch: -1, Body: []byte("x"), SeenKind: "event", SeenKey: "$1"}})
			return err
		}),
	}
}

func checkSQLite(t *testing.T, db *store.DB, name, query string) {
	t.Helper()
	for _, step := range ok(db.Plan(context.Background(), query, make([]any, params(query))...))(t) {
		if scans.MatchString(step) && !strings.HasSuffix(step, "USING INDEX lane_failing") { // of those that fail only
			t.Errorf("%s: %s\n%s", name, step, query)
		}
	}
}

func checkPostgres(t *testing.T, db, asked *store.DB, name, query string) {
	t.Helper()
	plan := ok(db.Uses(context.Background(), asked, query, params(query)))(t)
	lines := strings.Split(plan, "\n")
	for i, line := range lines {
		if seqScan.MatchString(line) || indexScan.MatchString(line) && !strings.Contains(lines[i+1], "Index Cond") {
			t.Errorf("%s: %s\n%s\n%s", name, strings.TrimSpace(line), query, plan)
		}
	}
}

// params is how many parameters a statement has.
func params(query string) int {
	n := 0
	for strings.Contains(query, fmt.Sprintf("$%d", n+1)) {
		n++
	}
	return n
}

// When values are sealed anew, each statement goes on where the last one ended.
func TestSealingAnewLooksThroughNothingTwice(t *testing.T) {
	db := storetest.Open(t, storetest.Config(t, "sqlite"))
	must(t, db, func(ctx context.Context, tx *store.Tx) error {
		for i := range 3 {
			if err := tx.AddKeyPackages(ctx, store.KeyPackage{Ref: []byte{byte(i)}, UserURI: "mimi://a.example/u/x", Suite: 1, Public: []byte{1}, Private: []byte("secret")}); err != nil {
				return err
			}
		}
		return nil
	})
	if err := db.RotateDataKey(ctx); err != nil {
		t.Fatal(err)
	}
	same(t, "sealed anew", ok(db.Reseal(ctx, 2))(t), 3)
	var plans []string
	for _, q := range db.Statements() {
		if strings.Contains(q, "sealed_private < $1") {
			plans = append(plans, ok(db.Plan(ctx, q, make([]any, params(q))...))(t)...)
		}
	}
	if !slices.ContainsFunc(plans, func(step string) bool { return strings.Contains(step, "(ref>?)") }) {
		t.Errorf("KeyPackages are looked for by %q", plans)
	}
}

// What is past its time goes in one go, transaction by transaction: tables that are walked through are so once.
func TestCleanupEndsABacklog(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		room := storetest.Room(t, db).ID
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			for i := range int64(25) {
				if _, err := tx.MarkSeen(ctx, []store.Seen{{Room: room, Kind: "event", Key: fmt.Sprint(i), CreatedMS: 1}}); err != nil {
					return err
				}
				if err := tx.Log(ctx, store.LogEntry{Room: room, Seq: i, AcceptedMS: 1}); err != nil {
					return err
				}
			}
			return nil
		})
		now := time.UnixMilli(1).Add(365 * 24 * time.Hour)
		same(t, "two rounds", ok(db.Cleanup(ctx, store.DefaultRetention, now, 10, 2))(t), int64(40))
		same(t, "the rest", ok(db.Cleanup(ctx, store.DefaultRetention, now, 3, 100))(t), int64(10))
	})
}

// Statements of many rows, of which there is one for each number, are not kept compiled: what is asked often stays so.
func TestStatementsOfManyRowsAreNotKept(t *testing.T) {
	db := storetest.Open(t, storetest.Config(t, "sqlite"))
	room := storetest.Room(t, db).ID
	for n := range 150 {
		marks := make([]store.Seen, n)
		for i := range marks {
			marks[i] = store.Seen{Room: room, Kind: fmt.Sprint(n), Key: fmt.Sprint(i)}
		}
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			fresh, err := tx.MarkSeen(ctx, marks)
			if slices.Contains(fresh, false) {
				t.Errorf("of %d marks some were there", n)
			}
			return err
		})
	}
	had := len(db.Statements())
	ok(db.RoomsOf(ctx, "@x:a.example"))(t)
	if now := len(db.Statements()); now != had+1 || now > 120 {
		t.Errorf("%d statements are kept, then %d", had, now)
	}
}
