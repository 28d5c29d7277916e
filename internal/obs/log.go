// Package obs is what an operator sees of the bridge: log lines, metrics,
// health and the admin listener. It knows no rooms and no peers; the packages
// that do register what they count and check. Nothing here is global: each
// process (and each test) makes its own Registry, Health and logger.
package obs

import (
	"io"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"
)

// FieldComponent is the log field with the part of the process that writes. Lines hold ids only, never contents, keys or tokens;
// docs/operations.md lists the fields.
const FieldComponent = "component"

// LogOptions says what a logger writes.
type LogOptions struct {
	Level  string // trace, debug, info, warn or error
	Format string // json, console, or auto: console when Out is a terminal
	Out    io.Writer
	Redact *Redactor // may be nil
}

var fieldNames sync.Once

// NewLogger makes a logger. The times are UTC with milliseconds.
func NewLogger(o LogOptions) (zerolog.Logger, error) {
	fieldNames.Do(func() {
		zerolog.TimestampFieldName, zerolog.MessageFieldName, zerolog.ErrorFieldName = "ts", "msg", "err"
		zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	})
	level, err := zerolog.ParseLevel(o.Level)
	if err != nil {
		return zerolog.Nop(), err
	}
	out := o.Out
	console := o.Format == "console" || (o.Format == "auto" && terminal(out))
	if o.Redact != nil {
		out = o.Redact.Writer(out)
	}
	if console {
		out = zerolog.ConsoleWriter{Out: out, TimeFormat: "15:04:05.000"}
	}
	return zerolog.New(out).Level(level).With().Timestamp().Logger(), nil
}

// terminal says whether w is a character device.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// Redactor is the net below the rule that secrets are not logged: it replaces
// the secrets that it was told of, wherever a line holds them, also inside
// errors of libraries.
type Redactor struct {
	mu       sync.Mutex
	secrets  []string
	replacer atomic.Pointer[strings.Replacer]
}

// minSecret is the length below which a secret is not looked for: it would cut
// ordinary words out of lines.
const minSecret = 8

// Add tells of secrets, for example tokens. Those of fewer than 8 octets are
// not looked for.
func (r *Redactor) Add(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range secrets {
		if len(s) >= minSecret {
			r.secrets = append(r.secrets, s)
		}
	}
	// The longest first, so that a secret inside another does not save its rest.
	sort.Slice(r.secrets, func(i, j int) bool { return len(r.secrets[i]) > len(r.secrets[j]) })
	pairs := make([]string, 0, 2*len(r.secrets))
	for _, s := range r.secrets {
		pairs = append(pairs, s, "[secret]")
	}
	r.replacer.Store(strings.NewReplacer(pairs...))
}

// Writer returns a writer that redacts each Write, which must be a whole line.
func (r *Redactor) Writer(out io.Writer) io.Writer { return redacting{r, out} }

type redacting struct {
	r   *Redactor
	out io.Writer
}

// Write reports the length that it was given, as io.Writer demands, though the
// redacted line may be shorter.
func (w redacting) Write(line []byte) (int, error) {
	out := line
	if rep := w.r.replacer.Load(); rep != nil {
		if s := rep.Replace(string(line)); s != string(line) {
			out = []byte(s)
		}
	}
	n, err := w.out.Write(out)
	if err == nil && n == len(out) {
		n = len(line)
	}
	return min(n, len(line)), err
}
