package intake

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/killpoint"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

// DefaultMaxBody is the largest transaction that is read, in octets.
const DefaultMaxBody = 64 << 20

// maxTransactionID bounds the identifier of a transaction, in octets.
const maxTransactionID = 1024

// Queries answers what the homeserver asks. An error is answered with 500, so
// that the homeserver may ask again.
type Queries interface {
	// UserExists is asked before the homeserver says that it knows no such user.
	// It may register the user first.
	UserExists(ctx context.Context, user id.UserID) (bool, error)
	// AliasExists is asked for an alias in the bridge's namespace. It may make
	// the room first.
	AliasExists(ctx context.Context, alias id.RoomAlias) (bool, error)
	// Protocol describes how to look up users and rooms; ok is false for a
	// protocol that is not ours.
	Protocol(ctx context.Context, protocol string) (p Protocol, ok bool)
	// Users and Locations look up by the fields of the protocol. Fields are
	// untrusted.
	Users(ctx context.Context, protocol string, fields map[string]string) ([]ThirdPartyUser, error)
	Locations(ctx context.Context, protocol string, fields map[string]string) ([]ThirdPartyLocation, error)
	// UserByID and LocationByAlias are the reverse.
	UserByID(ctx context.Context, user id.UserID) ([]ThirdPartyUser, error)
	LocationByAlias(ctx context.Context, alias id.RoomAlias) ([]ThirdPartyLocation, error)
}

// Protocol is the description of a third-party network (Matrix spec,
// "Third-party networks").
type Protocol struct {
	UserFields     []string              `json:"user_fields"`
	LocationFields []string              `json:"location_fields"`
	Icon           string                `json:"icon"`
	FieldTypes     map[string]FieldType  `json:"field_types"`
	Instances      []ThirdPartyInstances `json:"instances"`
}

// FieldType says what may be in a field.
type FieldType struct {
	Regexp      string `json:"regexp"`
	Placeholder string `json:"placeholder"`
}

// ThirdPartyInstances names one network of a protocol.
type ThirdPartyInstances struct {
	Desc      string            `json:"desc"`
	Icon      string            `json:"icon,omitempty"`
	Fields    map[string]string `json:"fields"`
	NetworkID string            `json:"network_id"`
}

// ThirdPartyUser is a user of the other side.
type ThirdPartyUser struct {
	UserID   id.UserID         `json:"userid"`
	Protocol string            `json:"protocol"`
	Fields   map[string]string `json:"fields"`
}

// ThirdPartyLocation is a room of the other side.
type ThirdPartyLocation struct {
	Alias    id.RoomAlias      `json:"alias"`
	Protocol string            `json:"protocol"`
	Fields   map[string]string `json:"fields"`
}

// Config is what the handler needs. Token and Sink are required.
type Config struct {
	// Token is the hs_token of the registration.
	Token string
	Sink  Sink
	// Queries may be nil: then nothing exists.
	Queries Queries
	// Pinged is called with the transaction id of each ping; nil for nobody.
	Pinged func(txn string)
	// MaxBody bounds a transaction in octets; 0 means [DefaultMaxBody].
	MaxBody int64
	// Observe is told of every transaction: "stored", "duplicate", "refused"
	// (bad token or body) or "failed" (the sink); nil for nobody.
	Observe func(result string, t *Transaction, took time.Duration)
	Log     zerolog.Logger
}

// Handler is the HTTP side of an appservice.
type Handler struct {
	cfg   Config
	token [32]byte
}

// NewHandler makes a handler.
func NewHandler(cfg Config) (*Handler, error) {
	if cfg.Token == "" || cfg.Sink == nil {
		return nil, errors.New("make appservice endpoint: token or sink is missing")
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	return &Handler{cfg: cfg, token: sha256.Sum256([]byte(cfg.Token))}, nil
}

// ServeHTTP serves the Application Service API under its present and its old
// paths (Matrix spec, Application Service API, "Legacy routes").
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	for _, p := range []string{"/_matrix/app/v1/", "/_matrix/app/unstable/", "/"} {
		if rest, ok := strings.CutPrefix(path, p); ok {
			path = rest
			break
		}
	}
	if status := h.authorise(r); status != 0 {
		h.observe("refused", nil, time.Now())
		code, text := "M_FORBIDDEN", "bad token"
		if status == http.StatusUnauthorized {
			code, text = "M_UNAUTHORIZED", "no token"
		}
		fail(w, status, code, text)
		return
	}
	kind, rest, _ := strings.Cut(path, "/")
	arg, err := url.PathUnescape(rest)
	if err != nil {
		fail(w, http.StatusBadRequest, "M_INVALID_PARAM", "bad path")
		return
	}
	switch kind {
	case "transactions":
		h.method(w, r, http.MethodPut, func() { h.transaction(w, r, arg) })
	case "users":
		h.method(w, r, http.MethodGet, func() { h.user(w, r, id.UserID(arg)) })
	case "rooms":
		h.method(w, r, http.MethodGet, func() { h.room(w, r, id.RoomAlias(arg)) })
	case "thirdparty":
		h.method(w, r, http.MethodGet, func() { h.thirdparty(w, r, rest) })
	case "ping":
		h.method(w, r, http.MethodPost, func() { h.ping(w, r) })
	default:
		fail(w, http.StatusNotFound, "M_UNRECOGNIZED", "no such endpoint")
	}
}

// authorise compares the token without telling by time how much of it is
// right. It returns the status to refuse with, or 0.
func (h *Handler) authorise(r *http.Request) int {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok { // homeservers before Matrix 1.4
		token = r.URL.Query().Get("access_token")
	}
	if token == "" {
		return http.StatusUnauthorized
	}
	got := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(got[:], h.token[:]) != 1 {
		return http.StatusForbidden
	}
	return 0
}

func (h *Handler) method(w http.ResponseWriter, r *http.Request, want string, next func()) {
	if r.Method != want {
		w.Header().Set("Allow", want)
		fail(w, http.StatusMethodNotAllowed, "M_UNRECOGNIZED", "method is not allowed")
		return
	}
	next()
}

// transaction stores a transaction and only then acknowledges it.
func (h *Handler) transaction(w http.ResponseWriter, r *http.Request, txnID string) {
	start := time.Now()
	if txnID == "" || len(txnID) > maxTransactionID {
		h.observe("refused", nil, start)
		fail(w, http.StatusBadRequest, "M_INVALID_PARAM", "bad transaction id")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.cfg.MaxBody))
	if err != nil {
		h.observe("refused", nil, start)
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			fail(w, http.StatusRequestEntityTooLarge, "M_TOO_LARGE", "transaction is too large")
			return
		}
		fail(w, http.StatusBadRequest, "M_UNKNOWN", "body ended early")
		return
	}
	raw, err := event.ParseTransaction(body)
	if err != nil {
		h.observe("refused", nil, start)
		h.cfg.Log.Error().Err(err).Str("txn_id", txnID).Msg("homeserver sent a transaction that cannot be read")
		fail(w, http.StatusBadRequest, "M_NOT_JSON", "transaction cannot be read")
		return
	}
	t := collect(Appservice, txnID, body, raw)
	dup, err := h.cfg.Sink.Store(r.Context(), t)
	if err != nil {
		h.observe("failed", t, start)
		h.cfg.Log.Error().Err(err).Str("txn_id", txnID).Msg("transaction was not stored")
		w.Header().Set("Retry-After", "5")
		fail(w, http.StatusServiceUnavailable, "M_UNKNOWN", "not stored")
		return
	}
	result := "stored"
	if dup {
		result = "duplicate"
	}
	for _, ref := range t.Refused {
		h.cfg.Log.Warn().Err(ref.Err).Str("txn_id", txnID).Str("event_id", ref.ID).Msg("event was dropped")
	}
	h.observe(result, t, start)
	reply(w, http.StatusOK, struct{}{})
	if killpoint.Enabled { // the answer is out at this point, not in a buffer
		_ = http.NewResponseController(w).Flush()
		killpoint.Hit("K4")
	}
}

func (h *Handler) observe(result string, t *Transaction, start time.Time) {
	if h.cfg.Observe != nil {
		h.cfg.Observe(result, t, time.Since(start))
	}
}

func (h *Handler) ping(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<16))
	if err != nil {
		fail(w, http.StatusBadRequest, "M_NOT_JSON", "ping cannot be read")
		return
	}
	o, err := event.ParseObject(body)
	if err != nil {
		fail(w, http.StatusBadRequest, "M_NOT_JSON", "ping cannot be read")
		return
	}
	if h.cfg.Pinged != nil {
		h.cfg.Pinged(o.Str("transaction_id"))
	}
	reply(w, http.StatusOK, struct{}{})
}

func reply(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"errcode":"M_UNKNOWN","error":"answer cannot be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

func fail(w http.ResponseWriter, status int, code, text string) {
	reply(w, status, map[string]string{"errcode": code, "error": text})
}
