package relay

import (
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// identityOf says who a leaf is.
func identityOf(leaf *mls.LeafNode) (room.Identity, bool) {
	id, err := room.IdentityOf(&leaf.Credential)
	return id, err == nil
}

// credentialOf tells whether a leaf is of a user.
func credentialOf(leaf *mls.LeafNode, user wire.IdentifierURI) bool {
	id, ok := identityOf(leaf)
	return ok && id.User.Same(user)
}

// hubSends tells whether the room's hub is among the external senders of a group.
func (s *step) hubSends(g *mls.Group) bool {
	data, ok := g.Context().Extensions.Find(mls.ExtensionExternalSenders)
	if !ok {
		return false
	}
	list, err := mls.UnmarshalExternalSenders(data)
	if err != nil {
		return false
	}
	for i := range list {
		if room.IsProvider(&list[i].Credential, s.room.head.Hub) {
			return true
		}
	}
	return false
}

// blockedUser tells whether a user is of a provider that is not spoken with, or of none.
func (r *Relay) blockedUser(uri string) bool {
	domain := wire.IdentifierURI(uri).Domain()
	return domain == "" || r.Blocked != nil && r.Blocked(domain)
}
