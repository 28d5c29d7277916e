package relay

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/mimiside/credential"
	"github.com/matrix-mimi/bridge/mimiside/follower"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/puppets"
)

// Config is what the operator decides. Zero fields take the default that stands beside them.
type Config struct {
	// Suite is the ciphersuite of new groups and of the users' keys. SuiteX25519AES128Ed25519.
	Suite mls.Suite
	// Bot is the Matrix user id of the bridge's bot.
	Bot string
	// BotName is the bot's display name.
	BotName string
	// CommandPrefix begins commands to the bot in rooms: "!mimi".
	CommandPrefix string
	// GhostName is the template of ghosts' names: puppets.DefaultNameTemplate.
	GhostName string
	// MaxExport is how many members of a Matrix room get a leaf when it is joined to MIMI: 500.
	MaxExport int
	// Stock is how many KeyPackages a user has in stock: puppets.DefaultStock.
	Stock int
	// X509 gives own clients certificates of the provider's authority instead of basic credentials.
	X509 bool
	// Renew is how often the keys of an own leaf are renewed: puppets.RenewEvery.
	Renew time.Duration
	// Waiting bounds what waits for an earlier item: follower.DefaultBounds.
	Waiting follower.Bounds
	// PendingWait is how long messages wait for our own commit before they are sent in the old epoch: 30 s.
	PendingWait time.Duration
	// AskAfter is how long a commit that met another epoch waits for the winning one before the hub is asked: 5 s.
	AskAfter time.Duration
	// InviteTimeout is how long a ghost's invitation waits for consent: 14 days.
	InviteTimeout time.Duration
	// Consistency is how often a room is compared with its Matrix room: 1 h.
	Consistency time.Duration
	// NoQueries and HandlesOnly bound whom identifier queries find: nobody, or who is asked for by the whole address.
	NoQueries, HandlesOnly bool
	// AllowWorldReadable joins Matrix rooms to MIMI whose messages can be read by everybody from outside.
	AllowWorldReadable bool
	// AllowLoggingForbidden joins rooms whose policy forbids logging, which a bridge cannot promise.
	AllowLoggingForbidden bool
	// StatusEvents sends com.beeper.message_send_status for delivered messages too, not only for failed ones.
	StatusEvents bool
	// DoublePuppet lets the bridge act as users of the own homeserver: join them to rooms that they agreed to.
	DoublePuppet bool
	// Encryption is about encrypted Matrix rooms.
	Encryption Encryption
	// Combine is how long a change of name, topic or avatar waits for others, to go in one commit with them: 500 ms. Negative
	// for not at all.
	Combine time.Duration
	// NoReceipts reports what Matrix users have read only in rooms that demand it.
	NoReceipts bool
	// Media is about files.
	Media Media
	// Mapping are the choices for messages.
	Mapping mapping.Options
	// Limits of the groups.
	Limits mls.Limits
	// KeyClaims and PeerKeyClaims bound claims of KeyPackages an hour, by (peer, target) and by peer: 10 and 1,000.
	KeyClaims, PeerKeyClaims int64
	// GroupInfos bounds groupInfo requests an hour by (peer, room): 10.
	GroupInfos int64
	// MaxUnread and MaxUnreadBytes bound what a hub sent into a room and was not worked off: 20,000 items and 256 MiB.
	MaxUnread, MaxUnreadBytes int64
	// Reports bounds the abuse reports of a peer an hour: 60.
	Reports int64
	// ReportRoom is the Matrix room in which abuse reports are told, "" for the chats of administrators with the bot.
	ReportRoom string
	// Workers is how many rooms are worked on at once: 8.
	Workers int
	// CurrentWorkers is to how many providers current status is sent at once: 8.
	CurrentWorkers int
	// CachedRooms bounds the rooms kept in memory: 1,000. CachedMembers bounds the members of them all, of which each takes some 5 KB
	// with its place in the group: 50,000.
	CachedRooms, CachedMembers int
	// Owner names this process in leases. Random by default.
	Owner string
}

func (c Config) withDefaults() Config {
	def(&c.Suite, mls.SuiteX25519AES128Ed25519)
	def(&c.BotName, "MIMI bridge")
	def(&c.CommandPrefix, "!mimi")
	def(&c.GhostName, puppets.DefaultNameTemplate)
	def(&c.MaxExport, 500)
	def(&c.Stock, puppets.DefaultStock)
	def(&c.Renew, puppets.RenewEvery)
	def(&c.Waiting, follower.DefaultBounds)
	def(&c.PendingWait, 30*time.Second)
	def(&c.AskAfter, 5*time.Second)
	def(&c.InviteTimeout, 14*24*time.Hour)
	def(&c.Consistency, time.Hour)
	def(&c.Combine, 500*time.Millisecond)
	def(&c.KeyClaims, 10)
	def(&c.PeerKeyClaims, 1000)
	def(&c.GroupInfos, 10)
	def(&c.MaxUnread, 20_000)
	def(&c.MaxUnreadBytes, 256<<20)
	def(&c.Reports, 60)
	def(&c.Workers, 8)
	def(&c.CachedRooms, 1000)
	def(&c.CachedMembers, 50_000)
	def(&c.CurrentWorkers, 8)
	c.Media = c.Media.withDefaults()
	return c
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Requester sends a request to another provider and waits for the answer, for the few cases in which somebody waits for
// ours meanwhile: a keyMaterial that a hub forwards, an identifier that a person looks for. verb is the key of the
// directory; the result is the body of a 2xx answer.
type Requester interface {
	Request(ctx context.Context, domain, verb, target string, body []byte) ([]byte, error)
}

// Homeserver answers questions while an input is worked off, before its step. An error that wraps ErrRefused is its last
// word; any other is tried again.
type Homeserver interface {
	// UserExists tells whether a user of the own homeserver exists.
	UserExists(ctx context.Context, mxid string) (bool, error)
	// RoomState returns the state events of a room, read as a user of ours.
	RoomState(ctx context.Context, as, roomID string) ([]json.RawMessage, error)
	// Event returns an event of a room, read as a user of ours.
	Event(ctx context.Context, as, roomID, eventID string) (json.RawMessage, error)
}

// ErrRefused says that the homeserver will not answer.
var ErrRefused = errors.New("the homeserver refused")

// Commander gets what people write to the bot: in a chat with it, or after the command prefix in a room. It runs outside of
// any step and answers by its own means; when it returns an error the input is tried again.
type Commander interface {
	Command(ctx context.Context, c Command) error
}

// Command is a message for the bot.
type Command struct {
	RoomID, EventID, Sender string
	// Text is the command without the prefix.
	Text string
	// Private tells that the room is a chat with the bot only.
	Private bool
	// ReplyTo is the event that the message replies to, or "".
	ReplyTo string
}

// Deps is what a Relay is made of.
type Deps struct {
	Store  *store.DB
	Naming mapping.Naming
	Config Config
	// Permitted tells whether a Matrix user may take part. Nil permits all users of the own homeserver.
	Permitted func(mxid string) bool
	// Admins are the administrators that the settings name, IsAdmin tells whether somebody is one. Nil: nobody else is.
	Admins  []string
	IsAdmin func(mxid string) bool
	// Consent tells whether a peer may claim KeyPackages of our users without asking them. Nil means yes.
	Consent func(peer string) bool
	// Ask tells whether users are asked when somebody of a peer wants to reach them. Nil means yes.
	Ask func(peer string) bool
	// PublicURL is the https address under which everybody may fetch a file of the Matrix media repository, "" for none. Nil
	// publishes nothing: rooms have no avatar in MIMI then.
	PublicURL func(mxc string) string
	// Blocked tells that a provider is not spoken with.
	Blocked func(domain string) bool
	// PeerAuthorities returns the certificates (DER) of the authorities by which a provider certifies its users, none when it
	// certifies none. An error means that it could not be asked. Nil knows of none.
	PeerAuthorities func(ctx context.Context, domain string) ([][]byte, error)
	// DemandCertificates tells whether basic credentials of a provider's users are refused. Nil refuses none.
	DemandCertificates func(domain string) bool

	// MayShare tells whether an extension (docs/extensions.md) may be shared with a peer, without asking it. Nil shares none.
	MayShare func(domain, name string) bool

	// NameOf returns the display name and the picture (mxc) of a Matrix user, "" for none. Nil tells none to others.
	NameOf func(ctx context.Context, mxid string) (name, avatar string, err error)

	// ShowPresence says whether a ghost is there: online, unavailable or offline, with a text. Nil tells and shows no presence.
	ShowPresence func(ctx context.Context, ghost id.UserID, state, text string) error
	// ShowTyping shows a ghost typing in a Matrix room for a time, 0 ends it. Nil tells and shows no typing.
	ShowTyping func(ctx context.Context, room id.RoomID, ghost id.UserID, lasts time.Duration) error

	Requester  Requester
	Homeserver Homeserver
	Commander  Commander
	// Decrypter opens events of encrypted rooms; nil when the bridge takes no part in them.
	Decrypter Decrypter
	// Files is where the files of assets are deleted. Nil carries no files.
	Files Files
	// WakeLanes is told of lanes with new rows, after the commit.
	WakeLanes func(lanes []store.Woken)
	// Alert is told what an operator must see.
	Alert func(kind, message string)

	Clock func() time.Time
	Rand  io.Reader
	Log   zerolog.Logger
}

// Relay works off the inputs of all rooms of its shards. It is safe for concurrent use.
type Relay struct {
	Deps
	cfg         Config
	hub         *hubKeys
	bot         string // the bot's MIMI user URI
	components  map[mls.ComponentID]mls.ComponentLogic
	authorities []*credential.Authority // of ours, oldest first; the last one signs

	mu      sync.Mutex
	slots   map[store.RoomID]*slot
	members int   // of all slots
	uses    int64 // how often a slot was asked for
	led     map[string]led
	hubs    map[string]store.RoomID   // rooms that we lead and that have a group, by the keys of their URIs: they stay so
	issuers map[string]issuers        // by domain
	leased  map[store.Shard]time.Time // until when this process is sure of its leases
	queue   *queue

	clients clientCache
	// threads is the ActivityPub face, nil when there is none.
	threads threads
	// channels is the ActivityPub face, nil when there is none.
	channels channels
	current  *current
	// cursors seals where the pages of searches begin.
	cursors cipher.AEAD
	// statuses bounds what providers tell of the current status of people.
	statuses *quota
	// delaysTold is until when lanes began to fail of which people were told, in milliseconds.
	delaysTold atomic.Int64
	// running says that there are workers.
	running atomic.Bool
}

// New makes a Relay and the provider's own keys where the database has none yet.
func New(ctx context.Context, d Deps) (*Relay, error) {
	if d.Store == nil {
		return nil, errors.New("relay needs a store")
	}
	if err := d.Naming.Check(); err != nil {
		return nil, err
	}
	r := &Relay{Deps: d, cfg: d.Config.withDefaults(), slots: map[store.RoomID]*slot{}, hubs: map[string]store.RoomID{}, queue: newQueue(), current: newCurrent(), statuses: newQuota(statusesAnHour)}
	if r.Clock == nil {
		r.Clock = time.Now
	}
	if r.Rand == nil {
		r.Rand = rand.Reader
	}
	if r.Permitted == nil {
		r.Permitted = func(mxid string) bool {
			_, server, err := mapping.SplitMXID(mxid)
			return err == nil && server == d.Naming.Server
		}
	}
	if r.Alert == nil {
		r.Alert = func(kind, message string) { r.Log.Error().Str("alert", kind).Msg(message) }
	}
	if r.cfg.Owner == "" {
		r.cfg.Owner = newOwner()
	}
	uri, err := d.Naming.UserURI(r.cfg.Bot)
	if err != nil {
		return nil, err
	}
	r.bot = string(uri)
	if err := r.loadHubKeys(ctx); err != nil {
		return nil, err
	}
	if err := r.loadCursorKey(ctx); err != nil {
		return nil, err
	}
	if err := r.loadAuthorities(ctx); err != nil {
		return nil, err
	}
	r.components = componentLogic()
	return r, nil
}

func newOwner() string { return "relay-" + rand.Text()[:12] }
