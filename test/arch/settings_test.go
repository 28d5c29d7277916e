package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every setting does something: a field of internal/config that has a key is read by code outside that package. A key
// without effect would promise what is not kept.
func TestEverySettingIsRead(t *testing.T) {
	fields := map[string]string{}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "internal/config/config.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if f, ok := n.(*ast.Field); ok && f.Tag != nil && strings.Contains(f.Tag.Value, "yaml:") {
			for _, name := range f.Names {
				fields[name.Name] = f.Tag.Value
			}
		}
		return true
	})
	if len(fields) < 50 {
		t.Fatalf("only %d settings were found", len(fields))
	}
	for _, p := range list(t) {
		if short(p.ImportPath) == "internal/config" || strings.HasPrefix(short(p.ImportPath), "test/") {
			continue
		}
		for _, name := range p.GoFiles {
			src, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			for f := range fields {
				if strings.Contains(string(src), "."+f) {
					delete(fields, f)
				}
			}
		}
	}
	// internal/config itself reads these: the one lets other rules pass, the other is asked by the method Permission.
	delete(fields, "AllowRemote")
	delete(fields, "Permissions")
	for f, tag := range fields {
		t.Errorf("nothing reads the setting %s %s: use it or remove it", f, tag)
	}
}
