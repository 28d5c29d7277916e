package store_test

import (
	"context"
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

func TestWhoSharesARoomWithAProvider(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		one, other := storetest.Room(t, db).ID, storetest.Room(t, db).ID
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return tx.PutMembers(ctx,
				store.Member{Room: one, MXID: "@bob:hs", URI: "mimi://b.example/u/bob", Membership: "invite", Listed: true, Leaf: -1},
				store.Member{Room: one, MXID: "@mimi_alice:hs", URI: "mimi://A.example/u/alice", Ghost: true, Membership: "join", Listed: true, Leaf: -1},
				store.Member{Room: one, MXID: "@mimi_gone:hs", URI: "mimi://gone.example/u/x", Ghost: true, Membership: "leave", Leaf: -1},
				store.Member{Room: other, MXID: "@bob:hs", URI: "mimi://b.example/u/bob", Membership: "leave", Leaf: -1},
				store.Member{Room: other, MXID: "@mimi_carol:hs", URI: "mimi://c.example/u/carol", Ghost: true, Membership: "join", Listed: true, Leaf: -1})
		})
		for domain, want := range map[string]bool{"a.example": true, "_.example": false, "%": false, "gone.example": false, "c.example": false, "example": false} {
			same(t, domain, ok(db.SharesRoom(ctx, "@bob:hs", domain))(t), want)
		}
		same(t, "somebody else", ok(db.SharesRoom(ctx, "@carol:hs", "a.example"))(t), false)
	})
}
