package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const events = `{"Action":"start","Package":"p/a"}
{"Action":"run","Package":"p/a","Test":"TestGood"}
{"Action":"output","Package":"p/a","Test":"TestGood","Output":"    x_test.go:9: tree-math.json: 10 verified, 2 skipped (suite 4: 2)\n"}
{"Action":"pass","Package":"p/a","Test":"TestGood","Elapsed":0.1}
{"Action":"output","Package":"p/a","Test":"TestBad","Output":"    x_test.go:12: got 1, want 2\n"}
{"Action":"fail","Package":"p/a","Test":"TestBad","Elapsed":0.1}
{"Action":"output","Package":"p/a","Test":"TestAway","Output":"    x_test.go:20: no PostgreSQL here\n"}
{"Action":"output","Package":"p/a","Test":"TestAway","Output":"--- SKIP: TestAway (0.00s)\n"}
{"Action":"skip","Package":"p/a","Test":"TestAway","Elapsed":0}
{"Action":"output","Package":"p/a","Test":"TestVectors","Output":"    x_test.go:30: NOT VERIFIED: no official vectors at x\n"}
{"Action":"skip","Package":"p/a","Test":"TestVectors","Elapsed":0}
{"Action":"fail","Package":"p/a","Elapsed":0.3}
{"Action":"output","Package":"p/b","Output":"panic: at the start\n"}
{"Action":"fail","Package":"p/b","Elapsed":0.3}
{"ImportPath":"p/c [p/c.test]","Action":"build-output","Output":"c.go:1: no package\n"}
{"ImportPath":"p/c [p/c.test]","Action":"build-fail"}
{"Action":"fail","Package":"p/c","Elapsed":0,"FailedBuild":"p/c [p/c.test]"}
{"Action":"skip","Package":"p/d","Elapsed":0}
not an event
`

func TestReportCountsAndShowsWhatDidNotPass(t *testing.T) {
	var out strings.Builder
	r := newReport(&out, false)
	r.read(strings.NewReader(events))
	if r.close() {
		t.Error("says that all is well")
	}
	text := out.String()
	for _, want := range []string{"got 1, want 2", "panic: at the start", "c.go:1: no package", "1: no PostgreSQL here", "not an event", "\n1 passed, 3 failed, 2 skipped\n",
		"**** THE OFFICIAL TEST VECTORS ARE NOT THERE: 1 tests NOT VERIFIED"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "p/d") {
		t.Error("names a package without tests")
	}
}

// What is installed must be tested: only what may be absent is skipped, and vectors that are there by no test.
func TestSkipsThatAreNotAllowedFail(t *testing.T) {
	for _, c := range []struct {
		allow   string
		vectors bool
		want    string
	}{
		{"", false, "\n1 passed, 3 failed, 2 skipped\n"},
		{"^NOT VERIFIED", false, "\n1 passed, 4 failed, 1 skipped\n"},
		{"PostgreSQL", false, "\n1 passed, 4 failed, 1 skipped\n"},
		{"nothing", false, "\n1 passed, 5 failed, 0 skipped\n"},
		{"^NOT VERIFIED", true, "\n1 passed, 5 failed, 0 skipped\n"},
		{"", true, "\n1 passed, 4 failed, 1 skipped\n"},
	} {
		var out strings.Builder
		r := newReport(&out, false)
		if r.haveVectors = c.vectors; c.allow != "" {
			r.allow = regexp.MustCompile(c.allow)
		}
		r.read(strings.NewReader(events))
		r.close()
		if !strings.Contains(out.String(), c.want) {
			t.Errorf("%q, vectors %v: %s", c.allow, c.vectors, out.String())
		}
	}
}

func TestAVectorFileThatNobodyVerifiedFails(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"tree-math.json", "welcome.json", "notes.edn"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("[]"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	r := newReport(&out, false)
	r.read(strings.NewReader(events))
	before := r.failed
	r.checkVectors(dir)
	if r.failed != before+1 || !strings.Contains(out.String(), "tree-math.json: 10 verified, 2 skipped (suite 4: 2)\n") ||
		!strings.Contains(out.String(), "welcome.json: 0 verified, 0 skipped\n") || !strings.Contains(out.String(), "2 files: 10 verified, 2 skipped\n") {
		t.Error(r.failed-before, out.String())
	}
}

func TestGroupsOfArguments(t *testing.T) {
	got := split([]string{"--", "-tags", "x", "./...", "--", "-C", "test/interop", "./..."})
	if len(got) != 2 || len(got[0]) != 3 || got[1][1] != "test/interop" {
		t.Error(got)
	}
}
