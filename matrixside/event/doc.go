// Package event is the Matrix vocabulary of the bridge: the events that are
// read from a homeserver and written to it.
//
// What a homeserver sends is first a [Received] event and cannot be used; its
// Check method returns the checked [Event]. Contents are read field by field:
// a field of the wrong JSON type counts as absent, as it would for a Matrix
// client, and never makes the rest of the event unreadable. Every size, count
// and depth is bounded by the constants in this package.
//
// The package is pure: no IO, no clock, no randomness, no goroutine. It does
// not know what an event means for a MIMI room (package mapping does), it does
// not verify signatures of events (the homeserver does), and it does not
// decrypt (package matrixside/crypto does).
package event
