package wire

import (
	"strings"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// ComponentIntroduction carries an introduction code in the consent_extensions of a request for consent
// (docs/extensions.md, introductions): the octets of the code. It is of the range for private use
// (draft-ietf-mls-extensions-10 §7.5), so that others skip it.
const ComponentIntroduction mls.ComponentID = 0xFA10

// SetIntroduction puts a code into a request; "" leaves it as it is.
func (e *ConsentEntry) SetIntroduction(code string) {
	if code != "" {
		e.Extensions = e.Extensions.Set(ComponentIntroduction, []byte(code))
	}
}

// Introduction returns the code that a request carries, "" for none and for what is no code.
func (e *ConsentEntry) Introduction() string {
	code, ok := e.Extensions.Get(ComponentIntroduction)
	if !ok || !codeOctets(string(code)) {
		return ""
	}
	return string(code)
}

// Introduction leads to a user and says that it expects who comes (draft-mahy-mimi-transport-design-reqs-00 §7.3). It is
// written
//
//	mimi://b.example/u/bob?introduction=<code>
type Introduction struct {
	User IdentifierURI
	Code string
}

// ParseIntroduction reads an introduction. Unknown parameters are skipped. Errors wrap ErrMalformed.
func ParseIntroduction(s string) (Introduction, error) {
	if len(s) > MaxJoinLink {
		return Introduction{}, malformed("introduction is longer than %d octets", MaxJoinLink)
	}
	user, query, _ := strings.Cut(s, "?")
	i := Introduction{User: IdentifierURI(user)}
	if !i.User.Is(KindUser, KindPseudonym) {
		return Introduction{}, malformed("introduction leads to no user")
	}
	for _, part := range strings.Split(query, "&") {
		if code, ok := strings.CutPrefix(part, "introduction="); ok {
			i.Code = code
		}
	}
	if !codeOctets(i.Code) {
		return Introduction{}, malformed("introduction has no code, or one that is too long or not letters, digits, - and _")
	}
	return i, nil
}

// String writes the introduction.
func (i Introduction) String() string { return string(i.User) + "?introduction=" + i.Code }
