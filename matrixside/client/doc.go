// Package client carries out stored Matrix requests at the homeserver, as the
// bridge's bot or as one of its ghosts, and moves media.
//
// A request is a verb with arguments (package event). Its outcome is sorted
// into done, retry and refused; the caller keeps the row and decides when to
// try again. The package itself never retries, stores nothing and answers for
// no order. Repeating a request is harmless: sends and redactions carry a fixed
// transaction id, rooms are made under an alias, and a membership that is
// already as wanted counts as done.
//
// Ghosts are registered when they are first needed, with their display name and
// with all notifications off.
package client
