package arch

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const settings = module + "/internal/config"

// askedOf are the settings that internal/config itself reads, for its methods Permission and PeerTrust, or to let other rules pass.
var askedOf = []string{"Bridge.Permissions", "Admin.AllowRemote", "Peer.Roots", "Peer.CAFile", "Peer.Consent", "Peer.Blocked", "Peer.RequireClientUsage",
	"Peer.RequireCertificates"}

// Every setting does something: a field of internal/config that has a key is read by code outside that package. A key
// without effect would promise what is not kept.
func TestEverySettingIsRead(t *testing.T) {
	var readers []pkg
	var paths []string
	for _, p := range list(t) {
		if slices.Contains(p.Imports, settings) && !strings.HasPrefix(short(p.ImportPath), "test/") {
			readers, paths = append(readers, p), append(paths, p.ImportPath)
		}
	}
	fset := token.NewFileSet()
	compiled := importer.ForCompiler(fset, "gc", exports(t, paths))
	own, err := compiled.Import(settings)
	if err != nil {
		t.Fatal(err)
	}
	unread := fieldsWithKeys(own.Scope())
	if len(unread) < 100 {
		t.Fatalf("only %d settings were found", len(unread))
	}
	for _, p := range readers {
		var files []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
		info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
		if _, err := (&types.Config{Importer: compiled}).Check(p.ImportPath, fset, files, info); err != nil {
			t.Fatal(err)
		}
		for _, used := range info.Uses {
			delete(unread, used)
		}
	}
	for _, name := range unread {
		if !slices.Contains(askedOf, name) {
			t.Errorf("nothing reads the setting %s: use it or remove it", name)
		}
	}
}

// exports finds the export data of packages and of all that they import.
func exports(t *testing.T, paths []string) importer.Lookup {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-export", "-deps", "-tags", "goolm", "-f", "{{.ImportPath}}\t{{.Export}}"}, paths...)...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -export: %v", err)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		files[path] = file
	}
	return func(path string) (io.ReadCloser, error) {
		if files[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(files[path])
	}
}

// fieldsWithKeys are the fields of all structs of a package that have a key in YAML, by Struct.Field.
func fieldsWithKeys(scope *types.Scope) map[types.Object]string {
	fields := map[types.Object]string{}
	for _, name := range scope.Names() {
		s, ok := scope.Lookup(name).Type().Underlying().(*types.Struct)
		if !ok {
			continue
		}
		for i := range s.NumFields() {
			if strings.Contains(s.Tag(i), "yaml:") {
				fields[s.Field(i)] = name + "." + s.Field(i).Name()
			}
		}
	}
	return fields
}
