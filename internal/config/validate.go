package config

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Validate checks what each value alone and together must be. It opens no file
// and dials nobody. The error is Problems.
func (c *Config) Validate() error {
	v := &validator{c: c}
	v.homeserver()
	v.appservice()
	v.bridge()
	v.database()
	v.mimi()
	v.mls()
	v.rest()
	v.limits()
	return v.problems.orNil()
}

type validator struct {
	c        *Config
	problems Problems
}

// want records a problem at key unless ok.
func (v *validator) want(ok bool, key, what, remedy string) {
	if ok {
		return
	}
	v.problems = append(v.problems, v.c.Problem(key, what, remedy))
}

// lineOf finds the line of a key, or of the section that should have it; 0 for neither.
func (c *Config) lineOf(key string) int {
	for key != "" {
		if n, ok := c.lines[key]; ok {
			return n
		}
		i := strings.LastIndexByte(key, '.')
		if i < 0 {
			return 0
		}
		key = key[:i]
	}
	return 0
}

var (
	domainName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	serverName = regexp.MustCompile(`^([A-Za-z0-9.-]{1,230}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)
	localpart  = regexp.MustCompile(`^[a-z0-9._=/+-]{1,200}$`)
	userID     = regexp.MustCompile(`^@[^:]{1,200}:.+$`)
	language   = regexp.MustCompile(`^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}$`)
	asID       = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

func (v *validator) homeserver() {
	h := v.c.Homeserver
	v.url("homeserver.address", h.Address, "http", "https")
	v.want(h.Domain != "", "homeserver.domain", "is not set", "write the homeserver's server_name, the part of its users' ids after the colon")
	v.want(h.Domain == "" || serverName.MatchString(h.Domain), "homeserver.domain", fmt.Sprintf("%q is no server name", h.Domain), "write it without https:// and without @user:")
	v.positive("homeserver.request_timeout", int64(h.RequestTimeout))
	v.positive("homeserver.ping_interval", int64(h.PingInterval))
	v.positive("homeserver.max_connections", int64(h.MaxConnections))
}

func (v *validator) appservice() {
	a := v.c.Appservice
	v.want(asID.MatchString(a.ID), "appservice.id", fmt.Sprintf("%q is no id", a.ID), "use letters, digits, dot, dash and underscore")
	v.url("appservice.address", a.Address, "http", "https")
	v.listen("appservice.listen", a.Listen)
	v.want(a.RegistrationFile != "" || (a.ASTokenFile != "" && a.HSTokenFile != ""), "appservice.registration_file", "is empty",
		"name the file that `bridge registration` made, or both token files")
	v.want(localpart.MatchString(a.Bot.Username), "appservice.bot.username", fmt.Sprintf("%q is no localpart", a.Bot.Username), "use a-z, 0-9 and . _ = / + -")
	v.want(!strings.HasPrefix(a.Bot.Username, "mimi_") && !strings.HasPrefix(a.Bot.Username, "acct_"), "appservice.bot.username",
		"begins like a ghost's name", "choose one without mimi_ or acct_ in front")
	v.want(a.Bot.Avatar == "" || strings.HasPrefix(a.Bot.Avatar, "mxc://"), "appservice.bot.avatar", "is no mxc:// address", "upload the picture with a Matrix client and copy its mxc:// address")
	for i, p := range a.GhostProviders {
		key := fmt.Sprintf("appservice.ghost_providers[%d]", i)
		v.want(domainName.MatchString(p), key, fmt.Sprintf("%q is no domain", p), "write lower-case domains of providers")
	}
}

func (v *validator) bridge() {
	b := v.c.Bridge
	v.want(b.Permissions["*"] != LevelAdmin, "bridge.permissions.*", "makes everybody on every homeserver an administrator", `write user or block, and admin for single user ids`)
	for key := range b.Permissions {
		// A word without a dot is more often a forgotten @ than a server's name.
		server := serverName.MatchString(key) && (strings.ContainsAny(key, ".:") || key == "localhost" || key == v.c.Homeserver.Domain)
		good := key == "*" || server || userID.MatchString(key)
		v.want(good, "bridge.permissions."+key, "is neither *, a homeserver's domain nor a user id", `write "*", example.com, "@user:example.com" or "@irc_*:example.com"`)
	}
	v.want(len(b.CommandPrefix) > 0 && len(b.CommandPrefix) <= 32 && !strings.ContainsAny(b.CommandPrefix, " \t\n"), "bridge.command_prefix",
		"is empty, too long or has a space in it", "write one word, such as !mimi")
	v.want(strings.Contains(b.GhostName, "{name}"), "bridge.ghost_name", "does not contain {name}", `write for example "{name} ({domain})"`)
	v.want(b.MaxExport > 0, "bridge.max_export", "must be at least 1", "leave it at 500 unless rooms are very large")
	call, err := url.Parse(strings.ReplaceAll(b.CallURL, "{room}", "r"))
	v.want(b.CallURL == "" || err == nil && call.Scheme == "https" && call.Host != "", "bridge.call_url", "is no https address", "write for example https://call.example.com/room/#/?roomId={room}")
	v.want(b.ReportRoom == "" || strings.HasPrefix(b.ReportRoom, "!") && !strings.ContainsAny(b.ReportRoom, " \t\n"), "bridge.report_room", "is no room id",
		"write the room's id, which begins with !, and invite the bot")
	for i, l := range b.Languages {
		v.want(language.MatchString(l), fmt.Sprintf("bridge.languages[%d]", i), fmt.Sprintf("%q is no language tag", l), "write for example [de, en]")
	}
	v.positive("bridge.invite_timeout", int64(b.InviteTimeout))
	v.positive("bridge.consistency_interval", int64(b.ConsistencyInterval))
}

func (v *validator) database() {
	d := v.c.Database
	v.positive("database.max_connections", int64(d.MaxConnections))
	v.want(d.SealingKeyFile != "", "database.sealing_key_file", "is empty", "name a file outside the database; `bridge keys make` writes it")
	if d.URI == "" {
		v.want(false, "database.uri", "is empty", "name a file for sqlite, or write postgres://user@host/database?sslmode=verify-full")
		return
	}
	if d.Type == SQLite {
		v.want(!strings.Contains(d.URI, "://"), "database.uri", "is an address but database.type is sqlite", "name a file, or set type: postgres")
		v.want(d.PasswordFile == "", "database.password_file", "is of no use with sqlite", "remove it, or set type: postgres")
		return
	}
	u, err := url.Parse(d.URI)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") || u.Path == "" {
		v.want(false, "database.uri", "is no PostgreSQL address", "write postgres://user@host/database?sslmode=verify-full")
		return
	}
	_, inline := u.User.Password()
	v.want(!inline, "database.uri", "holds the password", "put the password into a file and name it in database.password_file")
	v.want(u.Query().Get("sslmode") != "", "database.uri", "does not say sslmode", "add ?sslmode=verify-full, or ?sslmode=disable for a server on this machine")
}

func (v *validator) mimi() {
	m := v.c.MIMI
	v.want(m.Domain != "", "mimi.domain", "is not set", "write the provider's domain; it is part of every identity and can never be changed")
	v.domain("mimi.domain", m.Domain)
	v.listen("mimi.listen", m.Listen)
	if m.URL != "" {
		v.url("mimi.url", m.URL, "https")
	}
	v.want(m.TLS.CertificateFile != "", "mimi.tls.certificate_file", "is empty", "name the PEM file with the certificate of mimi.domain and its chain")
	v.want(m.TLS.KeyFile != "", "mimi.tls.key_file", "is empty", "name the PEM file with the certificate's private key")
	v.positive("mimi.request_timeout", int64(m.RequestTimeout))
	d := m.PeerDefaults
	v.want(d.Roots != RootsPinned, "mimi.peer_defaults.roots", "pinned only makes sense for one peer", "set it under mimi.peers")
	v.want(d.Roots != RootsFile || d.CAFile != "", "mimi.peer_defaults.ca_file", "is empty though roots is file", "name the PEM file with the certificate authorities")
	for domain, p := range m.Peers {
		v.peer("mimi.peers."+domain, domain, p)
	}
}

func (v *validator) peer(key, domain string, p Peer) {
	v.domain(key, domain)
	v.want(p.Address == "" || hostPort(p.Address), key+".address", fmt.Sprintf("%q is not host:port", p.Address), "write for example 10.0.0.7:8443")
	v.want(p.Roots != RootsFile || p.CAFile != "", key+".ca_file", "is empty though roots is file", "name the PEM file with the peer's certificate authority")
	v.want(p.Roots == RootsFile || p.CAFile == "", key+".ca_file", "is of no use without roots: file", "add roots: file")
	v.want(p.Roots != RootsPinned || len(p.Pins) > 0, key+".pins", "is empty though roots is pinned", "add the SHA-256 of the peer's public key; `bridge keys fingerprint cert.pem` prints it")
	for i, host := range p.AssetHosts {
		v.domain(fmt.Sprintf("%s.asset_hosts[%d]", key, i), host)
	}
	v.want(len(p.Pins) == 0 || p.Roots == RootsPinned, key+".pins", "is of no use without roots: pinned", "add roots: pinned")
	for i, pin := range p.Pins {
		raw, err := hex.DecodeString(pin)
		v.want(err == nil && len(raw) == 32, fmt.Sprintf("%s.pins[%d]", key, i), "is no SHA-256 in hex", "write 64 hex digits")
	}
}

func (v *validator) mls() {
	m := v.c.MLS
	v.want(len(m.CipherSuites) > 0, "mls.cipher_suites", "is empty", "leave it at [1, 2, 3, 5, 7]")
	for i, s := range m.CipherSuites {
		key := fmt.Sprintf("mls.cipher_suites[%d]", i)
		v.want(slices.Contains([]int{1, 2, 3, 5, 7}, s), key, fmt.Sprintf("suite %d is not supported", s), "choose among 1, 2, 3, 5 and 7")
		v.want(!slices.Contains(m.CipherSuites[:i], s), key, fmt.Sprintf("suite %d is named twice", s), "remove one")
	}
	for key, n := range map[string]int64{
		"key_package_stock": int64(m.KeyPackageStock), "update_interval": int64(m.UpdateInterval),
		"past_epoch_age": int64(m.PastEpochAge), "max_forward": int64(m.MaxForward), "max_skipped": int64(m.MaxSkipped),
	} {
		v.positive("mls."+key, n)
	}
	v.want(m.Credential != CredentialX509 || m.UpdateInterval <= 28*day, "mls.update_interval", "is longer than 28d, and certificates are renewed with the keys",
		"shorten it, or set mls.credential to basic")
	v.want(m.PastEpochs >= 0 && m.PastEpochs <= 16, "mls.past_epochs", "is not between 0 and 16", "leave it at 2: each kept epoch weakens forward secrecy")
}

// rest checks the sections with few rules.
func (v *validator) rest() {
	e := v.c.Encryption
	v.want(e.Allow || (!e.Default && !e.Require), "encryption.allow", "is false though default or require is true", "set it to true, or the other two to false")
	v.want(!e.Require || e.Default, "encryption.require", "needs default", "set encryption.default to true")
	v.positive("encryption.rotate_messages", int64(e.RotateMessages))
	v.positive("encryption.rotate_after", int64(e.RotateAfter))

	a := v.c.Assets
	v.want(a.Directory != "", "assets.directory", "is empty", "name a directory that only the bridge can write")
	if a.URL != "" {
		v.url("assets.url", a.URL, "https")
	}
	v.want(a.MaxFile > 0 && a.MaxTotal >= a.MaxFile, "assets.max_total", "is smaller than assets.max_file", "make it larger")
	v.positive("assets.expiry", int64(a.Expiry))
	v.positive("assets.request_timeout", int64(a.RequestTimeout))
	v.positive("assets.max_concurrent", int64(a.MaxConcurrent))

	p := v.c.ActivityPub
	for i, d := range p.BlockedDomains {
		v.domain(fmt.Sprintf("activitypub.blocked_domains[%d]", i), d)
	}
	v.positive("activitypub.max_inbox", int64(p.MaxInbox))
	v.want(p.CoverEvery == 0 || p.CoverEvery >= 10*minute, "activitypub.cover_every", "is less than 10 minutes", "make it 0, for none, or 10m or more")

	if addr := v.c.Admin.Listen; addr != "" {
		v.listen("admin.listen", addr)
		v.want(v.c.Admin.AllowRemote || loopback(addr), "admin.listen", fmt.Sprintf("%q is open to other machines", addr),
			"use 127.0.0.1, or set admin.allow_remote when a firewall stands before it")
	}
}

func (v *validator) limits() {
	l := v.c.Limits
	for key, n := range map[string]int64{
		"transaction_size": int64(l.TransactionSize), "message_size": int64(l.MessageSize),
		"update_size": int64(l.UpdateSize), "peer_connections": int64(l.PeerConnections), "peer_requests": int64(l.PeerRequests),
		"key_claims": int64(l.KeyClaims), "peer_key_claims": int64(l.PeerKeyClaims), "group_info_requests": int64(l.GroupInfoRequests),
		"reports": int64(l.Reports), "waiting_rows": int64(l.WaitingRows),
		"waiting_size": int64(l.WaitingSize), "waiting_age": int64(l.WaitingAge), "mentions": int64(l.Mentions),
		"outbound_concurrency": int64(l.OutboundConcurrency), "retry_first": int64(l.RetryFirst), "dead_after": int64(l.DeadAfter),
	} {
		v.positive("limits."+key, n)
	}
	v.want(l.RetryMax >= l.RetryFirst, "limits.retry_max", "is shorter than limits.retry_first", "leave it at 10m")
	v.want(l.UpdateSize >= l.MessageSize, "limits.update_size", "is smaller than limits.message_size", "leave it at 8 MiB")
}

func (v *validator) positive(key string, n int64) {
	v.want(n > 0, key, "must be more than 0", "leave it out to get the default")
}

func (v *validator) url(key, s string, schemes ...string) {
	u, err := url.Parse(s)
	good := err == nil && slices.Contains(schemes, u.Scheme) && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
	v.want(good, key, fmt.Sprintf("%q is no %s address", s, strings.Join(schemes, " or ")), "write for example "+schemes[len(schemes)-1]+"://host.example")
	v.want(!good || !strings.HasSuffix(u.Path, "/"), key, "ends with a slash", "remove the slash")
}

func (v *validator) domain(key, s string) {
	_, ipErr := netip.ParseAddr(s)
	v.want(s == "" || (len(s) <= 253 && domainName.MatchString(s) && ipErr != nil), key, fmt.Sprintf("%q is no domain", s),
		"write a lower-case DNS name with a dot in it, without port")
}

func (v *validator) listen(key, s string) {
	v.want(hostPort(s), key, fmt.Sprintf("%q is not host:port", s), "write for example 127.0.0.1:29340, or :8443 for every interface")
}

func hostPort(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	_, err = net.LookupPort("tcp", port)
	return err == nil
}

func loopback(s string) bool {
	host, _, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}
