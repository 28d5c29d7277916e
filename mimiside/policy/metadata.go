package policy

import (
	"slices"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// RichDescription is a description of the room in one format and language (draft-ietf-mimi-protocol-06 §5.4).
type RichDescription struct {
	// MediaType of Content; empty means text/plain;charset=utf-8.
	MediaType string
	// LanguageTag is an RFC 5646 tag, may be empty.
	LanguageTag string
	Content     []byte
}

// RoomMetaData is the data of component 0x0023 and its update (draft-ietf-mimi-protocol-06 §5.4, RoomMetaData
// and RoomMetaUpdate): an update replaces everything, and a commit has at most one.
type RoomMetaData struct {
	// RoomURI names the room and never changes.
	RoomURI      string
	RoomName     string
	Descriptions []RichDescription
	// RoomAvatar is an https URL, may be empty.
	RoomAvatar  string
	RoomSubject string
	RoomMood    string
}

// Marshal encodes the metadata.
func (m *RoomMetaData) Marshal() []byte {
	b := tlspl.AppendString(nil, m.RoomURI)
	b = tlspl.AppendString(b, m.RoomName)
	b = appendList(b, m.Descriptions, func(b []byte, d RichDescription) []byte {
		b = tlspl.AppendString(tlspl.AppendString(b, d.MediaType), d.LanguageTag)
		return tlspl.AppendOpaque(b, d.Content)
	})
	b = tlspl.AppendString(b, m.RoomAvatar)
	b = tlspl.AppendString(b, m.RoomSubject)
	return tlspl.AppendString(b, m.RoomMood)
}

// UnmarshalRoomMetaData decodes metadata.
func UnmarshalRoomMetaData(b []byte) (*RoomMetaData, error) {
	r := tlspl.NewReader(b)
	m := &RoomMetaData{
		RoomURI:  readURI(r),
		RoomName: readText(r, MaxText),
		Descriptions: readList(r, MaxList, func(r *tlspl.Reader) RichDescription {
			return RichDescription{MediaType: readText(r, MaxName), LanguageTag: readText(r, MaxName), Content: slices.Clone(r.Opaque(MaxText))}
		}),
		RoomAvatar:  readText(r, MaxText),
		RoomSubject: readText(r, MaxText),
		RoomMood:    readText(r, MaxText),
	}
	if err := finish("room_metadata", r); err != nil {
		return nil, err
	}
	return m, nil
}

// changedCapabilities lists the capabilities that changing m into next needs; uri tells that the room URI
// differs, which nobody may change.
func (m *RoomMetaData) changedCapabilities(next *RoomMetaData) (need []Capability, uri bool) {
	sameDescriptions := slices.EqualFunc(m.Descriptions, next.Descriptions, func(x, y RichDescription) bool {
		return x.MediaType == y.MediaType && x.LanguageTag == y.LanguageTag && string(x.Content) == string(y.Content)
	})
	for _, f := range []struct {
		changed bool
		need    Capability
	}{
		{m.RoomName != next.RoomName, CanChangeRoomName},
		{!sameDescriptions, CanChangeRoomDescription},
		{m.RoomAvatar != next.RoomAvatar, CanChangeRoomAvatar},
		{m.RoomSubject != next.RoomSubject, CanChangeRoomSubject},
		{m.RoomMood != next.RoomMood, CanChangeRoomMood},
	} {
		if f.changed {
			need = append(need, f.need)
		}
	}
	return need, m.RoomURI != next.RoomURI
}
