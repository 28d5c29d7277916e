package activitypub

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"html"
	"strings"

	"github.com/matrix-mimi/bridge/mimiside/content"
)

// Known is a message of a group that was seen before, under both of its names.
type Known struct {
	// ID is the MIMI message id under which the rest of the bridge knows it; AS2 the id inside MLS.
	ID  content.MessageID
	AS2 string
	// Author is the actor that said it.
	Author string
	// Like is set for a reaction: the AS2 id of what it is about; Emoji is what it says.
	Like, Emoji string
}

// Memory finds messages of the group.
type Memory interface {
	// ByAS2 finds a message by its id inside MLS. Ids are not unique over authors: with an author, only that one's message is found.
	ByAS2(id, author string) (Known, bool)
	// ByMIMI finds a message by its MIMI id.
	ByMIMI(id content.MessageID) (Known, bool)
}

// NewID is the id inside MLS of a message of ours: a UUID made of its MIMI id.
func NewID(id content.MessageID) string {
	b := [16]byte(id[1:17])
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80 // version 8, RFC 9562 §5.8
	s := hex.EncodeToString(b[:])
	return "urn:uuid:" + s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// MIMIID is the MIMI id of a message from an ActivityPub group: of group, sender and id together, so that no member can take another's id
// in advance.
func MIMIID(group []byte, sender, id string) content.MessageID {
	h := sha256.New()
	for _, part := range [][]byte{[]byte("mimi-bridge AS2 message id"), group, []byte(sender), []byte(id)} {
		n := len(part)
		h.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		h.Write(part)
	}
	var out content.MessageID
	out[0] = 1
	copy(out[1:], h.Sum(nil))
	return out
}

// Naming makes the content by which an actor of ours changes the name or the topic of a group; the object is the group itself, by its id
// (docs/activitypub.md).
func Naming(id content.MessageID, actor, group, name, topic string) *Content {
	return &Content{Type: "Update", ID: NewID(id), Actor: actor, Item: &Item{Type: "Group", ID: group, AttributedTo: actor, Name: name, Summary: topic}}
}

// Names tells whether content changes the name or the topic of a group. An empty one is left as it is.
func (c *Content) Names(group []byte) (name, topic string, ok bool) {
	if c.Type != "Update" || c.Item == nil || c.Item.ID != string(group) || c.Item.isText() {
		return "", "", false
	}
	return plain(c.Item.Name), c.Item.Summary, true
}

// Receipt tells which message content says was read, heard or seen; ok is false for all other content.
func (c *Content) Receipt() (about string, ok bool) {
	switch c.Type {
	case "Read", "Listen", "View":
		return firstOf(c.Ref, c.RefObject), true
	}
	return "", false
}

// Reasons why content becomes nothing.
var (
	// ErrIgnore: there is nothing to show, as meant: cover traffic, receipts that were not asked for.
	ErrIgnore = errors.New("nothing to show")
	// ErrUnknownTarget: it is about a message that is not known.
	ErrUnknownTarget = errors.New("it is about a message that is not known")
	// ErrNotAuthor: only the author may change or take back a message.
	ErrNotAuthor = errors.New("it is about a message of another")
	// ErrUnsupported: a kind of activity or object that is not understood. A note is shown once a kind.
	ErrUnsupported = errors.New("kind is not supported")
)

// ToMIMI makes MIMI content of what an ActivityPub member said. salt is that of the result.
func (c *Content) ToMIMI(memory Memory, salt content.Salt) (*content.Message, error) {
	m := &content.Message{Salt: salt, Extensions: content.Extensions{}}
	switch c.Type {
	case "Create", "Update":
		return m, c.post(m, memory)
	case "Delete":
		k, ok := memory.ByAS2(c.Ref, c.Actor)
		if !ok {
			if _, other := memory.ByAS2(c.Ref, ""); other {
				return nil, ErrNotAuthor
			}
			return nil, ErrUnknownTarget
		}
		m.Replaces, m.Body = k.ID, content.Part{Disposition: content.Render, Body: content.NullPart{}}
		return m, nil
	case "Like", "EmojiReact":
		k, ok := memory.ByAS2(firstOf(c.Ref, c.RefObject), "")
		if !ok {
			return nil, ErrUnknownTarget
		}
		m.InReplyTo = k.ID
		m.Body = content.Part{Disposition: content.Reaction, Body: content.SinglePart{ContentType: content.TypePlain, Content: []byte(emoji(c.Text))}}
		return m, nil
	case "Undo":
		k, ok := memory.ByAS2(c.Ref, c.Actor)
		if !ok {
			return nil, ErrUnknownTarget
		}
		if k.Like == "" {
			return nil, ErrUnsupported
		}
		m.Replaces, m.Body = k.ID, content.Part{Disposition: content.Reaction, Body: content.NullPart{}}
		return m, nil
	case "Announce":
		return m, c.announce(m, memory)
	case "Read", "Listen", "View", "Acknowledge", "Failure", "IntransitiveActivity", "Leave":
		return nil, ErrIgnore
	}
	return nil, ErrUnsupported
}

// emoji is the text of a reaction, a heart when there is none; at most 20 characters.
func emoji(s string) string {
	s = strings.TrimSpace(html.UnescapeString(s))
	if s == "" {
		return "❤️"
	}
	if r := []rune(s); len(r) > 20 {
		s = string(r[:20])
	}
	return s
}

func (c *Content) post(m *content.Message, memory Memory) error {
	i := c.Item
	if !knownItem(i.Type) {
		return ErrUnsupported
	}
	if c.Type == "Update" {
		k, ok := memory.ByAS2(i.ID, c.Actor)
		if !ok {
			if _, other := memory.ByAS2(i.ID, ""); other {
				return ErrNotAuthor
			}
			return ErrUnknownTarget
		}
		m.Replaces = k.ID
	}
	if k, ok := memory.ByAS2(i.InReplyTo, ""); ok && i.InReplyTo != "" {
		m.InReplyTo = k.ID
	}
	parts := []content.Part{}
	if text := i.html(); text != "" {
		parts = append(parts, content.Part{Disposition: content.Render, Body: content.SinglePart{ContentType: content.TypeHTML, Content: []byte(text)}})
	}
	files := i.Attachments
	if !i.isText() {
		files = append([]Item{*i}, files...)
	}
	for n := range files {
		if p, ok := files[n].part(); ok {
			parts = append(append(parts, p), files[n].previews()...)
		}
	}
	switch len(parts) {
	case 0:
		return ErrIgnore
	case 1:
		m.Body = parts[0]
	default:
		m.Body = content.Part{Disposition: content.Render, Body: content.MultiPart{Semantics: content.ProcessAll, Parts: parts}}
	}
	return nil
}

func knownItem(t string) bool {
	for _, k := range itemTypes {
		if t == k {
			return true
		}
	}
	return false
}

// html is the text of an object with its title and summary before it.
func (i *Item) html() string {
	text := ""
	if i.isText() {
		text = onlyParagraph(i.Content)
		if i.Type == "Article" && i.Name != "" {
			text = "<h3>" + html.EscapeString(i.Name) + "</h3>" + text
		}
	}
	if i.Summary != "" && i.isText() {
		text = "<p><b>" + html.EscapeString(i.Summary) + "</b></p>" + text
	}
	return text
}

// onlyParagraph takes the tags off HTML that is one paragraph: ActivityPub has all text in paragraphs, Matrix only what has several.
func onlyParagraph(text string) string {
	inner, begins := strings.CutPrefix(strings.TrimSpace(text), "<p>")
	inner, ends := strings.CutSuffix(inner, "</p>")
	if !begins || !ends || strings.Contains(inner, "<p") || strings.Contains(inner, "</p>") {
		return text
	}
	return inner
}

// part is a file as a part of MIMI content.
func (i *Item) part() (content.Part, bool) {
	if i.isText() {
		return content.Part{Disposition: content.Render, Body: content.SinglePart{ContentType: content.TypeHTML, Content: []byte(i.Content)}}, i.Content != ""
	}
	d := content.Inline
	if i.Type == "Document" {
		d = content.Attachment
	}
	t := i.MediaType
	if _, err := content.ParseMediaType(t); err != nil {
		t = "application/octet-stream"
	}
	switch {
	case i.Data != nil:
		return content.Part{Disposition: d, Body: content.SinglePart{ContentType: named(t, i.Name), Content: i.Data}}, true
	case i.External != nil:
		x := *i.External
		x.ContentType = t
		return content.Part{Disposition: d, Body: x}, true
	case i.URL != "":
		return content.Part{Disposition: d, Body: content.ExternalPart{ContentType: t, URL: i.URL, Filename: i.Name, Description: i.Summary}}, true
	}
	return content.Part{}, false
}

// previews are the pictures that stand for a file, as parts of MIMI content.
func (i *Item) previews() []content.Part {
	var out []content.Part
	if _, err := content.ParseMediaType(i.PreviewType); err == nil && i.Preview != nil {
		out = append(out, content.Part{Disposition: content.Preview, Body: content.SinglePart{ContentType: i.PreviewType, Content: i.Preview}})
	}
	if i.Blurhash != "" {
		out = append(out, content.Part{Disposition: content.Preview, Body: content.SinglePart{ContentType: typeBlurhash, Content: []byte(i.Blurhash)}})
	}
	return out
}

// typeBlurhash is the media type of a blurhash among the parts of MIMI content.
const typeBlurhash = "text/blurhash"

// named is a media type with the name of the file as its parameter, where that can be written.
func named(mediaType, name string) string {
	t, err := content.ParseMediaType(mediaType)
	if err != nil || name == "" || len(name) > 255 {
		return mediaType
	}
	t.Parameters = map[string]string{"name": name}
	if back, err := content.ParseMediaType(t.String()); err != nil || back.Parameters["name"] != name {
		return mediaType
	}
	return t.String()
}

// announce shows a message of the group, or an address of the web, with the comment of whoever shares it.
func (c *Content) announce(m *content.Message, memory Memory) error {
	text := Sanitize(c.Text)
	switch {
	case isWeb(c.Ref) && validURL(c.Ref):
		a := html.EscapeString(c.Ref)
		text += `<blockquote><a href="` + a + `">` + a + `</a></blockquote>`
	default:
		k, ok := memory.ByAS2(c.Ref, "")
		if !ok {
			return ErrUnknownTarget
		}
		m.InReplyTo = k.ID
		if text == "" {
			text = "<p>🔁</p>"
		}
	}
	m.Body = content.Part{Disposition: content.Render, Body: content.SinglePart{ContentType: content.TypeHTML, Content: []byte(Sanitize(text))}}
	return nil
}

// longText is from how many characters on a text is an Article.
const longText = 5000

// FromMIMI makes ActivityStreams content of MIMI content of ours. id is its MIMI id, actor who said it; mention turns the URI of a user
// into an actor's id and a handle, "" for people who have none.
func FromMIMI(m *content.Message, id content.MessageID, actor string, memory Memory, mention func(uri string) (href, name string)) (*Content, error) {
	c := &Content{Type: "Create", ID: NewID(activityID(id)), Actor: actor}
	switch m.Purpose() {
	case content.React:
		k, ok := memory.ByMIMI(m.InReplyTo)
		if !ok {
			return nil, ErrUnknownTarget
		}
		c.Type, c.Ref, c.ID = "Like", k.AS2, NewID(id)
		if s, ok := m.Body.Body.(content.SinglePart); ok {
			c.Text = string(s.Content)
		}
		return c, nil
	case content.Unlike, content.EditReaction:
		k, ok := memory.ByMIMI(m.Replaces)
		if !ok {
			return nil, ErrUnknownTarget
		}
		c.Type, c.Ref, c.RefType, c.RefObject, c.RefContent = "Undo", k.AS2, "Like", k.Like, k.Emoji
		return c, nil
	case content.Delete:
		k, ok := memory.ByMIMI(m.Replaces)
		if !ok {
			return nil, ErrUnknownTarget
		}
		c.Type, c.Ref = "Delete", k.AS2
		return c, nil
	case content.Status:
		return nil, ErrIgnore
	}
	item := &Item{Type: "Note", ID: NewID(id), AttributedTo: actor}
	if m.Purpose() == content.Edit {
		k, ok := memory.ByMIMI(m.Replaces)
		if !ok {
			return nil, ErrUnknownTarget
		}
		c.Type, item.ID = "Update", k.AS2
	}
	if k, ok := memory.ByMIMI(m.InReplyTo); ok && !m.InReplyTo.IsZero() {
		item.InReplyTo = k.AS2
	}
	item.fill(m, mention)
	if item.Content == "" && len(item.Attachments) == 0 {
		return nil, ErrIgnore
	}
	c.Item = item
	return c, nil
}

// activityID is the id of the activity around the object with an id.
func activityID(id content.MessageID) content.MessageID {
	sum := sha256.Sum256(append([]byte("activity"), id[:]...))
	sum[0] = 1
	return sum
}

var preference = content.Preference{MediaTypes: []content.MediaType{
	{Type: "text/html"}, {Type: "text/markdown"}, {Type: "text/plain"}, {Type: "image/*"}, {Type: "audio/*"}, {Type: "video/*"}, {Type: "*/*"},
}}

func (i *Item) fill(m *content.Message, mention func(string) (string, string)) {
	var text []string
	for _, p := range m.Body.Select(preference) {
		switch b := p.Part.Body.(type) {
		case content.SinglePart:
			t, err := content.ParseMediaType(b.ContentType)
			switch {
			case p.Part.Disposition == content.Preview:
				i.addPreview(b)
			case err == nil && t.Type == "text/html":
				text = append(text, Sanitize(string(b.Content)))
			case err == nil && t.Type == "text/markdown":
				text = append(text, htmlOfMarkdown(b.Content))
			case err == nil && t.Type == "text/plain":
				text = append(text, htmlOfPlain(string(b.Content)))
			default:
				i.Attachments = append(i.Attachments, Item{Type: fileType(b.ContentType), MediaType: b.ContentType, Data: b.Content})
			}
		case content.ExternalPart:
			file := Item{Type: fileType(b.ContentType), MediaType: b.ContentType, URL: b.URL, Name: b.Filename, Summary: b.Description}
			if b.EncAlg != content.NoAEAD {
				file.External = &b
			}
			i.Attachments = append(i.Attachments, file)
		}
	}
	i.Content = strings.Join(text, "")
	if len([]rune(i.Content)) > longText {
		i.Type = "Article"
	}
	if mention != nil {
		i.mentions(mention)
	}
}

// addPreview gives a preview to the file before it.
func (i *Item) addPreview(b content.SinglePart) {
	if len(i.Attachments) == 0 {
		return
	}
	file := &i.Attachments[len(i.Attachments)-1]
	switch {
	case strings.HasPrefix(b.ContentType, typeBlurhash) && len(b.Content) <= maxBlurhash:
		file.Blurhash = string(b.Content)
	case strings.HasPrefix(b.ContentType, "image/") && len(b.Content) <= maxPreview:
		file.Preview, file.PreviewType = b.Content, b.ContentType
	}
}

func fileType(mediaType string) string {
	for prefix, t := range map[string]string{"image/": "Image", "audio/": "Audio", "video/": "Video"} {
		if strings.HasPrefix(strings.ToLower(mediaType), prefix) {
			return t
		}
	}
	return "Document"
}

// mentions turns links to users into links to actors, with a tag for each.
func (i *Item) mentions(mention func(string) (string, string)) {
	rest := i.Content
	var b strings.Builder
	for {
		at := strings.Index(rest, `href="mimi://`)
		if at < 0 {
			break
		}
		b.WriteString(rest[:at+len(`href="`)])
		rest = rest[at+len(`href="`):]
		end := strings.IndexByte(rest, '"')
		if end < 0 {
			break
		}
		uri := html.UnescapeString(rest[:end])
		href, name := mention(uri)
		if href == "" {
			b.WriteString(rest[:end])
		} else {
			b.WriteString(html.EscapeString(href))
			if len(i.Tags) < maxTags {
				i.Tags = append(i.Tags, Tag{"Mention", href, name})
			}
		}
		rest = rest[end:]
	}
	b.WriteString(rest)
	i.Content = b.String()
}

// plain is the text of a property that should hold none but may hold HTML.
func plain(s string) string {
	if len(s) > maxHTML {
		s = strings.ToValidUTF8(s[:maxHTML], "")
	}
	return strings.TrimSpace(html.UnescapeString(stripHTML(s)))
}

func stripHTML(s string) string {
	var b strings.Builder
	in := false
	for _, r := range s {
		switch {
		case r == '<':
			in = true
		case r == '>' && in:
			in = false
		case !in:
			b.WriteRune(r)
		}
	}
	return b.String()
}
