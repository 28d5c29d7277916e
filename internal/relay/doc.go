// Package relay is the bridge's mind: it turns every thing that arrives into what must be
// stored and sent because of it.
//
// # One input, one step, one transaction
//
// Everything that arrives becomes an input of a room: an event of the Matrix room, an item of a
// hub's fan-out, a request of a follower to us as the hub, the answer to a request of ours, a wish
// (intent) or a time that has come. step.go is the one place where an input is worked off:
//
//	load the room under its version → decide (pure code) → write the Effects, move the version on
//	and mark the input done, in ONE transaction
//
// Nothing is acknowledged before it is committed and nothing is sent before it is stored. The
// room's version is compared and set in that transaction, so whoever decided on a stale view
// changes nothing. The room in memory (MLS group, policy, members) is a cache that carries the
// version; at any conflict, rollback or error it is dropped, because the MLS group has then moved
// on while the stored one has not.
//
// An input may also be told to wait: for a commit of an earlier epoch, for our own pending commit,
// for KeyPackages. Waiting is a success that writes a row; what ends the wait puts the input back
// to ready in the same transaction as its cause. An input that fails three times is set aside as
// broken, an alert is raised, and the room goes on.
//
// # Rooms
//
// Every Matrix room that concerns the bridge has a room row:
//
//	plain      a Matrix room without a MIMI side: a chat with the bot, or one that a ghost was
//	           just invited to
//	hub        the Matrix room leads; we are the hub (draft-ietf-mimi-protocol-06 §5)
//	follower   a remote hub leads; the Matrix room is a portal
//
//	                      ghost invited, KeyPackages claimed, Matrix state read
//	    plain ──────────────────────────────────────────────────────────────→ hub/active
//
//	    Welcome from a hub ─────────→ follower/active ⇄ follower/desynced
//	    join <uri> → follower/joining ↗      │  last own leaf gone
//	                                         └────────────→ follower/closed
//
// # Intents
//
// A wish to change the group (add a user, remove one, rename the room, renew a leaf) is an intent.
// Intents survive epochs, commits do not: a commit that lost its epoch is thrown away with its
// secrets and built anew from the intents that still make sense. As the hub a commit is accepted
// when our transaction commits. As a follower it is staged, stored with its whole next state, sent
// to the hub, and merged or discarded by evidence only: the hub's answer, the commit that comes
// back in the fan-out, or the confirmed transcript hash in a GroupInfo.
//
// # What this package does not do
//
// It makes no HTTP request and no SQL statement of its own, knows no bytes of MLS (mimiside/mls),
// no TLS structure of a verb (mimiside/wire), no rule of policy (mimiside/policy) and no conversion
// between Matrix and MIMI things (mapping). It holds no goroutine that outlives Run.
package relay
