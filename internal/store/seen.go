package store

import (
	"context"
	"fmt"
)

// Seen is the mark of something that must have its effect once only.
type Seen struct {
	Room      RoomID
	Kind      string // event, notify, message …
	Key       string // event id, hexadecimal hash …; at most 255 bytes
	CreatedMS int64
}

// MarkSeen marks things of rooms as seen, and says of each whether it is new. Of two equal ones in
// the list the first is new.
func (tx *Tx) MarkSeen(ctx context.Context, marks []Seen) ([]bool, error) {
	type key struct {
		Room RoomID `db:"room"`
		Kind string `db:"kind"`
		Key  string `db:"key"`
	}
	fresh := make([]bool, len(marks))
	at := map[key]int{}
	var rows []int
	for i, m := range marks {
		k := key{m.Room, m.Kind, m.Key}
		if _, twice := at[k]; !twice {
			at[k] = i
			rows = append(rows, i)
		}
	}
	if len(rows) == 1 { // no answer needed, which is cheaper
		m := marks[rows[0]]
		n, err := tx.exec(ctx, `INSERT INTO seen (shard, room, kind, key, created_ms) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (shard, room, kind, key) DO NOTHING`,
			m.Room.Shard(), m.Room, m.Kind, m.Key, m.CreatedMS)
		if err != nil {
			return nil, fmt.Errorf("marking as seen: %w", err)
		}
		fresh[rows[0]] = n == 1
		return fresh, nil
	}
	err := chunks(tx.db, rows, 5, func(part []int) error {
		args := make([]any, 0, len(part)*5)
		for _, i := range part {
			m := marks[i]
			args = append(args, m.Room.Shard(), m.Room, m.Kind, m.Key, m.CreatedMS)
		}
		got, err := list[key](ctx, &tx.Reader, `INSERT INTO seen (shard, room, kind, key, created_ms) VALUES `+values(1, len(part), 5)+
			` ON CONFLICT (shard, room, kind, key) DO NOTHING RETURNING room, kind, key`, args...)
		if err != nil {
			return fmt.Errorf("marking as seen: %w", err)
		}
		for _, k := range got {
			fresh[at[k]] = true
		}
		return nil
	})
	return fresh, err
}

// WasSeen says whether something was marked.
func (r *Reader) WasSeen(ctx context.Context, room RoomID, kind, key string) (bool, error) {
	n, err := value[int64](ctx, r, `SELECT COUNT(*) FROM seen WHERE shard = $1 AND room = $2 AND kind = $3 AND key = $4`, room.Shard(), room, kind, key)
	return n > 0, err
}

// Transaction says how a homeserver's transaction relates to what came before.
type Transaction struct {
	Duplicate bool // this id with this body was stored before
	Reused    bool // this id came before with another body: it is new, and worth an alert
}

// MarkTransaction marks a transaction of a homeserver, known by id and SHA-256 of the body. Call it in
// the transaction that stores the events.
func (tx *Tx) MarkTransaction(ctx context.Context, homeserver, txnID string, bodySHA256 [32]byte, nowMS int64) (Transaction, error) {
	n, err := tx.exec(ctx, `INSERT INTO transaction_seen (homeserver, txn_id, body_sha256, created_ms) VALUES ($1, $2, $3, $4)
		ON CONFLICT (homeserver, txn_id, body_sha256) DO NOTHING`, homeserver, txnID, bodySHA256[:], nowMS)
	if err != nil {
		return Transaction{}, fmt.Errorf("marking a transaction: %w", err)
	}
	if n == 0 {
		return Transaction{Duplicate: true}, nil
	}
	same, err := value[int64](ctx, &tx.Reader, `SELECT COUNT(*) FROM transaction_seen WHERE homeserver = $1 AND txn_id = $2`, homeserver, txnID)
	return Transaction{Reused: same > 1}, err
}
