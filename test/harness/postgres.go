package harness

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	_ "github.com/lib/pq" // the driver of createDatabase
)

// ErrNoPostgres says that this machine has no PostgreSQL server programs.
// Tests that need one then skip with the reason; .ci/run installs them first
// and does not accept the skip.
var ErrNoPostgres = errors.New("PostgreSQL's initdb and postgres are not installed (Debian: apt-get install postgresql); POSTGRES_BIN names another directory")

// PostgresConfig says how a throwaway cluster runs.
type PostgresConfig struct {
	// Unsynced turns fsync, synchronous_commit and full_page_writes off. A
	// bridge refuses such a database unless told otherwise, so this is only
	// for benchmarks and for tests of that refusal.
	Unsynced bool
	// Settings are further server settings, name to value.
	Settings map[string]string
}

// Postgres is a throwaway cluster on loopback. Its superuser is postgres and
// needs no password; only this machine reaches it.
type Postgres struct {
	dir  string
	port int
	cfg  PostgresConfig
	bin  string
	proc *Process
	seq  atomic.Int64
}

// StartPostgres makes a cluster in a new directory under the system's
// temporary directory and starts it. As root the server runs as the user
// postgres, because it refuses to run as root. Stop removes everything.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	// Not under a test's own directory: those are closed to other users, and
	// the server must reach its files as postgres.
	dir, err := os.MkdirTemp("", "mimi-bridge-pg-*")
	if err != nil {
		return nil, fmt.Errorf("set up PostgreSQL: %w", err)
	}
	p := &Postgres{dir: dir, port: port, cfg: cfg, bin: bin}
	if err := p.init(ctx); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if err := p.Start(ctx); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return p, nil
}

// postgresBin finds the newest installed server programs.
func postgresBin() (string, error) {
	if dir := os.Getenv("POSTGRES_BIN"); dir != "" {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
			return "", fmt.Errorf("POSTGRES_BIN=%s has no initdb: %w", dir, ErrNoPostgres)
		}
		return dir, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		version := func(path string) int {
			n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
			return n
		}
		sort.Slice(found, func(i, j int) bool { return version(found[i]) > version(found[j]) })
		return filepath.Dir(found[0]), nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	return "", ErrNoPostgres
}

// as wraps a command so that it runs as postgres when we are root.
func (p *Postgres) as(name string, args ...string) (path string, all []string, err error) {
	program := filepath.Join(p.bin, name)
	if os.Getuid() != 0 {
		return program, args, nil
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		return "", nil, fmt.Errorf("run %s as postgres: %w", name, err)
	}
	return setpriv, append([]string{"--reuid=postgres", "--regid=postgres", "--init-groups", "--reset-env", program}, args...), nil
}

func (p *Postgres) init(ctx context.Context) error {
	return p.fill(ctx, "initdb", "-D", p.data(), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
}

// fill makes the cluster's files by one of the server's programs.
func (p *Postgres) fill(ctx context.Context, program string, args ...string) error {
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return fmt.Errorf("set up PostgreSQL: it does not run as root: %w", err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(p.dir, uid, gid); err != nil {
			return fmt.Errorf("set up PostgreSQL: %w", err)
		}
	}
	path, args, err := p.as(program, args...)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = p.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, tail(out, 1000))
	}
	return nil
}

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }

// Start starts a stopped or killed cluster and returns when it takes queries.
func (p *Postgres) Start(ctx context.Context) error {
	sync := "on"
	if p.cfg.Unsynced {
		sync = "off"
	}
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": p.dir,
		"fsync":                   sync,
		"synchronous_commit":      sync,
		"full_page_writes":        sync,
		// Two homeservers take 40 each and two bridges 24, twice that while
		// one starts anew, and a world stands on each processor. A Dendrite
		// that is refused a connection panics.
		"max_connections": "1000",
		"shared_buffers":  "64MB",
	}
	for k, v := range p.cfg.Settings {
		settings[k] = v
	}
	args := []string{"-D", p.data(), "-p", strconv.Itoa(p.port)}
	for k, v := range settings {
		args = append(args, "-c", k+"="+v)
	}
	path, all, err := p.as("postgres", args...)
	if err != nil {
		return err
	}
	// Killed servers leave their pid file; the postmaster judges it by itself.
	proc, err := StartProcess(Command{Name: "PostgreSQL", Path: path, Args: all, Dir: p.dir, Log: p.dir + ".log", Temp: []string{p.dir, p.dir + ".log"}})
	if err != nil {
		return err
	}
	p.proc = proc
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = proc.Await(ctx, "PostgreSQL to answer", func(ctx context.Context) error {
		db, err := sql.Open("postgres", p.uri("postgres"))
		if err != nil {
			return err
		}
		defer db.Close()
		return db.PingContext(ctx)
	})
	if err != nil {
		proc.Kill()
	}
	return err
}

func (p *Postgres) uri(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Host: Loopback(p.port), Path: database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Database makes a new, empty database and returns its URI. The name given is
// only a hint that helps to read logs.
func (p *Postgres) Database(ctx context.Context, hint string) (string, error) {
	name := fmt.Sprintf("%s_%d", identifier(hint), p.seq.Add(1))
	db, err := sql.Open("postgres", p.uri("postgres"))
	if err != nil {
		return "", fmt.Errorf("make a database: %w", err)
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, `CREATE DATABASE "`+name+`"`); err != nil {
		return "", fmt.Errorf("make database %s: %w", name, err)
	}
	return p.uri(name), nil
}

// Dump writes a database of the cluster to a file, as a backup by pg_dump.
func (p *Postgres) Dump(ctx context.Context, uri, file string) error {
	return p.client(ctx, "pg_dump", "--clean", "--if-exists", "--file", file, uri)
}

// Load puts a database back to what Dump wrote.
func (p *Postgres) Load(ctx context.Context, uri, file string) error {
	return p.client(ctx, "psql", "--quiet", "--no-psqlrc", "--single-transaction", "--set", "ON_ERROR_STOP=1", "--output", os.DevNull, "--file", file, uri)
}

// client runs a client program of the cluster's version.
func (p *Postgres) client(ctx context.Context, program string, args ...string) error {
	if out, err := exec.CommandContext(ctx, filepath.Join(p.bin, program), args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, tail(out, 1000))
	}
	return nil
}

// identifier keeps the letters and digits of a hint, in lower case.
func identifier(hint string) string {
	out := make([]byte, 0, len(hint))
	for i := 0; i < len(hint) && len(out) < 40; i++ {
		switch c := hint[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			out = append(out, c)
		case c >= 'A' && c <= 'Z':
			out = append(out, c+'a'-'A')
		}
	}
	return "t" + string(out)
}

// Crash stops the server at once without a checkpoint, as a power cut of the
// process would (SIGQUIT, PostgreSQL's immediate shutdown). Start recovers it.
func (p *Postgres) Crash() error {
	if err := p.proc.Signal(syscall.SIGQUIT); err != nil {
		return fmt.Errorf("crash PostgreSQL: %w", err)
	}
	return p.proc.Stop(20 * time.Second)
}

// Stop ends the cluster and removes its files. They need no checkpoint before, which may take long on a busy disk.
func (p *Postgres) Stop() error {
	var err error
	if p.proc.Running() {
		err = p.Crash()
	}
	return errors.Join(err, os.RemoveAll(p.dir), os.RemoveAll(p.dir+".log"))
}
