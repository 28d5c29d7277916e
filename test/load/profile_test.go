package load

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/test/fakes/stage"
	"github.com/matrix-mimi/bridge/test/harness"
)

// sides are the listeners that messages of each direction come in by.
var sides = []string{"matrixside/intake.", "mimiside/server."}

// TestProfile takes CPU profiles of the bridge at work, as `make profile` merges them: both directions, alone and together,
// at each size, and with PostgreSQL too, into the directory that BENCH_PROFILE names. Without it, one short profile shows
// that taking them works.
func TestProfile(t *testing.T) {
	bin := build(t)
	dir := os.Getenv("BENCH_PROFILE")
	if dir == "" {
		path := filepath.Join(t.TempDir(), "short.pprof")
		profile(t, stage.Options{Bin: bin}, 2, 5, time.Second, path)
		checkProfile(t, path, "")
		return
	}
	// Commits that are not synced leave more of the time to the bridge.
	pg, err := harness.StartPostgres(t.Context(), harness.PostgresConfig{Unsynced: true})
	if err != nil {
		t.Fatalf("the profile has to cover PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	})
	take := func(name string, n int, o stage.Options) {
		t.Run(name, func(t *testing.T) {
			o.Bin = bin
			path := filepath.Join(dir, name+".pprof")
			profile(t, o, n, 100, 15*time.Second, path)
			checkProfile(t, path, sides...)
		})
	}
	for _, n := range ghosts {
		take(fmt.Sprintf("sqlite-%d", n), n, stage.Options{})
	}
	take("postgres-50", 50, stage.Options{Postgres: pg.Database, Database: map[string]any{"allow_unsynced": true}})
}

// profile writes a CPU profile of a bridge that carries rounds of count messages each way, one by one and all at once,
// between n people and one of the provider.
func profile(t *testing.T, o stage.Options, n, count int, d time.Duration, path string) {
	s := open(t, o)
	s.gather(n)
	round := func() {
		s.toMIMI(count, 1)
		s.toMatrix(count, 1)
		s.toMIMI(count, count)
		s.toMatrix(count, count)
	}
	round()
	taken := make(chan error, 1)
	go func() { taken <- s.a.Profile(s.ctx, d, path) }()
	for {
		round()
		select {
		case err := <-taken:
			s.must(err)
			return
		default:
		}
	}
}

// The profile that `make build` gives to the compiler can be used, and covers both directions.
func TestReleaseProfile(t *testing.T) {
	root, err := harness.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	checkProfile(t, filepath.Join(root, "cmd", "bridge", "release.pgo"), sides...)
}

// checkProfile reads a profile as a build does, and looks in its names for our own packages.
func checkProfile(t *testing.T, path string, packages ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "go", "tool", "preprofile", "-i", path, "-o", os.DevNull).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", path, err, out)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	names, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages {
		if !strings.Contains(string(names), "github.com/matrix-mimi/bridge/"+p) {
			t.Errorf("%s has nothing of %s", path, p)
		}
	}
}
