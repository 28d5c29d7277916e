package store_test

import (
	"context"
	"errors"
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

func TestFindables(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		a := store.Findable{MXID: "@a:hs", Field: "email", Value: "A@x", Folded: "a@x", CreatedMS: 1}
		b := store.Findable{MXID: "@b:hs", Field: "email", Value: "a@x", Folded: "a@x", CreatedMS: 2}
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.PutFindable(ctx, b), tx.PutFindable(ctx, a), tx.PutFindable(ctx, store.Findable{MXID: "@a:hs", Field: "name", Value: "x", Folded: "x"}),
				tx.SetSetting(ctx, "@b:hs", "searchable", "yes"), tx.SetSetting(ctx, "@a:hs", "searchable", "yes"), tx.SetSetting(ctx, "@c:hs", "other", "yes"),
				tx.SetSetting(ctx, "@d:hs", "searchable", "yes"), tx.PutFindable(ctx, store.Findable{MXID: "@c:hs", Field: "name", Value: "c", Folded: "c"}))
		})
		same(t, "by value", ok(db.FindableBy(ctx, "email", "a@x", "", 10))(t), []string{"@a:hs", "@b:hs"})
		same(t, "after one", ok(db.FindableBy(ctx, "email", "a@x", "@a:hs", 10))(t), []string{"@b:hs"})
		same(t, "in another field", len(ok(db.FindableBy(ctx, "name", "a@x", "", 10))(t)), 0)
		same(t, "who wants it", ok(db.ScopesWith(ctx, "searchable", "yes", "", 1))(t), []string{"@a:hs"})
		same(t, "who else", ok(db.ScopesWith(ctx, "searchable", "yes", "@a:hs", 10))(t), []string{"@b:hs", "@d:hs"})
		same(t, "of some", ok(db.FindablesOf(ctx, "searchable", "yes", []string{"@c:hs", "@b:hs", "@d:hs"}))(t), map[string][]store.Findable{"@b:hs": {b}, "@d:hs": nil})
		same(t, "of nobody", ok(db.FindablesOf(ctx, "searchable", "yes", nil))(t), map[string][]store.Findable{})
		same(t, "of all", len(ok(db.FindablesOf(ctx, "searchable", "yes", []string{"@a:hs", "@b:hs"}))(t)["@a:hs"]), 2)
		a.Value, a.Folded = "other", "other"
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			there, err := tx.DropFindable(ctx, "@a:hs", "name")
			again, err2 := tx.DropFindable(ctx, "@a:hs", "name")
			if !there || again {
				t.Errorf("dropped %v, again %v", there, again)
			}
			return errors.Join(err, err2, tx.PutFindable(ctx, a))
		})
		same(t, "changed", ok(db.Findables(ctx, "@a:hs"))(t), []store.Findable{a})
	})
}
