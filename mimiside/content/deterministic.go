package content

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
)

// CBOR major types (RFC 8949 §3.1).
const (
	majorUint  = 0
	majorNint  = 1
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
	majorTag   = 6
)

func notDeterministic(pos int, what string) error {
	return fmt.Errorf("%w: %s at octet %d", ErrNotDeterministic, what, pos)
}

// walker checks CBOR without building values: one item in deterministic encoding (RFC 8949 §4.2.1) that
// keeps the data model of draft-ietf-mimi-content-08 ("Data model restrictions").
type walker struct {
	b         []byte
	pos       int
	maxLevels int
}

// checkDeterministic checks that b is exactly one item whose arrays, maps and tags nest at most maxLevels deep.
func checkDeterministic(b []byte, maxLevels int) error {
	w := walker{b: b, maxLevels: maxLevels}
	if err := w.item(1); err != nil {
		return err
	}
	if w.pos != len(b) {
		return malformed("%d octets follow the end", len(b)-w.pos)
	}
	return nil
}

// head reads the initial octet and the argument of an item and refuses long forms and indefinite lengths.
func (w *walker) head() (major byte, arg uint64, err error) {
	if w.pos >= len(w.b) {
		return 0, 0, malformed("ends at octet %d inside an item", w.pos)
	}
	start := w.pos
	major, info := w.b[start]>>5, w.b[start]&0x1f
	w.pos++
	if info < 24 {
		return major, uint64(info), nil
	}
	if info > 27 {
		if info == 31 {
			return 0, 0, notDeterministic(start, "indefinite length")
		}
		return 0, 0, malformed("reserved initial octet %#x at octet %d", w.b[start], start)
	}
	size := 1 << (info - 24)
	if size > len(w.b)-w.pos {
		return 0, 0, malformed("ends at octet %d inside an item", len(w.b))
	}
	for _, c := range w.b[w.pos : w.pos+size] {
		arg = arg<<8 | uint64(c)
	}
	w.pos += size
	if major == 7 {
		return major, arg, w.simple(start, size, arg)
	}
	if size == 1 && arg < 24 || size > 1 && arg>>(8*size/2) == 0 {
		return 0, 0, notDeterministic(start, "argument in a long form")
	}
	return major, arg, nil
}

// simple checks a simple value or float whose argument of size octets was read.
func (w *walker) simple(start, size int, arg uint64) error {
	switch size {
	case 1:
		if arg < 32 {
			return malformed("simple value %d in two octets at octet %d", arg, start)
		}
	case 2:
		if arg&0x7c00 == 0x7c00 && arg&0x3ff != 0 && arg != 0x7e00 {
			return notDeterministic(start, "NaN other than the quiet one")
		}
	case 4:
		f := math.Float32frombits(uint32(arg))
		if f != f || fitsHalf(uint32(arg)) {
			return notDeterministic(start, "float in a long form")
		}
	case 8:
		f := math.Float64frombits(arg)
		if f != f || float64(float32(f)) == f {
			return notDeterministic(start, "float in a long form")
		}
	}
	return nil
}

// fitsHalf tells whether the float with the given bits, not a NaN, has the same value in half width.
func fitsHalf(bits uint32) bool {
	mantissa := bits&(1<<23-1) | 1<<23
	switch exponent := int(bits>>23&0xff) - 127; {
	case bits<<1 == 0, exponent == 128: // zero, infinity
		return true
	case exponent >= -14 && exponent <= 15: // normal: 10 bits of mantissa
		return mantissa&(1<<13-1) == 0
	case exponent >= -24 && exponent < -14: // subnormal: a multiple of 2^-24
		return mantissa&(1<<(13-14-exponent)-1) == 0
	default:
		return false
	}
}

// length checks that n octets or items of at least one octet are left.
func (w *walker) length(n uint64, what string) error {
	if n > uint64(len(w.b)-w.pos) {
		return malformed("%s at octet %d is longer than the input", what, w.pos)
	}
	return nil
}

func (w *walker) item(level int) error {
	start := w.pos
	major, arg, err := w.head()
	if err != nil {
		return err
	}
	if major >= majorArray && major <= majorTag && level > w.maxLevels {
		return overLimit("nested more than %d levels deep at octet %d", w.maxLevels, start)
	}
	switch major {
	case majorBytes, majorText:
		if err := w.length(arg, "string"); err != nil {
			return err
		}
		w.pos += int(arg)
		if major == majorText && !utf8.Valid(w.b[w.pos-int(arg):w.pos]) {
			return malformed("text that is not UTF-8 at octet %d", start)
		}
	case majorArray:
		if err := w.length(arg, "array"); err != nil {
			return err
		}
		for range arg {
			if err := w.item(level + 1); err != nil {
				return err
			}
		}
	case majorMap:
		return w.mapPairs(arg, level)
	case majorTag:
		return w.tagged(start, arg, level)
	}
	return nil
}

// mapPairs checks keys and values of a map: keys are integers, text or byte strings in bytewise rising order.
func (w *walker) mapPairs(pairs uint64, level int) error {
	if err := w.length(pairs, "map"); err != nil {
		return err
	}
	var last []byte
	for i := range pairs {
		start := w.pos
		if start < len(w.b) {
			if m := w.b[start] >> 5; m > majorText {
				return malformed("map key of CBOR major type %d at octet %d", m, start)
			}
		}
		if err := w.key(level); err != nil {
			return err
		}
		key := w.b[start:w.pos]
		if i > 0 {
			switch c := bytes.Compare(last, key); {
			case c == 0:
				return notDeterministic(start, "duplicate map key")
			case c > 0:
				return notDeterministic(start, "map key out of order")
			}
		}
		last = key
		if err := w.item(level + 1); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) key(level int) error {
	start := w.pos
	if err := w.item(level + 1); err != nil {
		return err
	}
	k := walker{b: w.b[start:w.pos]}
	major, arg, _ := k.head()
	// A negative integer is -1-arg.
	if major == majorUint && arg > maxSafeInteger || major == majorNint && arg > maxSafeInteger-1 {
		return overLimit("integer map key beyond 2^53-1 at octet %d", start)
	}
	return nil
}

// tagged checks the content of a tag; a bignum (tags 2 and 3) must not fit an integer (RFC 8949 §4.2.1 and §3.4.3).
func (w *walker) tagged(start int, tag uint64, level int) error {
	at := w.pos
	if err := w.item(level + 1); err != nil {
		return err
	}
	if tag != 2 && tag != 3 {
		return nil
	}
	k := walker{b: w.b[at:w.pos]}
	major, n, err := k.head()
	if err != nil || major != majorBytes {
		return malformed("bignum that is not a byte string at octet %d", start)
	}
	if n <= 8 || k.b[k.pos] == 0 {
		return notDeterministic(start, "bignum in a long form")
	}
	return nil
}

// appendHead appends the shortest head of a major type with its argument.
func appendHead(b []byte, major byte, arg uint64) []byte {
	m := major << 5
	switch {
	case arg < 24:
		return append(b, m|byte(arg))
	case arg <= math.MaxUint8:
		return append(b, m|24, byte(arg))
	case arg <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, m|25), uint16(arg))
	case arg <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, m|26), uint32(arg))
	default:
		return binary.BigEndian.AppendUint64(append(b, m|27), arg)
	}
}
