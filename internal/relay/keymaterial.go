package relay

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/hub"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
	"github.com/matrix-mimi/bridge/puppets"
)

// KeyMaterial hands out a KeyPackage of a user of ours, or as the hub of a room forwards the request to the user's provider
// (draft-ietf-mimi-protocol-06 §5.2).
func (r *Relay) KeyMaterial(ctx context.Context, peer string, body []byte) (Reply, error) {
	received, err := wire.UnmarshalKeyMaterialRequest(body)
	if err != nil {
		return Reply{}, err
	}
	target := received.TargetUser()
	q, err := received.Check()
	if errors.Is(err, wire.ErrProtocol) {
		return keyMaterialReply(target, wire.KeyMaterialIncompatibleProtocol), nil
	}
	if err != nil {
		return Reply{}, err
	}
	if r.Naming.Own(target) {
		return r.keyMaterialOfOurs(ctx, peer, verbKeyMaterial, q, body)
	}
	return r.forwardKeyMaterial(ctx, peer, q, received.Raw())
}

func keyMaterialReply(user wire.IdentifierURI, code wire.KeyMaterialUserCode, clients ...wire.ClientKeyMaterial) Reply {
	return Reply{Body: (&wire.KeyMaterialResponse{UserStatus: code, UserURI: user, Clients: clients}).Marshal()}
}

// keyMaterialOfOurs answers for a user of ours (T13). The hub of the room may ask on behalf of others; the credential in the
// request says who wants it. verb and body are those of the request, which may be for others as well.
func (r *Relay) keyMaterialOfOurs(ctx context.Context, peer, verb string, q *wire.KeyMaterialRequest, body []byte) (Reply, error) {
	if q.RequestingUser.Domain() != peer && q.RoomID.Domain() != peer {
		return Reply{}, fmt.Errorf("key material for %s: %w", q.TargetUser, ErrForbidden)
	}
	if id, err := room.IdentityOf(&q.RequesterCredential); err != nil || !id.User.Same(q.RequestingUser) {
		return Reply{}, fmt.Errorf("key material for %s: %w", q.TargetUser, ErrForbidden)
	}
	if err := r.checkCredential(ctx, &q.RequesterCredential, q.RequesterSignatureKey); err != nil {
		if errors.Is(err, ErrTemporary) {
			return Reply{}, err
		}
		return Reply{}, fmt.Errorf("key material for %s: %w: %w", q.TargetUser, ErrForbidden, err)
	}
	user := store.DerivedRoomID("user", q.TargetUser.Key())
	hash := requestHash(peer, verb, "", body)
	if a, err := r.Store.AnswerTo(ctx, user, hash); err == nil && r.stillGood(ctx, a.Body, q) {
		return Reply{Status: int(a.Status), Body: a.Body}, nil
	} else if err != nil && !errors.Is(err, store.ErrNotFound) {
		return Reply{}, err
	} else if err == nil {
		// The same request again, long after its answer was used: it is a new one. Requests have no number.
		hash = requestHash(peer, verb, r.Clock().String(), body)
	}
	if err := r.allowClaim(ctx, peer, q); err != nil {
		return Reply{}, err
	}
	mxid, code := r.findUser(ctx, q)
	if code != wire.KeyMaterialSuccess {
		return keyMaterialReply(q.TargetUser, code), nil
	}
	client, err := r.client(ctx, mxid)
	if err != nil {
		return Reply{}, err
	}
	reply, err := r.claimFor(ctx, client, user, hash, peer, q)
	if errors.Is(err, store.ErrDuplicate) {
		a, err := r.Store.AnswerTo(ctx, user, hash)
		return Reply{Status: int(a.Status), Body: a.Body}, err
	}
	if err == nil {
		if err := r.fillStock(ctx, mxid); err != nil {
			r.Log.Warn().Err(err).Msg("a stock of KeyPackages was not filled up")
		}
	}
	return reply, err
}

// stillGood tells whether the KeyPackages of an answer were not used yet.
func (r *Relay) stillGood(ctx context.Context, answer []byte, q *wire.KeyMaterialRequest) bool {
	received, err := wire.UnmarshalKeyMaterialResponse(answer)
	if err != nil {
		return false
	}
	checked, err := received.Check(q)
	if err != nil {
		return false
	}
	for _, c := range checked.Clients {
		if c.Status != wire.ClientSuccess {
			continue
		}
		kp, err := r.Store.KeyPackage(ctx, c.KeyPackage.Ref())
		if err != nil || kp.State == store.KeyPackageUsed || kp.State == store.KeyPackageRevoked {
			return false
		}
	}
	return true
}

// allowClaim bounds how fast stocks can be emptied.
func (r *Relay) allowClaim(ctx context.Context, peer string, q *wire.KeyMaterialRequest) error {
	if err := r.allow(ctx, "claim", peer+" "+q.TargetUser.Key(), r.cfg.KeyClaims); err != nil {
		return err
	}
	return r.allow(ctx, "claims", peer, r.cfg.PeerKeyClaims)
}

// findUser finds the Matrix user and says whether the peer may have its KeyPackages.
func (r *Relay) findUser(ctx context.Context, q *wire.KeyMaterialRequest) (string, wire.KeyMaterialUserCode) {
	mxid, err := r.Naming.ParseUserURI(q.TargetUser)
	if err != nil || !r.exported(mxid) {
		return "", wire.KeyMaterialUserUnknown
	}
	if !r.consents(ctx, q) {
		return "", wire.KeyMaterialNoConsent
	}
	if u, err := r.Store.User(ctx, mxid); err == nil {
		if u.State == userDeleted {
			return "", wire.KeyMaterialUserDeleted
		}
		return mxid, wire.KeyMaterialSuccess
	}
	if r.Homeserver == nil {
		return "", wire.KeyMaterialUserUnknown
	}
	there, err := r.Homeserver.UserExists(ctx, mxid)
	if err != nil || !there {
		return "", wire.KeyMaterialUserUnknown
	}
	return mxid, wire.KeyMaterialSuccess
}

// consents tells whether a user of ours can be reached by a requester: by the rule for its provider, unless the user said
// otherwise.
func (r *Relay) consents(ctx context.Context, q *wire.KeyMaterialRequest) bool {
	c, err := r.Store.Consent(ctx, store.In, q.TargetUser.Key(), q.RequestingUser.Key(), q.RoomID.Key())
	if errors.Is(err, store.ErrNotFound) { // who knocked lets anybody of the hub's provider add them
		c, err = r.Store.Consent(ctx, store.In, q.TargetUser.Key(), providerURI(q.RequestingUser.Domain()), q.RoomID.Key())
	}
	if err == nil {
		switch c.State {
		case store.ConsentGranted:
			return true
		case store.ConsentRevoked:
			return false
		}
	}
	return r.Consent == nil || r.Consent(q.RequestingUser.Domain())
}

// claimFor hands one out and keeps the answer, in one transaction: a lost answer wastes one, and none is handed out twice.
func (r *Relay) claimFor(ctx context.Context, client puppets.Client, user store.RoomID, hash [32]byte, peer string, q *wire.KeyMaterialRequest) (Reply, error) {
	var reply Reply
	err := r.Store.Tx(ctx, func(tx *store.Tx) error {
		entry := wire.ClientKeyMaterial{ClientURI: wire.IdentifierURI(client.ClientURI)}
		code := wire.KeyMaterialSuccess
		kp, err := r.claimOne(ctx, tx, client, q.AcceptableSuites, peer, string(q.RoomID))
		switch {
		case errors.Is(err, errNothingCompatible):
			entry.Status, code = wire.ClientNothingCompatible, wire.KeyMaterialNoCompatibleMaterial
		case err != nil:
			return err
		case !kp.Leaf.Capabilities.Supports(&q.RequiredCapabilities):
			entry.Status, code = wire.ClientNothingCompatible, wire.KeyMaterialNoCompatibleMaterial
		default:
			entry.KeyPackage = kp
		}
		reply = keyMaterialReply(q.TargetUser, code, entry)
		return tx.PutAnswer(ctx, store.StoredAnswer{Room: user, Hash: hash, Peer: peer, Verb: verbKeyMaterial, Status: http.StatusOK,
			Body: reply.Body, UntilMS: r.Clock().Add(keepAnswers).UnixMilli()})
	})
	return reply, err
}

// noForward says why a request for the KeyPackages of another provider's user is not passed on, "" when it is.
func (s *step) noForward(peer string, q *wire.KeyMaterialRequest) string {
	if s.denied(q.TargetUser.Domain()) {
		return "the room keeps the provider out"
	}
	return hub.KeyMaterial(s.hubRoom(), peer, q)
}

// forwardKeyMaterial passes the request of a participant on, unchanged, and remembers where the Welcome will have to go.
func (r *Relay) forwardKeyMaterial(ctx context.Context, peer string, q *wire.KeyMaterialRequest, raw []byte) (Reply, error) {
	if q.RoomID == "" || !r.Naming.Own(q.RoomID) {
		return Reply{}, fmt.Errorf("key material of a user of another provider: %w", ErrForbidden)
	}
	id, err := r.hubRoomID(ctx, q.RoomID)
	if err != nil {
		return Reply{}, err
	}
	var why string
	code := wire.KeyMaterialNoConsentForThisRoom
	_, err = r.runStep(ctx, id, nil, store.Settle{}, func(s *step) error {
		if err := s.outsider(peer); err != nil {
			return err
		}
		if why = s.noForward(peer, q); s.denied(q.TargetUser.Domain()) {
			code = wire.KeyMaterialNoCompatibleMaterial // whose consent would change nothing
		}
		return nil
	})
	if err != nil {
		return Reply{}, err
	}
	if why != "" {
		r.Log.Info().Str("peer", peer).Str("reason", why).Str("fate", "refused").Msg("key material was not asked for on behalf of a peer")
		return keyMaterialReply(q.TargetUser, code), nil
	}
	if err := r.allow(ctx, "forward", peer, r.cfg.PeerKeyClaims); err != nil {
		return Reply{}, err
	}
	domain := q.TargetUser.Domain()
	if r.Requester == nil || r.blockedUser(string(q.TargetUser)) {
		return keyMaterialReply(q.TargetUser, wire.KeyMaterialUserUnknown), nil
	}
	body, err := r.Requester.Request(ctx, domain, verbKeyMaterial, string(q.TargetUser), raw)
	if err != nil {
		return Reply{}, fmt.Errorf("ask %s for key material: %w: %w", domain, ErrTemporary, err)
	}
	received, err := wire.UnmarshalKeyMaterialResponse(body)
	if err != nil {
		return Reply{}, fmt.Errorf("ask %s for key material: %w: %w", domain, ErrTemporary, err)
	}
	answer, err := received.Check(q)
	if err != nil {
		return Reply{}, fmt.Errorf("ask %s for key material: %w: %w", domain, ErrTemporary, err)
	}
	_, err = r.runStep(ctx, id, nil, store.Settle{}, func(s *step) error {
		s.remember(answer, domain)
		return nil
	})
	return Reply{Body: body}, err
}

// source is the provider that a KeyPackage came from through us, "" for one that did not, or was claimed for another room.
func (s *step) source(ref []byte) string {
	row, err := s.Store.KeyPackage(s.ctx, ref)
	switch {
	case err != nil:
		return s.route(ref)
	case s.claimedElsewhere(&row):
		return ""
	}
	return s.Naming.Domain
}

// claimedElsewhere tells whether a KeyPackage of ours was handed out for another room than this one. It is good for one room only,
// and the user may have agreed to no other (draft-ietf-mimi-protocol-06 §5.2). Of a last resort only the last claim is known.
func (s *step) claimedElsewhere(row *store.KeyPackage) bool {
	return !row.LastResort && row.ClaimedRoom != "" && !wire.IdentifierURI(row.ClaimedRoom).Same(s.room.uri())
}
