package crash

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/test/fakes/stage"
	"github.com/matrix-mimi/bridge/test/harness"
)

// PostgreSQL's primary is killed while people talk both ways, and its synchronous standby promoted: nothing is lost, doubled,
// reused or forked. The bridges end when they find the other server, and are started anew as a supervisor does it.
func TestFailover(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	primary, err := harness.StartPostgres(ctx, harness.PostgresConfig{})
	if err != nil {
		t.Skipf("no PostgreSQL: %v", err)
	}
	standby, err := primary.Standby(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, p := range []*harness.Postgres{primary, standby} {
			if err := p.Stop(); err != nil {
				t.Error(err)
			}
		}
	})
	th := newTheatre(t, buildBridge(t), func(ctx context.Context, hint string) (string, error) {
		uri, err := primary.Database(ctx, hint)
		if err != nil {
			return "", err
		}
		return primary.Either(standby, uri)
	})
	th.n++
	r := &round{ctx: ctx, n: th.n, a: th.stage.Bridges[hub], b: th.stage.Bridges[follower], made: th.made}
	r.names()
	must := func(err error) {
		if t.Helper(); err != nil {
			for _, b := range th.stage.Bridges {
				t.Logf("%s:\n%s", b.Domain, b.Process().LogTail(6000))
			}
			t.Fatal(err)
		}
	}
	must(r.invite())
	must(r.talk(2))

	watching, unwatch := context.WithCancel(ctx)
	var watch sync.WaitGroup
	bridges := []*stage.Bridge{r.a, r.b}
	ends := make([]int, len(bridges))
	for i, b := range bridges {
		watch.Go(func() { ends[i] = supervise(watching, b) })
	}
	speak := func(times int) {
		for range times {
			r.say(r.alice, r.aliceAtB, true)
			r.say(r.bob, r.bobAtA, false)
			r.say(r.carol, r.carolAtB, true)
		}
	}
	speak(5)
	primary.Kill() // in the middle of it
	speak(5)
	// What was made so far stands on the standby.
	for _, b := range []*stage.Bridge{r.a, r.b} {
		uri, err := standby.At(b.Postgres)
		must(err)
		db, err := sql.Open("postgres", uri)
		must(err)
		// It has all that was acknowledged, and may still be about to show it. The last record may be there in part only.
		replayed := ""
		must(poll(ctx, "the standby to replay what it has", func() int64 { return int64(len(replayed)) }, func() (bool, error) {
			lines, err := stage.Lines(ctx, db, `SELECT pg_last_wal_replay_lsn(), pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn()`)
			if err != nil || len(lines) != 1 {
				return false, err
			}
			same := lines[0] == replayed
			replayed = lines[0]
			return same || strings.HasSuffix(replayed, "true"), nil
		}))
		reused, err := r.made.read(ctx, b.Domain, db)
		must(err)
		must(db.Close())
		r.reused = append(r.reused, reused...)
	}
	must(standby.Promote(ctx))
	speak(5)
	must(r.heard())
	must(r.name(fmt.Sprintf("Failed over %d", r.n)))
	must(r.second())
	must(r.kick())
	must(r.leave())
	must(r.collide())
	for _, b := range []*stage.Bridge{r.a, r.b} {
		must(r.wait(b.Homeserver, "all events to be taken", b.Homeserver.Idle))
		must(quiet(ctx, b))
	}
	unwatch()
	watch.Wait()
	for i, n := range ends {
		if n == 0 {
			t.Errorf("%s did not start anew", bridges[i].Domain)
		}
	}
	th.total.add(r.audit())
	th.close()
}

// supervise starts a bridge again whenever it ends, and returns how often it ended.
func supervise(ctx context.Context, b *stage.Bridge) (ends int) {
	for {
		select {
		case <-ctx.Done():
			return ends
		case <-b.Process().Done():
		}
		ends++
		for b.Start(ctx) != nil && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}
