package html

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/microcosm-cc/bluemonday"
	nethtml "golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"golang.org/x/text/unicode/bidi"
)

// Bounds on HTML and Markdown.
const (
	// MaxInput is the largest HTML or Markdown that is taken apart, in octets.
	// Longer input comes out as plain text.
	MaxInput = 256 << 10
	// MaxDepth is the deepest nesting of elements that is kept
	// (Matrix spec, "m.room.message msgtypes": clients should limit it to 100).
	MaxDepth = 90
)

var (
	colour   = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)
	number   = regexp.MustCompile(`^[0-9]{1,9}$`)
	language = regexp.MustCompile(`^language-[A-Za-z0-9_+#.-]{1,64}$`)
	anyText  = regexp.MustCompile(`(?s)^.{0,1000}$`)
	mxc      = regexp.MustCompile(`^mxc://[^/\s"'<>?#]{1,255}/[A-Za-z0-9_-]{1,255}$`)
)

// attribute rules of the Matrix specification v1.15, "m.room.message msgtypes".
var allowed = map[string]map[string]*regexp.Regexp{
	"a": {"href": nil}, "span": {"data-mx-bg-color": colour, "data-mx-color": colour, "data-mx-spoiler": anyText, "data-mx-maths": anyText},
	"div": {"data-mx-maths": anyText}, "code": {"class": language}, "ol": {"start": number},
	"img": {"width": number, "height": number, "alt": anyText, "title": anyText, "src": mxc, "data-mx-emoticon": anyText},
	"del": nil, "h1": nil, "h2": nil, "h3": nil, "h4": nil, "h5": nil, "h6": nil, "blockquote": nil, "p": nil, "ul": nil,
	"sup": nil, "sub": nil, "li": nil, "b": nil, "i": nil, "u": nil, "strong": nil, "em": nil, "s": nil, "hr": nil, "br": nil,
	"table": nil, "thead": nil, "tbody": nil, "tr": nil, "th": nil, "td": nil, "caption": nil, "pre": nil,
	"details": nil, "summary": nil,
}

// renamed are elements of old clients and their present names.
var renamed = map[string]string{"font": "span", "strike": "s", "tt": "code"}

// dropped are elements whose content is not text for people.
var dropped = map[string]bool{
	"script": true, "style": true, "head": true, "title": true, "mx-reply": true, "template": true, "noscript": true,
	"iframe": true, "object": true, "embed": true, "applet": true, "svg": true, "math": true, "textarea": true,
	"select": true, "option": true, "button": true, "noembed": true, "noframes": true, "xmp": true, "plaintext": true,
	"audio": true, "video": true, "canvas": true, "frameset": true, "map": true, "datalist": true, "dialog": true,
}

// schemes of links. The Matrix specification lists all but matrix:, which is
// its own newer form of a link to a user or room.
var schemes = []string{"https", "http", "ftp", "mailto", "magnet", "matrix"}

var policy = sync.OnceValue(func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.RequireParseableURLs(true)
	p.AllowRelativeURLs(false)
	p.AllowURLSchemes(append([]string{"mxc"}, schemes...)...)
	for name, attrs := range allowed {
		p.AllowElements(name)
		p.AllowNoAttrs().OnElements(name)
		for attr, rule := range attrs {
			if rule == nil {
				p.AllowAttrs(attr).OnElements(name)
			} else {
				p.AllowAttrs(attr).Matching(rule).OnElements(name)
			}
		}
	}
	return p
})

// Sanitize returns what Matrix allows of a piece of HTML: balanced, without
// scripts, styles, event handlers, forms and foreign content, links only to
// the schemes of the specification, images only from the media repository.
// Sanitising the result again gives the same result.
func Sanitize(s string) string {
	if strings.TrimSpace(s) == "" {
		return ""
	}
	if len(s) > MaxInput {
		return Escape(cutRunes(s, MaxInput))
	}
	// Parsing and writing HTML is not always stable at the first try (what a
	// dropped element held may not stand where it stood), so it is repeated
	// until it is. Text that does not come to rest is somebody's attack.
	for range 6 {
		next, ok := sanitizeOnce(s)
		if !ok {
			break
		}
		if next == s {
			return s
		}
		s = next
	}
	return Escape(Text(s))
}

func sanitizeOnce(s string) (string, bool) {
	root, ok := parse(s)
	if !ok {
		return "", false
	}
	var w writer
	w.children(root, 0)
	out := policy().Sanitize(w.b.String())
	if strings.TrimSpace(out) == "" {
		out = ""
	}
	return out, true
}

// Escape returns text as HTML that shows the text, line breaks included.
func Escape(text string) string {
	text = lineBreaks.Replace(clean(text))
	return strings.ReplaceAll(nethtml.EscapeString(text), "\n", "<br/>")
}

// parse reads a fragment as the content of a body. It returns false when the
// parser gives up.
func parse(s string) (root *nethtml.Node, ok bool) {
	context := &nethtml.Node{Type: nethtml.ElementNode, Data: "body", DataAtom: atom.Body}
	nodes, err := nethtml.ParseFragment(strings.NewReader(clean(s)), context)
	if err != nil {
		return nil, false
	}
	root = &nethtml.Node{Type: nethtml.ElementNode, Data: "body", DataAtom: atom.Body}
	for _, n := range nodes {
		root.AppendChild(n)
	}
	return root, true
}

var lineBreaks = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// clean makes text valid UTF-8 without control characters.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\n' && r != '\t' && r != '\r' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}

func cutRunes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// writer writes the allowed part of a tree.
type writer struct{ b strings.Builder }

func (w *writer) children(n *nethtml.Node, depth int) {
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		w.node(c, depth)
	}
}

func (w *writer) node(n *nethtml.Node, depth int) {
	switch n.Type {
	case nethtml.TextNode:
		w.b.WriteString(nethtml.EscapeString(n.Data))
	case nethtml.ElementNode:
		w.element(n, depth)
	}
}

func (w *writer) element(n *nethtml.Node, depth int) {
	if n.Namespace != "" || dropped[n.Data] {
		return
	}
	name := n.Data
	if to, ok := renamed[name]; ok {
		name = to
	}
	if n.Data == "input" && attr(n, "type") == "checkbox" {
		w.b.WriteString(checkbox(hasAttr(n, "checked")))
		return
	}
	attrs, ok := allowed[name]
	if !ok || depth >= MaxDepth {
		w.children(n, depth)
		return
	}
	kept := keepAttrs(n, name, attrs)
	if name == "img" && !mxc.MatchString(attr(n, "src")) {
		w.b.WriteString(nethtml.EscapeString(attr(n, "alt")))
		return
	}
	w.b.WriteString("<" + name + kept)
	if name == "br" || name == "hr" || name == "img" {
		w.b.WriteString("/>")
		return
	}
	w.b.WriteString(">")
	if name == "pre" && n.FirstChild != nil && n.FirstChild.Type == nethtml.TextNode && strings.HasPrefix(n.FirstChild.Data, "\n") {
		w.b.WriteString("\n") // a parser drops the first line break in <pre>
	}
	w.children(n, depth+1)
	w.b.WriteString("</" + name + ">")
}

func keepAttrs(n *nethtml.Node, name string, rules map[string]*regexp.Regexp) string {
	var b strings.Builder
	seen := map[string]bool{}
	for _, a := range n.Attr {
		key, val := a.Key, a.Val
		if n.Data == "font" && key == "color" {
			key = "data-mx-color"
		}
		rule, ok := rules[key]
		if !ok || a.Namespace != "" || seen[key] || rule != nil && !rule.MatchString(val) {
			continue
		}
		if name == "a" && key == "href" && !SafeLink(val) {
			continue
		}
		seen[key] = true
		b.WriteString(" " + key + `="` + nethtml.EscapeString(val) + `"`)
	}
	return b.String()
}

// SafeLink reports whether dest is an absolute link of a scheme that Matrix
// allows.
func SafeLink(dest string) bool {
	scheme, rest, ok := strings.Cut(dest, ":")
	if !ok || rest == "" || len(dest) > 8192 || strings.ContainsAny(dest, " \t\r\n\"<>`\\") {
		return false
	}
	scheme = strings.ToLower(scheme)
	for _, s := range schemes {
		if s == scheme {
			return s != "http" && s != "https" && s != "ftp" || len(rest) > 2 && strings.HasPrefix(rest, "//")
		}
	}
	return false
}

func attr(n *nethtml.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key && a.Namespace == "" {
			return a.Val
		}
	}
	return ""
}

func hasAttr(n *nethtml.Node, key string) bool {
	for _, a := range n.Attr {
		if a.Key == key {
			return true
		}
	}
	return false
}

// checkbox is how a box of a task list is shown where there are none.
func checkbox(checked bool) string {
	if checked {
		return "☑ "
	}
	return "☐ "
}

// Name makes a name that a peer chose fit to be shown: what Line makes of it, at most 100 characters.
func Name(s string) string { return Line(s, 100) }

// Line makes a text that a peer chose fit to be shown within a sentence: one line, no control characters, no marks that turn
// the direction of text or show nothing, cut at n characters.
func Line(s string, n int) string {
	s = strings.Join(strings.Fields(strings.Map(straight, clean(s))), " ")
	if utf8.RuneCountInString(s) > n {
		s = strings.TrimSpace(string([]rune(s)[:max(0, n-1)])) + "…"
	}
	return s
}

// straight drops what turns the direction of text, and spaces without width.
func straight(r rune) rune {
	switch {
	case r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069', r == '\u200e', r == '\u200f', r == '\u061c', r == '\ufeff', r == '\u200b', r == '\u2060':
		return -1
	}
	return r
}

// Apart makes a text that others chose, and that is one line, stand in a sentence of ours without a change to the order in which
// the sentence is read: what holds letters that are written from right to left is put between marks that isolate it (U+2068,
// U+2069). Other texts stay as they are, so that addresses can be copied.
func Apart(s string) string {
	s = strings.Map(straight, s)
	for _, r := range s {
		switch p, _ := bidi.LookupRune(r); p.Class() {
		case bidi.R, bidi.AL, bidi.AN:
			return "\u2068" + s + "\u2069"
		}
	}
	return s
}

func atoi(s string, otherwise int) int {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n < 1e9 {
		return n
	}
	return otherwise
}
