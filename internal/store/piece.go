package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// PieceKey names one piece of a group's stored state.
type PieceKey struct {
	Kind    string
	A, B, C uint64
}

// Piece is one piece of a group's state; Data is sealed in the database.
type Piece struct {
	Key  PieceKey
	Data []byte
}

// PieceEpoch is the kind of piece that makes an epoch stand: a piece {PieceEpoch, epoch, …} writes
// the epoch's row.
const PieceEpoch = "epoch"

// epochKinds are the kinds of pieces whose A is the epoch they belong to. They cannot be written
// without that epoch's piece, and go with it.
var epochKinds = []string{PieceEpoch, "seed", "send", "recv", "proposal", "update", "exports"}

func pieceEpoch(k PieceKey) any {
	if slices.Contains(epochKinds, k.Kind) {
		return int64(k.A)
	}
	return nil
}

type pieceRow struct {
	Kind string `db:"kind"`
	A    int64  `db:"a"`
	B    int64  `db:"b"`
	C    int64  `db:"c"`
	Data []byte `db:"sealed_data"`
}

// Pieces returns all pieces of a room's group.
func (r *Reader) Pieces(ctx context.Context, room RoomID) ([]Piece, error) {
	rows, err := list[pieceRow](ctx, r, `SELECT kind, a, b, c, sealed_data FROM piece WHERE shard = $1 AND room = $2`, room.Shard(), room)
	if err != nil {
		return nil, fmt.Errorf("reading a group: %w", err)
	}
	out := make([]Piece, len(rows))
	for i, p := range rows {
		data, err := r.open(ctx, p.Data, "piece", [16]byte(room), p.Kind, p.A, p.B, p.C)
		if err != nil {
			return nil, err
		}
		out[i] = Piece{Key: PieceKey{Kind: p.Kind, A: uint64(p.A), B: uint64(p.B), C: uint64(p.C)}, Data: data}
	}
	return out, nil
}

// PutPieces writes pieces, the old ones with the same key are overwritten.
func (tx *Tx) PutPieces(ctx context.Context, room RoomID, pieces []Piece, nowMS int64) error {
	for _, p := range pieces {
		if p.Key.Kind != PieceEpoch {
			continue
		}
		if _, err := tx.exec(ctx, `INSERT INTO epoch (shard, room, epoch, created_ms) VALUES ($1, $2, $3, $4) ON CONFLICT (shard, room, epoch) DO NOTHING`,
			room.Shard(), room, int64(p.Key.A), nowMS); err != nil {
			return fmt.Errorf("writing an epoch: %w", err)
		}
	}
	return chunks(tx.db, pieces, 8, func(part []Piece) error {
		args := make([]any, 0, len(part)*8)
		for _, p := range part {
			a, b, c := int64(p.Key.A), int64(p.Key.B), int64(p.Key.C)
			box, err := tx.seal(p.Data, "piece", [16]byte(room), p.Key.Kind, a, b, c)
			if err != nil {
				return err
			}
			args = append(args, room.Shard(), room, p.Key.Kind, a, b, c, pieceEpoch(p.Key), box)
		}
		_, err := tx.exec(ctx, `INSERT INTO piece (shard, room, kind, a, b, c, epoch, sealed_data) VALUES `+values(1, len(part), 8)+
			` ON CONFLICT (shard, room, kind, a, b, c) DO UPDATE SET sealed_data = excluded.sealed_data`, args...)
		if err != nil {
			return fmt.Errorf("writing a group: %w", err)
		}
		return nil
	})
}

// DeletePieces deletes single pieces. Deleting a PieceEpoch deletes all that belongs to that epoch.
func (tx *Tx) DeletePieces(ctx context.Context, room RoomID, keys []PieceKey) error {
	for _, k := range keys {
		if k.Kind == PieceEpoch {
			if _, err := tx.exec(ctx, `DELETE FROM epoch WHERE shard = $1 AND room = $2 AND epoch = $3`, room.Shard(), room, int64(k.A)); err != nil {
				return fmt.Errorf("deleting an epoch: %w", err)
			}
		}
	}
	return chunks(tx.db, keys, 4, func(part []PieceKey) error {
		args := []any{room.Shard(), room}
		or := make([]string, len(part))
		for i, k := range part {
			n := len(args)
			or[i] = fmt.Sprintf("(kind = $%d AND a = $%d AND b = $%d AND c = $%d)", n+1, n+2, n+3, n+4)
			args = append(args, k.Kind, int64(k.A), int64(k.B), int64(k.C))
		}
		_, err := tx.exec(ctx, `DELETE FROM piece WHERE shard = $1 AND room = $2 AND (`+strings.Join(or, " OR ")+`)`, args...)
		if err != nil {
			return fmt.Errorf("deleting parts of a group: %w", err)
		}
		return nil
	})
}

// DeletePieceRange deletes all pieces of a kind with a given A.
func (tx *Tx) DeletePieceRange(ctx context.Context, room RoomID, kind string, a uint64) error {
	if kind == PieceEpoch {
		if _, err := tx.exec(ctx, `DELETE FROM epoch WHERE shard = $1 AND room = $2 AND epoch = $3`, room.Shard(), room, int64(a)); err != nil {
			return fmt.Errorf("deleting an epoch: %w", err)
		}
	}
	_, err := tx.exec(ctx, `DELETE FROM piece WHERE shard = $1 AND room = $2 AND kind = $3 AND a = $4`, room.Shard(), room, kind, int64(a))
	return err
}

// DeleteAllPieces forgets a room's group.
func (tx *Tx) DeleteAllPieces(ctx context.Context, room RoomID) error {
	for _, t := range []string{"piece", "epoch"} {
		if _, err := tx.exec(ctx, `DELETE FROM `+t+` WHERE shard = $1 AND room = $2`, room.Shard(), room); err != nil {
			return fmt.Errorf("forgetting a group: %w", err)
		}
	}
	return nil
}

// Generation is one position of a sending ratchet and the hash of what was encrypted at it.
type Generation struct {
	Epoch      uint64
	Leaf       uint32
	Kind       int16 // as in the key of the "send" piece: 1 handshake, 2 application
	Generation uint32
	Hash       []byte
}

// UseGenerations writes down positions of sending ratchets as used. ErrGenerationReused when one was
// used before: then nothing of the step may be sent, and the group in memory must be dropped.
func (tx *Tx) UseGenerations(ctx context.Context, room Room, used []Generation) error {
	return chunks(tx.db, used, 8, func(part []Generation) error {
		args := make([]any, 0, len(part)*8)
		for _, g := range part {
			args = append(args, room.ID.Shard(), room.ID, room.Group, int64(g.Epoch), int64(g.Leaf), g.Kind, int64(g.Generation), bytesOf(g.Hash))
		}
		_, err := tx.exec(ctx, `INSERT INTO outbound_mls (shard, room, grp, epoch, leaf, kind, generation, hash) VALUES `+values(1, len(part), 8), args...)
		if unique(err) {
			return fmt.Errorf("room %s: %w", room.ID, ErrGenerationReused)
		}
		return err
	})
}

// ForgetGenerations deletes the marks of epochs before one whose secrets are gone.
func (tx *Tx) ForgetGenerations(ctx context.Context, room Room, beforeEpoch uint64) error {
	_, err := tx.exec(ctx, `DELETE FROM outbound_mls WHERE shard = $1 AND room = $2 AND (grp < $3 OR grp = $3 AND epoch < $4)`,
		room.ID.Shard(), room.ID, room.Group, int64(beforeEpoch))
	return err
}
