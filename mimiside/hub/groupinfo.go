package hub

import (
	"crypto/sha256"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// GroupInfoVerdict is what the hub makes of a request for the group's state.
type GroupInfoVerdict struct {
	Allowed bool
	// User is who asks, as in the participant list where it is there.
	User string
	// Borrower names the credential and key that asked, for the external commit that follows; where the request was signed in another
	// scheme than the group's, the credential alone.
	Borrower []byte
	Reason   string
}

// Borrower names a credential with its key, which may be nil.
func Borrower(cred *mls.Credential, key []byte) []byte {
	h := sha256.New()
	h.Write(cred.Marshal())
	h.Write(key)
	return h.Sum(nil)
}

// GroupInfo judges a request for the group's state (draft-ietf-mimi-protocol-06 §5.6): by a participant that may bring
// another client, or an outsider that may join in some role. code is the joining code, judged by the caller, nil when
// there is none or it is not good. The request's signature was verified. Its ciphersuite is that of the exchange alone, and any that we have
// will do.
func GroupInfo(r *Room, peer string, q *wire.GroupInfoRequest, code *policy.JoinCode) GroupInfoVerdict {
	id, err := room.IdentityOf(&q.Credential)
	if err != nil {
		return GroupInfoVerdict{Reason: "the credential names no user"}
	}
	if id.Domain() != peer {
		return GroupInfoVerdict{Reason: "the user is not of the provider that asks"}
	}
	key := q.SignatureKey
	if !q.Suite.SignsLike(r.Group.Suite()) {
		key = nil
	}
	state, err := r.state()
	if err != nil {
		return GroupInfoVerdict{Reason: "the proposals that wait cannot be read"}
	}
	user := r.listed(id.User)
	d := policy.Decide(state, policy.Actor{URI: user}, policy.Change{Kind: policy.FetchGroupInfo, Code: code})
	return GroupInfoVerdict{Allowed: d.Allowed, User: user, Borrower: Borrower(&q.Credential, key), Reason: d.String()}
}
