package dialogue

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// verb is one thing that a line can say. pattern is its words; WHO stands for a
// person or an address, STR for a "text", NUM for a number.
type verb struct {
	kind    string // who can say it: person, bridge, homeserver, provider
	pattern []string
	argAt   []int // positions of the placeholders in pattern
	help    string
	person  func(ctx context.Context, r *runner, p *Person, args []string) error
	machine func(ctx context.Context, r *runner, name string, args []string) error
}

// Word is a verb as README.md lists it.
type Word struct{ Kind, Pattern, Help string }

// Vocabulary lists everything that a line can say, in the order of README.md.
func Vocabulary() []Word {
	out := make([]Word, len(verbs))
	for i, v := range verbs {
		out[i] = Word{v.kind, strings.Join(v.pattern, " "), v.help}
	}
	return out
}

// verbs is filled by the init of act.go, see.go and machine.go, in this order.
var verbs []*verb

type personFunc = func(ctx context.Context, r *runner, p *Person, args []string) error

// method makes a personFunc of a method of runner.
func method(f func(r *runner, ctx context.Context, p *Person, args []string) error) personFunc {
	return func(ctx context.Context, r *runner, p *Person, args []string) error { return f(r, ctx, p, args) }
}

func say(pattern, help string, f personFunc) {
	verbs = append(verbs, &verb{kind: "person", pattern: strings.Fields(pattern), help: help, person: f})
}

func machine(kind, pattern, help string, f func(ctx context.Context, r *runner, name string) error) {
	machineWith(kind, pattern, help, func(ctx context.Context, r *runner, name string, _ []string) error { return f(ctx, r, name) })
}

// machineWith is machine for patterns with placeholders.
func machineWith(kind, pattern, help string, f func(ctx context.Context, r *runner, name string, args []string) error) {
	verbs = append(verbs, &verb{kind: kind, pattern: strings.Fields(pattern), help: help, machine: f})
}

func init() {
	addActions()
	addSights()
	addEvents()
	addMachines()
	addMedia()
	addPeople()
	addEncryption()
	addStrangers()
	for _, v := range verbs {
		for i, w := range v.pattern {
			if placeholder(w) {
				v.argAt = append(v.argAt, i)
			}
		}
	}
}

// isWho says whether the i-th argument is a person.
func (v *verb) isWho(i int) bool {
	w := v.pattern[v.argAt[min(i, len(v.argAt)-1)]]
	return w == "WHO" || w == "WHO..."
}

func placeholder(w string) bool { return w == "WHO" || w == "STR" || w == "NUM" || w == "WHO..." }

// match finds the verb of a line and puts it into the step. Texts come without
// their quotes, and "WHO..." gives one argument a person. A line about a person
// may end with: in "room".
func (s *Step) match() error {
	kind := kindOf(s.Actor)
	words, err := tokens(s.Text)
	if err != nil {
		return err
	}
	try := func(words []string) bool {
		for _, v := range verbs {
			if v.kind != kind {
				continue
			}
			if args, ok := v.fits(words); ok {
				s.verb, s.args = v, args
				return true
			}
		}
		return false
	}
	if try(words) {
		return nil
	}
	if n := len(words); n > 2 && kind == "person" && words[n-2] == "in" && words[n-1][0] == '"' && try(words[:n-2]) {
		s.in = unquote(words[n-1])
		return nil
	}
	return fmt.Errorf("nobody knows how %q is done; README.md lists the words%s", s.Text, like(kind, words))
}

func (v *verb) fits(words []string) ([]string, bool) {
	var args []string
	for i, w := range v.pattern {
		if w == "WHO..." {
			if len(words) <= i {
				return nil, false
			}
			for _, rest := range words[i:] {
				if rest[0] == '"' {
					return nil, false
				}
				args = append(args, rest)
			}
			return args, true
		}
		if i >= len(words) {
			return nil, false
		}
		got := words[i]
		quotedWord := got[0] == '"'
		switch w {
		case "STR":
			if !quotedWord {
				return nil, false
			}
			args = append(args, unquote(got))
		case "WHO":
			if quotedWord || !strings.ContainsAny(got, "@:") {
				return nil, false
			}
			args = append(args, got)
		case "NUM":
			if _, err := strconv.Atoi(got); err != nil {
				return nil, false
			}
			args = append(args, got)
		default:
			if got != w {
				return nil, false
			}
		}
	}
	return args, len(words) == len(v.pattern)
}

// like lists the verbs that begin with the same word.
func like(kind string, words []string) string {
	var out []string
	for _, v := range verbs {
		if v.kind == kind && len(words) > 0 && v.pattern[0] == words[0] {
			out = append(out, strings.Join(v.pattern, " "))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return "; with " + words[0] + ": " + strings.Join(out, " | ")
}

// expr compiles what a script gives as /expression/ or as plain text.
func expr(s string) (*regexp.Regexp, error) {
	if len(s) > 1 && s[0] == '/' && s[len(s)-1] == '/' {
		return regexp.Compile(s[1 : len(s)-1])
	}
	return regexp.Compile(regexp.QuoteMeta(s))
}
