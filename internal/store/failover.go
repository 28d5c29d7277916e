package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/lib/pq"
)

// ErrFailedOver says that another PostgreSQL server than at the start writes now: a standby was promoted. What the process
// remembers may be newer than what that server has, so the process must end and start anew (T17).
var ErrFailedOver = errors.New("the database was failed over to another server: the process has to start anew")

// failover remembers that it happened.
type failover struct {
	once    *sync.Once
	happens chan struct{} // closed then
}

func newFailover() failover { return failover{&sync.Once{}, make(chan struct{})} }

func (f failover) err() error {
	select {
	case <-f.happens:
		return ErrFailedOver
	default:
		return nil
	}
}

// FailedOver is closed when the database turns out to be another server than at the start. From then on nothing works.
func (db *DB) FailedOver() <-chan struct{} { return db.failover.happens }

// openPostgres makes a pool whose connections all lead to the server of the start.
func (db *DB) openPostgres(dsn string) (*sql.DB, error) {
	c, err := pq.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector{c, db}), nil
}

// connector makes connections and looks which timeline the server writes. It implements driver.Connector.
type connector struct {
	driver.Connector
	db *DB
}

// Connect implements driver.Connector.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	if err := c.db.failover.err(); err != nil {
		return nil, err
	}
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.db.sameServer(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func (db *DB) sameServer(ctx context.Context, conn driver.Conn) error {
	want := db.timeline.Load()
	q, ok := conn.(driver.QueryerContext)
	if want == nil || !ok {
		return nil
	}
	rows, err := q.QueryContext(ctx, timelineQuery, nil)
	if err != nil {
		return fmt.Errorf("asking a new connection for its timeline: %w", err)
	}
	defer rows.Close()
	cell := make([]driver.Value, 1)
	if err := rows.Next(cell); err != nil {
		if errors.Is(err, io.EOF) {
			err = driver.ErrBadConn
		}
		return fmt.Errorf("asking a new connection for its timeline: %w", err)
	}
	got := fmt.Sprint(cell[0])
	if b, ok := cell[0].([]byte); ok {
		got = string(b)
	}
	if got == *want {
		return nil
	}
	db.failover.once.Do(func() {
		db.cfg.Log.Error().Str("was", *want).Str("is", got).Msg("the database's timeline changed: a standby was promoted")
		close(db.failover.happens)
	})
	return fmt.Errorf("%w (timeline %s, was %s)", ErrFailedOver, got, *want)
}
