package server

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// passedOn are the header fields of an asset that describe its content. Cookies and all else stay here.
var passedOn = []string{"Content-Type", "Content-Length", "Content-Range", "Accept-Ranges", "Etag", "Last-Modified", "Cache-Control"}

// proxyDownload serves draft-ietf-mimi-protocol-06 §5.10.2: as the hub it fetches an asset for a peer.
func (s *Server) proxyDownload(ctx context.Context, r Request, w http.ResponseWriter, h *http.Request) (int, error) {
	_, _, escaped, _ := s.route(h.URL.EscapedPath())
	if h.URL.RawQuery != "" && strings.Contains(escaped, "/") {
		escaped += "?" + h.URL.RawQuery // the URL was not encoded, so its query became the request's
	}
	u, err := wire.ParseDownloadURL(escaped)
	if err != nil {
		return 0, err
	}
	asset, err := s.config.Handler.ProxyDownload(ctx, r, Download{URL: u, Range: h.Header.Get("Range"), IfNoneMatch: h.Header.Get("If-None-Match")})
	if err != nil {
		return 0, err
	}
	if asset.Body != nil {
		defer asset.Body.Close()
	}
	for _, name := range passedOn {
		if v := asset.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	// Whatever it is, it is a file of somebody else's on our domain.
	w.Header().Set("Content-Security-Policy", "sandbox; default-src 'none'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(asset.Status)
	if asset.Body != nil {
		_, _ = io.Copy(w, asset.Body) // a peer that goes away or an asset that breaks off ends the connection
	}
	return asset.Status, nil
}
