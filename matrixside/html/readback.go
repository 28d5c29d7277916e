package html

import (
	"strings"
	"unicode/utf8"

	"github.com/yuin/goldmark/ast"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// readsBack parses a paragraph and compares text and marks with the runs.
func readsBack(md string, runs []run, cell bool) bool {
	if cell {
		md = strings.ReplaceAll(md, `\|`, "|")
	}
	source := []byte(md)
	doc := gfm().Parse(text.NewReader(source))
	if doc.ChildCount() != 1 || doc.FirstChild().Kind() != ast.KindParagraph {
		return false
	}
	return signature(flatten(doc.FirstChild(), source)) == signature(runs)
}

// signature is a text form of runs in which equal content is equal.
func signature(runs []run) string {
	var b strings.Builder
	last := style(0xff)
	for _, r := range runs {
		t := r.text
		switch r.kind {
		case 'b':
			t = "\x00"
		case 'c':
			t = "\x01" + t + "\x01"
		}
		if t == "" {
			continue
		}
		for len(t) > 0 {
			_, n := utf8.DecodeRuneInString(t)
			if m := r.marks; m != last && t[:n] != " " && t[:n] != "\x00" {
				b.WriteString(string([]byte{0x02, byte(m) + 0x10}))
				last = m
			}
			b.WriteString(t[:n])
			t = t[n:]
		}
	}
	return b.String()
}

// flatten reads the inline content that goldmark found.
func flatten(n ast.Node, source []byte) []run {
	var out []run
	var walk func(n ast.Node, marks style, depth int)
	walk = func(n ast.Node, marks style, depth int) {
		if depth > 4*MaxDepth {
			return
		}
		for c := n.FirstChild(); c != nil; c = c.NextSibling() {
			switch t := c.(type) {
			case *ast.Text:
				s := unescape(t.Segment.Value(source))
				out = append(out, run{kind: 't', text: s, marks: marks})
				if t.HardLineBreak() {
					out = append(out, run{kind: 'b', marks: marks})
				} else if t.SoftLineBreak() {
					out = append(out, run{kind: 't', text: " ", marks: marks})
				}
			case *ast.String:
				out = append(out, run{kind: 't', text: string(t.Value), marks: marks})
			case *ast.CodeSpan:
				out = append(out, run{kind: 'c', text: rawText(t, source), marks: marks})
			case *ast.AutoLink:
				out = append(out, run{kind: 't', text: string(t.Label(source)), marks: marks})
			case *ast.Emphasis:
				if t.Level == 2 {
					walk(c, marks|strong, depth+1)
				} else {
					walk(c, marks|emph, depth+1)
				}
			case *extast.Strikethrough:
				walk(c, marks|strike, depth+1)
			default:
				walk(c, marks, depth+1)
			}
		}
	}
	walk(n, 0, 0)
	return out
}

// unescape reads backslashes and entities as goldmark does.
func unescape(b []byte) string {
	return string(util.ResolveEntityNames(util.ResolveNumericReferences(util.UnescapePunctuations(b))))
}

func rawText(n ast.Node, source []byte) string {
	var b strings.Builder
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		if t, ok := c.(*ast.Text); ok {
			b.Write(t.Segment.Value(source))
		}
	}
	return b.String()
}
