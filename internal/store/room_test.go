package store_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

var ctx = context.Background()

func TestRoomStepsOnlyFromTheVersionThatWasRead(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		room := storetest.Room(t, db)
		next := room
		next.State, next.NextSeq, next.GroupID = "live", 9, []byte{1, 2}
		must(t, db, func(ctx context.Context, tx *store.Tx) (err error) {
			next, err = tx.StepRoom(ctx, next, store.Settle{})
			return err
		})
		if next.Version != room.Version+1 {
			t.Fatalf("version %d after %d", next.Version, room.Version)
		}
		got := ok(db.Room(ctx, room.ID))(t)
		if got.State != "live" || got.NextSeq != 9 || got.Version != next.Version || string(got.GroupID) != "\x01\x02" {
			t.Fatalf("stored %+v", got)
		}
		// A zombie with an old head changes nothing.
		err := do(db, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.StepRoom(ctx, room, store.Settle{})
			return err
		})
		if !errors.Is(err, store.ErrConflict) {
			t.Fatalf("a step from an old version: %v", err)
		}
	})
}

// Of many steps from one version exactly one stands, however they meet.
func TestOneOfManyStepsStands(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		room := storetest.Room(t, db)
		var wg sync.WaitGroup
		errs := make([]error, 16)
		for i := range errs {
			wg.Go(func() {
				errs[i] = do(db, func(ctx context.Context, tx *store.Tx) error {
					if _, err := tx.StepRoom(ctx, room, store.Settle{}); err != nil {
						return err
					}
					return tx.Log(ctx, store.LogEntry{Room: room.ID, Seq: int64(i + 1), Kind: store.LogCommit, Epoch: 3, Sender: "x"})
				})
			})
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			switch {
			case err == nil:
				won++
			case !errors.Is(err, store.ErrConflict):
				t.Error(err)
			}
		}
		if won != 1 {
			t.Fatalf("%d steps stand", won)
		}
	})
}

func TestNamesMeanOneRoom(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		a, b := storetest.Room(t, db), storetest.Room(t, db)
		bind := func(r store.RoomID) error {
			return do(db, func(ctx context.Context, tx *store.Tx) error { return tx.BindName(ctx, store.NameMatrix, "!x:y", r) })
		}
		if err := errors.Join(bind(a.ID), bind(a.ID)); err != nil {
			t.Fatal(err)
		}
		if err := bind(b.ID); !errors.Is(err, store.ErrNameTaken) {
			t.Fatalf("binding to another room: %v", err)
		}
		if got := ok(db.RoomByName(ctx, store.NameMatrix, "!x:y"))(t); got.ID != a.ID {
			t.Fatalf("the name means %s", got.ID)
		}
		if _, err := db.RoomByName(ctx, store.NameMIMI, "!x:y"); !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
	})
}

// Many that find or make the room of one name all get the same one.
func TestFindOrCreateRoomMakesOne(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		var wg sync.WaitGroup
		ids := make([]store.RoomID, 12)
		made := make([]bool, len(ids))
		for i := range ids {
			wg.Go(func() {
				id, _ := store.NewRoomID(time.Now(), rand.Reader)
				err := do(db, func(ctx context.Context, tx *store.Tx) error {
					r, created, err := tx.FindOrCreateRoom(ctx, store.NameMatrix, "!new:y", store.Room{ID: id, Kind: store.RoomNone, Epoch: -1, MatrixRoomID: "!new:y"})
					ids[i], made[i] = r.ID, created
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		n := 0
		for i := range ids {
			if ids[i] != ids[0] {
				t.Fatalf("two rooms: %s and %s", ids[i], ids[0])
			}
			if made[i] {
				n++
			}
		}
		if n != 1 {
			t.Fatalf("%d say that they made it", n)
		}
	})
}

// fullRoom has a row in each table of rooms.
func fullRoom(t *testing.T, db *store.DB) store.Room {
	room := storetest.Room(t, db)
	id := room.ID
	room.Epoch, room.MatrixRoomID = 4, "!r:h"
	must(t, db, func(ctx context.Context, tx *store.Tx) (err error) {
		if room, err = tx.StepRoom(ctx, room, store.Settle{}); err != nil {
			return err
		}
		_, err = tx.AddInputs(ctx, []store.NewInput{{Room: id, Kind: "matrix", Epoch: -1, Body: []byte("input secret"), SeenKind: "event", SeenKey: "$1", CreatedMS: 5}})
		if err != nil {
			return err
		}
		if err := tx.PutBody(ctx, id, 1, []byte("body secret"), 5); err != nil {
			return err
		}
		_, err = tx.AddOutbound(ctx, []store.Outbound{{Room: id, Dest: "mimi:a", Seq: 2, Verb: "notify", Body: 1, CreatedMS: 5},
			{Room: id, Dest: "matrix", Seq: 3, Verb: "send", Data: []byte("outbound secret"), CreatedMS: 5}})
		return errors.Join(err,
			tx.BindName(ctx, store.NameMatrix, "!r:h", id),
			tx.PutPieces(ctx, id, []store.Piece{{Key: store.PieceKey{Kind: "epoch", A: 4}, Data: []byte("epoch secret")}, {Key: store.PieceKey{Kind: "send", A: 4, B: 1}, Data: []byte("ratchet secret")}}, 5),
			tx.PutPendingCommit(ctx, store.PendingCommit{Room: id, BaseEpoch: 4, CommitHash: []byte{1}, Staged: []byte("staged secret"), Intents: []int64{7}, CreatedMS: 5}),
			tx.UseGenerations(ctx, room, []store.Generation{{Epoch: 4, Leaf: 1, Kind: 2, Generation: 0, Hash: []byte{9}}}),
			tx.Log(ctx, store.LogEntry{Room: id, Seq: 5, Kind: store.LogCommit, Epoch: 3, Sender: "s", AcceptedMS: 5}),
			tx.AddLinks(ctx, store.Link{Room: id, Seq: 6, EventID: "$1", MIMIID: []byte{1}, Direction: store.Out, Kind: "message", CreatedMS: 5}),
			tx.PutMembers(ctx, store.Member{Room: id, MXID: "@a:h", URI: "mimi://h/u/a", Membership: "join", Leaf: -1, UpdatedMS: 5}),
			tx.SetRoomState(ctx, id, "name", "x", 5),
			tx.PutAnswer(ctx, store.StoredAnswer{Room: id, Hash: [32]byte{1}, Peer: "a", Verb: "update", Status: 200, Body: []byte("answer secret"), UntilMS: 9}),
			func() error { _, err := tx.AddIntent(ctx, store.Intent{Room: id, Seq: 7, Kind: "add"}); return err }(),
			tx.PutAsset(ctx, store.Asset{Room: id, ID: "as", Direction: store.Out, Key: []byte("asset secret"), LinkSeq: 6, CreatedMS: 5}))
	})
	return room
}

func TestRoomIDs(t *testing.T) {
	// These places are stored in databases: they may never change.
	for id, shard := range map[store.RoomID]store.Shard{
		{}:                               store.RoomID{}.Shard(),
		store.DerivedRoomID("user", "a"): store.DerivedRoomID("user", "a").Shard(),
	} {
		if shard < 0 || shard >= store.Shards {
			t.Fatalf("%s is in shard %d", id, shard)
		}
		back, err := store.ParseRoomID(id.String())
		if err != nil || back != id {
			t.Fatalf("%s came back as %s, %v", id, back, err)
		}
	}
	if store.DerivedRoomID("a", "bc") == store.DerivedRoomID("ab", "c") {
		t.Fatal("two names give one id")
	}
	fixed := store.RoomID{0x01, 0x8f, 0x6b, 0x1e, 0x9c, 0x00, 0x7a, 0xbc, 0x80, 1, 2, 3, 4, 5, 6, 7}
	if got := fmt.Sprint(fixed.Shard(), store.DerivedRoomID("user", "mimi://b/u/a"), store.DerivedRoomID("user", "mimi://b/u/a").Shard()); got != wantIDs {
		t.Fatalf("the places of rooms changed: %s", got)
	}
}

const wantIDs = "874 46da299e6aeb8b7bb50b33e3e501ebcd 639"

func TestTheMatrixRoomOfARoom(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		room := storetest.Room(t, db)
		if got := ok(db.MatrixRoomID(ctx, room.ID))(t); got != "" {
			t.Errorf("it has the Matrix room %q, want none", got)
		}
		room.MatrixRoomID = "!r:example"
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.StepRoom(ctx, room, store.Settle{})
			return err
		})
		if got := ok(db.MatrixRoomID(ctx, room.ID))(t); got != "!r:example" {
			t.Errorf("its Matrix room is %q", got)
		}
		if _, err := db.MatrixRoomID(ctx, store.RoomID{}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("no room: %v", err)
		}
	})
}
