// Package wire holds every structure that providers exchange in draft-ietf-mimi-protocol-06, one file a verb:
// directory, key material, update, submit, notify, group info, consent, identifier query, abuse report, download.
//
// Structures are in the TLS presentation language with the variable-length vectors of RFC 9420 §2.1.2. Where the
// draft is ambiguous the reading is stated at the structure. Decoding is strict (shortest lengths, no trailing
// bytes, bounds on every count) and gives a Received type; its Check method, told who the sender is, returns
// the type that the rest of the program uses. What is decoded encodes to the same bytes.
//
// The package does no IO, reads no clock and decides nothing: who may do what is the matter of policy, hub and
// follower.
package wire
