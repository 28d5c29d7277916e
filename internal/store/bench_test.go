package store_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

// cpu is this process's time in the program and in the system.
func cpu() (user, system time.Duration) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, 0
	}
	return time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano())
}

// eachDriver measures something on both databases, in a room that is bound to a Matrix room and has one stored epoch. body is as long as
// what a message leads to. user-µs and system-µs are this process's own time.
func eachDriver(b *testing.B, measure func(b *testing.B, db *store.DB, room store.Room, body []byte)) {
	for _, driver := range []string{"sqlite", "postgres"} {
		b.Run(driver, func(b *testing.B) {
			cfg := storetest.Config(b, driver)
			cfg.AllowUnsafe = driver == "postgres"
			db := storetest.Open(b, cfg)
			room := storetest.Room(b, db)
			body := make([]byte, 700)
			must(b, db, func(ctx context.Context, tx *store.Tx) error {
				if err := tx.BindName(ctx, store.NameMatrix, "!r:example", room.ID); err != nil {
					return err
				}
				return tx.PutPieces(ctx, room.ID, []store.Piece{{Key: store.PieceKey{Kind: "epoch", A: 1}, Data: body}}, 1)
			})
			user, system := cpu()
			measure(b, db, room, body)
			u, s := cpu()
			b.ReportMetric(float64((u-user).Microseconds())/float64(b.N), "user-µs/op")
			b.ReportMetric(float64((s-system).Microseconds())/float64(b.N), "system-µs/op")
		})
	}
}

// BenchmarkMessage is what an ordinary message costs in the database: arrival, inbox, step, reading the
// lane, and closing the row.
func BenchmarkMessage(b *testing.B) {
	eachDriver(b, func(b *testing.B, db *store.DB, room store.Room, body []byte) {
		var lease store.LaneLease
		for i := 0; b.Loop(); i++ {
			must(b, db, func(ctx context.Context, tx *store.Tx) error {
				if _, err := tx.RoomByName(ctx, store.NameMatrix, "!r:example"); err != nil {
					return err
				}
				_, err := tx.AddInputs(ctx, []store.NewInput{{Room: room.ID, Kind: "matrix", Epoch: -1, SeenKind: "event", SeenKey: fmt.Sprint("$", i), Body: body, CreatedMS: 1}})
				return err
			})
			box, err := db.Inbox(ctx, room.ID, 10, 10)
			if err != nil || len(box.Inputs) != 1 {
				b.Fatal(len(box.Inputs), err)
			}
			seq := room.NextSeq
			var next store.Room
			must(b, db, func(ctx context.Context, tx *store.Tx) (err error) {
				next = room
				next.NextSeq += 2
				if next, err = tx.StepRoomFrom(ctx, room, next, box.Settle); err != nil {
					return err
				}
				if _, err := tx.FinishInput(ctx, room.ID, box.Inputs[0].Seq); err != nil {
					return err
				}
				if err := tx.PutPieces(ctx, room.ID, []store.Piece{{Key: store.PieceKey{Kind: "send", A: 1, B: 1, C: 2}, Data: body[:100]}}, 1); err != nil {
					return err
				}
				if err := tx.UseGenerations(ctx, next, []store.Generation{{Epoch: 1, Leaf: 1, Kind: 2, Generation: uint32(i), Hash: body[:32]}}); err != nil {
					return err
				}
				if err := tx.AddLinks(ctx, store.Link{Room: room.ID, Seq: seq, EventID: fmt.Sprint("$", i), MIMIID: []byte(fmt.Sprint(i)), Direction: store.Out, Kind: "message", CreatedMS: 1}); err != nil {
					return err
				}
				_, err = tx.AddOutbound(ctx, []store.Outbound{{Room: room.ID, Dest: "mimi:a", Seq: seq + 1, Verb: "notify", Data: body, AnswerTo: store.AnswerLink, AnswerSeq: seq, CreatedMS: 1}})
				return err
			})
			room = next
			lane := store.Lane{Room: room.ID, Dest: "mimi:a"}
			if i == 0 {
				must(b, db, func(ctx context.Context, tx *store.Tx) (err error) {
					lease, err = tx.ClaimLane(ctx, lane, "me", 3_600_000, false)
					return err
				})
			}
			head, err := db.LaneRows(ctx, lane, 50, 1<<20)
			if err != nil || len(head.Rows) != 1 {
				b.Fatal(len(head.Rows), err)
			}
			lease.Work = head.Work
			must(b, db, func(ctx context.Context, tx *store.Tx) (err error) {
				lease, _, _, err = tx.CloseOutbound(ctx, lease, []store.Closing{{Row: head.Rows[0], Outcome: store.Outcome{Class: store.OutcomeDone, AcceptedMS: 5}}}, 1, 3_600_000, true)
				return err
			})
		}
	})
}

// BenchmarkSubmitted is what a message costs in the database that the provider of a hub takes inside of the request and sends on to
// Matrix and one follower: the step, and closing the rows of the message before in the same transaction.
func BenchmarkSubmitted(b *testing.B) {
	eachDriver(b, func(b *testing.B, db *store.DB, room store.Room, body []byte) {
		lanes := []store.Lane{{Room: room.ID, Dest: "matrix"}, {Room: room.ID, Dest: "mimi:a"}}
		var leases []store.LaneLease
		var sent []store.Outbound
		for i := 0; b.Loop(); i++ {
			hash := sha256.Sum256(fmt.Append(nil, i))
			seq := room.NextSeq
			link := store.Link{Room: room.ID, Seq: seq, MIMIID: hash[:], Direction: store.In, Kind: "message", Sender: "mimi://a.example/u/alice", Frank: body[:200], CreatedMS: 1}
			rows := []store.Outbound{
				{Room: room.ID, Dest: lanes[0].Dest, Seq: seq + 2, Verb: "send", Target: "!room:example.org", TxnKey: fmt.Sprint("t", seq), Data: body, AnswerTo: store.AnswerLink, AnswerSeq: seq, CreatedMS: 1},
				{Room: room.ID, Dest: lanes[1].Dest, Seq: seq + 3, Verb: "notify", Data: body, CreatedMS: 1},
			}
			var next store.Room
			must(b, db, func(ctx context.Context, tx *store.Tx) (err error) {
				for j, o := range sent {
					outcome := store.Outcome{Class: store.OutcomeDone, AcceptedMS: 5}
					if j == 0 {
						outcome.EventID = fmt.Sprint("$event", i)
					}
					leases[j].Work = int64(i)
					if leases[j], _, _, err = tx.CloseOutbound(ctx, leases[j], []store.Closing{{Row: o, Outcome: outcome}}, 1, 3_600_000, true); err != nil {
						return err
					}
				}
				next = room
				next.NextSeq += 4
				if next, err = tx.StepRoomFrom(ctx, room, next, store.Settle{}); err != nil {
					return err
				}
				if err := tx.PutAnswer(ctx, store.StoredAnswer{Room: room.ID, Hash: hash, Peer: "a.example", Verb: "submitMessage", Status: 200, Body: body[:60], UntilMS: 1 << 50}); err != nil {
					return err
				}
				if err := tx.PutPieces(ctx, room.ID, []store.Piece{{Key: store.PieceKey{Kind: "send", A: 1, B: 1, C: 2}, Data: body[:100]}}, 1); err != nil {
					return err
				}
				if err := tx.Log(ctx, store.LogEntry{Room: room.ID, Seq: seq + 1, Kind: "message", Epoch: 1, Hash: hash[:], Sender: "mimi://a.example/d/alice", AcceptedMS: 5}); err != nil {
					return err
				}
				if err := tx.AddLinks(ctx, link); err != nil {
					return err
				}
				_, err = tx.AddOutbound(ctx, rows)
				return err
			})
			room, sent = next, rows
			if i == 0 {
				must(b, db, func(ctx context.Context, tx *store.Tx) error {
					for _, l := range lanes {
						lease, err := tx.ClaimLane(ctx, l, "me", 3_600_000, false)
						if err != nil {
							return err
						}
						leases = append(leases, lease)
					}
					return nil
				})
			}
		}
	})
}
