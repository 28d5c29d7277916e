package event

import (
	"encoding/json"
	"sort"

	"maunium.net/go/mautrix/id"
)

// mustJSON encodes a value whose type can always be encoded.
func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("encode Matrix content: " + err.Error())
	}
	return b
}

type wireInfo struct {
	Mimetype  string         `json:"mimetype,omitempty"`
	Size      int64          `json:"size,omitempty"`
	Width     int64          `json:"w,omitempty"`
	Height    int64          `json:"h,omitempty"`
	Duration  int64          `json:"duration,omitempty"`
	Blurhash  string         `json:"xyz.amorgan.blurhash,omitempty"`
	ThumbURL  string         `json:"thumbnail_url,omitempty"`
	ThumbFile *EncryptedFile `json:"thumbnail_file,omitempty"`
	ThumbInfo *wireInfo      `json:"thumbnail_info,omitempty"`
}

type wireAudio struct {
	Duration int64 `json:"duration,omitempty"`
	Waveform []int `json:"waveform,omitempty"`
}

type wireMentions struct {
	Users []id.UserID `json:"user_ids,omitempty"`
	Room  bool        `json:"room,omitempty"`
}

type wireTimer struct {
	Type  string `json:"type"`
	Timer int64  `json:"timer"`
}

type wireMessage struct {
	MsgType   string          `json:"msgtype,omitempty"`
	Body      string          `json:"body"`
	Format    string          `json:"format,omitempty"`
	HTML      string          `json:"formatted_body,omitempty"`
	Filename  string          `json:"filename,omitempty"`
	URL       string          `json:"url,omitempty"`
	File      *EncryptedFile  `json:"file,omitempty"`
	Info      *wireInfo       `json:"info,omitempty"`
	GeoURI    string          `json:"geo_uri,omitempty"`
	Mentions  *wireMentions   `json:"m.mentions,omitempty"`
	RelatesTo json.RawMessage `json:"m.relates_to,omitempty"`
	New       *wireMessage    `json:"m.new_content,omitempty"`
	Timer     *wireTimer      `json:"com.beeper.disappearing_timer,omitempty"`
	Origin    *Origin         `json:"im.mimi.message,omitempty"`
	Voice     *struct{}       `json:"org.matrix.msc3245.voice,omitempty"`
	Audio     *wireAudio      `json:"org.matrix.msc1767.audio,omitempty"`
	Spoiler   bool            `json:"page.codeberg.everypizza.msc4193.spoiler,omitempty"`
}

// Encode returns the content of the message as JSON. Reading it again gives an
// equal message (save for Raw, which is not written).
func (m Message) Encode() json.RawMessage { return mustJSON(m.wire()) }

func (m Message) wire() *wireMessage {
	w := &wireMessage{MsgType: m.MsgType, Body: m.Body, GeoURI: m.GeoURI, RelatesTo: m.Relation.Encode(), Origin: m.Origin}
	if m.HTML != "" {
		w.Format, w.HTML = FormatHTML, m.HTML
	}
	if m.Mentions != nil {
		w.Mentions = &wireMentions{Users: m.Mentions.Users, Room: m.Mentions.Room}
	}
	if m.NewContent != nil {
		w.New = m.NewContent.wire()
	}
	if m.Timer != nil {
		w.Timer = &wireTimer{Type: "after_send", Timer: m.Timer.Milliseconds}
		if m.Timer.AfterRead {
			w.Timer.Type = "after_read"
		}
	}
	if f := m.Media; f != nil {
		w.Filename, w.URL, w.File, w.Spoiler, w.Info = f.Filename, f.URL, f.File, f.Spoiler, f.info()
		if t := f.Thumbnail; t != nil {
			w.Info.ThumbURL, w.Info.ThumbFile, w.Info.ThumbInfo = t.URL, t.File, t.info()
		}
		if f.Voice {
			w.Voice = &struct{}{}
		}
		if f.Voice || len(f.Waveform) > 0 {
			w.Audio = &wireAudio{Duration: f.Duration, Waveform: f.Waveform}
		}
	}
	return w
}

func (m *Media) info() *wireInfo {
	return &wireInfo{Mimetype: m.Mimetype, Size: m.Size, Width: m.Width, Height: m.Height, Duration: m.Duration, Blurhash: m.Blurhash}
}

// EncodeReaction is the content of an m.reaction.
func EncodeReaction(target id.EventID, key string, origin *Origin) json.RawMessage {
	return mustJSON(struct {
		RelatesTo json.RawMessage `json:"m.relates_to"`
		Origin    *Origin         `json:"im.mimi.message,omitempty"`
	}{Relation{Annotates: target, Key: key}.Encode(), origin})
}

// Send states of [EncodeSendStatus], as clients of mautrix bridges know them.
const (
	StatusSuccess   = "SUCCESS"
	StatusPending   = "PENDING"
	StatusRetriable = "FAIL_RETRIABLE"
	StatusFail      = "FAIL_PERMANENT"
)

// SendStatus tells a sender what became of an event
// (`com.beeper.message_send_status`).
type SendStatus struct {
	// Event is the event in question.
	Event id.EventID
	// Status is one of [StatusSuccess], [StatusPending], [StatusRetriable], [StatusFail].
	Status string
	// Reason is a closed word such as `m.no_permission`, `m.event_too_old`,
	// `m.foreign_network_error`, `com.beeper.unsupported_event`; "" on success.
	Reason string
	// Message is one sentence for the sender.
	Message string
	// Network names the network; the bridge writes "mimi".
	Network string
	// Delivered lists the users known to have the event; nil if not tracked.
	Delivered []id.UserID
}

// Encode returns the content of the status event.
func (s SendStatus) Encode() json.RawMessage {
	var w struct {
		Network   string          `json:"network,omitempty"`
		RelatesTo json.RawMessage `json:"m.relates_to"`
		Status    string          `json:"status"`
		Reason    string          `json:"reason,omitempty"`
		Message   string          `json:"message,omitempty"`
		Delivered *[]id.UserID    `json:"delivered_to_users,omitempty"`
	}
	w.Network, w.Status, w.Reason, w.Message = s.Network, s.Status, s.Reason, s.Message
	w.RelatesTo = Relation{References: s.Event}.Encode()
	if s.Delivered != nil {
		w.Delivered = &s.Delivered
	}
	return mustJSON(w)
}

// BridgeInfo is the content of `m.bridge` (MSC2346): what a portal is joined to.
type BridgeInfo struct {
	Bot     id.UserID
	Creator id.UserID
	// RoomURI is the MIMI room, Name its name, Provider the domain of its hub.
	RoomURI, Name, Provider string
	// DM marks a conversation of two.
	DM bool
}

// StateKey is the state key under which the content is written.
func (b BridgeInfo) StateKey() string { return cut("mimi:"+b.RoomURI, MaxIdentifier) }

// Encode returns the content of the bridge event.
func (b BridgeInfo) Encode() json.RawMessage {
	type section struct {
		ID   string `json:"id"`
		Name string `json:"displayname,omitempty"`
		URL  string `json:"external_url,omitempty"`
	}
	w := struct {
		Bot      id.UserID `json:"bridgebot"`
		Creator  id.UserID `json:"creator,omitempty"`
		Protocol section   `json:"protocol"`
		Network  section   `json:"network"`
		Channel  section   `json:"channel"`
		Type     string    `json:"com.beeper.room_type,omitempty"`
	}{
		Bot: b.Bot, Creator: b.Creator,
		Protocol: section{ID: "mimi", Name: "MIMI"},
		Network:  section{ID: b.Provider, Name: b.Provider},
		Channel:  section{ID: b.RoomURI, Name: b.Name},
	}
	if b.DM {
		w.Type = "dm"
	}
	return mustJSON(w)
}

// Merge returns base with the members of extra written over it.
func Merge(base, extra Object) Object {
	out := make(Object, len(base)+len(extra))
	for k, v := range base {
		out[k] = v
	}
	for k, v := range extra {
		out[k] = v
	}
	return out
}

// Encode returns the object as JSON with its members sorted.
func (o Object) Encode() json.RawMessage {
	keys := make([]string, 0, len(o))
	for k := range o {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	b := []byte{'{'}
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, mustJSON(k)...), ':')
		b = append(b, o[k]...)
	}
	return append(b, '}')
}
