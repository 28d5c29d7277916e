package mls

import (
	"fmt"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// MediaTypeParameter is one parameter of a MediaType, its value without quotes and escapes.
type MediaTypeParameter struct {
	Name  string
	Value string
}

// MediaType is a media type in the encoding of draft-ietf-mls-extensions-10 §4.2.2: Type is "text/plain".
type MediaType struct {
	Type       string
	Parameters []MediaTypeParameter
}

func readMediaType(r *tlspl.Reader) MediaType {
	return MediaType{
		Type: string(r.Opaque(-1)),
		Parameters: readList(r, maxMediaTypes, func(r *tlspl.Reader) MediaTypeParameter {
			return MediaTypeParameter{Name: string(r.Opaque(-1)), Value: string(r.Opaque(-1))}
		}),
	}
}

func (m *MediaType) append(b []byte) []byte {
	b = tlspl.AppendString(b, m.Type)
	return appendList(b, m.Parameters, func(p *MediaTypeParameter, b []byte) []byte {
		return tlspl.AppendString(tlspl.AppendString(b, p.Name), p.Value)
	})
}

// MediaTypeList is the data of the component content_media_types: not empty, most preferred first.
type MediaTypeList []MediaType

// UnmarshalMediaTypeList decodes a MediaTypeList and refuses an empty one.
func UnmarshalMediaTypeList(b []byte) (MediaTypeList, error) {
	return decode("MediaTypeList", b, func(r *tlspl.Reader) MediaTypeList {
		list := readList(r, maxMediaTypes, readMediaType)
		if len(list) == 0 {
			r.Fail(fmt.Errorf("media_type_list: %w", ErrEmpty))
		}
		return list
	})
}

// Marshal returns the encoding.
func (l MediaTypeList) Marshal() []byte { return appendList(nil, l, (*MediaType).append) }

// ApplicationFraming is the application_data of a group whose dictionary has the component content_media_types
// (draft-ietf-mls-extensions-10 §4.2.4). An empty MediaType.Type stands for the first type of that component.
type ApplicationFraming struct {
	MediaType MediaType
	Content   []byte
}

// UnmarshalApplicationFraming decodes an ApplicationFraming.
func UnmarshalApplicationFraming(b []byte) (*ApplicationFraming, error) {
	return decode("ApplicationFraming", b, func(r *tlspl.Reader) *ApplicationFraming {
		return &ApplicationFraming{MediaType: readMediaType(r), Content: r.Opaque(-1)}
	})
}

// Marshal returns the encoding.
func (f *ApplicationFraming) Marshal() []byte {
	return tlspl.AppendOpaque(f.MediaType.append(nil), f.Content)
}

// FrameApplicationData returns content as application_data for a group with the given GroupContext dictionary:
// framed when it has the component content_media_types, bare otherwise. The zero MediaType stands for the first
// type of that component.
func FrameApplicationData(dict AppDataDictionary, mediaType MediaType, content []byte) []byte {
	if _, ok := dict.Get(ComponentContentMediaTypes); !ok {
		return content
	}
	f := ApplicationFraming{MediaType: mediaType, Content: content}
	return f.Marshal()
}

// UnframeApplicationData is the reverse of FrameApplicationData: it fills in the first type of content_media_types
// where the message leaves the type empty. Without the component the zero MediaType comes back.
func UnframeApplicationData(dict AppDataDictionary, data []byte) (MediaType, []byte, error) {
	raw, ok := dict.Get(ComponentContentMediaTypes)
	if !ok {
		return MediaType{}, data, nil
	}
	f, err := UnmarshalApplicationFraming(data)
	if err != nil {
		return MediaType{}, nil, err
	}
	if f.MediaType.Type != "" {
		return f.MediaType, f.Content, nil
	}
	list, err := UnmarshalMediaTypeList(raw)
	if err != nil {
		return MediaType{}, nil, err
	}
	return list[0], f.Content, nil
}
