package config

import (
	"encoding"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile bounds the settings file.
const maxFile = 1 << 20

// Load reads the settings from a file and the environment (as os.Environ gives
// it), checks them and resolves relative paths against the file's directory.
// The error is Problems, or says why the file could not be read.
func Load(path string, env []string) (*Config, error) {
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the settings: %s does not exist; make one with: bridge config example > %s", path, path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the settings: %w", err)
	}
	if st.Size() > maxFile {
		return nil, fmt.Errorf("read the settings: %s is larger than %d bytes; is it the right file?", path, maxFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the settings: %w", err)
	}
	c, err := Parse(path, data, env)
	if err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil { // of what was written: a path that was made absolute is no address any more
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("read the settings: %w", err)
	}
	c.resolve(dir)
	return c, nil
}

// Parse reads settings from memory over the defaults, then the environment over
// both. It is strict but does not call Validate and leaves relative paths as
// they are. The name stands for the file in messages.
func Parse(name string, data []byte, env []string) (*Config, error) {
	c := Default()
	c.file, c.lines = name, map[string]int{}
	d := decoder{file: name, lines: c.lines}
	f, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, d.syntax(err)
	}
	switch {
	case len(f.Docs) > 1:
		d.fail(f.Docs[1].Body, "", "the file holds more than one YAML document", "remove the --- line")
	case len(f.Docs) == 1 && f.Docs[0].Body != nil:
		d.decode(f.Docs[0].Body, reflect.ValueOf(&c).Elem(), "")
	}
	d.environment(reflect.ValueOf(&c).Elem(), env)
	if err := d.problems.orNil(); err != nil {
		return nil, err
	}
	return &c, nil
}

// resolve makes every Path absolute, and the SQLite file with them.
func (c *Config) resolve(dir string) {
	resolvePaths(reflect.ValueOf(c).Elem(), dir)
	if c.Database.Type == SQLite && c.Database.URI != "" && c.Database.URI != ":memory:" {
		c.Database.URI = string(Path(c.Database.URI).from(dir))
	}
}

var pathType = reflect.TypeFor[Path]()

func resolvePaths(v reflect.Value, dir string) {
	switch {
	case v.Type() == pathType:
		v.SetString(string(v.Interface().(Path).from(dir)))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				resolvePaths(v.Field(i), dir)
			}
		}
	case v.Kind() == reflect.Map && v.Type().Elem().Kind() == reflect.Struct:
		for _, key := range v.MapKeys() {
			elem := reflect.New(v.Type().Elem()).Elem()
			elem.Set(v.MapIndex(key))
			resolvePaths(elem, dir)
			v.SetMapIndex(key, elem)
		}
	}
}

// decoder walks the YAML tree and the settings together. It goes on after a
// problem so that one run shows all of them.
type decoder struct {
	file     string
	lines    map[string]int
	problems Problems
}

func (d *decoder) fail(n ast.Node, key, what, remedy string) {
	d.problems = append(d.problems, Problem{File: d.file, Line: line(n), Key: key, What: what, Remedy: remedy})
}

// syntax turns the parser's error into a problem with its line.
func (d *decoder) syntax(err error) error {
	var se *yaml.SyntaxError
	if errors.As(err, &se) && se.GetToken() != nil && se.GetToken().Position != nil {
		return Problems{{File: d.file, Line: se.GetToken().Position.Line, What: se.GetMessage(), Remedy: "mend the YAML"}}
	}
	return Problems{{File: d.file, What: err.Error(), Remedy: "mend the YAML"}}
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

// decode puts what a node says into v. key is the dotted path so far.
func (d *decoder) decode(n ast.Node, v reflect.Value, key string) {
	if at := line(n); at > 0 && key != "" && d.lines[key] == 0 {
		d.lines[key] = at
	}
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.TagType, ast.MergeKeyType:
		d.fail(n, key, "YAML anchors, aliases and tags are not read here", "write the value out")
		return
	}
	switch {
	case v.Kind() == reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		d.decode(n, p.Elem(), key)
		v.Set(p)
	case v.Addr().Type().Implements(textType):
		d.text(n, v, key)
	case v.Kind() == reflect.Struct:
		d.section(n, v, key)
	case v.Kind() == reflect.Map:
		d.table(n, v, key)
	case v.Kind() == reflect.Slice:
		d.list(n, v, key)
	default:
		d.scalar(n, v, key)
	}
}

// section reads a mapping with fixed keys.
func (d *decoder) section(n ast.Node, v reflect.Value, key string) {
	if n.Type() == ast.NullType {
		return // a section whose keys are all commented out
	}
	m, ok := n.(ast.MapNode)
	if !ok {
		d.fail(n, key, "must be a section with keys of its own", "indent its keys below it")
		return
	}
	fields := fieldsOf(v)
	for it := m.MapRange(); it.Next(); {
		name := nodeText(it.Key())
		field, known := fields[name]
		if !known {
			d.fail(it.Key(), join(key, name), "unknown key", suggest(name, fields))
			continue
		}
		d.lines[join(key, name)] = line(it.Key())
		d.decode(it.Value(), field, join(key, name))
	}
}

// table reads a mapping with keys of the operator's choice. It replaces the
// default.
func (d *decoder) table(n ast.Node, v reflect.Value, key string) {
	out := reflect.MakeMap(v.Type())
	if n.Type() != ast.NullType {
		m, ok := n.(ast.MapNode)
		if !ok {
			d.fail(n, key, "must be a mapping", "write it as name: value, or as {} for none")
			return
		}
		for it := m.MapRange(); it.Next(); {
			name := nodeText(it.Key())
			elem := reflect.New(v.Type().Elem()).Elem()
			d.lines[join(key, name)] = line(it.Key())
			d.decode(it.Value(), elem, join(key, name))
			out.SetMapIndex(reflect.ValueOf(name), elem)
		}
	}
	v.Set(out)
}

func (d *decoder) list(n ast.Node, v reflect.Value, key string) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.fail(n, key, "must be a list", "write it as [a, b], or as [] for none")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, e := range seq.Values {
		d.decode(e, out.Index(i), fmt.Sprintf("%s[%d]", key, i))
	}
	v.Set(out)
}

// text reads a scalar that parses itself.
func (d *decoder) text(n ast.Node, v reflect.Value, key string) {
	if _, ok := n.(ast.ScalarNode); !ok || n.Type() == ast.NullType {
		d.fail(n, key, "must be one value", "see config.example.yaml")
		return
	}
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(nodeText(n))); err != nil {
		d.fail(n, key, err.Error(), "")
	}
}

func (d *decoder) scalar(n ast.Node, v reflect.Value, key string) {
	kind, remedy := "a text", "put it in quotes"
	switch v.Kind() {
	case reflect.Bool:
		kind, remedy = "true or false", "write one of the two"
	case reflect.Int:
		kind, remedy = "a whole number", "write digits only"
	case reflect.String:
		if n.Type() == ast.StringType || n.Type() == ast.LiteralType {
			v.SetString(nodeText(n))
			return
		}
		d.fail(n, key, "must be "+kind, remedy)
		return
	}
	if err := yaml.NodeToValue(n, v.Addr().Interface(), yaml.Strict()); err != nil || n.Type() == ast.NullType || n.Type() == ast.StringType {
		d.fail(n, key, "must be "+kind, remedy)
	}
}

// line returns the line of a node, 0 if it has none.
func line(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

// nodeText returns a scalar as the text that was written, without its quotes.
func nodeText(n ast.Node) string {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value
	case *ast.LiteralNode:
		return s.Value.Value
	case ast.MapKeyNode:
		if t := n.GetToken(); t != nil {
			return t.Value
		}
	}
	return n.String()
}

// fieldsOf maps the keys of a section to its fields.
func fieldsOf(v reflect.Value) map[string]reflect.Value {
	out := map[string]reflect.Value{}
	for i := range v.NumField() {
		if tag := v.Type().Field(i).Tag.Get("yaml"); tag != "" {
			out[tag] = v.Field(i)
		}
	}
	return out
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

// suggest names the key that was probably meant.
func suggest(name string, fields map[string]reflect.Value) string {
	best, bestDistance := "", 4
	names := make([]string, 0, len(fields))
	for f := range fields {
		names = append(names, f)
	}
	sort.Strings(names)
	for _, f := range names {
		if dist := distance(name, f); dist < bestDistance {
			best, bestDistance = f, dist
		}
	}
	if best != "" {
		return "did you mean " + strconv.Quote(best) + "?"
	}
	return "known here: " + strings.Join(names, ", ")
}

// distance is the number of single-octet edits between two words.
func distance(a, b string) int {
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur := make([]int, len(b)+1)
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
		}
		prev = cur
	}
	return prev[len(b)]
}
