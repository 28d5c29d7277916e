package arch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

var (
	namedPage   = regexp.MustCompile(`\b(docs/(?:decisions/)?[\w-]+\.md)(?: §([\d.]*\d))?`)
	link        = regexp.MustCompile(`\[[^\]]+\]\(([^)\s#:]*)(?:#([^)\s]+))?\)`)
	heading     = regexp.MustCompile(`(?m)^#+ (?:([\d.]*\d)\.? )?.*$`)
	notInAnchor = regexp.MustCompile(`[^\pL\pN_ -]`)
)

// sections are what can be pointed at in a page: the numbers of its headings, and their anchors.
func sections(t *testing.T, page string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(read(t, page), -1) {
		out[m[1]] = true
		words := strings.ToLower(strings.TrimLeft(m[0], "# "))
		out[strings.ReplaceAll(notInAnchor.ReplaceAllString(words, ""), " ", "-")] = true
	}
	return out
}

// What a comment or a page refers to is in the checkout: the page, and the section of that number or anchor.
func TestReferencesLeadSomewhere(t *testing.T) {
	cmd := exec.Command("git", "ls-files", "*.md", "*.go")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	check := func(from, page, section string) {
		info, err := os.Stat(filepath.Join(root, page))
		switch {
		case err != nil:
			t.Errorf("%s refers to %s, which is not there", from, page)
		case section != "" && !info.IsDir() && !sections(t, page)[section]:
			t.Errorf("%s refers to %q of %s, which is not there", from, section, page)
		}
	}
	pages, links := 0, 0
	for _, file := range strings.Fields(string(out)) {
		text := read(t, file)
		for _, m := range namedPage.FindAllStringSubmatch(text, -1) {
			pages++
			check(file, m[1], m[2])
		}
		if !strings.HasSuffix(file, ".md") {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			links++
			page := file
			if m[1] != "" {
				page = filepath.Join(filepath.Dir(file), m[1])
			}
			check(file, page, m[2])
		}
	}
	if pages < 100 || links < 20 {
		t.Errorf("only %d references and %d links were found: the patterns do not see them any more", pages, links)
	}
}

// addKeys adds the keys below a node of config.example.yaml to have, with their sections before them.
func addKeys(node any, path string, have map[string]bool) {
	have[path] = true
	section, _ := node.(map[string]any)
	for key, below := range section {
		addKeys(below, strings.TrimPrefix(path+"."+key, "."), have)
	}
}

// A setting that a page names is one: operators copy it from there.
func TestPagesNameSettingsThatExist(t *testing.T) {
	var example map[string]any
	if err := yaml.Unmarshal([]byte(read(t, "config.example.yaml")), &example); err != nil {
		t.Fatal(err)
	}
	have, sections := map[string]bool{}, []string{}
	addKeys(example, "", have)
	for section := range example {
		sections = append(sections, section)
	}
	named := regexp.MustCompile(fmt.Sprintf("`((?:%s)\\.[a-z_]+(?:\\.[a-z_]+)*)(?::[^`]*)?`", strings.Join(sections, "|")))
	pages, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range append(pages, filepath.Join(root, "README.md")) {
		name, err := filepath.Rel(root, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(read(t, name), -1) {
			if strings.HasSuffix(m[1], ".md") || strings.HasSuffix(m[1], ".example.org") || strings.HasPrefix(m[1], "bridge.db") {
				continue // a page, a host, a file
			}
			if found++; !have[m[1]] {
				t.Errorf("%s names the setting %s, which is not in config.example.yaml", name, m[1])
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d settings were found: the pattern does not see them any more", found)
	}
}
