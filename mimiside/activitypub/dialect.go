package activitypub

import "slices"

// Dialect is which of the two documents a peer speaks.
type Dialect string

// The dialects.
const (
	// DialectNone: no MLS. Nothing is sent in the clear instead.
	DialectNone Dialect = ""
	// DialectE2EE is MLS over ActivityPub (SWICG activitypub-e2ee).
	DialectE2EE Dialect = "e2ee"
	// DialectAIM is ActivityPub for Interoperable Messaging (draft-barnes-mimi-aim).
	DialectAIM Dialect = "aim"
)

// DialectOf decides how an actor is spoken with outside of channels: with keyPackages it has MLS over ActivityPub; a channel that says
// that it knows MIMI, and whoever spoke AIM to us before, has AIM; all others have neither.
func DialectOf(a *RemoteActor, spokeAIM bool) Dialect {
	switch {
	case a.KeyPackages != nil:
		return DialectE2EE
	case spokeAIM, a.IsChannel() && slices.Contains(a.Implements, implementsMIMI):
		return DialectAIM
	}
	return DialectNone
}

// ChannelDialectOf decides how a member of a channel of ours is spoken with. Another bridge takes the members' own activities inside an
// Announce; all others with MLS get Creates of the channel.
func ChannelDialectOf(a *RemoteActor, spokeAIM bool) Dialect {
	if spokeAIM || slices.Contains(a.Implements, implementsMIMI) {
		return DialectAIM
	}
	return DialectOf(a, false)
}
