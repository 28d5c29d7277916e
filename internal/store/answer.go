package store

import (
	"context"
	"fmt"
)

// StoredAnswer is the answer that a request got.
type StoredAnswer struct {
	Room    RoomID   `db:"-"`
	Hash    [32]byte `db:"-"` // of the request with its peer and verb
	Peer    string   `db:"peer"`
	Verb    string   `db:"verb"`
	Status  int64    `db:"status"`
	Body    []byte   `db:"sealed_body"` // sealed in the database
	UntilMS int64    `db:"until_ms"`
}

// AnswerTo returns the answer that a request got, or ErrNotFound. What belongs to no room is kept in
// the DerivedRoomID of what it belongs to.
func (r *Reader) AnswerTo(ctx context.Context, room RoomID, hash [32]byte) (StoredAnswer, error) {
	a, err := get[StoredAnswer](ctx, r, `SELECT peer, verb, status, sealed_body, until_ms FROM answer WHERE shard = $1 AND room = $2 AND hash = $3`,
		room.Shard(), room, hash[:])
	if err != nil {
		return a, err
	}
	a.Room, a.Hash = room, hash
	a.Body, err = r.open(ctx, a.Body, "answer", [16]byte(room), hash[:])
	return a, err
}

// PutAnswer keeps an answer. ErrDuplicate when the request has one: another process was quicker, and
// its answer is the one that counts.
func (tx *Tx) PutAnswer(ctx context.Context, a StoredAnswer) error {
	box, err := tx.seal(a.Body, "answer", [16]byte(a.Room), a.Hash[:])
	if err != nil {
		return err
	}
	n, err := tx.exec(ctx, `INSERT INTO answer (shard, room, hash, peer, verb, status, sealed_body, until_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (shard, room, hash) DO NOTHING`, a.Room.Shard(), a.Room, a.Hash[:], a.Peer, a.Verb, a.Status, box, a.UntilMS)
	if err != nil {
		return fmt.Errorf("keeping an answer: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("keeping an answer: %w", ErrDuplicate)
	}
	return nil
}
