package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Tx is a transaction: it has every question of Reader, and the changes. It lives only inside the
// function given to DB.Tx.
//
// Order of locks, to avoid deadlocks on PostgreSQL: rooms first (in the order of their ids), then
// lanes, then the rest. AddInputs and AddOutbound keep it within themselves; call AddInputs and
// StepRoom before AddOutbound and Close.
type Tx struct {
	Reader
	step *stepMark
	// arrived is how many inputs rooms have had, as far as it was read here.
	arrived map[RoomID]int64
	// head is what findTaken looked through last.
	head *hashedHead
	// bodies are those that were stored here (PutBody).
	bodies map[bodyKey][]byte
}

// stepMark is how a step is found again when the answer to COMMIT was lost.
type stepMark struct {
	room    RoomID
	version int64
	token   int64
}

// How often a transaction runs at the most, and the pauses in between.
const (
	maxTries   = 6
	retryFirst = 5 * time.Millisecond
	retryMost  = 500 * time.Millisecond
)

// Tx runs fn in one transaction. It runs fn again, with a growing random wait, when the database
// says that nothing was committed and another try may work (serialization failure, deadlock, busy,
// connection lost before COMMIT); so fn must compute from what it reads inside and must change
// nothing outside that matters before Tx returned nil.
//
// When the connection breaks while committing, and fn called StepRoom, the room is read again to find
// out: the result is then certain. Otherwise the error is ErrUnknownCommit.
//
// On SQLite, transactions that wait for their turn share one COMMIT; when that fails, each runs again by itself.
func (db *DB) Tx(ctx context.Context, fn func(*Tx) error) error {
	wait := retryFirst
	alone := false
	for try := 1; ; try++ {
		err := db.once(ctx, fn, alone)
		if err == nil {
			db.changed.Store(true)
			return nil
		}
		code := retryCode(err)
		if code == "" && connectionLost(err) && !errors.Is(err, ErrUnknownCommit) {
			code = "connection"
		}
		if code == "" || try == maxTries || ctx.Err() != nil {
			return err
		}
		alone = alone || errors.Is(err, errShared)
		if db.cfg.OnRetry != nil {
			db.cfg.OnRetry(code)
		}
		t := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return errors.Join(err, ctx.Err())
		}
		wait = min(wait*3, retryMost)
	}
}

func (db *DB) once(ctx context.Context, fn func(*Tx) error, alone bool) error {
	if db.dialect == sqliteDialect {
		return db.onceSQLite(ctx, fn, alone)
	}
	raw, err := db.pool.DB.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	defer raw.Rollback() //nolint:errcheck // after COMMIT it says so, otherwise the first error is the one to return
	var failed error
	tx := &Tx{Reader: Reader{db: db, h: raw, failed: &failed}}
	if err := fn(tx); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("a failed statement was passed over: %w", failed)
	}
	err = raw.Commit()
	if err == nil {
		return nil
	}
	if sqlState(err) != "" && !connectionLost(err) {
		return fmt.Errorf("committing: %w", err)
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return fmt.Errorf("committing: %w", err) // the driver rolled back before COMMIT was sent
	}
	return db.findOut(ctx, tx.step, err)
}

// findOut decides after a COMMIT whose answer was lost.
func (db *DB) findOut(ctx context.Context, step *stepMark, cause error) error {
	unknown := fmt.Errorf("%w (%v)", ErrUnknownCommit, cause)
	if step == nil {
		return unknown
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	type head struct {
		Version int64 `db:"version"`
		Token   int64 `db:"step_token"`
	}
	for try := 0; try < 5; try++ {
		// Taking the row's lock waits for a COMMIT that is still under way on the server.
		var now head
		known := false
		err := db.Tx(ctx, func(tx *Tx) (err error) {
			if _, err = tx.exec(ctx, `UPDATE room SET shard = shard WHERE shard = $1 AND room = $2`, step.room.Shard(), step.room); err != nil {
				return err
			}
			now, err = get[head](ctx, &tx.Reader, `SELECT version, step_token FROM room WHERE shard = $1 AND room = $2`, step.room.Shard(), step.room)
			known = err == nil
			return err
		})
		switch {
		case !known && errors.Is(err, ErrNotFound):
			return fmt.Errorf("the room is gone: %w", unknown)
		case !known: // what was read stands, whatever became of this transaction itself
			time.Sleep(50 * time.Millisecond << try)
			continue
		case now.Version == step.version && now.Token == step.token:
			return nil
		case now.Version < step.version:
			return fmt.Errorf("the transaction was not committed: %w", ErrConflict)
		default:
			return unknown
		}
	}
	return unknown
}
