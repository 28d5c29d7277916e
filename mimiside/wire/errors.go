package wire

import (
	"errors"
	"fmt"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// What is wrong with something that a peer sent. Every error of this package wraps exactly one of them; all
// are permanent: the same bytes fail again.
var (
	// ErrMalformed: the bytes are not the structure, or break a rule of it. HTTP 400 in an answer.
	ErrMalformed = errors.New("malformed")
	// ErrForbidden: a part of the structure is not the sender's to say. HTTP 403 in an answer.
	ErrForbidden = errors.New("not the sender's to say")
	// ErrSignature: a signature, tag or encryption does not verify.
	ErrSignature = errors.New("does not verify")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMalformed, fmt.Errorf(format, args...))
}

func forbidden(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrForbidden, fmt.Sprintf(format, args...))
}

func unverified(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrSignature, fmt.Errorf(format, args...))
}

// errCount and errUnknown are causes that a decoder reports through its Reader.
var (
	errCount   = errors.New("more elements than allowed")
	errUnknown = errors.New("value is not in the draft's enumeration")
)

// finish turns the state of a Reader at the end of the structure called name into this package's error.
func finish(name string, r *tlspl.Reader) error {
	if err := r.Close(); err != nil {
		return fmt.Errorf("%s: %w: %w", name, ErrMalformed, err)
	}
	return nil
}

// readVector reads a vector of at most max elements and maxBytes bytes, one call of read each.
func readVector[T any](r *tlspl.Reader, max, maxBytes int, read func(*tlspl.Reader) T) []T {
	var out []T
	for v := r.Vector(maxBytes); v.More(); {
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

// readEnum reads a one-byte enumeration and refuses values above last, which are not defined.
func readEnum[T ~uint8](r *tlspl.Reader, first, last T) T {
	v := T(r.Uint8())
	if r.Err() == nil && (v < first || v > last) {
		r.Fail(fmt.Errorf("%w: %d", errUnknown, v))
	}
	return v
}
