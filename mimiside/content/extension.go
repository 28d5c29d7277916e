package content

import (
	"bytes"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// Key is the key of an extension: an integer, or a text when Name is not empty. Positive integers are
// registered, negative ones and texts are private (draft-ietf-mimi-content-08, Extension Fields).
type Key struct {
	Name   string
	Number int64
}

// Extension keys of draft-ietf-mimi-content-08, and those of draft-mimi-content-more-extensions-00, which
// no working group has adopted.
var (
	// KeySenderURI holds the sender's user URI as text.
	KeySenderURI = Key{Number: 1}
	// KeyRoomURI holds the room's URI as text.
	KeyRoomURI = Key{Number: 2}
	// KeySenderTimestamp holds the time of sending, see [Extensions.SetSenderTimestamp].
	KeySenderTimestamp = Key{Number: 3}
	// KeyExternalID holds the id of the message in another system, see [Extensions.SetExternalID].
	KeyExternalID = Key{Number: 4}
	// KeySubject holds a subject line as text.
	KeySubject = Key{Number: 5}
)

// TextKey returns the private key name, of 1 to MaxExtensionName octets.
func TextKey(name string) Key { return Key{Name: name} }

func (k Key) String() string {
	if k.Name != "" {
		return fmt.Sprintf("%q", k.Name)
	}
	return fmt.Sprint(k.Number)
}

func (k Key) append(b []byte) []byte {
	switch {
	case k.Name != "":
		return append(appendHead(b, majorText, uint64(len(k.Name))), k.Name...)
	case k.Number < 0:
		return appendHead(b, majorNint, uint64(-(k.Number + 1)))
	default:
		return appendHead(b, majorUint, uint64(k.Number))
	}
}

func (k Key) check() error {
	if k.Name == "" {
		if k.Number > maxSafeInteger || k.Number < -maxSafeInteger {
			return overLimit("extension key %d beyond 2^53-1", k.Number)
		}
		return nil
	}
	if k.Number != 0 {
		return malformed("extension key %q with a number", k.Name)
	}
	if len(k.Name) > MaxExtensionName || !utf8.ValidString(k.Name) {
		return overLimit("extension key of %d octets, or not UTF-8", len(k.Name))
	}
	return nil
}

// Extensions are the extension fields of a message: key → one CBOR item in deterministic encoding. Unknown
// keys are kept as they came, so that a message encodes to the octets it was decoded from.
type Extensions map[Key][]byte

// Text returns the text under key; ok is false when there is none or it is not a text.
func (e Extensions) Text(key Key) (text string, ok bool) {
	raw, ok := e[key]
	if !ok || len(raw) == 0 || raw[0]>>5 != majorText || decMode.Unmarshal(raw, &text) != nil {
		return "", false
	}
	return text, true
}

// SetText stores text, which must be UTF-8, under key.
func (e Extensions) SetText(key Key, text string) {
	e[key] = append(appendHead(nil, majorText, uint64(len(text))), text...)
}

// SetNames stores the sender's user URI and the room's URI, which franking needs
// (draft-ietf-mimi-protocol-06 §5.4.1).
func (e Extensions) SetNames(senderURI, roomURI string) {
	e.SetText(KeySenderURI, senderURI)
	e.SetText(KeyRoomURI, roomURI)
}

// SetSenderTimestamp stores a time in milliseconds since 1970 as {1: seconds, -3: milliseconds}
// (draft-mimi-content-more-extensions-00, senderTimestamp).
func (e Extensions) SetSenderTimestamp(ms uint64) {
	e[KeySenderTimestamp] = appendExtendedTime(nil, ms)
}

// SenderTimestamp returns the time in milliseconds since 1970 that SetSenderTimestamp stores. Finer fractions
// (-6 and -9) are rounded down.
func (e Extensions) SenderTimestamp() (ms uint64, ok bool) {
	raw, ok := e[KeySenderTimestamp]
	if !ok {
		return 0, false
	}
	return parseExtendedTime(raw)
}

// SetExternalID stores the id of the message in another system with the domain that gives it a scope
// (draft-mimi-content-more-extensions-00, externalMessageId).
func (e Extensions) SetExternalID(id []byte, domain string) {
	b := appendHead(nil, majorArray, 2)
	b = append(appendHead(b, majorBytes, uint64(len(id))), id...)
	e[KeyExternalID] = append(appendHead(b, majorText, uint64(len(domain))), domain...)
}

// ExternalID returns what SetExternalID stores; ok is false for a scope that is not a text.
func (e Extensions) ExternalID() (id []byte, domain string, ok bool) {
	var pair []cbor.RawMessage
	if raw := e[KeyExternalID]; raw == nil || decMode.Unmarshal(raw, &pair) != nil || len(pair) != 2 ||
		pair[0][0]>>5 != majorBytes || pair[1][0]>>5 != majorText ||
		decMode.Unmarshal(pair[0], &id) != nil || decMode.Unmarshal(pair[1], &domain) != nil {
		return nil, "", false
	}
	return id, domain, true
}

// check tests keys and values against the limits; maxValue is the longest encoded value in octets.
func (e Extensions) check(maxValue int) error {
	if len(e) > MaxExtensions {
		return overLimit("%d extensions", len(e))
	}
	for k, v := range e {
		if err := k.check(); err != nil {
			return err
		}
		if len(v) > maxValue {
			return overLimit("extension %v of %d octets", k, len(v))
		}
		// The extensions map is level 1.
		if err := checkDeterministic(v, MaxExtensionLevels-1); err != nil {
			return fmt.Errorf("extension %v: %w", k, err)
		}
		if (k == KeySenderURI || k == KeyRoomURI) && v[0]>>5 != majorText {
			return malformed("extension %v is not a text", k)
		}
	}
	return nil
}

// append encodes the map with its keys in bytewise order (RFC 8949 §4.2.1).
func (e Extensions) append(b []byte) []byte {
	pairs := make([][2][]byte, 0, len(e))
	for k, v := range e {
		pairs = append(pairs, [2][]byte{k.append(nil), v})
	}
	slices.SortFunc(pairs, func(x, y [2][]byte) int { return bytes.Compare(x[0], y[0]) })
	b = appendHead(b, majorMap, uint64(len(pairs)))
	for _, p := range pairs {
		b = append(append(b, p[0]...), p[1]...)
	}
	return b
}

func parseExtensions(raw []byte) (Extensions, error) {
	if len(raw) == 0 || raw[0]>>5 != majorMap {
		return nil, malformed("extensions are not a map")
	}
	var m map[any]cbor.RawMessage
	if err := decMode.Unmarshal(raw, &m); err != nil {
		return nil, decodeError("extensions", err)
	}
	out := make(Extensions, len(m))
	for k, v := range m {
		switch k := k.(type) {
		case string:
			if k == "" {
				return nil, malformed("empty extension name")
			}
			out[Key{Name: k}] = v
		case int64:
			out[Key{Number: k}] = v
		default:
			return nil, malformed("extension key of type %T", k)
		}
	}
	return out, out.check(maxReceivedExtensionValue)
}
