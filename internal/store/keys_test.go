package store_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/sealed"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

// Keys at rest: nothing planted is readable in the files, and the wrong key file
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
