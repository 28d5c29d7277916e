package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// RestoreReport says what Open found out about the database's past (docs/flow.md, T17).
type RestoreReport struct {
	// Restored is true when committed work may be missing: the database was restored from a backup
	// or a snapshot, or a standby was promoted. Then every group must be updated before it sends and
	// every unclaimed KeyPackage revoked: BeginRecovery does both in the database.
	Restored bool
	// Reason is one sentence for the operator.
	Reason string
}

// Restored returns what Open found out. It stays the same until the process ends.
func (db *DB) Restored() RestoreReport { return db.restore }

// identity is what changes when the database is another one than last time. The timeline is that of the log which is
// written now: what pg_control_checkpoint() says is behind for a while after a promotion.
func (db *DB) identity(ctx context.Context) (system, timeline string, err error) {
	if db.dialect == sqliteDialect {
		return "sqlite", "1", nil
	}
	if timeline, err = value[string](ctx, &db.Reader, timelineQuery); err != nil {
		return "", "", err
	}
	system, err = value[string](ctx, &db.Reader, `SELECT CAST(system_identifier AS TEXT) FROM pg_control_system()`)
	if sqlState(err) == "42501" {
		db.cfg.Log.Warn().Err(err).Msg("this PostgreSQL does not tell its system identifier: a restore is found by timeline and marker file only")
		return "unknown", timeline, nil
	}
	return system, timeline, err
}

// timelineQuery asks a primary which timeline it writes, in hexadecimal digits.
const timelineQuery = `SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)`

// detectRestore compares the database with what it said of itself last time, and with the marker
// file: see Mark. A marker in the file that the database does not know is one of a later time than the
// database.
func (db *DB) detectRestore(ctx context.Context) error {
	system, timeline, err := db.identity(ctx)
	if err != nil {
		return fmt.Errorf("asking the database who it is: %w", err)
	}
	had, err := db.instance(ctx)
	if err != nil {
		return fmt.Errorf("asking the database who it was: %w", err)
	}
	var why []string
	if s, ok := had["system"]; ok && s != system {
		why = append(why, fmt.Sprintf("the database system was %s and is %s", s, system))
	}
	if t, ok := had["timeline"]; ok && t != timeline {
		why = append(why, fmt.Sprintf("its timeline was %s and is %s (a standby was promoted, or a backup restored)", t, timeline))
	}
	if had["recovery"] != "" {
		why = append(why, "an earlier recovery was not finished ("+had["recovery"]+")")
	}
	if m := &db.mark; m.last != "" && had["marker"+m.suffix()] != m.last && had["marker_before"+m.suffix()] != m.last {
		why = append(why, "the marker file is newer than the database (a backup or a snapshot was restored)")
	}
	db.restore = RestoreReport{Restored: len(why) > 0, Reason: strings.Join(why, "; ")}
	if db.restore.Restored {
		db.cfg.Log.Error().Str("reason", db.restore.Reason).Msg("the database was restored: groups are updated before they send")
	}
	err = db.Tx(ctx, func(tx *Tx) error {
		if err := errors.Join(tx.setInstance(ctx, "system", system), tx.setInstance(ctx, "timeline", timeline)); err != nil {
			return err
		}
		if !db.restore.Restored {
			return nil
		}
		return tx.setInstance(ctx, "recovery", db.restore.Reason) // stays until BeginRecovery, also through a crash
	})
	if err != nil {
		return fmt.Errorf("writing down who the database is: %w", err)
	}
	db.timeline.Store(&timeline)
	if err := db.endLives(ctx, had); err != nil {
		return err
	}
	db.changed.Store(true)
	return db.Mark(ctx)
}

// InputRestored is the kind of inputs that tell a room that the database was restored.
const InputRestored = "restored"

// BeginRecovery carries out T17 after a restore: it flags every room with a group as "refresh" (update
// before send) and tells it by an input, lets no room use a number again that it may have used before, lets everything that
// waits to be sent be taken for sent once, revokes every unclaimed KeyPackage, and then forgets that a restore was found.
// Cut short, it is to be done again at the next start (Restored says so); done twice, it is harmless.
func (db *DB) BeginRecovery(ctx context.Context) (rooms, keyPackages int64, err error) {
	const batch = 500 // rows a statement
	for after := (RoomID{}); ; {
		shard, room := afterRoom(after)
		ids, err := column[RoomID](ctx, &db.Reader, `SELECT room FROM room WHERE (shard, room) > ($1, $2) ORDER BY shard, room LIMIT `+number(batch), shard, room)
		if err != nil {
			return rooms, 0, fmt.Errorf("recovering: %w", err)
		}
		err = db.Tx(ctx, func(tx *Tx) error {
			var told []NewInput
			for _, id := range ids {
				// Numbers that were given away since the backup are in transaction ids that the homeserver remembers. The
				// time is beyond them all, and beyond what an earlier restore of the same backup gave away.
				grouped, err := value[bool](ctx, &tx.Reader, `UPDATE room SET refresh = CASE WHEN epoch >= 0 THEN 1 ELSE refresh END, version = version + 1,
					next_seq = CASE WHEN next_seq < {now} THEN {now} ELSE next_seq END WHERE shard = $1 AND room = $2 RETURNING epoch >= 0`, id.Shard(), id)
				if err != nil {
					return err
				}
				if !grouped {
					continue
				}
				told = append(told, NewInput{Room: id, Kind: InputRestored, Epoch: -1})
			}
			_, err := tx.AddInputs(ctx, told)
			return err
		})
		if err != nil {
			return rooms, 0, fmt.Errorf("recovering: %w", err)
		}
		rooms += int64(len(ids))
		if len(ids) < batch {
			break
		}
		after = ids[len(ids)-1]
	}
	err = db.Tx(ctx, func(tx *Tx) error {
		// In parts: PostgreSQL is given a few seconds for a statement, however large the tables are.
		keyPackages = 0
		for {
			n, err := tx.exec(ctx, `UPDATE keypackage SET state = 'revoked' WHERE ref IN (SELECT ref FROM keypackage WHERE state = 'ready' LIMIT `+number(batch)+`)`)
			if err != nil {
				return err
			}
			if keyPackages += n; n < batch {
				break
			}
		}
		// What waits to be sent may have been sent since the backup.
		for shard := range Shards {
			if _, err := tx.exec(ctx, `UPDATE outbound SET attempts = 1 WHERE shard = $1 AND attempts = 0`, shard); err != nil {
				return err
			}
		}
		_, err := tx.exec(ctx, `DELETE FROM instance WHERE key = 'recovery'`)
		return err
	})
	if err != nil {
		return rooms, 0, fmt.Errorf("recovering: %w", err)
	}
	return rooms, keyPackages, nil
}

func (r *Reader) instance(ctx context.Context) (map[string]string, error) {
	type row struct {
		Key   string `db:"key"`
		Value string `db:"value"`
	}
	rows, err := list[row](ctx, r, `SELECT key, value FROM instance`)
	out := make(map[string]string, len(rows))
	for _, x := range rows {
		out[x.Key] = x.Value
	}
	return out, err
}

func (tx *Tx) setInstance(ctx context.Context, key, value string) error {
	_, err := tx.exec(ctx, `INSERT INTO instance (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, key, value)
	return err
}
