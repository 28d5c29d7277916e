package server

import (
	"context"
	"net/http"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// requestConsent serves draft-ietf-mimi-protocol-06 §5.7: a user of the peer asks a user of ours.
func (s *Server) requestConsent(ctx context.Context, r Request, w http.ResponseWriter, _ *http.Request) (int, error) {
	received, err := wire.UnmarshalConsentEntry(r.Body)
	if err != nil {
		return 0, err
	}
	e, err := received.CheckRequest(r.Peer, s.config.Domain)
	if err != nil {
		return 0, err
	}
	a, err := s.config.Handler.RequestConsent(ctx, r, e)
	if err != nil {
		return 0, err
	}
	return reply(w, a, http.StatusCreated)
}

// updateConsent serves draft-ietf-mimi-protocol-06 §5.7: a user of the peer answers a user of ours.
func (s *Server) updateConsent(ctx context.Context, r Request, w http.ResponseWriter, _ *http.Request) (int, error) {
	received, err := wire.UnmarshalConsentEntry(r.Body)
	if err != nil {
		return 0, err
	}
	e, err := received.CheckUpdate(r.Peer, s.config.Domain)
	if err != nil {
		return 0, err
	}
	a, err := s.config.Handler.UpdateConsent(ctx, r, e)
	if err != nil {
		return 0, err
	}
	return reply(w, a, http.StatusCreated)
}
