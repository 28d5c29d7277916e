package load

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/matrix-mimi/bridge/test/fakes/stage"
)

// size is what a bridge takes.
type size struct {
	rss, heap           int64 // bytes; the heap after a collection of garbage
	goroutines, files   int64
	database, log       int64 // bytes on disk, of SQLite's file and of its log of writes
	queued, seen, links int64 // rows
}

func (s *setting) size() (z size) {
	s.t.Helper()
	get := func(path string) string {
		resp, err := http.Get(s.a.AdminURL() + path)
		s.must(err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		s.must(err)
		return string(body)
	}
	number := func(text, pattern string) int64 {
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil {
			s.t.Fatalf("nothing matches %s", pattern)
		}
		n, err := strconv.ParseFloat(m[1], 64)
		s.must(err)
		return int64(n)
	}
	get("/debug/pprof/heap?gc=1")
	metrics := get("/metrics")
	z.heap, z.goroutines = number(metrics, `(?m)^go_memstats_heap_alloc_bytes (\S+)`), number(metrics, `(?m)^go_goroutines (\S+)`)
	proc := fmt.Sprintf("/proc/%d/", s.a.Process().PID())
	status, err := os.ReadFile(proc + "status")
	s.must(err)
	z.rss = number(string(status), `VmRSS:\s+(\d+)`) << 10
	files, err := os.ReadDir(proc + "fd")
	s.must(err)
	z.files = int64(len(files))
	path := filepath.Join(s.a.Dir, "bridge.db")
	for suffix, into := range map[string]*int64{"": &z.database, "-wal": &z.log} {
		info, err := os.Stat(path + suffix)
		s.must(err)
		*into = info.Size()
	}
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(5000)")
	s.must(err)
	defer db.Close()
	s.must(db.QueryRow(`SELECT (SELECT COUNT(*) FROM input WHERE kind <> 'timer') + (SELECT COUNT(*) FROM outbound) + (SELECT COUNT(*) FROM body),
		(SELECT COUNT(*) FROM seen), (SELECT COUNT(*) FROM link)`).Scan(&z.queued, &z.seen, &z.links))
	return z
}

// What a bridge takes in memory, goroutines and files does not grow with the messages that it carries, and what it keeps of each is small.
func TestGrowth(t *testing.T) {
	rounds, each := 3, 50
	if full() {
		rounds, each = 25, 1000
	}
	s := open(t, stage.Options{Bin: build(t)})
	s.gather(10)
	var first, last size
	for round := range rounds {
		s.toMIMI(each, 50)
		s.toMatrix(each, 50)
		s.settled()
		last = s.size()
		if round == 0 {
			first = last
		}
		fmt.Printf("# %d messages: memory %.1f MB, heap %.1f MB, %d goroutines, %d files, database %.1f MB, its log %.1f MB\n", 2*each*(round+1),
			float64(last.rss)/1e6, float64(last.heap)/1e6, last.goroutines, last.files, float64(last.database)/1e6, float64(last.log)/1e6)
	}
	messages := int64(2 * each * (rounds - 1))
	fmt.Printf("# %d bytes a message are kept\n", (last.database-first.database)/messages)
	if last.goroutines > first.goroutines+30 || last.files > first.files+10 {
		t.Errorf("goroutines and files grew from %d and %d to %d and %d", first.goroutines, first.files, last.goroutines, last.files)
	}
	if last.heap > 2*first.heap+8<<20 {
		t.Errorf("the heap grew from %d to %d bytes", first.heap, last.heap)
	}
	if last.queued > 0 || last.links != first.links+messages || last.log > 32<<20 || full() && (last.database-first.database)/messages > 2048 {
		t.Errorf("%d rows are queued, %d links are kept; the database grew from %d to %d bytes, its log is %d", last.queued, last.links, first.database, last.database, last.log)
	}
}

// settled waits until nothing is to be sent or worked off.
func (s *setting) settled() {
	s.t.Helper()
	s.must(s.a.Process().Await(s.ctx, "the queues to be empty", func(context.Context) error {
		if z := s.size(); z.queued > 0 {
			return fmt.Errorf("%d rows are queued", z.queued)
		}
		return nil
	}))
}

// Queues that thousands of rooms made while a peer was away neither slow down a start nor fill the memory, and are sent when it is back.
func TestBacklog(t *testing.T) {
	rooms, lines := 5, 20
	if full() {
		rooms, lines = 1000, 20_000
	}
	s := open(t, stage.Options{Bin: build(t)})
	s.gather(2)
	hs := s.a.Homeserver
	ghost := s.a.Ghost(peer, "bob")
	matrix := []string{s.matrix}
	for i := range rooms {
		room := hs.Create(s.people[0], fmt.Sprint("Room ", i))
		s.must(hs.Act(room, "invite", s.people[0], ghost))
		s.must(hs.Wait(s.ctx, "bob's ghost", func() bool { return hs.Member(room, ghost) == "join" }))
		matrix = append(matrix, room)
	}
	s.settled()
	before := s.size()
	s.p.Away(true)
	for _, room := range matrix[1:] {
		hs.Say(room, s.people[0], "are you there?")
	}
	for i := range lines {
		hs.Say(s.matrix, s.people[0], fmt.Sprint("line ", i))
	}
	s.must(s.a.Process().Await(s.ctx, "the backlog to be stored", func(context.Context) error {
		if z := s.size(); z.links < before.links+int64(rooms+lines) {
			return fmt.Errorf("%d messages are stored", z.links-before.links)
		}
		return nil
	}))
	waiting := s.size()
	s.must(s.a.Stop())
	s.p.Away(false)
	s.must(s.a.Start(s.ctx))
	s.must(s.p.Wait(s.ctx, "the backlog", func() bool { return len(s.p.Arrivals(s.room)) >= lines }))
	s.settled()
	after := s.size()
	for what, z := range map[string]size{"before": before, "waiting": waiting, "after": after} {
		fmt.Printf("# %s: memory %.1f MB, heap %.1f MB, %d goroutines, %d files\n", what, float64(z.rss)/1e6, float64(z.heap)/1e6, z.goroutines, z.files)
	}
	for _, z := range []size{waiting, after} {
		if z.goroutines > before.goroutines+100 || z.files > before.files+60 || z.heap > before.heap+64<<20 {
			t.Errorf("it took %+v, then %+v", before, z)
		}
	}
}
