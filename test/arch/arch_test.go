package arch

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/matrix-mimi/bridge"

// root is the directory of go.mod, seen from here.
const root = "../.."

// pkg is what go list says of a package.
type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
}

// short is the path below the module, "." for the root.
func short(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

// list returns the module's packages as they are shipped and tested.
func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-tags", "goolm", "-json=ImportPath,Dir,GoFiles,Imports", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		if len(p.GoFiles) > 0 {
			pkgs = append(pkgs, p)
		}
	}
	if len(pkgs) < 5 {
		t.Fatalf("go list found %d packages", len(pkgs))
	}
	return pkgs
}

// row is one line of the table: a package, what it may import of ours, and
// whether it is pure.
type row struct {
	may  []string
	pure bool
}

var quoted = regexp.MustCompile("`([^`]+)`")

// table reads the rows between the markers in docs/architecture.md:
// | `package` | `import`, `import` | pure |
func table(t *testing.T) map[string]row {
	t.Helper()
	text := between(t, "docs/architecture.md", "<!-- imports -->", "<!-- /imports -->")
	rows := map[string]row{}
	for _, line := range strings.Split(text, "\n") {
		cells := strings.Split(line, "|") // the first and the last are empty
		if len(cells) != 5 || !strings.Contains(cells[1], "`") {
			continue
		}
		var may []string
		for _, m := range quoted.FindAllStringSubmatch(cells[2], -1) {
			may = append(may, m[1])
		}
		for _, m := range quoted.FindAllStringSubmatch(cells[1], -1) {
			if _, twice := rows[m[1]]; twice {
				t.Errorf("docs/architecture.md has %s twice", m[1])
			}
			rows[m[1]] = row{may: may, pure: strings.TrimSpace(cells[3]) == "pure"}
		}
	}
	if len(rows) == 0 {
		t.Fatal("docs/architecture.md has no table of imports")
	}
	return rows
}

// between returns the text of a file between two markers.
func between(t *testing.T, file, from, to string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(data), from)
	text, _, ok2 := strings.Cut(after, to)
	if !ok || !ok2 {
		t.Fatalf("%s has no %s … %s", file, from, to)
	}
	return text
}

// allows says whether a pattern of the table covers a package: the package
// itself, or "dir/*" for all below dir, or "*" for all.
func allows(pattern, path string) bool {
	if dir, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, dir)
	}
	return pattern == path
}

// TestImportsAreThoseOfTheTable: arrows go one way.
func TestImportsAreThoseOfTheTable(t *testing.T) {
	rows := table(t)
	for _, p := range list(t) {
		name := short(p.ImportPath)
		r, ok := rows[name]
		if !ok {
			t.Errorf("docs/architecture.md says nothing of %s", name)
			continue
		}
		for _, imp := range p.Imports {
			if imp != module && !strings.HasPrefix(imp, module+"/") {
				continue
			}
			if !slices.ContainsFunc(r.may, func(pattern string) bool { return allows(pattern, short(imp)) }) {
				t.Errorf("%s imports %s; docs/architecture.md allows it %v", name, short(imp), r.may)
			}
		}
	}
}

// TestTheTwoSidesNeverMeet asks the compiler's view, not the table.
func TestTheTwoSidesNeverMeet(t *testing.T) {
	for _, p := range list(t) {
		name := short(p.ImportPath)
		for _, imp := range p.Imports {
			if (strings.HasPrefix(name, "matrixside/") && strings.HasPrefix(short(imp), "mimiside/")) ||
				(strings.HasPrefix(name, "mimiside/") && strings.HasPrefix(short(imp), "matrixside/")) {
				t.Errorf("%s imports %s", name, short(imp))
			}
		}
	}
}

// What a pure package may not do: reach the world, read the clock, draw random
// numbers by itself, or start something.
var (
	impureImports = []string{"net", "net/http", "os", "os/exec", "database/sql", "log", "log/slog", "crypto/rand", "math/rand", "math/rand/v2", "github.com/rs/zerolog", "github.com/jmoiron/sqlx"}
	impureTime    = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}
)

func TestPurePackagesArePure(t *testing.T) {
	rows := table(t)
	for _, p := range list(t) {
		name := short(p.ImportPath)
		if !rows[name].pure {
			continue
		}
		for _, imp := range p.Imports {
			if slices.Contains(impureImports, imp) {
				t.Errorf("%s is pure and imports %s", name, imp)
			}
		}
		for _, file := range p.GoFiles {
			checkPureFile(t, filepath.Join(p.Dir, file))
		}
	}
}

func checkPureFile(t *testing.T, path string) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, nil, 0)
	if err != nil {
		t.Error(err)
		return
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.GoStmt:
			t.Errorf("%s: a pure package starts a goroutine", fset.Position(x.Pos()))
		case *ast.SelectorExpr:
			if id, ok := x.X.(*ast.Ident); ok && id.Name == "time" && id.Obj == nil && slices.Contains(impureTime, x.Sel.Name) {
				t.Errorf("%s: a pure package uses time.%s", fset.Position(x.Pos()), x.Sel.Name)
			}
		}
		return true
	})
}

var update = flag.Bool("update", false, "write docs/metrics.md anew from the code")

// metric is one declaration.
type metric struct{ name, kind, help string }

func (m metric) row() string { return "| `" + m.name + "` | " + m.kind + " | " + m.help + " |" }

// A large package says in its doc.go which file does what: every file is named there, and none that is not there.
func TestLargePackagesHaveAMap(t *testing.T) {
	const large = 80
	dirs, err := filepath.Glob(filepath.Join(root, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		have := map[string]bool{}
		for _, f := range files {
			if name := filepath.Base(f); name != "doc.go" && !strings.HasSuffix(name, "_test.go") {
				have[name] = true
			}
		}
		if len(have) < large {
			continue
		}
		doc, err := os.ReadFile(filepath.Join(dir, "doc.go"))
		if err != nil {
			t.Fatal(err)
		}
		named := map[string]bool{}
		for _, name := range regexp.MustCompile(`[a-z0-9_]+\.go\b`).FindAllString(string(doc), -1) {
			named[name] = true
			if !have[name] {
				t.Errorf("%s/doc.go names %s, which is not there", dir, name)
			}
		}
		for name := range have {
			if !named[name] {
				t.Errorf("%s/doc.go does not say what %s is for", dir, name)
			}
		}
	}
}

// TestMetricsAreDocumented compares the metrics that the code declares through
// obs.Registry with the table of docs/metrics.md; with -update it writes it.
func TestMetricsAreDocumented(t *testing.T) {
	declared := []metric{{"mimibridge_build_info{version,go}", "gauge", "Always 1; the labels say which build runs."}}
	for _, p := range list(t) {
		if short(p.ImportPath) == "internal/obs" {
			continue
		}
		for _, file := range p.GoFiles {
			declared = append(declared, declaredMetrics(t, filepath.Join(p.Dir, file))...)
		}
	}
	sort.Slice(declared, func(i, j int) bool { return declared[i].name < declared[j].name })
	const from, to = "<!-- metrics -->", "<!-- /metrics -->"
	want := "\n| metric | kind | what it says |\n|---|---|---|\n"
	for _, m := range declared {
		want += m.row() + "\n"
	}
	got := between(t, "docs/metrics.md", from, to)
	if got == want {
		return
	}
	if !*update {
		t.Fatalf("docs/metrics.md is not what the code declares; run: go test ./test/arch -run Metrics -update\nwant:%s", want)
	}
	file := filepath.Join(root, "docs/metrics.md")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(data), from+got+to, from+want+to, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// declaredMetrics finds calls such as reg.Counter("name", "help", "label"…).
func declaredMetrics(t *testing.T, path string) []metric {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{"Counter": "counter", "Gauge": "gauge", "GaugeFunc": "gauge", "Seconds": "histogram"}
	var out []metric
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) < 2 {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || kinds[sel.Sel.Name] == "" {
			return true
		}
		name, ok1 := text(call.Args[0])
		help, ok2 := text(call.Args[1])
		if !ok1 || !ok2 || !regexp.MustCompile(`^[a-z][a-z0-9_]+$`).MatchString(name) {
			return true
		}
		var labels []string
		for _, arg := range call.Args[2:] {
			if l, ok := text(arg); ok {
				labels = append(labels, l)
			}
		}
		name = "mimibridge_" + name
		if len(labels) > 0 {
			name += "{" + strings.Join(labels, ",") + "}"
		}
		out = append(out, metric{name, kinds[sel.Sel.Name], help})
		return true
	})
	return out
}

func text(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

// TestLicencesAreListed compares docs/licences.md with what is linked into the
// program.
func TestLicencesAreListed(t *testing.T) {
	cmd := exec.Command("go", "list", "-e", "-tags", "goolm", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Version}}{{end}}", "./cmd/bridge")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	linked := map[string]bool{}
	for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); {
		if line := strings.TrimSpace(sc.Text()); line != "" && !strings.HasPrefix(line, module) {
			linked[line] = true
		}
	}
	data, err := os.ReadFile(filepath.Join(root, "docs/licences.md"))
	if err != nil {
		t.Fatal(err)
	}
	for m := range linked {
		path, version, _ := strings.Cut(m, " ")
		if !bytes.Contains(data, []byte("| `"+path+"` | "+version+" |")) {
			t.Errorf("docs/licences.md does not list %s %s", path, version)
		}
	}
}
