package html

import (
	"bytes"
	"strings"
	"sync"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	grender "github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
	nethtml "golang.org/x/net/html"
)

// Link is a link in a text.
type Link struct {
	// Dest is the target as written.
	Dest string
	// Text is the plain text of the link; "" for an autolink.
	Text string
	// Image says that the link is an image.
	Image bool
}

// LinkFunc decides what a link becomes. An empty Dest makes it plain text.
type LinkFunc func(Link) Link

// gfm is the parser of GFM-MIMI: CommonMark without its HTML blocks and raw
// HTML, with tables, task lists and strikethrough, and nothing else.
var gfm = sync.OnceValue(func() parser.Parser {
	var blocks, inlines []util.PrioritizedValue
	for _, p := range parser.DefaultBlockParsers() {
		if p.Priority != 900 { // NewHTMLBlockParser: tags are shown as text
			blocks = append(blocks, p)
		}
	}
	for _, p := range parser.DefaultInlineParsers() {
		if p.Priority != 400 { // NewRawHTMLParser
			inlines = append(inlines, p)
		}
	}
	inlines = append(inlines,
		util.Prioritized(extension.NewStrikethroughParser(), 500),
		util.Prioritized(extension.NewTaskCheckBoxParser(), 0))
	paragraphs := append(parser.DefaultParagraphTransformers(), util.Prioritized(extension.NewTableParagraphTransformer(), 200))
	return parser.NewParser(
		parser.WithBlockParsers(blocks...),
		parser.WithInlineParsers(inlines...),
		parser.WithParagraphTransformers(paragraphs...),
		parser.WithASTTransformers(util.Prioritized(extension.NewTableASTTransformer(), 0)))
})

// FromMarkdown renders GFM-MIMI as sanitised HTML. Raw HTML in the source is
// shown as text, images become links, boxes of task lists become characters.
// links may be nil.
func FromMarkdown(src string, links LinkFunc) string {
	src = clean(src)
	if len(src) > MaxInput {
		return Escape(cutRunes(src, MaxInput))
	}
	source := []byte(src)
	doc := gfm().Parse(text.NewReader(source))
	if tooDeep(doc) {
		return Escape(src)
	}
	var buf bytes.Buffer
	r := renderer.NewRenderer(renderer.WithNodeRenderers(
		util.Prioritized(grender.NewRenderer(), 1000),
		util.Prioritized(extension.NewStrikethroughHTMLRenderer(), 500),
		util.Prioritized(extension.NewTableHTMLRenderer(extension.WithTableCellAlignMethod(extension.TableCellAlignNone)), 500),
		util.Prioritized(&linkRenderer{links: links}, 100)))
	if err := r.Render(&buf, source, doc); err != nil {
		return Escape(src)
	}
	return Sanitize(unwrap(strings.TrimSpace(buf.String()), doc))
}

// unwrap takes the paragraph off a text that is only one paragraph, as Matrix
// clients write it.
func unwrap(s string, doc ast.Node) string {
	if doc.ChildCount() != 1 || doc.FirstChild().Kind() != ast.KindParagraph {
		return s
	}
	return strings.TrimSuffix(strings.TrimPrefix(s, "<p>"), "</p>")
}

// tooDeep reports whether the tree is deeper than [MaxDepth], without
// recursion.
func tooDeep(doc ast.Node) bool {
	depth := 0
	for n := doc; n != nil; {
		if c := n.FirstChild(); c != nil {
			n = c
			if depth++; depth > MaxDepth {
				return true
			}
			continue
		}
		for n != nil && n != doc && n.NextSibling() == nil {
			n = n.Parent()
			depth--
		}
		if n == nil || n == doc {
			return false
		}
		n = n.NextSibling()
	}
	return false
}

// linkRenderer writes links, images and boxes in place of goldmark's.
type linkRenderer struct{ links LinkFunc }

// RegisterFuncs implements renderer.NodeRenderer.
func (l *linkRenderer) RegisterFuncs(reg renderer.NodeRendererFuncRegisterer) {
	reg.Register(ast.KindLink, l.link)
	reg.Register(ast.KindImage, l.image)
	reg.Register(ast.KindAutoLink, l.auto)
	reg.Register(extast.KindTaskCheckBox, l.box)
}

func (l *linkRenderer) decide(k Link) Link {
	if l.links != nil {
		return l.links(k)
	}
	if !SafeLink(k.Dest) {
		k.Dest = ""
	}
	return k
}

func (l *linkRenderer) link(w util.BufWriter, source []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	n := node.(*ast.Link)
	said := Link{Dest: string(n.Destination), Text: plain(n, source)}
	to := l.decide(said)
	if to.Text != said.Text || to.Dest == "" {
		if entering {
			// The new text stands for the children.
			l.write(w, to)
		}
		return ast.WalkSkipChildren, nil
	}
	if entering {
		_, _ = w.WriteString(`<a href="` + nethtml.EscapeString(to.Dest) + `">`)
	} else {
		_, _ = w.WriteString(`</a>`)
	}
	return ast.WalkContinue, nil
}

func (l *linkRenderer) image(w util.BufWriter, source []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	if entering {
		n := node.(*ast.Image)
		k := Link{Dest: string(n.Destination), Text: plain(n, source), Image: true}
		if k.Text == "" {
			k.Text = k.Dest
		}
		l.write(w, l.decide(k))
	}
	return ast.WalkSkipChildren, nil
}

func (l *linkRenderer) auto(w util.BufWriter, source []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	if entering {
		n := node.(*ast.AutoLink)
		dest := string(n.URL(source))
		if n.AutoLinkType == ast.AutoLinkEmail && !strings.HasPrefix(strings.ToLower(dest), "mailto:") {
			dest = "mailto:" + dest
		}
		to := l.decide(Link{Dest: dest})
		if to.Text == "" {
			to.Text = string(n.Label(source))
		}
		l.write(w, to)
	}
	return ast.WalkContinue, nil
}

func (l *linkRenderer) write(w util.BufWriter, k Link) {
	said := nethtml.EscapeString(k.Text)
	if k.Dest == "" {
		_, _ = w.WriteString(said)
		return
	}
	_, _ = w.WriteString(`<a href="` + nethtml.EscapeString(k.Dest) + `">` + said + `</a>`)
}

func (l *linkRenderer) box(w util.BufWriter, _ []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	if entering {
		_, _ = w.WriteString(checkbox(node.(*extast.TaskCheckBox).IsChecked))
	}
	return ast.WalkContinue, nil
}

// plain is the text of an inline node without its marks.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(c ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch t := c.(type) {
		case *ast.Text:
			b.WriteString(unescape(t.Segment.Value(source)))
			if t.SoftLineBreak() || t.HardLineBreak() {
				b.WriteByte(' ')
			}
		case *ast.String:
			b.Write(t.Value)
		case *ast.AutoLink:
			b.Write(t.Label(source))
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}
