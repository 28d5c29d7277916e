package content

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// MessageID names one version of a message: the number of a hash algorithm and 31 octets of its output
// (draft-ietf-mimi-content-08, Message ID). The zero value means no message.
type MessageID [32]byte

// hashSHA256 is SHA-256 in the IANA Named Information registry.
const hashSHA256 = 1

// IsZero tells whether the id names no message.
func (id MessageID) IsZero() bool { return id == MessageID{} }

// String returns 64 hexadecimal digits.
func (id MessageID) String() string { return hex.EncodeToString(id[:]) }

// Known tells whether the hash algorithm of the id is known. A message with a reference for which it is
// not is discarded (draft-ietf-mimi-content-08, General handling).
func (id MessageID) Known() bool { return id[0] == hashSHA256 }

// ParseMessageID reads 32 octets and refuses an unknown hash algorithm with ErrDiscard.
func ParseMessageID(b []byte) (MessageID, error) {
	if len(b) != len(MessageID{}) {
		return MessageID{}, malformed("message id of %d octets", len(b))
	}
	id := MessageID(b)
	if !id.Known() {
		return MessageID{}, discard("message id with unknown hash algorithm %d", id[0])
	}
	return id, nil
}

// ID computes the message id (draft-ietf-mimi-content-08, Message ID) of the exact octets of message, whose
// salt is salt. The URIs are the sender's user URI as it stands in the participant list and the room's URI as
// in the room metadata, octet for octet; each has at most MaxURI octets.
func ID(senderURI, roomURI string, message []byte, salt Salt) (MessageID, error) {
	if len(senderURI) > MaxURI || len(roomURI) > MaxURI {
		return MessageID{}, overLimit("sender URI of %d and room URI of %d octets", len(senderURI), len(roomURI))
	}
	var in [2]byte
	h := sha256.New()
	for _, uri := range []string{senderURI, roomURI} {
		binary.BigEndian.PutUint16(in[:], uint16(len(uri)))
		h.Write(in[:])
		h.Write([]byte(uri))
	}
	h.Write(message)
	h.Write(salt[:])
	return idOf(h.Sum(nil)), nil
}

// OldID computes the message id as draft-ietf-mimi-content-07 and earlier did, without the lengths of the
// URIs. Some implementations still refer to messages by it, so both forms are kept for matching; only [ID] is sent.
func OldID(senderURI, roomURI string, message []byte, salt Salt) MessageID {
	h := sha256.New()
	h.Write([]byte(senderURI))
	h.Write([]byte(roomURI))
	h.Write(message)
	h.Write(salt[:])
	return idOf(h.Sum(nil))
}

func idOf(sum []byte) MessageID {
	id := MessageID{hashSHA256}
	copy(id[1:], sum)
	return id
}

// MarshalText returns the hexadecimal form of String.
func (id MessageID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the form of MarshalText.
func (id *MessageID) UnmarshalText(b []byte) error {
	if len(b) != 2*len(id) {
		return malformed("message id of %d hexadecimal digits", len(b))
	}
	if _, err := hex.Decode(id[:], b); err != nil {
		return fmt.Errorf("%w: message id: %w", ErrMalformed, err)
	}
	return nil
}
