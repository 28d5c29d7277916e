package store

import (
	"context"
	"fmt"
)

// States of an intent. One that is done or given up has no row.
const (
	IntentOpen   = "open"
	IntentAsking = "asking" // something must be answered first, such as a request for KeyPackages
	IntentStaged = "staged" // a pending commit covers it
)

// Intent is a wish to change a group (T5).
type Intent struct {
	Room      RoomID `db:"room"`
	Seq       int64  `db:"seq"`
	Kind      string `db:"kind"`
	Actor     string `db:"actor"`  // who wishes it
	Target    string `db:"target"` // whom or what it is about
	Dedupe    string `db:"dedupe"` // two with the same, not "", cannot stand
	State     string `db:"state"`
	Tries     int64  `db:"tries"` // commits with it that lost
	Reason    string `db:"reason"`
	Data      string `db:"data"`
	CreatedMS int64  `db:"created_ms"`
}

const intentColumns = `room, seq, kind, actor, target, COALESCE(dedupe, '') AS dedupe, state, tries, reason, data, created_ms`

// Intents returns a room's intents in their order.
func (r *Reader) Intents(ctx context.Context, room RoomID) ([]Intent, error) {
	return list[Intent](ctx, r, `SELECT `+intentColumns+` FROM intent WHERE shard = $1 AND room = $2 ORDER BY seq`, room.Shard(), room)
}

// AddIntent stores an intent; State "" is open. It reports false when one with the same Dedupe stands.
func (tx *Tx) AddIntent(ctx context.Context, i Intent) (bool, error) {
	if i.State == "" {
		i.State = IntentOpen
	}
	n, err := tx.exec(ctx, `INSERT INTO intent (shard, room, seq, kind, actor, target, dedupe, state, tries, reason, data, created_ms)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (shard, room, dedupe) DO NOTHING`,
		i.Room.Shard(), i.Room, i.Seq, i.Kind, i.Actor, i.Target, nullable(i.Dedupe), i.State, i.Tries, i.Reason, i.Data, i.CreatedMS)
	if err != nil {
		return false, fmt.Errorf("storing an intent: %w", err)
	}
	return n > 0, nil
}

// SetIntent changes an intent's state, tries, reason and data.
func (tx *Tx) SetIntent(ctx context.Context, i Intent) error {
	_, err := tx.exec(ctx, `UPDATE intent SET state = $4, tries = $5, reason = $6, data = $7 WHERE shard = $1 AND room = $2 AND seq = $3`,
		i.Room.Shard(), i.Room, i.Seq, i.State, i.Tries, i.Reason, i.Data)
	return err
}

// DeleteIntents deletes intents that are done or given up.
func (tx *Tx) DeleteIntents(ctx context.Context, room RoomID, seqs ...int64) error {
	for _, s := range seqs {
		if _, err := tx.exec(ctx, `DELETE FROM intent WHERE shard = $1 AND room = $2 AND seq = $3`, room.Shard(), room, s); err != nil {
			return err
		}
	}
	return nil
}
