package store

import (
	"context"
	"fmt"
	"time"
)

// Retention says for how long what is kept. The zero value of a field keeps for ever.
type Retention struct {
	Seen         time.Duration // events, messages and notify bodies
	Transactions time.Duration
	RoomLog      time.Duration
	DeadLetters  time.Duration
	Broken       time.Duration // inputs that were set aside, from when they came
	Audit        time.Duration
	KeyPackages  time.Duration // after they expired
	Activities   time.Duration // of ActivityPub, in outboxes and among the received messages
	Spent        time.Duration // KeyPackages of others that must not be used
	Evidence     time.Duration // messages as they were encrypted, for reports
	Reports      time.Duration // that are closed
	Consents     time.Duration // after they were cancelled, or expired without an answer
}

// DefaultRetention is what the bridge uses.
var DefaultRetention = Retention{
	Seen:         35 * 24 * time.Hour,
	Transactions: 35 * 24 * time.Hour,
	RoomLog:      90 * 24 * time.Hour,
	DeadLetters:  30 * 24 * time.Hour,
	Broken:       30 * 24 * time.Hour,
	Audit:        400 * 24 * time.Hour,
	KeyPackages:  7 * 24 * time.Hour,
	Activities:   30 * 24 * time.Hour,
	Spent:        400 * 24 * time.Hour,
	Evidence:     30 * 24 * time.Hour,
	Reports:      90 * 24 * time.Hour,
	Consents:     30 * 24 * time.Hour,
}

// bodyGrace is how old a body without rows must be to be left over.
const bodyGrace = time.Hour

// Cleanup deletes what is past its time, at most limit rows a table, and returns how many rows went.
// Call it again when it returned many. A row that expires by itself (answers, routes, allowances)
// goes by its own time.
func (db *DB) Cleanup(ctx context.Context, keep Retention, now time.Time, limit int) (int64, error) {
	ago := func(d time.Duration) int64 {
		if d <= 0 {
			return -1
		}
		return Millis(now.Add(-d))
	}
	jobs := []struct {
		table, key, where string
		before            int64
	}{
		{"seen", "shard, room, kind, key", "created_ms < $1", ago(keep.Seen)},
		{"transaction_seen", "homeserver, txn_id, body_sha256", "created_ms < $1", ago(keep.Transactions)},
		{"room_log", "shard, room, seq", "accepted_ms < $1", ago(keep.RoomLog)},
		{"dead_letter", "shard, room, dest, seq", "dead_ms < $1", ago(keep.DeadLetters)},
		{"input", "shard, room, seq", "state = 'broken' AND created_ms < $1", ago(keep.Broken)},
		{"audit", "id", "at_ms < $1", ago(keep.Audit)},
		{"keypackage", "ref", "state IN ('ready', 'claimed', 'used', 'revoked') AND not_after_ms < $1", ago(keep.KeyPackages)},
		{"ap_activity", "key", "created_ms < $1", ago(keep.Activities)},
		{"ap_spent", "actor, name", "created_ms < $1", ago(keep.Spent)},
		{"evidence", "shard, room, mimi_id", "created_ms < $1", ago(keep.Evidence)},
		{"report", "shard, room, id", "state = 'closed' AND created_ms < $1", ago(keep.Reports)},
		// What was granted or refused stays.
		{"consent", "direction, owner, requester, room", "(state = 'cancelled' AND updated_ms < $1 OR state = 'requested' AND expires_ms > 0 AND expires_ms < $1)", ago(keep.Consents)},
		{"answer", "shard, room, hash", "until_ms < $1", Millis(now)},
		{"keypackage_route", "ref", "until_ms < $1", Millis(now)},
		{"allowance", "name, key, window_ms", "until_ms < $1", Millis(now)},
		{"introduction", "mxid, id", "until_ms < $1", Millis(now)},
		{"body", "shard, room, seq", "created_ms < $1 AND NOT EXISTS (SELECT 1 FROM outbound AS o WHERE o.shard = body.shard AND o.room = body.room AND o.body = body.seq)",
			Millis(now.Add(-bodyGrace))},
	}
	var total int64
	for _, j := range jobs {
		if j.before < 0 {
			continue
		}
		err := db.Tx(ctx, func(tx *Tx) error {
			n, err := tx.exec(ctx, `DELETE FROM `+j.table+` WHERE (`+j.key+`) IN (SELECT `+j.key+` FROM `+j.table+` WHERE `+j.where+` LIMIT $2)`, j.before, limit)
			if err == nil {
				total += n
			}
			return err
		})
		if err != nil {
			return total, fmt.Errorf("cleaning %s: %w", j.table, err)
		}
	}
	return total, nil
}
