package server

import (
	"context"
	"net/http"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// reportAbuse serves draft-ietf-mimi-protocol-06 §5.9: 201 says that the report was taken. Who reports is named or not; a name must be of the peer.
func (s *Server) reportAbuse(ctx context.Context, r Request, w http.ResponseWriter, _ *http.Request) (int, error) {
	received, err := wire.UnmarshalAbuseReport(r.Body)
	if err != nil {
		return 0, err
	}
	report, err := received.Check(r.Peer)
	if err != nil {
		return 0, err
	}
	a, err := s.config.Handler.ReportAbuse(ctx, r, report)
	if err != nil {
		return 0, err
	}
	return reply(w, a, http.StatusCreated)
}
