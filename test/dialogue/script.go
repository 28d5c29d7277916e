package dialogue

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Script is a parsed dialogue.
type Script struct {
	Name        string
	Title       string
	Homeservers []string     // short names
	Bridges     []BridgePlan // in the order of the script
	Providers   []string     // domains of MIMI providers that are no bridges
	Steps       []Step
}

// BridgePlan is one line "bridge <domain> at <homeserver> …".
type BridgePlan struct {
	Domain     string            // MIMI domain
	Homeserver string            // short name
	Postgres   bool              // "with postgres"
	Settings   map[string]string // "with section.key=value": overrides, by dotted key
}

// Step is one spoken line.
type Step struct {
	Line  int    // in the script, from 1
	Actor string // "alice@one", "everybody", "bridge two.example", "homeserver one", "provider three.example"
	Text  string // what is said of the actor
	verb  *verb
	args  []string
	in    string // room that the line names; empty for the person's current one
}

var (
	shortName = regexp.MustCompile(`^[a-z][a-z0-9]*$`)
	person    = regexp.MustCompile(`^[a-z][a-z0-9]*@[a-z][a-z0-9]*$`)
	bridgeDom = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`)
)

// Parse reads a script. Every error names the line.
func Parse(name string, r io.Reader) (*Script, error) {
	s := &Script{Name: name}
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := s.line(n, line); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(s.Homeservers) == 0 || len(s.Steps) == 0 {
		return nil, fmt.Errorf("%s: a script needs a homeserver and somebody who speaks", name)
	}
	return s, nil
}

func (s *Script) line(n int, line string) error {
	words, err := tokens(line)
	if err != nil {
		return err
	}
	switch {
	case words[0] == "title" && len(words) == 2 && words[1][0] == '"':
		s.Title = unquote(words[1])
		return nil
	case words[0] == "homeserver" && len(words) == 2 && !strings.HasSuffix(words[1], ":"):
		if !shortName.MatchString(words[1]) || s.hasHomeserver(words[1]) {
			return fmt.Errorf("%q is no name for a homeserver, or taken", words[1])
		}
		s.Homeservers = append(s.Homeservers, words[1])
		return nil
	case words[0] == "bridge" && len(words) >= 4 && words[2] == "at":
		return s.bridge(words)
	case words[0] == "provider" && len(words) == 2 && !strings.HasSuffix(words[1], ":"):
		if !bridgeDom.MatchString(words[1]) || slices.Contains(s.Providers, words[1]) {
			return fmt.Errorf("%q is no domain for a provider, or taken", words[1])
		}
		s.Providers = append(s.Providers, words[1])
		return nil
	}
	actor, rest, ok := strings.Cut(line, ": ")
	if !ok {
		return fmt.Errorf("a line is \"somebody: does something\", or homeserver, bridge, provider or title")
	}
	step := Step{Line: n, Actor: actor, Text: strings.TrimSpace(rest)}
	if err := s.checkActor(actor); err != nil {
		return err
	}
	if err := step.match(); err != nil {
		return err
	}
	for i, a := range step.args {
		if step.verb.isWho(i) {
			if err := s.checkWho(a); err != nil {
				return err
			}
		}
	}
	s.Steps = append(s.Steps, step)
	return nil
}

func (s *Script) bridge(words []string) error {
	b := BridgePlan{Domain: words[1], Homeserver: words[3], Settings: map[string]string{}}
	if !bridgeDom.MatchString(b.Domain) || !s.hasHomeserver(b.Homeserver) {
		return fmt.Errorf("a bridge is: bridge <domain> at <homeserver>")
	}
	for _, other := range s.Bridges {
		if other.Domain == b.Domain {
			return fmt.Errorf("bridge %s is there twice", b.Domain)
		}
	}
	for i := 4; i < len(words); i++ {
		key, value, isSetting := strings.Cut(words[i], "=")
		switch {
		case words[i] == "with" || words[i] == "and":
		case words[i] == "postgres":
			b.Postgres = true
		case isSetting && strings.Contains(key, "."):
			b.Settings[key] = value
		default:
			return fmt.Errorf("%q: a bridge is given \"with postgres\" or \"with section.key=value\"", words[i])
		}
	}
	s.Bridges = append(s.Bridges, b)
	return nil
}

// people lists everybody who speaks or is spoken of, in the order of the
// script: all of them have accounts before the first line is said.
func (s *Script) people() []string {
	var out []string
	add := func(name string) {
		if person.MatchString(name) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	for _, step := range s.Steps {
		add(step.Actor)
		for i, a := range step.args {
			if step.verb.isWho(i) {
				add(a)
			}
		}
	}
	return out
}

func (s *Script) hasHomeserver(name string) bool {
	for _, h := range s.Homeservers {
		if h == name {
			return true
		}
	}
	return false
}

func kindOf(actor string) string {
	if kind, _, ok := strings.Cut(actor, " "); ok {
		return kind
	}
	return "person"
}

func (s *Script) checkActor(actor string) error {
	kind, name, ok := strings.Cut(actor, " ")
	switch {
	case actor == "everybody":
		return nil
	case !ok:
		return s.checkPerson(actor)
	case kind == "homeserver" && s.hasHomeserver(name), kind == "provider" && slices.Contains(s.Providers, name):
		return nil
	case kind == "bridge":
		for _, b := range s.Bridges {
			if b.Domain == name {
				return nil
			}
		}
	}
	return fmt.Errorf("there is no %s", actor)
}

func (s *Script) checkPerson(p string) error {
	_, hs, _ := strings.Cut(p, "@")
	if !person.MatchString(p) || !s.hasHomeserver(hs) {
		return fmt.Errorf("%q is no person; write name@homeserver", p)
	}
	return nil
}

// checkWho accepts what a WHO in a line may be: a person, a MIMI or acct URI, or
// a Matrix id.
func (s *Script) checkWho(who string) error {
	if strings.HasPrefix(who, "mimi://") || strings.HasPrefix(who, "acct:") || strings.HasPrefix(who, "@") {
		return nil
	}
	return s.checkPerson(who)
}

// tokens cuts a line into words and "quoted strings", which keep their quotes.
func tokens(line string) ([]string, error) {
	var out []string
	for rest := strings.TrimSpace(line); rest != ""; rest = strings.TrimSpace(rest) {
		if rest[0] != '"' {
			word, after, _ := strings.Cut(rest, " ")
			out, rest = append(out, word), after
			continue
		}
		q, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return nil, fmt.Errorf("a quote is not closed: %s", rest)
		}
		out, rest = append(out, q), rest[len(q):]
	}
	return out, nil
}

func unquote(s string) string {
	if u, err := strconv.Unquote(s); err == nil {
		return u
	}
	return s
}
