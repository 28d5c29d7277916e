package mapping

import (
	"strings"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// AcctURI returns the acct: URI (RFC 7565) of a Matrix user: acct:<localpart>@B for a user of the own homeserver,
// acct:%40<localpart>%3A<server>@B for any other. Requirement S000-005.
func (n Naming) AcctURI(mxid string) (string, error) {
	seg, err := n.segment(mxid)
	if err != nil {
		return "", err
	}
	return "acct:" + pct(seg, acctChar) + "@" + n.Domain, nil
}

// ParseAcctURI is the inverse of AcctURI; it accepts only the canonical form of a user of B, save for the case of
// the domain.
func (n Naming) ParseAcctURI(acct string) (mxid string, err error) {
	user, host, err := SplitAcct(acct)
	if err != nil {
		return "", err
	}
	if host != n.Domain {
		return "", noID("%q is not of %s", acct, n.Domain)
	}
	seg, err := unpct(user, acctChar)
	if err != nil {
		return "", err
	}
	return n.fromSegment(pct(seg, pchar))
}

// SplitAcct checks an acct: URI and returns its user part, percent-encoding untouched, and its host in lower case.
func SplitAcct(acct string) (user, host string, err error) {
	rest, ok := strings.CutPrefix(acct, "acct:")
	at := strings.LastIndexByte(rest, '@')
	if !ok || at <= 0 || len(acct) > wire.MaxURI {
		return "", "", noID("%q is no acct: URI", acct)
	}
	user, host = rest[:at], wire.LowerDomain(rest[at+1:])
	if !wire.ValidDomain(host) {
		return "", "", noID("%q has no domain", acct)
	}
	for i := 0; i < len(user); i++ {
		if c := user[i]; c != '%' && strings.IndexByte(acctChar, c) < 0 {
			return "", "", noID("%q: an octet is not allowed in an acct: URI", acct)
		}
	}
	if _, err := wire.PathUnescape(user); err != nil {
		return "", "", noID("%w", err)
	}
	return user, host, nil
}

// Handle reads what people write for an account, @user@domain or user@domain or acct:user@domain, and returns the
// acct: URI. Requirement S000-042. The user part is kept as it is; the domain comes out in lower case.
func Handle(s string) (acct string, err error) {
	if !strings.HasPrefix(s, "acct:") {
		s = "acct:" + strings.TrimPrefix(s, "@")
	}
	user, host, err := SplitAcct(s)
	if err != nil {
		return "", err
	}
	return "acct:" + user + "@" + host, nil
}

// Subject is a user of B as a WebFinger query names it, in every form that an answer needs.
type Subject struct {
	MXID string             // @alice:hs.example
	Acct string             // acct:alice@B, the canonical subject of the answer
	URI  wire.IdentifierURI // mimi://B/u/alice
}

// WebFingerSubject reads the `resource` of a WebFinger query (RFC 7033 §4.1, already decoded once by the query parser) and
// says which user of B it names. It takes the acct: URI and the MIMI user URI. Peers differ in what they
// percent-encode, so any encoding of the same octets is accepted here, and a foreign Matrix user may be
// written without encoding (acct:@bob:hs2.example@B). Requirement S000-043.
func (n Naming) WebFingerSubject(resource string) (Subject, error) {
	if len(resource) > wire.MaxURI {
		return Subject{}, noID("resource too long")
	}
	var seg string
	if rest, ok := strings.CutPrefix(resource, "acct:"); ok {
		at := strings.LastIndexByte(rest, '@')
		if at <= 0 || wire.LowerDomain(rest[at+1:]) != n.Domain {
			return Subject{}, noID("%q is no account of %s", resource, n.Domain)
		}
		seg = rest[:at]
	} else {
		opaque, err := n.opaque(wire.IdentifierURI(resource), wire.KindUser)
		if err != nil {
			return Subject{}, err
		}
		seg = opaque
	}
	raw, err := wire.PathUnescape(seg)
	if err != nil {
		return Subject{}, noID("%w", err)
	}
	mxid, err := n.fromSegment(pct(raw, pchar))
	if err != nil {
		return Subject{}, err
	}
	return n.Subject(mxid)
}

// Subject returns all forms of a Matrix user.
func (n Naming) Subject(mxid string) (Subject, error) {
	uri, err := n.UserURI(mxid)
	if err != nil {
		return Subject{}, err
	}
	acct, err := n.AcctURI(mxid)
	return Subject{MXID: mxid, Acct: acct, URI: uri}, err
}
