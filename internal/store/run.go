package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/jmoiron/sqlx"

	"github.com/matrix-mimi/bridge/internal/sealed"
)

// handle runs statements: a pool, a transaction, or SQLite's one writing connection.
type handle interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Reader has the questions. A *DB asks them outside of any transaction, a *Tx inside its own.
type Reader struct {
	db *DB
	h  handle
	// failed is set inside a transaction: after one statement failed nothing may follow, on both
	// databases. (SQLite would go on, and after an interrupt even outside of the transaction.)
	failed *error
}

// prepared is a handle that compiles each statement once. SQLite needs it; PostgreSQL does not,
// because there an unprepared statement is one round trip (binary_parameters) and works through
// pgbouncer.
type prepared struct {
	prepare func(ctx context.Context, query string) (*sql.Stmt, error)
	direct  handle
	mu      sync.RWMutex
	all     map[string]*sql.Stmt
}

// maxStatements is how many are kept prepared, and maxStatement how many bytes they may have: longer ones are those of many rows, of which there is
// one for each number, and each would take the place of one that is needed again.
const (
	maxStatements = 512
	maxStatement  = 1536
)

func (p *prepared) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if len(query) > maxStatement {
		return nil, nil
	}
	p.mu.RLock()
	st, full := p.all[query], len(p.all) >= maxStatements
	p.mu.RUnlock()
	if st != nil || full {
		return st, nil
	}
	st, err := p.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if had := p.all[query]; had != nil {
		return had, st.Close()
	}
	p.all[query] = st
	return st, nil
}

func (p *prepared) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for q, st := range p.all {
		errs = append(errs, st.Close())
		delete(p.all, q)
	}
	return errors.Join(errs...)
}

func (p *prepared) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	st, err := p.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	if st == nil {
		return p.direct.QueryContext(ctx, query, args...)
	}
	return st.QueryContext(ctx, args...)
}

func (p *prepared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	st, err := p.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	if st == nil {
		return p.direct.ExecContext(ctx, query, args...)
	}
	return st.ExecContext(ctx, args...)
}

func (r *Reader) begin(ctx context.Context, query string) (context.Context, string, error) {
	if r.failed != nil {
		if *r.failed != nil {
			return nil, "", fmt.Errorf("after a failed statement: %w", *r.failed)
		}
		if r.db.dialect == sqliteDialect {
			// A transaction here is short and is not torn in the middle; Tx looks at ctx before COMMIT.
			ctx = context.WithoutCancel(ctx)
		}
	}
	if strings.Contains(query, "{now}") {
		query = strings.ReplaceAll(query, "{now}", r.db.nowSQL())
	}
	return ctx, query, nil
}

// end remembers the failure of a statement inside a transaction.
func (r *Reader) end(err error) error {
	if err != nil && r.failed != nil && *r.failed == nil {
		*r.failed = err
	}
	return err
}

func (r *Reader) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	ctx, query, err := r.begin(ctx, query)
	if err != nil {
		return nil, err
	}
	rows, err := r.h.QueryContext(ctx, query, args...)
	return rows, r.end(err)
}

// exec runs a statement and returns how many rows it changed.
func (r *Reader) exec(ctx context.Context, query string, args ...any) (int64, error) {
	ctx, query, err := r.begin(ctx, query)
	if err != nil {
		return 0, err
	}
	res, err := r.h.ExecContext(ctx, query, args...)
	if r.end(err) != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return n, r.end(err)
}

// idle is the reader for one question outside of a transaction, and what gives it back. SQLite's writing connection is the one
// whose pages in memory are still right after a commit; it answers when nobody writes, else one of the readers does.
func (r *Reader) idle(ctx context.Context) (*Reader, func()) {
	w := r.db.writer
	if r.failed != nil || w == nil || ctx.Err() != nil {
		return r, func() {}
	}
	if !w.tryEnter() {
		return r, func() {}
	}
	return &Reader{db: r.db, h: w.h, failed: new(error)}, w.leave
}

// list reads all rows of a query into structs by their db tags.
func list[T any](ctx context.Context, r *Reader, query string, args ...any) ([]T, error) {
	return listWhile(ctx, r, func(*T) bool { return true }, query, args...)
}

// listWhile is list up to and without the first row that wanted does not want.
func listWhile[T any](ctx context.Context, r *Reader, wanted func(*T) bool, query string, args ...any) ([]T, error) {
	r, done := r.idle(ctx)
	defer done()
	rows, err := r.query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	x := sqlx.Rows{Rows: rows, Mapper: r.db.mapper}
	var out []T
	for x.Next() {
		var v T
		if err := x.StructScan(&v); err != nil {
			return nil, r.end(err)
		}
		if !wanted(&v) {
			break
		}
		out = append(out, v)
	}
	return out, r.end(errors.Join(rows.Err(), rows.Close()))
}

// few is how many rows of a queue are read by a plain query first: mostly there are no more. How many bytes the rest are must be
// added up by the database, which costs as much as reading them.
const few = 4

// get reads one row; ErrNotFound when there is none.
func get[T any](ctx context.Context, r *Reader, query string, args ...any) (T, error) {
	var zero T
	all, err := list[T](ctx, r, query, args...)
	if err != nil {
		return zero, err
	}
	if len(all) == 0 {
		return zero, ErrNotFound
	}
	return all[0], nil
}

// column reads the single column of all rows.
func column[T any](ctx context.Context, r *Reader, query string, args ...any) ([]T, error) {
	r, done := r.idle(ctx)
	defer done()
	rows, err := r.query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			return nil, r.end(err)
		}
		out = append(out, v)
	}
	return out, r.end(errors.Join(rows.Err(), rows.Close()))
}

// value reads one value; ErrNotFound when there is no row.
func value[T any](ctx context.Context, r *Reader, query string, args ...any) (T, error) {
	var zero T
	all, err := column[T](ctx, r, query, args...)
	if err != nil {
		return zero, err
	}
	if len(all) == 0 {
		return zero, ErrNotFound
	}
	return all[0], nil
}

// values writes "($1,$2),($3,$4)" for rows of a width, beginning at parameter first.
func values(first, rows, width int) string {
	var b strings.Builder
	b.Grow(rows * width * 5)
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('(')
		for j := range width {
			if j > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "$%d", first+i*width+j)
		}
		b.WriteByte(')')
	}
	return b.String()
}

// maxParams is how many parameters go into one statement. SQLite takes 32,766 and PostgreSQL 65,535.
const maxParams = 900

// chunks calls fn with parts of rows so that each statement, with width parameters a row, stays below maxParams. A few rows go to
// SQLite one by one: a statement of several keeps a copy of each page that it changes, to be undone alone.
func chunks[T any](db *DB, rows []T, width int, fn func([]T) error) error {
	n := max(1, maxParams/width)
	if db.dialect == sqliteDialect && len(rows) <= few {
		n = 1
	}
	for len(rows) > 0 {
		m := min(n, len(rows))
		if err := fn(rows[:m]); err != nil {
			return err
		}
		rows = rows[m:]
	}
	return nil
}

// seal encrypts a value for a row; open is its inverse. The key is the row's primary key without the
// shard, which follows from the room.
func (r *Reader) seal(secret []byte, table string, key ...any) ([]byte, error) {
	if err := r.db.freshKeys(r); err != nil {
		return nil, err
	}
	out, err := r.db.ring.Seal(r.db.rand, sealed.AAD(table, key...), secret)
	if err != nil {
		return nil, fmt.Errorf("sealing a row of %s: %w", table, err)
	}
	return out, nil
}

func (r *Reader) open(ctx context.Context, box []byte, table string, key ...any) ([]byte, error) {
	aad := sealed.AAD(table, key...)
	out, err := r.db.ring.Open(aad, box)
	if errors.Is(err, sealed.ErrUnknownKey) {
		// Another process may have made a new data key since ours were read.
		if err = r.db.loadKeys(ctx, r); err == nil {
			out, err = r.db.ring.Open(aad, box)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening a row of %s: %w", table, err)
	}
	return out, nil
}

// evened repeats an argument until their number is a power of two: the statements of lists of any length are then few.
func evened(args []any, again any) []any {
	for n := len(args); n&(n-1) != 0; n++ {
		args = append(args, again)
	}
	return args
}

// valuesPlus is values from parameter 1 with an expression at the end of each row.
func valuesPlus(rows, width int, last string) string {
	return strings.ReplaceAll(values(1, rows, width), ")", ","+last+")")
}
