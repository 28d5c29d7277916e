package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/outbox"
	"github.com/matrix-mimi/bridge/internal/store"
	matrix "github.com/matrix-mimi/bridge/matrixside/client"
	"github.com/matrix-mimi/bridge/matrixside/event"
	mimi "github.com/matrix-mimi/bridge/mimiside/client"
	"github.com/matrix-mimi/bridge/mimiside/peer"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// The kinds of destinations: what stands before the colon of store.Outbound.Dest.
const (
	routeMatrix = "matrix"
	routeMIMI   = "mimi"
	routeAside  = "aside" // requests of extensions that are of use for a while only
)

// asideWaits are the pauses between the tries of what goes aside.
var asideWaits = []time.Duration{10 * time.Second, time.Minute, 5 * time.Minute}

// matrixSender carries rows out at the homeserver. It sends one row at a time.
type matrixSender struct {
	do   func(ctx context.Context, row matrix.Row) matrix.Result
	room func(ctx context.Context, room store.RoomID) (store.Room, error)
}

// Send implements outbox.Sender.
func (s matrixSender) Send(ctx context.Context, rows []store.Outbound) outbox.Result {
	row := rows[0]
	room, err := s.room(ctx, row.Room)
	if err != nil {
		return outbox.Result{Class: outbox.Retry, Reason: "the room was not read"}
	}
	res := s.do(ctx, matrix.Row{
		Request:  event.Request{Verb: event.Verb(row.Verb), Args: row.Data},
		Room:     id.RoomID(room.MatrixRoomID),
		Txn:      row.TxnKey,
		Repeated: row.Repeated,
	})
	out := outbox.Result{Status: res.Status, Body: res.Body, EventID: string(res.EventID()), RetryAfter: res.RetryAfter}
	switch res.Class {
	case matrix.Done:
		out.Class = outbox.Done
	case matrix.Refused:
		out.Class = outbox.Refused
	default:
		out.Class = outbox.Retry
	}
	if res.Err != nil {
		out.Reason = res.Err.Error()
	}
	return out
}

// errNoVerb says that a row asks for what no provider offers: a bug.
var errNoVerb = errors.New("there is no such endpoint")

// mimiRequester sends one request to a provider, by the name of its endpoint
// in the directory.
type mimiRequester struct{ client *mimi.Client }

func (r mimiRequester) request(ctx context.Context, domain, verb, target string, body []byte) (mimi.Result, error) {
	c, t := r.client, wire.IdentifierURI(target)
	switch wire.Verb(verb) {
	case wire.VerbKeyMaterial:
		return c.KeyMaterial(ctx, domain, t, body)
	case wire.VerbUpdate:
		return c.Update(ctx, domain, t, body)
	case wire.VerbNotify:
		return c.Notify(ctx, domain, t, body)
	case wire.VerbSubmitMessage:
		return c.SubmitMessage(ctx, domain, t, body)
	case wire.VerbGroupInfo:
		return c.GroupInfo(ctx, domain, t, body)
	case wire.VerbRequestConsent:
		return c.RequestConsent(ctx, domain, t, body)
	case wire.VerbUpdateConsent:
		return c.UpdateConsent(ctx, domain, t, body)
	case wire.VerbIdentifierQuery:
		return c.IdentifierQuery(ctx, domain, body)
	case wire.VerbReportAbuse:
		return c.ReportAbuse(ctx, domain, t, body)
	}
	if v := wire.Verb(verb); v.Extension() {
		return c.Extension(ctx, domain, v, t, body)
	}
	return mimi.Result{}, fmt.Errorf("%w: %q", errNoVerb, verb)
}

// Request implements relay.Requester: the body of a 2xx answer, else an error.
func (r mimiRequester) Request(ctx context.Context, domain, verb, target string, body []byte) ([]byte, error) {
	res, err := r.request(ctx, domain, verb, target, body)
	if err != nil {
		return nil, err
	}
	if res.Class() != mimi.Done {
		return nil, fmt.Errorf("ask %s for %s: it answers %d", domain, verb, res.Status)
	}
	return res.Body, nil
}

// mimiSender sends rows to providers.
type mimiSender struct {
	request func(ctx context.Context, domain, verb, target string, body []byte) (mimi.Result, error)
}

// joinNotify lets the notify rows of a lane share a request: the draft allows
// several messages in one body (draft-ietf-mimi-protocol-06 §5.5).
func joinNotify(o store.Outbound) bool { return o.Verb == string(wire.VerbNotify) }

// Send implements outbox.Sender. Rows that come together are notify rows of
// one room.
func (s mimiSender) Send(ctx context.Context, rows []store.Outbound) outbox.Result {
	first := rows[0]
	_, domain, ok := strings.Cut(first.Dest, ":")
	if !ok || domain == "" {
		return outbox.Result{Class: outbox.Refused, Reason: "the destination names no provider"}
	}
	body := first.Data
	if len(rows) > 1 {
		parts := make([][]byte, len(rows))
		for i := range rows {
			parts[i] = rows[i].Data
		}
		body = bytes.Join(parts, nil)
	}
	res, err := s.request(ctx, domain, first.Verb, first.Target, body)
	if err != nil {
		out := outbox.Result{Class: outbox.Retry, Reason: err.Error(), RetryAfter: mimi.RetryAfter(err)}
		// All else, a bad certificate of the peer included, may be mended within
		// the days that a row is kept.
		if errors.Is(err, peer.ErrBlocked) || errors.Is(err, mimi.ErrNoEndpoint) || errors.Is(err, errNoVerb) {
			out.Class = outbox.Refused
		}
		return out
	}
	out := outbox.Result{Status: res.Status, Body: res.Body, RetryAfter: res.RetryAfter}
	switch res.Class() {
	case mimi.Done:
		out.Class = outbox.Done
		verdict(&out, wire.Verb(first.Verb))
	case mimi.Refused:
		out.Class, out.Reason = outbox.Refused, "the provider answers "+http.StatusText(res.Status)
	default:
		out.Class, out.Reason = outbox.Retry, "the provider answers "+http.StatusText(res.Status)
	}
	return out
}

// verdict reads what a hub says in a 200 about a message: it was accepted, or
// the room does not take it. An answer that cannot be read is left to whoever
// asked for it.
func verdict(out *outbox.Result, verb wire.Verb) {
	if verb != wire.VerbSubmitMessage {
		return
	}
	answer, err := wire.UnmarshalSubmitMessageResponse(out.Body)
	switch {
	case err != nil:
		out.Class, out.Reason = outbox.Refused, "the hub's answer was not understood"
	case answer.StatusCode == wire.SubmitAccepted:
		out.AcceptedMS = int64(answer.AcceptedTimestamp)
	default:
		out.Class, out.Reason = outbox.Refused, fmt.Sprintf("the hub answers %v", answer.StatusCode)
	}
}
