// Package mapping turns Matrix things into MIMI things and back. It is the only
// code that knows both vocabularies: identifiers, messages, membership, power
// levels and roles, room metadata.
//
// Everything here is a function of its arguments: there is no IO, no clock and
// no randomness. What has to be looked up (who takes part, which event belongs
// to which message) comes in through the small interfaces [People] and [Links];
// files are described here and moved elsewhere.
//
// What MIMI cannot carry goes beside the content in private-use extensions
// (see keys.go), so that Matrix → MIMI → Matrix loses little. Another
// implementation does not know them and loses nothing but that.
package mapping
