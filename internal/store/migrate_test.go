package store_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

// Tables that are made anew on SQLite keep their rows, their references and their indexes.
func TestTablesThatAreMadeAnewKeepTheirRows(t *testing.T) {
	cfg := store.Config{Driver: "sqlite", DSN: filepath.Join(t.TempDir(), "bridge.db"), AllowUnsafe: true, Sealer: storetest.Keys(t)}
	if err := store.MigrateTo(ctx, cfg, 60); err != nil {
		t.Fatal(err)
	}
	old, err := sql.Open("sqlite", cfg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	id := make([]byte, 16)
	shard := store.RoomID(id).Shard()
	for _, q := range []string{
		`INSERT INTO room (shard, room, kind, due_ms, created_ms) VALUES ($1, $2, 'hub', 0, 0)`,
		`INSERT INTO body (shard, room, seq, sealed_data, created_ms) VALUES ($1, $2, 5, 'b', 0)`,
		`INSERT INTO outbound (shard, room, dest, seq, state, verb, body, sealed_data, answer_to, created_ms, taken_ms, taken_hash) VALUES ($1, $2, 'mimi:a', 7, 'ready', 'notify', 5, '', 'none', 3, 4, 'hash')`,
		`INSERT INTO answer (shard, room, hash, peer, verb, status, sealed_body, until_ms) VALUES ($1, $2, zeroblob(32), 'p', 'v', 200, 'x', 9)`,
		`INSERT INTO room_log (shard, room, seq, kind, grp, epoch, hash, sender, accepted_ms) VALUES ($1, $2, 1, 'commit', 0, 4, 'h', 's', 2)`,
		`INSERT INTO outbound_mls (shard, room, grp, epoch, leaf, kind, generation, hash) VALUES ($1, $2, 0, 1, 2, 3, 4, 'g')`,
		`INSERT INTO seen (shard, room, kind, key, created_ms) VALUES ($1, $2, 'event', '$e', 8)`,
		`INSERT INTO link (shard, room, seq, event_id, direction, kind, created_ms) VALUES ($1, $2, 1, '$e', 'in', 'message', 6)`,
		`INSERT INTO link (shard, room, seq, direction, kind, created_ms) VALUES ($1, $2, 2, 'in', 'message', 6), ($1, $2, 3, 'in', 'message', 6)`,
	} {
		if _, err := old.Exec(q, shard, id); err != nil {
			t.Fatal(q, err)
		}
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cfg.Log = zerolog.New(&log)
	if _, err := store.Migrate(ctx, cfg); err != nil || !strings.Contains(log.String(), `"from":60`) {
		t.Fatal(err, log.String())
	}
	db := storetest.Open(t, cfg)
	one := func(query string) (out string) {
		t.Helper()
		if err := db.Side().QueryRow(query).Scan(&out); err != nil {
			t.Fatal(query, err)
		}
		return out
	}
	for query, want := range map[string]string{
		`SELECT dest || seq || verb || body || created_ms || taken_ms || taken_hash FROM outbound`: "mimi:a7notify534hash",
		`SELECT hex(hash) || peer || status || until_ms FROM answer`:                               strings.Repeat("00", 32) + "p2009",
		`SELECT seq || kind || epoch || sender || accepted_ms FROM room_log`:                       "1commit4s2",
		`SELECT epoch || leaf || kind || generation || hash FROM outbound_mls`:                     "1234g",
		`SELECT kind || key || created_ms FROM seen`:                                               "event$e8",
		`SELECT group_concat(seq || COALESCE(event_id, '-'), ' ') FROM link`:                       "1$e 2- 3-",
		`SELECT COUNT(*) FROM sqlite_schema WHERE sql LIKE '%) WITHOUT ROWID'`:                     "5",
		`SELECT COUNT(*) FROM pragma_foreign_key_check`:                                            "0",
		`SELECT * FROM pragma_integrity_check`:                                                     "ok",
		`SELECT group_concat(name, ' ') FROM (SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ('outbound', 'room_log', 'seen', 'link') ORDER BY name)`: "link_event link_first link_topic outbound_body outbound_taken room_log_commit seen_age",
	} {
		if got := one(query); got != want {
			t.Errorf("%s: %s, not %s", query, got, want)
		}
	}
	// What the constraints kept out they keep out still.
	err = do(db, func(ctx context.Context, tx *store.Tx) error {
		return tx.AddLinks(ctx, store.Link{Room: store.RoomID(id), Seq: 4, EventID: "$e", Direction: store.In, Kind: "message"})
	})
	if !errors.Is(err, store.ErrDuplicate) {
		t.Errorf("an event linked twice: %v", err)
	}
	err = do(db, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.AddOutbound(ctx, []store.Outbound{{Room: store.RoomID(id), Dest: "mimi:a", Seq: 8, Verb: "notify", Body: 6}})
		return err
	})
	if !store.IsConstraint(err) {
		t.Errorf("a row whose body is not there: %v", err)
	}
}

// An index that leaves rows out is still the one by which links are found.
func TestLinksAreFoundByAnIndex(t *testing.T) {
	db := storetest.Open(t, storetest.Config(t, "sqlite"))
	plan, err := db.Plan(ctx, `SELECT seq FROM link WHERE shard = $1 AND room = $2 AND event_id = $3`, 1, []byte{2}, "$e")
	if err != nil || !strings.Contains(strings.Join(plan, "\n"), "link_event (shard=? AND room=? AND event_id=?)") {
		t.Errorf("%v %v", plan, err)
	}
}
