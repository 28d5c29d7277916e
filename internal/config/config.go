// Package config reads the settings of the bridge: one YAML file, then the
// environment. It knows every key, its default and what a good value is; it
// does not open files that settings point to (except secrets, on request), does
// not dial, and never writes the file.
//
// Loading is strict: an unknown key, a key given twice or a value of the wrong
// kind stops the start. Each such problem names the line, the key and the
// remedy, and all of them are reported at once.
package config

import "cmp"

// Config is the whole of the settings. Its zero value is of no use: start from
// Default. The yaml tags are the keys of config.example.yaml, where each has
// its default and one sentence; a test holds the two together.
type Config struct {
	Homeserver  Homeserver  `yaml:"homeserver"`
	Appservice  Appservice  `yaml:"appservice"`
	Bridge      Bridge      `yaml:"bridge"`
	Database    Database    `yaml:"database"`
	MIMI        MIMI        `yaml:"mimi"`
	MLS         MLS         `yaml:"mls"`
	Encryption  Encryption  `yaml:"encryption"`
	Assets      Assets      `yaml:"assets"`
	ActivityPub ActivityPub `yaml:"activitypub"`
	Limits      Limits      `yaml:"limits"`
	Logging     Logging     `yaml:"logging"`
	Admin       Admin       `yaml:"admin"`

	file  string         // where it came from, for messages
	lines map[string]int // key path → line in file
}

// Homeserver says how to reach the Matrix homeserver.
type Homeserver struct {
	Address        string   `yaml:"address"`         // base URL of the client-server API
	Domain         string   `yaml:"domain"`          // server_name: what stands after the colon in its users' ids
	Software       Software `yaml:"software"`        // which habits to expect
	SyncFallback   Toggle   `yaml:"sync_fallback"`   // also read the bot's /sync
	RequestTimeout Duration `yaml:"request_timeout"` // for one request
	MaxConnections int      `yaml:"max_connections"` // idle and busy together
	PingInterval   Duration `yaml:"ping_interval"`   // how often the way back is checked
}

// Appservice says how the homeserver reaches the bridge.
type Appservice struct {
	ID               string `yaml:"id"`                // id of the registration
	Address          string `yaml:"address"`           // base URL under which the homeserver reaches Listen
	Listen           string `yaml:"listen"`            // host:port to bind
	RegistrationFile Path   `yaml:"registration_file"` // made by `bridge registration`; holds both tokens
	ASTokenFile      Path   `yaml:"as_token_file"`     // instead of the registration's as_token
	HSTokenFile      Path   `yaml:"hs_token_file"`     // instead of the registration's hs_token
	Bot              Bot    `yaml:"bot"`
	// GhostProviders limits the exclusive namespace to ghosts of these
	// providers, so that two bridges can share one homeserver.
	GhostProviders []string `yaml:"ghost_providers"`
}

// Bot is the bridge's own user.
type Bot struct {
	Username    string `yaml:"username"`    // localpart
	Displayname string `yaml:"displayname"` // shown in rooms
	Avatar      string `yaml:"avatar"`      // mxc URI or empty
}

// Bridge holds what people on Matrix notice.
type Bridge struct {
	Permissions           Permissions   `yaml:"permissions"`
	CommandPrefix         string        `yaml:"command_prefix"`
	GhostName             string        `yaml:"ghost_name"` // template with {name} and {domain}
	DoublePuppet          bool          `yaml:"double_puppet"`
	MessageStatusEvents   bool          `yaml:"message_status_events"`
	MaxExport             int           `yaml:"max_export"` // members of a room that get a leaf at once
	AllowWorldReadable    bool          `yaml:"allow_world_readable"`
	AllowLoggingForbidden bool          `yaml:"allow_logging_forbidden"`
	InviteTimeout         Duration      `yaml:"invite_timeout"`
	ConsistencyInterval   Duration      `yaml:"consistency_interval"`
	SenderTimestamps      bool          `yaml:"sender_timestamps"`
	ExternalIDs           bool          `yaml:"external_ids"`
	PrefixSilentMentions  bool          `yaml:"prefix_silent_mentions"`
	Languages             []string      `yaml:"languages"` // language tags (RFC 5646), best first
	ReadReceipts          ReceiptPolicy `yaml:"read_receipts"`
	Typing                bool          `yaml:"typing"`
	Presence              bool          `yaml:"presence"`
	ShareProfiles         bool          `yaml:"share_profiles"`
	CallURL               string        `yaml:"call_url"`    // template with {room}
	ReportRoom            string        `yaml:"report_room"` // Matrix room id, empty for the chats of administrators
}

// Database says where state is kept.
type Database struct {
	Type           DatabaseType `yaml:"type"`
	URI            string       `yaml:"uri"`           // file for sqlite, postgres:// URI without a password
	PasswordFile   Path         `yaml:"password_file"` // PostgreSQL password
	SealingKeyFile Path         `yaml:"sealing_key_file"`
	MarkerFile     Path         `yaml:"marker_file"` // "": beside the SQLite file, or the sealing key with PostgreSQL
	MaxConnections int          `yaml:"max_connections"`
	AllowUnsynced  bool         `yaml:"allow_unsynced"` // tests only
}

// MIMI says who the provider is and whom it talks to.
type MIMI struct {
	Domain          string          `yaml:"domain"` // the provider's name, B in the documents
	Listen          string          `yaml:"listen"` // host:port to bind
	URL             string          `yaml:"url"`    // base URL that the directory publishes
	TLS             TLS             `yaml:"tls"`
	Federation      Federation      `yaml:"federation"`
	PeerDefaults    Trust           `yaml:"peer_defaults"`
	Peers           map[string]Peer `yaml:"peers"`      // by domain
	Extensions      bool            `yaml:"extensions"` // docs/extensions.md
	RequestTimeout  Duration        `yaml:"request_timeout"`
	IdentifierQuery QueryPolicy     `yaml:"identifier_query"`
}

// TLS names the provider's certificate, used for both ends of mutual TLS.
type TLS struct {
	CertificateFile Path `yaml:"certificate_file"` // PEM chain, leaf first
	KeyFile         Path `yaml:"key_file"`         // PEM private key
}

// Trust says how a peer proves who it is and what it may ask.
type Trust struct {
	Roots               Roots   `yaml:"roots"`
	CAFile              Path    `yaml:"ca_file"`
	RequireClientUsage  bool    `yaml:"require_client_usage"` // demand the clientAuth key usage
	RequireCertificates bool    `yaml:"require_certificates"` // refuse basic credentials of its users
	Consent             Consent `yaml:"consent"`
}

// Peer is what differs for one provider. Fields that are empty (nil) take the
// value of MIMI.PeerDefaults; Config.PeerTrust puts the two together.
type Peer struct {
	Address             string   `yaml:"address"` // host:port to dial instead of DNS
	Roots               Roots    `yaml:"roots"`
	CAFile              Path     `yaml:"ca_file"`
	CredentialCAFile    Path     `yaml:"credential_ca_file"` // PEM: the authorities that certify its users, instead of those that it publishes
	Pins                []string `yaml:"pins"`               // SHA-256 of the SubjectPublicKeyInfo, hex
	RequireClientUsage  *bool    `yaml:"require_client_usage"`
	RequireCertificates *bool    `yaml:"require_certificates"`
	Consent             Consent  `yaml:"consent"`
	AllowPrivateAddress bool     `yaml:"allow_private_address"`
	AssetHosts          []string `yaml:"asset_hosts"` // where its files are, instead of its domain
	Blocked             bool     `yaml:"blocked"`
}

// MLS holds the settings of groups and keys.
type MLS struct {
	CipherSuites    []int          `yaml:"cipher_suites"`     // in order of preference; the first makes new groups
	Credential      CredentialKind `yaml:"credential"`        // what own leaves show
	KeyPackageStock int            `yaml:"key_package_stock"` // ready packages a user
	UpdateInterval  Duration       `yaml:"update_interval"`   // leaf keys renewed
	PastEpochs      int            `yaml:"past_epochs"`
	PastEpochAge    Duration       `yaml:"past_epoch_age"`
	MaxForward      int            `yaml:"max_forward"` // generations ahead that are followed
	MaxSkipped      int            `yaml:"max_skipped"` // kept keys of skipped generations a sender
}

// Encryption holds the settings of Matrix end-to-bridge encryption.
type Encryption struct {
	Allow          bool     `yaml:"allow"`
	Default        bool     `yaml:"default"`
	Require        bool     `yaml:"require"`
	SelfSign       bool     `yaml:"self_sign"`
	RotateMessages int      `yaml:"rotate_messages"`
	RotateAfter    Duration `yaml:"rotate_after"`
}

// Assets holds the settings of the bridge's own file store and of downloads.
type Assets struct {
	Directory      Path     `yaml:"directory"`
	URL            string   `yaml:"url"`
	MaxFile        Size     `yaml:"max_file"`
	MaxTotal       Size     `yaml:"max_total"`
	Expiry         Duration `yaml:"expiry"`
	RequestTimeout Duration `yaml:"request_timeout"`
	MaxConcurrent  int      `yaml:"max_concurrent"`
	ProxyDownloads bool     `yaml:"proxy_downloads"`
	MaxAvatar      Size     `yaml:"max_avatar"`
	// Hosts and Downloads are the policy of the rooms that the bridge leads.
	Hosts     AssetHosts     `yaml:"hosts"`
	Downloads AssetDownloads `yaml:"downloads"`
}

// ActivityPub holds the settings of the ActivityPub face.
type ActivityPub struct {
	Enabled        bool            `yaml:"enabled"`
	Signatures     SignatureScheme `yaml:"signatures"`
	SignedFetch    bool            `yaml:"signed_fetch"`
	BlockedDomains []string        `yaml:"blocked_domains"`
	MaxInbox       Size            `yaml:"max_inbox"`
	CoverEvery     Duration        `yaml:"cover_every"`
}

// Limits are the written bounds of what others may send or ask.
type Limits struct {
	TransactionSize     Size     `yaml:"transaction_size"`
	MessageSize         Size     `yaml:"message_size"`
	UpdateSize          Size     `yaml:"update_size"`
	PeerConnections     int      `yaml:"peer_connections"`
	PeerRequests        int      `yaml:"peer_requests"` // a second, with a burst of twice that
	KeyClaims           int      `yaml:"key_claims"`    // an hour, a (peer, target)
	PeerKeyClaims       int      `yaml:"peer_key_claims"`
	GroupInfoRequests   int      `yaml:"group_info_requests"` // an hour, a (peer, room)
	Reports             int      `yaml:"reports"`             // an hour, a peer
	WaitingRows         int      `yaml:"waiting_rows"`
	WaitingSize         Size     `yaml:"waiting_size"`
	WaitingAge          Duration `yaml:"waiting_age"`
	Mentions            int      `yaml:"mentions"`
	OutboundConcurrency int      `yaml:"outbound_concurrency"` // requests in flight a destination
	RetryFirst          Duration `yaml:"retry_first"`
	RetryMax            Duration `yaml:"retry_max"`
	DeadAfter           Duration `yaml:"dead_after"`
}

// Logging says what is written where.
type Logging struct {
	Level  LogLevel  `yaml:"level"`
	Format LogFormat `yaml:"format"`
}

// Admin is the listener for operators.
type Admin struct {
	Listen      string `yaml:"listen"` // host:port; empty switches it off
	AllowRemote bool   `yaml:"allow_remote"`
	Pprof       bool   `yaml:"pprof"`
}

// File returns the name of the file that the settings came from.
func (c *Config) File() string { return c.file }

// Problem is something wrong with a setting, at its line or at that of the section that should have it.
func (c *Config) Problem(key, what, remedy string) Problem {
	return Problem{File: cmp.Or(c.file, "settings"), Line: c.lineOf(key), Key: key, What: what, Remedy: remedy}
}
