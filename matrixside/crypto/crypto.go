package crypto

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/id"
	"maunium.net/go/mautrix/sqlstatestore"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/client"
)

func init() { crypto.PostgresArrayWrapper = pq.Array }

var (
	// ErrWaiting says that the key of an event is not there yet. It may come: call again later.
	ErrWaiting = errors.New("the room key has not come yet")
	// ErrOutside says that the bot is not in the encrypted room, so that nobody gives it keys and
	// nothing can be sent in its name. Permanent until the bot is invited.
	ErrOutside error = permanent("the bridge's bot is not in the encrypted room")
	// ErrNotStarted says that the device is not there yet. Temporary.
	ErrNotStarted = errors.New("the bridge's device is not ready yet")
	// ErrUndecryptable says that an event will never be opened: it is broken, replayed, of an unknown
	// algorithm, or its sender withholds the key. Permanent.
	ErrUndecryptable = errors.New("event cannot be decrypted")
)

// permanent is an error that no retry mends.
type permanent string

// Error implements error.
func (p permanent) Error() string { return string(p) }

// Permanent tells the client that the row is to be refused.
func (permanent) Permanent() bool { return true }

// WaitingError is an ErrWaiting that says which key is missing.
type WaitingError struct {
	Room    id.RoomID
	Session id.SessionID
}

// Error implements error.
func (e *WaitingError) Error() string { return ErrWaiting.Error() + ": session " + string(e.Session) }

// Is makes it an ErrWaiting.
func (e *WaitingError) Is(target error) bool { return target == ErrWaiting }

// Config is what the bridge's device needs. Store, Client and IsGhost are required.
type Config struct {
	// Store is the bridge's database; the device's tables are made beside it.
	Store *store.DB
	// Client speaks for the bot.
	Client *client.Client
	// IsGhost tells the users who get no keys because they have no devices: the bridge's ghosts.
	IsGhost func(id.UserID) bool
	// SelfSign makes cross-signing keys for the bot and signs the device with them.
	SelfSign bool
	// RotateMessages and RotateAfter bound how long a room key of ours is used; a room may ask for less.
	// 0 means 100 messages and 7 days.
	RotateMessages int
	RotateAfter    time.Duration
	// OnKey is told of room keys that came, after they were committed; nil for nobody.
	OnKey func(ctx context.Context, room id.RoomID, session id.SessionID)
	// Observe is told what happened, in one word: decrypted, waiting, undecryptable, encrypted, repeated, shared, rotated, requested
	// or late; nil for nobody.
	Observe func(word string)
	Clock   func() time.Time
	Rand    io.Reader
	// Log takes identifiers only: no keys and no content.
	Log zerolog.Logger
}

// Crypto is the bridge's device. It is safe for concurrent use.
type Crypto struct {
	cfg     Config
	cli     *mautrix.Client
	ownSync bool
	wanted  int // one-time keys that the homeserver should have
	db      *dbutil.Database
	keys    *keyStore
	rooms   *roomStore
	mach    *crypto.OlmMachine

	// inbox lets one to-device message in at a time, and keeps uploads of one-time keys apart from
	// their use. gate is held for writing while the machine's memory is thrown away.
	inbox sync.Mutex
	gate  sync.RWMutex
	keep  sync.Mutex // held while what was sent is written down

	mu      sync.Mutex
	asked   map[id.SessionID]time.Time // sessions that wait, and since when
	sent    map[id.SessionID]bool      // sessions that were asked for
	checked map[id.RoomID]bool         // whether a room is encrypted, where that was asked
	failed  map[id.UserID]time.Time    // users whose devices could not be had
	count   int                        // one-time keys at the homeserver, -1 if not known
	late    *late

	started atomic.Bool   // mach and cli are there
	stale   atomic.Bool   // users' devices are to be asked for
	refresh sync.Mutex    // held while they are
	work    chan struct{} // of capacity 1: there is something for Run
	stop    context.CancelFunc
}

// Bounds on what is kept in memory. What is forgotten is asked for again.
const (
	maxAsked   = 10_000
	maxChecked = 100_000
)

// New makes the tables and knows which rooms are encrypted. There is no device before Start: until then whatever needs it
// fails with ErrNotStarted, which is temporary.
func New(ctx context.Context, cfg Config) (*Crypto, error) {
	if cfg.Store == nil || cfg.Client == nil || cfg.IsGhost == nil {
		return nil, errors.New("prepare encryption: store, client or the test for ghosts is missing")
	}
	cfg = cfg.withDefaults()
	c := &Crypto{cfg: cfg, asked: map[id.SessionID]time.Time{}, sent: map[id.SessionID]bool{}, checked: map[id.RoomID]bool{},
		failed: map[id.UserID]time.Time{}, count: -1, work: make(chan struct{}, 1),
		late: &late{clock: cfg.Clock, rooms: map[id.RoomID][]*lateKey{}, users: map[id.UserID]*lateUser{}}}
	c.stale.Store(true)
	if err := c.openStores(ctx); err != nil {
		return nil, fmt.Errorf("prepare encryption: %w", err)
	}
	return c, nil
}

// Start logs the bot's device in, or makes it, and loads its keys. It talks to the homeserver, where the bot must be
// registered. Errors are those of the database and of the homeserver; it may be called again after one.
func (c *Crypto) Start(ctx context.Context) error {
	if c.started.Load() {
		return nil
	}
	if err := c.openDevice(ctx); err != nil {
		return fmt.Errorf("start encryption: %w", err)
	}
	if c.cfg.SelfSign {
		if err := c.selfSign(ctx); err != nil {
			// Everything works without it; people see a warning beside the bridge's messages.
			c.cfg.Log.Warn().Err(err).Msg("the bridge's device is not cross-signed")
		}
	}
	c.wanted = int(c.mach.GetAccount().Internal.MaxNumberOfOneTimeKeys() / 2)
	c.started.Store(true)
	return nil
}

func (c Config) withDefaults() Config {
	if c.RotateMessages <= 0 {
		c.RotateMessages = 100
	}
	if c.RotateAfter <= 0 {
		c.RotateAfter = 7 * 24 * time.Hour
	}
	if c.OnKey == nil {
		c.OnKey = func(context.Context, id.RoomID, id.SessionID) {}
	}
	if c.Observe == nil {
		c.Observe = func(string) {}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	return c
}

// openStores makes the tables of the device and of the rooms.
func (c *Crypto) openStores(ctx context.Context) error {
	db, err := dbutil.NewWithDB(c.cfg.Store.Side(), c.cfg.Store.Driver())
	if err != nil {
		return err
	}
	c.db = db
	state := sqlstatestore.NewSQLStateStore(db, dbutil.NoopLogger, false)
	if err := state.Upgrade(ctx); err != nil {
		return fmt.Errorf("make tables for rooms: %w", err)
	}
	state.DisableNameDisambiguation = true
	c.rooms = &roomStore{SQLStateStore: state, messages: c.cfg.RotateMessages, after: c.cfg.RotateAfter}
	pickle, err := c.secret(ctx, secretPickle, func() ([]byte, error) {
		key := make([]byte, 32)
		_, err := io.ReadFull(c.cfg.Rand, key)
		return key, err
	})
	if err != nil {
		return fmt.Errorf("read the key of the device's tables: %w", err)
	}
	account, err := c.account(ctx, c.cfg.Store.Restored().Restored)
	if err != nil {
		return err
	}
	sql := crypto.NewSQLCryptoStore(db, dbutil.NoopLogger, account, "", pickle)
	if err := sql.DB.Upgrade(ctx); err != nil {
		return fmt.Errorf("make tables for keys: %w", err)
	}
	c.keys = &keyStore{SQLCryptoStore: sql, changed: func(u id.UserID) {
		c.late.changed(u)
		c.wake()
	}, late: c.late}
	return nil
}

// Client is the bot's client with the device, for /sync. It is there after Start.
func (c *Crypto) Client() *mautrix.Client { return c.cli }

// NeedsSync says that to-device messages reach the device by the bot's /sync; otherwise they come by
// transaction only (MSC4190). It is known after Start.
func (c *Crypto) NeedsSync() bool { return c.ownSync }

// Fingerprint is the device's public key as people compare it, in groups of four characters. It is there after Start.
func (c *Crypto) Fingerprint() string { return c.mach.Fingerprint() }

// Close ends what the library does beside. Run must have ended.
func (c *Crypto) Close() error {
	if c.started.Load() {
		c.mach.Destroy()
		c.stop()
	}
	return nil
}

// Names of secrets in the store.
const (
	secretPickle   = "matrix.device.pickle"
	secretRecovery = "matrix.device.recovery_key"
	secretSigning  = "matrix.device.cross_signing"
)

// secret reads a secret of the store, or makes it.
func (c *Crypto) secret(ctx context.Context, name string, fresh func() ([]byte, error)) ([]byte, error) {
	got, err := c.cfg.Store.Secret(ctx, name)
	if !errors.Is(err, store.ErrNotFound) {
		return got, err
	}
	if got, err = fresh(); err != nil {
		return nil, err
	}
	return got, c.setSecret(ctx, name, got)
}

func (c *Crypto) setSecret(ctx context.Context, name string, value []byte) error {
	return c.cfg.Store.Tx(ctx, func(tx *store.Tx) error { return tx.SetSecret(ctx, name, value, store.Millis(c.cfg.Clock())) })
}
