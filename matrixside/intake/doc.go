// Package intake takes in what the homeserver sends: transactions and queries
// over HTTP, and, from homeservers that do not push everything, the bot's own
// /sync.
//
// Both sources make the same [Transaction], and both hand it to a [Sink] that
// stores it before anything is acknowledged: a transaction is answered 200, and
// a sync position is left behind, only after the sink has committed. Events
// come to the sink checked; what does not pass a check is counted and dropped,
// because a homeserver repeats a refused transaction for ever.
//
// The package does not know what an event means, keeps nothing in memory that
// it has acknowledged, and does not order rooms.
package intake
