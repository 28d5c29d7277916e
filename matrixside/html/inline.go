package html

import (
	"strconv"
	"strings"

	nethtml "golang.org/x/net/html"
)

// style is the set of marks on a piece of text.
type style uint8

const (
	strong style = 1 << iota
	emph
	strike
)

var delimiters = []struct {
	mark style
	text string
}{{strong, "**"}, {emph, "*"}, {strike, "~~"}}

// run is a piece of inline content with one set of marks.
type run struct {
	kind  byte // 't' text, 'c' code, 'b' line break
	text  string
	marks style
	link  *Link
}

// styled adds the marks and the link of an inline element.
func (m *mdWriter) styled(n *nethtml.Node, marks style, link *Link) (style, *Link) {
	switch n.Data {
	case "strong", "b":
		marks |= strong
	case "em", "i":
		marks |= emph
	case "del", "s", "strike":
		marks |= strike
	case "u", "sup", "sub", "font":
		m.lossy = true
	case "span":
		m.lossy = m.lossy || len(n.Attr) > 0
	case "a":
		if link == nil && hasAttr(n, "href") {
			link = m.linkOf(n)
		}
	}
	return marks, link
}

func (m *mdWriter) linkOf(n *nethtml.Node) *Link {
	said := Link{Dest: attr(n, "href"), Text: strings.Join(strings.Fields(textOf(n)), " ")}
	to := said
	if m.links != nil {
		to = m.links(said)
	} else if !SafeLink(said.Dest) {
		to.Dest = ""
	}
	if to == said || (to.Dest == "" && to.Text == said.Text) {
		to.Text = "" // the children say it
	}
	if to.Dest == "" && to.Text == "" {
		return nil
	}
	return &to
}

// collect appends the inline content of n.
func (m *mdWriter) collect(runs []run, n *nethtml.Node, marks style, link *Link, depth int) []run {
	switch n.Type {
	case nethtml.TextNode:
		return append(runs, run{kind: 't', text: n.Data, marks: marks, link: link})
	case nethtml.ElementNode:
	default:
		return runs
	}
	if dropped[n.Data] || n.Namespace != "" {
		return runs
	}
	if depth > MaxDepth {
		return append(runs, run{kind: 't', text: textOf(n), marks: marks, link: link})
	}
	switch n.Data {
	case "br":
		return append(runs, run{kind: 'b', marks: marks, link: link})
	case "img":
		m.lossy = true
		alt := attr(n, "alt")
		if alt == "" {
			alt = attr(n, "title")
		}
		return append(runs, run{kind: 't', text: clean(alt), marks: marks, link: link})
	case "input":
		if attr(n, "type") == "checkbox" {
			return append(runs, run{kind: 't', text: checkbox(hasAttr(n, "checked")), marks: marks, link: link})
		}
		return runs
	case "code", "tt":
		return m.codeRuns(runs, textOf(n), marks, link)
	case "span":
		if hasAttr(n, "data-mx-spoiler") {
			m.lossy = true
			hint := "(spoiler) "
			if why := Line(attr(n, "data-mx-spoiler"), 100); why != "" {
				hint = "(spoiler: " + why + ") "
			}
			runs = append(runs, run{kind: 't', text: hint, marks: marks, link: link})
		}
	}
	before := link
	marks, link = m.styled(n, marks, link)
	if link != before && link != nil && link.Text != "" { // the link has a text of its own
		to := *link
		return append(runs, run{kind: 't', text: to.Text, marks: marks, link: linkOrNil(&to)})
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		runs = m.collect(runs, c, marks, link, depth+1)
	}
	return runs
}

// codeRuns appends a code span. Blanks at its ends go outside: Markdown would
// strip them.
func (m *mdWriter) codeRuns(runs []run, code string, marks style, link *Link) []run {
	blank := run{kind: 't', text: " ", marks: marks, link: link}
	words := splitSpace(code)
	if len(words) > 0 && words[0] == " " {
		runs, words = append(runs, blank), words[1:]
	}
	after := len(words) > 0 && words[len(words)-1] == " "
	if after {
		words = words[:len(words)-1]
	}
	runs = append(runs, run{kind: 'c', text: strings.Join(words, ""), marks: marks, link: link})
	if after {
		runs = append(runs, blank)
	}
	return runs
}

func linkOrNil(l *Link) *Link {
	if l.Dest == "" {
		return nil
	}
	return l
}

// inline writes a paragraph. Marks that Markdown could not read back are left
// out: the letters come first.
func (m *mdWriter) inline(runs []run) string {
	runs = tidy(runs)
	var paragraphs []string
	start := 0
	for i := 0; i < len(runs); i++ {
		// Two line breaks end a paragraph.
		if runs[i].kind == 'b' && i+1 < len(runs) && runs[i+1].kind == 'b' {
			paragraphs = append(paragraphs, m.paragraph(runs[start:i]))
			for i+1 < len(runs) && runs[i+1].kind == 'b' {
				i++
			}
			start = i + 1
		}
	}
	if last := m.paragraph(runs[start:]); last != "" {
		paragraphs = append(paragraphs, last)
	}
	return strings.Join(paragraphs, "\n\n")
}

// paragraph writes runs without empty lines.
func (m *mdWriter) paragraph(runs []run) string {
	if len(runs) == 0 {
		return ""
	}
	var all style
	special := false
	for _, r := range runs {
		all |= r.marks
		special = special || r.kind == 'c' || r.link != nil
	}
	if all == 0 && !special {
		return m.write(runs)
	}
	m.plain = false
	s := m.write(runs)
	if all != 0 && !readsBack(s, runs, m.table > 0) {
		bare := make([]run, len(runs))
		for i, r := range runs {
			r.marks = 0
			bare[i] = r
		}
		s = m.write(tidy(bare))
	}
	return s
}

// tidy joins white space and equal neighbours, and takes marks off white space
// at the borders of a marked text, where Markdown cannot have them.
func tidy(runs []run) []run {
	parts := trimSpaces(pieces(runs))
	markSpaces(parts)
	return joinAlike(parts)
}

// pieces cuts runs into words, single blanks and what is no text.
func pieces(runs []run) []run {
	var parts []run
	for _, r := range runs {
		var last run
		if n := len(parts); n > 0 {
			last = parts[n-1]
		}
		switch {
		case r.kind == 'c' && r.text == "":
		case r.kind == 'c' && last.kind == 'c' && last.link == r.link:
			parts[len(parts)-1].text += r.text // two code spans side by side would read as one fence
		case r.kind != 't':
			parts = append(parts, r)
		default:
			for _, w := range splitSpace(r.text) {
				if n := len(parts); w == " " && n > 0 && parts[n-1].blank() {
					continue
				}
				r.text = w
				parts = append(parts, r)
			}
		}
	}
	return parts
}

// blank tells whether a piece is white space.
func (r run) blank() bool { return r.kind == 't' && r.text == " " }

// markSpaces gives blanks and breaks the marks and the link that what stands before and after them shares.
func markSpaces(parts []run) {
	for i := range parts {
		p := &parts[i]
		if !p.blank() && p.kind != 'b' {
			continue
		}
		before, after := neighbour(parts, i, -1), neighbour(parts, i, 1)
		p.marks, p.link = 0, nil
		if before == nil || after == nil {
			continue
		}
		p.marks = before.marks & after.marks
		if before.link == after.link {
			p.link = before.link
		}
	}
}

// joinAlike makes one run of neighbours with the same marks and link.
func joinAlike(parts []run) []run {
	var out []run
	for _, p := range parts {
		if n := len(out) - 1; n >= 0 && p.kind == 't' && out[n].kind == 't' && out[n].marks == p.marks && out[n].link == p.link {
			out[n].text += p.text
			continue
		}
		out = append(out, p)
	}
	return out
}

// neighbour is the next piece in a direction that is neither blank nor break.
func neighbour(parts []run, i, step int) *run {
	for j := i + step; j >= 0 && j < len(parts); j += step {
		if parts[j].kind == 'c' || parts[j].kind == 't' && !parts[j].blank() {
			return &parts[j]
		}
	}
	return nil
}

// trimSpaces drops blanks at the ends and beside line breaks, and breaks at the
// ends.
func trimSpaces(parts []run) []run {
	var out []run
	for i, p := range parts {
		if p.blank() && (len(out) == 0 || out[len(out)-1].kind == 'b' || i == len(parts)-1 || parts[i+1].kind == 'b') {
			continue
		}
		if p.kind == 'b' && len(out) == 0 {
			continue
		}
		out = append(out, p)
	}
	for len(out) > 0 && (out[len(out)-1].kind == 'b' || out[len(out)-1].blank()) {
		out = out[:len(out)-1]
	}
	return out
}

// write writes runs with their marks. Lines are escaped at their beginning.
func (m *mdWriter) write(runs []run) string {
	var lines []string
	var b strings.Builder
	var open []style
	atStart := true
	end := func() {
		lines = append(lines, b.String())
		b.Reset()
		atStart = true
	}
	for i := 0; i < len(runs); {
		r := runs[i]
		j := i + 1
		for r.link != nil && j < len(runs) && runs[j].link == r.link {
			j++
		}
		group := runs[i:j]
		var marks style
		if r.link == nil {
			marks = r.marks
		} else { // marks around the whole link
			marks = group[0].marks
			for _, g := range group {
				marks &= g.marks
			}
		}
		open = m.shift(&b, open, marks, runs[i:])
		switch {
		case r.kind == 'b' && r.link == nil:
			if m.table > 0 {
				b.WriteByte(' ')
			} else {
				b.WriteString("  ")
				end()
			}
		case r.link != nil:
			b.WriteString(m.linkText(group, marks, b.String()))
			atStart = false
		case r.kind == 'c':
			b.WriteString(m.span(r.text))
			atStart = false
		default:
			s := escapeText(r.text, m.table > 0)
			if atStart && b.Len() == 0 && m.table == 0 {
				s = lineStart(s)
			}
			// `!` before a link would make it an image.
			if j < len(runs) && runs[j].link != nil && strings.HasSuffix(s, "!") {
				s = s[:len(s)-1] + `\!`
			}
			b.WriteString(s)
			atStart = false
		}
		i = j
	}
	m.shift(&b, open, 0, nil)
	end()
	return strings.Join(lines, "\n")
}

// shift closes and opens marks. Of those to open, the one that lasts longest
// comes first.
func (m *mdWriter) shift(b *strings.Builder, open []style, want style, ahead []run) []style {
	keep := 0
	for keep < len(open) && want&open[keep] != 0 {
		keep++
	}
	for k := len(open) - 1; k >= keep; k-- {
		b.WriteString(delimiter(open[k]))
	}
	open = append([]style(nil), open[:keep]...)
	var have style
	for _, o := range open {
		have |= o
	}
	for need := want &^ have; need != 0; {
		best, length := style(0), -1
		for _, d := range delimiters {
			if need&d.mark == 0 {
				continue
			}
			n := 0
			for n < len(ahead) && ahead[n].marks&d.mark != 0 {
				n++
			}
			if n > length {
				best, length = d.mark, n
			}
		}
		b.WriteString(delimiter(best))
		open = append(open, best)
		need &^= best
	}
	return open
}

func delimiter(s style) string {
	for _, d := range delimiters {
		if d.mark == s {
			return d.text
		}
	}
	return ""
}

func (m *mdWriter) linkText(group []run, outer style, before string) string {
	inner := make([]run, len(group))
	for i, r := range group {
		r.link, r.marks = nil, r.marks&^outer
		inner[i] = r
	}
	dest := group[0].link.Dest
	if len(inner) == 1 && inner[0].kind == 't' && inner[0].text == dest && autolinks(dest) {
		return "<" + dest + ">"
	}
	text := strings.ReplaceAll(m.write(inner), "  \n", " ")
	if text == "x" || text == "X" { // at the start of an item it would be a box
		text = "&#" + strconv.Itoa(int(text[0])) + ";"
	}
	return "[" + text + "](" + destination(dest, m.table > 0) + ")"
}

// autolinks reports whether dest may stand between < and >.
func autolinks(dest string) bool {
	scheme, _, ok := strings.Cut(dest, ":")
	if !ok || len(scheme) < 2 || len(scheme) > 32 {
		return false
	}
	for i := 0; i < len(scheme); i++ {
		if c := scheme[i]; !isWord(rune(c)) && !(i > 0 && strings.IndexByte("+.-", c) >= 0) || i == 0 && c <= '9' {
			return false
		}
	}
	return !strings.ContainsAny(dest, " \t\n<>|")
}

// destination writes the target of a link so that it is read back as it is.
func destination(dest string, cell bool) string {
	var b strings.Builder
	plain := dest != ""
	for _, r := range dest {
		if r <= ' ' || r == '(' || r == ')' || r == '<' || r == '>' || r == 0x7f {
			plain = false
		}
	}
	for _, r := range dest {
		switch r {
		case '\\', '<', '>', '*', '_', '`', '[', ']':
			if r != '_' && r != '*' || plain {
				b.WriteByte('\\')
			}
		case '\n', '\r':
			continue
		case '|':
			if cell {
				b.WriteByte('\\')
			}
		}
		b.WriteRune(r)
	}
	out := entity.ReplaceAllString(b.String(), "&amp;$1;")
	if plain {
		return out
	}
	return "<" + out + ">"
}

// span writes a code span with a fence that the code does not hold.
func (m *mdWriter) span(code string) string {
	fence := "`"
	for strings.Contains(code, fence) {
		fence += "`"
	}
	pad := ""
	if strings.HasPrefix(code, "`") || strings.HasSuffix(code, "`") {
		pad = " "
	}
	if m.table > 0 {
		code = strings.ReplaceAll(code, "|", `\|`)
	}
	return fence + pad + code + pad + fence
}
