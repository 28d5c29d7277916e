package client

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// Registry remembers which ghosts exist. The store implements it; without one
// the client remembers while it runs.
type Registry interface {
	// Registered reports whether MarkRegistered was called for the user.
	Registered(ctx context.Context, user id.UserID) (bool, error)
	MarkRegistered(ctx context.Context, user id.UserID) error
}

// Pending finds the event that a reference of event.PendingID stands for.
type Pending interface {
	// Resolve returns "" when the event was never sent and never will be.
	Resolve(ctx context.Context, room id.RoomID, mimiID []byte, part int) (id.EventID, error)
}

// Encrypter encrypts message events for encrypted rooms.
type Encrypter interface {
	// Encrypt returns the event to be sent in place of the given one. It returns
	// it unchanged for a room that is not encrypted. key is the transaction key
	// of the row: the same row must give the same bytes at every try. An error
	// may be tried again unless it has a method Permanent that says true.
	Encrypt(ctx context.Context, room id.RoomID, key string, sender id.UserID, typ string, content json.RawMessage) (string, json.RawMessage, error)
}

// Config is what a client needs to know. Homeserver, Token and Bot are required.
type Config struct {
	// Homeserver is the base address of the client API.
	Homeserver string
	// Token is the as_token of the registration.
	Token string
	// Bot is the user of sender_localpart.
	Bot id.UserID
	// IsGhost tells the users whom the client may register.
	IsGhost func(id.UserID) bool
	// GhostName is the display name and avatar (mxc) of a ghost that is
	// registered on demand; nil for none.
	GhostName func(context.Context, id.UserID) (name, avatar string, err error)
	// Registry, Pending and Encrypter may be nil.
	Registry  Registry
	Pending   Pending
	Encrypter Encrypter
	// Timeout bounds one request without media; 0 means 60 s.
	Timeout time.Duration
	// HTTP overrides the transport, for tests.
	HTTP *http.Client
	// UserAgent is sent along; "" for the library's.
	UserAgent string
	// Observe is told of every request that was carried out; nil for nobody.
	Observe func(verb event.Verb, class Class, took time.Duration)
}

// Client carries out Matrix requests. It is safe for concurrent use.
type Client struct {
	cfg     Config
	base    *url.URL
	http    *http.Client
	stream  *http.Client // without overall timeout, for media and sync
	verbs   map[event.Verb]func(context.Context, call) Result
	ghosts  [64]sync.Mutex
	knownMu sync.Mutex
	known   map[id.UserID]bool
	pause   func(context.Context, time.Duration) error
}

// maxKnown bounds the memory of registered ghosts.
const maxKnown = 100000

// maxResponse bounds an answer of the homeserver that is no media, in octets.
const maxResponse = 64 << 20

// NewTransport is a transport that keeps enough connections to one homeserver
// open for all senders of a bridge.
func NewTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   256,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}

// New makes a client. It does not talk to the homeserver.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(cfg.Homeserver, "/"))
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" {
		return nil, fmt.Errorf("make Matrix client: homeserver address is no http(s) URL")
	}
	if cfg.Token == "" || !event.ValidUserID(cfg.Bot) {
		return nil, errors.New("make Matrix client: token or bot is missing")
	}
	if cfg.IsGhost == nil {
		cfg.IsGhost = func(id.UserID) bool { return false }
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute
	}
	c := &Client{cfg: cfg, base: base, known: map[id.UserID]bool{}, pause: pause}
	if c.stream = cfg.HTTP; c.stream == nil {
		c.stream = &http.Client{Transport: NewTransport()}
	}
	limited := *c.stream
	limited.Timeout = cfg.Timeout
	c.http = &limited
	c.verbs = map[event.Verb]func(context.Context, call) Result{
		event.VerbRegister: c.register, event.VerbProfile: c.profile, event.VerbMutePush: c.mutePush,
		event.VerbCreateRoom: c.createRoom, event.VerbJoin: c.join, event.VerbKnock: c.knock, event.VerbLeave: c.leave,
		event.VerbInvite: c.change, event.VerbKick: c.change, event.VerbBan: c.change, event.VerbUnban: c.change,
		event.VerbSend: c.send, event.VerbRedact: c.redact, event.VerbState: c.state,
		event.VerbReceipt: c.receipt, event.VerbTyping: c.typing, event.VerbAlias: c.alias, event.VerbVisibility: c.visibility,
		event.VerbMarkDirect: c.markDirect,
	}
	return c, nil
}

// UseEncrypter sets who encrypts, where that needs the client to be there
// first. It must be called before the first Do.
func (c *Client) UseEncrypter(e Encrypter) { c.cfg.Encrypter = e }

// Row is a stored request at the moment it is carried out.
type Row struct {
	event.Request
	// Room is the Matrix room of the row; "" for verbs without one.
	Room id.RoomID
	// Txn is the transaction key of the row. It must be the same at every try
	// and differ from that of every other row.
	Txn string
	// Repeated says that an earlier try may have reached the homeserver. A message of ours is then looked for in the
	// room before it is sent again, and a change of membership is compared with what is.
	Repeated bool
}

// call is a row with its arguments not yet read.
type call struct {
	Row
}

// Do carries out one request, once.
func (c *Client) Do(ctx context.Context, row Row) Result {
	start := time.Now()
	res := c.do(ctx, row)
	if c.cfg.Observe != nil {
		c.cfg.Observe(row.Verb, res.Class, time.Since(start))
	}
	return res
}

func (c *Client) do(ctx context.Context, row Row) Result {
	f, ok := c.verbs[row.Verb]
	if !ok {
		return refused("M_UNRECOGNIZED", fmt.Errorf("carry out Matrix request: unknown verb %q", row.Verb))
	}
	if row.Room != "" && !event.ValidRoomID(row.Room) {
		return refused("M_INVALID_PARAM", errors.New("carry out Matrix request: bad room id"))
	}
	args, fate, err := c.settle(ctx, row)
	if err != nil {
		return retry(fmt.Errorf("carry out Matrix request: find earlier event: %w", err))
	}
	if fate != nil {
		return *fate
	}
	row.Args = args
	return f(ctx, call{row})
}

// read decodes the arguments of a call.
func read[T any](c call) (T, *Result) {
	var v T
	if err := json.Unmarshal(c.Args, &v); err != nil {
		r := refused("M_BAD_JSON", fmt.Errorf("carry out Matrix request %s: read arguments: %w", c.Verb, err))
		return v, &r
	}
	return v, nil
}

// As is a mautrix client that speaks as the given user and tries every request
// once. "" is the bot.
func (c *Client) As(user id.UserID) *mautrix.Client {
	if user == "" {
		user = c.cfg.Bot
	}
	return &mautrix.Client{
		HomeserverURL: c.base, UserID: user, AccessToken: c.cfg.Token, UserAgent: c.cfg.UserAgent,
		Client: c.http, Log: zerolog.Nop(), SetAppServiceUserID: true, IgnoreRateLimit: true,
		ResponseSizeLimit: maxResponse,
	}
}

// Bot is the bridge's own user.
func (c *Client) Bot() id.UserID { return c.cfg.Bot }

// txn is the transaction id of a row. It names the sender as well: Dendrite's
// cache of transaction ids does not (specs of the homeservers: the id belongs
// to a device, and all ghosts share one).
func txn(key string, sender id.UserID) string {
	sum := sha256.Sum256([]byte(key + "\x00" + string(sender)))
	return "mimi" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:20]))
}

// request makes one request as a user; a ghost is registered first. path is
// below /_matrix/client.
func (c *Client) request(ctx context.Context, user id.UserID, method string, path mautrix.ClientURLPath, query map[string]string, body any) Result {
	if user == "" {
		user = c.cfg.Bot
	}
	if err := c.ensure(ctx, user); err != nil {
		return classify(nil, nil, err)
	}
	r := c.raw(ctx, user, method, path, query, body)
	if r.Class == Refused && c.isKnown(user) && strings.Contains(strings.ToLower(r.Err.Error()), "not registered") {
		// The homeserver lost the ghost (a restored backup): make it again.
		c.forget(user)
		r.Class = Retry
	}
	return r
}

// raw is request without registration.
func (c *Client) raw(ctx context.Context, user id.UserID, method string, path mautrix.ClientURLPath, query map[string]string, body any) Result {
	cli := c.As(user)
	answer, resp, err := cli.MakeFullRequestWithResp(ctx, mautrix.FullRequest{
		Method: method, URL: cli.BuildURLWithQuery(path, query), RequestJSON: body, MaxAttempts: 1, SensitiveContent: true,
	})
	return classify(answer, resp, err)
}
