package content

import (
	"fmt"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// Frame returns application data in ApplicationFraming (draft-ietf-mls-extensions-10, Content Advertisement):
// the media type, then inner<V>. A group uses it when its context has the content_media_types component.
func Frame(t MediaType, inner []byte) []byte {
	return tlspl.AppendOpaque(t.Append(nil), inner)
}

// Unframe splits application data into media type and inner content. required is the group's
// content_media_types list, nil when the group has none: then the data is bare MIMI content, which is
// recognised by its first octet 0x87, an array of seven. An empty type in the frame means required[0].
func Unframe(data []byte, required []MediaType) (MediaType, []byte, error) {
	bare := MediaType{Type: TypeMIMI}
	if len(required) == 0 {
		if len(data) > 0 && data[0] == firstOctet {
			return bare, data, nil
		}
		required = []MediaType{bare}
	}
	r := tlspl.NewReader(data)
	t := ReadMediaType(r)
	inner := r.Opaque(MaxMessage)
	if err := r.Close(); err != nil {
		return MediaType{}, nil, fmt.Errorf("%w: application framing: %w", ErrMalformed, err)
	}
	if t.Type == "" {
		t = required[0]
	}
	return t, inner, nil
}

// firstOctet of every message: a CBOR array of seven elements. As the first octet of a frame it would be the
// head of a media type of more than 16,383 octets.
const firstOctet = 0x87
