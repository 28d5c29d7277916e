package client

import (
	"context"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// ReportAbuse sends an AbuseReport to the hub of a room (draft-ietf-mimi-protocol-06 §5.9). The answer has no body; any 2xx
// is success.
func (c *Client) ReportAbuse(ctx context.Context, domain string, room wire.IdentifierURI, body []byte) (Result, error) {
	value, err := room.Parse()
	if err != nil {
		return Result{}, &Error{string(wire.VerbReportAbuse), domain, false, err}
	}
	return c.post(ctx, domain, wire.VerbReportAbuse, value, body, c.config.SmallResponse)
}
