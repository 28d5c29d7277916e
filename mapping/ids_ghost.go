package mapping

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Prefixes of the localparts and alias localparts that belong to the bridge alone.
const (
	GhostPrefix = "mimi_" // users and rooms known by a MIMI URI
	AcctPrefix  = "acct_" // users known by an acct: URI
)

// hashMark follows a prefix in the hash form; escaping never produces it, because "x" is no hexadecimal digit.
const hashMark = "=x"

// MaxLocalpart returns how many octets a localpart or alias localpart may have on a server.
func MaxLocalpart(server string) int { return MaxMXID - 2 - len(server) }

// GhostLocalpart returns the localpart of the Matrix ghost of a MIMI user or pseudonym, of at most max octets (see
// [MaxLocalpart]). A user mimi://A/u/SEG without further slashes gives mimi_ + escape(A/SEG), anything else escapes
// the whole path; the authority counts in lower case. A name that would be too long is replaced by the hash
// form (hashed is true), which only a table can reverse.
func GhostLocalpart(uri wire.IdentifierURI, max int) (localpart string, hashed bool, err error) {
	return uriLocalpart(uri, wire.KindUser, max, wire.KindUser, wire.KindPseudonym)
}

// ParseGhostLocalpart is the inverse of GhostLocalpart. It fails on the hash form and on any
// other localpart that GhostLocalpart does not produce.
func ParseGhostLocalpart(localpart string) (wire.IdentifierURI, error) {
	return parseURILocalpart(localpart, wire.KindUser, wire.KindUser, wire.KindPseudonym)
}

// AliasLocalpart returns the localpart of the alias of a portal to a MIMI room, by the rules of GhostLocalpart with
// mimi://A/r/SEG as the short form.
func AliasLocalpart(room wire.IdentifierURI, max int) (localpart string, hashed bool, err error) {
	return uriLocalpart(room, wire.KindRoom, max, wire.KindRoom)
}

// MarkedAlias returns the localpart of the alias of a room without a MIMI URI, by its id here: mark is "group" for a
// conversation and "channel" for a channel of another server. No URI gives the same, because escaping never produces "=g"
// and "=ch". It is "" where the server's name leaves no room.
func (n Naming) MarkedAlias(mark, id string) string {
	escaped := EscapeLocalpart(n.Domain+"/") + "=" + mark + "." + id
	localpart, _, err := shorten(GhostPrefix, escaped, escaped, MaxLocalpart(n.Server))
	if err != nil {
		return ""
	}
	return localpart
}

// AcctGhostLocalpart returns the localpart of the ghost of a user who is known by an acct: URI.
func AcctGhostLocalpart(acct string, max int) (localpart string, hashed bool, err error) {
	user, host, err := SplitAcct(acct)
	if err != nil {
		return "", false, err
	}
	return shorten(AcctPrefix, EscapeLocalpart(user+"@"+host), "acct:"+user+"@"+host, max)
}

// ParseAcctGhostLocalpart is the inverse of AcctGhostLocalpart.
func ParseAcctGhostLocalpart(localpart string) (acct string, err error) {
	escaped, ok := strings.CutPrefix(localpart, AcctPrefix)
	if !ok {
		return "", noID("%q is no ghost of an account", localpart)
	}
	s, err := UnescapeLocalpart(escaped)
	if err != nil {
		return "", err
	}
	user, host, err := SplitAcct("acct:" + s)
	if err != nil {
		return "", err
	}
	if user+"@"+host != s {
		return "", noID("%q is not canonical", localpart)
	}
	return "acct:" + s, nil
}

// GhostMXID returns the Matrix user id of the ghost of a MIMI user. It refuses users of the bridge itself, who are
// Matrix users already.
func (n Naming) GhostMXID(uri wire.IdentifierURI) (mxid string, hashed bool, err error) {
	if n.Own(uri) {
		return "", false, noID("%q is a user of this bridge and has no ghost", uri)
	}
	localpart, hashed, err := GhostLocalpart(uri, MaxLocalpart(n.Server))
	if err != nil {
		return "", false, err
	}
	return "@" + localpart + ":" + n.Server, hashed, nil
}

// ParseGhostMXID is the inverse of GhostMXID.
func (n Naming) ParseGhostMXID(mxid string) (wire.IdentifierURI, error) {
	localpart, server, err := SplitMXID(mxid)
	if err != nil {
		return "", err
	}
	if server != n.Server {
		return "", noID("%q is not of %s", mxid, n.Server)
	}
	uri, err := ParseGhostLocalpart(localpart)
	if err != nil {
		return "", err
	}
	if n.Own(uri) {
		return "", noID("%q stands for a user of this bridge", mxid)
	}
	return uri, nil
}

// ForeignGhost tells whether a Matrix user is the ghost of one of our own users, who are Matrix users already: another bridge
// beside the homeserver keeps it.
func (n Naming) ForeignGhost(mxid string) bool {
	localpart, server, err := SplitMXID(mxid)
	if err != nil || server != n.Server {
		return false
	}
	if uri, err := ParseGhostLocalpart(localpart); err == nil {
		return n.Own(uri)
	}
	acct, err := ParseAcctGhostLocalpart(localpart)
	if err != nil {
		return false
	}
	_, host, err := SplitAcct(acct)
	return err == nil && host == n.Domain
}

// IsGhost tells whether a Matrix user id is in the namespaces of the bridge, whether or not it decodes.
func (n Naming) IsGhost(mxid string) bool {
	localpart, server, err := SplitMXID(mxid)
	return err == nil && server == n.Server &&
		(strings.HasPrefix(localpart, GhostPrefix) || strings.HasPrefix(localpart, AcctPrefix))
}

// EscapeLocalpart writes any octets with the characters of a Matrix localpart: a–z 0–9 . - stay, A–Z become _ and the
// small letter, _ becomes __, every other octet becomes = and two small hexadecimal digits. It is the reversible
// variant of the algorithm in the Matrix appendices, "Mapping from other character sets".
func EscapeLocalpart(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '-':
			b.WriteByte(c)
		case c >= 'A' && c <= 'Z':
			b.WriteByte('_')
			b.WriteByte(c + 'a' - 'A')
		case c == '_':
			b.WriteString("__")
		default:
			fmt.Fprintf(&b, "=%02x", c)
		}
	}
	return b.String()
}

// UnescapeLocalpart is the inverse of EscapeLocalpart and refuses everything that it does not produce.
func UnescapeLocalpart(s string) (string, error) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '_':
			i++
			switch {
			case i < len(s) && s[i] == '_':
				b = append(b, '_')
			case i < len(s) && s[i] >= 'a' && s[i] <= 'z':
				b = append(b, s[i]-'a'+'A')
			default:
				return "", noID("%q: broken escape", s)
			}
		case '=':
			if i+2 >= len(s) {
				return "", noID("%q: broken escape", s)
			}
			const digits = "0123456789abcdef"
			hi, lo := strings.IndexByte(digits, s[i+1]), strings.IndexByte(digits, s[i+2])
			if hi < 0 || lo < 0 {
				return "", noID("%q: broken escape", s)
			}
			b = append(b, byte(hi<<4|lo))
			i += 2
		default:
			b = append(b, c)
		}
	}
	if EscapeLocalpart(string(b)) != s {
		return "", noID("%q is not escaped in the canonical way", s)
	}
	return string(b), nil
}

// uriLocalpart names a URI of one of the kinds; short is the kind whose letter is left out.
func uriLocalpart(uri wire.IdentifierURI, short wire.Kind, max int, kinds ...wire.Kind) (string, bool, error) {
	u, err := uri.Parse()
	if err != nil {
		return "", false, noID("%w", err)
	}
	if !uri.Is(kinds...) {
		return "", false, noID("%q is of another kind", uri)
	}
	name := u.Name()
	if u.Kind() != short || strings.Contains(name, "/") {
		name = string(u.Kind()) + "/" + name
	}
	return shorten(GhostPrefix, EscapeLocalpart(u.Domain()+"/"+name), u.Key(), max)
}

func parseURILocalpart(localpart string, short wire.Kind, kinds ...wire.Kind) (wire.IdentifierURI, error) {
	escaped, ok := strings.CutPrefix(localpart, GhostPrefix)
	if !ok {
		return "", noID("%q does not begin with %s", localpart, GhostPrefix)
	}
	s, err := UnescapeLocalpart(escaped)
	if err != nil {
		return "", err
	}
	domain, path, _ := strings.Cut(s, "/")
	if !strings.Contains(path, "/") {
		path = string(short) + "/" + path
	}
	uri := wire.IdentifierURI("mimi://" + domain + "/" + path)
	again, hashed, err := uriLocalpart(uri, short, len(localpart), kinds...)
	if err != nil {
		return "", err
	}
	if hashed || again != localpart {
		return "", noID("%q is not canonical", localpart)
	}
	return uri, nil
}

// shorten returns prefix+escaped, or the hash form of key when that has more than max octets: the first 160 bits of
// SHA-256 in base32. It fails when not even the hash form fits.
func shorten(prefix, escaped, key string, max int) (localpart string, hashed bool, err error) {
	if len(prefix)+len(escaped) <= max {
		return prefix + escaped, false, nil
	}
	h := sha256.Sum256([]byte(key))
	localpart = prefix + hashMark + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h[:20]))
	if len(localpart) > max {
		return "", false, noID("%d octets are too few for a localpart", max)
	}
	return localpart, true, nil
}
