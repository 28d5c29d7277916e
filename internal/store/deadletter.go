package store

import (
	"context"
	"fmt"
)

// DeadLetter is something that could not be delivered.
type DeadLetter struct {
	Room      RoomID `db:"room"`
	Dest      string `db:"dest"`
	Seq       int64  `db:"seq"`
	Verb      string `db:"verb"`
	Target    string `db:"target"`
	TxnKey    string `db:"txn_key"`
	Reason    string `db:"reason"`
	Attempts  int64  `db:"attempts"`
	Data      []byte `db:"sealed_data"`
	CreatedMS int64  `db:"created_ms"`
	DeadMS    int64  `db:"dead_ms"`
}

const deadColumns = `room, dest, seq, verb, target, txn_key, reason, attempts, created_ms, dead_ms`

func (tx *Tx) addDeadLetter(ctx context.Context, o *Outbound, reason string, nowMS int64) error {
	box, err := tx.seal(o.Data, "dead_letter", [16]byte(o.Room), o.Dest, o.Seq)
	if err != nil {
		return err
	}
	_, err = tx.exec(ctx, `INSERT INTO dead_letter (shard, room, dest, seq, verb, target, txn_key, reason, attempts, sealed_data, created_ms, dead_ms)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (shard, room, dest, seq) DO NOTHING`,
		o.Room.Shard(), o.Room, o.Dest, o.Seq, o.Verb, o.Target, o.TxnKey, cut(reason, maxReason), o.Attempts, box, o.CreatedMS, nowMS)
	if err != nil {
		return fmt.Errorf("writing a dead letter: %w", err)
	}
	return nil
}

// DeadLetters lists dead letters, the newest first, without their data.
func (r *Reader) DeadLetters(ctx context.Context, limit int) ([]DeadLetter, error) {
	return list[DeadLetter](ctx, r, `SELECT `+deadColumns+` FROM dead_letter ORDER BY dead_ms DESC LIMIT $1`, limit)
}

// RetryDeadLetter puts a dead letter back at its old place in its lane. It returns the lane to wake.
func (tx *Tx) RetryDeadLetter(ctx context.Context, lane Lane, seq, nowMS int64) (Lane, error) {
	rows, err := list[DeadLetter](ctx, &tx.Reader, `DELETE FROM dead_letter WHERE shard = $1 AND room = $2 AND dest = $3 AND seq = $4 RETURNING sealed_data, `+deadColumns,
		lane.Room.Shard(), lane.Room, lane.Dest, seq)
	if err != nil {
		return lane, err
	}
	if len(rows) == 0 {
		return lane, ErrNotFound
	}
	d := rows[0]
	data, err := tx.open(ctx, d.Data, "dead_letter", [16]byte(d.Room), d.Dest, d.Seq)
	if err != nil {
		return lane, err
	}
	lanes, err := tx.AddOutbound(ctx, []Outbound{{Room: d.Room, Dest: d.Dest, Seq: d.Seq, Verb: d.Verb, Target: d.Target, TxnKey: d.TxnKey, Data: data, CreatedMS: nowMS}})
	if err != nil {
		return lane, err
	}
	return lanes[0].Lane, nil
}

// DropDeadLetter deletes a dead letter for good. ErrNotFound when it is gone.
func (tx *Tx) DropDeadLetter(ctx context.Context, lane Lane, seq int64) error {
	n, err := tx.exec(ctx, `DELETE FROM dead_letter WHERE shard = $1 AND room = $2 AND dest = $3 AND seq = $4`, lane.Room.Shard(), lane.Room, lane.Dest, seq)
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}
