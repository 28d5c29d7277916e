package client

import (
	"context"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// RequestConsent sends a request or cancel about a user to the user's provider (draft-ietf-mimi-protocol-06 §5.7). The answer
// has no body; any 2xx is success, 404 may say that the user is unknown.
func (c *Client) RequestConsent(ctx context.Context, domain string, target wire.IdentifierURI, body []byte) (Result, error) {
	value, err := target.Parse()
	if err != nil {
		return Result{}, &Error{string(wire.VerbRequestConsent), domain, false, err}
	}
	return c.post(ctx, domain, wire.VerbRequestConsent, value, body, c.config.SmallResponse)
}

// UpdateConsent sends a grant or revoke to the provider of the user who asked (draft-ietf-mimi-protocol-06 §5.7). The
// answer has no body; any 2xx is success.
func (c *Client) UpdateConsent(ctx context.Context, domain string, requester wire.IdentifierURI, body []byte) (Result, error) {
	value, err := requester.Parse()
	if err != nil {
		return Result{}, &Error{string(wire.VerbUpdateConsent), domain, false, err}
	}
	return c.post(ctx, domain, wire.VerbUpdateConsent, value, body, c.config.SmallResponse)
}
