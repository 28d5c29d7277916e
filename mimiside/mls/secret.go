package mls

import (
	"crypto/subtle"
	"fmt"
	"io"
)

// Secret is key material. It prints as [secret] with every verb of package fmt and in JSON and text encodings, so
// that it cannot get into a log by way of a struct that holds it in an exported field. A struct that keeps secrets
// in unexported fields needs a Format method of its own, because package fmt does not call methods there.
type Secret []byte

const secretText = "[secret]"

// Format prints [secret] whatever the verb is.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, secretText) }

// String returns [secret].
func (Secret) String() string { return secretText }

// GoString returns [secret].
func (Secret) GoString() string { return secretText }

// MarshalText returns [secret].
func (Secret) MarshalText() ([]byte, error) { return []byte(secretText), nil }

// MarshalJSON returns "[secret]".
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + secretText + `"`), nil }

// Wipe overwrites the bytes with zeros: what the Go runtime lets us do about key material that is used up.
func (s Secret) Wipe() { clear(s) }

// Equal compares in time that depends only on the lengths.
func (s Secret) Equal(other []byte) bool { return subtle.ConstantTimeCompare(s, other) == 1 }

// Clone returns a copy that shares no memory.
func (s Secret) Clone() Secret { return append(Secret(nil), s...) }
