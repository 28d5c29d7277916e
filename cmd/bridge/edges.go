package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/media"
	"github.com/matrix-mimi/bridge/internal/obs"
	"github.com/matrix-mimi/bridge/internal/outbox"
	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	matrix "github.com/matrix-mimi/bridge/matrixside/client"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/intake"
	"github.com/matrix-mimi/bridge/mimiside/server"
	"github.com/matrix-mimi/bridge/mimiside/wire"
	"github.com/matrix-mimi/bridge/puppets"
)

// requestGrace is how long requests in progress may go on once the bridge
// stops; it lies within stopLimit.
const requestGrace = 8 * time.Second

// naming is how the bridge's users and ghosts are called on both sides.
func (a *app) naming() mapping.Naming {
	return mapping.Naming{Domain: a.cfg.MIMI.Domain, Server: a.cfg.Homeserver.Domain}
}

// bot is the bridge's own Matrix user.
func (a *app) bot() id.UserID {
	return id.NewUserID(a.cfg.Appservice.Bot.Username, a.cfg.Homeserver.Domain)
}

// newMatrixClient makes the client that speaks for the bot and the ghosts.
func (a *app) newMatrixClient() (*matrix.Client, error) {
	names := a.naming()
	requests := a.metrics.Seconds("matrix_request_seconds", "Duration of requests to the homeserver.", "verb", "result")
	transport := matrix.NewTransport()
	transport.MaxConnsPerHost = a.cfg.Homeserver.MaxConnections
	transport.MaxIdleConnsPerHost = a.cfg.Homeserver.MaxConnections
	return matrix.New(matrix.Config{
		Homeserver: a.cfg.Homeserver.Address,
		Token:      a.reg.AppToken,
		Bot:        a.bot(),
		IsGhost:    func(u id.UserID) bool { return names.IsGhost(string(u)) },
		GhostName:  a.ghostName,
		Registry:   ghostRegistry{a.db},
		Pending:    pendingEvents{a.db},
		Timeout:    a.cfg.Homeserver.RequestTimeout.D(),
		HTTP:       &http.Client{Transport: transport},
		UserAgent:  "mimi-bridge/" + buildVersion(),
		Observe: func(v event.Verb, class matrix.Class, took time.Duration) {
			requests.WithLabelValues(string(v), class.String()).Observe(took.Seconds())
		},
	})
}

// ghostName is what a ghost is called when it is registered: what is known of
// the person, in the operator's template.
func (a *app) ghostName(ctx context.Context, user id.UserID) (name, avatar string, err error) {
	ghost, err := a.db.Ghost(ctx, string(user))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", "", err
	}
	if ghost.URI == "" {
		uri, err := a.naming().ParseGhostMXID(string(user))
		if err != nil {
			return "", "", nil // a hashed name that no row explains: it stays nameless
		}
		ghost.URI = string(uri)
	}
	if ghost.Display != "" {
		return ghost.Display, ghost.Avatar, nil
	}
	return puppets.Name(a.cfg.Bridge.GhostName, "", wire.IdentifierURI(ghost.URI)), ghost.Avatar, nil
}

// newOutbox makes the outbox with its routes. wake is told of rooms that got
// an answer.
func (a *app) newOutbox(hs *matrix.Client, p *provider, wake func([]store.RoomID)) (*outbox.Outbox, error) {
	most := a.cfg.Limits.OutboundConcurrency
	providers := mimiSender{request: mimiRequester{p.client}.request, share: p.client.MayShare, bulk: newBulk()}
	routes := map[string]outbox.Route{
		routeMatrix: {Sender: matrixSender{do: hs.Do, room: a.db.MatrixRoomID}, Repeats: matrixRepeats, First: most, Most: most},
		media.Kind:  a.mediaRoute(),
		routeMIMI:   {Sender: providers, Join: providers.join, Repeats: mimiRepeats, Most: most},
	}
	routes[routeAside] = outbox.Route{Sender: routes[routeMIMI].Sender, Most: most, Waits: asideWaits}
	if a.fedi != nil {
		routes[routeActivityPub] = outbox.Route{Sender: a.fedi, Most: most}
	}
	return outbox.New(outbox.Config{
		Store:       a.db,
		Routes:      routes,
		Owner:       a.owner("outbox"),
		SendTimeout: max(a.cfg.Homeserver.RequestTimeout.D(), a.cfg.MIMI.RequestTimeout.D()),
		Grace:       requestGrace,
		First:       a.cfg.Limits.RetryFirst.D(),
		Most:        a.cfg.Limits.RetryMax.D(),
		GiveUp:      a.cfg.Limits.DeadAfter.D(),
		Wake:        wake,
		Metrics:     a.metrics,
		Log:         a.log.With().Str(obs.FieldComponent, "outbox").Logger(),
	})
}

// mimiListener is the part that answers other providers. called is told who
// called, so that what waits for them is tried again at once.
func (a *app) mimiListener(p *provider, h server.Handler, webFinger, other http.Handler, called func(dest string)) (part, error) {
	log := a.log.With().Str(obs.FieldComponent, "mimi").Logger()
	requests := a.metrics.Seconds("inbound_request_seconds", "Duration of requests of other providers.", "verb", "status")
	refused := a.metrics.Counter("peer_refused_total", "Requests of other providers that were refused, by the word they got.", "reason")
	srv, err := server.New(server.Config{
		Domain: a.cfg.MIMI.Domain, Handler: h, Book: p.book, Directory: func() *wire.Directory { return p.directory }, Shares: p.client.Shares,
		WebFinger: webFinger, Other: a.withAssets(other),
		SmallBody: int64(a.cfg.Limits.MessageSize), LargeBody: int64(a.cfg.Limits.UpdateSize),
		KeyMaterialPerUser: a.cfg.Limits.KeyClaims, KeyMaterialPerPeer: a.cfg.Limits.PeerKeyClaims, GroupInfoPerRoom: a.cfg.Limits.GroupInfoRequests,
		// Failed handshakes are anybody's doing: they are counted, not logged.
		ErrorLog: stdlog.New(io.Discard, "", 0),
		Observe: func(e server.Event) {
			requests.WithLabelValues(string(e.Verb), fmt.Sprint(e.Status)).Observe(e.Took.Seconds())
			if e.Word == "" && e.Peer != "" {
				p.client.Heard(e.Peer)
				called(routeMIMI + ":" + e.Peer)
			}
			if e.Word != "" {
				refused.WithLabelValues(e.Word).Inc()
				log.Info().Str("peer", e.Peer).Str("claims", e.Claimed).Str("verb", string(e.Verb)).Int("status", e.Status).Str("word", e.Word).Err(e.Err).Msg("refused a request")
			}
		},
	})
	if err != nil {
		return part{}, err
	}
	a.metrics.GaugeFunc("peer_connections", "Open connections of other providers.", func() float64 {
		_, n := srv.Running()
		return float64(n)
	})
	ln, err := net.Listen("tcp", a.cfg.MIMI.Listen)
	if err != nil {
		return part{}, fmt.Errorf("listen for other providers (mimi.listen): %w", err)
	}
	a.closers = append(a.closers, ln)
	return part{"mimi listener", func(ctx context.Context) error { return srv.Listen(ctx, ln, p.keys, requestGrace) }}, nil
}

// matrixListener is the part that takes the homeserver's transactions and
// queries.
func (a *app) matrixListener(sink intake.Sink, queries intake.Queries, observe func(string, *intake.Transaction, time.Duration)) (part, error) {
	log := a.log.With().Str(obs.FieldComponent, "intake").Logger()
	h, err := intake.NewHandler(intake.Config{
		Token: a.reg.ServerToken, Sink: sink, Queries: queries,
		MaxBody: int64(a.cfg.Limits.TransactionSize), Observe: observe, Log: log,
	})
	if err != nil {
		return part{}, err
	}
	ln, err := net.Listen("tcp", a.cfg.Appservice.Listen)
	if err != nil {
		return part{}, fmt.Errorf("listen for the homeserver (appservice.listen): %w", err)
	}
	a.closers = append(a.closers, ln)
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: stdlog.New(io.Discard, "", 0),
	}
	return part{"homeserver listener", func(ctx context.Context) error { return serveHTTP(ctx, srv, ln) }}, nil
}

// observeTransactions counts what the homeserver sends, over both sources. here
// is called whenever the homeserver was heard of.
func (a *app) observeTransactions(here func()) func(result string, t *intake.Transaction, took time.Duration) {
	transactions := a.metrics.Counter("appservice_txn_total", "Transactions of the homeserver: stored, duplicate, refused, failed.", "result")
	last := a.metrics.Gauge("homeserver_last_transaction_seconds", "Unix time of the last transaction that was stored.")
	return func(result string, _ *intake.Transaction, _ time.Duration) {
		transactions.WithLabelValues(result).Inc()
		if result == "stored" || result == "duplicate" {
			here()
		}
		if result == "stored" {
			last.WithLabelValues().SetToCurrentTime()
		}
	}
}

// serveHTTP serves until the context ends and then lets requests in progress
// finish.
func serveHTTP(ctx context.Context, srv *http.Server, ln net.Listener) error {
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestGrace)
	defer cancel()
	err := srv.Shutdown(grace)
	if err != nil {
		err = errors.Join(err, srv.Close())
	}
	<-done
	return err
}

// buildEdges makes what takes work in, and gives it to the relay.
func (a *app) buildEdges(hs *matrix.Client, p *provider, mind *relay.Relay, out *outbox.Outbox) error {
	observe := a.observeTransactions(func() { out.Called(routeMatrix) })
	link := a.newMatrixLink(hs, a.withDevice(sink{mind}), mind, observe)
	webFinger, other := a.fedi.handlers()
	if a.fedi == nil {
		webFinger = finger{mind.Findable}
	}
	mimi, err := a.mimiListener(p, handler{assets: assetProxy{a, p, mind}, relay: mind}, webFinger, other, out.Called)
	if err != nil {
		return err
	}
	pushed := func(result string, t *intake.Transaction, took time.Duration) {
		observe(result, t, took)
		link.traffic.Came()
	}
	matrixSide, err := a.matrixListener(a.withDevice(sink{mind}), queries{mind, a.naming(), a.db.Ghost, hs.EnsureGhost}, pushed)
	if err != nil {
		return err
	}
	a.intake = append(a.intake, mimi, matrixSide, part{"homeserver link", link.run}, a.newGreeter(p, out.Called))
	a.health.Check("database", func(ctx context.Context) error {
		_, err := a.db.Setting(ctx, "", botKnown)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	return nil
}
