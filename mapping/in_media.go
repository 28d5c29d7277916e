package mapping

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// preference is what the bridge understands, best first. Everything can at
// least be handed on as a file.
func (i *in) preference() content.Preference {
	var p content.Preference
	for _, s := range []string{content.TypeMarkdownMIMI, content.TypeMarkdown, "text/markdown", "text/html", "text/plain", "image/*", "video/*", "audio/*"} {
		if t, err := content.ParseMediaType(s); err == nil {
			p.MediaTypes = append(p.MediaTypes, t)
		}
	}
	p.MediaTypes = append(p.MediaTypes, content.MediaType{Type: "text/*"}, content.MediaType{Type: "*/*"})
	p.Languages = i.room.Languages
	return p
}

// render maps the body to events without relations.
func (i *in) render() []Out {
	body := typed(i.Message.Body)
	selected := body.Select(i.preference())
	if len(selected) == 0 {
		if _, empty := i.Message.Body.Body.(content.NullPart); empty {
			return nil
		}
		return []Out{notice("unsupported message" + i.typeNote())}
	}
	parts := body.Flatten()
	var texts, files, previews []*content.Part
	var order []*content.Part
	for _, sel := range selected {
		for _, ref := range sel.References { // images that a text shows come before it
			order = append(order, parts[ref].Part)
		}
		order = append(order, sel.Part)
	}
	var rest []*content.Part
	for _, p := range order {
		switch {
		case p.Disposition == content.Profile:
		case p.Disposition == content.Preview || isBlurhash(p):
			previews = append(previews, p)
		case i.Message.Replaces.IsZero() && isBlank(p):
		case isTextPart(p):
			texts, rest = append(texts, p), append(rest, p)
		default:
			files, rest = append(files, p), append(rest, p)
		}
	}
	if len(files) == 1 && len(texts) <= 1 {
		if out, ok := i.captioned(files[0], texts, previews); ok {
			return []Out{out}
		}
	}
	return i.each(rest)
}

// typed gives external parts without a media type one: the draft's own example
// of a session has none.
func typed(p content.Part) content.Part {
	switch b := p.Body.(type) {
	case content.ExternalPart:
		if b.ContentType == "" {
			b.ContentType = "application/octet-stream"
			p.Body = b
		}
	case content.MultiPart:
		parts := make([]content.Part, len(b.Parts))
		for n, c := range b.Parts {
			parts[n] = typed(c)
		}
		p.Body = content.MultiPart{Semantics: b.Semantics, Parts: parts}
	}
	return p
}

// each maps parts one by one.
func (i *in) each(parts []*content.Part) []Out {
	var out []Out
	for n, p := range parts {
		if len(out) == MaxEvents-1 && n < len(parts)-1 {
			return append(out, notice(fmt.Sprintf("(%d more parts of this message are not shown)", len(parts)-n)))
		}
		if isTextPart(p) {
			out = append(out, i.text(p.Body.(content.SinglePart)))
		} else if o, ok := i.file(p); ok {
			out = append(out, o)
		}
	}
	return out
}

func (i *in) typeNote() string {
	for _, p := range i.Message.Body.Flatten() {
		switch b := p.Part.Body.(type) {
		case content.SinglePart:
			return " (type " + html.Apart(html.Line(b.ContentType, 100)) + ")"
		case content.ExternalPart:
			return " (type " + html.Apart(html.Line(b.ContentType, 100)) + ")"
		}
	}
	return ""
}

func isTextPart(p *content.Part) bool {
	s, ok := p.Body.(content.SinglePart)
	return ok && isText(s.ContentType) && p.Disposition != content.Attachment
}

// isBlank tells whether a part is a text that says nothing.
func isBlank(p *content.Part) bool {
	return isTextPart(p) && strings.TrimSpace(string(p.Body.(content.SinglePart).Content)) == ""
}

func isBlurhash(p *content.Part) bool {
	s, ok := p.Body.(content.SinglePart)
	return ok && strings.HasPrefix(strings.ToLower(s.ContentType), typeBlurhash)
}

// captioned maps one file with at most one text beside it to one event.
func (i *in) captioned(file *content.Part, texts, previews []*content.Part) (Out, bool) {
	o, ok := i.file(file)
	if !ok || o.File == nil {
		return Out{}, false
	}
	for _, p := range previews {
		s, ok := p.Body.(content.SinglePart)
		switch {
		case !ok:
		case isBlurhash(p):
			if o.Message.Media.Blurhash == "" && len(s.Content) <= 256 {
				o.Message.Media.Blurhash = html.Line(string(s.Content), 256)
			}
		case strings.HasPrefix(s.ContentType, "image/") && len(s.Content) <= 256<<10:
			o.File.Thumbnail, o.File.ThumbnailType = s.Content, mimeType(s.ContentType)
		}
	}
	if len(texts) == 0 || o.Type == event.TypeSticker {
		return o, len(texts) == 0
	}
	caption := i.text(texts[0].Body.(content.SinglePart))
	if caption.File != nil {
		return Out{}, false
	}
	media := o.Message.Media
	if media.Filename == "" {
		media.Filename = o.Message.Body
	}
	o.Message.Body, o.Message.HTML, o.Message.Mentions = caption.Message.Body, caption.Message.HTML, caption.Message.Mentions
	return o, true
}

// mimeType is a media type without parameters, fit to be shown.
func mimeType(s string) string {
	t, err := content.ParseMediaType(s)
	if err != nil {
		return "application/octet-stream"
	}
	return t.Type
}

// file maps a part that is no text. A session becomes text.
func (i *in) file(p *content.Part) (Out, bool) {
	f := &Fetch{}
	var description string
	switch b := p.Body.(type) {
	case content.SinglePart:
		f.Inline, f.Mimetype = b.Content, mimeType(b.ContentType)
		if t, err := content.ParseMediaType(b.ContentType); err == nil {
			f.Name = safeFilename(t.Parameters["name"])
		}
	case content.ExternalPart:
		if p.Disposition == content.Session {
			return i.session(b), true
		}
		part := b
		f.External, f.Mimetype, f.Name, description = &part, mimeType(b.ContentType), safeFilename(b.Filename), b.Description
	default:
		return Out{}, false
	}
	if f.Name == "" {
		f.Name = defaultName(f.Mimetype)
	}
	m := &event.Message{MsgType: msgTypeOf(f.Mimetype, p.Disposition), Body: f.Name, Media: &event.Media{Filename: f.Name, Mimetype: f.Mimetype}}
	if f.External != nil {
		m.Media.Size = int64(min(f.External.Size, 1<<53-1))
	} else {
		m.Media.Size = int64(len(f.Inline))
	}
	i.media(m)
	if d := strings.TrimSpace(description); d != "" && d != f.Name {
		m.Body = html.Line(d, 4000)
	}
	o := Out{Type: event.TypeMessage, Message: m, File: f, Memory: Memory{Kind: KindMedia, Disposition: p.Disposition}}
	if private(i.Message.Extensions, keyMsgType) == event.TypeSticker && m.MsgType == event.MsgImage {
		o.Type, m.MsgType, m.Media.Filename = event.TypeSticker, "", ""
	}
	return o, true
}

// media puts in what another bridge said of a file.
func (i *in) media(m *event.Message) {
	var info mediaInfo
	raw := private(i.Message.Extensions, keyInfo)
	if raw == "" || json.Unmarshal([]byte(raw), &info) != nil {
		return
	}
	plausible := func(n, most int64) int64 {
		if n < 0 || n > most {
			return 0
		}
		return n
	}
	f := m.Media
	f.Width, f.Height = plausible(info.Width, 1<<16), plausible(info.Height, 1<<16)
	f.Duration = plausible(info.Duration, 7*24*3600*1000)
	if len(info.Blurhash) <= 256 {
		f.Blurhash = html.Line(info.Blurhash, 256)
	}
	f.Spoiler = info.Spoiler
	if m.MsgType == event.MsgAudio {
		f.Voice = info.Voice
		for _, n := range info.Waveform {
			if n < 0 || n > 1024 || len(f.Waveform) >= 256 {
				f.Waveform = nil
				break
			}
			f.Waveform = append(f.Waveform, n)
		}
	}
}

func msgTypeOf(mediaType string, d content.Disposition) string {
	if d == content.Attachment {
		return event.MsgFile
	}
	switch kind, _, _ := strings.Cut(mediaType, "/"); kind {
	case "image":
		return event.MsgImage
	case "video":
		return event.MsgVideo
	case "audio":
		return event.MsgAudio
	}
	return event.MsgFile
}

func defaultName(mediaType string) string {
	for ext, t := range map[string]string{".png": "image/png", ".jpg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp", ".mp4": "video/mp4",
		".ogg": "audio/ogg", ".mp3": "audio/mpeg", ".pdf": "application/pdf", ".vcf": "text/vcard", ".ics": "text/calendar"} {
		if t == mediaType {
			kind, _, _ := strings.Cut(mediaType, "/")
			switch kind {
			case "text", "application":
				kind = "file"
			}
			return kind + ext
		}
	}
	return "file"
}

// session maps an invitation to a call or conference to a text with its address.
func (i *in) session(p content.ExternalPart) Out {
	p.URL = strings.ToValidUTF8(p.URL, "")
	text := html.Line(p.Description, 1000)
	if text == "" {
		text = "A session to join"
	}
	m := &event.Message{MsgType: event.MsgText, Body: text}
	if html.SafeLink(p.URL) && (strings.HasPrefix(p.URL, "https://") || strings.HasPrefix(p.URL, "http://")) {
		m.Body += ": " + p.URL
	}
	return Out{Type: event.TypeMessage, Message: m, Memory: Memory{Kind: KindText, Disposition: content.Session}}
}
