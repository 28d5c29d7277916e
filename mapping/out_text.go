package mapping

import (
	"strings"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// text maps m.text, m.notice, m.emote and every message type without a mapping
// of its own. It returns false for an empty message.
func (o *out) text(m event.Message) (content.Part, bool) {
	body := m.Body
	if m.Relation.ReplyTo != "" && o.known(m.Relation.ReplyTo) {
		body = stripReplyFallback(body)
	}
	prefix := ""
	switch m.MsgType {
	case event.MsgNotice:
		setPrivate(o.ext, keyMsgType, m.MsgType)
	case event.MsgEmote:
		setPrivate(o.ext, keyMsgType, m.MsgType)
		prefix = "* " + html.Name(o.room.People.Name(o.ev.Sender)) + " "
	}
	part, ok := o.formatted(m, body, prefix)
	if !ok {
		return part, false
	}
	if prefix != "" {
		setPrivate(o.ext, keyEmote, prefix)
	}
	return part, true
}

// formatted chooses plain text or Markdown for a text.
func (o *out) formatted(m event.Message, body, prefix string) (content.Part, bool) {
	mentions := o.mentions(m)
	md := ""
	marked := false
	if m.HTML != "" {
		got := html.ToMarkdown(m.HTML, mentions.link)
		md, marked = got.Text, !got.Plain || got.Lossy
		if md == "" {
			return content.Part{}, false
		}
		if got.Lossy && mentions.linked == 0 {
			setPrivate(o.ext, keyHTML, html.Sanitize(m.HTML))
		}
	} else if strings.TrimSpace(body) == "" {
		return content.Part{}, false
	}
	rest := mentions.unlinked()
	if !marked && len(rest) == 0 && !mentions.room {
		if md != "" { // HTML without any formatting
			body = strings.TrimSpace(html.Text(m.HTML))
		}
		return single(content.Render, content.TypePlain, prefix+body), true
	}
	if md == "" {
		md = html.EscapeMarkdown(body)
	}
	md = mentions.insert(md, rest)
	if prefix != "" {
		md = html.EscapeMarkdown(prefix) + " " + md
	}
	return single(content.Render, content.TypeMarkdownMIMI, md), true
}

// mentions collects whom a message means to notify.
type mentions struct {
	o *out
	// users are the participants to be mentioned, in order; listed says that the
	// sender's client said whom it means.
	users  []id.UserID
	listed bool
	room   bool
	done   map[id.UserID]bool
	linked int
}

func (o *out) mentions(m event.Message) *mentions {
	x := &mentions{o: o, done: map[id.UserID]bool{}, listed: m.Mentions != nil}
	if m.Mentions == nil {
		return x
	}
	if len(m.Mentions.Users) <= o.room.maxMentions() {
		for _, u := range m.Mentions.Users {
			if _, ok := o.room.People.URI(u); ok && u != o.ev.Sender {
				x.users = append(x.users, u)
			}
		}
	}
	x.room = m.Mentions.Room
	return x
}

// means reports whether a pill of the user is a mention.
func (x *mentions) means(u id.UserID) bool {
	if !x.listed {
		return len(x.done) < x.o.room.maxMentions()
	}
	for _, v := range x.users {
		if v == u {
			return true
		}
	}
	// A pill of the sender itself notifies nobody, but it is a link to a user.
	return u == x.o.ev.Sender
}

// link turns links to Matrix users into links to MIMI users. Other links stay.
func (x *mentions) link(l html.Link) html.Link {
	uri, err := id.ParseMatrixURIOrMatrixToURL(l.Dest)
	if err != nil {
		if html.SafeLink(l.Dest) {
			return l
		}
		return html.Link{Text: l.Text}
	}
	u := uri.UserID()
	if u == "" {
		if uri.EventID() != "" {
			return l // an address of a message is of use to people on Matrix
		}
		return html.Link{Text: l.Text}
	}
	target, ok := x.o.room.People.URI(u)
	if !ok || !x.means(u) {
		return html.Link{Text: l.Text}
	}
	x.done[u] = true
	x.linked++
	return html.Link{Dest: target, Text: "@" + html.Name(x.o.room.People.Name(u))}
}

// unlinked are the mentioned users whom no pill names.
func (x *mentions) unlinked() []id.UserID {
	var rest []id.UserID
	for _, u := range x.users {
		if !x.done[u] {
			rest = append(rest, u)
		}
	}
	return rest
}

// insert writes links to the given users into Markdown: in place of their name
// if the text holds it, else, if that is wanted, before the text.
func (x *mentions) insert(md string, users []id.UserID) string {
	before := ""
	for _, u := range users {
		uri, _ := x.o.room.People.URI(u)
		name := html.Name(x.o.room.People.Name(u))
		link := mentionLink("@"+name, uri)
		replaced := false
		for _, form := range []string{"@" + name, name, string(u), "@" + u.Localpart()} {
			if md, replaced = replaceWord(md, html.EscapeMarkdown(form), link); replaced {
				break
			}
		}
		if !replaced && x.o.room.MentionPrefix {
			before += link + " "
		}
	}
	if x.room {
		link := mentionLink("@room", x.o.room.URI)
		var replaced bool
		if md, replaced = replaceWord(md, "@room", link); !replaced {
			before = link + " " + before
		}
	}
	return before + md
}

func mentionLink(text, uri string) string {
	return "[" + html.EscapeMarkdown(text) + "](" + uri + ")"
}

// replaceWord replaces the first occurrence of a word that does not stand
// within another word, a link or code.
func replaceWord(md, word, by string) (string, bool) {
	if word == "" || word == "@" {
		return md, false
	}
	code := false
	depth := 0
	for i := 0; i < len(md); i++ {
		switch md[i] {
		case '\\':
			if strings.HasPrefix(md[i:], word) {
				break
			}
			i++
			continue
		case '`':
			code = !code
		case '[', '(', '<':
			depth++
		case ']', ')', '>':
			depth = max(0, depth-1)
		}
		if code || depth > 0 || !strings.HasPrefix(md[i:], word) {
			continue
		}
		after := md[i+len(word):]
		if i > 0 && wordByte(md[i-1]) && wordByte(word[0]) || after != "" && wordByte(after[0]) {
			continue
		}
		return md[:i] + by + after, true
	}
	return md, false
}

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80
}

// stripReplyFallback takes the quote off a body that old clients put before a
// reply (Matrix spec up to v1.12, "Fallbacks for rich replies").
func stripReplyFallback(body string) string {
	if !strings.HasPrefix(body, "> <@") && !strings.HasPrefix(body, "> * <@") {
		return body
	}
	lines := strings.Split(body, "\n")
	i := 0
	for i < len(lines) && strings.HasPrefix(lines[i], ">") {
		i++
	}
	if i < len(lines) && lines[i] == "" {
		i++
	}
	if i == len(lines) {
		return body
	}
	return strings.Join(lines[i:], "\n")
}

func (o *out) known(ev id.EventID) bool {
	_, ok := o.room.Links.ByEvent(ev)
	return ok
}

// note is a text that says in the third person what the sender did on Matrix.
func (o *out) note(what string) Outgoing {
	prefix := "* " + html.Name(o.room.People.Name(o.ev.Sender)) + " "
	setPrivate(o.ext, keyMsgType, event.MsgEmote)
	setPrivate(o.ext, keyEmote, prefix)
	msg := &content.Message{Body: single(content.Render, content.TypePlain, prefix+what)}
	msg.Expires = o.expires(nil)
	return Outgoing{Message: msg, Memory: Memory{Kind: KindText}}
}
