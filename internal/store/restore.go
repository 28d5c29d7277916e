package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// RestoreReport says what Open found out about the database's past (specs/reliability.md §6, T17).
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

// identity is what changes when the database is another one than last time.
func (db *DB) identity(ctx context.Context) (system, timeline string, err error) {
	if db.dialect == sqliteDialect {
		return "sqlite", "1", nil
	}
	type row struct {
		System   string `db:"system"`
		Timeline string `db:"timeline"`
	}
	got, err := get[row](ctx, &db.Reader, `SELECT CAST(s.system_identifier AS TEXT) AS system, CAST(c.timeline_id AS TEXT) AS timeline
		FROM pg_control_system() AS s, pg_control_checkpoint() AS c`)
	if sqlState(err) == "42501" {
		db.cfg.Log.Warn().Err(err).Msg("this PostgreSQL does not tell its system identifier and timeline: a restore is found by the marker file only")
		return "unknown", "unknown", nil
	}
	return got.System, got.Timeline, err
}

// detectRestore compares the database with what it said of itself last time, and with the marker
// file: at each start a new random marker is written to both, the database first. A marker in the
// file that the database does not know is one of a later time than the database.
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
	mark, err := db.readMarker()
	if err != nil {
		return err
	}
	if mark != "" && had["marker"] != mark && had["marker_before"] != mark {
		why = append(why, "the marker file is newer than the database (a backup or a snapshot was restored)")
	}
	db.restore = RestoreReport{Restored: len(why) > 0, Reason: strings.Join(why, "; ")}
	if db.restore.Restored {
		db.cfg.Log.Error().Str("reason", db.restore.Reason).Msg("the database was restored: groups are updated before they send")
	}
	next := make([]byte, 16)
	_, _ = rand.Read(next)
	marker := hex.EncodeToString(next)
	err = db.Tx(ctx, func(tx *Tx) error {
		set := map[string]string{"system": system, "timeline": timeline, "marker": marker, "marker_before": had["marker"]}
		if db.restore.Restored {
			set["recovery"] = db.restore.Reason // stays until BeginRecovery, also through a crash
		}
		for _, k := range []string{"system", "timeline", "marker", "marker_before", "recovery"} {
			if v, ok := set[k]; ok {
				if err := tx.setInstance(ctx, k, v); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("writing down who the database is: %w", err)
	}
	return db.writeMarker(marker)
}

// BeginRecovery carries out T17 after a restore: it flags every room with a group as "refresh" (update
// before send), wakes it, revokes every unclaimed KeyPackage, and then forgets that a restore was found.
// Cut short, it is to be done again at the next start (Restored says so); done twice, it is harmless.
func (db *DB) BeginRecovery(ctx context.Context) (rooms, keyPackages int64, err error) {
	const batch = 500
	for after := (RoomID{}); ; {
		ids, err := column[RoomID](ctx, &db.Reader, `SELECT room FROM room WHERE room > $1 AND epoch >= 0 ORDER BY room LIMIT `+number(batch), after)
		if err != nil {
			return rooms, 0, fmt.Errorf("recovering: %w", err)
		}
		err = db.Tx(ctx, func(tx *Tx) error {
			for _, id := range ids {
				if _, err := tx.exec(ctx, `UPDATE room SET refresh = 1, version = version + 1, next_in = next_in + 1, due_ms = 0 WHERE shard = $1 AND room = $2`, id.Shard(), id); err != nil {
					return err
				}
			}
			return nil
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
		if keyPackages, err = tx.exec(ctx, `UPDATE keypackage SET state = 'revoked' WHERE state = 'ready'`); err != nil {
			return err
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

func (db *DB) readMarker() (string, error) {
	if db.cfg.MarkerFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(db.cfg.MarkerFile)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the marker file: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func (db *DB) writeMarker(marker string) error {
	path := db.cfg.MarkerFile
	if path == "" {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".marker-*")
	if err != nil {
		return fmt.Errorf("writing the marker file: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(marker + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing the marker file: %w", err)
	}
	return nil
}
