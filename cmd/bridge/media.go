package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/internal/media"
	"github.com/matrix-mimi/bridge/internal/obs"
	"github.com/matrix-mimi/bridge/internal/outbox"
	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/matrixside/bot"
	matrix "github.com/matrix-mimi/bridge/matrixside/client"
	mimi "github.com/matrix-mimi/bridge/mimiside/client"
	"github.com/matrix-mimi/bridge/mimiside/server"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// newMedia makes the asset store and what moves files in and out of it.
func (a *app) newMedia(hs *matrix.Client, p *provider) error {
	c := a.cfg.Assets
	assets, err := media.NewStore(string(c.Directory), assetsURL(a.cfg), a.db, time.Now)
	if err != nil {
		return fmt.Errorf("assets.directory: %w", err)
	}
	a.media = &media.Mover{
		Homeserver: mediaRepository{hs}, Remote: remoteAssets{p.client}, Assets: assets, DB: a.db, MaxTotal: int64(c.MaxTotal),
		Now: time.Now, Log: a.log.With().Str(obs.FieldComponent, "media").Logger(),
	}
	a.media.Limit(c.MaxConcurrent)
	a.work = append(a.work, part{"media", a.media.Run})
	return nil
}

// mediaRoute is how the lanes of files are served. A transfer may wait for a
// free place as long as it may last.
func (a *app) mediaRoute() outbox.Route {
	n := a.cfg.Assets.MaxConcurrent
	return outbox.Route{Sender: a.media, First: n, Most: n, Timeout: 2 * a.cfg.Assets.RequestTimeout.D(), Waits: media.Waits}
}

// mediaConfig is what the relay has to keep to.
func mediaConfig(cfg *config.Config) relay.Media {
	return relay.Media{Max: int64(cfg.Assets.MaxFile), Expiry: cfg.Assets.Expiry.D(), Host: assetHost(cfg), Proxy: cfg.Assets.ProxyDownloads,
		Listed: cfg.Assets.Hosts == config.HostsListed, Hosts: peerAssetHosts(cfg), OnlyHub: cfg.Assets.Downloads == config.DownloadsHub}
}

// peerAssetHosts are the hosts at which the files of peers are.
func peerAssetHosts(cfg *config.Config) map[string][]string {
	out := map[string][]string{}
	for domain, p := range cfg.MIMI.Peers {
		if len(p.AssetHosts) > 0 {
			out[domain] = p.AssetHosts
		}
	}
	return out
}

// assetsURL is the base address of assets.
func assetsURL(cfg *config.Config) string {
	if cfg.Assets.URL != "" {
		return cfg.Assets.URL
	}
	return publicURL(cfg)
}

// assetHost is the host of assets, as other providers know it.
func assetHost(cfg *config.Config) string {
	u, err := url.Parse(assetsURL(cfg))
	if err != nil {
		return cfg.MIMI.Domain
	}
	return strings.ToLower(u.Hostname())
}

// withAssets serves assets, and gives all else to another handler.
func (a *app) withAssets(other http.Handler) http.Handler {
	pictures := a.pictures()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, media.PicturePrefix) {
			pictures.ServeHTTP(w, r)
			return
		}
		if strings.HasPrefix(r.URL.Path, media.PathPrefix) {
			a.media.Assets.ServeHTTP(w, r)
			return
		}
		other.ServeHTTP(w, r)
	})
}

// pictures publishes the pictures of rooms.
func (a *app) pictures() *media.Pictures {
	key := sha256.Sum256([]byte("pictures of rooms " + a.reg.AppToken))
	return &media.Pictures{Base: assetsURL(a.cfg), Key: key[:], Homeserver: a.media.Homeserver, Limit: int64(a.cfg.Assets.MaxAvatar)}
}

// mediaRepository is that of the homeserver. It implements media.Homeserver.
type mediaRepository struct{ client *matrix.Client }

// Download implements media.Homeserver. What is larger is cut off after one
// octet more than allowed, which the reader notices.
func (m mediaRepository) Download(ctx context.Context, mxc string, limit int64) (io.ReadCloser, error) {
	f, err := m.client.Download(ctx, mxc, limit+1)
	if err != nil {
		return nil, mediaError(err)
	}
	return f, nil
}

// Upload implements media.Homeserver.
func (m mediaRepository) Upload(ctx context.Context, user string, r io.Reader, size int64, contentType, name string) (string, error) {
	mxc, err := m.client.Upload(ctx, id.UserID(user), r, size, contentType, name)
	return mxc, mediaError(err)
}

func mediaError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, matrix.ErrTooLarge):
		return fmt.Errorf("%w: %w", media.ErrTooLarge, err)
	case matrix.ClassOf(err) == matrix.Refused:
		return fmt.Errorf("%w: %w", media.ErrRefused, err)
	}
	return err
}

// remoteAssets fetches files of other providers. It implements media.Remote.
type remoteAssets struct{ client *mimi.Client }

// Proxy implements media.Remote.
func (r remoteAssets) Proxy(ctx context.Context, hub, address string) (io.ReadCloser, error) {
	u, err := wire.CheckDownloadURL(address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", media.ErrRefused, err)
	}
	return fetched(r.client.ProxyDownload(ctx, hub, u, "", ""))
}

// Direct implements media.Remote.
func (r remoteAssets) Direct(ctx context.Context, address string) (io.ReadCloser, error) {
	u, err := wire.CheckDownloadURL(address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", media.ErrRefused, err)
	}
	return fetched(r.client.Fetch(ctx, u, "", ""))
}

func fetched(d *mimi.Download, err error) (io.ReadCloser, error) {
	switch {
	case errors.Is(err, mimi.ErrNoEndpoint):
		return nil, fmt.Errorf("%w: %w", media.ErrRefused, err)
	case err != nil:
		return nil, err
	case d.Status == http.StatusOK:
		return d.Body, nil
	}
	err = fmt.Errorf("download: the server answers %d", d.Status)
	if d.Status < 500 && d.Status != http.StatusTooManyRequests && d.Status != http.StatusRequestTimeout {
		err = fmt.Errorf("%w: %w", media.ErrRefused, err)
	}
	return nil, errors.Join(err, d.Body.Close())
}

// assetProxy fetches files for other providers, as the hub of their rooms
// (draft-ietf-mimi-protocol-06 §5.10). It is no open proxy: only who takes part in
// a room of ours is served, and only hosts are asked that a policy of such a room
// names, or where files of a provider are who takes part in one.
type assetProxy struct {
	app  *app
	p    *provider
	mind *relay.Relay
}

// open fetches an asset for another provider.
func (x assetProxy) open(ctx context.Context, peer string, d server.Download) (*server.Asset, error) {
	if token := x.app.media.Assets.Token(d.URL.String()); token != "" {
		return x.own(ctx, token)
	}
	led, err := x.mind.Leads(ctx, peer)
	if err != nil {
		return nil, err
	}
	if !led {
		return nil, fmt.Errorf("%w: nobody of %s takes part in a room of ours", server.ErrForbidden, peer)
	}
	ok, err := x.allowed(ctx, d.URL.Host())
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%w: %s is no host of assets of a room", server.ErrForbidden, d.URL.Host())
	}
	got, err := x.p.client.Fetch(ctx, d.URL, d.Range, d.IfNoneMatch)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", server.ErrTemporary, err)
	}
	switch got.Status {
	case http.StatusOK, http.StatusPartialContent, http.StatusNotModified, http.StatusNotFound, http.StatusRequestedRangeNotSatisfiable:
		return &server.Asset{Status: got.Status, Header: got.Header, Body: got.Body}, nil
	}
	_ = got.Body.Close()
	return nil, fmt.Errorf("%w: the server of the asset answers %d", server.ErrNotFound, got.Status)
}

// own opens one of our own assets, whole: a range is a wish (RFC 9110 §14.2).
func (x assetProxy) own(ctx context.Context, token string) (*server.Asset, error) {
	f, a, err := x.app.media.Assets.Open(ctx, token)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: no such asset", server.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", server.ErrTemporary, err)
	}
	h := http.Header{"Content-Type": {"application/octet-stream"}, "Content-Length": {strconv.FormatInt(a.Size, 10)}}
	return &server.Asset{Status: http.StatusOK, Header: h, Body: f}, nil
}

func (x assetProxy) allowed(ctx context.Context, host string) (bool, error) {
	if host == x.p.client.Domain() || x.p.book.Of(host).Blocked {
		return false, nil
	}
	if ok, err := x.mind.AssetHost(ctx, host); err != nil || ok {
		return ok, err
	}
	providers := append(x.p.client.WithAssetsAt(host), host)
	for domain, p := range x.app.cfg.MIMI.Peers {
		if slices.Contains(p.AssetHosts, host) {
			providers = append(providers, domain)
		}
	}
	for _, domain := range providers {
		if x.p.book.Of(domain).Blocked {
			continue
		}
		if led, err := x.mind.Leads(ctx, domain); err != nil || led {
			return led, err
		}
	}
	return false, nil
}

// retryCommand tries again what failed.
func retryCommand(mind *relay.Relay) *bot.Handler {
	return &bot.Handler{
		Name: "retry", Needs: bot.User, InRoom: true,
		Help: "in reply to a message that did not get through, or to the notice of a file that could not be fetched: tries it again",
		Do: func(ctx context.Context, e *bot.Event) error {
			if e.ReplyTo == "" {
				return bot.Tell("Reply with it to the message that failed.")
			}
			err := mind.Retry(ctx, e.RoomID, e.ReplyTo)
			switch {
			case errors.Is(err, relay.ErrNotFound), errors.Is(err, relay.ErrRefused), errors.Is(err, relay.ErrNoRoom):
				return bot.Tell("There is nothing to try again.")
			case err != nil:
				return err
			}
			return e.Reply("Trying again.")
		},
	}
}
