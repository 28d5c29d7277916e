package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"strings"
)

// DirectoryPath is where a provider's directory is, on its own domain (draft-ietf-mimi-protocol-06 §5.1).
const DirectoryPath = "/.well-known/mimi-protocol-directory"

// MaxDirectory is the largest directory in bytes that is read.
const MaxDirectory = 1 << 16

// Verb names an endpoint as the directory does.
type Verb string

// The verbs of draft-ietf-mimi-protocol-06 §5.1.
const (
	VerbKeyMaterial     Verb = "keyMaterial"
	VerbUpdate          Verb = "update"
	VerbNotify          Verb = "notify"
	VerbSubmitMessage   Verb = "submitMessage"
	VerbGroupInfo       Verb = "groupInfo"
	VerbRequestConsent  Verb = "requestConsent"
	VerbUpdateConsent   Verb = "updateConsent"
	VerbIdentifierQuery Verb = "identifierQuery"
	VerbReportAbuse     Verb = "reportAbuse"
	VerbProxyDownload   Verb = "proxyDownload"
)

// Verbs returns all verbs in the order of the draft's example.
func Verbs() []Verb {
	return []Verb{VerbKeyMaterial, VerbUpdate, VerbNotify, VerbSubmitMessage, VerbGroupInfo, VerbRequestConsent, VerbUpdateConsent,
		VerbIdentifierQuery, VerbReportAbuse, VerbProxyDownload}
}

// variables are the names in our own templates: the draft's, and for the two where its example and its text differ, those of
// the text.
var variables = map[Verb]string{
	VerbKeyMaterial: "targetUser", VerbUpdate: "roomId", VerbNotify: "roomId", VerbSubmitMessage: "roomId", VerbGroupInfo: "roomId",
	VerbRequestConsent: "targetDomain", VerbUpdateConsent: "requesterDomain", VerbIdentifierQuery: "domain", VerbReportAbuse: "roomId",
	VerbProxyDownload: "downloadUrl",
}

// Template is a level 1 URI template (RFC 6570 §1.2) with exactly one variable, for an https URL.
type Template struct{ before, variable, after string }

// ParseTemplate checks a template: an https URL with a DNS name and no user information, query or fragment, and one variable
// in its path.
func ParseTemplate(s string) (Template, error) {
	before, rest, ok := strings.Cut(s, "{")
	variable, after, ok2 := strings.Cut(rest, "}")
	if !ok || !ok2 || strings.ContainsAny(after, "{}") || strings.Contains(before, "}") || len(s) > MaxURI {
		return Template{}, malformed("template needs exactly one variable")
	}
	if variable == "" || strings.Trim(variable, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
		return Template{}, malformed("template has a variable with an operator or a bad name")
	}
	rest, ok = strings.CutPrefix(before, "https://")
	slash := strings.IndexByte(rest, '/')
	if !ok || slash < 0 || !pathOctets(rest[slash:]) || !pathOctets(after) {
		return Template{}, malformed("template is no https URL with the variable in its path")
	}
	u, err := url.Parse(before)
	if err != nil || u.User != nil || !ValidDomain(u.Hostname()) {
		return Template{}, malformed("template has no DNS name")
	}
	return Template{before, variable, after}, nil
}

// String returns the template.
func (t Template) String() string { return t.before + "{" + t.variable + "}" + t.after }

// MarshalText returns the template.
func (t Template) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText is ParseTemplate.
func (t *Template) UnmarshalText(b []byte) (err error) {
	*t, err = ParseTemplate(string(b))
	return err
}

// Zero tells whether there is no template.
func (t Template) Zero() bool { return t.before == "" }

// wantsDomain tells whether the variable stands for a domain: targetDomain, requesterDomain, domain.
func (t Template) wantsDomain() bool { return strings.HasSuffix(strings.ToLower(t.variable), "domain") }

// Expand returns the URL for a MIMI URI: the variable becomes the whole URI, or its domain where the name of the variable
// asks for that, percent-encoded.
func (t Template) Expand(u URI) string {
	if t.wantsDomain() {
		return t.ExpandText(u.Domain())
	}
	return t.ExpandText(u.String())
}

// ExpandText returns the URL for any value, percent-encoded.
func (t Template) ExpandText(value string) string { return t.before + PathEscape(value) + t.after }

// Slashed returns the template with a slash before the variable when it lacks one, as in the draft's example
// `…/v1/update{roomId}`, and whether it does. The template as it is comes first; this one is the second try after
// a 404.
func (t Template) Slashed() (Template, bool) {
	if t.Zero() || strings.HasSuffix(t.before, "/") {
		return t, false
	}
	return Template{t.before + "/", t.variable, t.after}, true
}

// Directory says where a provider's endpoints are.
type Directory struct {
	Endpoints map[Verb]Template
	Bridge    *BridgeDirectory // nil when there is none
}

// Endpoint returns the template of a verb, also of an extension's; ok is false when the provider does not offer it.
func (d *Directory) Endpoint(v Verb) (t Template, ok bool) {
	if v.Extension() {
		return d.Bridge.Endpoint(v)
	}
	t, ok = d.Endpoints[v]
	return t, ok
}

// NewDirectory returns the directory of a provider all of whose endpoints are below base, an https URL without a slash at
// its end, such as https://a.example/mimi/v1. With bridge, which gets its endpoints here, it offers the extensions.
func NewDirectory(base string, bridge *BridgeDirectory) (*Directory, error) {
	d := &Directory{Endpoints: map[Verb]Template{}, Bridge: bridge}
	if bridge != nil {
		if err := bridge.setEndpoints(base); err != nil {
			return nil, err
		}
	}
	for _, v := range Verbs() {
		t, err := ParseTemplate(base + "/" + string(v) + "/{" + variables[v] + "}")
		if err != nil {
			return nil, err
		}
		d.Endpoints[v] = t
	}
	return d, nil
}

const bridgeMember = "mimi-bridge"

// Marshal returns the JSON, members in the draft's order.
func (d *Directory) Marshal() []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	member := func(name string, value any) {
		j, err := json.Marshal(value)
		if err != nil {
			panic("wire: directory does not encode: " + err.Error()) // strings, numbers, lists and maps of them only
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.WriteString("\n  \"" + name + "\": ")
		b.Write(j)
	}
	for _, v := range Verbs() {
		if t, ok := d.Endpoints[v]; ok {
			member(string(v), t)
		}
	}
	if d.Bridge != nil {
		member(bridgeMember, d.Bridge)
	}
	b.WriteString("\n}\n")
	return b.Bytes()
}

// missingColon finds a member name with its value right after it, as in the draft's own example: "proxyDownload"
// "https://…".
var missingColon = regexp.MustCompile(`([{,]\s*"[A-Za-z_-]+")(\s*")`)

// maxJSONDepth bounds the nesting of a directory.
const maxJSONDepth = 16

// UnmarshalDirectory reads a directory as peers publish them. It bears what is wrong with the draft's example (a
// missing colon after a name; a missing slash before a variable, see Slashed; other names of variables), ignores
// members that it does not know, and leaves out endpoints that it cannot use: a template of another shape, or not
// https. It fails when the bytes are no JSON object or no endpoint is left.
func UnmarshalDirectory(b []byte) (*Directory, error) {
	if len(b) > MaxDirectory {
		return nil, malformed("directory is longer than %d bytes", MaxDirectory)
	}
	if jsonDepth(b) > maxJSONDepth {
		return nil, malformed("directory is nested too deeply")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		repaired := missingColon.ReplaceAll(b, []byte("$1:$2"))
		if json.Unmarshal(repaired, &members) != nil {
			return nil, malformed("directory is no JSON object")
		}
	}
	d := &Directory{Endpoints: map[Verb]Template{}}
	for _, v := range Verbs() {
		var s string
		if json.Unmarshal(members[string(v)], &s) != nil {
			continue
		}
		if t, err := ParseTemplate(s); err == nil {
			d.Endpoints[v] = t
		}
	}
	if len(d.Endpoints) == 0 {
		return nil, malformed("directory: %w", errors.New("no endpoint that can be used"))
	}
	d.Bridge = parseBridgeDirectory(members[bridgeMember])
	return d, nil
}

// jsonDepth returns how deeply brackets are nested, those in strings left out.
func jsonDepth(b []byte) (deepest int) {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > deepest {
				deepest = depth
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}
