// Package content reads and writes MIMI content (draft-ietf-mimi-content-08): the CBOR message that travels
// inside MLS application data, its parts, its identifiers, message status reports, the framing around it and
// the encryption of the files it points to.
//
// The package is pure: it has no IO and no clock, and takes randomness as an argument. It does not know the
// room's policy, does not keep messages, and does not render or sanitise what a part holds.
//
// [Unmarshal] checks a message by itself. What came from another provider goes through [Receive], which also
// compares the message with what MLS and the hub say about it and computes its identifiers.
//
// All errors are permanent: the same octets fail again. Test with errors.Is against the Err variables.
package content

import (
	"errors"
	"fmt"
)

// Limits of draft-ietf-mimi-content-08 ("CBOR Data Model and Encoding Restrictions", "General handling"),
// and our own bound on the whole.
const (
	// MaxMessage is the largest encoded message in octets that is decoded (own limit; the draft leaves it to local policy).
	MaxMessage = 1 << 20
	// MaxParts is the largest number of parts, multiparts included.
	MaxParts = 1024
	// MaxPartLevels is how deep parts nest; the body is level 1.
	MaxPartLevels = 4
	// MaxTopicID is the longest topic id in octets.
	MaxTopicID = 4096
	// MaxExtensionLevels is how deep arrays, maps and tags nest in the extensions; the extensions map is level 1.
	MaxExtensionLevels = 4
	// MaxExtensionName is the longest text key of an extension in octets.
	MaxExtensionName = 255
	// MaxExtensionValue is the longest encoded value of an extension in octets that is written. Some revisions
	// of the draft bound it and some do not, so that reading allows maxReceivedExtensionValue.
	MaxExtensionValue = 4095
	// MaxExtensions is the largest number of extensions of one message (own limit).
	MaxExtensions = 256
	// MaxURI is the longest sender or room URI in octets that a message id can cover (16-bit length).
	MaxURI = 65535
	// MaxStatuses is the largest number of entries of a status report that is decoded (own limit).
	MaxStatuses = 4096

	maxReceivedExtensionValue = 65535
	maxSafeInteger            = 1<<53 - 1
	maxCBORLevels             = 16 // of a whole document; parts need 7, extensions 5
)

// What is wrong with octets or with a message. Every error of this package wraps one of them.
var (
	// ErrMalformed: not the CBOR structure that the draft defines.
	ErrMalformed = errors.New("malformed MIMI content")
	// ErrNotDeterministic: CBOR, but not in the deterministic encoding of RFC 8949 §4.2.1; duplicate map keys too.
	ErrNotDeterministic = errors.New("CBOR is not in deterministic encoding")
	// ErrLimit: longer, deeper or more than this package or the draft allows.
	ErrLimit = errors.New("over a limit of MIMI content")
	// ErrDiscard: well formed, but a message that the draft tells receivers to throw away.
	ErrDiscard = errors.New("message must be discarded")
	// ErrCrypto: an external part does not decrypt or its hash differs.
	ErrCrypto = errors.New("external content does not verify")
	// ErrUnsupported: an algorithm that this package does not have.
	ErrUnsupported = errors.New("algorithm is not supported")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

func overLimit(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrLimit, fmt.Sprintf(format, args...))
}

func discard(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDiscard, fmt.Sprintf(format, args...))
}
