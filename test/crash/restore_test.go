package crash

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/test/fakes/stage"
	"github.com/matrix-mimi/bridge/test/harness"
)

// A bridge whose database is put back to an old backup, the file of SQLite or a dump of PostgreSQL, notices, renews its keys before it sends, and the conversation goes
// on both ways, whether it leads the room or follows: no generation is used twice, nothing that was seen comes again.
func TestRestoredBackup(t *testing.T) {
	bin := buildBridge(t)
	play := func(t *testing.T, postgres *harness.Postgres) {
		for _, domain := range []string{hub, follower} {
			for _, moved := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, epochs moved %v", domain, moved), func(t *testing.T) {
					if postgres == nil {
						newTheatre(t, bin, nil).restore(domain, moved, backupFile)
						return
					}
					newTheatre(t, bin, postgres.Database).restore(domain, moved, func(ctx context.Context, b *stage.Bridge) (func() error, error) {
						file := filepath.Join(t.TempDir(), "dump.sql")
						return func() error { return postgres.Load(ctx, b.Postgres, file) }, postgres.Dump(ctx, b.Postgres, file)
					})
				})
			}
		}
	}
	t.Run("sqlite", func(t *testing.T) { play(t, nil) })
	t.Run("postgres", func(t *testing.T) {
		server, err := harness.StartPostgres(t.Context(), harness.PostgresConfig{})
		if err != nil {
			t.Skipf("no PostgreSQL: %v", err)
		}
		t.Cleanup(func() {
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
		play(t, server)
	})
}

// backupFile copies the database file of a bridge that is stopped, and returns what puts it back.
func backupFile(_ context.Context, b *stage.Bridge) (putBack func() error, err error) {
	file := filepath.Join(b.Dir, "bridge.db")
	backup, err := os.ReadFile(file)
	return func() error {
		for _, end := range []string{"-wal", "-shm"} {
			if err := os.Remove(file + end); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
		return os.WriteFile(file, backup, 0o600)
	}, err
}

// restore plays a conversation in which a bridge's database is put back. With moved the group has gone on by some epochs
// since the backup.
func (th *theatre) restore(domain string, moved bool, backup func(context.Context, *stage.Bridge) (putBack func() error, err error)) {
	t := th.t
	t.Helper()
	must := func(err error) {
		if t.Helper(); err != nil {
			for _, b := range th.stage.Bridges {
				t.Logf("%s:\n%s", b.Domain, b.Process().LogTail(4000))
			}
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	th.n++
	r := &round{ctx: ctx, n: th.n, a: th.stage.Bridges[hub], b: th.stage.Bridges[follower], made: th.made}
	r.names()
	must(r.invite())
	must(r.talk(1))
	victim := th.stage.Bridges[domain]
	must(quiet(ctx, victim))
	must(victim.Stop())
	putBack, err := backup(ctx, victim)
	must(err)
	must(victim.Start(ctx))

	must(r.talk(1))
	if moved {
		must(r.rename())
		must(r.name(fmt.Sprintf("Renamed again %d", r.n)))
		must(r.talk(1))
	}
	for _, b := range []*stage.Bridge{r.a, r.b} {
		must(r.wait(b.Homeserver, "all events to be taken", b.Homeserver.Idle))
		must(quiet(ctx, b))
	}
	victim.Process().Kill()
	must(putBack())
	must(victim.Start(ctx))
	if log := victim.Process().LogTail(1 << 20); !strings.Contains(log, "the database was restored") {
		t.Error("the bridge did not notice that its database was restored")
	}
	// What is said before the two are in step again may be lost, and people are told so.
	must(poll(ctx, "the group to be the same again", r.stir, func() (bool, error) {
		var states []string
		for _, b := range []*stage.Bridge{r.a, r.b} {
			db, err := b.Database()
			if err != nil {
				return false, err
			}
			defer db.Close()
			lines, err := stage.Lines(ctx, db, `SELECT state, epoch FROM room WHERE uri <> '' ORDER BY uri`)
			if err != nil {
				return false, err
			}
			states = append(states, strings.Join(lines, ";"))
		}
		return states[0] == states[1] && strings.HasPrefix(states[0], "active"), nil
	}))
	for _, b := range []*stage.Bridge{r.a, r.b} {
		must(quiet(ctx, b))
	}
	must(r.talk(2))
	must(r.name(fmt.Sprintf("Restored %d", r.n)))
	must(r.talk(1))
	for _, b := range []*stage.Bridge{r.a, r.b} {
		must(quiet(ctx, b))
	}
	v := r.audit()
	v.forked = 0 // who takes part is not what this round is about
	if v.lost+v.doubled+v.reused > 0 {
		t.Errorf("%d lost, %d doubled, %d reused: %q", v.lost, v.doubled, v.reused, v.notes)
	}
}
