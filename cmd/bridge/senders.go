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
	room func(ctx context.Context, room store.RoomID) (string, error)
}

// matrixRepeats tells whether the homeserver knows a request again when it comes again: by its transaction id. A change of
// membership has none.
func matrixRepeats(row store.Outbound) bool {
	return row.Verb == string(event.VerbSend) || row.Verb == string(event.VerbRedact)
}

// mimiRepeats is that for providers. The same message again is of a position of a ratchet that was used, and what a hub answered
// it answers again.
func mimiRepeats(row store.Outbound) bool {
	return row.Verb == string(wire.VerbNotify) || row.Verb == string(wire.VerbSubmitMessage)
}

// Send implements outbox.Sender.
func (s matrixSender) Send(ctx context.Context, rows []store.Outbound) outbox.Result {
	row := rows[0]
	room := row.MatrixRoomID
	if room == "" || row.Repeated { // at a later try the room may have been replaced
		var err error
		if room, err = s.room(ctx, row.Room); err != nil {
			return outbox.Result{Class: outbox.Retry, Reason: "the room was not read"}
		}
	}
	res := s.do(ctx, matrix.Row{
		Request:  event.Request{Verb: event.Verb(row.Verb), Args: row.Data},
		Room:     id.RoomID(room),
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
	// share tells whether an extension may be shared with a provider; nil shares none.
	share func(domain, name string) bool
	bulk  *bulk
}

// join lets rows of a lane share a request: the draft allows several messages in
// the body of a notify (draft-ietf-mimi-protocol-06 §5.5), the extensions the
// rest.
func (s mimiSender) join(o store.Outbound) bool {
	switch wire.Verb(o.Verb) {
	case wire.VerbNotify, wire.VerbSubmitVerdicts:
		return true
	case wire.VerbSubmitMessage:
		return s.shares(domainOf(o.Dest), wire.VerbSubmitMessages)
	}
	return false
}

func (s mimiSender) shares(domain string, v wire.Verb) bool {
	return s.share != nil && s.share(domain, string(v))
}

// domainOf is the provider of a destination.
func domainOf(dest string) string {
	_, domain, _ := strings.Cut(dest, ":")
	return domain
}

// Send implements outbox.Sender. Rows that come together are of one room and
// verb, as join says. What several rooms have for one provider at the same time
// travels in one request where the extension for it is shared.
func (s mimiSender) Send(ctx context.Context, rows []store.Outbound) outbox.Result {
	first := rows[0]
	domain := domainOf(first.Dest)
	if domain == "" {
		return outbox.Result{Class: outbox.Refused, Reason: "the destination names no provider"}
	}
	if together, ok := bulkVerbs[wire.Verb(first.Verb)]; ok && s.bulk != nil && s.shares(domain, together) {
		return s.bulk.send(ctx, domain, together, rows, s)
	}
	return s.alone(ctx, domain, rows)
}

// alone sends rows of one room in a request of their own.
func (s mimiSender) alone(ctx context.Context, domain string, rows []store.Outbound) outbox.Result {
	first := rows[0]
	if len(rows) > 1 && first.Verb == string(wire.VerbSubmitMessage) {
		return s.together(ctx, domain, wire.VerbSubmitMessages, []*bulkCall{{rows: rows}})[0]
	}
	body := first.Data
	if len(rows) > 1 {
		body = joined(rows)
	}
	res, err := s.request(ctx, domain, first.Verb, first.Target, body)
	return s.result(first.Verb, res, err)
}

// joined is the body of several rows that share a request.
func joined(rows []store.Outbound) []byte {
	parts := make([][]byte, len(rows))
	for i := range rows {
		parts[i] = rows[i].Data
	}
	return bytes.Join(parts, nil)
}

// result is what an answer means for the rows that were sent.
func (s mimiSender) result(verb string, res mimi.Result, err error) outbox.Result {
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
		verdict(&out, wire.Verb(verb))
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
