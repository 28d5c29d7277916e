package wire

import (
	"errors"
	"fmt"
	"strings"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// MaxURI is the longest identifier in octets that is accepted. The draft sets no limit; the message id of
// draft-ietf-mimi-content-08 §3.3 could carry 65,535.
const MaxURI = 1024

// ErrURI is the reason why octets are not a MIMI URI. Test with errors.Is.
var ErrURI = errors.New("not a MIMI URI")

// IdentifierURI holds the octets of `struct { opaque uri<V>; } IdentifierUri` (draft-ietf-mimi-protocol-06 §3)
// exactly as they were received. They are hashed and signed elsewhere, so nothing in the program rewrites
// them; to compare two of them use [IdentifierURI.Same], to index a table use [IdentifierURI.Key].
// The empty string stands for an absent identifier where the draft's structure has no optional.
type IdentifierURI string

// Kind is the first path segment of a MIMI URI.
type Kind string

// The kinds of draft-ietf-mimi-protocol-06 §3 and draft-mahy-mimi-identity-05 §3.
const (
	KindProvider  Kind = ""  // mimi://a.example
	KindUser      Kind = "u" // mimi://a.example/u/alice
	KindPseudonym Kind = "p" // mimi://a.example/p/crazykoala75
	KindClient    Kind = "d" // mimi://a.example/d/alice/ClientA1
	KindRoom      Kind = "r" // mimi://a.example/r/clubhouse
	KindGroup     Kind = "g" // mimi://a.example/g/clubhouse
	KindTeam      Kind = "t" // mimi://a.example/t/engineering
)

// URI is an identifier whose form has been checked by [ParseURI].
type URI struct {
	raw       string
	authority string // octets as received
	kind      Kind
	opaque    string // everything after the kind and its slash
}

// ParseURI checks that s is a MIMI URI: the scheme in lower case, a DNS name without port or user
// information, and either nothing more (a provider) or a kind, a slash and at least one octet that is no
// slash. All octets must be legal in the path of RFC 3986 (so no control character, no octet above 0x7e,
// no query, no fragment). Everything after the kind is opaque and not decoded. Errors wrap [ErrURI].
func ParseURI(s string) (URI, error) {
	if len(s) > MaxURI {
		return URI{}, fmt.Errorf("%w: longer than %d octets", ErrURI, MaxURI)
	}
	rest, ok := strings.CutPrefix(s, "mimi://")
	if !ok {
		return URI{}, fmt.Errorf("%w: the scheme is not mimi://", ErrURI)
	}
	authority, path, hasPath := strings.Cut(rest, "/")
	if !ValidDomain(authority) {
		return URI{}, fmt.Errorf("%w: the authority is no DNS name", ErrURI)
	}
	u := URI{raw: s, authority: authority}
	if !hasPath {
		return u, nil
	}
	kind, opaque, ok := strings.Cut(path, "/")
	if !ok || kind == "" || opaque == "" || opaque[0] == '/' {
		return URI{}, fmt.Errorf("%w: kind or name is missing", ErrURI)
	}
	if !pathOctets(path) {
		return URI{}, fmt.Errorf("%w: an octet is not allowed in a path", ErrURI)
	}
	u.kind, u.opaque = Kind(kind), opaque
	return u, nil
}

// String returns the octets that were parsed.
func (u URI) String() string { return u.raw }

// Identifier returns the octets that were parsed, as they go on the wire.
func (u URI) Identifier() IdentifierURI { return IdentifierURI(u.raw) }

// Domain returns the provider's domain in lower case.
func (u URI) Domain() string { return lowerASCII(u.authority) }

// Kind returns the first path segment.
func (u URI) Kind() Kind { return u.kind }

// Name returns everything after the kind, percent-encoding untouched. It is empty for a provider.
func (u URI) Name() string { return u.opaque }

// Key returns the form under which the URI is looked up: the authority in lower case, the rest as it is.
func (u URI) Key() string {
	return "mimi://" + lowerASCII(u.authority) + u.raw[len("mimi://")+len(u.authority):]
}

// User returns the URI of the user that u belongs to: u itself for a user or a pseudonym, and for a client
// mimi://dom/d/<user>/<device> the user mimi://dom/u/<user>. A client URI without a user segment has none.
func (u URI) User() (IdentifierURI, bool) {
	switch u.kind {
	case KindUser, KindPseudonym:
		return IdentifierURI(u.raw), true
	case KindClient:
		i := strings.LastIndexByte(u.opaque, '/')
		if i <= 0 || i == len(u.opaque)-1 {
			return "", false
		}
		return IdentifierURI("mimi://" + u.authority + "/u/" + u.opaque[:i]), true
	}
	return "", false
}

// Parse is [ParseURI] of the octets.
func (i IdentifierURI) Parse() (URI, error) { return ParseURI(string(i)) }

// Domain returns the provider's domain in lower case, or "" when the octets are no MIMI URI.
func (i IdentifierURI) Domain() string {
	u, err := i.Parse()
	if err != nil {
		return ""
	}
	return u.Domain()
}

// Is tells whether the octets are a MIMI URI of one of the kinds, in any domain.
func (i IdentifierURI) Is(kinds ...Kind) bool {
	u, err := i.Parse()
	if err != nil {
		return false
	}
	for _, k := range kinds {
		if u.kind == k {
			return true
		}
	}
	return false
}

// Key returns the lookup form of the URI, or the octets themselves when they are no MIMI URI.
func (i IdentifierURI) Key() string {
	u, err := i.Parse()
	if err != nil {
		return string(i)
	}
	return u.Key()
}

// Same tells whether two identifiers name the same thing: the authority is compared without regard to ASCII
// case, the rest octet by octet.
func (i IdentifierURI) Same(o IdentifierURI) bool { return i.Key() == o.Key() }

// append writes IdentifierUri.
func (i IdentifierURI) append(b []byte) []byte { return tlspl.AppendString(b, string(i)) }

// readURI reads IdentifierUri: at most MaxURI octets, whatever they are.
func readURI(r *tlspl.Reader) IdentifierURI { return IdentifierURI(r.Opaque(MaxURI)) }

// checkURI returns an error unless i is a URI of one of the kinds; what names the field in the error.
func checkURI(what string, i IdentifierURI, kinds ...Kind) error {
	u, err := i.Parse()
	if err != nil {
		return malformed("%s: %w", what, err)
	}
	for _, k := range kinds {
		if u.kind == k {
			return nil
		}
	}
	return malformed("%s: %w: kind %q does not fit", what, ErrURI, u.kind)
}

// checkURIOf is checkURI and demands that the URI is of the domain.
func checkURIOf(what string, i IdentifierURI, domain string, kinds ...Kind) error {
	if err := checkURI(what, i, kinds...); err != nil {
		return err
	}
	if i.Domain() != lowerASCII(domain) {
		return forbidden("%s is not of %s", what, domain)
	}
	return nil
}

// ValidDomain tells whether s is a DNS name as providers use it: 1 to 253 octets, labels of 1 to 63 letters,
// digits, hyphens (not at the ends) separated by dots, no dot at the end, and the last label not of digits
// only, so that no IPv4 address passes. Both cases are accepted; internationalised names come as A-labels.
func ValidDomain(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	last := s
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for j := 0; j < len(label); j++ {
			if c := label[j]; !isAlnum(c) && c != '-' {
				return false
			}
		}
		last = label
	}
	return strings.Trim(last, "0123456789") != ""
}

// LowerDomain returns s with ASCII letters in lower case: the form in which domains are compared.
func LowerDomain(s string) string { return lowerASCII(s) }

func lowerASCII(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// isUnreserved is `unreserved` of RFC 3986 §2.3.
func isUnreserved(c byte) bool { return isAlnum(c) || strings.IndexByte("-._~", c) >= 0 }

// pathOctets tells whether s consists of pchar and "/" of RFC 3986 §3.3, with well-formed percent-encoding.
func pathOctets(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case isUnreserved(c), strings.IndexByte("!$&'()*+,;=:@/", c) >= 0:
		case c == '%':
			if i+2 >= len(s) || unhex(s[i+1]) < 0 || unhex(s[i+2]) < 0 {
				return false
			}
			i += 2
		default:
			return false
		}
	}
	return true
}

// unhex returns the value of a hexadecimal digit, or -1.
func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
