package relay

import (
	"context"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Verbs of the extensions (docs/extensions.md).
const (
	verbKeyMaterials   = string(wire.VerbKeyMaterials)
	verbProfiles       = string(wire.VerbProfiles)
	verbStatus         = string(wire.VerbStatus)
	verbLinkStatus     = string(wire.VerbLinkStatus)
	verbKnock          = string(wire.VerbKnock)
	verbKnockOutcome   = string(wire.VerbKnockOutcome)
	verbSubmitMessages = string(wire.VerbSubmitMessages)
	verbSubmitVerdicts = string(wire.VerbSubmitVerdicts)
	verbNotifyRooms    = string(wire.VerbNotifyRooms)
	verbRoomDestroyed  = string(wire.VerbRoomDestroyed)
	verbUserDeleted    = string(wire.VerbUserDeleted)
)

// extensions are the requests of the extensions, by verb. path is what the path of the request names.
var extensions = map[string]func(r *Relay, ctx context.Context, peer string, path wire.IdentifierURI, body []byte) (Reply, error){
	verbKeyMaterials:   (*Relay).KeyMaterials,
	verbProfiles:       (*Relay).Profiles,
	verbStatus:         (*Relay).Status,
	verbLinkStatus:     (*Relay).LinkStatus,
	verbKnock:          (*Relay).KnockAt,
	verbKnockOutcome:   (*Relay).KnockOutcome,
	verbSubmitMessages: (*Relay).SubmitMessages,
	verbSubmitVerdicts: (*Relay).SubmitVerdicts,
	verbNotifyRooms:    (*Relay).NotifyRooms,
	verbRoomDestroyed:  (*Relay).RoomDestroyed,
	verbUserDeleted:    (*Relay).UserDeleted,
}

// Extension answers a request of an extension that the peer shares with us.
func (r *Relay) Extension(ctx context.Context, peer, verb string, path wire.IdentifierURI, body []byte) (Reply, error) {
	serve, ok := extensions[verb]
	if !ok {
		return Reply{}, ErrNotFound
	}
	return serve(r, ctx, peer, path, body)
}

// mayShare tells whether a request of an extension is worth a try. The peer may turn out not to share it: then the request is
// refused, and what it was for is done in the draft's way.
func (r *Relay) mayShare(domain, name string) bool {
	return r.MayShare != nil && r.MayShare(domain, name)
}

// providerURI is what a request to a provider, not about a room, names in its path.
func providerURI(domain string) string { return "mimi://" + domain }
