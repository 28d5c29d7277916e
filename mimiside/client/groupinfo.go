package client

import (
	"context"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// GroupInfo sends a GroupInfoRequest to the hub of a room (draft-ietf-mimi-protocol-06 §5.6). The answer is a
// GroupInfoResponse.
func (c *Client) GroupInfo(ctx context.Context, domain string, room wire.IdentifierURI, body []byte) (Result, error) {
	value, err := room.Parse()
	if err != nil {
		return Result{}, &Error{string(wire.VerbGroupInfo), domain, false, err}
	}
	return c.post(ctx, domain, wire.VerbGroupInfo, value, body, c.config.LargeResponse)
}
