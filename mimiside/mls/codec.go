package mls

import (
	"fmt"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// Bounds on what is decoded. Every element of a list costs at least one byte of input, so memory stays within a
// fixed factor of the input, whose size the caller bounds; the counts below bound the work of what comes after.
const (
	maxExtensions   = 256
	maxCapabilities = 1024    // entries of one list of Capabilities or RequiredCapabilities
	maxComponents   = 4096    // entries of an AppDataDictionary, a ComponentsList or a SafeAAD
	maxProposals    = 1 << 17 // entries of one Commit
	maxMembers      = 1 << 20 // leaves of a tree, recipients of a Welcome or of a path node
	maxCertificates = 64
	maxPSKs         = 1024
	maxMediaTypes   = 1024
	maxPathNodes    = 32
)

// decode runs read over the whole of b and refuses trailing bytes. What it returns may alias b.
func decode[T any](what string, b []byte, read func(*tlspl.Reader) T) (T, error) {
	r := tlspl.NewReader(b)
	v := read(r)
	if err := r.Close(); err != nil {
		var zero T
		return zero, fail(KindMalformed, "decode "+what, err)
	}
	return v, nil
}

// readList reads a vector <V> of at most max items.
func readList[T any](r *tlspl.Reader, max int, item func(*tlspl.Reader) T) []T {
	v := r.Vector(-1)
	var out []T
	for v.More() {
		if len(out) == max {
			r.Fail(fmt.Errorf("%w (%d)", ErrTooMany, max))
			return nil
		}
		out = append(out, item(v))
	}
	return out
}

// appendList appends items as a vector <V>.
func appendList[T any](b []byte, items []T, item func(*T, []byte) []byte) []byte {
	return tlspl.AppendVector(b, func(b []byte) []byte {
		for i := range items {
			b = item(&items[i], b)
		}
		return b
	})
}

func readUint16s[T ~uint16](r *tlspl.Reader, max int) []T {
	return readList(r, max, func(r *tlspl.Reader) T { return T(r.Uint16()) })
}

func appendUint16s[T ~uint16](b []byte, items []T) []byte {
	b = tlspl.AppendLength(b, 2*len(items))
	for _, v := range items {
		b = tlspl.AppendUint16(b, uint16(v))
	}
	return b
}

// unknownValue records that an enumeration has no value v.
func unknownValue(r *tlspl.Reader, what string, v uint64) {
	r.Fail(fmt.Errorf("%s %d: %w", what, v, ErrUnknownValue))
}

// readVersion reads a ProtocolVersion and refuses all but mls10.
func readVersion(r *tlspl.Reader) ProtocolVersion {
	v := ProtocolVersion(r.Uint16())
	if v != VersionMLS10 {
		r.Fail(fmt.Errorf("version %d: %w", v, ErrUnknownVersion))
	}
	return v
}
