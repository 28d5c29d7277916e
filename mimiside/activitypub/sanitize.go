package activitypub

import (
	"bytes"
	"html"
	"regexp"
	"strings"
	"sync"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
)

// policyHTML lets through what Matrix clients and ActivityPub servers both show. Scripts, styles, forms, images and event handlers go.
var policyHTML = sync.OnceValue(func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "span", "a", "del", "s", "pre", "blockquote", "code", "b", "strong", "u", "i", "em", "ul", "ol", "li", "hr",
		"h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td", "sub", "sup")
	p.AllowAttrs("href").OnElements("a")
	p.AllowURLSchemes("http", "https", "mailto", "matrix", "mimi", "magnet", "ftp", "xmpp", "geo")
	p.RequireNoFollowOnLinks(true)
	p.AllowAttrs("class").Matching(regexp.MustCompile(`^(?:language-[a-zA-Z0-9_+-]{1,30}|mention|hashtag|u-url|h-card|invisible|ellipsis)(?: (?:mention|hashtag|u-url))*$`)).
		OnElements("code", "span", "a")
	p.AllowAttrs("start").Matching(regexp.MustCompile(`^[0-9]{1,6}$`)).OnElements("ol")
	return p
})

// maxHTML bounds the HTML of one message in octets.
const maxHTML = 256 << 10

// Sanitize takes out of HTML what can harm its reader. It is applied after decryption and before encryption, since no server
// between can see it (MLS over ActivityPub, "HTML Sanitization").
func Sanitize(s string) string {
	if len(s) > maxHTML {
		return html.EscapeString(strings.ToValidUTF8(s[:maxHTML], ""))
	}
	return policyHTML().Sanitize(strings.ToValidUTF8(s, "\uFFFD"))
}

// markdown renders the Markdown of MIMI content (GFM-MIMI). Raw HTML in it is left out.
var markdown = sync.OnceValue(func() goldmark.Markdown {
	return goldmark.New(goldmark.WithExtensions(extension.GFM))
})

// htmlOfMarkdown renders Markdown and sanitises what comes out.
func htmlOfMarkdown(text []byte) string {
	var b bytes.Buffer
	if err := markdown().Convert(text, &b); err != nil {
		return htmlOfPlain(string(text))
	}
	return strings.TrimSpace(Sanitize(b.String()))
}

// htmlOfPlain makes paragraphs of plain text.
func htmlOfPlain(text string) string {
	return "<p>" + strings.ReplaceAll(html.EscapeString(strings.ReplaceAll(text, "\r\n", "\n")), "\n", "<br>") + "</p>"
}
