package event

import (
	"encoding/json"

	"maunium.net/go/mautrix/id"
)

// Kinds of message (`msgtype`).
const (
	MsgText     = "m.text"
	MsgNotice   = "m.notice"
	MsgEmote    = "m.emote"
	MsgImage    = "m.image"
	MsgVideo    = "m.video"
	MsgAudio    = "m.audio"
	MsgFile     = "m.file"
	MsgLocation = "m.location"
)

// FormatHTML is the only `format` of a formatted body.
const FormatHTML = "org.matrix.custom.html"

// MaxMentions is the largest number of users that is read from `m.mentions`.
const MaxMentions = 1000

// Message is the content of m.room.message and of m.sticker. It is both what
// is read and what is written.
type Message struct {
	// MsgType is the kind, "" for a sticker.
	MsgType string
	// Body is the plain text; for media the caption or the file name.
	Body string
	// HTML is the formatted body as received: not sanitised. "" if there is none.
	HTML string
	// Media is set for images, videos, audio, files and stickers.
	Media *Media
	// GeoURI is the place of a location.
	GeoURI string
	// Mentions is nil when the sender's client knows no `m.mentions`.
	Mentions *Mentions
	// Relation says which events this one answers, edits or continues.
	Relation Relation
	// NewContent is what an edit replaces the old content with.
	NewContent *Message
	// Timer says that the message disappears.
	Timer *Timer
	// Origin marks an event that came out of a MIMI room.
	Origin *Origin
	// Raw is the content as received, for what the other fields do not hold.
	Raw Object
}

// Media describes a file of a message.
type Media struct {
	// URL is the mxc:// address of a file that is not encrypted.
	URL string
	// File describes an encrypted file instead.
	File *EncryptedFile
	// Filename is the name of the file, if the event gave one apart from the body.
	Filename string
	Mimetype string
	// Size is the number of octets, 0 if not known.
	Size int64
	// Width and Height are in pixels, Duration in milliseconds; 0 if not known.
	Width, Height, Duration int64
	// Blurhash is `xyz.amorgan.blurhash`, or `blurhash` where only that is given (MSC2448).
	Blurhash string
	// Thumbnail is a smaller image of the same.
	Thumbnail *Media
	// Voice marks a voice message (MSC3245); Waveform has its amplitudes, 0 to 1024.
	Voice    bool
	Waveform []int
	// Spoiler marks media that should be hidden until looked at (MSC3725).
	Spoiler bool
}

// EncryptedFile is the `file` of an encrypted attachment
// (Matrix spec, "Sending encrypted attachments").
type EncryptedFile struct {
	URL string `json:"url"`
	Key struct {
		Algorithm   string   `json:"alg"`
		Extractable bool     `json:"ext"`
		KeyType     string   `json:"kty"`
		KeyOps      []string `json:"key_ops"`
		Key         string   `json:"k"`
	} `json:"key"`
	IV      string            `json:"iv"`
	Hashes  map[string]string `json:"hashes"`
	Version string            `json:"v"`
}

// Mentions is `m.mentions`: who is meant to notice the event.
type Mentions struct {
	Users []id.UserID
	Room  bool
}

// Timer is `com.beeper.disappearing_timer`: a message that disappears.
type Timer struct {
	// AfterRead starts the time when the message is read, else it starts when it is sent.
	AfterRead bool
	// Milliseconds is how long the message stays.
	Milliseconds int64
}

// Origin is the mark `im.mimi.message` on events that the bridge made from a
// MIMI message. A bridge that meets the mark of a room it serves knows that it
// looks at its own work.
type Origin struct {
	// ID is the MIMI message id in lower-case hexadecimal.
	ID string `json:"id"`
	// Part is the number of the event among those made from the message.
	Part int `json:"part,omitempty"`
	// Room is the URI of the MIMI room.
	Room string `json:"room,omitempty"`
}

// Message reads the content of an m.room.message or m.sticker. It returns
// false for every other type and for a message without kind or body.
func (e Event) Message() (Message, bool) {
	if e.StateKey != nil || (e.Type != TypeMessage && e.Type != TypeSticker) {
		return Message{}, false
	}
	m := ParseMessage(e.Content)
	if e.Type == TypeSticker {
		m.MsgType = ""
		if m.Media == nil {
			m.Media = parseMedia(e.Content)
		}
		return m, m.Media != nil
	}
	return m, m.MsgType != ""
}

// ParseMessage reads the content of a message.
func ParseMessage(o Object) Message {
	m := parseBare(o)
	m.Relation = ParseRelation(o)
	if inner := o.Obj("m.new_content"); inner != nil && m.Relation.Replaces != "" {
		n := parseBare(inner)
		m.NewContent = &n
	}
	return m
}

func parseBare(o Object) Message {
	m := Message{MsgType: o.Str("msgtype"), Body: o.Str("body"), Raw: o}
	if o.Str("format") == FormatHTML {
		m.HTML = o.Str("formatted_body")
	}
	switch m.MsgType {
	case MsgImage, MsgVideo, MsgAudio, MsgFile:
		m.Media = parseMedia(o)
	case MsgLocation:
		m.GeoURI = o.Str("geo_uri")
	}
	if mo := o.Obj("m.mentions"); mo != nil {
		m.Mentions = &Mentions{Room: mo.Bool("room")}
		seen := map[id.UserID]bool{}
		for _, s := range mo.Strings("user_ids", MaxMentions) {
			if u := id.UserID(s); ValidUserID(u) && !seen[u] {
				seen[u] = true
				m.Mentions.Users = append(m.Mentions.Users, u)
			}
		}
	}
	if t := o.Obj("com.beeper.disappearing_timer"); t != nil {
		if ms, ok := t.Int("timer"); ok && ms > 0 {
			m.Timer = &Timer{AfterRead: t.Str("type") == "after_read", Milliseconds: ms}
		}
	}
	if g := o.Obj("im.mimi.message"); g != nil {
		part, _ := g.Int("part")
		if part < 0 || part > 1<<16 {
			part = 0
		}
		m.Origin = &Origin{ID: cut(g.Str("id"), 64), Part: int(part), Room: cut(g.Str("room"), 1024)}
	}
	return m
}

func parseMedia(o Object) *Media {
	m := readMedia(o, "url", "file", o.Obj("info"))
	if m == nil {
		return nil
	}
	m.Filename = o.Str("filename")
	m.Voice = o.Has("org.matrix.msc3245.voice")
	m.Spoiler = o.Bool("page.codeberg.everypizza.msc4193.spoiler") || o.Bool("town.robin.msc3725.content_warning")
	audio := o.Obj("org.matrix.msc1767.audio")
	if d, ok := audio.Int("duration"); ok && m.Duration == 0 {
		m.Duration = positive(d)
	}
	for _, raw := range audio.Array("waveform", 256) {
		n, ok := Object{"v": raw}.Int("v")
		if !ok || n < 0 || n > 1024 {
			m.Waveform = nil
			break
		}
		m.Waveform = append(m.Waveform, int(n))
	}
	if info := o.Obj("info"); info != nil {
		if t := readMedia(info, "thumbnail_url", "thumbnail_file", info.Obj("thumbnail_info")); t != nil {
			m.Thumbnail = t
		}
	}
	return m
}

func readMedia(o Object, url, file string, info Object) *Media {
	m := Media{URL: o.Str(url), Mimetype: cut(info.Str("mimetype"), MaxIdentifier), Blurhash: cut(info.Str("xyz.amorgan.blurhash"), 256)}
	if m.Blurhash == "" {
		m.Blurhash = cut(info.Str("blurhash"), 256)
	}
	if raw := o[file]; len(raw) > 0 && o.Obj(file) != nil {
		var f EncryptedFile
		if json.Unmarshal(raw, &f) == nil && f.URL != "" {
			m.File, m.URL = &f, ""
		}
	}
	if m.File == nil && m.URL == "" {
		return nil
	}
	for key, to := range map[string]*int64{"size": &m.Size, "w": &m.Width, "h": &m.Height, "duration": &m.Duration} {
		n, _ := info.Int(key)
		*to = positive(n)
	}
	return &m
}

func positive(n int64) int64 { return max(0, n) }

// Address is the mxc:// address of the file, encrypted or not.
func (m *Media) Address() string {
	if m == nil {
		return ""
	}
	if m.File != nil {
		return m.File.URL
	}
	return m.URL
}

// Name is the file name of a media message: the explicit one, else the body.
func (m Message) Name() string {
	if m.Media != nil && m.Media.Filename != "" {
		return m.Media.Filename
	}
	return m.Body
}

// Caption is the text beside a file and its HTML, both empty if the body is
// only the file name (Matrix spec v1.10, "Media captions").
func (m Message) Caption() (text, html string) {
	if m.Media == nil || m.Media.Filename == "" || (m.Media.Filename == m.Body && m.HTML == "") {
		return "", ""
	}
	return m.Body, m.HTML
}
