// Package activitypub is the ActivityPub face of the bridge: WebFinger and NodeInfo, actors with KeyPackages, HTTP
// signatures, activities that carry MLS messages, and the ActivityStreams content inside them.
//
// # Two dialects
//
// Two documents describe MLS over ActivityPub, and they disagree on nearly every name. "MLS over ActivityPub" (SWICG
// activitypub-e2ee; here: the E2EE dialect) sends every MLS message as a Create to an explicit list of actors.
// "ActivityPub for Interoperable Messaging" (draft-barnes-mimi-aim; here: AIM) makes a channel an actor that orders the commits
// of its group. They agree on one thing: base64 of MLS bytes inside a JSON activity. So the MLS bytes are the
// message: wire format, group and epoch are read from them, what was seen is known by their hash, and all names around them
// are advice. What is sent is the form that most servers take; what is accepted is every spelling that was seen in use.
//
// # Received types
//
// What came from outside has a Received type, and cannot be used until a check returned the checked type: a request signature
// (ReceivedSignature), an activity (ReceivedActivity). The key of a signature belongs to an actor of its own origin that
// names the key itself; the actor of an activity is the signer; ids are of the actor's origin.
//
// # What the package does not do
//
// It is no JSON-LD processor: names are literal, contexts are neither fetched nor applied. It knows no Matrix room and no
// Matrix event; the relay does, through Backend. It stores nothing by itself and sends nothing that was not stored: Send
// takes the exact bytes of an outgoing row. It opens no connection but through the dialer that it was given.
package activitypub
