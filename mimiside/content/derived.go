package content

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Timestamp is when the hub accepted a message (draft-ietf-mimi-content-08, Timestamp).
type Timestamp struct {
	// Milliseconds since 1970, of either form.
	Milliseconds uint64
	// Extended is the RFC 9581 tag 1001 item as it came, nil when the time was a plain number of milliseconds.
	Extended []byte
}

// DerivedValues are what a receiver knows about a message besides its content (draft-ietf-mimi-content-08,
// MessageDerivedValues). They are not sent; the structure serves to hand a message to another program.
type DerivedValues struct {
	MessageID            MessageID
	HubAcceptedTimestamp Timestamp
	MLSGroupID           []byte
	SenderLeafIndex      uint32
	SenderClientURL      string
	SenderUserURL        string
	RoomURL              string
}

// Marshal encodes the values in deterministic CBOR.
func (d *DerivedValues) Marshal() ([]byte, error) {
	if !d.MessageID.Known() {
		return nil, malformed("message id with hash algorithm %d", d.MessageID[0])
	}
	var ts any = d.HubAcceptedTimestamp.Milliseconds
	if raw := d.HubAcceptedTimestamp.Extended; raw != nil {
		ts = cbor.RawMessage(raw)
	}
	return encMode.Marshal([]any{d.MessageID[:], ts, d.MLSGroupID, d.SenderLeafIndex, d.SenderClientURL, d.SenderUserURL, d.RoomURL})
}

// UnmarshalDerived decodes the values; the octets must be deterministic and of at most MaxMessage octets.
func UnmarshalDerived(b []byte) (*DerivedValues, error) {
	d, err := unmarshalDerived(b)
	if err != nil {
		return nil, fmt.Errorf("decoding derived values: %w", err)
	}
	return d, nil
}

func unmarshalDerived(b []byte) (*DerivedValues, error) {
	if len(b) > MaxMessage {
		return nil, overLimit("%d octets", len(b))
	}
	if err := checkDeterministic(b, maxCBORLevels); err != nil {
		return nil, err
	}
	f, err := array("derived values", b, 7)
	if err != nil {
		return nil, err
	}
	d := new(DerivedValues)
	var id []byte
	if err := errors.Join(
		scalar("messageId", f[0], majorBytes, &id),
		scalar("mlsGroupId", f[2], majorBytes, &d.MLSGroupID),
		scalar("senderLeafIndex", f[3], majorUint, &d.SenderLeafIndex),
		scalar("senderClientUrl", f[4], majorText, &d.SenderClientURL),
		scalar("senderUserUrl", f[5], majorText, &d.SenderUserURL),
		scalar("roomUrl", f[6], majorText, &d.RoomURL)); err != nil {
		return nil, err
	}
	if d.MessageID, err = ParseMessageID(id); err != nil {
		return nil, err
	}
	if d.HubAcceptedTimestamp, err = parseTimestamp(f[1]); err != nil {
		return nil, err
	}
	again, err := d.Marshal()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: encodes to other octets", ErrNotDeterministic)
	}
	return d, nil
}

func parseTimestamp(raw []byte) (Timestamp, error) {
	var t Timestamp
	if raw[0]>>5 != majorTag {
		return t, scalar("hubAcceptedTimestamp", raw, majorUint, &t.Milliseconds)
	}
	var tag cbor.RawTag
	if err := decMode.Unmarshal(raw, &tag); err != nil {
		return t, decodeError("hubAcceptedTimestamp", err)
	}
	ms, ok := parseExtendedTime(tag.Content)
	if tag.Number != tagExtendedTime || !ok {
		return t, malformed("timestamp is not an extended time with seconds since 1970")
	}
	return Timestamp{Milliseconds: ms, Extended: raw}, nil
}

const tagExtendedTime = 1001 // RFC 9581 §3

// appendExtendedTime appends the map of an extended time (RFC 9581 §3): 1 → seconds since 1970 and, unless
// zero, -3 → milliseconds.
func appendExtendedTime(b []byte, ms uint64) []byte {
	pairs := uint64(1)
	if ms%1000 != 0 {
		pairs = 2
	}
	b = appendHead(appendHead(appendHead(b, majorMap, pairs), majorUint, 1), majorUint, ms/1000)
	if pairs == 2 {
		b = appendHead(appendHead(b, majorNint, 2), majorUint, ms%1000)
	}
	return b
}

// parseExtendedTime reads seconds (key 1) and one fraction (keys -3, -6, -9) and returns milliseconds since 1970.
func parseExtendedTime(raw []byte) (ms uint64, ok bool) {
	var m map[any]cbor.RawMessage
	if len(raw) == 0 || raw[0]>>5 != majorMap || decMode.Unmarshal(raw, &m) != nil {
		return 0, false
	}
	var seconds, fraction uint64
	if v, there := m[int64(1)]; !there || scalar("seconds", v, majorUint, &seconds) != nil || seconds > maxSafeInteger/1000 {
		return 0, false
	}
	for key, perMS := range map[int64]uint64{-3: 1, -6: 1000, -9: 1000000} {
		v, there := m[key]
		if !there {
			continue
		}
		if scalar("fraction", v, majorUint, &fraction) != nil || fraction >= 1000*perMS {
			return 0, false
		}
		fraction /= perMS
		break
	}
	return seconds*1000 + fraction, true
}
