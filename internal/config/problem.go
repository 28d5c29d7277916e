package config

import (
	"fmt"
	"sort"
	"strings"
)

// Problem is one thing wrong with the settings.
type Problem struct {
	File   string // settings file, or "environment"
	Line   int    // 1 is the first; 0 when the file does not mention the key
	Key    string // dotted path, or the variable's name; empty for the file as a whole
	What   string // what is wrong
	Remedy string // what to do
}

// String formats a problem as file:line: key: what; remedy.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.What)
	if p.Remedy != "" {
		b.WriteString("; " + p.Remedy)
	}
	return b.String()
}

// Problems is the error that Load, Parse and Validate return: everything that
// is wrong, in the order of the lines.
type Problems []Problem

// Error lists the problems, one a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// orNil sorts the problems and returns them as an error, or nil for none.
func (ps Problems) orNil() error {
	if len(ps) == 0 {
		return nil
	}
	sort.SliceStable(ps, func(i, j int) bool { return ps[i].Line < ps[j].Line })
	return ps
}
