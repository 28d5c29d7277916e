package store_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
)

// The schema rules of docs/decisions/0006-scale-by-room.md, checked in the text of the migrations.

var (
	createTable = regexp.MustCompile(`(?s)CREATE TABLE (\w+) \(\n(.*?)\n\);`)
	createIndex = regexp.MustCompile(`CREATE (UNIQUE )?INDEX (\w+) ON (\w+) \(([^)]*)\)`)
	keyClause   = regexp.MustCompile(`(PRIMARY KEY|UNIQUE) \(([^)]*)\)`)
	foreignKey  = regexp.MustCompile(`FOREIGN KEY \(([^)]*)\) REFERENCES (\w+) \(([^)]*)\)`)
)

func migrations(t *testing.T) string {
	files, err := filepath.Glob("migrations/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatal("no migrations found", err)
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		up, _, _ := strings.Cut(string(b), "-- +goose Down")
		all.WriteString(up)
	}
	return all.String()
}

// pointers are the global tables that lead to rooms.
var pointers = []string{"room_name", "direct_room", "shard_lease"}

// roomTables are those that have a shard and a room as their own place, not as a pointer to one.
func roomTables(t *testing.T, text string) []string {
	var out []string
	for _, m := range createTable.FindAllStringSubmatch(text, -1) {
		if regexp.MustCompile(`(?m)^\s+shard\s`).MatchString(m[2]) && !slices.Contains(pointers, m[1]) {
			out = append(out, m[1])
		}
	}
	if len(out) < 20 {
		t.Fatalf("only %d tables of rooms were found: %s", len(out), out)
	}
	return out
}

func TestRoomTablesBeginWithShardAndRoom(t *testing.T) {
	text := migrations(t)
	tables := roomTables(t, text)
	for _, m := range createTable.FindAllStringSubmatch(text, -1) {
		name, body := m[1], m[2]
		if !slices.Contains(tables, name) {
			continue
		}
		lines := strings.Split(strings.TrimSpace(body), "\n")
		if f := strings.Fields(lines[0]); f[0] != "shard" || f[1] != "SMALLINT" {
			t.Errorf("table %s begins with %q", name, lines[0])
		}
		if f := strings.Fields(lines[1]); f[0] != "room" || f[1] != "BYTEA" {
			t.Errorf("table %s continues with %q", name, lines[1])
		}
		for _, k := range keyClause.FindAllStringSubmatch(body, -1) {
			if !strings.HasPrefix(k[2], "shard, room") {
				t.Errorf("table %s: %s does not begin with (shard, room)", name, k[0])
			}
		}
		if !strings.Contains(body, "PRIMARY KEY (shard, room") {
			t.Errorf("table %s has no primary key by (shard, room)", name)
		}
		for _, k := range foreignKey.FindAllStringSubmatch(body, -1) {
			if !strings.HasPrefix(k[1], "shard, room") || !strings.HasPrefix(k[3], "shard, room") || !slices.Contains(tables, k[2]) {
				t.Errorf("table %s: %s leaves the shard", name, k[0])
			}
		}
	}
	for _, m := range createIndex.FindAllStringSubmatch(text, -1) {
		if m[1] != "" && slices.Contains(tables, m[3]) && !strings.HasPrefix(m[4], "shard, room") {
			t.Errorf("unique index %s does not begin with (shard, room)", m[2])
		}
	}
}

func TestOnlyTheCommonSubsetIsUsed(t *testing.T) {
	text := migrations(t)
	types := regexp.MustCompile(`(?m)^    \w+\s+(\w+)`)
	for _, m := range createTable.FindAllStringSubmatch(text, -1) {
		for _, c := range types.FindAllStringSubmatch(m[2], -1) {
			if c[1] == "KEY" {
				continue
			}
			if !slices.Contains([]string{"SMALLINT", "BIGINT", "TEXT", "BYTEA"}, c[1]) {
				t.Errorf("table %s: %q is not in the common subset", m[1], strings.TrimSpace(c[0]))
			}
		}
		for _, col := range regexp.MustCompile(`(?m)^    (sealed\w*)\s+(\w+)`).FindAllStringSubmatch(m[2], -1) {
			if col[2] != "BYTEA" {
				t.Errorf("table %s: %s is no BYTEA", m[1], col[1])
			}
		}
	}
}

// Every sealed column is known to the rotation of keys.
func TestEverySealedColumnIsResealed(t *testing.T) {
	known := store.SealedColumns()
	n := 0
	for _, m := range createTable.FindAllStringSubmatch(migrations(t), -1) {
		for _, col := range regexp.MustCompile(`(?m)^    (sealed\w*)\s`).FindAllStringSubmatch(m[2], -1) {
			n++
			if !slices.Contains(known, m[1]+"."+col[1]) {
				t.Errorf("%s.%s is not among the sealed columns", m[1], col[1])
			}
		}
	}
	if n != len(known) {
		t.Errorf("%d sealed columns exist, %d are known", n, len(known))
	}
}

// What must not be used for correctness, what SQLite or Citus does not know, and
// columns that are not listed.
var forbidden = []*regexp.Regexp{
	regexp.MustCompile(`(?i)\b(UN)?LISTEN\b`), regexp.MustCompile(`(?i)\bNOTIFY\b[^'"]*;`), regexp.MustCompile(`(?i)pg_notify`),
	regexp.MustCompile(`(?i)pg_(try_)?advisory_lock`), regexp.MustCompile(`(?i)\bTRIGGER\b`), regexp.MustCompile(`(?i)\bCREATE\s+(TEMP|TEMPORARY|UNLOGGED)\b`),
	regexp.MustCompile(`(?i)\bSKIP LOCKED\b`), regexp.MustCompile(`(?i)\bFOR (UPDATE|SHARE)\b`), regexp.MustCompile(`(?i)\b(BIG)?SERIAL\b`),
	regexp.MustCompile(`(?i)\bAUTOINCREMENT\b`), regexp.MustCompile(`(?i)\bTIMESTAMPTZ?\b`), regexp.MustCompile(`(?i)\bINSERT OR\b`),
	regexp.MustCompile(`(?i)\b(GREATEST|LEAST|IFNULL|NVL)\(`), regexp.MustCompile(`::\w+`), regexp.MustCompile(`(?i)\bSELECT \*`),
	regexp.MustCompile(`(?i)\bRETURNING \*`), regexp.MustCompile(`(?i)\bSET SESSION\b`),
}

func TestForbiddenSQL(t *testing.T) {
	check := func(where, sql string) {
		for _, f := range forbidden {
			if m := f.FindString(sql); m != "" {
				t.Errorf("%s: %q", where, m)
			}
		}
	}
	for _, bad := range []string{"LISTEN x", "SELECT pg_advisory_lock(1)", "CREATE TRIGGER x", "SELECT * FROM room", "SELECT 1 FOR UPDATE", "a TIMESTAMPTZ", "SELECT x::text"} {
		if !slices.ContainsFunc(forbidden, func(f *regexp.Regexp) bool { return f.MatchString(bad) }) {
			t.Errorf("%q would pass", bad)
		}
	}
	for i, line := range strings.Split(migrations(t), "\n") {
		line, _, _ = strings.Cut(line, "--")
		check(fmt.Sprintf("line %d of the migrations", i+1), line)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	verbs := regexp.MustCompile(`^\s*(SELECT|INSERT|UPDATE|DELETE|ALTER|CREATE|WITH)\b`)
	statements := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			lit, isLit := n.(*ast.BasicLit)
			if isLit && lit.Kind == token.STRING {
				sql := strings.Trim(lit.Value, "`\"")
				if verbs.MatchString(sql) {
					statements++
				}
				if verbs.MatchString(sql) || strings.Contains(sql, " FROM ") {
					check(set.Position(lit.Pos()).String(), sql)
				}
			}
			return true
		})
	}
	if statements < 100 {
		t.Fatalf("only %d statements were found: the test does not see them", statements)
	}
}

// SQL is in this package only (design, house rule 6).
func TestSQLIsOnlyHere(t *testing.T) {
	root := filepath.Join("..", "..")
	sql := regexp.MustCompile("(?s)[\"`]\\s*(SELECT [^\"`]* FROM |INSERT INTO |UPDATE \\w+ SET |DELETE FROM )")
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || path == filepath.Join(root, "internal", "store") || path == filepath.Join(root, "test")) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err == nil && sql.Match(b) {
			t.Errorf("%s has SQL", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
