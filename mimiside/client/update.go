package client

import (
	"context"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Update sends an UpdateRequest to the hub of a room (draft-ietf-mimi-protocol-06 §5.3). The answer is an
// UpdateRoomResponse.
func (c *Client) Update(ctx context.Context, domain string, room wire.IdentifierURI, body []byte) (Result, error) {
	value, err := room.Parse()
	if err != nil {
		return Result{}, &Error{string(wire.VerbUpdate), domain, false, err}
	}
	return c.post(ctx, domain, wire.VerbUpdate, value, body, c.config.SmallResponse)
}
