package mapping

import (
	"slices"
	"strings"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

func isText(contentType string) bool {
	t, err := content.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	switch t.Type {
	case "text/plain", "text/markdown", "text/html":
		return true
	}
	return false
}

// text maps a text part. refs are the parts that its cid links mean.
func (i *in) text(s content.SinglePart) Out {
	t, _ := content.ParseMediaType(s.ContentType)
	text := strings.ToValidUTF8(string(s.Content), "\uFFFD")
	m := &event.Message{MsgType: event.MsgText}
	p := &pills{in: i}
	if private(i.Message.Extensions, keyMsgType) == event.MsgEmote {
		text = i.emote(m, t.Type, text)
	}
	switch t.Type {
	case "text/html":
		m.HTML = html.Rewrite(text, p.link)
		m.Body = html.Text(m.HTML)
	case "text/markdown":
		m.HTML = i.original(text)
		if m.HTML == "" {
			m.HTML = html.FromMarkdown(text, p.link)
		}
		m.Body = bodyOf(text, m.HTML, p.touched)
	default:
		m.Body = strings.ReplaceAll(text, "\r\n", "\n")
	}
	if m.HTML == html.Escape(m.Body) || strings.TrimSpace(m.HTML) == "" {
		m.HTML = ""
	}
	m.Mentions = p.mentions()
	switch private(i.Message.Extensions, keyMsgType) {
	case event.MsgNotice:
		m.MsgType = event.MsgNotice
	case event.MsgLocation:
		i.location(m, text)
	}
	return i.bounded(Out{Type: event.TypeMessage, Message: m, Memory: Memory{Kind: KindText}}, text, t.Type)
}

// emote takes the name off an m.emote that another bridge wrote down.
func (i *in) emote(m *event.Message, mediaType, text string) string {
	prefix := private(i.Message.Extensions, keyEmote)
	if mediaType == "text/markdown" {
		prefix = html.EscapeMarkdown(prefix) + " "
	}
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok || !strings.HasPrefix(strings.TrimPrefix(prefix, `\`), "* ") {
		return text
	}
	m.MsgType = event.MsgEmote
	return rest
}

// original is the HTML that another bridge started from, if it says exactly
// what the Markdown says.
func (i *in) original(markdown string) string {
	was := private(i.Message.Extensions, keyHTML)
	if was == "" {
		return ""
	}
	clean := html.Sanitize(was)
	// Images of a stranger's choice are not loaded for a text.
	if strings.Contains(clean, "<img") || html.ToMarkdown(clean, nil).Text != markdown {
		return ""
	}
	return clean
}

// bodyOf is the plain text beside HTML: the Markdown source, which people read
// well, unless it holds escapes or addresses that they do not.
func bodyOf(markdown, rendered string, touched bool) string {
	if touched || strings.Contains(markdown, `\`) || strings.Contains(markdown, "&") || strings.Contains(markdown, "](") {
		return html.Text(rendered)
	}
	return strings.TrimSpace(markdown)
}

// location makes an m.location of a text that says the same in words.
func (i *in) location(m *event.Message, text string) {
	uri := private(i.Message.Extensions, keyGeo)
	if _, _, ok := parseGeo(uri); !ok {
		return
	}
	name := html.Line(geoName(text), 300)
	if text != geoMarkdown(name, uri) {
		return // the text says something else
	}
	*m = event.Message{MsgType: event.MsgLocation, Body: name, GeoURI: uri, Mentions: m.Mentions}
}

// geoName is the name of the place in what geoMarkdown wrote.
func geoName(text string) string {
	if strings.HasPrefix(text, "[") {
		if end := strings.Index(text, "](geo:"); end > 0 {
			return html.Text(html.FromMarkdown(text[1:end], nil))
		}
	}
	return ""
}

// bounded makes a file of a text that is too long for an event.
func (i *in) bounded(o Out, source, mediaType string) Out {
	m := o.Message
	if encodedLen(m.Body)+encodedLen(m.HTML) > MaxBody {
		m.HTML = ""
	}
	if encodedLen(m.Body) <= MaxBody {
		return o
	}
	name := map[string]string{"text/markdown": "message.md", "text/html": "message.html"}[mediaType]
	if name == "" {
		name, mediaType = "message.txt", "text/plain"
	}
	return Out{Type: event.TypeMessage, Memory: Memory{Kind: KindMedia}, File: &Fetch{Inline: []byte(source), Mimetype: mediaType, Name: name},
		Message: &event.Message{MsgType: event.MsgFile, Body: name, Mentions: m.Mentions, Media: &event.Media{Filename: name, Mimetype: mediaType, Size: int64(len(source))}}}
}

// encodedLen is the length of a text in canonical JSON, in octets.
func encodedLen(s string) int {
	n := len(s)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"', c == '\\', c == '\n', c == '\t', c == '\r':
			n++
		case c < 0x20:
			n += 5
		}
	}
	return n
}

// pills turns links to MIMI users into links to Matrix users.
type pills struct {
	in      *in
	users   []id.UserID
	room    bool
	touched bool
}

func (p *pills) link(l html.Link) html.Link {
	r := p.in.room
	if l.Image {
		if _, ok := content.ParseCID(l.Dest); ok {
			p.touched = true
			return html.Link{Text: l.Text}
		}
	}
	if l.Dest == r.URI {
		p.touched = true
		p.room = true
		return html.Link{Text: "@room"}
	}
	if _, ok := content.ParseCID(l.Dest); ok {
		p.touched = true
		return html.Link{Text: l.Text}
	}
	if !strings.HasPrefix(strings.ToLower(l.Dest), "mimi:") {
		if html.SafeLink(l.Dest) {
			return l
		}
		p.touched = true
		if scheme, _, _ := strings.Cut(strings.ToLower(l.Dest), ":"); shown[scheme] && l.Text != "" && l.Text != l.Dest {
			return html.Link{Text: l.Text + " (" + html.Line(l.Dest, 200) + ")"}
		}
		return html.Link{Text: textOr(l.Text, l.Dest)}
	}
	p.touched = true
	mxid, ok := r.People.MXID(l.Dest)
	if !ok {
		// Not somebody here: show what it says, and where it leads.
		if said := strings.TrimSpace(l.Text); said != "" && said != l.Dest {
			return html.Link{Text: said + " (" + l.Dest + ")"}
		}
		return html.Link{Text: l.Dest}
	}
	p.add(mxid)
	// The name that people here know, never what the sender wrote over the link.
	return html.Link{Dest: pillURL(mxid), Text: html.Name(r.People.Name(mxid))}
}

// shown are schemes that Matrix does not allow in links but whose addresses are
// of use to people.
var shown = map[string]bool{"geo": true, "tel": true, "sip": true, "sips": true, "xmpp": true, "im": true, "acct": true, "sms": true}

func textOr(text, otherwise string) string {
	if text != "" {
		return text
	}
	return otherwise
}

// pillURL is the address that clients show as a user.
func pillURL(u id.UserID) string { return u.URI().MatrixToURL() }

// add notes that a user is mentioned; of more than may be, one too many is enough to know.
func (p *pills) add(u id.UserID) {
	if len(p.users) <= p.in.room.maxMentions() && !slices.Contains(p.users, u) {
		p.users = append(p.users, u)
	}
}

// mentions is m.mentions of the text: always there, so that no client looks for
// names by itself.
func (p *pills) mentions() *event.Mentions {
	m := &event.Mentions{Room: p.room && p.in.MayNotifyRoom}
	if len(p.users) <= p.in.room.maxMentions() {
		m.Users = p.users
	}
	return m
}
