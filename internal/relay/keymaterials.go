package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// KeyMaterials hands out KeyPackages of several users of ours, or as the hub of a room forwards the request to their provider
// (docs/extensions.md). The limits hold for each user.
func (r *Relay) KeyMaterials(ctx context.Context, peer string, path wire.IdentifierURI, body []byte) (Reply, error) {
	received, err := wire.UnmarshalKeyMaterialsRequest(body)
	if err != nil {
		return Reply{}, err
	}
	q, err := received.Check()
	if err != nil {
		return Reply{}, err
	}
	domain := q.TargetUsers[0].Domain()
	if path.Domain() != domain {
		return Reply{}, fmt.Errorf("key material of users of %s: %w", domain, ErrForbidden)
	}
	if domain != r.Naming.Domain {
		return r.forwardKeyMaterials(ctx, peer, q, body)
	}
	answer := wire.KeyMaterialsResponse{Users: make([]*wire.KeyMaterialResponse, len(q.TargetUsers))}
	claimed := false
	for i, target := range q.TargetUsers {
		reply, err := r.keyMaterialOfOurs(ctx, peer, verbKeyMaterials, q.Of(target), body)
		if errors.Is(err, ErrBusy) {
			continue // absent: the others are not held up
		}
		if err != nil {
			return Reply{}, err
		}
		one, err := wire.ReadKeyMaterialResponse(reply.Body)
		if err != nil {
			return Reply{}, fmt.Errorf("put an answer for %s together: %w", target, err)
		}
		answer.Users[i], claimed = one, true
	}
	if !claimed {
		return Reply{}, fmt.Errorf("key material of %d users: %w", len(q.TargetUsers), ErrBusy)
	}
	return Reply{Body: answer.Marshal()}, nil
}

// forwardKeyMaterials passes the request of a participant on, unchanged, and remembers where the Welcomes will have to go. Where
// that cannot be, for one of the users or at all, the users are absent from the answer, and the requester asks for each alone.
func (r *Relay) forwardKeyMaterials(ctx context.Context, peer string, q *wire.KeyMaterialsRequest, raw []byte) (Reply, error) {
	if q.RoomID == "" || !r.Naming.Own(q.RoomID) {
		return Reply{}, fmt.Errorf("key material of users of another provider: %w", ErrForbidden)
	}
	id, err := r.hubRoomID(ctx, q.RoomID)
	if err != nil {
		return Reply{}, err
	}
	absent := Reply{Body: (&wire.KeyMaterialsResponse{Users: make([]*wire.KeyMaterialResponse, len(q.TargetUsers))}).Marshal()}
	denied := false
	_, err = r.runStep(ctx, id, nil, store.Settle{}, func(s *step) error {
		if err := s.outsider(peer); err != nil {
			return err
		}
		for _, target := range q.TargetUsers {
			denied = denied || s.noForward(peer, q.Of(target)) != ""
		}
		return nil
	})
	if err != nil {
		return Reply{}, err
	}
	domain := q.TargetUsers[0].Domain()
	if denied || r.Requester == nil || r.blockedUser(string(q.TargetUsers[0])) || !r.mayShare(domain, verbKeyMaterials) {
		return absent, nil
	}
	for range q.TargetUsers {
		if err := r.allow(ctx, "forward", peer, r.cfg.PeerKeyClaims); err != nil {
			return Reply{}, err
		}
	}
	body, err := r.Requester.Request(ctx, domain, verbKeyMaterials, providerURI(domain), raw)
	if err != nil {
		r.Log.Info().Err(err).Str("peer", domain).Msg("KeyPackages of several users could not be asked for in one request")
		return absent, nil
	}
	answers, err := readKeyMaterials(body, q)
	if err != nil {
		return Reply{}, fmt.Errorf("ask %s for key material: %w: %w", domain, ErrTemporary, err)
	}
	_, err = r.runStep(ctx, id, nil, store.Settle{}, func(s *step) error {
		for _, a := range answers {
			if a != nil {
				s.remember(a, domain)
			}
		}
		return nil
	})
	return Reply{Body: body}, err
}

func readKeyMaterials(body []byte, q *wire.KeyMaterialsRequest) ([]*wire.KeyMaterialResponse, error) {
	received, err := wire.UnmarshalKeyMaterialsResponse(body)
	if err != nil {
		return nil, err
	}
	return received.Check(q)
}
