package arch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// demands is the list of numbered demands, beside the checkout like the test vectors.
func demands(t *testing.T) string {
	t.Helper()
	path := filepath.Join(root, "../shared/specs/requirements.md")
	if v := os.Getenv("VECTORS"); v != "" {
		path = filepath.Join(filepath.Dir(v), "specs/requirements.md")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("THE LIST OF DEMANDS IS NOT THERE, docs/features.md is not compared with it: %v", err)
	}
	return string(b)
}

// Every demand has one line in docs/features.md, with a word of the closed list, and no line is of something else.
func TestFeaturesListEveryDemand(t *testing.T) {
	page := read(t, "docs/features.md")
	have, words := map[string]int{}, map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^\| (S\d{3}-\d{3}) \|.*\| (\S+) \| \S.*\|$`).FindAllStringSubmatch(page, -1) {
		have[m[1]]++
		words[m[2]]++
		switch m[2] {
		case "yes", "partly", "no", "n/a":
		default:
			t.Errorf("%s: %q is not yes, partly, no or n/a", m[1], m[2])
		}
	}
	want := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\d+\. \*\*(S\d{3}-\d{3})\*\*`).FindAllStringSubmatch(demands(t), -1) {
		want[m[1]] = true
		if have[m[1]] != 1 {
			t.Errorf("docs/features.md has %d lines of %s, want 1", have[m[1]], m[1])
		}
	}
	total := fmt.Sprintf("| lines | %d | %d | %d | %d | %d |", words["yes"], words["partly"], words["no"], words["n/a"], len(have))
	if !strings.Contains(page, total) {
		t.Errorf("the line of totals in docs/features.md should be:\n%s", total)
	}
	for id := range have {
		if !want[id] {
			t.Errorf("docs/features.md has a line of %s, which is no demand", id)
		}
	}
}

// A test that these pages name is there.
func TestFeaturesNameTestsThatExist(t *testing.T) {
	cmd := exec.Command("git", "grep", "-hoE", `^func (Test|Fuzz|Benchmark|Example)[A-Za-z0-9_]*`, "--", "*_test.go")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git grep: %v", err)
	}
	there := map[string]bool{}
	for f := range strings.FieldsSeq(string(out)) {
		there[f] = true
	}
	for _, file := range []string{"docs/features.md", "docs/limits.md", "docs/security.md", "docs/activitypub.md"} {
		for _, name := range regexp.MustCompile(`\b(Test|Fuzz)[A-Z][A-Za-z0-9_]*`).FindAllString(read(t, file), -1) {
			if !there[name] {
				t.Errorf("%s names %s, which is no test", file, name)
			}
		}
	}
}

// read returns a file of the checkout.
func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
