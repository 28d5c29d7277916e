package hub

import (
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// KeyMaterial says whether the hub forwards a request for KeyPackages in a room: the requester is a participant that may
// add the target (draft-ietf-mimi-protocol-06 §5.2). Whether the target consents is for its own provider to say.
// "" means yes; otherwise it is the reason.
func KeyMaterial(r *Room, peer string, q *wire.KeyMaterialRequest) string {
	if q.RequestingUser.Domain() != peer {
		return "the requester is not of the provider that asks"
	}
	id, err := room.IdentityOf(&q.RequesterCredential)
	if err != nil || !id.User.Same(q.RequestingUser) {
		return "the credential is not the requester's"
	}
	state, err := r.state()
	if err != nil {
		return "the proposals that wait cannot be read"
	}
	d := policy.Decide(state, policy.Actor{URI: r.listed(q.RequestingUser)},
		policy.Change{Kind: policy.ClaimKeyMaterial, User: r.listed(q.TargetUser)})
	if !d.Allowed {
		return d.String()
	}
	return ""
}
