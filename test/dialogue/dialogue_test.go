package dialogue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/test/harness"
)

// stage is what all scripts of one run share: binaries and a PostgreSQL server.
var stage struct {
	mu       sync.Mutex // of the fields down to err
	dir      string
	software harness.Software
	bridge   string
	err      error

	pgOnce sync.Once
	pg     *harness.Postgres
	pgErr  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if stage.pg != nil {
		if err := stage.pg.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if stage.dir != "" {
		_ = os.RemoveAll(stage.dir)
	}
	os.Exit(code)
}

// prepare builds the binaries once.
func prepare(ctx context.Context, needBridge bool) error {
	stage.mu.Lock()
	defer stage.mu.Unlock()
	if stage.dir == "" && stage.err == nil {
		if stage.dir, stage.err = os.MkdirTemp("", "mimi-dialogue-*"); stage.err == nil {
			stage.software, stage.err = harness.HomeserverSoftware(ctx, os.Stderr)
		}
	}
	if stage.err == nil && needBridge && stage.bridge == "" {
		stage.bridge, stage.err = harness.BuildBridge(ctx, stage.dir)
	}
	return stage.err
}

func postgres(ctx context.Context, hint string) (string, error) {
	stage.pgOnce.Do(func() {
		stage.pg, stage.pgErr = harness.StartPostgres(context.WithoutCancel(ctx), harness.PostgresConfig{})
	})
	if stage.pgErr != nil {
		return "", stage.pgErr
	}
	return stage.pg.Database(ctx, hint)
}

// TestScripts plays every script under scripts/. Those with bridges are played
// twice: with the databases that they name, and with PostgreSQL everywhere. As many
// worlds stand side by side as there are processors: mostly they wait.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("scripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(file, f)
		f.Close()
		if err != nil {
			t.Error(err)
			continue
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		if len(s.Bridges) == 0 {
			t.Run(name, func(t *testing.T) { play(t, s, false) })
			continue
		}
		t.Run(name+"/as-written", func(t *testing.T) { play(t, s, false) })
		t.Run(name+"/postgres", func(t *testing.T) { play(t, s, true) })
	}
}

// newWorld makes what a test plays in, and ends it with the test.
func newWorld(t *testing.T, ctx context.Context, plan Plan, o Options) *World {
	t.Helper()
	if err := prepare(ctx, len(plan.Bridges) > 0); err != nil {
		t.Fatal(err)
	}
	o.Dir, o.Software, o.Bridge, o.Log = t.TempDir(), stage.software, stage.bridge, t.Logf
	w, err := NewWorld(ctx, plan, o)
	if errors.Is(err, harness.ErrNoPostgres) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func play(t *testing.T, s *Script, allPostgres bool) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	w := newWorld(t, ctx, Plan{Homeservers: s.Homeservers, Bridges: s.Bridges, Providers: s.Providers}, Options{Postgres: postgres, AllPostgres: allPostgres})
	// Generous, because a build machine has other work: only what never comes takes that long.
	result, err := Run(ctx, w, s, Play{Wait: 90 * time.Second, Tell: func(told Told) {
		t.Logf("%7.3fs %6dms  %s: %s", told.Since.Seconds(), told.Took.Milliseconds(), told.Step.Actor, told.Step.Text)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d messages said, %d seen", result.Messages, result.Seen)
}

func TestParseErrorsNameTheLine(t *testing.T) {
	for text, want := range map[string]string{
		"homeserver one\nalice@one: dances":                    `x:2: nobody knows how "dances" is done`,
		"homeserver one\nalice@two: joins":                     `x:2: "alice@two" is no person`,
		"homeserver one\nalice@one: invites bob@two":           `x:2: "bob@two" is no person`,
		"homeserver one\nalice@one: says \"hi":                 `x:2: a quote is not closed`,
		"homeserver one\nhomeserver one\n":                     `x:2: "one" is no name for a homeserver, or taken`,
		"homeserver one\nbridge one.example at two":            `x:2: a bridge is: bridge <domain> at <homeserver>`,
		"homeserver one\nbridge one.example at one with mysql": `x:2: "mysql": a bridge is given`,
		"homeserver one\nbridge two.example: stops":            `x:2: there is no bridge two.example`,
		"homeserver one\nalice@one: sees members":              `x:2: nobody knows`,
		"homeserver one": `x: a script needs a homeserver and somebody who speaks`,
		"homeserver one\nalice@one: kicks bob@one because noise":           `with kicks: kicks WHO | kicks WHO because STR`,
		"homeserver one\nalice@one":                                        `x:2: a line is`,
		"homeserver one\nbridge a.example at one\nbridge a.example at one": `x:3: bridge a.example is there twice`,
	} {
		_, err := Parse("x", strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want %s", text, err, want)
		}
	}
}

func TestParseUnderstandsBridgesAndRooms(t *testing.T) {
	s, err := Parse("x", strings.NewReader("homeserver one\nbridge b.example at one with postgres and mls.past_epochs=3\n"+
		"alice@one: says \"a \\\"b\\\"\\n\" in \"Garden\"\nalice@one: sees members bob@one mimi://c.example/u/carol\n"))
	if err != nil {
		t.Fatal(err)
	}
	b := s.Bridges[0]
	if !b.Postgres || b.Settings["mls.past_epochs"] != "3" {
		t.Errorf("%+v", b)
	}
	if st := s.Steps[0]; st.in != "Garden" || st.args[0] != "a \"b\"\n" {
		t.Errorf("%+v", st)
	}
	if st := s.Steps[1]; len(st.args) != 2 || st.in != "" {
		t.Errorf("%+v", st)
	}
}

// The README lists the words; it must list all of them and no others.
func TestReadmeHasTheWholeVocabulary(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, w := range Vocabulary() {
		fmt.Fprintf(&want, "| %s | `%s` | %s |\n", w.Kind, w.Pattern, w.Help)
	}
	if !strings.Contains(string(data), want.String()) {
		t.Errorf("README.md should have these rows:\n%s", want.String())
	}
	if n := len(regexp.MustCompile(`(?m)^\| (person|bridge|homeserver|provider) \|`).FindAll(data, -1)); n != len(Vocabulary()) {
		t.Errorf("README.md has %d rows, there are %d words", n, len(Vocabulary()))
	}
}

// The audit must find what no line of a script looks for.
func TestAuditFindsDoubledAndMisplacedMessages(t *testing.T) {
	message := func(eid, sender, text string) *event.Event {
		e := &event.Event{ID: id.EventID(eid), Sender: id.UserID(sender), Type: event.EventMessage}
		e.Content.Parsed = &event.MessageEventContent{MsgType: event.MsgText, Body: text}
		return e
	}
	for name, c := range map[string]struct {
		seen []*event.Event
		want string
	}{
		"good":      {[]*event.Event{message("$1", "@a:x", "one"), message("$2", "@a:x", "two"), message("$3", "@b:x", "unknown")}, ""},
		"doubled":   {[]*event.Event{message("$1", "@a:x", "one"), message("$2", "@a:x", "two"), message("$3", "@a:x", "one")}, `sees "one" 2 times`},
		"misplaced": {[]*event.Event{message("$2", "@a:x", "two"), message("$1", "@a:x", "one")}, `sees "one" too late`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPerson(nil, "bob@two", nil)
			v := p.view("!room")
			for _, e := range c.seen {
				v.Timeline = append(v.Timeline, &Seen{Event: e})
			}
			p.labels["Garden"] = "!room"
			r := &runner{world: &World{people: map[string]*Person{p.Name: p}}, said: []*said{
				{label: "Garden", text: "one", order: 1}, {label: "Garden", text: "two", order: 2},
			}}
			err := r.audit()
			if (c.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("audit says %v, want %q", err, c.want)
			}
		})
	}
}

// The audit of logs finds what must not stand there and does not say it once more.
func TestAuditOfLogsFindsWhatLeaked(t *testing.T) {
	secrets := map[string][]string{"a token": {"s3cr3t-token"}, "what alice@one said": {"the roses are in bloom"}}
	for log, want := range map[string]string{
		"ids only\n$event\n":                                  "",
		"a line\n{\"err\":\"401 for s3cr3t-token\"}\n":        "the log of b.example holds a token, in line 2",
		"{\"body\":\"the roses are in bloom\"}\nanother line": "the log of b.example holds what alice@one said, in line 1",
	} {
		err := leaks("b.example", []byte(log), secrets)
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%q: %v, want %q", log, err, want)
		}
	}
}

// A script that does not come true fails at its line, with what was seen.
func TestAScriptThatIsNotTrueFails(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := Parse("untrue", strings.NewReader("homeserver one\nalice@one: creates room \"A\"\nalice@one: says \"x\"\nbob@one: joins \"A\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, ctx, Plan{Homeservers: s.Homeservers}, Options{})
	if _, err := Run(ctx, w, s, Play{}); err == nil || !strings.Contains(err.Error(), "untrue:4: bob@one: joins \"A\"\nM_FORBIDDEN") {
		t.Errorf("joining without an invitation gives %v", err)
	}
	s, err = Parse("untrue", strings.NewReader("homeserver one\nalice@one: sees \"y\" from bob@one in \"A\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Run(ctx, w, s, Play{Wait: 100 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), `alice@one does not see "y" from bob@one: context deadline exceeded`) || !strings.Contains(err.Error(), `"body":"x"`) {
		t.Errorf("waiting for what nobody said gives %v", err)
	}
}
