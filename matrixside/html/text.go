package html

import (
	"strconv"
	"strings"

	nethtml "golang.org/x/net/html"
)

// Text is the plain text of a piece of HTML, as a client without HTML would
// show it: a line a block, bullets, `> ` before quotes, the address after a
// link whose text does not say it.
func Text(s string) string {
	if len(s) > MaxInput {
		return cutRunes(clean(s), MaxInput)
	}
	root, ok := parse(s)
	if !ok {
		return clean(s)
	}
	var t texter
	t.children(root, 0)
	return strings.Trim(t.String(), "\n ")
}

// texter collects lines. A block ends the line before and after it.
type texter struct {
	lines []string
	line  strings.Builder
	pre   int
	gap   bool // an empty line is due before the next text
}

func (t *texter) String() string {
	t.end()
	return strings.Join(t.lines, "\n")
}

func (t *texter) end() {
	if s := strings.TrimRight(t.line.String(), " "); s != "" {
		t.lines = append(t.lines, s)
	}
	t.line.Reset()
}

func (t *texter) text(s string) {
	if t.pre > 0 {
		parts := strings.Split(s, "\n")
		for i, p := range parts {
			t.space()
			t.line.WriteString(p)
			if i < len(parts)-1 {
				t.lines = append(t.lines, t.line.String())
				t.line.Reset()
			}
		}
		return
	}
	for i, f := range splitSpace(s) {
		if f == " " {
			if t.line.Len() > 0 && !strings.HasSuffix(t.line.String(), " ") {
				t.line.WriteByte(' ')
			}
			continue
		}
		if i >= 0 {
			t.space()
		}
		t.line.WriteString(f)
	}
}

// space writes the empty line that is due between two paragraphs.
func (t *texter) space() {
	if t.gap && t.line.Len() == 0 && len(t.lines) > 0 {
		t.lines = append(t.lines, "")
	}
	t.gap = false
}

// splitSpace cuts text into words and single blanks, as HTML joins white space.
func splitSpace(s string) []string {
	var out []string
	start := -1
	for i, r := range s {
		if r == ' ' || r == '\n' || r == '\t' || r == '\r' || r == '\f' {
			if start >= 0 {
				out, start = append(out, s[start:i]), -1
			}
			if len(out) == 0 || out[len(out)-1] != " " {
				out = append(out, " ")
			}
		} else if start < 0 {
			start = i
		}
	}
	if start >= 0 {
		out = append(out, s[start:])
	}
	return out
}

func (t *texter) children(n *nethtml.Node, depth int) {
	if depth > 4*MaxDepth {
		return
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		switch c.Type {
		case nethtml.TextNode:
			t.text(c.Data)
		case nethtml.ElementNode:
			t.element(c, depth+1)
		}
	}
}

func (t *texter) element(n *nethtml.Node, depth int) {
	if dropped[n.Data] || n.Namespace != "" {
		return
	}
	switch n.Data {
	case "br":
		t.lines = append(t.lines, strings.TrimRight(t.line.String(), " "))
		t.line.Reset()
	case "hr":
		t.end()
		t.lines = append(t.lines, "---")
	case "img":
		t.space()
		t.line.WriteString(clean(attr(n, "alt")))
	case "input":
		if attr(n, "type") == "checkbox" {
			t.space()
			t.line.WriteString(checkbox(hasAttr(n, "checked")))
		}
	case "a":
		start := t.line.Len()
		t.children(n, depth)
		dest := attr(n, "href")
		said := strings.TrimSpace(t.line.String()[min(start, t.line.Len()):])
		if said != "" && said != dest && said != strings.TrimPrefix(dest, "mailto:") && SafeLink(dest) && !isPill(dest) {
			t.line.WriteString(" (" + dest + ")")
		}
	case "td", "th":
		var cell texter
		cell.children(n, depth)
		if t.line.Len() > 0 {
			t.line.WriteString(" | ")
		}
		t.space()
		t.line.WriteString(strings.Join(strings.Fields(cell.String()), " "))
	case "ul", "ol":
		t.list(n, depth)
	case "blockquote":
		t.nest(n, depth, "> ", "> ")
	case "pre":
		t.end()
		t.pre++
		t.children(n, depth)
		t.pre--
		t.end()
	case "p", "h1", "h2", "h3", "h4", "h5", "h6", "table":
		t.end()
		t.gap = true
		t.children(n, depth)
		t.end()
		t.gap = true
	case "div", "li", "tr", "details", "summary", "caption", "thead", "tbody":
		t.end()
		t.children(n, depth)
		t.end()
	default:
		t.children(n, depth)
	}
}

// nest writes the children of n as lines of their own with a mark before them.
func (t *texter) nest(n *nethtml.Node, depth int, first, rest string) {
	t.end()
	var inner texter
	inner.pre = t.pre
	inner.children(n, depth)
	s := strings.Trim(inner.String(), "\n")
	if s == "" {
		return
	}
	t.space()
	for i, line := range strings.Split(s, "\n") {
		mark := rest
		if i == 0 {
			mark = first
		}
		t.lines = append(t.lines, strings.TrimRight(mark+line, " "))
	}
}

func (t *texter) list(n *nethtml.Node, depth int) {
	num := atoi(attr(n, "start"), 1)
	t.end()
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if c.Type != nethtml.ElementNode {
			continue
		}
		if c.Data != "li" {
			t.element(c, depth)
			continue
		}
		mark := "• "
		if n.Data == "ol" {
			mark = strconv.Itoa(num) + ". "
			num++
		}
		t.nest(c, depth, mark, strings.Repeat(" ", len([]rune(mark))))
	}
	t.gap = true
}

// isPill reports whether a link names a user or room, so that its text says
// all that people want to read.
func isPill(dest string) bool {
	return strings.HasPrefix(dest, "https://matrix.to/#/") || strings.HasPrefix(dest, "matrix:") || strings.HasPrefix(dest, "mimi:")
}
