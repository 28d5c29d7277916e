package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds on what is read. They are generous beside the Matrix limits
// (65,535 octets an event, 255 octets an identifier; Matrix spec v1.15,
// "Size limits") because `unsigned` data of the client format comes on top.
const (
	// MaxEventBytes is the largest raw event that is read, in octets.
	MaxEventBytes = 512 << 10
	// MaxContentBytes is the largest `content` that is read, in octets.
	MaxContentBytes = 128 << 10
	// MaxIdentifier is the largest user, room or event identifier, event type
	// or state key, in octets.
	MaxIdentifier = 255
	// MaxDepth is the deepest nesting of JSON arrays and objects in an event.
	MaxDepth = 64
	// MaxTransactionEvents is the largest number of events, ephemeral events
	// or to-device events in one transaction.
	MaxTransactionEvents = 10000
)

// ErrTooDeep says that JSON is nested deeper than [MaxDepth].
var ErrTooDeep = errors.New("JSON is nested too deeply")

// Object is a JSON object whose members have not been read yet.
type Object map[string]json.RawMessage

// ParseObject reads a JSON object. It refuses anything else, nesting deeper
// than [MaxDepth] and trailing data.
func ParseObject(raw []byte) (Object, error) {
	if err := checkDepth(raw, MaxDepth); err != nil {
		return nil, err
	}
	var o Object
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("read JSON object: %w", err)
	}
	if o == nil {
		return nil, errors.New("read JSON object: it is null")
	}
	return o, nil
}

// checkDepth walks over JSON text without building anything and refuses it
// when arrays and objects nest deeper than limit.
func checkDepth(raw []byte, limit int) error {
	depth := 0
	inString := false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if inString {
			switch c {
			case '\\':
				i++
			case '"':
				inString = false
			}
			continue
		}
		switch c {
		case '"':
			inString = true
		case '{', '[':
			if depth++; depth > limit {
				return ErrTooDeep
			}
		case '}', ']':
			depth--
		}
	}
	return nil
}

// Has reports whether the member exists and is not null.
func (o Object) Has(key string) bool {
	v, ok := o[key]
	return ok && !bytes.Equal(bytes.TrimSpace(v), []byte("null"))
}

// Str is the string member of that name, or "" if it is not a string.
func (o Object) Str(key string) string {
	s, _ := o.str(key)
	return s
}

func (o Object) str(key string) (string, bool) {
	v, ok := o[key]
	if !ok || len(v) == 0 || v[0] != '"' {
		return "", false
	}
	var s string
	if json.Unmarshal(v, &s) != nil {
		return "", false
	}
	return s, true
}

// Bool is the boolean member of that name, or false if it is not a boolean.
func (o Object) Bool(key string) bool {
	return bytes.Equal(bytes.TrimSpace(o[key]), []byte("true"))
}

// Int is the member of that name as an integer and whether it is one. Numbers
// with a fraction of zero are integers. Strings are not; see [Object.Level].
func (o Object) Int(key string) (int64, bool) {
	v := string(bytes.TrimSpace(o[key]))
	if n, err := strconv.ParseInt(v, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// Level reads a power level. Rooms before version 10 may hold strings and
// fractions, which homeservers read as Python's int() does
// (Matrix spec, room version 1, "m.room.power_levels events accept values as strings").
func (o Object) Level(key string) (int64, bool) {
	return level(o[key])
}

func level(raw json.RawMessage) (int64, bool) {
	v := strings.TrimSpace(string(raw))
	if s, err := strconv.Unquote(v); err == nil && strings.HasPrefix(v, `"`) {
		n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
		return clampLevel(n), err == nil
	}
	if n, err := strconv.ParseInt(v, 10, 64); err == nil {
		return clampLevel(n), true
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) >= 1<<53 {
		return 0, false
	}
	return clampLevel(int64(f)), true
}

// clampLevel keeps a level within the integers that canonical JSON allows.
func clampLevel(n int64) int64 {
	const most = 1<<53 - 1
	return max(-most, min(most, n))
}

// Obj is the object member of that name, or nil if it is not an object. A nil
// Object may be read like an empty one.
func (o Object) Obj(key string) Object {
	v := bytes.TrimSpace(o[key])
	if len(v) == 0 || v[0] != '{' {
		return nil
	}
	var inner Object
	if json.Unmarshal(v, &inner) != nil {
		return nil
	}
	return inner
}

// Array is the array member of that name with at most limit elements, or nil
// if it is not an array.
func (o Object) Array(key string, limit int) []json.RawMessage {
	var list []json.RawMessage
	if len(o[key]) == 0 || json.Unmarshal(o[key], &list) != nil {
		return nil
	}
	if len(list) > limit {
		list = list[:limit]
	}
	return list
}

// Strings is the array member of that name with the elements that are strings,
// at most limit of them.
func (o Object) Strings(key string, limit int) []string {
	var out []string
	for _, raw := range o.Array(key, limit) {
		if s, ok := (Object{"v": raw}).str("v"); ok {
			out = append(out, s)
		}
	}
	return out
}

// Objects is the array member of that name with the elements that are objects,
// at most limit of them.
func (o Object) Objects(key string, limit int) []Object {
	var out []Object
	for _, raw := range o.Array(key, limit) {
		if inner := (Object{"v": raw}).Obj("v"); inner != nil {
			out = append(out, inner)
		}
	}
	return out
}

// cut shortens s to at most n octets without cutting a character in two.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
