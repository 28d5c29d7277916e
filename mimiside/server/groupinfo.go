package server

import (
	"context"
	"net/http"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// groupInfo serves draft-ietf-mimi-protocol-06 §5.6. A GroupInfo shows who is in a room, so requests are counted by peer and
// room (requirement S004-040). The verdict stands in the body of a 200, also of a room that does not exist.
func (s *Server) groupInfo(ctx context.Context, r Request, w http.ResponseWriter, _ *http.Request) (int, error) {
	q, err := wire.UnmarshalGroupInfoRequest(r.Body)
	if err != nil {
		return 0, err
	}
	if err := s.roomQuota.Take(r.Peer + " " + r.Path.Key()); err != nil {
		return 0, err
	}
	a, err := s.config.Handler.GroupInfo(ctx, r, q)
	if err != nil {
		return 0, err
	}
	return reply(w, a, http.StatusOK)
}
