package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/matrix-mimi/bridge/internal/sealed"
)

type dataKeyRow struct {
	ID      int64  `db:"id"`
	State   string `db:"state"`
	Wrapped []byte `db:"wrapped"`
}

// startKeys loads the data keys, or makes the first one for an empty database.
func (db *DB) startKeys(ctx context.Context) error {
	n, err := value[int64](ctx, &db.Reader, `SELECT COUNT(*) FROM data_key`)
	if err != nil {
		return fmt.Errorf("reading the data keys: %w", err)
	}
	if n == 0 {
		if err := db.newDataKey(ctx, 1); err != nil && !errors.Is(err, ErrDuplicate) {
			return err
		}
	}
	return db.loadKeys(ctx, &db.Reader)
}

func (db *DB) loadKeys(ctx context.Context, r *Reader) error {
	db.keysMu.Lock()
	defer db.keysMu.Unlock()
	rows, err := list[dataKeyRow](ctx, r, `SELECT id, state, wrapped FROM data_key`)
	if err != nil {
		return fmt.Errorf("reading the data keys: %w", err)
	}
	keys, active := map[uint32]sealed.Secret{}, uint32(0)
	for _, row := range rows {
		key, err := db.cfg.Sealer.Unwrap(uint32(row.ID), row.Wrapped)
		if err != nil {
			return fmt.Errorf("the database's secrets cannot be read: %w", err)
		}
		keys[uint32(row.ID)] = key
		if row.State == "active" {
			active = uint32(row.ID)
		}
	}
	return db.ring.Set(keys, active)
}

// newDataKey makes the next data key and makes it the one that seals.
func (db *DB) newDataKey(ctx context.Context, id int64) error {
	key, err := sealed.NewDataKey(db.rand)
	if err != nil {
		return err
	}
	wrapped, err := db.cfg.Sealer.Wrap(db.rand, uint32(id), key)
	if err != nil {
		return err
	}
	err = db.Tx(ctx, func(tx *Tx) error {
		if _, err := tx.exec(ctx, `UPDATE data_key SET state = 'old' WHERE state = 'active'`); err != nil {
			return err
		}
		_, err := tx.exec(ctx, `INSERT INTO data_key (id, state, wrapped, created_ms) VALUES ($1, 'active', $2, {now})`, id, wrapped)
		return err
	})
	if unique(err) {
		return fmt.Errorf("making data key %d: %w", id, ErrDuplicate)
	}
	return err
}

// RotateDataKey makes a new data key: what is written from now on is sealed with it. Call Reseal
// until it returns 0, then the old keys are gone. ErrDuplicate when another process did it just now.
func (db *DB) RotateDataKey(ctx context.Context) error {
	last, err := value[int64](ctx, &db.Reader, `SELECT COALESCE(MAX(id), 0) FROM data_key`)
	if err != nil {
		return err
	}
	if err := db.newDataKey(ctx, last+1); err != nil {
		return err
	}
	return db.loadKeys(ctx, &db.Reader)
}

// Rewrap wraps every data key with the first key of the key file. After it the key file's older keys
// are not needed (sealed.KeyFile.Retire).
func (db *DB) Rewrap(ctx context.Context) error {
	return db.Tx(ctx, func(tx *Tx) error {
		rows, err := list[dataKeyRow](ctx, &tx.Reader, `SELECT id, state, wrapped FROM data_key`)
		if err != nil {
			return err
		}
		for _, row := range rows {
			key, err := db.cfg.Sealer.Unwrap(uint32(row.ID), row.Wrapped)
			if err != nil {
				return err
			}
			wrapped, err := db.cfg.Sealer.Wrap(db.rand, uint32(row.ID), key)
			if err != nil {
				return err
			}
			if _, err := tx.exec(ctx, `UPDATE data_key SET wrapped = $1 WHERE id = $2`, wrapped, row.ID); err != nil {
				return err
			}
		}
		return nil
	})
}

// sealedColumn says where secrets lie. The key columns, in this order, are what a value is bound to.
type sealedColumn struct {
	table, column string
	shard         bool
	key           []string
}

var sealedColumns = []sealedColumn{
	{"piece", "sealed_data", true, []string{"room", "kind", "a", "b", "c"}},
	{"pending_commit", "sealed_staged", true, []string{"room"}},
	{"input", "sealed_body", true, []string{"room", "seq"}},
	{"body", "sealed_data", true, []string{"room", "seq"}},
	{"outbound", "sealed_data", true, []string{"room", "dest", "seq"}},
	{"dead_letter", "sealed_data", true, []string{"room", "dest", "seq"}},
	{"answer", "sealed_body", true, []string{"room", "hash"}},
	{"asset", "sealed_key", true, []string{"room", "id"}},
	{"bridge_user", "sealed_key", false, []string{"mxid"}},
	{"keypackage", "sealed_private", false, []string{"ref"}},
	{"secret", "sealed", false, []string{"name"}},
}

// Reseal seals up to limit values a table anew that are sealed with an old data key, and returns how
// many it found. When it finds none, it deletes the old data keys and loads the keys again.
func (db *DB) Reseal(ctx context.Context, limit int) (int, error) {
	if err := db.loadKeys(ctx, &db.Reader); err != nil {
		return 0, err
	}
	total := 0
	for _, c := range sealedColumns {
		n, err := db.resealColumn(ctx, c, limit)
		if err != nil {
			return total, fmt.Errorf("sealing %s anew: %w", c.table, err)
		}
		total += n
	}
	if total > 0 {
		return total, nil
	}
	active := int64(db.ring.Active())
	err := db.Tx(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, `DELETE FROM data_key WHERE state = 'old' AND id < $1`, active)
		return err
	})
	if err != nil {
		return 0, err
	}
	return 0, db.loadKeys(ctx, &db.Reader)
}

func (db *DB) resealColumn(ctx context.Context, c sealedColumn, limit int) (int, error) {
	// The head of a value is one byte format and four bytes key id: an old one compares as less.
	head := []byte{1, 0, 0, 0, 0}
	active := db.ring.Active()
	for i := range 4 {
		head[1+i] = byte(active >> (24 - 8*i))
	}
	n := 0
	err := db.Tx(ctx, func(tx *Tx) error {
		n = 0
		rows, err := tx.query(ctx, `SELECT `+strings.Join(c.key, ", ")+`, `+c.column+` FROM `+c.table+
			` WHERE `+c.column+` < $1 LIMIT $2`, head, limit)
		if err != nil {
			return err
		}
		type found struct {
			key []any
			old []byte
		}
		var all []found
		for rows.Next() {
			f := found{key: make([]any, len(c.key))}
			into := make([]any, 0, len(c.key)+1)
			for i := range f.key {
				into = append(into, &f.key[i])
			}
			if err := rows.Scan(append(into, &f.old)...); err != nil {
				return errors.Join(err, rows.Close())
			}
			all = append(all, f)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		for _, f := range all {
			if err := tx.resealRow(ctx, c, f.key, f.old); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}

func (tx *Tx) resealRow(ctx context.Context, c sealedColumn, key []any, old []byte) error {
	plain, err := tx.open(ctx, old, c.table, key...)
	if err != nil {
		return err
	}
	box, err := tx.seal(plain, c.table, key...)
	if err != nil {
		return err
	}
	where := []string{c.column + " = $2"}
	args := []any{box, old}
	for i, k := range c.key {
		args = append(args, key[i])
		where = append(where, fmt.Sprintf("%s = $%d", k, len(args)))
	}
	if c.shard {
		var room RoomID
		if err := room.Scan(key[0]); err != nil {
			return err
		}
		args = append(args, room.Shard())
		where = append(where, fmt.Sprintf("shard = $%d", len(args)))
	}
	_, err = tx.exec(ctx, `UPDATE `+c.table+` SET `+c.column+` = $1 WHERE `+strings.Join(where, " AND "), args...)
	return err
}

// KeyIDs returns the ids of the data keys that are loaded, rising; the last one seals.
func (db *DB) KeyIDs() []uint32 { return db.ring.IDs() }
