package mapping

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// ErrIdentifier is the reason why an identifier has no counterpart on the other side. It is permanent.
// Test with errors.Is.
var ErrIdentifier = errors.New("identifier cannot be mapped")

func noID(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrIdentifier, fmt.Errorf(format, args...))
}

// MaxMXID is the longest Matrix user id or room alias in octets (Matrix v1.13 appendices, "Common identifier format").
const MaxMXID = 255

// Naming holds the two names that all identifiers of an installation are built from. Neither may change after
// the first user was seen: URIs are hashed, signed and stored by others.
type Naming struct {
	// Domain is the bridge's MIMI domain, in lower case: the B of mimi://B/u/alice.
	Domain string
	// Server is the server_name of the bridge's own homeserver, with its port if it has one. Case matters.
	Server string
}

// Check returns an error when one of the names cannot be used.
func (n Naming) Check() error {
	if !wire.ValidDomain(n.Domain) || wire.LowerDomain(n.Domain) != n.Domain {
		return noID("MIMI domain %q is no DNS name in lower case", n.Domain)
	}
	if !validServerName(n.Server) {
		return noID("server name %q is not valid", n.Server)
	}
	return nil
}

// UserURI returns the MIMI URI of a Matrix user: mimi://B/u/<localpart> for a user of the own homeserver,
// mimi://B/u/@<localpart>:<server> for any other. A historical localpart of the own homeserver that begins with
// "@" takes the long form too, so that the two forms never meet.
func (n Naming) UserURI(mxid string) (wire.IdentifierURI, error) {
	seg, err := n.segment(mxid)
	if err != nil {
		return "", err
	}
	return n.build("u", pct(seg, pchar))
}

// ParseUserURI is the inverse of UserURI. It refuses URIs of other domains and any form that UserURI does not
// produce, save for the case of the domain.
func (n Naming) ParseUserURI(uri wire.IdentifierURI) (mxid string, err error) {
	seg, err := n.opaque(uri, wire.KindUser)
	if err != nil {
		return "", err
	}
	return n.fromSegment(seg)
}

// ClientURI returns the MIMI URI of a Matrix user's MLS client: mimi://B/d/<user segment>/<device>. The device
// is 1 to 64 letters, digits, dots, hyphens and underscores.
func (n Naming) ClientURI(mxid, device string) (wire.IdentifierURI, error) {
	seg, err := n.segment(mxid)
	if err != nil {
		return "", err
	}
	if !validDevice(device) {
		return "", noID("device %q is not a token", device)
	}
	return n.build("d", pct(seg, pchar)+"/"+device)
}

// ParseClientURI is the inverse of ClientURI.
func (n Naming) ParseClientURI(uri wire.IdentifierURI) (mxid, device string, err error) {
	opaque, err := n.opaque(uri, wire.KindClient)
	if err != nil {
		return "", "", err
	}
	seg, device, ok := strings.Cut(opaque, "/")
	if !ok || !validDevice(device) {
		return "", "", noID("%q names no client of a user", uri)
	}
	mxid, err = n.fromSegment(seg)
	return mxid, device, err
}

// RoomURI returns mimi://B/r/<token>, the URI of a room that the bridge is the hub of.
func (n Naming) RoomURI(token string) (wire.IdentifierURI, error) { return n.tokenURI("r", token) }

// GroupURI returns mimi://B/g/<token>: the octets of the MLS group id of a room of the bridge.
func (n Naming) GroupURI(token string) (wire.IdentifierURI, error) { return n.tokenURI("g", token) }

// ProviderURI returns mimi://B.
func (n Naming) ProviderURI() wire.IdentifierURI { return wire.IdentifierURI("mimi://" + n.Domain) }

// Own tells whether a URI is of the bridge's own domain.
func (n Naming) Own(uri wire.IdentifierURI) bool { return uri.Domain() == n.Domain }

// NewToken returns 128 random bits as base64url (22 characters), for rooms and groups.
func NewToken(random io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("read randomness for a token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b[:]), nil
}

func (n Naming) tokenURI(kind, token string) (wire.IdentifierURI, error) {
	if !validDevice(token) {
		return "", noID("token %q is not valid", token)
	}
	return n.build(kind, token)
}

func (n Naming) build(kind, opaque string) (wire.IdentifierURI, error) {
	u, err := wire.ParseURI("mimi://" + n.Domain + "/" + kind + "/" + opaque)
	if err != nil {
		return "", noID("%w", err)
	}
	return u.Identifier(), nil
}

// opaque returns what follows the kind in a URI of the own domain.
func (n Naming) opaque(uri wire.IdentifierURI, kind wire.Kind) (string, error) {
	u, err := uri.Parse()
	if err != nil {
		return "", noID("%w", err)
	}
	if u.Domain() != n.Domain || u.Kind() != kind {
		return "", noID("%q is not of mimi://%s/%s/", uri, n.Domain, kind)
	}
	return u.Name(), nil
}

// segment returns the user segment before percent-encoding: the localpart, or the whole MXID.
func (n Naming) segment(mxid string) (string, error) {
	localpart, server, err := SplitMXID(mxid)
	if err != nil {
		return "", err
	}
	if server == n.Server && localpart[0] != '@' {
		return localpart, nil
	}
	return mxid, nil
}

// fromSegment is the inverse of segment and pct.
func (n Naming) fromSegment(escaped string) (string, error) {
	seg, err := unpct(escaped, pchar)
	if err != nil {
		return "", err
	}
	mxid := seg
	if seg == "" || seg[0] != '@' {
		mxid = "@" + seg + ":" + n.Server
	}
	again, err := n.segment(mxid)
	if err != nil {
		return "", err
	}
	if again != seg {
		return "", noID("%q is not the canonical form of a user", escaped)
	}
	return mxid, nil
}

// SplitMXID checks a Matrix user id and returns its parts. Historical localparts are accepted: any printable
// characters but the colon and the space, in UTF-8. An empty localpart is refused.
func SplitMXID(mxid string) (localpart, server string, err error) {
	rest, ok := strings.CutPrefix(mxid, "@")
	localpart, server, ok2 := strings.Cut(rest, ":")
	switch {
	case len(mxid) > MaxMXID:
		return "", "", noID("user id longer than %d octets", MaxMXID)
	case !ok || !ok2 || localpart == "":
		return "", "", noID("%q is no Matrix user id", mxid)
	case !validServerName(server):
		return "", "", noID("%q has no valid server name", mxid)
	case !utf8.ValidString(localpart):
		return "", "", noID("localpart is not UTF-8")
	}
	for _, c := range localpart {
		if c <= ' ' || c == 0x7f {
			return "", "", noID("localpart holds a space or a control character")
		}
	}
	return localpart, server, nil
}

// validServerName checks the characters and the shape of a Matrix server name: a DNS name or an IPv4 address, or an
// IPv6 address in brackets, then an optional port.
func validServerName(s string) bool {
	host, port := s, ""
	if strings.HasPrefix(s, "[") {
		i := strings.IndexByte(s, ']')
		if i < 3 || strings.Trim(s[1:i], "0123456789abcdefABCDEF:.") != "" {
			return false
		}
		host, port = "", s[i+1:]
		if port != "" && port[0] != ':' {
			return false
		}
		port = strings.TrimPrefix(port, ":")
		if port == "" && i+1 != len(s) {
			return false
		}
	} else if i := strings.IndexByte(s, ':'); i >= 0 {
		if host, port = s[:i], s[i+1:]; port == "" {
			return false
		}
	}
	if len(port) > 5 || strings.Trim(port, "0123456789") != "" {
		return false
	}
	if s == "" || s[0] == '[' {
		return s != ""
	}
	return host != "" && strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == ""
}

func validDevice(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

const (
	unreserved = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
	subDelims  = "!$&'()*+,;="
	// pchar are the octets of RFC 3986 that a path segment may hold as they are.
	pchar = unreserved + subDelims + ":@"
	// acctChar are the octets that the user part of an acct: URI may hold as they are (RFC 7565 §7).
	acctChar = unreserved + subDelims
)

// pct percent-encodes, with upper-case digits, every octet that is not in keep.
func pct(s, keep string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; strings.IndexByte(keep, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// unpct is the inverse of pct and accepts only what pct produces.
func unpct(s, keep string) (string, error) {
	raw, err := wire.PathUnescape(s)
	if err != nil {
		return "", noID("%w", err)
	}
	if pct(raw, keep) != s {
		return "", noID("%q is not percent-encoded in the canonical way", s)
	}
	return raw, nil
}
