package client

import (
	"context"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// KeyMaterial sends a KeyMaterialRequest about a user to the user's provider, or to the hub of a room that will forward it
// (draft-ietf-mimi-protocol-06 §5.2). The answer is a KeyMaterialResponse.
func (c *Client) KeyMaterial(ctx context.Context, domain string, target wire.IdentifierURI, body []byte) (Result, error) {
	value, err := target.Parse()
	if err != nil {
		return Result{}, &Error{string(wire.VerbKeyMaterial), domain, false, err}
	}
	return c.post(ctx, domain, wire.VerbKeyMaterial, value, body, c.config.LargeResponse)
}
