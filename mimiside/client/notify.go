package client

import (
	"context"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Notify sends one or several FanoutMessages of a room to a follower (draft-ietf-mimi-protocol-06 §5.5). The answer has no
// body; any 2xx is success.
func (c *Client) Notify(ctx context.Context, domain string, room wire.IdentifierURI, body []byte) (Result, error) {
	value, err := room.Parse()
	if err != nil {
		return Result{}, &Error{string(wire.VerbNotify), domain, false, err}
	}
	return c.post(ctx, domain, wire.VerbNotify, value, body, c.config.SmallResponse)
}
