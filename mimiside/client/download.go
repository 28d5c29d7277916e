package client

import (
	"context"
	"io"
	"net/http"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Download is an asset that a hub fetches for us. Close the body.
type Download struct {
	Status int
	Header http.Header
	Body   io.ReadCloser
}

// ProxyDownload asks a hub for an asset (draft-ietf-mimi-protocol-06 §5.10.2). byteRange and ifNoneMatch are header fields, "" for
// none. The caller bounds what it reads.
func (c *Client) ProxyDownload(ctx context.Context, domain string, u wire.DownloadURL, byteRange, ifNoneMatch string) (*Download, error) {
	domain = wire.LowerDomain(domain)
	t, err := c.endpoint(ctx, domain, wire.VerbProxyDownload)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.DownloadTimeout)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.ExpandText(u.String()), nil)
	if err != nil {
		cancel()
		return nil, &Error{string(wire.VerbProxyDownload), domain, false, err}
	}
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	if ifNoneMatch != "" {
		req.Header.Set("If-None-Match", ifNoneMatch)
	}
	response, err := c.send(req, string(wire.VerbProxyDownload), domain)
	if err != nil {
		cancel()
		return nil, err
	}
	return &Download{response.StatusCode, response.Header, &cancelCloser{response.Body, cancel}}, nil
}

// cancelCloser ends the request's context when the body is closed.
type cancelCloser struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close closes the body.
func (c *cancelCloser) Close() error {
	defer c.cancel()
	return c.ReadCloser.Close()
}

// Fetch asks the host of an asset for it directly (draft-ietf-mimi-protocol-06 §5.10.1): a provider or any other web server, judged and dialled as a provider of that
// name is. Redirects are not followed. The caller bounds what it reads.
func (c *Client) Fetch(ctx context.Context, u wire.DownloadURL, byteRange, ifNoneMatch string) (*Download, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.DownloadTimeout)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		cancel()
		return nil, &Error{"download", u.Host(), false, err}
	}
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	if ifNoneMatch != "" {
		req.Header.Set("If-None-Match", ifNoneMatch)
	}
	response, err := c.send(req, "download", u.Host())
	if err != nil {
		cancel()
		return nil, err
	}
	return &Download{response.StatusCode, response.Header, &cancelCloser{response.Body, cancel}}, nil
}
