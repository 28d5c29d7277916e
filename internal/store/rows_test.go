package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

// same compares what was read with what was written; no bytes and nil are the same.
func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if fmt.Sprintf("%T %+v", got, got) != fmt.Sprintf("%T %+v", want, want) {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

func missing(t testing.TB, what string, err error) {
	t.Helper()
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%s: %v", what, err)
	}
}

func TestLinks(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		id := storetest.Room(t, db).ID
		one := store.Link{Room: id, Seq: 1, EventID: "$1", MIMIID: []byte{1}, Part: 0, FirstEvent: "$0", FirstID: []byte{9}, Direction: store.Out, Kind: "message", State: store.LinkSent,
			Sender: "mimi://a/u/x", SenderMXID: "@x:a", Target: "$t", Topic: "t", Frank: []byte{3}, Data: "{}", AcceptedMS: 7, CreatedMS: 8}
		two := store.Link{Room: id, Seq: 2, MIMIID: []byte{1}, Part: 1, FirstID: []byte{9}, Direction: store.In, Kind: "edit", Frank: []byte{}}
		three := store.Link{Room: id, Seq: 3, Direction: store.In, Kind: "x", FirstID: []byte{}, Frank: []byte{}}
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.AddLinks(ctx, one, two, three) })
		same(t, "by event", ok(db.LinkByEvent(ctx, id, "$1"))(t), one)
		same(t, "by message", ok(db.LinksByMIMI(ctx, id, []byte{1}))(t), []store.Link{one, two})
		same(t, "by the first message", ok(db.LinksByFirst(ctx, id, []byte{9}))(t), []store.Link{one, two})
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.SetLink(ctx, id, 2, store.LinkDelivered, "$2", nil, 0), tx.SetLink(ctx, id, 1, store.LinkFailed, "", nil, 99), tx.SetLinkData(ctx, id, 1, `{"a":1}`))
		})
		two.State, two.EventID, one.State, one.AcceptedMS, one.Data = store.LinkDelivered, "$2", store.LinkFailed, 99, `{"a":1}`
		same(t, "changed", ok(db.LinksByMIMI(ctx, id, []byte{1}))(t), []store.Link{one, two})
		err := do(db, func(ctx context.Context, tx *store.Tx) error { return tx.SetLink(ctx, id, 3, "", "$2", nil, 0) })
		if !errors.Is(err, store.ErrDuplicate) {
			t.Errorf("an event linked twice: %v", err)
		}
		_, err = db.LinkBySeq(ctx, id, 4)
		missing(t, "a link that is not there", err)
	})
}

func TestMembersAndState(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		id := storetest.Room(t, db).ID
		a := store.Member{Room: id, MXID: "@a:h", URI: "mimi://h/u/a", Membership: "join", Listed: true, Role: 3, Power: 50, Leaf: 4, Display: "Ä", Data: "{}", UpdatedMS: 1}
		b := store.Member{Room: id, MXID: "@mimi_b:h", Ghost: true, Membership: "invite", Leaf: -1}
		c := store.Member{Room: id, MXID: "@c:h", Membership: "leave", Leaf: -1}
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.PutMembers(ctx, a, b, c), tx.SetRoomState(ctx, id, "k", "v", 1), tx.SetRoomState(ctx, id, "l", "w", 1), tx.SetRoomState(ctx, id, "l", "", 1))
		})
		same(t, "all", ok(db.Members(ctx, id))(t), []store.Member{a, c, b})
		b.Membership, b.URI = "join", "mimi://x/u/b"
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.PutMembers(ctx, b) })
		same(t, "by URI", ok(db.MemberByURI(ctx, id, "mimi://x/u/b"))(t), b)
		same(t, "by id", ok(db.Member(ctx, id, "@a:h"))(t), a)
		same(t, "rooms of", ok(db.RoomsOf(ctx, "@a:h"))(t), []store.Member{a})
		_, err := db.Member(ctx, id, "@d:h")
		missing(t, "one who never was there", err)
		same(t, "state", ok(db.RoomState(ctx, id))(t), map[string]string{"k": "v"})
		same(t, "one state", ok(db.RoomStateValue(ctx, id, "l"))(t), "")
		if n := len(ok(db.Rooms(ctx, store.RoomID{}, 5))(t)); n != 1 {
			t.Errorf("%d rooms", n)
		}
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.BindName(ctx, store.NameMIMI, "mimi://h/r/1", id), tx.DelayRoom(ctx, id, 77))
		})
		same(t, "id by name", ok(db.RoomIDByName(ctx, store.NameMIMI, "mimi://h/r/1"))(t), id)
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return tx.UnbindName(ctx, store.NameMIMI, "mimi://h/r/1")
		})
		_, err = db.RoomIDByName(ctx, store.NameMIMI, "mimi://h/r/1")
		missing(t, "an unbound name", err)
		same(t, "delayed", ok(db.Room(ctx, id))(t).DueMS, int64(77))
	})
}

func TestIntents(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		id := storetest.Room(t, db).ID
		i := store.Intent{Room: id, Seq: 1, Kind: "add", Actor: "a", Target: "b", Dedupe: "add b", State: store.IntentOpen, Data: "{}", CreatedMS: 3}
		add := func(i store.Intent) (added bool) {
			must(t, db, func(ctx context.Context, tx *store.Tx) (err error) {
				added, err = tx.AddIntent(ctx, i)
				return err
			})
			return added
		}
		if !add(i) || add(store.Intent{Room: id, Seq: 2, Kind: "add", Dedupe: "add b"}) || !add(store.Intent{Room: id, Seq: 3, Kind: "x"}) || !add(store.Intent{Room: id, Seq: 4, Kind: "x"}) {
			t.Fatal("two intents with the same key stand, or two without cannot")
		}
		i.State, i.Tries, i.Reason, i.Data = store.IntentStaged, 2, "r", "[]"
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.SetIntent(ctx, i) })
		same(t, "staged", ok(db.Intents(ctx, id))(t)[0], i)
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.DeleteIntents(ctx, id, 1, 3) })
		if rest := ok(db.Intents(ctx, id))(t); len(rest) != 1 || rest[0].Seq != 4 {
			t.Fatalf("left: %+v", rest)
		}
	})
}

func TestUsersGhostsAndPeers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		u := store.User{MXID: "@u:h", URI: "mimi://h/u/u", ClientURI: "mimi://h/d/u/1", Suite: 1, PublicKey: []byte{1}, PrivateKey: []byte("p"), State: "on", Data: "{}", CreatedMS: 5}
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			first, err := tx.AddUser(ctx, u)
			other := u
			other.PrivateKey = []byte("other")
			second, err2 := tx.AddUser(ctx, other)
			if !first || second {
				t.Errorf("added %v, then %v", first, second)
			}
			return errors.Join(err, err2)
		})
		err := do(db, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.AddUser(ctx, store.User{MXID: "@v:h", URI: u.URI, ClientURI: "c", PublicKey: []byte{1}})
			return err
		})
		if !errors.Is(err, store.ErrDuplicate) {
			t.Errorf("two users with one URI: %v", err)
		}
		same(t, "by URI", ok(db.UserByURI(ctx, u.URI))(t), u)
		u.PrivateKey, u.State = []byte("renewed"), "off"
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.SetUser(ctx, u) })
		same(t, "changed", ok(db.User(ctx, u.MXID))(t), u)
		u.PrivateKey = nil
		same(t, "list", ok(db.Users(ctx, "", 10))(t), []store.User{u})

		g := store.Ghost{MXID: "@mimi_x:h", URI: "mimi://x/u/x", Display: "X", Registered: true, UpdatedMS: 1}
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			again := g
			again.URI, again.Avatar = "mimi://X/u/x", "mxc://a/b"
			return errors.Join(tx.PutGhost(ctx, g), tx.PutGhost(ctx, again))
		})
		g.Avatar = "mxc://a/b"
		same(t, "ghost", ok(db.Ghost(ctx, g.MXID))(t), g)
		same(t, "ghost by URI", ok(db.GhostByURI(ctx, g.URI))(t), g)
		_, err = db.Ghost(ctx, "@mimi_y:h")
		missing(t, "no ghost", err)

		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.SetPeerBlocked(ctx, "b", false), tx.SetPeerBlocked(ctx, "a", true))
		})
		same(t, "known", ok(db.Peers(ctx))(t), []string{"a", "b"})
		same(t, "blocked", ok(db.BlockedPeers(ctx))(t), []string{"a"})

		for _, domain := range []string{"a", "new"} {
			_, err = db.PeerAuthorities(ctx, domain)
			missing(t, "authorities that were never asked for", err)
		}
		for _, certs := range [][][]byte{{{1, 2}, {3}}, {}} {
			must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.SetPeerAuthorities(ctx, "new", certs) })
			same(t, "authorities", ok(db.PeerAuthorities(ctx, "new"))(t), certs)
		}
	})
}

func TestSmallTables(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		room := storetest.Room(t, db)
		c := store.Consent{Direction: store.In, Owner: "o", Requester: "r", State: store.ConsentRequested, Data: "d", ExpiresMS: 4, UpdatedMS: 5}
		special := c
		special.Room, special.State = "mimi://a/r/1", store.ConsentRevoked
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			again := c
			again.State = store.ConsentGranted
			return errors.Join(tx.PutConsent(ctx, c), tx.PutConsent(ctx, special), tx.PutConsent(ctx, again),
				tx.SetManagementRoom(ctx, "@a:h", "!1:h"), tx.SetManagementRoom(ctx, "@a:h", "!2:h"), tx.SetManagementRoom(ctx, "@b:h", "!3:h"), tx.SetManagementRoom(ctx, "@b:h", ""),
				tx.BindDirectRoom(ctx, "hub", "x", "a", room.ID), tx.BindDirectRoom(ctx, "hub", "a", "x", room.ID),
				tx.SetSecret(ctx, "s", []byte("x"), 1), tx.SetSecret(ctx, "s", []byte("y"), 1), tx.SetSecret(ctx, "gone", nil, 1), tx.DeleteSecret(ctx, "gone"),
				tx.Audit(ctx, store.AuditEntry{AtMS: 5, Actor: "@a:h", Action: "plumb", Subject: "!r:h", Detail: "x"}),
				tx.PutRoutes(ctx, store.Route{Ref: []byte{1}, Provider: "p", Client: "c", UntilMS: 9}),
				tx.PutRoutes(ctx, store.Route{Ref: []byte{1}, Provider: "thief", UntilMS: 99}))
		})
		c.State = store.ConsentGranted
		same(t, "consent for any room", ok(db.Consent(ctx, store.In, "o", "r", "mimi://a/r/2"))(t), c)
		same(t, "consent for this room", ok(db.Consent(ctx, store.In, "o", "r", special.Room))(t), special)
		same(t, "of the owner", ok(db.ConsentsOf(ctx, store.In, "o"))(t), []store.Consent{c, special})
		same(t, "by the requester", ok(db.ConsentsBy(ctx, store.In, "r"))(t), []store.Consent{c, special})
		_, err := db.Consent(ctx, store.Out, "o", "r", "")
		missing(t, "the other direction", err)
		same(t, "management room", ok(db.ManagementRoom(ctx, "@a:h"))(t), "!2:h")
		same(t, "management users", ok(db.ManagementUsers(ctx))(t), []string{"@a:h"})
		_, err = db.ManagementRoom(ctx, "@b:h")
		missing(t, "a forgotten management room", err)
		same(t, "direct room", ok(db.DirectRoom(ctx, "hub", "x", "a"))(t), room.ID)
		err = do(db, func(ctx context.Context, tx *store.Tx) error {
			return tx.BindDirectRoom(ctx, "hub", "a", "x", storetestID(t))
		})
		if !errors.Is(err, store.ErrNameTaken) {
			t.Errorf("a second direct room: %v", err)
		}
		same(t, "secret", string(ok(db.Secret(ctx, "s"))(t)), "y")
		_, err = db.Secret(ctx, "gone")
		missing(t, "a deleted secret", err)
		same(t, "audit", ok(db.AuditLog(ctx, 5))(t), []store.AuditEntry{{AtMS: 5, Actor: "@a:h", Action: "plumb", Subject: "!r:h", Detail: "x"}})
		// A route that stands cannot be taken over by another provider.
		same(t, "route", ok(db.Route(ctx, []byte{1}))(t), store.Route{Ref: []byte{1}, Provider: "p", Client: "c", UntilMS: 9})
		_, err = db.Route(ctx, []byte{2})
		missing(t, "no route", err)
	})
}

func storetestID(t testing.TB) store.RoomID { return store.DerivedRoomID("test", t.Name()) }

func TestAssetsLogAndMarks(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		room := fullRoom(t, db)
		a := ok(db.Asset(ctx, "as"))(t)
		a.State, a.ExpiresMS, a.Size, a.Hash = "stored", 50, 9, []byte{7}
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.PutAsset(ctx, a) })
		same(t, "of the link", ok(db.AssetsOf(ctx, room.ID, 6))(t), []store.Asset{a})
		same(t, "not yet", len(ok(db.ExpiredAssets(ctx, 49, 9))(t)), 0)
		same(t, "expired", ok(db.ExpiredAssets(ctx, 50, 9))(t), []store.Asset{a})
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.DeleteAsset(ctx, room.ID, "as") })
		_, err := db.Asset(ctx, "as")
		missing(t, "deleted asset", err)

		e := store.LogEntry{Room: room.ID, Seq: 5, Kind: store.LogCommit, Epoch: 3, Hash: []byte{}, Sender: "s", AcceptedMS: 5}
		same(t, "log", ok(db.RoomLog(ctx, room.ID, 0, 9))(t), []store.LogEntry{e})
		same(t, "by hash", ok(db.LogByHash(ctx, room.ID, store.LogCommit, e.Hash))(t), e)
		_, err = db.LogByHash(ctx, room.ID, store.LogCommit, []byte("other"))
		missing(t, "another hash", err)
		_, err = db.LogByHash(ctx, room.ID, "message", e.Hash)
		missing(t, "another kind", err)

		same(t, "seen", ok(db.WasSeen(ctx, room.ID, "event", "$1"))(t), true)
		same(t, "not seen", ok(db.WasSeen(ctx, room.ID, "event", "$2"))(t), false)
		same(t, "inputs", len(ok(db.InputsIn(ctx, room.ID, store.InputReady, 9))(t)), 1)

		lane := store.Lane{Room: room.ID, Dest: "matrix"}
		same(t, "row", ok(db.LaneRows(ctx, lane, 9, 1<<20))(t).Rows[0].Verb, "send")
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.DropOutbound(ctx, lane, 3, 99) })
		same(t, "rows after one was dropped", len(ok(db.LaneRows(ctx, lane, 9, 1<<20))(t).Rows), 0)
	})
}

func TestKeyPackagesAreRevoked(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.AddKeyPackages(ctx, store.KeyPackage{Ref: []byte{1}, UserURI: "u", ClientURI: "c", Suite: 1, Public: []byte{1}, NotAfterMS: 50}),
				tx.RevokeKeyPackages(ctx, []byte{1}))
		})
		err := do(db, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.ClaimKeyPackage(ctx, "u", []int64{1}, "p", "", 1, 1)
			return err
		})
		missing(t, "claiming a revoked one", err)
		_, err = db.KeyPackage(ctx, []byte{7})
		missing(t, "an unknown one", err)
	})
}

// What the operator sees of a room in which everything waits.
func TestGaugesAndCleanup(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		room := plant(t, db)
		lease(t, db, "me")
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			l, err := tx.ClaimLane(ctx, store.Lane{Room: room.ID, Dest: "mimi:a"}, "me", 60_000, false)
			if err != nil {
				return err
			}
			if err := tx.FailLane(ctx, l, store.Millis(time.Now())+1e6, 11, "no \xff route"); err != nil {
				return err
			}
			_, err = tx.ClaimLane(ctx, store.Lane{Room: room.ID, Dest: "matrix"}, "me", 60_000, false)
			return err
		})
		g := ok(db.Gauges(ctx))(t)
		want := store.Gauges{InputReady: 1, OldestReady: 5, Outbound: map[string]int64{"matrix": 1, "mimi": 1}, OldestOutbound: map[string]int64{"matrix": 5, "mimi": 5},
			LanesClaimed: 1, LanesBackingOff: 1, PendingCommits: 1, OldestPendingCommit: 5, DeadLetters: 1, Groups: 1, Rooms: 1, KeyPackagesReady: 1, ShardsHeld: 1024, OpenIntents: 1, PeersFailing: 1, DataKeys: g.DataKeys}
		// The lane of the dead letter is claimed still.
		want.LanesClaimed = g.LanesClaimed
		same(t, "gauges", g, want)
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.AddOutbound(ctx, []store.Outbound{{Room: room.ID, Dest: "aside:a", Seq: 900, Verb: "profiles"}})
			return err
		})
		same(t, "what goes to providers aside is counted for them", ok(db.Gauges(ctx))(t).Outbound, map[string]int64{"matrix": 1, "mimi": 2})
		failing := ok(db.FailingLanes(ctx, 5))(t)
		if len(failing) != 1 || failing[0].Rows != 1 || failing[0].LastError != "no ? route" || failing[0].FailingSince != 11 {
			t.Errorf("failing lanes: %+v", failing)
		}
		if n := ok(db.Cleanup(ctx, store.DefaultRetention, time.UnixMilli(100), 50, 1))(t); n != 1 {
			t.Errorf("%d rows went before their time", n) // the answer has a time of its own
		}
		if n := ok(db.Cleanup(ctx, store.DefaultRetention, time.UnixMilli(100).Add(500*24*time.Hour), 50, 1))(t); n < 4 {
			t.Errorf("%d rows went", n)
		}
		head := ok(db.LaneRows(ctx, store.Lane{Room: room.ID, Dest: "mimi:a"}, 5, 1<<20))(t)
		if len(head.Rows) != 1 || string(head.Rows[0].Data) != "body secret" {
			t.Errorf("a body that is needed was cleaned away: %+v", head.Rows)
		}
		if db.Connections() < 0 {
			t.Error("connections below zero")
		}
	})
}

// Requests for consent go when they are long over; what somebody granted or refused stays.
func TestCleanupOfConsents(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		keep := store.Retention{Consents: time.Second}
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			for _, c := range []store.Consent{
				{Owner: "cancelled", State: store.ConsentCancelled, UpdatedMS: 1},
				{Owner: "cancelled a moment ago", State: store.ConsentCancelled, UpdatedMS: 1500},
				{Owner: "expired", State: store.ConsentRequested, ExpiresMS: 2},
				{Owner: "expired a moment ago", State: store.ConsentRequested, ExpiresMS: 1500},
				{Owner: "waits", State: store.ConsentRequested},
				{Owner: "granted", State: store.ConsentGranted, ExpiresMS: 2},
				{Owner: "refused", State: store.ConsentRevoked, ExpiresMS: 2},
			} {
				c.Direction, c.Requester = store.Out, "r"
				if err := tx.PutConsent(ctx, c); err != nil {
					return err
				}
			}
			return nil
		})
		if _, err := db.Cleanup(context.Background(), keep, time.UnixMilli(2000), 50, 1); err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, c := range ok(db.ConsentsBy(context.Background(), store.Out, "r"))(t) {
			left = append(left, c.Owner)
		}
		same(t, "consents", left, []string{"cancelled a moment ago", "expired a moment ago", "granted", "refused", "waits"})
	})
}

// Answers go when their time is over, entries of logs when they are old, however many there are.
func TestCleanupOfAnswersAndLogs(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		one, two := storetest.Room(t, db).ID, storetest.Room(t, db).ID
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			for i := range 1100 {
				a := store.StoredAnswer{Room: one, Hash: [32]byte{byte(i), byte(i >> 8)}, UntilMS: 10}
				if i == 500 || i == 1099 {
					a.UntilMS = 50
				}
				if err := tx.PutAnswer(ctx, a); err != nil {
					return err
				}
			}
			for i := range int64(9) {
				if err := tx.Log(ctx, store.LogEntry{Room: one, Seq: i, AcceptedMS: 10 * i}, store.LogEntry{Room: two, Seq: i, AcceptedMS: 1000}); err != nil {
					return err
				}
			}
			return nil
		})
		keep, left := store.Retention{RoomLog: 100 * time.Millisecond}, func() (answers, logs int) {
			for i := range 1100 {
				if _, err := db.AnswerTo(ctx, one, [32]byte{byte(i), byte(i >> 8)}); err == nil {
					answers++
				}
			}
			return answers, len(ok(db.RoomLog(ctx, one, -1, 100))(t)) + len(ok(db.RoomLog(ctx, two, -1, 100))(t))
		}
		if n := ok(db.Cleanup(ctx, keep, time.UnixMilli(50), 3, 1))(t); n != 1098 {
			t.Errorf("%d rows went", n)
		}
		if answers, logs := left(); answers != 2 || logs != 18 {
			t.Errorf("%d answers, %d entries are left", answers, logs)
		}
		for range 3 {
			ok(db.Cleanup(ctx, keep, time.UnixMilli(150), 3, 1))(t)
		}
		if answers, logs := left(); answers != 0 || logs != 13 {
			t.Errorf("%d answers, %d entries are left", answers, logs)
		}
	})
}
