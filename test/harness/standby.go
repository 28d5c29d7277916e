package harness

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"time"
)

// Standby makes a second server that replicates this one, synchronously from then on: what is committed stands on both. Its
// Stop removes it.
func (p *Postgres) Standby(ctx context.Context) (*Postgres, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "mimi-bridge-pg-*")
	if err != nil {
		return nil, fmt.Errorf("set up a standby: %w", err)
	}
	s := &Postgres{dir: dir, port: port, cfg: p.cfg, bin: p.bin}
	err = s.fill(ctx, "pg_basebackup", "-D", s.data(), "-R", "-X", "stream", "-c", "fast", "--no-sync",
		"-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-U", "postgres")
	if err == nil {
		err = s.Start(ctx)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if err := p.replicate(ctx); err != nil {
		_ = s.Stop()
		return nil, fmt.Errorf("set up a standby: %w", err)
	}
	return s, nil
}

// replicate makes the server wait for its standby at each commit.
func (p *Postgres) replicate(ctx context.Context) error {
	for _, query := range []string{`ALTER SYSTEM SET synchronous_standby_names = '*'`, `SELECT pg_reload_conf()`} {
		if err := p.exec(ctx, query); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return p.proc.Await(ctx, "the standby to be in step", func(ctx context.Context) error {
		db, err := sql.Open("postgres", p.uri("postgres"))
		if err != nil {
			return err
		}
		defer db.Close()
		var n int
		err = db.QueryRowContext(ctx, `SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'`).Scan(&n)
		if err == nil && n == 0 {
			err = fmt.Errorf("no standby is synchronous")
		}
		return err
	})
}

func (p *Postgres) exec(ctx context.Context, query string) error {
	db, err := sql.Open("postgres", p.uri("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, query)
	return err
}

// Kill ends the server with SIGKILL.
func (p *Postgres) Kill() { p.proc.Kill() }

// Promote makes a standby a server of its own that takes writes.
func (p *Postgres) Promote(ctx context.Context) error {
	if err := p.exec(ctx, `SELECT pg_promote()`); err != nil {
		return fmt.Errorf("promote the standby: %w", err)
	}
	return nil
}

// Either makes of a database's URI one that leads to whichever of two servers takes writes.
func (p *Postgres) Either(standby *Postgres, uri string) (string, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return "", err
	}
	q := u.Query()
	q.Set("host", "127.0.0.1,127.0.0.1")
	q.Set("port", fmt.Sprintf("%d,%d", p.port, standby.port))
	q.Set("target_session_attrs", "read-write")
	u.Host, u.RawQuery = "", q.Encode()
	return u.String(), nil
}

// At is the same database at this server, whatever the URI says.
func (p *Postgres) At(uri string) (string, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return "", err
	}
	return p.uri(u.Path[1:]), nil
}
