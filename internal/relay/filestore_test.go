package relay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/matrix-mimi/bridge/internal/media"
	"github.com/matrix-mimi/bridge/internal/store"
)

// fileWorld is the media repository of a homeserver, the bridge's asset store, and the way to those of others.
type fileWorld struct {
	n     *node
	mover *media.Mover
	repo  map[string][]byte
	asked []string // assets that were asked for, and how
	down  bool     // nothing can be downloaded
	slow  bool     // transfers do not begin
	spoil bool     // assets are changed on the way
	tries map[string]int64
}

func (n *node) startMedia() {
	n.w.t.Helper()
	if n.files == nil {
		n.files = &fileWorld{n: n, repo: map[string][]byte{}, tries: map[string]int64{}}
		now := func() time.Time { return n.w.now }
		assets, err := media.NewStore(n.w.t.TempDir(), "https://assets."+n.domain, n.db, now)
		if err != nil {
			n.w.t.Fatal(err)
		}
		n.files.mover = &media.Mover{Homeserver: n.files, Remote: n.files, Assets: assets, DB: n.db, Now: now, Log: zerolog.Nop()}
		n.files.mover.Limit(4)
	}
	n.conf.Media.Host = "assets." + n.domain
}

// sendMedia sends a row as the outbox does.
func (n *node) sendMedia(row store.Outbound) (out store.Outcome, ok bool) {
	f := n.files
	if f.slow {
		return out, false
	}
	res := f.mover.Send(context.Background(), []store.Outbound{row})
	key := fmt.Sprint(row.Dest, row.Seq)
	if res.Class == "retry" && f.tries[key] < int64(len(media.Waits)) {
		f.tries[key]++
		return out, false
	}
	class := string(res.Class)
	if class == "retry" {
		class = "refused"
	}
	return store.Outcome{Class: class, Status: res.Status, Body: res.Body, Reason: res.Reason}, true
}

func (f *fileWorld) Download(_ context.Context, mxc string, limit int64) (io.ReadCloser, error) {
	b, ok := f.repo[mxc]
	switch {
	case f.down:
		return nil, errNetwork
	case !ok:
		return nil, media.ErrRefused
	case int64(len(b)) > limit:
		return nil, media.ErrTooLarge
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (f *fileWorld) Upload(_ context.Context, _ string, r io.Reader, size int64, _, _ string) (string, error) {
	b, err := io.ReadAll(r)
	if err != nil || int64(len(b)) != size {
		return "", fmt.Errorf("%d of %d octets: %w", len(b), size, err)
	}
	return f.add(b), nil
}

// add puts a file into the media repository.
func (f *fileWorld) add(b []byte) string {
	mxc := fmt.Sprintf("mxc://%s/f%d", f.n.hs.server, len(f.repo))
	f.repo[mxc] = b
	return mxc
}

func (f *fileWorld) public(mxc string) string {
	key, ok := strings.CutPrefix(mxc, "mxc://")
	if !ok {
		return ""
	}
	return "https://assets." + f.n.domain + "/public/" + key
}

func (f *fileWorld) Proxy(ctx context.Context, hub, address string) (io.ReadCloser, error) {
	f.asked = append(f.asked, "proxy "+hub)
	return f.n.w.nodes[hub].files.get(ctx, address)
}

func (f *fileWorld) Direct(ctx context.Context, address string) (io.ReadCloser, error) {
	f.asked = append(f.asked, "direct")
	return f.get(ctx, address)
}

func (f *fileWorld) get(_ context.Context, address string) (io.ReadCloser, error) {
	u, err := url.Parse(address)
	if err != nil || f.down {
		return nil, errNetwork
	}
	host := f.n.w.nodes[strings.TrimPrefix(u.Hostname(), "assets.")]
	if host == nil {
		return nil, errNetwork
	}
	if key, ok := strings.CutPrefix(u.Path, "/public/"); ok {
		return io.NopCloser(bytes.NewReader(host.files.repo["mxc://"+key])), nil
	}
	w := httptest.NewRecorder()
	host.files.mover.Assets.ServeHTTP(w, httptest.NewRequest(http.MethodGet, u.Path, nil))
	if w.Code != http.StatusOK {
		return nil, media.ErrRefused
	}
	b := w.Body.Bytes()
	if host.files.spoil {
		b[len(b)/2] ^= 1
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// assets lists the files that the store has.
func (f *fileWorld) assets() int {
	total := 0
	dir := f.mover.Assets
	err := dir.Walk(func(string, os.FileInfo) { total++ })
	if err != nil {
		f.n.w.t.Fatal(err)
	}
	return total
}
