// Package crypto lets the bridge take part in encrypted Matrix rooms (Matrix spec, "End-to-End
// Encryption"): the bridge's bot has a device of its own there, which opens what people write and
// encrypts what ghosts say. The bridge is one end of that encryption, and says so in the room.
//
// # How it fits the step
//
// Receive is called with everything that arrives, before it is stored and acknowledged: when it
// returns, room keys are committed. A to-device message is worked off in one database transaction, so a
// crash leaves it either unseen (it comes again) or done (and recognised when it comes again).
//
// Decrypt may be called again and again for the same event and gives the same result. An event whose
// key is not there yet makes it fail with ErrWaiting; the caller keeps the event and calls again when
// Config.OnKey names the session, or later. No goroutine waits.
//
// Encrypt remembers the ciphertexts of the last rows of each room before it returns one. As the rows of a
// room are sent one after another, a retry of a row sends the same bytes.
//
// # What this package does not do
//
// It sends no room events and downloads no files. The tables are those of mautrix (crypto_*, mx_*),
// beside the bridge's own in the same database; the state of Olm and Megolm is the library's. It is
// made for one process: the sessions of a device cannot be shared by two.
package crypto
