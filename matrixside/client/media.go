package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"
)

// ErrTooLarge says that a file is larger than the caller allows.
var ErrTooLarge = errors.New("file is too large")

// Media is a file that is being downloaded. Close it.
type Media struct {
	io.ReadCloser
	// Type is the media type that the homeserver named.
	Type string
	// Size is the number of octets, -1 if the homeserver did not say.
	Size int64
	// Name is the file name that the homeserver named, "" if none.
	Name string
}

// Download starts to fetch a file of the media repository, with authentication
// where the homeserver has it. Reading more than limit octets gives
// [ErrTooLarge]. The time that reading takes is bounded only by ctx.
func (c *Client) Download(ctx context.Context, mxc string, limit int64) (*Media, error) {
	uri, err := id.ParseContentURI(mxc)
	if err != nil || uri.Homeserver == "" || uri.FileID == "" {
		return nil, refused("M_INVALID_PARAM", errors.New("download media: bad mxc address")).asError()
	}
	resp, r := c.openMedia(ctx, mautrix.ClientURLPath{"v1", "media", "download", uri.Homeserver, uri.FileID})
	if r.Class != Done && (r.Code == "M_UNRECOGNIZED" || r.Status == http.StatusNotFound && r.Code == "") {
		// Homeservers before Matrix 1.11.
		resp, r = c.openMedia(ctx, mautrix.MediaURLPath{"v3", "download", uri.Homeserver, uri.FileID})
	}
	if r.Class != Done {
		return nil, fmt.Errorf("download media: %w", r.asError())
	}
	if limit > 0 && resp.ContentLength > limit {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("download media: %d octets: %w", resp.ContentLength, ErrTooLarge)
	}
	m := &Media{ReadCloser: resp.Body, Size: resp.ContentLength, Type: resp.Header.Get("Content-Type")}
	if limit > 0 {
		m.ReadCloser = &bounded{ReadCloser: resp.Body, left: limit}
	}
	if _, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition")); err == nil {
		m.Name = params["filename"]
	}
	return m, nil
}

func (c *Client) openMedia(ctx context.Context, path mautrix.PrefixableURLPath) (*http.Response, Result) {
	cli := c.As("")
	_, resp, err := cli.MakeFullRequestWithResp(ctx, mautrix.FullRequest{
		Method: http.MethodGet, URL: cli.BuildURL(path), MaxAttempts: 1, DontReadResponse: true, Client: c.stream,
	})
	if err != nil {
		return nil, classify(nil, resp, err)
	}
	return resp, Result{Class: Done, Status: resp.StatusCode}
}

// bounded gives ErrTooLarge instead of more than left octets.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, ErrTooLarge
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return max(0, n-1), ErrTooLarge
	}
	return n, err
}

// Upload stores a file in the media repository as a user ("" is the bot) and
// returns its mxc address. size is the number of octets, or -1 if not known.
// The caller must be able to read r again for another try.
func (c *Client) Upload(ctx context.Context, user id.UserID, r io.Reader, size int64, contentType, name string) (string, error) {
	if user == "" {
		user = c.cfg.Bot
	}
	if err := c.ensure(ctx, user); err != nil {
		return "", fmt.Errorf("upload media: %w", err)
	}
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	query := map[string]string{}
	if name != "" {
		query["filename"] = name
	}
	cli := c.As(user)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, cli.BuildURLWithQuery(mautrix.MediaURLPath{"v3", "upload"}, query), io.NopCloser(r))
	if err != nil {
		return "", fmt.Errorf("upload media: %w", err)
	}
	req.ContentLength = size
	if size == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	if c.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", c.cfg.UserAgent)
	}
	resp, err := c.stream.Do(req)
	if err != nil {
		return "", retry(fmt.Errorf("upload media: %w", cause(err))).asError()
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New("refused")
	}
	res := classify(body, resp, err)
	if res.Class != Done {
		return "", fmt.Errorf("upload media: %w", res.asError())
	}
	mxc := res.field("content_uri")
	if !strings.HasPrefix(mxc, "mxc://") {
		return "", retry(errors.New("upload media: answer has no address")).asError()
	}
	return mxc, nil
}
