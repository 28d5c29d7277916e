package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/relay"
	matrix "github.com/matrix-mimi/bridge/matrixside/client"
	"github.com/matrix-mimi/bridge/matrixside/intake"
	"github.com/matrix-mimi/bridge/mimiside/server"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// handler hands the requests of other providers to the relay. It implements
// server.Handler.
type handler struct {
	relay  *relay.Relay
	assets assetProxy
}

// answered turns the relay's reply and errors into the server's.
func answered(r relay.Reply, err error) (server.Answer, error) {
	for own, theirs := range map[error]error{
		relay.ErrForbidden: server.ErrForbidden, relay.ErrNotFound: server.ErrNotFound,
		relay.ErrBusy: server.ErrBusy, relay.ErrTemporary: server.ErrTemporary,
	} {
		if errors.Is(err, own) {
			err = fmt.Errorf("%w: %w", theirs, err)
		}
	}
	return server.Answer{Status: r.Status, Body: r.Body, RetryAfter: r.RetryAfter}, err
}

func (h handler) KeyMaterial(ctx context.Context, r server.Request, _ *wire.ReceivedKeyMaterialRequest) (server.Answer, error) {
	return answered(h.relay.KeyMaterial(ctx, r.Peer, r.Body))
}

func (h handler) Update(ctx context.Context, r server.Request, _ *wire.ReceivedUpdateRequest) (server.Answer, error) {
	return answered(h.relay.Update(ctx, r.Peer, path(r), r.Body))
}

func (h handler) SubmitMessage(ctx context.Context, r server.Request, _ *wire.ReceivedSubmitMessageRequest) (server.Answer, error) {
	return answered(h.relay.SubmitMessage(ctx, r.Peer, path(r), r.Body))
}

func (h handler) Notify(ctx context.Context, r server.Request, _ *wire.ReceivedNotify) (server.Answer, error) {
	return answered(h.relay.Notify(ctx, r.Peer, path(r), r.Body))
}

func (h handler) GroupInfo(ctx context.Context, r server.Request, _ *wire.ReceivedGroupInfoRequest) (server.Answer, error) {
	return answered(h.relay.GroupInfo(ctx, r.Peer, path(r), r.Body))
}

func (h handler) RequestConsent(ctx context.Context, r server.Request, e *wire.ConsentEntry) (server.Answer, error) {
	return answered(h.relay.RequestConsent(ctx, r.Peer, e))
}

func (h handler) UpdateConsent(ctx context.Context, r server.Request, e *wire.ConsentEntry) (server.Answer, error) {
	return answered(h.relay.UpdateConsent(ctx, r.Peer, e))
}

func (h handler) IdentifierQuery(ctx context.Context, r server.Request, q *wire.IdentifierRequest) (server.Answer, error) {
	return answered(h.relay.IdentifierQuery(ctx, r.Peer, q))
}

func (h handler) ReportAbuse(ctx context.Context, r server.Request, report *wire.AbuseReport) (server.Answer, error) {
	return answered(h.relay.ReportAbuse(ctx, r.Peer, path(r), report))
}

// ProxyDownload fetches files of rooms for other providers.
func (h handler) ProxyDownload(ctx context.Context, r server.Request, d server.Download) (*server.Asset, error) {
	return h.assets.open(ctx, r.Peer, d)
}

// Extension answers the requests of docs/extensions.md.
func (h handler) Extension(ctx context.Context, v wire.Verb, r server.Request) (server.Answer, error) {
	return answered(h.relay.Extension(ctx, r.Peer, string(v), path(r), r.Body))
}

// path is what the path of a request names, as the octets came.
func path(r server.Request) wire.IdentifierURI { return r.Path.Identifier() }

// sink stores what the homeserver sends. It implements intake.Sink.
type sink struct{ relay *relay.Relay }

// Store implements intake.Sink.
func (s sink) Store(ctx context.Context, t *intake.Transaction) (dup bool, err error) {
	d := relay.Delivery{Source: string(t.Source), Hash: t.Hash, Events: t.Events, Ephemeral: t.Ephemeral, Next: t.Next}
	if t.Source == intake.Appservice {
		d.ID = t.ID // a round of sync is known by its events alone
	}
	return s.relay.Accept(ctx, d)
}

// homeserver answers the relay's questions. It implements relay.Homeserver.
type homeserver struct{ client *matrix.Client }

// UserExists implements relay.Homeserver.
func (h homeserver) UserExists(ctx context.Context, mxid string) (bool, error) {
	return h.client.Exists(ctx, id.UserID(mxid))
}

// RoomState implements relay.Homeserver.
func (h homeserver) RoomState(ctx context.Context, as, roomID string) ([]json.RawMessage, error) {
	var out []json.RawMessage
	return out, h.get(ctx, as, &out, "v3", "rooms", roomID, "state")
}

// Event implements relay.Homeserver.
func (h homeserver) Event(ctx context.Context, as, roomID, eventID string) (json.RawMessage, error) {
	var out json.RawMessage
	return out, h.get(ctx, as, &out, "v3", "rooms", roomID, "event", eventID)
}

// get reads something as a user of ours. What the homeserver will not give is
// relay.ErrRefused; anything else may be asked for again.
func (h homeserver) get(ctx context.Context, as string, into any, path ...any) error {
	cli := h.client.As(id.UserID(as))
	_, err := cli.MakeRequest(ctx, http.MethodGet, cli.BuildURL(mautrix.ClientURLPath(path)), nil, into)
	var he mautrix.HTTPError
	if errors.As(err, &he) && he.Response != nil {
		switch he.Response.StatusCode {
		case http.StatusForbidden, http.StatusNotFound, http.StatusBadRequest:
			return fmt.Errorf("%w: it answers %d", relay.ErrRefused, he.Response.StatusCode)
		}
	}
	return err
}
