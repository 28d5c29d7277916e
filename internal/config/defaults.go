package config

import "time"

const (
	mib = Size(1 << 20)
	gib = Size(1 << 30)

	minute = Duration(time.Minute)
	hour   = Duration(time.Hour)
	day    = 24 * hour
)

// Default returns the settings that hold where the file says nothing. It does
// not pass Validate: the two domains are the operator's to name.
func Default() Config {
	return Config{
		Homeserver: Homeserver{
			Address: "http://localhost:8008", Software: SoftwareAuto, SyncFallback: ToggleAuto,
			RequestTimeout: Duration(30 * time.Second), MaxConnections: 64, PingInterval: 5 * minute,
		},
		Appservice: Appservice{
			ID: "mimi", Address: "http://localhost:29340", Listen: "127.0.0.1:29340", RegistrationFile: "registration.yaml",
			Bot:            Bot{Username: "mimibot", Displayname: "MIMI bridge"},
			GhostProviders: []string{},
		},
		Bridge: Bridge{
			Permissions: Permissions{}, CommandPrefix: "!mimi", GhostName: "{name} ({domain})",
			MaxExport: 500, InviteTimeout: 14 * day, ConsistencyInterval: hour,
			PrefixSilentMentions: true, Languages: []string{},
			ReadReceipts:  ReceiptsRoom,
			Typing:        true,
			ShareProfiles: true,
		},
		Database: Database{Type: SQLite, URI: "bridge.db", SealingKeyFile: "sealing.key", MaxConnections: 20},
		MIMI: MIMI{
			Listen:     ":8443",
			TLS:        TLS{CertificateFile: "mimi-cert.pem", KeyFile: "mimi-key.pem"},
			Federation: FederationOpen, PeerDefaults: Trust{Roots: RootsPublic, Consent: ConsentOpen}, Peers: map[string]Peer{},
			Extensions: true, RequestTimeout: Duration(30 * time.Second), IdentifierQuery: QueryOptIn,
		},
		MLS: MLS{
			CipherSuites: []int{1, 2, 3, 5, 7}, Credential: CredentialBasic,
			KeyPackageStock: 20, UpdateInterval: 7 * day,
			PastEpochs: 2, PastEpochAge: 10 * minute, MaxForward: 1000, MaxSkipped: 256,
		},
		Encryption: Encryption{Allow: true, SelfSign: true, RotateMessages: 100, RotateAfter: 7 * day},
		Assets: Assets{
			Directory: "assets", MaxFile: 100 * mib, MaxTotal: 10 * gib, Expiry: 90 * day, RequestTimeout: 5 * minute,
			MaxConcurrent: 8, ProxyDownloads: true, MaxAvatar: 2 * mib,
			Hosts: HostsAny, Downloads: DownloadsAny,
		},
		ActivityPub: ActivityPub{
			Signatures: SignaturesAuto, SignedFetch: true, BlockedDomains: []string{}, MaxInbox: mib,
		},
		Limits: Limits{
			TransactionSize: 64 * mib, MessageSize: mib, UpdateSize: 8 * mib,
			PeerConnections: 20, PeerRequests: 200, KeyClaims: 10, PeerKeyClaims: 1000, GroupInfoRequests: 10, Reports: 60,
			WaitingRows: 1000, WaitingSize: 16 * mib, WaitingAge: minute, Mentions: 20,
			OutboundConcurrency: 20, RetryFirst: Duration(5 * time.Second), RetryMax: 10 * minute, DeadAfter: 5 * day,
		},
		Logging: Logging{Level: "info", Format: LogAuto},
		Admin:   Admin{Listen: "127.0.0.1:29341", Pprof: true},
	}
}
