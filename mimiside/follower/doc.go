// Package follower decides what a follower does with what the hub of a room sends and answers
// (draft-ietf-mimi-protocol-06 §5.3–§5.6): in which order the items of a fan-out are applied, how long one may wait for an
// earlier one, what becomes of a commit of our own, and when the group has to be joined anew.
//
// It is pure: it gets the group, the time and the bytes, and says what follows; internal/relay stores and sends
// it. It does not convert contents, knows nothing of Matrix and judges no policy: the hub does that.
package follower
