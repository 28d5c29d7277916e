// Package store is all SQL of the bridge: one file a table, the same statements on SQLite and
// PostgreSQL (13 and newer). It keeps rows and refuses those that break a guard
// (docs/flow.md says what is written together); it knows neither Matrix nor MIMI nor MLS.
//
// # Rooms
//
// Everything of a room lies in tables that begin with (shard, room). A step reads what it needs with
// the methods of Reader (a *DB has them, a *Tx too) and writes everything in one Tx, whose first
// change is StepRoom: it compares and sets the room's version, so that of two that step from the same
// version one stands and the other gets ErrConflict.
//
// A room has two counters. next_seq numbers what steps make (links, bodies, outgoing rows, intents, log
// entries) and changes only with the version: a step takes numbers from the head that it read.
// next_in numbers and counts arrivals and is changed by whoever brings something, under the room's
// row lock; so inputs are numbered in the order in which they become visible, and "I have seen all"
// (Settle) can be compared with it. due_ms says when the room needs a worker: arrivals make it
// earlier, only Settle makes it later.
//
// # Fields
//
// In the structs of rows, what ends in MS is a time in milliseconds since 1970 (0: never), Seq a number of the room, URI a mimi:// or
// acct: address as it was received, MXID a Matrix user id. Kind, State, Reason and Data (JSON, or an id) are words of whoever writes the row,
// unless constants stand beside them; the store compares them and knows no more of them.
//
// # Lanes
//
// A lane is the order of one destination of one room. Its row carries the lease of the one who sends
// and work, the count of additions, with the same role as next_in. What is sent goes through
// CloseOutbound, which checks the lease, deletes rows, and answers in one transaction.
//
// # Commits
//
// Whoever is told that a Tx succeeded can rely on it. On SQLite, transactions that wait for the one writer share a COMMIT, each
// behind a savepoint, and TxSoon lets one wait for the next (sqlitewriter.go).
//
// # Secrets
//
// Columns named sealed… hold ciphertext bound to table and key (internal/sealed): MLS state, private
// keys, and all bodies, because what goes to the homeserver is plaintext. Ids, URIs, names and counts
// are readable, so that an operator can see what waits.
//
// # What it does not do
//
// It keeps no history beyond links, dead letters and the audit; a done input or a sent row has no row.
// It decides no retention (Cleanup is told), holds no lock longer than a transaction, and uses nothing
// that one of the databases lacks: the only statements that differ are the question for the time, the
// checks of durability and identity at the start, those that begin and end a transaction, and the lock and tuning of a migration.
package store
