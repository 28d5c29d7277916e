// Package hub decides what the hub of a room does with the requests of followers
// (draft-ietf-mimi-protocol-06 §5): whether a commit, proposals or a message are accepted, who gets what of
// it, who may have key material and the group's state, and where a Welcome goes. One file a verb.
//
// It is pure: it gets the room, the time and the request, and returns a verdict. Compare-and-set of the epoch, storing, the
// order of deliveries and answers by request hash are the matter of internal/relay; the rules of policy are in
// mimiside/policy; structures and signatures in mimiside/wire; what the bytes of a commit mean in mimiside/mls.
package hub
