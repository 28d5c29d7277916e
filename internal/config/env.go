package config

import (
	"encoding"
	"reflect"
	"sort"
	"strings"

	"github.com/goccy/go-yaml/parser"
)

// EnvPrefix begins the name of every variable that overrides a setting:
// MIMIBRIDGE_HOMESERVER__ADDRESS is homeserver.address. Texts are taken as they
// are; lists and mappings are written in YAML's flow form ([a, b], {a: b}).
const EnvPrefix = "MIMIBRIDGE_"

// environment puts the variables over what the file said. A variable with the
// prefix that names no setting is a problem, as an unknown key is.
func (d *decoder) environment(root reflect.Value, env []string) {
	vars := map[string]string{}
	names := []string{}
	for _, e := range env {
		name, value, ok := strings.Cut(e, "=")
		if ok && strings.HasPrefix(name, EnvPrefix) {
			if _, twice := vars[name]; !twice {
				names = append(names, name)
			}
			vars[name] = value
		}
	}
	sort.Strings(names)
	for _, name := range names {
		d.variable(root, name, vars[name])
	}
}

func (d *decoder) variable(root reflect.Value, name, value string) {
	fail := func(what, remedy string) {
		d.problems = append(d.problems, Problem{File: "environment", Key: name, What: what, Remedy: remedy})
	}
	v, path := root, strings.Split(strings.ToLower(strings.TrimPrefix(name, EnvPrefix)), "__")
	for _, part := range path {
		if v.Kind() != reflect.Struct {
			fail("unknown setting", "only keys of config.example.yaml can be set; a mapping is set as a whole: "+EnvPrefix+"SECTION__KEY='{a: b}'")
			return
		}
		field, ok := fieldsOf(v)[part]
		if !ok {
			fail("unknown setting", suggest(part, fieldsOf(v)))
			return
		}
		v = field
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(value)); err != nil {
			fail(err.Error(), "")
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(value)
		return
	case reflect.Struct:
		fail("names a whole section", "set its keys one by one: "+name+"__KEY")
		return
	}
	f, err := parser.ParseBytes([]byte(value), 0)
	if err != nil || len(f.Docs) != 1 || f.Docs[0].Body == nil {
		fail("the value is no YAML", "write lists as [a, b] and mappings as {a: b}")
		return
	}
	inner := decoder{file: "environment", lines: map[string]int{}}
	inner.decode(f.Docs[0].Body, v, name)
	for _, p := range inner.problems {
		p.Line = 0
		d.problems = append(d.problems, p)
	}
}
