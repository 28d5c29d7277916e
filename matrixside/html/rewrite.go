package html

import (
	"strings"

	nethtml "golang.org/x/net/html"
)

// Rewrite sanitises HTML after links has decided about every link in it. A
// link that gets an empty Dest becomes text; one whose Text is changed shows
// that text alone.
func Rewrite(s string, links LinkFunc) string {
	if len(s) > MaxInput {
		return Sanitize(s)
	}
	root, ok := parse(s)
	if !ok {
		return Sanitize(s)
	}
	var anchors []*nethtml.Node
	stack := []*nethtml.Node{root}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if n.Type == nethtml.ElementNode && n.Data == "a" && n.Namespace == "" && hasAttr(n, "href") {
			anchors = append(anchors, n)
		}
		for c := n.LastChild; c != nil; c = c.PrevSibling {
			stack = append(stack, c)
		}
	}
	for _, a := range anchors {
		said := Link{Dest: attr(a, "href"), Text: strings.Join(strings.Fields(textOf(a)), " ")}
		to := links(said)
		if to.Dest == "" {
			a.Data, a.Attr = "span", nil
		} else {
			a.Attr = []nethtml.Attribute{{Key: "href", Val: to.Dest}}
		}
		if to.Text != said.Text {
			for a.FirstChild != nil {
				a.RemoveChild(a.FirstChild)
			}
			a.AppendChild(&nethtml.Node{Type: nethtml.TextNode, Data: to.Text})
		}
	}
	var b strings.Builder
	for c := root.FirstChild; c != nil; c = c.NextSibling {
		if nethtml.Render(&b, c) != nil {
			return Sanitize(s)
		}
	}
	return Sanitize(b.String())
}
