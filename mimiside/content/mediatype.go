package content

import (
	"fmt"
	"maps"
	"mime"
	"slices"
	"strings"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// Media types that MIMI names (draft-ietf-mimi-content-08, Support for Specific Media Types;
// draft-mahy-mimi-message-status-01).
const (
	TypeMIMI         = "application/mimi-content"
	TypeStatus       = "application/mimi-message-status"
	TypePlain        = "text/plain;charset=utf-8"
	TypeMarkdownMIMI = "text/markdown;variant=GFM-MIMI"
	TypeMarkdown     = "text/markdown;variant=CommonMark"
	TypeHTML         = "text/html;charset=utf-8"
)

// MediaType is a parsed media type: compare with Equal and Matches, never as text.
type MediaType struct {
	// Type is "type/subtype" in lower case.
	Type string
	// Parameters by their names in lower case, values as written.
	Parameters map[string]string
}

// ParseMediaType parses "type/subtype;name=value" (RFC 9110 §8.3.1).
func ParseMediaType(s string) (MediaType, error) {
	t, params, err := mime.ParseMediaType(s)
	if err != nil {
		return MediaType{}, fmt.Errorf("%w: media type %.80q: %w", ErrMalformed, s, err)
	}
	if kind, sub, ok := strings.Cut(t, "/"); !ok || kind == "" || sub == "" {
		return MediaType{}, malformed("media type %.80q has no subtype", s)
	}
	if len(params) == 0 {
		params = nil
	}
	return MediaType{Type: t, Parameters: params}, nil
}

// String returns "type/subtype;name=value" with parameters sorted by name.
func (t MediaType) String() string {
	var b strings.Builder
	b.WriteString(t.Type)
	for _, name := range slices.Sorted(maps.Keys(t.Parameters)) {
		value := t.Parameters[name]
		if !isToken(value) {
			value = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
		}
		b.WriteString(";" + name + "=" + value)
	}
	return b.String()
}

func isToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// Equal tells whether type and all parameters are the same.
func (t MediaType) Equal(o MediaType) bool {
	return t.Type == o.Type && len(t.Parameters) == len(o.Parameters) && t.Matches(o)
}

// Matches tells whether t is of the type of pattern and has at least the pattern's parameters: a pattern
// without parameters stands for all variants (draft-ietf-mimi-room-policy-03, Asset policies). "*/*" and
// "image/*" are understood in a pattern.
func (t MediaType) Matches(pattern MediaType) bool {
	if kind, ok := strings.CutSuffix(pattern.Type, "/*"); ok {
		if kind != "*" && !strings.HasPrefix(t.Type, kind+"/") {
			return false
		}
	} else if t.Type != pattern.Type {
		return false
	}
	for name, want := range pattern.Parameters {
		have, ok := t.Parameters[name]
		if !ok || have != want && !(caseless(name) && strings.EqualFold(have, want)) {
			return false
		}
	}
	return true
}

// caseless tells whether values of the parameter ignore case (RFC 9110 §8.3.2; RFC 7763 §6.1.3 for variant).
func caseless(name string) bool { return name == "charset" || name == "variant" }

func isStatusType(s string) bool {
	t, err := ParseMediaType(s)
	return err == nil && t.Type == TypeStatus
}

// Bounds of a MediaType structure in octets and elements (own limits).
const (
	maxMediaTypeName = 255
	maxMediaTypes    = 1024
	maxParameters    = 64
)

// Append appends the TLS form (draft-ietf-mls-extensions-10, MediaType): type<V>, then parameters<V> of
// name<V> and value<V>, sorted by name.
func (t MediaType) Append(b []byte) []byte {
	b = tlspl.AppendString(b, t.Type)
	return tlspl.AppendVector(b, func(b []byte) []byte {
		for _, name := range slices.Sorted(maps.Keys(t.Parameters)) {
			b = tlspl.AppendString(tlspl.AppendString(b, name), t.Parameters[name])
		}
		return b
	})
}

// ReadMediaType reads the TLS form. An empty type is allowed: in a frame it stands for the first one of a list.
// Errors go into r.
func ReadMediaType(r *tlspl.Reader) MediaType {
	t := MediaType{Type: strings.ToLower(string(r.Opaque(maxMediaTypeName)))}
	for v := r.Vector(-1); v.More(); {
		name := strings.ToLower(string(v.Opaque(maxMediaTypeName)))
		value := string(v.Opaque(maxMediaTypeName))
		if t.Parameters == nil {
			t.Parameters = make(map[string]string)
		}
		if _, twice := t.Parameters[name]; twice || len(t.Parameters) == maxParameters {
			r.Fail(malformed("media type parameter %q twice, or too many", name))
		}
		t.Parameters[name] = value
	}
	if r.Err() != nil {
		return MediaType{}
	}
	return t
}

// AppendMediaTypes appends a vector of media types.
func AppendMediaTypes(b []byte, list []MediaType) []byte {
	return tlspl.AppendVector(b, func(b []byte) []byte {
		for _, t := range list {
			b = t.Append(b)
		}
		return b
	})
}

// ReadMediaTypes reads a vector of media types. Errors go into r.
func ReadMediaTypes(r *tlspl.Reader) []MediaType {
	var out []MediaType
	for v := r.Vector(-1); v.More(); {
		if len(out) == maxMediaTypes {
			r.Fail(overLimit("more than %d media types", maxMediaTypes))
			return nil
		}
		out = append(out, ReadMediaType(v))
	}
	if r.Err() != nil {
		return nil
	}
	return out
}
