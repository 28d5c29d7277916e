package arch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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

// testsByName says in which directories a test of a name is, below the checkout.
func testsByName(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("git", "grep", "-oE", `^func (Test|Fuzz|Benchmark|Example)[A-Za-z0-9_]*`, "--", "*_test.go")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git grep: %v", err)
	}
	there := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		if file, name, ok := strings.Cut(strings.TrimSpace(line), ":func "); ok {
			there[name] = append(there[name], filepath.Dir(file))
		}
	}
	return there
}

var testName = regexp.MustCompile(`\b(Test|Fuzz)[A-Z][A-Za-z0-9_]*`)

// A test that these pages name is there.
func TestFeaturesNameTestsThatExist(t *testing.T) {
	there := testsByName(t)
	for _, file := range []string{"docs/features.md", "docs/limits.md", "docs/security.md", "docs/activitypub.md"} {
		for _, name := range testName.FindAllString(read(t, file), -1) {
			if there[name] == nil {
				t.Errorf("%s names %s, which is no test", file, name)
			}
		}
	}
}

// Each row of docs/mapping.md names places that are there, and what shows it: a test, where it says that it is, a dialogue or a golden
// table, or the row of docs/limits.md that says what happens instead.
func TestMappingIsShown(t *testing.T) {
	limits := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| (.*?) \| .*\|$`).FindAllStringSubmatch(read(t, "docs/limits.md"), -1) {
		limits[m[1]] = true
	}
	is := func(path string) bool {
		_, err := os.Stat(filepath.Join(root, path))
		return err == nil
	}
	there, rows := testsByName(t), 0
	for line := range strings.Lines(read(t, "docs/mapping.md")) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasSuffix(line, "| shown by |\n") {
			continue
		}
		rows++
		if len(cells) != 4 {
			t.Errorf("%d cells, want 4: %s", len(cells), line)
			continue
		}
		for _, m := range quoted.FindAllStringSubmatch(cells[2], -1) {
			if !strings.HasSuffix(m[1], ".go") || !is(m[1]) {
				t.Errorf("%s is not there: %s", m[1], line)
			}
		}
		shown := 0
		for _, by := range strings.Split(strings.TrimSuffix(cells[3], " |"), "; ") {
			if limit, ok := strings.CutPrefix(by, "limit: "); ok {
				if shown++; !limits[limit] {
					t.Errorf("docs/limits.md has no row %q: %s", limit, line)
				}
				continue
			}
			if dialogue, ok := strings.CutPrefix(by, "dialogue "); ok {
				if shown++; !is("test/dialogue/scripts/" + dialogue + ".txt") {
					t.Errorf("there is no dialogue %q: %s", dialogue, line)
				}
				continue
			}
			dir := "internal/relay"
			for _, m := range quoted.FindAllStringSubmatch(by, -1) {
				if !strings.HasSuffix(m[1], ".json") {
					dir = m[1]
				} else if !is("mapping/testdata/" + m[1]) {
					t.Errorf("there is no golden table %s: %s", m[1], line)
				}
			}
			names := testName.FindAllString(by, -1)
			shown += len(names)
			for _, name := range names {
				if !slices.Contains(there[name], dir) {
					t.Errorf("%s is no test of %s: %s", name, dir, line)
				}
			}
		}
		if shown == 0 {
			t.Errorf("nothing shows this row: %s", line)
		}
	}
	if rows < 150 {
		t.Errorf("only %d rows were found", rows)
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
