package store

import (
	"context"
	"fmt"
	"slices"
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

// Cleanup deletes what is past its time, at most limit rows a transaction and some rounds of that a table, and returns how many rows
// went. A row that expires by itself (answers, routes, allowances) goes by its own time.
func (db *DB) Cleanup(ctx context.Context, keep Retention, now time.Time, limit, rounds int) (int64, error) {
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
		for range rounds {
			var n int64
			err := db.Tx(ctx, func(tx *Tx) (err error) {
				n, err = tx.exec(ctx, `DELETE FROM `+j.table+` WHERE (`+j.key+`) IN (SELECT `+j.key+` FROM `+j.table+` WHERE `+j.where+` LIMIT $2)`, j.before, limit)
				return err
			})
			if err != nil {
				return total, fmt.Errorf("cleaning %s: %w", j.table, err)
			}
			if total += n; n < int64(limit) {
				break
			}
		}
	}
	n, err := db.cleanAnswers(ctx, Millis(now))
	if total += n; err != nil {
		return total, fmt.Errorf("cleaning answer: %w", err)
	}
	if before := ago(keep.RoomLog); before >= 0 {
		n, err := db.cleanLogs(ctx, before, limit, rounds)
		if total += n; err != nil {
			return total, fmt.Errorf("cleaning room_log: %w", err)
		}
	}
	return total, nil
}

// What each message writes has no index by age: it would cost each message more than a walk through the table costs each hour.

// pageRows is how many rows such a walk reads at once, so that nobody waits long for SQLite's writer.
const pageRows = 1000

// cleanAnswers walks through all answers and deletes those whose time is over.
func (db *DB) cleanAnswers(ctx context.Context, nowMS int64) (gone int64, err error) {
	type row struct {
		Room    RoomID `db:"room"`
		Hash    []byte `db:"hash"`
		UntilMS int64  `db:"until_ms"`
	}
	after := []any{-1, RoomID{}, []byte{}}
	for {
		page, err := list[row](ctx, &db.Reader, `SELECT room, hash, until_ms FROM answer WHERE (shard, room, hash) > ($1, $2, $3) ORDER BY shard, room, hash LIMIT `+number(pageRows), after...)
		if err != nil || len(page) == 0 {
			return gone, err
		}
		last := page[len(page)-1]
		after = []any{last.Room.Shard(), last.Room, last.Hash}
		page = slices.DeleteFunc(page, func(x row) bool { return x.UntilMS >= nowMS })
		if len(page) == 0 {
			continue
		}
		err = db.Tx(ctx, func(tx *Tx) error {
			for _, x := range page {
				if _, err := tx.exec(ctx, `DELETE FROM answer WHERE shard = $1 AND room = $2 AND hash = $3`, x.Room.Shard(), x.Room, x.Hash); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return gone, err
		}
		gone += int64(len(page))
	}
}

// cleanLogs asks each room for the beginning of its log, and deletes entries made before a time of those that begin earlier: at most limit a transaction, and
// limit times rounds in all or a little more.
func (db *DB) cleanLogs(ctx context.Context, beforeMS int64, limit, rounds int) (gone int64, err error) {
	type row struct {
		Room   RoomID `db:"room"`
		Oldest int64  `db:"oldest"`
	}
	after := []any{-1, RoomID{}}
	for {
		page, err := list[row](ctx, &db.Reader, `SELECT room, COALESCE((SELECT l.accepted_ms FROM room_log AS l WHERE l.shard = r.shard AND l.room = r.room ORDER BY l.seq LIMIT 1), `+never+`) AS oldest
			FROM room AS r WHERE (shard, room) > ($1, $2) ORDER BY shard, room LIMIT `+number(pageRows), after...)
		if err != nil || len(page) == 0 {
			return gone, err
		}
		last := page[len(page)-1].Room
		after = []any{last.Shard(), last}
		for _, x := range page {
			if x.Oldest >= beforeMS {
				continue
			}
			for n := int64(limit); n == int64(limit); {
				err := db.Tx(ctx, func(tx *Tx) (err error) {
					n, err = tx.exec(ctx, `DELETE FROM room_log WHERE shard = $1 AND room = $2 AND seq IN (SELECT seq FROM (
						SELECT seq, accepted_ms FROM room_log WHERE shard = $1 AND room = $2 ORDER BY seq LIMIT `+number(limit)+`) AS l WHERE accepted_ms < $3)`,
						x.Room.Shard(), x.Room, beforeMS)
					return err
				})
				if err != nil {
					return gone, err
				}
				if gone += n; gone >= int64(limit*rounds) {
					return gone, nil
				}
			}
		}
	}
}
