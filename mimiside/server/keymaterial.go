package server

import (
	"context"
	"net/http"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// keyMaterial serves draft-ietf-mimi-protocol-06 §5.2. KeyPackages are a stock that can be emptied, so requests are counted by
// target and by peer (requirement S004-021). The body names the target; the path is for routing alone.
func (s *Server) keyMaterial(ctx context.Context, r Request, w http.ResponseWriter, _ *http.Request) (int, error) {
	q, err := wire.UnmarshalKeyMaterialRequest(r.Body)
	if err != nil {
		return 0, err
	}
	if err := s.peerQuota.Take(r.Peer); err != nil {
		return 0, err
	}
	if err := s.userQuota.Take(r.Peer + " " + q.TargetUser().Key()); err != nil {
		return 0, err
	}
	a, err := s.config.Handler.KeyMaterial(ctx, r, q)
	if err != nil {
		return 0, err
	}
	return reply(w, a, http.StatusOK)
}
