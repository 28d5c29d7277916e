package media

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
)

// PicturePrefix is where pictures of rooms are published.
const PicturePrefix = "/assets/public/"

// Pictures publishes files of the Matrix media repository that the bridge has put into a room's metadata, and no others: a
// MIMI room names its picture by an address that everybody can read. The address carries a MAC, so nothing is stored.
type Pictures struct {
	Base       string // as of NewStore
	Key        []byte
	Homeserver Homeserver
	Limit      int64 // octets; they are held in memory
}

func (p *Pictures) mac(key string) string {
	m := hmac.New(sha256.New, p.Key)
	m.Write([]byte(key))
	return hex.EncodeToString(m.Sum(nil)[:16])
}

// URL is where a file of the media repository is published, "" for what is none.
func (p *Pictures) URL(mxc string) string {
	key, ok := strings.CutPrefix(mxc, "mxc://")
	server, id, both := strings.Cut(key, "/")
	if !ok || !both || server == "" || id == "" || len(key) > 512 || strings.ContainsAny(key, "?#% \\") || strings.Contains(id, "/") {
		return ""
	}
	return strings.TrimSuffix(p.Base, "/") + PicturePrefix + p.mac(key) + "/" + key
}

// ServeHTTP serves PicturePrefix.
func (p *Pictures) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mac, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, PicturePrefix), "/")
	if !hmac.Equal([]byte(mac), []byte(p.mac(key))) {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method", http.StatusMethodNotAllowed)
		return
	}
	from, err := p.Homeserver.Download(r.Context(), "mxc://"+key, p.Limit)
	if err != nil {
		code := http.StatusServiceUnavailable
		if errors.Is(err, ErrRefused) || errors.Is(err, ErrTooLarge) {
			code = http.StatusNotFound
		}
		http.Error(w, "picture", code)
		return
	}
	defer from.Close()
	b, err := io.ReadAll(io.LimitReader(from, p.Limit+1))
	kind := sniff(b)
	if err != nil || int64(len(b)) > p.Limit || !strings.HasPrefix(kind, "image/") || strings.Contains(kind, "svg") {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "public, max-age=86400")
	_, _ = w.Write(b)
}
