package activitypub

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Bounds on JSON of others.
const (
	maxDepth = 32   // of arrays and objects
	maxNodes = 2000 // values in all
	maxURL   = 2048 // octets of a URL
)

// ErrJSON: not the JSON that ActivityPub servers exchange. It is permanent for those octets.
var ErrJSON = errors.New("malformed activity JSON")

// Object is a JSON object. Values are string, bool, nil, json.Number, Object and []any.
type Object map[string]any

func badJSON(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrJSON, fmt.Sprintf(format, args...))
}

// ParseObject decodes one JSON object. It refuses what readers understand differently: invalid UTF-8, a key that comes twice or
// comes again in other case, and the JSON-LD keywords that move values about (@graph, @included, @reverse).
func ParseObject(b []byte) (Object, error) {
	if !utf8.Valid(b) {
		return nil, badJSON("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	p := &jsonParser{d: d}
	v, err := p.value(0, false)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, badJSON("something follows the object")
	}
	o, ok := v.(Object)
	if !ok {
		return nil, badJSON("not an object")
	}
	return o, nil
}

type jsonParser struct {
	d     *json.Decoder
	nodes int
}

// value reads one value. In a context names are terms: they may differ by case alone.
func (p *jsonParser) value(depth int, context bool) (any, error) {
	t, err := p.d.Token()
	if err != nil {
		return nil, badJSON("%v", err)
	}
	if p.nodes++; p.nodes > maxNodes {
		return nil, badJSON("more than %d values", maxNodes)
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth++; depth > maxDepth {
		return nil, badJSON("deeper than %d levels", maxDepth)
	}
	if delim == '[' {
		list := []any{}
		for p.d.More() {
			v, err := p.value(depth, context)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, p.end()
	}
	o := Object{}
	seen := map[string]bool{}
	for p.d.More() {
		t, err := p.d.Token()
		if err != nil {
			return nil, badJSON("%v", err)
		}
		key, ok := t.(string)
		if !ok {
			return nil, badJSON("key is no string")
		}
		fold := key
		if !context {
			fold = strings.ToLower(key)
		}
		if seen[fold] {
			return nil, badJSON("key %.40q comes twice", key)
		}
		seen[fold] = true
		switch fold {
		case "@graph", "@included", "@reverse":
			return nil, badJSON("%s is not supported", fold)
		}
		if o[key], err = p.value(depth, context || key == "@context"); err != nil {
			return nil, err
		}
	}
	return o, p.end()
}

func (p *jsonParser) end() error {
	if _, err := p.d.Token(); err != nil {
		return badJSON("%v", err)
	}
	return nil
}

// Marshal encodes an object with its keys in order and without escapes for HTML.
func (o Object) Marshal() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(o); err != nil {
		panic(fmt.Sprintf("activitypub: an object that cannot be written: %v", err)) // only values of our own making get here
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// Str returns the first of the named properties that is a string.
func (o Object) Str(names ...string) string {
	for _, n := range names {
		if s, ok := o[n].(string); ok {
			return s
		}
	}
	return ""
}

// Refs are the ids in a property that has one value or several; an embedded node counts by its id.
func (o Object) Refs(name string) []string { return refs(o[name], maxRecipients) }

// get returns the first of the named properties that is there.
func (o Object) get(names ...string) any {
	for _, n := range names {
		if v, ok := o[n]; ok {
			return v
		}
	}
	return nil
}

// ref returns the id that a value stands for: a URL string, or the id (or href) of a node, or the first of a list.
func ref(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case Object:
		return v.Str("id", "@id", "href")
	case []any:
		if len(v) > 0 {
			return ref(v[0])
		}
	}
	return ""
}

// refs returns the ids of a value or a list of values, each once, at most max.
func refs(v any, max int) []string {
	list, ok := v.([]any)
	if !ok {
		if v == nil {
			return nil
		}
		list = []any{v}
	}
	var out []string
	seen := map[string]bool{}
	for _, item := range list {
		id := ref(item)
		if _, nested := item.([]any); nested || id == "" || seen[id] {
			continue
		}
		if seen[id] = true; len(out) == max {
			break
		}
		out = append(out, id)
	}
	return out
}

// Names of vocabularies that come before a type or property.
var vocabularies = []string{
	"https://www.w3.org/ns/activitystreams#", "https://purl.archive.org/socialweb/mls#", "urn:ietf:ns:mimi#", "as:", "mls:", "mimi:",
	"http://www.w3.org/ns/activitystreams#",
}

// bare takes the vocabulary off a type name.
func bare(name string) string {
	for _, v := range vocabularies {
		if rest, ok := strings.CutPrefix(name, v); ok {
			return rest
		}
	}
	return name
}

// types returns the types of a node without their vocabularies.
func (o Object) types() []string {
	var out []string
	switch v := o.get("type", "@type").(type) {
	case string:
		out = append(out, bare(v))
	case []any:
		for _, t := range v {
			if s, ok := t.(string); ok {
				out = append(out, bare(s))
			}
		}
	}
	return out
}

// typeAmong returns the first type of a node that is in the list, "" when there is none.
func (o Object) typeAmong(list ...string) string {
	for _, t := range o.types() {
		for _, want := range list {
			if t == want {
				return t
			}
		}
	}
	return ""
}
