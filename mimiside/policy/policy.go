// Package policy holds the state of a MIMI room that lives in the GroupContext's app_data_dictionary:
// participants, metadata, roles and all policy components (draft-ietf-mimi-protocol-06 §5.3 to §5.5 and
// draft-ietf-mimi-room-policy-03). It encodes and decodes them, applies updates to them, and decides what an
// actor may do.
//
//   - [Components] are the update rules for the MLS engine: what an AppDataUpdate makes of a component.
//   - [ParseState] reads a dictionary into a [State].
//   - [Decide] answers "may this actor make this change, now".
//   - [JudgeCommit] and [JudgeProposals] say whether a hub accepts a commit or proposals, and a follower runs
//     the same code over what the hub fanned out.
//   - [Envelope] is what the hub's operator lets no policy change overstep.
//
// The package is pure: no IO, no clock, no randomness. It knows no MLS structure and verifies no signature:
// who an actor is, and that proposals are valid MLS, is established before. What only receiving clients can
// enforce, because the hub cannot see it, is listed by [MessageNeeds].
//
// Decoding errors wrap [ErrMalformed] and are permanent: the same octets fail again.
package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// Component ids in the app_data_dictionary. All are suggested values, not yet assigned by IANA
// (draft-ietf-mls-extensions-10 §7.6; draft-ietf-mimi-protocol-06; draft-ietf-mimi-room-policy-03 §IANA).
const (
	ComponentAppComponents     uint16 = 0x0001
	ComponentSafeAAD           uint16 = 0x0002
	ComponentContentMediaTypes uint16 = 0x0003
	ComponentFrankAAD          uint16 = 0x0020
	ComponentFrankingAgent     uint16 = 0x0021
	ComponentParticipants      uint16 = 0x0022
	ComponentMetadata          uint16 = 0x0023
	ComponentOperational       uint16 = 0x0024
	ComponentRoles             uint16 = 0x0025
	ComponentPreauth           uint16 = 0x0026
	ComponentBase              uint16 = 0x0027
	ComponentStatus            uint16 = 0x0028
	ComponentJoinLinkPolicy    uint16 = 0x0029
	ComponentJoinLinks         uint16 = 0x002A
	ComponentLinkPreview       uint16 = 0x002B
	ComponentAsset             uint16 = 0x002C
	ComponentLogging           uint16 = 0x002D
	ComponentHistory           uint16 = 0x002E
	ComponentBots              uint16 = 0x002F
	ComponentExpiration        uint16 = 0x0030
)

// Bounds on what peers send, all our own: the drafts have none.
const (
	// MaxURI is the longest URI in octets.
	MaxURI = 1024
	// MaxName is the longest name of a room, role or bot in octets.
	MaxName = 1024
	// MaxText is the longest description, subject or mood in octets.
	MaxText = 65535
	// MaxParticipants is the largest participant list.
	MaxParticipants = 100_000
	// MaxRoles is the largest number of roles of a room, and of entries in any list inside a role.
	MaxRoles = 1024
	// MaxList is the largest number of elements of any other list.
	MaxList = 1024
	// MaxComponent is the longest data of a component that is not otherwise bounded, in octets.
	MaxComponent = 1 << 20
)

var (
	// ErrMalformed: the octets are not the structure, or break a rule that it has by itself.
	ErrMalformed = errors.New("malformed policy data")
	errCount     = errors.New("more elements than allowed")
	errEnum      = errors.New("value is not in the draft's enumeration")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// finish turns the state of a Reader at the end of the structure called name into this package's error.
func finish(name string, r *tlspl.Reader) error {
	if err := r.Close(); err != nil {
		return fmt.Errorf("%s: %w: %w", name, ErrMalformed, err)
	}
	return nil
}

// readList reads a vector of at most max elements, one call of read each.
func readList[T any](r *tlspl.Reader, max int, read func(*tlspl.Reader) T) []T {
	var out []T
	for v := r.Vector(-1); v.More(); {
		if len(out) == max {
			r.Fail(errCount)
			return nil
		}
		out = append(out, read(v))
	}
	if r.Err() != nil {
		return nil
	}
	return out
}

func appendList[T any](b []byte, list []T, one func([]byte, T) []byte) []byte {
	return tlspl.AppendVector(b, func(b []byte) []byte {
		for _, v := range list {
			b = one(b, v)
		}
		return b
	})
}

func readUint16(r *tlspl.Reader) uint16 { return r.Uint16() }
func readUint32(r *tlspl.Reader) uint32 { return r.Uint32() }

// readEnum reads a one-octet enumeration and refuses values above last.
func readEnum[T ~uint8](r *tlspl.Reader, last T) T {
	v := T(r.Uint8())
	if v > last {
		r.Fail(fmt.Errorf("%w: %d", errEnum, v))
		return 0
	}
	return v
}

// readBool reads the draft's bool, an enumeration of one octet (draft-ietf-mimi-room-policy-03, Base Room policy).
func readBool(r *tlspl.Reader) bool { return readEnum[uint8](r, 1) == 1 }

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// readOptional32 reads optional<uint32>, written "optional uint32" in the draft.
func readOptional32(r *tlspl.Reader) *uint32 {
	if !r.Optional() {
		return nil
	}
	v := r.Uint32()
	return &v
}

func appendOptional32(b []byte, v *uint32) []byte {
	return tlspl.AppendOptional(b, v != nil, func(b []byte) []byte { return tlspl.AppendUint32(b, *v) })
}

// readText reads a UTF8String (draft-ietf-mimi-protocol-06, room metadata): UTF-8 without NUL.
func readText(r *tlspl.Reader, max int) string {
	s := string(r.Opaque(max))
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		r.Fail(errors.New("text is not UTF-8 or has a NUL"))
		return ""
	}
	return s
}

// readURI reads a Uri or IdentifierUri: its octets are kept as they are.
func readURI(r *tlspl.Reader) string {
	s := string(r.Opaque(MaxURI))
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			r.Fail(fmt.Errorf("URI has octet %#x", s[i]))
			return ""
		}
	}
	return s
}

// Authority returns the authority of a URI with its letters in lower case: "a.example" of
// "mimi://A.example/u/alice". It is empty for URIs without one. It is the provider of a user.
func Authority(uri string) string {
	_, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return ""
	}
	authority, _, _ := strings.Cut(rest, "/")
	return strings.ToLower(authority)
}
