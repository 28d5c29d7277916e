package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Request is what every endpoint knows about a request besides its body.
type Request struct {
	Peer  string    // the authenticated provider, in lower case
	Path  wire.URI  // what the path names: a room, a user or (consent, query) a provider; octets as they came
	Body  []byte    // exactly as it came
	Since time.Time // when the request was let in
}

// Answer is what a Handler answers with. The body is sent as it is.
type Answer struct {
	Status     int           // 0: 200, or 201 for the verbs that say so
	Body       []byte        // nil: none
	RetryAfter time.Duration // of 429 and 503
}

// Handler does what the requests ask for. Everything that it acknowledges is stored before it returns: the server answers
// right after. An error becomes a status by [StatusOf], and nothing of its text goes to the peer. The context ends when the
// request has taken too long or the peer is gone; the work may still have been done.
//
// Received values are decoded and nothing more; their Check belongs to the Handler, because it needs the room or gives a
// verdict that travels in the body. The others have been checked against the sender.
type Handler interface {
	// KeyMaterial answers with a KeyMaterialResponse, or forwards q.Raw() when the target is another provider's.
	KeyMaterial(ctx context.Context, r Request, q *wire.ReceivedKeyMaterialRequest) (Answer, error)
	// Update answers with an UpdateRoomResponse.
	Update(ctx context.Context, r Request, q *wire.ReceivedUpdateRequest) (Answer, error)
	// SubmitMessage answers with a SubmitMessageResponse.
	SubmitMessage(ctx context.Context, r Request, q *wire.ReceivedSubmitMessageRequest) (Answer, error)
	// Notify answers 201 without a body once the messages are stored.
	Notify(ctx context.Context, r Request, q *wire.ReceivedNotify) (Answer, error)
	// GroupInfo answers with a GroupInfoResponse.
	GroupInfo(ctx context.Context, r Request, q *wire.ReceivedGroupInfoRequest) (Answer, error)
	// RequestConsent and UpdateConsent answer 201 without a body.
	RequestConsent(ctx context.Context, r Request, e *wire.ConsentEntry) (Answer, error)
	UpdateConsent(ctx context.Context, r Request, e *wire.ConsentEntry) (Answer, error)
	// IdentifierQuery answers with an IdentifierResponse.
	IdentifierQuery(ctx context.Context, r Request, q *wire.IdentifierRequest) (Answer, error)
	// ReportAbuse answers 201 without a body.
	ReportAbuse(ctx context.Context, r Request, a *wire.AbuseReport) (Answer, error)
	// ProxyDownload opens an asset for a peer. It must refuse hosts that no asset policy names.
	ProxyDownload(ctx context.Context, r Request, d Download) (*Asset, error)
	// Extension answers a request of docs/extensions.md, decoded and nothing more. The peer shares the extension.
	Extension(ctx context.Context, v wire.Verb, r Request) (Answer, error)
}

// Download is what a peer wants to be fetched for it.
type Download struct {
	URL         wire.DownloadURL
	Range       string // header field, "" when there is none
	IfNoneMatch string // header field, "" when there is none
}

// Asset is what was fetched. Of the header only the fields that describe the content are passed on.
type Asset struct {
	Status int // 200, 206, 304, 404 or 416
	Header http.Header
	Body   io.ReadCloser // nil: none
}

// Errors that a Handler returns, and the status that each becomes. Wrap them with what was tried; that is logged.
var (
	ErrForbidden = errors.New("forbidden")           // 403
	ErrNotFound  = errors.New("not found")           // 404
	ErrBusy      = errors.New("too many requests")   // 429
	ErrTemporary = errors.New("temporarily refused") // 503
)

// RetryAfter is an error that carries the time after which the peer may try again; it wraps ErrBusy or ErrTemporary.
type RetryAfter struct {
	After time.Duration
	Err   error
}

// Error returns the reason.
func (e *RetryAfter) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *RetryAfter) Unwrap() error { return e.Err }
