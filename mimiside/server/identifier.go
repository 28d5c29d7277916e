package server

import (
	"context"
	"net/http"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// identifierQuery serves draft-ietf-mimi-protocol-06 §5.8: a search for users of ours. What was found or why not stands in the body of a 200.
func (s *Server) identifierQuery(ctx context.Context, r Request, w http.ResponseWriter, _ *http.Request) (int, error) {
	received, err := wire.UnmarshalIdentifierRequest(r.Body)
	if err != nil {
		return 0, err
	}
	q, err := received.Check()
	if err != nil {
		return 0, err
	}
	a, err := s.config.Handler.IdentifierQuery(ctx, r, q)
	if err != nil {
		return 0, err
	}
	return reply(w, a, http.StatusOK)
}
