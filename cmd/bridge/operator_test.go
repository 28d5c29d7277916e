package main

import (
	"errors"
	"slices"
	"testing"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/mimiside/peer"
)

// A block holds at once, over a reload of the rules and over a restart, and stands in the audit log.
func TestAdministratorsBlockProviders(t *testing.T) {
	db := storetest.Open(t, storetest.Config(t, "sqlite"))
	cfg := &config.Config{}
	cfg.MIMI.Domain = "b.example"
	start := func() *operator {
		fedi := &activityPub{face: &relay.ActivityPub{Relay: &relay.Relay{Deps: relay.Deps{Store: db}}}, blocks: &blockedDomains{settings: []string{"bad.example"}}}
		o := &operator{app: &app{db: db, cfg: cfg, fedi: fedi}, p: &provider{book: peer.NewBook(peer.Rules{})}}
		if err := o.loadBlocked(t.Context(), o.p); err != nil {
			t.Fatal(err)
		}
		return o
	}
	o := start()
	if o.p.book.Of("spam.example").Blocked {
		t.Fatal("blocked before anybody said so")
	}
	if err := o.SetBlocked(t.Context(), "@admin:hs", "Spam.example", true); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{"spam.example": true, "a.spam.example": true, "notspam.example": false, "bad.example": true, "x.bad.example": true, "ham.example": false} {
		if o.fedi.blocks.has(host) != want {
			t.Errorf("for ActivityPub %s is blocked: %v", host, !want)
		}
	}
	o.p.book.Replace(peer.Rules{})
	for name, book := range map[string]*peer.Book{"now": o.p.book, "after a restart": start().p.book} {
		if !book.Of("SPAM.example").Blocked || book.Of("ham.example").Blocked {
			t.Errorf("%s: the wrong ones are blocked", name)
		}
	}
	if err := o.SetBlocked(t.Context(), "@admin:hs", "spam.example", false); err != nil {
		t.Fatal(err)
	}
	if o.fedi.blocks.has("spam.example") {
		t.Error("still blocked for ActivityPub")
	}
	if o.p.book.Of("spam.example").Blocked || start().p.book.Of("spam.example").Blocked {
		t.Error("still blocked")
	}
	for _, domain := range []string{"", "b.example", "no domain", "a.example/x"} {
		if err := o.SetBlocked(t.Context(), "@admin:hs", domain, true); err == nil {
			t.Errorf("%q was blocked", domain)
		}
	}
	log, err := o.AuditLog(t.Context(), 10)
	did := map[string]int{} // both may be of the same millisecond
	for _, e := range log {
		did[e.Actor+" "+e.Action+" "+e.Subject]++
	}
	if err != nil || len(log) != 2 || did["@admin:hs block spam.example"] != 1 || did["@admin:hs unblock spam.example"] != 1 {
		t.Errorf("audit log %+v, %v", log, err)
	}
}

// What was set aside is tried again and deleted by administrators, one by one, and each stands in the audit log.
func TestAdministratorsTryBrokenInputsAgain(t *testing.T) {
	db := storetest.Open(t, storetest.Config(t, "sqlite"))
	mind, err := relay.New(t.Context(), relay.Deps{Store: db, Naming: mapping.Naming{Domain: "a.example", Server: "hs.example"}, Config: relay.Config{Bot: "@bot:hs.example"}})
	if err != nil {
		t.Fatal(err)
	}
	o := &operator{app: &app{db: db}, mind: mind}
	room := storetest.Room(t, db)
	if err := db.Tx(t.Context(), func(tx *store.Tx) error {
		added, err := tx.AddInputs(t.Context(), []store.NewInput{{Room: room.ID, Kind: "matrix", Source: "$a", Epoch: -1}, {Room: room.ID, Kind: "matrix", Source: "$b", Epoch: -1}})
		if err != nil {
			return err
		}
		return errors.Join(tx.BreakInput(t.Context(), room.ID, added[0].Seq, "panic"), tx.BreakInput(t.Context(), room.ID, added[1].Seq, "panic"))
	}); err != nil {
		t.Fatal(err)
	}
	list, err := o.Broken(t.Context(), 10)
	if err != nil || len(list) != 2 {
		t.Fatalf("set aside are %+v, %v", list, err)
	}
	if n, err := o.RetryBroken(t.Context(), "@admin:hs", list[:1]); n != 1 || err != nil {
		t.Errorf("%d are tried again, %v", n, err)
	}
	if n, err := o.DropBroken(t.Context(), "@admin:hs", list); n != 1 || err != nil {
		t.Errorf("%d were deleted, %v: the other is not set aside any more", n, err)
	}
	box, err := db.Inbox(t.Context(), room.ID, 1, 10)
	if err != nil || len(box.Inputs) != 1 || box.Inputs[0].Source != "$a" {
		t.Errorf("to be worked off is %+v, %v", box.Inputs, err)
	}
	log, err := o.AuditLog(t.Context(), 10)
	did := map[string]bool{}
	for _, e := range log {
		did[e.Actor+" "+e.Action+" "+e.Subject+" "+e.Detail] = true
	}
	if id := room.ID.String(); err != nil || len(log) != 2 || !did["@admin:hs retry broken "+id+" 1 matrix $a"] || !did["@admin:hs drop broken "+id+" 2 matrix $b"] {
		t.Errorf("audit log %+v, %v", log, err)
	}
}

// Who is known: whom something was ever sent to, whom an administrator blocked, and whom the settings name, each once. And who of them
// does not take what is sent.
func TestKnownProviders(t *testing.T) {
	db := storetest.Open(t, storetest.Config(t, "sqlite"))
	room := storetest.Room(t, db)
	err := db.Tx(t.Context(), func(tx *store.Tx) error {
		for _, domain := range []string{"blocked.example", "both.example"} {
			if err := tx.SetPeerBlocked(t.Context(), domain, true); err != nil {
				return err
			}
		}
		_, err := tx.AddOutbound(t.Context(), []store.Outbound{{Room: room.ID, Dest: "mimi:both.example", Seq: 1, Verb: "notify"},
			{Room: room.ID, Dest: "mimi:sent.example", Seq: 2, Verb: "notify"}, {Room: room.ID, Dest: "matrix", Seq: 3, Verb: "send"}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{}
	cfg.MIMI.Peers = map[string]config.Peer{"named.example": {}, "sent.example": {}}
	got, err := (&app{db: db, cfg: cfg}).knownProviders(t.Context())
	if want := []string{"blocked.example", "both.example", "named.example", "sent.example"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("known are %q, %v; want %q", got, err, want)
	}

	a := &app{db: db, cfg: cfg}
	if got, err := a.failingProviders(t.Context()); err != nil || len(got) > 0 {
		t.Errorf("before anything was tried %q fail, %v", got, err)
	}
	if err := db.Tx(t.Context(), func(tx *store.Tx) error {
		for _, dest := range []string{"mimi:sent.example", "matrix"} {
			lane, err := tx.ClaimLane(t.Context(), store.Lane{Room: room.ID, Dest: dest}, "me", 60_000, false)
			if err != nil {
				return err
			}
			if err := tx.FailLane(t.Context(), lane, 1, 1, "no route"); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got, err := a.failingProviders(t.Context()); err != nil || !slices.Equal(got, []string{"sent.example"}) {
		t.Errorf("%q fail, %v", got, err)
	}
}
