package client

import (
	"context"
	"net/http"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// IdentifierQuery sends an IdentifierRequest to a provider (draft-ietf-mimi-protocol-06 §5.8). Some providers answer by the status
// alone whether there is such a user: what they say is returned as an IdentifierResponse, too.
func (c *Client) IdentifierQuery(ctx context.Context, domain string, body []byte) (Result, error) {
	value, err := wire.ParseURI("mimi://" + domain)
	if err != nil {
		return Result{}, &Error{string(wire.VerbIdentifierQuery), domain, false, err}
	}
	r, err := c.post(ctx, domain, wire.VerbIdentifierQuery, value, body, c.config.LargeResponse)
	if err != nil || r.Class() == Done && len(r.Body) > 0 {
		return r, err
	}
	if code, ok := wire.IdentifierCodeOf(r.Status); ok {
		r.Status, r.Body = http.StatusOK, (&wire.IdentifierResponse{Code: code}).Marshal()
	}
	return r, nil
}
