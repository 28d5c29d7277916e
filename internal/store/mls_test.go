package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

// The stored pieces are always what a map would hold after the same changes.
func TestPiecesAreWhatWasWritten(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		rapid.Check(t, func(rt *rapid.T) {
			room := storetest.Room(t, db)
			want := map[store.PieceKey]string{{Kind: "epoch"}: "0", {Kind: "epoch", A: 1}: "1"}
			must(t, db, func(ctx context.Context, tx *store.Tx) error {
				return tx.PutPieces(ctx, room.ID, []store.Piece{{Key: store.PieceKey{Kind: "epoch"}, Data: []byte("0")}, {Key: store.PieceKey{Kind: "epoch", A: 1}, Data: []byte("1")}}, 1)
			})
			key := rapid.Custom(func(t *rapid.T) store.PieceKey {
				return store.PieceKey{Kind: rapid.SampledFrom([]string{"tree", "recv", "send", "own"}).Draw(t, "kind"), A: uint64(rapid.IntRange(0, 1).Draw(t, "a")),
					B: rapid.SampledFrom([]uint64{0, 1, 1 << 63, 1<<64 - 1}).Draw(t, "b"), C: uint64(rapid.IntRange(0, 2).Draw(t, "c"))}
			})
			for range rapid.IntRange(1, 4).Draw(rt, "changes") {
				ranges := rapid.SliceOfN(key, 0, 3).Draw(rt, "ranges")
				for _, k := range ranges {
					for had := range want {
						if had.Kind == k.Kind && had.A == k.A {
							delete(want, had)
						}
					}
				}
				deletes := rapid.SliceOfN(key, 0, 5).Draw(rt, "deletes")
				for _, k := range deletes {
					delete(want, k)
				}
				var puts []store.Piece
				for _, k := range rapid.SliceOfNDistinct(key, 0, 8, rapid.ID).Draw(rt, "puts") {
					data := rapid.String().Draw(rt, "data")
					puts = append(puts, store.Piece{Key: k, Data: []byte(data)})
					want[k] = data
				}
				must(t, db, func(ctx context.Context, tx *store.Tx) error {
					for _, k := range ranges {
						if err := tx.DeletePieceRange(ctx, room.ID, k.Kind, k.A); err != nil {
							return err
						}
					}
					return errors.Join(tx.DeletePieces(ctx, room.ID, deletes), tx.PutPieces(ctx, room.ID, puts, 1))
				})
			}
			got := map[store.PieceKey]string{}
			for _, p := range ok(db.Pieces(ctx, room.ID))(t) {
				got[p.Key] = string(p.Data)
			}
			if !reflect.DeepEqual(got, want) {
				rt.Fatalf("stored %v, want %v", got, want)
			}
		})
	})
}

// Many pieces, as a large tree has them, go in at once.
func TestManyPieces(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		room := storetest.Room(t, db)
		var all []store.Piece
		for i := range 1000 {
			all = append(all, store.Piece{Key: store.PieceKey{Kind: "tree", B: uint64(i)}, Data: []byte(fmt.Sprint(i))})
		}
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.PutPieces(ctx, room.ID, all, 1) })
		if got := ok(db.Pieces(ctx, room.ID))(t); len(got) != 1000 {
			t.Fatalf("%d pieces", len(got))
		}
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.DeleteAllPieces(ctx, room.ID) })
		if got := ok(db.Pieces(ctx, room.ID))(t); len(got) != 0 {
			t.Fatalf("%d pieces are left", len(got))
		}
	})
}

// The database guards: code may err, these may not.
func TestTheDatabaseGuardsWhatCodeMayErrIn(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		room := fullRoom(t, db)
		id := room.ID
		pending := store.PendingCommit{Room: id, BaseEpoch: 4, CommitHash: []byte{1}, Staged: []byte("s")}
		for name, c := range map[string]struct {
			fn   func(ctx context.Context, tx *store.Tx) error
			want error
		}{
			"a generation twice": {func(ctx context.Context, tx *store.Tx) error {
				return tx.UseGenerations(ctx, room, []store.Generation{{Epoch: 4, Leaf: 1, Kind: 2, Generation: 0, Hash: []byte{8}}})
			}, store.ErrGenerationReused},
			"a second commit of an epoch": {func(ctx context.Context, tx *store.Tx) error {
				return tx.Log(ctx, store.LogEntry{Room: id, Seq: 50, Kind: store.LogCommit, Epoch: 3, Sender: "t"})
			}, store.ErrForked},
			"a second pending commit": {func(ctx context.Context, tx *store.Tx) error { return tx.PutPendingCommit(ctx, pending) }, store.ErrCommitPending},
			"a pending commit on another epoch": {func(ctx context.Context, tx *store.Tx) error {
				p := pending
				p.BaseEpoch = 3
				return errors.Join(tx.DeletePendingCommit(ctx, id), tx.PutPendingCommit(ctx, p))
			}, nil},
			"the epoch moves under a pending commit": {func(ctx context.Context, tx *store.Tx) error {
				next := room
				next.Epoch = 5
				_, err := tx.StepRoom(ctx, next, store.Settle{})
				return err
			}, nil},
			"a ratchet without its epoch": {func(ctx context.Context, tx *store.Tx) error {
				return tx.PutPieces(ctx, id, []store.Piece{{Key: store.PieceKey{Kind: "send", A: 99}, Data: []byte("x")}}, 1)
			}, nil},
			"an event linked twice": {func(ctx context.Context, tx *store.Tx) error {
				return tx.AddLinks(ctx, store.Link{Room: id, Seq: 51, EventID: "$1", MIMIID: []byte{2}, Direction: store.In, Kind: "message"})
			}, store.ErrDuplicate},
			"a message linked twice": {func(ctx context.Context, tx *store.Tx) error {
				return tx.AddLinks(ctx, store.Link{Room: id, Seq: 52, EventID: "$2", MIMIID: []byte{1}, Direction: store.In, Kind: "message"})
			}, store.ErrDuplicate},
			"an answer twice": {func(ctx context.Context, tx *store.Tx) error {
				return tx.PutAnswer(ctx, store.StoredAnswer{Room: id, Hash: [32]byte{1}, Peer: "a", Verb: "update", Status: 500})
			}, store.ErrDuplicate},
			"a body that is not there": {func(ctx context.Context, tx *store.Tx) error {
				_, err := tx.AddOutbound(ctx, []store.Outbound{{Room: id, Dest: "mimi:b", Seq: 60, Verb: "notify", Body: 59}})
				return err
			}, nil},
		} {
			err := do(db, c.fn)
			if err == nil {
				t.Errorf("%s: accepted", name)
			} else if c.want != nil && !errors.Is(err, c.want) || c.want == nil && !store.IsConstraint(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		// What was refused left nothing behind.
		if got := ok(db.PendingCommit(ctx, id))(t); got.BaseEpoch != 4 || string(got.Staged) != "staged secret" || len(got.Intents) != 1 || got.Intents[0] != 7 {
			t.Fatalf("the pending commit is %+v", got)
		}
		// With the pending commit resolved in the same transaction the epoch may move (T7, T10).
		must(t, db, func(ctx context.Context, tx *store.Tx) error {
			next := room
			next.Epoch = 5
			_, err := tx.StepRoom(ctx, next, store.Settle{})
			return errors.Join(err, tx.DeletePendingCommit(ctx, id),
				tx.DeletePieces(ctx, id, []store.PieceKey{{Kind: "epoch", A: 4}}),
				tx.PutPieces(ctx, id, []store.Piece{{Key: store.PieceKey{Kind: "send", A: 5}, Data: []byte("n")}, {Key: store.PieceKey{Kind: "epoch", A: 5}, Data: []byte("n")}}, 2))
		})
		for _, p := range ok(db.Pieces(ctx, id))(t) {
			if p.Key.A == 4 {
				t.Errorf("piece %v of the forgotten epoch is still there", p.Key)
			}
		}
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.ForgetGenerations(ctx, room, 5) })
	})
}

func TestKeyPackagesAreHandedOutOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		db := storetest.Open(t, cfg)
		const n = 20
		var kps []store.KeyPackage
		for i := range n + 1 {
			kps = append(kps, store.KeyPackage{Ref: []byte(fmt.Sprintf("ref%02d", i)), UserURI: "u", ClientURI: "c", Suite: 2, LastResort: i == n, Public: []byte{1}, Private: []byte("private"), NotAfterMS: 100, CreatedMS: int64(i)})
		}
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.AddKeyPackages(ctx, kps...) })
		asked := make([][]byte, 2000)
		for i := range asked {
			asked[i] = []byte(fmt.Sprint("unknown ", i))
		}
		asked[3], asked[1500] = kps[0].Ref, kps[1].Ref
		ours := ok(db.KeyPackageRefs(ctx, asked))(t)
		slices.SortFunc(ours, bytes.Compare)
		want := [][]byte{kps[0].Ref, kps[1].Ref}
		slices.SortFunc(want, bytes.Compare)
		same(t, "references of ours", ours, want)
		same(t, "of none", len(ok(db.KeyPackageRefs(ctx, nil))(t)), 0)
		if s := ok(db.KeyPackageStock(ctx, "u", 50))(t); len(s) != 1 || s[0].Ready != n || s[0].LastResort != 1 {
			t.Fatalf("stock %+v", s)
		}
		got := make(chan string, 100)
		done := make(chan error, 100)
		for range 100 {
			go func() {
				done <- do(db, func(ctx context.Context, tx *store.Tx) error {
					kp, err := tx.ClaimKeyPackage(ctx, "u", []int64{7, 2}, "peer", "room", 10, 50)
					if err == nil && kp.Private != nil {
						err = errors.New("the private part was handed out")
					}
					if err == nil {
						got <- string(kp.Ref)
					}
					return err
				})
			}()
		}
		for range 100 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		close(got)
		times := map[string]int{}
		for ref := range got {
			times[ref]++
		}
		for i := range n {
			if times[fmt.Sprintf("ref%02d", i)] != 1 {
				t.Errorf("KeyPackage %d was handed out %d times", i, times[fmt.Sprintf("ref%02d", i)])
			}
		}
		if times[fmt.Sprintf("ref%02d", n)] != 100-n {
			t.Errorf("the last resort was handed out %d times", times[fmt.Sprintf("ref%02d", n)])
		}
		must(t, db, func(ctx context.Context, tx *store.Tx) error { return tx.UseKeyPackage(ctx, []byte("ref03")) })
		if kp := ok(db.KeyPackage(ctx, []byte("ref03")))(t); kp.State != store.KeyPackageUsed || len(kp.Private) != 0 {
			t.Fatalf("after use: %+v", kp)
		}
		if kp := ok(db.KeyPackage(ctx, []byte("ref04")))(t); string(kp.Private) != "private" {
			t.Fatal("the private part of another is gone")
		}
	})
}
