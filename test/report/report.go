package main

import (
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// maxOutput bounds what is kept of one test's output.
const maxOutput = 64 << 10

// report counts tests and subtests and keeps the output of those that have not
// passed.
type report struct {
	out     io.Writer
	verbose bool
	allow   *regexp.Regexp // reasons for which tests may be skipped; nil for any
	// haveVectors says that there are official test vectors: no test may miss them.
	haveVectors bool

	passed, failed, skipped int

	output   map[string]*strings.Builder // package and test → what it said
	packages map[string]*counts
	failures []string
	skips    map[string][]string // reason → tests
	vectors  map[string]vector   // file → what was verified
}

type counts struct{ passed, failed, skipped int }

type vector struct {
	verified, skipped int
	reason            string
}

func newReport(out io.Writer, verbose bool) *report {
	return &report{out: out, verbose: verbose, output: map[string]*strings.Builder{}, packages: map[string]*counts{},
		skips: map[string][]string{}, vectors: map[string]vector{}}
}

// noVectors begins the reason of a test that is skipped because there are no official test vectors.
const noVectors = "NOT VERIFIED"

// vectorLine is what a test of official vectors prints for each file.
var vectorLine = regexp.MustCompile(`([\w-]+\.(?:json|cbor)): (\d+) verified, (\d+) skipped(?: \((.*)\))?`)

func (r *report) event(e event) {
	if e.Package == "" {
		e.Package = e.ImportPath
	}
	c := r.packages[e.Package]
	if c == nil {
		c = &counts{}
		r.packages[e.Package] = c
	}
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		r.keep(key, e.Output)
	case "build-fail":
		c.failed++
		r.fail(e.Package + " does not build:\n" + r.take(key))
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.packageEnded(e, c)
		} else {
			r.testEnded(e, c, key)
		}
	}
}

func (r *report) keep(key, text string) {
	if m := vectorLine.FindStringSubmatch(text); m != nil {
		r.vectorSeen(m)
	}
	b := r.output[key]
	if b == nil {
		b = &strings.Builder{}
		r.output[key] = b
	}
	if b.Len() < maxOutput {
		b.WriteString(text)
	}
}

// take returns the kept output and forgets it.
func (r *report) take(key string) string {
	b := r.output[key]
	delete(r.output, key)
	if b == nil {
		return ""
	}
	return b.String()
}

func (r *report) vectorSeen(m []string) {
	verified, _ := strconv.Atoi(m[2])
	skipped, _ := strconv.Atoi(m[3])
	v := r.vectors[m[1]]
	// Several tests may work through one file: the one that did most counts.
	if verified >= v.verified {
		r.vectors[m[1]] = vector{verified, skipped, m[4]}
	}
}

func (r *report) testEnded(e event, c *counts, key string) {
	text := r.take(key)
	if r.verbose {
		fmt.Fprintf(r.out, "   %s %s %s (%.2fs)\n", e.Action, e.Package, e.Test, e.Elapsed)
	}
	switch e.Action {
	case "pass":
		c.passed++
		r.passed++
	case "fail":
		c.failed++
		r.fail(e.Package + " " + e.Test + "\n" + text)
	case "skip":
		reason := skipReason(text)
		if r.allow != nil && !r.allow.MatchString(reason) || r.haveVectors && strings.HasPrefix(reason, noVectors) {
			c.failed++
			r.fail(e.Package + " " + e.Test + " was skipped, which this run does not allow: " + reason)
			return
		}
		c.skipped++
		r.skipped++
		r.skips[reason] = append(r.skips[reason], e.Test)
	}
}

// skipReason takes the message of t.Skip out of a test's output.
func skipReason(text string) string {
	var reasons []string
	for _, line := range strings.Split(text, "\n") {
		t := strings.TrimSpace(line)
		if t == "" || strings.HasPrefix(t, "=== ") || strings.HasPrefix(t, "--- ") {
			continue
		}
		if i := strings.Index(t, ".go:"); i > 0 {
			if _, after, ok := strings.Cut(t[i+4:], ": "); ok {
				t = after
			}
		}
		reasons = append(reasons, t)
	}
	if len(reasons) == 0 {
		return "no reason given"
	}
	return reasons[len(reasons)-1]
}

func (r *report) packageEnded(e event, c *counts) {
	text := r.take(e.Package + " ")
	if e.Action == "skip" && c.passed+c.failed+c.skipped == 0 {
		return // a package without tests
	}
	word := "ok  "
	if e.Action == "fail" {
		word = "FAIL"
		if c.failed == 0 && e.FailedBuild == "" {
			// A panic, a deadline, or a failing TestMain: no test to blame.
			c.failed++
			r.fail(e.Package + "\n" + text + r.unfinished(e.Package))
		}
	}
	fmt.Fprintf(r.out, "%s %-60s %7.2fs  %d passed, %d failed, %d skipped\n", word, e.Package, e.Elapsed, c.passed, c.failed, c.skipped)
}

// unfinished returns the output of tests that have not ended.
func (r *report) unfinished(pkg string) string {
	var b strings.Builder
	for key := range r.output {
		if strings.HasPrefix(key, pkg+" ") {
			b.WriteString(r.take(key))
		}
	}
	return b.String()
}

func (r *report) fail(text string) {
	r.failed++
	r.failures = append(r.failures, strings.TrimRight(text, "\n"))
}

// checkVectors compares what the tests verified with the files that are there.
func (r *report) checkVectors(dir string) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (strings.HasSuffix(path, ".json") || strings.HasSuffix(path, ".cbor")) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		r.fail("look for test vectors: " + err.Error())
		return
	}
	sort.Strings(files)
	verified, skipped := 0, 0
	fmt.Fprintln(r.out, "\ntest vectors")
	for _, path := range files {
		name := filepath.Base(path)
		v := r.vectors[name]
		reason := ""
		if v.reason != "" && v.reason != "none" {
			reason = " (" + v.reason + ")"
		}
		fmt.Fprintf(r.out, "%s: %d verified, %d skipped%s\n", name, v.verified, v.skipped, reason)
		verified, skipped = verified+v.verified, skipped+v.skipped
		if v.verified == 0 {
			r.fail("test vectors: " + name + " is there and was not verified")
		}
	}
	fmt.Fprintf(r.out, "%d files: %d verified, %d skipped\n", len(files), verified, skipped)
}

// close prints failures, skips and the closing line, and says whether all is
// well.
func (r *report) close() bool {
	if len(r.failures) > 0 {
		fmt.Fprintln(r.out, "\nfailed")
		for _, f := range r.failures {
			fmt.Fprintln(r.out, "--- "+f)
		}
	}
	if len(r.skips) > 0 {
		fmt.Fprintln(r.out, "\nskipped")
		reasons := make([]string, 0, len(r.skips))
		for reason := range r.skips {
			reasons = append(reasons, reason)
		}
		sort.Strings(reasons)
		for _, reason := range reasons {
			fmt.Fprintf(r.out, "%d: %s\n", len(r.skips[reason]), reason)
		}
	}
	if absent := r.withoutVectors(); absent > 0 {
		fmt.Fprintf(r.out, "\n**** THE OFFICIAL TEST VECTORS ARE NOT THERE: %d tests NOT VERIFIED; set VECTORS to their directory ****\n", absent)
	}
	fmt.Fprintf(r.out, "\n%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	return r.failed == 0
}

// withoutVectors counts the tests that were skipped because there are no official test vectors.
func (r *report) withoutVectors() (n int) {
	for reason, tests := range r.skips {
		if strings.HasPrefix(reason, noVectors) {
			n += len(tests)
		}
	}
	return n
}
