package mapping

import (
	"encoding/json"
	"strings"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// mediaInfo is what keyInfo holds.
type mediaInfo struct {
	Width    int64  `json:"w,omitempty"`
	Height   int64  `json:"h,omitempty"`
	Duration int64  `json:"duration,omitempty"`
	Blurhash string `json:"blurhash,omitempty"`
	Voice    bool   `json:"voice,omitempty"`
	Waveform []int  `json:"waveform,omitempty"`
	Spoiler  bool   `json:"spoiler,omitempty"`
	MsgType  string `json:"msgtype,omitempty"`
}

// typeBlurhash is the media type of a blurhash preview, as the Air messenger
// sends it.
const typeBlurhash = "text/blurhash"

// FilesOf lists the files of a message event that must be uploaded before
// [Room.ToMIMI] can map it; none for other events.
func FilesOf(e event.Event) []File {
	m, ok := e.Message()
	if !ok {
		return nil
	}
	if m.NewContent != nil {
		m = *m.NewContent
	}
	if m.Media == nil || m.Media.Address() == "" {
		return nil
	}
	return []File{fileOf(m)}
}

func fileOf(m event.Message) File {
	f := File{MXC: m.Media.Address(), Encrypted: m.Media.File, Mimetype: m.Media.Mimetype, Name: m.Name(), Size: m.Media.Size}
	if t := m.Media.Thumbnail; t != nil && t.Address() != "" {
		f.Thumbnail = &File{MXC: t.Address(), Encrypted: t.File, Mimetype: t.Mimetype, Size: t.Size}
	}
	return f
}

// media maps a message with a file. It needs the file in the asset store.
func (o *out) media(m event.Message) (content.Part, Kind, *Outgoing) {
	f := fileOf(m)
	up, ok := o.files(f.MXC)
	if !ok {
		return content.Part{}, KindMedia, &Outgoing{Needs: []File{f}}
	}
	part := up.Part
	sticker := m.MsgType == ""
	d := content.Inline
	switch {
	case sticker:
		part.Description = html.Line(m.Body, 1000)
		setPrivate(o.ext, keyMsgType, event.TypeSticker)
	case m.MsgType == event.MsgFile:
		d = content.Attachment
	}
	if !sticker {
		part.Filename = safeFilename(m.Name())
	}
	if part.ContentType == "" {
		part.ContentType = mediaTypeOf(m)
	}
	o.info(m)
	parts := []content.Part{{Disposition: d, Body: part}}
	if text, rich := m.Caption(); !sticker && (text != "" || rich != "") {
		if caption, ok := o.formatted(event.Message{MsgType: event.MsgText, Body: text, HTML: rich, Mentions: m.Mentions}, text, ""); ok {
			parts = append(parts, caption)
		}
	}
	if len(up.Preview) > 0 {
		parts = append(parts, content.Part{Disposition: content.Preview, Body: content.SinglePart{ContentType: up.PreviewType, Content: up.Preview}})
	}
	if hash := m.Media.Blurhash; hash != "" {
		parts = append(parts, single(content.Preview, typeBlurhash, hash))
	}
	if len(parts) == 1 {
		return parts[0], KindMedia, nil
	}
	return content.Part{Disposition: content.Render, Body: content.MultiPart{Semantics: content.ProcessAll, Parts: parts}}, KindMedia, nil
}

// info stores what an external part has no room for.
func (o *out) info(m event.Message) {
	i := mediaInfo{
		Width: m.Media.Width, Height: m.Media.Height, Duration: m.Media.Duration,
		Voice: m.Media.Voice, Waveform: m.Media.Waveform, Spoiler: m.Media.Spoiler, MsgType: m.MsgType,
	}
	b, err := json.Marshal(i)
	if err == nil && string(b) != "{}" {
		setPrivate(o.ext, keyInfo, string(b))
	}
}

// mediaTypeOf is the media type that a sender gave, or what its kind suggests.
func mediaTypeOf(m event.Message) string {
	if t, err := content.ParseMediaType(m.Media.Mimetype); err == nil {
		return t.String()
	}
	if t := byExtension[extension(m.Name())]; t != "" {
		return t
	}
	switch m.MsgType {
	case event.MsgImage, "":
		return "image/png"
	case event.MsgVideo:
		return "video/mp4"
	case event.MsgAudio:
		return "audio/ogg"
	}
	return "application/octet-stream"
}

// byExtension are the media types of usual files.
var byExtension = map[string]string{
	".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp", ".avif": "image/avif",
	".mp4": "video/mp4", ".webm": "video/webm", ".mov": "video/quicktime", ".ogg": "audio/ogg", ".opus": "audio/ogg", ".mp3": "audio/mpeg",
	".m4a": "audio/mp4", ".wav": "audio/wav", ".flac": "audio/flac", ".pdf": "application/pdf", ".zip": "application/zip",
	".txt": "text/plain", ".md": "text/markdown", ".vcf": "text/vcard", ".ics": "text/calendar", ".json": "application/json",
}

func extension(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return strings.ToLower(name[i:])
	}
	return ""
}

// safeFilename is a file name without path and tricks.
func safeFilename(name string) string {
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	name = html.Line(strings.Map(func(r rune) rune {
		if strings.ContainsRune("<>:\"|?*\u202e\u202d\u2066\u2067\u2068", r) {
			return '_'
		}
		return r
	}, name), 200)
	if strings.Trim(name, ". ") == "" {
		return ""
	}
	return name
}
