package server

import (
	"context"
	"net/http"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// update serves draft-ietf-mimi-protocol-06 §5.3: commits and proposals. The verdict of the hub stands in the body of a 200; a room that the
// peer may not know of is 404.
func (s *Server) update(ctx context.Context, r Request, w http.ResponseWriter, _ *http.Request) (int, error) {
	q, err := wire.UnmarshalUpdateRequest(r.Body)
	if err != nil {
		return 0, err
	}
	a, err := s.config.Handler.Update(ctx, r, q)
	if err != nil {
		return 0, err
	}
	return reply(w, a, http.StatusOK)
}
