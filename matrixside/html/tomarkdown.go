package html

import (
	"regexp"
	"strconv"
	"strings"

	nethtml "golang.org/x/net/html"
)

// Markdown is what became of a piece of HTML.
type Markdown struct {
	// Text is the GFM-MIMI source.
	Text string
	// Lossy says that something of the HTML has no Markdown: colours,
	// underline, spoilers, maths, folded details, custom emoji.
	Lossy bool
	// Plain says that the text has no formatting at all, so that it may as well
	// be sent as plain text.
	Plain bool
}

// ToMarkdown writes HTML as GFM-MIMI Markdown. Text keeps its letters: what
// Markdown would take for a mark is escaped, `<` and `&` of what would be a tag
// or entity become entities (draft-ietf-mimi-content-08 §7.1). links rewrites
// links to users and rooms; it may be nil.
func ToMarkdown(s string, links LinkFunc) Markdown {
	if len(s) > MaxInput {
		return Markdown{Text: EscapeMarkdown(cutRunes(clean(s), MaxInput))}
	}
	root, ok := parse(s)
	if !ok {
		return Markdown{Text: EscapeMarkdown(clean(s))}
	}
	m := &mdWriter{links: links, plain: true}
	text := strings.Trim(m.blocks(root, 0, 0, nil), "\n")
	return Markdown{Text: text, Lossy: m.lossy, Plain: m.plain}
}

// EscapeMarkdown returns plain text as Markdown that shows the text, line
// breaks included.
func EscapeMarkdown(s string) string {
	lines := strings.Split(lineBreaks.Replace(clean(s)), "\n")
	var out []string
	for _, l := range lines {
		// Leading blanks would make a code block or be lost.
		trimmed := strings.TrimLeft(l, " \t")
		lead := strings.Repeat("\u00a0", len([]rune(l))-len([]rune(trimmed)))
		out = append(out, lineStart(lead+escapeText(strings.TrimRight(trimmed, " \t"), false)))
	}
	var b strings.Builder
	for i, l := range out {
		b.WriteString(l)
		if i == len(out)-1 {
			break
		}
		if l != "" && out[i+1] != "" {
			b.WriteString("  ")
		}
		b.WriteString("\n")
	}
	return b.String()
}

type mdWriter struct {
	links LinkFunc
	lossy bool
	plain bool
	table int // depth of tables, where a cell is one line
}

var blockElements = map[string]bool{
	"p": true, "div": true, "h1": true, "h2": true, "h3": true, "h4": true, "h5": true, "h6": true, "blockquote": true,
	"ul": true, "ol": true, "li": true, "pre": true, "hr": true, "table": true, "thead": true, "tbody": true, "tfoot": true,
	"tr": true, "td": true, "th": true, "caption": true, "details": true, "summary": true, "section": true,
	"article": true, "header": true, "footer": true, "main": true, "nav": true, "aside": true, "figure": true,
	"figcaption": true, "address": true, "center": true, "dl": true, "dt": true, "dd": true, "fieldset": true, "form": true,
}

// blocks writes the children of n as blocks with an empty line between them.
// marks are the styles that an element around the blocks gave.
func (m *mdWriter) blocks(n *nethtml.Node, depth int, marks style, link *Link) string {
	if depth > MaxDepth {
		return lineStart(escapeText(strings.Join(strings.Fields(textOf(n)), " "), m.table > 0))
	}
	var out []string
	var pending []run
	flush := func() {
		if s := m.inline(pending); s != "" {
			out = append(out, s)
		}
		pending = nil
	}
	lastList := ""
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if c.Type == nethtml.ElementNode && (dropped[c.Data] || c.Namespace != "") {
			continue
		}
		if !hasBlock(c, 0) {
			pending = m.collect(pending, c, marks, link, depth)
			if c.Type == nethtml.ElementNode || strings.TrimSpace(c.Data) != "" {
				lastList = ""
			}
			continue
		}
		flush()
		other := false
		if c.Data == "ul" || c.Data == "ol" {
			// A second list right after one of its kind would join it.
			other = lastList == c.Data
			lastList = c.Data
			if other {
				lastList = ""
			}
		} else {
			lastList = ""
		}
		if s := m.block(c, depth+1, marks, link, other); s != "" {
			out = append(out, s)
		}
	}
	flush()
	return strings.Join(out, "\n\n")
}

// hasBlock reports whether n is a block or holds one.
func hasBlock(n *nethtml.Node, depth int) bool {
	if n.Type != nethtml.ElementNode || dropped[n.Data] || n.Namespace != "" || depth > MaxDepth {
		return false
	}
	if blockElements[n.Data] {
		return true
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if hasBlock(c, depth+1) {
			return true
		}
	}
	return false
}

func (m *mdWriter) block(n *nethtml.Node, depth int, marks style, link *Link, other bool) string {
	if m.table > 0 { // no blocks in a cell
		return m.blocks(n, depth, marks, link)
	}
	switch n.Data {
	case "h1", "h2", "h3", "h4", "h5", "h6":
		m.plain = false
		text := strings.ReplaceAll(strings.ReplaceAll(m.blocks(n, depth, marks, link), "  \n", " "), "\n", " ")
		if text == "" {
			return ""
		}
		if head := strings.TrimSuffix(text, "#"); head != text && (len(head)-len(strings.TrimRight(head, `\`)))%2 == 0 {
			text = head + `\#`
		}
		return strings.Repeat("#", int(n.Data[1]-'0')) + " " + text
	case "blockquote":
		m.plain = false
		return prefix(m.blocks(n, depth, marks, link), "> ", "> ")
	case "ul", "ol":
		m.plain = false
		return m.list(n, depth, marks, link, other)
	case "pre":
		m.plain = false
		return m.code(n)
	case "hr":
		m.plain = false
		return "***" // `- ---` would be a line, not an item with a line in it
	case "table":
		m.plain = false
		return m.tableOf(n, depth)
	case "details", "summary":
		m.lossy = true
	case "div":
		m.lossy = m.lossy || hasAttr(n, "data-mx-maths")
	}
	st, lk := m.styled(n, marks, link)
	return m.blocks(n, depth, st, lk)
}

// prefix puts marks before the lines of a block.
func prefix(s, first, rest string) string {
	if s == "" {
		return ""
	}
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		mark := rest
		if i == 0 {
			mark = first
		}
		if l == "" {
			mark = strings.TrimRight(mark, " ")
		}
		lines[i] = mark + l
	}
	return strings.Join(lines, "\n")
}

func (m *mdWriter) list(n *nethtml.Node, depth int, marks style, link *Link, other bool) string {
	num := atoi(attr(n, "start"), 1)
	var items []string
	loose := false
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if c.Type != nethtml.ElementNode || dropped[c.Data] {
			continue
		}
		body := m.blocks(c, depth, marks, link)
		if c.Data != "li" {
			body = m.block(c, depth, marks, link, false)
		}
		mark := "- "
		if other {
			mark = "+ "
		}
		if n.Data == "ol" {
			mark = strconv.Itoa(num) + ". "
			if other {
				mark = strconv.Itoa(num) + ") "
			}
			num = min(num+1, 999999999)
		}
		for box, as := range map[string]string{"☐ ": "[ ] ", "☑ ": "[x] "} {
			if rest, ok := strings.CutPrefix(body, box); ok {
				body = as + rest
			}
		}
		loose = loose || strings.Contains(body, "\n\n") && !onlyListsApart(c)
		if body == "" {
			items = append(items, strings.TrimRight(mark, " "))
			continue
		}
		items = append(items, prefix(body, mark, strings.Repeat(" ", len(mark))))
	}
	if loose {
		return strings.Join(items, "\n\n")
	}
	return strings.Join(items, "\n")
}

// onlyListsApart reports whether the blocks of an item are one text and lists
// below it, which need no empty lines.
func onlyListsApart(li *nethtml.Node) bool {
	for c := li.FirstChild; c != nil; c = c.NextSibling {
		if c.Type == nethtml.ElementNode && hasBlock(c, 0) && c.Data != "ul" && c.Data != "ol" {
			return false
		}
	}
	return true
}

func (m *mdWriter) code(n *nethtml.Node) string {
	lang := ""
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if c.Type == nethtml.ElementNode && c.Data == "code" {
			if l, ok := strings.CutPrefix(attr(c, "class"), "language-"); ok && language.MatchString("language-"+l) {
				lang = l
			}
		}
	}
	text := strings.TrimSuffix(textOf(n), "\n")
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fence + lang + "\n" + text + "\n" + fence
}

func (m *mdWriter) tableOf(n *nethtml.Node, depth int) string {
	m.table++
	defer func() { m.table-- }()
	var rows [][]string
	var caption string
	var walk func(n *nethtml.Node, depth int)
	walk = func(n *nethtml.Node, depth int) {
		if depth > MaxDepth {
			return
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			switch {
			case c.Type != nethtml.ElementNode:
			case c.Data == "tr":
				var row []string
				for d := c.FirstChild; d != nil; d = d.NextSibling {
					if d.Type == nethtml.ElementNode && (d.Data == "td" || d.Data == "th") {
						row = append(row, strings.Join(strings.Fields(m.blocks(d, depth+1, 0, nil)), " "))
					}
				}
				rows = append(rows, row)
			case c.Data == "caption":
				caption = strings.Join(strings.Fields(m.blocks(c, depth+1, 0, nil)), " ")
			default:
				walk(c, depth+1)
			}
		}
	}
	walk(n, depth)
	width := 0
	for _, r := range rows {
		width = max(width, len(r))
	}
	if width == 0 || width > 100 {
		return lineStart(escapeText(strings.Join(strings.Fields(textOf(n)), " "), true))
	}
	var b strings.Builder
	for i, r := range rows {
		for len(r) < width {
			r = append(r, "")
		}
		b.WriteString("| " + strings.Join(r, " | ") + " |\n")
		if i == 0 {
			b.WriteString("|" + strings.Repeat(" --- |", width) + "\n")
		}
	}
	table := strings.TrimRight(b.String(), "\n")
	if caption != "" {
		m.lossy = true
		table = caption + "\n\n" + table
	}
	return table
}

// textOf is all text below n, as written.
func textOf(n *nethtml.Node) string {
	var b strings.Builder
	stack := []*nethtml.Node{n}
	for len(stack) > 0 {
		c := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		switch {
		case c.Type == nethtml.TextNode:
			b.WriteString(c.Data)
		case c.Type == nethtml.ElementNode && c.Data == "br":
			b.WriteByte('\n')
		case c.Type == nethtml.ElementNode && dropped[c.Data]:
			continue
		}
		for d := c.LastChild; d != nil; d = d.PrevSibling {
			stack = append(stack, d)
		}
	}
	return b.String()
}

var (
	entity     = regexp.MustCompile(`&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});`)
	lineMarks  = regexp.MustCompile(`^(#{1,6}|[-+])([ \t]|$)`)
	underline  = regexp.MustCompile(`^(=+|-+|[:|-][-:| \t]*)$`)
	numbered   = regexp.MustCompile(`^([0-9]{1,9})([.)])([ \t]|$)`)
	htmlOpener = regexp.MustCompile(`<([A-Za-z/!?])`)
)

// escapeText escapes what Markdown would take for a mark anywhere in a line.
func escapeText(s string, cell bool) string {
	rs := []rune(s)
	var b strings.Builder
	for i, r := range rs {
		switch r {
		case '\\', '`', '*', '[', ']', '~':
			b.WriteByte('\\')
		case '_':
			if i == 0 || i == len(rs)-1 || !isWord(rs[i-1]) || !isWord(rs[i+1]) {
				b.WriteByte('\\')
			}
		case '|':
			if cell {
				b.WriteByte('\\')
			}
		}
		b.WriteRune(r)
	}
	out := entity.ReplaceAllString(b.String(), "&amp;$1;")
	return htmlOpener.ReplaceAllString(out, "&lt;$1")
}

func isWord(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// lineStart escapes what is a mark only at the beginning of a line.
func lineStart(s string) string {
	if s == "" {
		return s
	}
	if s[0] == '>' || underline.MatchString(strings.TrimRight(s, " \t")) || lineMarks.MatchString(s) {
		return `\` + s
	}
	return numbered.ReplaceAllString(s, `$1\$2$3`)
}
