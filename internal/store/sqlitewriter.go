package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// sqliteWriter is the one connection that writes. Whoever writes waits for its turn here, in the
// process, and not in SQLite's busy handler, which is unfair and burns time.
//
// A COMMIT is the dearest statement of a transaction: it syncs. So who has written and sees others wait leaves the transaction
// open to them, each behind a savepoint, and the last one commits for all. Nobody is told of success before that.
type sqliteWriter struct {
	pool *sql.DB
	conn *sql.Conn
	h    *prepared
	gone chan struct{} // closed with the database

	mu    sync.Mutex
	busy  bool            // somebody has the turn
	line  []chan struct{} // who waits for it: closed when it comes
	later []*later        // who waits for company
	timer *time.Timer     // ends that

	open *shared // the open transaction, nil if there is none; of whoever has the turn
}

// shared is a transaction of several.
type shared struct {
	parts int           // that succeeded
	later []*later      // that are among them
	done  chan struct{} // closed when err is known
	err   error         // why it was not committed
}

// later is a transaction that waits for company.
type later struct {
	fn   func(*Tx) error
	done chan error
}

const (
	maxParts = 32                    // that share a COMMIT
	soon     = 50 * time.Millisecond // how long TxSoon waits for company
	maxLater = 16                    // that wait for company at the same time
)

// errShared says that a transaction was not committed for what may have been the fault of others that shared it.
var errShared = errors.New("the transaction was shared with others and failed")

func newSQLiteWriter(ctx context.Context, pool *sql.DB) (*sqliteWriter, error) {
	pool.SetMaxOpenConns(1)
	pool.SetConnMaxLifetime(0)
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	w := &sqliteWriter{pool: pool, conn: conn, gone: make(chan struct{})}
	w.h = &prepared{direct: conn, all: map[string]*sql.Stmt{}, prepare: conn.PrepareContext}
	return w, nil
}

func (w *sqliteWriter) close() error {
	_ = w.enter(context.Background()) // who keeps the turn longer than writerPatience is not waited for
	close(w.gone)
	// The log is emptied into the file, so that the file alone is a copy of the database.
	_, err := w.conn.ExecContext(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)")
	return errors.Join(err, w.h.close(), w.conn.Close(), w.pool.Close())
}

// enter waits for the turn. leave gives it back.
func (w *sqliteWriter) enter(ctx context.Context) error {
	w.mu.Lock()
	if !w.busy {
		w.busy = true
		w.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	w.line = append(w.line, turn)
	w.mu.Unlock()
	patience := time.NewTimer(writerPatience)
	defer patience.Stop()
	var err error
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-w.gone:
		err = errors.New("the database is closed")
	case <-patience.C:
		err = fmt.Errorf("waiting for the writer (is Tx called inside Tx?): %w", ErrBusy)
	}
	w.mu.Lock()
	i := slices.Index(w.line, turn)
	if i >= 0 {
		w.line = slices.Delete(w.line, i, i+1)
	}
	w.mu.Unlock()
	if i < 0 { // it came at the same moment
		w.leave()
	}
	return err
}

// tryEnter takes the turn if nobody has it.
func (w *sqliteWriter) tryEnter() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy {
		return false
	}
	w.busy = true
	return true
}

// leave passes the turn on, and the open transaction with it. When nobody waits, or enough share it, it is committed.
func (w *sqliteWriter) leave() {
	w.mu.Lock()
	if w.open != nil && (len(w.line) == 0 || w.open.parts >= maxParts) {
		w.mu.Unlock()
		w.commit()
		w.mu.Lock()
	}
	defer w.mu.Unlock()
	if len(w.line) == 0 {
		w.busy = false
		return
	}
	close(w.line[0])
	w.line = w.line[1:]
}

// commit ends the open transaction, if there is one, and tells all that share it.
func (w *sqliteWriter) commit() {
	s := w.open
	if s == nil {
		return
	}
	if _, err := w.h.ExecContext(context.Background(), "COMMIT"); err != nil {
		w.lose(fmt.Errorf("committing: %w", err), s.parts > 1 || len(s.later) > 0)
		return
	}
	w.end(nil)
}

// lose rolls the open transaction back and tells all that share it why; others says that it may not be their fault.
func (w *sqliteWriter) lose(err error, others bool) {
	_, _ = w.h.ExecContext(context.Background(), "ROLLBACK") // it may have been rolled back already
	if others {
		err = fmt.Errorf("%w: %w", errShared, err)
	}
	w.end(err)
}

// end tells all that shared the open transaction what became of it.
func (w *sqliteWriter) end(err error) {
	s := w.open
	w.open, s.err = nil, err
	for _, l := range s.later {
		l.done <- err
	}
	close(s.done)
}

// part runs fn as a part of the open transaction, which it begins when there is none. When fn fails, nothing of it is in there.
func (w *sqliteWriter) part(ctx context.Context, db *DB, fn func(*Tx) error) (s *shared, err error) {
	plain := context.WithoutCancel(ctx)
	begin, end := "SAVEPOINT part", "RELEASE part"
	first := w.open == nil
	if first {
		begin, end = "BEGIN IMMEDIATE", ""
	}
	if _, err := w.h.ExecContext(plain, begin); err != nil {
		if !first {
			w.lose(err, true)
		}
		return nil, fmt.Errorf("beginning a transaction: %w", err)
	}
	if first {
		w.open = &shared{done: make(chan struct{})}
	}
	done := false
	defer func() {
		if done { // not after an error, nor after a panic in fn
			return
		}
		if first {
			w.lose(err, false)
			return
		}
		for _, q := range []string{"ROLLBACK TO part", end} {
			if _, err := w.h.ExecContext(plain, q); err != nil { // SQLite rolled all back by itself, as it does when the disk is full
				w.lose(err, true)
				return
			}
		}
	}()
	var failed error
	tx := &Tx{Reader: Reader{db: db, h: w.h, failed: &failed}}
	if err := fn(tx); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, fmt.Errorf("a failed statement was passed over: %w", failed)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if end != "" {
		if _, err := w.h.ExecContext(plain, end); err != nil {
			return nil, fmt.Errorf("ending a part of a transaction: %w", err)
		}
	}
	done = true
	w.open.parts++
	return w.open, nil
}

func (db *DB) onceSQLite(ctx context.Context, fn func(*Tx) error, alone bool) error {
	w := db.writer
	if err := w.enter(ctx); err != nil {
		return err
	}
	s, err := func() (*shared, error) {
		defer w.leave() // also after a panic in fn
		if alone {
			w.commit()
			defer w.commit()
			return w.part(ctx, db, fn)
		}
		return w.company(ctx, db, fn)
	}()
	if err != nil {
		return err
	}
	<-s.done
	return s.err
}

// TxSoon is Tx for what may wait a little: on SQLite it shares the COMMIT of the next transaction, which sees what it wrote. When
// none comes in 50 ms, or hurry says that something waits for it, it is committed by itself.
func (db *DB) TxSoon(ctx context.Context, hurry <-chan struct{}, fn func(*Tx) error) error {
	w := db.writer
	if w == nil {
		return db.Tx(ctx, fn)
	}
	l := &later{fn: fn, done: make(chan error, 1)}
	w.mu.Lock()
	w.later = append(w.later, l)
	if len(w.later) == 1 {
		w.timer = time.AfterFunc(soon, func() { db.flush() })
	}
	full := len(w.later) >= maxLater
	w.mu.Unlock()
	if full {
		db.flush()
	}
	var err error
	select {
	case err = <-l.done:
	case <-hurry:
		db.flush()
		err = <-l.done
	}
	if err != nil { // whatever it was: here it is found out whose fault
		return db.Tx(ctx, fn)
	}
	db.changed.Store(true)
	return nil
}

// flush commits what waits for company.
func (db *DB) flush() {
	w := db.writer
	if err := w.enter(context.Background()); err != nil {
		w.refuse(err)
		return
	}
	defer w.leave()
	_, _ = w.company(context.Background(), db, nil) // who waits is told
}

// take empties the list of those that wait for company.
func (w *sqliteWriter) take() []*later {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.later
	w.later = nil
	if len(list) > 0 {
		w.timer.Stop()
	}
	return list
}

// refuse tells those that wait for company that they do in vain.
func (w *sqliteWriter) refuse(err error) {
	for _, l := range w.take() {
		l.done <- err
	}
}

// company runs fn after what waits for company, as one part. When it fails, those are left to run by themselves. Without fn it runs
// them only.
func (w *sqliteWriter) company(ctx context.Context, db *DB, fn func(*Tx) error) (*shared, error) {
	list := w.take()
	if len(list) == 0 && fn != nil {
		return w.part(ctx, db, fn)
	}
	if len(list) == 0 {
		return nil, nil
	}
	written, stands := false, false
	defer func() { // also after a panic in fn
		for _, l := range list {
			if !stands {
				l.done <- errShared
			}
		}
	}()
	s, err := w.part(ctx, db, func(tx *Tx) error {
		for _, l := range list {
			if err := l.run(tx); err != nil {
				return err
			}
		}
		written = true
		if fn == nil {
			return nil
		}
		return fn(tx)
	})
	if err == nil {
		stands = true
		s.later = append(s.later, list...)
		return s, nil
	}
	if written || fn == nil {
		return nil, err
	}
	return w.part(ctx, db, fn)
}

// run runs what waited for company inside of another transaction.
func (l *later) run(tx *Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a transaction panicked: %v", p) // it panics again where it belongs
		}
	}()
	return l.fn(&Tx{Reader: tx.Reader})
}
