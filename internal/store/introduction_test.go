package store_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

func TestIntroductions(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		one := store.Introduction{MXID: "@bob:hs", ID: "a", Hash: bytes.Repeat([]byte{1}, 32), UntilMS: 1000, CreatedMS: 1}
		many := store.Introduction{MXID: "@bob:hs", ID: "b", Hash: bytes.Repeat([]byte{2}, 32), Many: true, UntilMS: store.Never, CreatedMS: 2}
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.AddIntroduction(ctx, one), tx.AddIntroduction(ctx, many))
		})
		same(t, "codes", ok(db.Introductions(ctx, "@bob:hs"))(t), []store.Introduction{one, many})
		for n, c := range []struct {
			hash []byte
			mxid string
			user string
			now  int64
			want bool
		}{
			{one.Hash, "@carol:hs", "x", 1, false},
			{one.Hash, "@bob:hs", "x", 1000, false},
			{one.Hash, "@bob:hs", "x", 1, true},
			{one.Hash, "@bob:hs", "x", 1, true}, // asks again
			{one.Hash, "@bob:hs", "y", 1, false},
			{many.Hash, "@bob:hs", "x", 1, true},
			{many.Hash, "@bob:hs", "y", 5000, true},
			{bytes.Repeat([]byte{3}, 32), "@bob:hs", "x", 1, false},
		} {
			must(t, db, func(ctx context.Context, tx *store.Tx) error {
				good, err := tx.UseIntroduction(ctx, c.mxid, c.hash, c.user, c.now)
				if good != c.want {
					t.Errorf("use %d: %v", n, good)
				}
				return err
			})
		}
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			there, err := tx.DropIntroduction(ctx, "@bob:hs", "b")
			again, err2 := tx.DropIntroduction(ctx, "@bob:hs", "b")
			if !there || again {
				t.Errorf("dropped: %v, again: %v", there, again)
			}
			return errors.Join(err, err2)
		})
		if _, err := db.Cleanup(ctx, store.Retention{}, time.UnixMilli(2000), 100, 1); err != nil {
			t.Fatal(err)
		}
		same(t, "codes in the end", len(ok(db.Introductions(ctx, "@bob:hs"))(t)), 0)
	})
}
