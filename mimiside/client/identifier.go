package client

import (
	"context"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// IdentifierQuery sends an IdentifierRequest to a provider (draft-ietf-mimi-protocol-06 §5.8). Read the answer with
// wire.IdentifierAnswer, which knows the providers that answer by status alone.
func (c *Client) IdentifierQuery(ctx context.Context, domain string, body []byte) (Result, error) {
	value, err := wire.ParseURI("mimi://" + domain)
	if err != nil {
		return Result{}, &Error{string(wire.VerbIdentifierQuery), domain, false, err}
	}
	return c.post(ctx, domain, wire.VerbIdentifierQuery, value, body, c.config.LargeResponse)
}
