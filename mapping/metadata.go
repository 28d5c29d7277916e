package mapping

import (
	"slices"
	"strings"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// Bounds on the text of room metadata, in octets.
const (
	maxRoomName  = 1000
	maxRoomTopic = 16 << 10
)

// Metadata returns the metadata of a room after Matrix changed name, topic or
// avatar. Fields that Matrix does not know are carried over; avatar is the
// https address of the picture, made elsewhere. The room URI never changes.
func Metadata(before policy.RoomMetaData, m event.Room, avatar string) policy.RoomMetaData {
	next := before
	next.RoomName = trim(m.Name, maxRoomName)
	next.RoomSubject = trim(m.Topic, maxRoomTopic)
	next.RoomAvatar = avatar
	if m.Mood != "" {
		next.RoomMood = trim(m.Mood, maxRoomName)
	}
	next.Descriptions = slices.DeleteFunc(slices.Clone(before.Descriptions), func(d policy.RichDescription) bool { return d.LanguageTag == "" })
	if m.TopicHTML != "" {
		md := html.ToMarkdown(m.TopicHTML, nil)
		if !md.Plain && len(md.Text) <= maxRoomTopic {
			next.Descriptions = append(next.Descriptions, policy.RichDescription{MediaType: content.TypeMarkdownMIMI, Content: []byte(md.Text)})
		}
	} else if m.Topic == before.RoomSubject {
		// The topic is as it was: so is what describes it.
		next.Descriptions = slices.Clone(before.Descriptions)
	}
	return next
}

// trim makes a text fit for MIMI metadata: valid UTF-8 without NUL, bounded.
func trim(s string, n int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
	if len(s) <= n {
		return s
	}
	cut := s[:n]
	return strings.ToValidUTF8(cut, "")
}

// Shown is the metadata of a MIMI room as Matrix shows it.
type Shown struct {
	// Name, Topic and Mood are clean text; TopicHTML is sanitised, "" if the topic
	// has no formatting.
	Name, Topic, TopicHTML, Mood string
	// Avatar is the https address of the picture, "" for none.
	Avatar string
}

// ShowMetadata maps the metadata of a room for its portal. languages are the
// preferred ones, best first, for the choice among descriptions.
func ShowMetadata(m policy.RoomMetaData, languages []string) Shown {
	s := Shown{Name: html.Name(m.RoomName), Mood: html.Line(m.RoomMood, 200), Topic: strings.TrimSpace(trim(m.RoomSubject, maxRoomTopic))}
	if strings.HasPrefix(m.RoomAvatar, "https://") && html.SafeLink(m.RoomAvatar) {
		s.Avatar = m.RoomAvatar
	}
	if d := description(m.Descriptions, languages); d != nil {
		text, rich := describe(*d)
		if s.Topic == "" || normalText(text) == normalText(s.Topic) {
			s.TopicHTML = rich
		}
		if s.Topic == "" {
			s.Topic = text
		}
	}
	return s
}

func normalText(s string) string { return strings.Join(strings.Fields(s), " ") }

// description chooses by language, then by what is best to show.
func description(list []policy.RichDescription, languages []string) *policy.RichDescription {
	best, score := -1, 0
	for i, d := range list {
		t, err := content.ParseMediaType(d.MediaType)
		if d.MediaType == "" {
			t, err = content.MediaType{Type: "text/plain"}, nil
		}
		rank := slices.Index([]string{"text/plain", "text/html", "text/markdown"}, t.Type) + 1
		if err != nil || rank == 0 {
			continue
		}
		lang := 1
		if n := slices.IndexFunc(languages, func(l string) bool { return strings.EqualFold(l, d.LanguageTag) }); n >= 0 {
			lang = 2 + len(languages) - n
		} else if d.LanguageTag == "" {
			lang = 2
		}
		if points := lang*10 + rank; points > score {
			best, score = i, points
		}
	}
	if best < 0 {
		return nil
	}
	return &list[best]
}

func describe(d policy.RichDescription) (text, rich string) {
	raw := trim(string(d.Content), maxRoomTopic)
	t, _ := content.ParseMediaType(d.MediaType)
	switch t.Type {
	case "text/html":
		rich = html.Sanitize(raw)
	case "text/markdown":
		rich = html.FromMarkdown(raw, nil)
	default:
		return strings.TrimSpace(raw), ""
	}
	return html.Text(rich), rich
}

// TopicContent is the content of m.room.topic for a topic, with its HTML where
// there is one (Matrix spec v1.15, rich topics).
func TopicContent(s Shown) []byte {
	o := event.Object{"topic": quote(s.Topic)}
	if s.TopicHTML != "" {
		list := `[{"mimetype":"text/html","body":` + string(quote(s.TopicHTML)) + `},{"body":` + string(quote(s.Topic)) + `}]`
		o["m.topic"] = event.Object{"m.text": []byte(list)}.Encode()
	}
	return o.Encode()
}
