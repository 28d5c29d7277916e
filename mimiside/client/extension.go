package client

import (
	"context"

	"github.com/matrix-mimi/bridge/mimiside/peer"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Extension sends a request to an endpoint beside the draft's (docs/extensions.md). target is what the path names: a room, or
// "mimi://" and a domain. ErrNoEndpoint when the peer or we do not publish it.
func (c *Client) Extension(ctx context.Context, domain string, verb wire.Verb, target wire.IdentifierURI, body []byte) (Result, error) {
	value, err := target.Parse()
	if err != nil {
		return Result{}, &Error{string(verb), domain, false, err}
	}
	return c.post(ctx, domain, verb, value, body, c.config.LargeResponse)
}

// Shares tells whether an extension is shared with a peer. A directory that lacks it and is older than a minute is fetched
// anew: a peer that uses it knows that it offers it.
func (c *Client) Shares(ctx context.Context, domain, name string) (bool, error) {
	if !c.config.Own.Offers(name) {
		return false, nil
	}
	dir, err := c.directories.Get(ctx, domain)
	if err == nil && !peer.Shared(c.config.Own, dir, name) && c.directories.Expire(domain) {
		dir, err = c.directories.Get(ctx, domain)
	}
	if err != nil {
		return false, err
	}
	return peer.Shared(c.config.Own, dir, name), nil
}

// MayShare tells whether an extension may be shared with a peer, by what is in memory: false when it is not, true also when
// the peer's directory was not fetched yet. A request for it that fails with ErrNoEndpoint says the rest.
func (c *Client) MayShare(domain, name string) bool {
	if !c.config.Own.Offers(name) {
		return false
	}
	dir := c.directories.Known(domain)
	return dir == nil || peer.Shared(c.config.Own, dir, name)
}
