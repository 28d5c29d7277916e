// Package tlspl reads and writes the TLS presentation language (RFC 8446 §3) with the variable-length
// vectors of RFC 9420 §2.1.2, strictly: minimal length headers only, no trailing bytes, and no
// allocation larger than the input.
//
// Writing appends to a byte slice. Reading goes through [Reader], whose first error sticks, so that a
// decoder is a straight list of fields with one check at its end. The package knows no MLS or MIMI type.
package tlspl

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxVector is the largest length in bytes that a variable-length header can carry (2^30-1, RFC 9420 §2.1.2).
const MaxVector = 1<<30 - 1

// Errors that a Reader reports. They are wrapped with the place where they occurred; test with errors.Is.
var (
	ErrTruncated  = errors.New("input ends inside a field")
	ErrTrailing   = errors.New("bytes follow the end of the structure")
	ErrNotMinimal = errors.New("length is not encoded in its shortest form")
	ErrTooLong    = errors.New("vector is longer than allowed")
	ErrOptional   = errors.New("presence byte of an optional value is neither 0 nor 1")
)

// AppendUint16 appends v as two bytes, big-endian.
func AppendUint16(b []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(b, v) }

// AppendUint32 appends v as four bytes, big-endian.
func AppendUint32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }

// AppendUint64 appends v as eight bytes, big-endian.
func AppendUint64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// AppendLength appends n (bytes) as a minimal variable-length header (RFC 9420 §2.1.2).
// It panics when n is negative or above MaxVector: a caller must bound what it builds.
func AppendLength(b []byte, n int) []byte {
	switch {
	case n < 0 || n > MaxVector:
		panic("tlspl: vector length out of range")
	case n < 1<<6:
		return append(b, byte(n))
	case n < 1<<14:
		return append(b, 0x40|byte(n>>8), byte(n))
	default:
		return append(b, 0x80|byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
}

// AppendOpaque appends v as opaque<V>: its length in bytes, then its bytes.
func AppendOpaque(b, v []byte) []byte { return append(AppendLength(b, len(v)), v...) }

// AppendString appends s as opaque<V>.
func AppendString(b []byte, s string) []byte { return append(AppendLength(b, len(s)), s...) }

// AppendVector appends a vector <V> whose body is what body appends to the slice that it gets.
func AppendVector(b []byte, body func([]byte) []byte) []byte {
	start := len(b)
	b = body(append(b, 0))
	n := len(b) - start - 1
	var head [4]byte
	h := AppendLength(head[:0], n)
	if extra := len(h) - 1; extra > 0 {
		b = append(b, head[:extra]...)
		copy(b[start+len(h):], b[start+1:start+1+n])
	}
	copy(b[start:], h)
	return b
}

// AppendOptional appends the presence byte, and what body appends when present is true (RFC 9420 §2.1.1).
func AppendOptional(b []byte, present bool, body func([]byte) []byte) []byte {
	if !present {
		return append(b, 0)
	}
	return body(append(b, 1))
}

// Reader decodes fields from a byte slice. The first error sticks: later reads return zero values, and
// Err or Close report it. Sub-readers of vectors share the error of their parent. Slices that it returns
// alias the input.
type Reader struct {
	whole []byte
	pos   int
	err   *error
}

// NewReader returns a Reader over b.
func NewReader(b []byte) *Reader {
	var err error
	return &Reader{whole: b, err: &err}
}

// Err returns the first error, or nil.
func (r *Reader) Err() error { return *r.err }

// Fail records err unless an earlier error is there.
func (r *Reader) Fail(err error) {
	if *r.err == nil {
		*r.err = err
	}
}

func (r *Reader) failAt(what string, err error) {
	r.Fail(fmt.Errorf("%s at byte %d: %w", what, r.pos, err))
}

// Close reports the first error, or ErrTrailing when bytes are left over.
func (r *Reader) Close() error {
	if *r.err == nil && r.pos != len(r.whole) {
		r.failAt("end of structure", ErrTrailing)
	}
	return *r.err
}

// Len returns the number of unread bytes, 0 after an error.
func (r *Reader) Len() int {
	if *r.err != nil {
		return 0
	}
	return len(r.whole) - r.pos
}

// More tells whether unread bytes are left and no error occurred: the condition of a loop over a vector.
func (r *Reader) More() bool { return r.Len() > 0 }

// Offset returns the number of bytes read so far; use it with Since to keep the raw bytes of a structure.
func (r *Reader) Offset() int { return r.pos }

// Since returns the input between an earlier Offset and the present one, nil after an error.
func (r *Reader) Since(offset int) []byte {
	if *r.err != nil {
		return nil
	}
	return r.whole[offset:r.pos:r.pos]
}

// Peek returns the next n bytes without reading them, or nil when fewer are left.
func (r *Reader) Peek(n int) []byte {
	if r.Len() < n {
		return nil
	}
	return r.whole[r.pos : r.pos+n : r.pos+n]
}

// Bytes reads exactly n bytes.
func (r *Reader) Bytes(n int) []byte {
	if *r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.whole)-r.pos {
		r.failAt("field", ErrTruncated)
		return nil
	}
	b := r.whole[r.pos : r.pos+n : r.pos+n]
	r.pos += n
	return b
}

// Rest reads all bytes that are left.
func (r *Reader) Rest() []byte { return r.Bytes(r.Len()) }

// Uint8 reads one byte.
func (r *Reader) Uint8() uint8 {
	if b := r.Bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// Uint16 reads two bytes, big-endian.
func (r *Reader) Uint16() uint16 {
	if b := r.Bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// Uint32 reads four bytes, big-endian.
func (r *Reader) Uint32() uint32 {
	if b := r.Bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// Uint64 reads eight bytes, big-endian.
func (r *Reader) Uint64() uint64 {
	if b := r.Bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Optional reads a presence byte (RFC 9420 §2.1.1).
func (r *Reader) Optional() bool {
	switch r.Uint8() {
	case 0:
		return false
	case 1:
		return *r.err == nil
	default:
		r.failAt("optional", ErrOptional)
		return false
	}
}

// Length reads a variable-length header and refuses one that is not minimal or above MaxVector.
func (r *Reader) Length() int {
	first := r.Uint8()
	size := 1 << (first >> 6)
	if size > 4 {
		r.failAt("length", ErrTooLong)
		return 0
	}
	n := int(first & 0x3f)
	for _, c := range r.Bytes(size - 1) {
		n = n<<8 | int(c)
	}
	if *r.err != nil {
		return 0
	}
	if size == 2 && n < 1<<6 || size == 4 && n < 1<<14 {
		r.failAt("length", ErrNotMinimal)
		return 0
	}
	return n
}

// Opaque reads opaque<V> of at most max bytes (max < 0: as long as the input).
func (r *Reader) Opaque(max int) []byte {
	n := r.Length()
	if max >= 0 && n > max {
		r.failAt("vector", ErrTooLong)
		return nil
	}
	return r.Bytes(n)
}

// Vector reads the body of a vector <V> of at most max bytes (max < 0: as long as the input) and returns a
// Reader over it that shares this Reader's error. Loop with More; the body is then used up by construction.
func (r *Reader) Vector(max int) *Reader {
	return &Reader{whole: r.Opaque(max), err: r.err}
}
