// Package mls is an engine for Messaging Layer Security (RFC 9420) with the extensions that MIMI needs
// (draft-ietf-mls-extensions-10): app_data_dictionary, AppDataUpdate, AppEphemeral, SelfRemove, SafeAAD, application
// framing, safe exporter. It is made for a process that holds many clients in the same group.
//
// # The object
//
// A [Group] is one group in one epoch. The public tree, the [GroupContext] and the secrets of the epoch are the same
// for every member, so they are held once, whatever the number of own leaves. An own leaf adds its signature key, its
// leaf key and its sending ratchet; the private keys of the nodes above the own leaves are pooled. A commit costs one
// HPKE decryption and a message one decryption. Own leaves come by [NewGroup], [JoinWelcome],
// [Group.AddOwnFromWelcome] or an external commit, and go when a commit removes them, in any order; what only a
// removed leaf knew is forgotten. With no own leaf at all a Group is the public view of a hub ([NewPublicGroup]): it
// verifies everything that can be verified without secrets.
//
// # Staged commits
//
// Making a commit changes nothing. [Group.StageCommit] returns a [Staged] with the commit, the Welcome, the GroupInfo
// and the tree of the epoch that follows, before anybody accepted it. [Group.Merge] moves the group there; dropping
// the value discards it, and the commit of another member that won instead processes as ever. Commits of others go
// the same way: [Group.StageReceived] verifies one and builds the next epoch aside, so that the caller can look at
// what it would do and refuse. Any error leaves the group as it was, bit for bit. A Staged survives a restart
// ([Staged.Marshal], [Group.LoadStaged]).
//
// # Pieces
//
// The stored form of a group is a set of [Piece] values: the epoch, the tree in chunks, and each ratchet apart, so
// that a message costs a row of some 50 bytes at any size of the group. Every operation that changes the group in
// memory returns [Changes]: the caller stores them in one transaction with what the operation yielded, before any of
// it is sent. Then no generation of a ratchet is ever used twice, across restarts as well. When the transaction
// fails, the Group is dropped and loaded again ([LoadGroup]). Pieces hold secrets and are sealed by the caller.
//
// # What the package does not do
//
// It does no IO, starts no goroutine, reads no clock and keeps no global state: time and randomness are arguments
// (with one exception that crypto/hpke leaves no choice about: see [EncryptWithLabel]). It does not judge
// credentials: a [CredentialValidator] of the caller does. It does not interpret application data: a
// [ComponentLogic] a component does. It knows no MIMI policy, no rooms, no users. A Group is not safe for concurrent
// use.
//
// Errors are of type [*Error] with a [Kind] to decide by and a reason for errors.Is; none contains a secret. Key
// material has the type [Secret], which prints as [secret] only.
//
// All provisional code points are in codepoints.go. Suites: 0x0001, 0x0002, 0x0003, 0x0005, 0x0007.
package mls
