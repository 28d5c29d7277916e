package relay

import (
	"context"
	"net/http"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// RequestConsent notes that a user of another provider wants to reach one of ours, or does not any more
// (draft-ietf-mimi-protocol-06 §5.7). The answer is the same whether or not there is such a user.
func (r *Relay) RequestConsent(ctx context.Context, peer string, e *wire.ConsentEntry) (Reply, error) {
	return r.noteConsent(ctx, store.In, e)
}

// UpdateConsent notes that a user of another provider lets one of ours reach it, or does not any more.
func (r *Relay) UpdateConsent(ctx context.Context, peer string, e *wire.ConsentEntry) (Reply, error) {
	return r.noteConsent(ctx, store.Out, e)
}

func (r *Relay) noteConsent(ctx context.Context, dir store.Direction, e *wire.ConsentEntry) (Reply, error) {
	state := map[wire.ConsentOperation]string{wire.ConsentCancel: store.ConsentCancelled, wire.ConsentRequest: store.ConsentRequested,
		wire.ConsentGrant: store.ConsentGranted, wire.ConsentRevoke: store.ConsentRevoked}[e.Operation]
	room := e.RoomID.Key()
	err := r.Store.Tx(ctx, func(tx *store.Tx) error {
		if dir == store.In {
			// What our user said stands against anything that is asked.
			if old, err := tx.Consent(ctx, dir, e.TargetURI.Key(), e.RequesterURI.Key(), room); err == nil && old.Room == room &&
				(old.State == store.ConsentGranted || old.State == store.ConsentRevoked) {
				return nil
			}
		}
		return tx.PutConsent(ctx, store.Consent{Direction: dir, Owner: e.TargetURI.Key(), Requester: e.RequesterURI.Key(), Room: room, State: state,
			UpdatedMS: r.Clock().UnixMilli()})
	})
	return Reply{Status: http.StatusCreated}, err
}
