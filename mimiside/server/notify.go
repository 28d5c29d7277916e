package server

import (
	"context"
	"net/http"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// notify serves draft-ietf-mimi-protocol-06 §5.5. The hub forgets what it got 201 for, so 201 goes out after the Handler has
// stored it and not before. A room has its hub in its URI: anyone else who fans out to it is refused here.
func (s *Server) notify(ctx context.Context, r Request, w http.ResponseWriter, _ *http.Request) (int, error) {
	if r.Path.Domain() != r.Peer {
		return 0, ErrForbidden
	}
	q, err := wire.UnmarshalNotify(r.Body)
	if err != nil {
		return 0, err
	}
	a, err := s.config.Handler.Notify(ctx, r, q)
	if err != nil {
		return 0, err
	}
	return reply(w, a, http.StatusCreated)
}
