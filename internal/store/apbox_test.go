package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

func TestActivitiesInCollections(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		ctx := context.Background()
		place := func(reader string) store.Listing { return store.Listing{Box: "out", Owner: "a", Reader: reader} }
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return tx.PutActivities(ctx, []store.Activity{
				{ID: "1", Object: "o1", Body: []byte("one"), CreatedMS: 1, Lists: []store.Listing{place("bob"), place("carol")}},
				{ID: "2", Body: []byte("two"), CreatedMS: 2, Lists: []store.Listing{place("bob")}},
				{ID: "3", Object: "o1", Body: []byte("three"), CreatedMS: 3, Lists: []store.Listing{place(""), place("bob")}},
			})
		})
		page := ok(db.Activities(ctx, "out", "a", "bob", "", 2))(t)
		if len(page.Bodies) != 2 || string(page.Bodies[0]) != "three" || page.Next == "" {
			t.Fatalf("%+v", page)
		}
		if rest := ok(db.Activities(ctx, "out", "a", "bob", page.Next, 2))(t); len(rest.Bodies) != 1 || string(rest.Bodies[0]) != "one" || rest.Next != "" {
			t.Errorf("%+v", rest)
		}
		if p := ok(db.Activities(ctx, "out", "a", "eve", "", 9))(t); len(p.Bodies) != 1 {
			t.Errorf("%+v", p)
		}
		if p := ok(db.Activities(ctx, "in", "a", "bob", "", 9))(t); len(p.Bodies) != 0 {
			t.Errorf("%+v", p)
		}
		for reader, want := range map[string]int{"bob": 3, "carol": 2, "eve": 1} {
			same(t, "counted for "+reader, ok(db.CountActivities(ctx, "out", "a", reader))(t), want)
		}
		same(t, "the latest with an object", string(ok(db.Activity(ctx, "o1", "carol"))(t)), "three")
		_, err := db.Activity(ctx, "2", "carol")
		missing(t, "another's", err)

		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.DropActivities(ctx, []string{"3", "none"}) })
		if p := ok(db.Activities(ctx, "out", "a", "bob", "", 9))(t); len(p.Bodies) != 2 || string(p.Bodies[0]) != "two" {
			t.Errorf("after one was deleted: %+v", p)
		}
		same(t, "counted after one was deleted", ok(db.CountActivities(ctx, "out", "a", "eve"))(t), 0)
		same(t, "what is left of an object", string(ok(db.Activity(ctx, "o1", "carol"))(t)), "one")

		in := func(owner string) store.Listing { return store.Listing{Box: "in", Owner: owner, Reader: owner} }
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.PutActivities(ctx, []store.Activity{
				{ID: "4", Body: []byte("four"), CreatedMS: 4, Lists: []store.Listing{in("a"), in("b")}},
				{ID: "5", Body: []byte("five"), CreatedMS: 5, Lists: []store.Listing{in("a")}},
			}), tx.DropActivitiesOf(ctx, "a"))
		})
		for box, want := range map[store.Listing]int{{Box: "out", Owner: "a", Reader: "bob"}: 0, in("a"): 0, in("b"): 1} {
			same(t, box.Box+" of "+box.Owner, ok(db.CountActivities(ctx, box.Box, box.Owner, box.Reader))(t), want)
		}
		_, err = db.Activity(ctx, "5", "a")
		missing(t, "what only a deleted owner received", err)
	})
}

// However many activities there are, one is found by an index.
func TestActivitiesAreFoundByIndexes(t *testing.T) {
	db := storetest.Open(t, storetest.Config(t, "sqlite"))
	for _, step := range ok(db.Plan(ctx, store.FindActivity, []byte("a"), []byte("b"), []byte("c")))(t) {
		if strings.HasPrefix(step, "SCAN") {
			t.Error(step)
		}
	}
}

func TestActorsAndTheirKeys(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		ctx := context.Background()
		const actor = "https://c.example/u/1"
		one, two := make([]byte, 32), append(make([]byte, 31), 1)
		see := func(all bool, keys ...[]byte) (fresh int, known bool) {
			must(t, db, func(ctx context.Context, tx *store.Tx) error {
				var list []store.ActorKey
				for _, k := range keys {
					list = append(list, store.ActorKey{Fingerprint: k, Offered: true})
				}
				f, k, err := tx.SeeActorKeys(ctx, actor, list, all, 7)
				fresh, known = len(f), k
				return err
			})
			return fresh, known
		}
		if fresh, known := see(true, one); fresh != 1 || known {
			t.Errorf("first %d %v", fresh, known)
		}
		if fresh, known := see(true, two); fresh != 1 || !known {
			t.Errorf("second %d %v", fresh, known)
		}
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return tx.MarkActorKeys(ctx, "@a:b", actor, [][]byte{two}, 9)
		})
		keys := ok(db.ActorKeys(ctx, actor, "@a:b"))(t)
		if len(keys) != 2 || keys[0].Offered || !keys[1].Offered || keys[1].MarkedMS != 9 || keys[0].MarkedMS != 0 {
			t.Errorf("%+v", keys)
		}
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return tx.Spend(ctx, actor, 1, []byte("x"), []byte("x"))
		})
		same(t, "spent", ok(db.Spent(ctx, actor, []byte("x")))(t), int64(1))
		same(t, "not spent", ok(db.Spent(ctx, "other", []byte("x")))(t), int64(0))
	})
}
