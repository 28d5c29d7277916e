package config

import (
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Duration is a time span in settings: Go's form ("30s", "1h30m") with days
// ("14d", "1d12h") besides.
type Duration time.Duration

// UnmarshalText reads the form that Duration documents. Negative spans are
// refused.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	var days time.Duration
	if n, rest, ok := strings.Cut(s, "d"); ok {
		v, err := strconv.ParseUint(n, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is no time span; write for example 30s, 10m, 12h or 14d", s)
		}
		days, s = time.Duration(v)*24*time.Hour, rest
	}
	rest := time.Duration(0)
	if s != "" {
		var err error
		if rest, err = time.ParseDuration(s); err != nil || rest < 0 {
			return fmt.Errorf("%q is no time span; write for example 30s, 10m, 12h or 14d", text)
		}
	} else if days == 0 && len(text) < 2 {
		return fmt.Errorf("%q is no time span; write for example 30s, 10m, 12h or 14d", text)
	}
	if rest > math.MaxInt64-days {
		return fmt.Errorf("%q is too long a time span", text)
	}
	*d = Duration(days + rest)
	return nil
}

// MarshalText writes whole days as days and anything else in Go's form.
func (d Duration) MarshalText() ([]byte, error) {
	const day = 24 * time.Hour
	if t := time.Duration(d); t >= day && t%day == 0 {
		return []byte(strconv.Itoa(int(t/day)) + "d"), nil
	}
	return []byte(time.Duration(d).String()), nil
}

// D returns the span as Go's type.
func (d Duration) D() time.Duration { return time.Duration(d) }

// Size is a number of octets in settings: "64 KiB", "1 MiB", "10 GiB", "512 B".
// A number without a unit is taken for 0 only. The decimal units KB, MB and GB are not taken because people mean both things
// by them.
type Size int64

var sizeUnits = []struct {
	name string
	size int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// UnmarshalText reads the form that Size documents.
func (s *Size) UnmarshalText(text []byte) error {
	in := strings.TrimSpace(string(text))
	if in == "0" {
		*s = 0
		return nil
	}
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(in, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.size {
			break
		}
		*s = Size(n * u.size)
		return nil
	}
	return fmt.Errorf("%q is no size; write for example 64 KiB, 1 MiB or 10 GiB", text)
}

// MarshalText writes the largest unit that divides the size.
func (s Size) MarshalText() ([]byte, error) {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.size == 0 {
			return []byte(fmt.Sprintf("%d %s", int64(s)/u.size, u.name)), nil
		}
	}
	return []byte("0"), nil
}

// Path is the name of a file or directory. Relative ones count from the
// directory of the settings file.
type Path string

func (p Path) from(dir string) Path {
	if p == "" || filepath.IsAbs(string(p)) {
		return p
	}
	return Path(filepath.Join(dir, string(p)))
}

// choose is the common UnmarshalText of closed lists.
func choose[T ~string](into *T, text []byte, allowed ...T) error {
	names := make([]string, len(allowed))
	for i, a := range allowed {
		if string(a) == string(text) {
			*into = a
			return nil
		}
		names[i] = string(a)
	}
	return fmt.Errorf("%q is not one of: %s", text, strings.Join(names, ", "))
}

// Toggle is a switch that can be left to the bridge.
type Toggle string

// The values of Toggle.
const (
	ToggleAuto Toggle = "auto"
	ToggleOn   Toggle = "on"
	ToggleOff  Toggle = "off"
)

// UnmarshalText takes auto, on and off; YAML's true and false mean on and off.
func (t *Toggle) UnmarshalText(text []byte) error {
	switch string(text) {
	case "true":
		*t = ToggleOn
		return nil
	case "false":
		*t = ToggleOff
		return nil
	}
	return choose(t, text, ToggleAuto, ToggleOn, ToggleOff)
}

// Software names a homeserver's habits.
type Software string

// The values of Software.
const (
	SoftwareAuto     Software = "auto"
	SoftwareSynapse  Software = "synapse"
	SoftwareDendrite Software = "dendrite"
	SoftwareConduit  Software = "conduit"
	SoftwareOther    Software = "other"
)

// UnmarshalText takes one of the constants.
func (s *Software) UnmarshalText(text []byte) error {
	return choose(s, text, SoftwareAuto, SoftwareSynapse, SoftwareDendrite, SoftwareConduit, SoftwareOther)
}

// DatabaseType names the engine.
type DatabaseType string

// The values of DatabaseType.
const (
	SQLite   DatabaseType = "sqlite"
	Postgres DatabaseType = "postgres"
)

// UnmarshalText takes one of the constants.
func (t *DatabaseType) UnmarshalText(text []byte) error { return choose(t, text, SQLite, Postgres) }

// Federation says which providers may be spoken to.
type Federation string

// The values of Federation.
const (
	FederationOpen   Federation = "open"   // every provider that is not blocked
	FederationListed Federation = "listed" // only those in mimi.peers
)

// UnmarshalText takes one of the constants.
func (f *Federation) UnmarshalText(text []byte) error {
	return choose(f, text, FederationOpen, FederationListed)
}

// Roots says what a peer's certificate must chain to.
type Roots string

// The values of Roots.
const (
	RootsPublic Roots = "public" // the system's certificate authorities
	RootsFile   Roots = "file"   // the authorities in ca_file
	RootsPinned Roots = "pinned" // only the keys in pins, whoever signed them
)

// UnmarshalText takes one of the constants.
func (r *Roots) UnmarshalText(text []byte) error {
	return choose(r, text, RootsPublic, RootsFile, RootsPinned)
}

// Consent says what a peer gets that asks for the keys of a Matrix user
// (draft-ietf-mimi-protocol-06 §5.2 keyMaterial; room-independent default).
type Consent string

// The values of Consent.
const (
	ConsentOpen   Consent = "open"   // keys are handed out
	ConsentAsk    Consent = "ask"    // the user is asked first
	ConsentClosed Consent = "closed" // never, unless the user asked for the contact
)

// UnmarshalText takes one of the constants.
func (c *Consent) UnmarshalText(text []byte) error {
	return choose(c, text, ConsentOpen, ConsentAsk, ConsentClosed)
}

// QueryPolicy says which identifier queries find Matrix users.
type QueryPolicy string

// The values of QueryPolicy.
const (
	QueryOff    QueryPolicy = "off"    // nobody is found
	QueryHandle QueryPolicy = "handle" // who knows the whole handle finds the user
	QueryOptIn  QueryPolicy = "opt-in" // handle, and names of users who said so
)

// UnmarshalText takes one of the constants.
func (q *QueryPolicy) UnmarshalText(text []byte) error {
	return choose(q, text, QueryOff, QueryHandle, QueryOptIn)
}

// CredentialKind says what the leaves of own clients show.
type CredentialKind string

// The values of CredentialKind.
const (
	CredentialBasic CredentialKind = "basic" // the client's URI
	CredentialX509  CredentialKind = "x509"  // a certificate of the provider's authority
)

// UnmarshalText takes one of the constants.
func (c *CredentialKind) UnmarshalText(text []byte) error {
	return choose(c, text, CredentialBasic, CredentialX509)
}

// ReceiptPolicy says which Matrix read receipts become MIMI status reports.
type ReceiptPolicy string

// The values of ReceiptPolicy.
const (
	ReceiptsRoom ReceiptPolicy = "room" // as the room's policy says
	ReceiptsOff  ReceiptPolicy = "off"  // none but those that a room requires
)

// UnmarshalText takes one of the constants.
func (r *ReceiptPolicy) UnmarshalText(text []byte) error {
	return choose(r, text, ReceiptsRoom, ReceiptsOff)
}

// SignatureScheme names the HTTP signatures sent to ActivityPub servers.
type SignatureScheme string

// The values of SignatureScheme.
const (
	SignaturesAuto    SignatureScheme = "auto"    // cavage first, then what the origin took last
	SignaturesCavage  SignatureScheme = "cavage"  // draft-cavage-http-signatures-12 only
	SignaturesRFC9421 SignatureScheme = "rfc9421" // RFC 9421 only
)

// UnmarshalText takes one of the constants.
func (s *SignatureScheme) UnmarshalText(text []byte) error {
	return choose(s, text, SignaturesAuto, SignaturesCavage, SignaturesRFC9421)
}

// LogLevel is the least important level that is written.
type LogLevel string

// UnmarshalText takes trace, debug, info, warn and error.
func (l *LogLevel) UnmarshalText(text []byte) error {
	return choose(l, text, "trace", "debug", "info", "warn", "error")
}

// LogFormat is the form of log lines.
type LogFormat string

// The values of LogFormat.
const (
	LogAuto    LogFormat = "auto"    // console at a terminal, else json
	LogJSON    LogFormat = "json"    // one object a line
	LogConsole LogFormat = "console" // for people
)

// UnmarshalText takes one of the constants.
func (f *LogFormat) UnmarshalText(text []byte) error {
	return choose(f, text, LogAuto, LogJSON, LogConsole)
}

// AssetHosts says at which hosts files may be in rooms that the bridge leads.
type AssetHosts string

// The values of AssetHosts.
const (
	HostsAny    AssetHosts = "any"
	HostsListed AssetHosts = "listed"
)

// UnmarshalText takes one of the constants.
func (h *AssetHosts) UnmarshalText(text []byte) error { return choose(h, text, HostsAny, HostsListed) }

// AssetDownloads says how files are fetched in rooms that the bridge leads.
type AssetDownloads string

// The values of AssetDownloads.
const (
	DownloadsAny AssetDownloads = "any"
	DownloadsHub AssetDownloads = "hub"
)

// UnmarshalText takes one of the constants.
func (d *AssetDownloads) UnmarshalText(text []byte) error {
	return choose(d, text, DownloadsAny, DownloadsHub)
}
