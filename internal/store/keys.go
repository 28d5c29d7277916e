package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

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
		key, err := db.unwrap(row)
		if err != nil {
			return fmt.Errorf("the database's secrets cannot be read: %w", err)
		}
		keys[uint32(row.ID)] = key
		if row.State == "active" {
			active = uint32(row.ID)
		}
	}
	if err := db.ring.Set(keys, active); err != nil {
		return err
	}
	db.keysRead.Store(db.millis())
	return nil
}

// unwrap opens a data key. The key file may have been rotated since it was read.
func (db *DB) unwrap(row dataKeyRow) (sealed.Secret, error) {
	key, err := db.cfg.Sealer.Unwrap(uint32(row.ID), row.Wrapped)
	if !errors.Is(err, sealed.ErrWrongKeyFile) {
		return key, err
	}
	if err := db.cfg.Sealer.Reload(); err != nil {
		return nil, err
	}
	return db.cfg.Sealer.Unwrap(uint32(row.ID), row.Wrapped)
}

// A process reads the data keys again when it last did so a minute ago and wants to seal. An old key is
// deleted an hour after it was retired at the earliest: by then no process seals with it, also not one
// that stood still meanwhile.
const (
	keysFresh = time.Minute
	keysGrace = time.Hour
)

func (db *DB) freshKeys(r *Reader) error {
	if db.dialect == sqliteDialect || db.millis()-db.keysRead.Load() < keysFresh.Milliseconds() {
		return nil // nobody else can have made a key on SQLite
	}
	return db.loadKeys(context.Background(), r)
}

// millis is the time for measuring within this process.
func (db *DB) millis() int64 {
	if db.clock != nil {
		return Millis(db.clock())
	}
	return time.Now().UnixMilli()
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
		if _, err := tx.exec(ctx, `UPDATE data_key SET state = 'old', retired_ms = {now} WHERE state = 'active'`); err != nil {
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

// RotateDataKey makes a new data key: what is written from now on is sealed with it. Reseal does the
// rest. ErrDuplicate when another process did it just now.
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
			key, err := db.unwrap(row)
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
	{"evidence", "sealed_data", true, []string{"room", "mimi_id"}},
	{"report", "sealed_body", true, []string{"room", "id"}},
	{"bridge_user", "sealed_key", false, []string{"mxid"}},
	{"keypackage", "sealed_private", false, []string{"ref"}},
	{"ap_activity", "sealed_data", false, []string{"key"}},
	{"secret", "sealed", false, []string{"name"}},
}

// Reseal seals everything anew that is sealed with an old data key, at most batch values a transaction,
// and returns how many there were. When there were none, it deletes the old data keys: on PostgreSQL
// only those that were retired an hour ago, since another process may have used them until then. So call
// it from time to time (each hour); ending it early by ctx is harmless.
func (db *DB) Reseal(ctx context.Context, batch int) (int, error) {
	if err := db.loadKeys(ctx, &db.Reader); err != nil {
		return 0, err
	}
	active := int64(db.ring.Active())
	grace := keysGrace.Milliseconds()
	if db.dialect == sqliteDialect {
		grace = 0
	}
	// Read before the search: what is over an hour old now is not used any more while it runs.
	old, err := column[int64](ctx, &db.Reader, `SELECT id FROM data_key WHERE state = 'old' AND id < $1 AND retired_ms <= {now} - $2`, active, grace)
	if err != nil {
		return 0, err
	}
	any, err := value[int64](ctx, &db.Reader, `SELECT COUNT(*) FROM data_key WHERE state = 'old'`)
	if err != nil || any == 0 {
		return 0, err
	}
	total := 0
	for _, c := range sealedColumns {
		n, err := db.resealColumn(ctx, c, batch)
		total += n
		if err != nil {
			return total, fmt.Errorf("sealing %s anew: %w", c.table, err)
		}
	}
	if total > 0 || len(old) == 0 {
		return total, nil
	}
	err = db.Tx(ctx, func(tx *Tx) error {
		for _, id := range old {
			if _, err := tx.exec(ctx, `DELETE FROM data_key WHERE state = 'old' AND id = $1`, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return 0, db.loadKeys(ctx, &db.Reader)
}

// resealColumn goes through a table, shard by shard where it has shards, so that no statement reads all
// of a large one.
func (db *DB) resealColumn(ctx context.Context, c sealedColumn, batch int) (int, error) {
	total := 0
	last := 1
	if c.shard {
		last = Shards
	}
	for shard := range last {
		for after := []any(nil); ; {
			done, err := db.resealSome(ctx, c, Shard(shard), after, batch)
			total += len(done)
			if err != nil {
				return total, err
			}
			if len(done) < batch {
				break
			}
			after = done[batch-1].key
		}
	}
	return total, nil
}

// resealSome seals values anew whose rows come after a key, nil for the first: nothing is looked through twice. It returns what they were.
func (db *DB) resealSome(ctx context.Context, c sealedColumn, shard Shard, after []any, batch int) ([]oldValue, error) {
	// The head of a value is one byte format and four bytes key id: an old one compares as less.
	head := binary.BigEndian.AppendUint32([]byte{1}, db.ring.Active())
	key := strings.Join(c.key, ", ")
	query, args := `SELECT `+key+`, `+c.column+` FROM `+c.table+` WHERE `+c.column+` < $1`, []any{head}
	if c.shard {
		query, args = query+` AND shard = $2`, append(args, shard)
	}
	if after != nil {
		query += ` AND (` + key + `) > ` + values(len(args)+1, 1, len(after))
		args = append(args, after...)
	}
	found, err := db.oldValues(ctx, c, query+` ORDER BY `+key+` LIMIT `+number(batch), args)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	err = db.Tx(ctx, func(tx *Tx) error {
		for _, f := range found {
			if err := tx.resealRow(ctx, c, f.key, f.box); err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

// oldValue is a value that an old key sealed, with the key of its row.
type oldValue struct {
	key []any
	box []byte
}

func (db *DB) oldValues(ctx context.Context, c sealedColumn, query string, args []any) ([]oldValue, error) {
	rows, err := db.query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []oldValue
	for rows.Next() {
		f := oldValue{key: make([]any, len(c.key))}
		into := make([]any, 0, len(c.key)+1)
		for i := range f.key {
			into = append(into, &f.key[i])
		}
		if err := rows.Scan(append(into, &f.box)...); err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, errors.Join(rows.Err(), rows.Close())
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
