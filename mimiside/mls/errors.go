package mls

import (
	"errors"
	"fmt"
)

// Kind sorts errors by what a caller does about them.
type Kind uint8

// Kinds of errors.
const (
	KindBug         Kind = iota // the engine or its caller broke a promise; nothing a peer sent
	KindMalformed               // bytes that are no encoding of the structure; permanent
	KindUnsupported             // a suite, version, wire format or proposal type that the engine does not have; permanent
	KindInvalid                 // well-formed and refused: a signature, a tag, a rule of the protocol; permanent
	KindEpoch                   // for another epoch than the group is in or remembers; may become right when it is ahead
	KindReplay                  // a message key that has been used or deleted; permanent
	KindLimit                   // a bound of the engine or of its configuration; permanent for this input
	KindMissing                 // something that the caller may be able to supply: a PSK, a tree, a referenced proposal
)

// String returns the name of the kind.
func (k Kind) String() string {
	names := [...]string{"bug", "malformed", "unsupported", "invalid", "epoch", "replay", "limit", "missing"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// Error is what every function of the package returns: what was tried, and why it failed. It never holds a secret.
type Error struct {
	Kind Kind
	Op   string // what was tried: "decode KeyPackage", "unprotect PrivateMessage"
	Err  error  // one of the sentinels, or an error that wraps one
}

// Error returns "mls: <op>: <reason>".
func (e *Error) Error() string { return "mls: " + e.Op + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first *Error in err's chain, KindBug when there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindBug
}

// Reasons, for errors.Is.
var (
	ErrUnknownSuite      = errors.New("cipher suite is not implemented")
	ErrUnknownVersion    = errors.New("protocol version is not mls10")
	ErrUnknownWireFormat = errors.New("wire format is not known")
	ErrUnknownProposal   = errors.New("proposal type is not known")
	ErrUnknownValue      = errors.New("value outside its enumeration")
	ErrTooMany           = errors.New("more items than allowed")
	ErrOrder             = errors.New("entries are not sorted or not unique")
	ErrEmpty             = errors.New("list must not be empty")
	ErrKey               = errors.New("key has the wrong form")
	ErrSignature         = errors.New("signature does not verify")
	ErrMembershipTag     = errors.New("membership tag does not verify")
	ErrConfirmationTag   = errors.New("confirmation tag does not verify")
	ErrDecrypt           = errors.New("decryption failed")
	ErrPadding           = errors.New("padding is not zero")
	ErrWrongGroup        = errors.New("message is for another group")
	ErrWrongEpoch        = errors.New("message is for another epoch")
	ErrSender            = errors.New("sender may not send this")
	ErrUnknownSender     = errors.New("sender is not in the group")
	ErrReplay            = errors.New("message key was used or has been deleted")
	ErrForgotten         = errors.New("epoch is no longer remembered")
	ErrTooFarAhead       = errors.New("generation is too far ahead")
	ErrExhausted         = errors.New("ratchet is exhausted")
	ErrConsumed          = errors.New("exported secret was handed out before")
	ErrSafeAAD           = errors.New("authenticated data is not a SafeAAD")
	ErrMissingPSK        = errors.New("pre-shared key is not known")
	ErrStateVersion      = errors.New("stored state has an unknown version")
	ErrRandom            = errors.New("random source failed")
)

// fail builds an *Error; an *Error inside keeps its kind and is prefixed with what was tried around it.
func fail(kind Kind, op string, err error) error {
	var inner *Error
	if errors.As(err, &inner) {
		kind = inner.Kind
	}
	return &Error{Kind: kind, Op: op, Err: err}
}

// failf builds an *Error whose reason is the sentinel with detail after it.
func failf(kind Kind, op string, sentinel error, format string, args ...any) error {
	return &Error{Kind: kind, Op: op, Err: fmt.Errorf("%w: %s", sentinel, fmt.Sprintf(format, args...))}
}
