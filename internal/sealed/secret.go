package sealed

import (
	"fmt"
	"io"
)

// Secret is a value that must not be shown. (In an unexported field fmt cannot know it: such types say
// [secret] themselves.) Whatever verb it is printed with, and in JSON, it says
// [secret]. Convert it to []byte where the bytes are needed.
type Secret []byte

const hidden = "[secret]"

// String returns [secret].
func (Secret) String() string { return hidden }

// GoString returns [secret].
func (Secret) GoString() string { return hidden }

// Format writes [secret] for every verb and flag.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalJSON returns "[secret]".
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// MarshalText returns [secret].
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Format writes [secret]: fmt does not ask the fields of a structure that it cannot reach.
func (*KeyFile) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// Format writes [secret].
func (*Ring) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }
