package client

import (
	"context"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// SubmitMessage sends a SubmitMessageRequest to the hub of a room (draft-ietf-mimi-protocol-06 §5.4). The answer is a
// SubmitMessageResponse.
func (c *Client) SubmitMessage(ctx context.Context, domain string, room wire.IdentifierURI, body []byte) (Result, error) {
	value, err := room.Parse()
	if err != nil {
		return Result{}, &Error{string(wire.VerbSubmitMessage), domain, false, err}
	}
	return c.post(ctx, domain, wire.VerbSubmitMessage, value, body, c.config.SmallResponse)
}
