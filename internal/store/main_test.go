package store_test

import (
	"context"
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// must runs a transaction that has to succeed.
func must(t testing.TB, db *store.DB, fn func(ctx context.Context, tx *store.Tx) error) {
	t.Helper()
	if err := do(db, fn); err != nil {
		t.Fatal(err)
	}
}

func do(db *store.DB, fn func(ctx context.Context, tx *store.Tx) error) error {
	ctx := context.Background()
	return db.Tx(ctx, func(tx *store.Tx) error { return fn(ctx, tx) })
}

func ok[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
