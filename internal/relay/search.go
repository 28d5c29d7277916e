package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Found is a user whom a search has found.
type Found struct {
	URI  string
	Name string // as its provider tells it, "" for none
}

var searchTypes = map[string]wire.SearchIdentifierType{"": wire.SearchHandle, "handle": wire.SearchHandle, "nick": wire.SearchNick,
	"email": wire.SearchEmail, "phone": wire.SearchPhone, "name": wire.SearchPartialName, "any": wire.SearchWholeProfile}

// elementOf is what people ask for: a kind of the list, or oidc:<claim> or vcard:<property>.
func elementOf(kind, query string) (wire.QueryElement, error) {
	e := wire.QueryElement{Value: query}
	var ok bool
	if e.Type, ok = searchTypes[kind]; ok {
		return e, nil
	}
	space, field, qualified := strings.Cut(kind, ":")
	switch {
	case qualified && field != "" && space == "oidc":
		e.Type, e.Field = wire.SearchOIDCStdClaim, field
	case qualified && field != "" && space == "vcard":
		e.Type, e.Field = wire.SearchVCardField, strings.ToUpper(field)
	default:
		return e, fmt.Errorf("search by %q: there is handle, nick, email, phone, name, any, oidc:… and vcard:…", kind)
	}
	return e, nil
}

// pageSize is how many users are asked for at once.
const pageSize = 20

// Errors of searches, in words for who searches.
var (
	errNobody   = errors.New("nobody was found")
	errUnasked  = errors.New("cannot be asked: it does not answer, or is no MIMI provider")
	errNoSearch = errors.New("their provider does not offer this search")
	errOnMatrix = errors.New("they are on Matrix; invite them there as you invite anybody")
)

// Search asks a provider for its users, for the first of them. kind is as for SearchPage.
func (r *Relay) Search(ctx context.Context, domain, kind, query string) ([]Found, error) {
	found, _, err := r.SearchPage(ctx, domain, kind, query, nil)
	return found, err
}

// otherUser demands that an address is that of a user of another provider. The error is for people.
func (r *Relay) otherUser(address string) error {
	switch uri := wire.IdentifierURI(address); {
	case !uri.Is(wire.KindUser, wire.KindPseudonym):
		return fmt.Errorf("%q is no address of a user; they look like mimi://a.example/u/alice", address)
	case r.Naming.Own(uri):
		return errOnMatrix
	}
	return nil
}

// SearchPage asks a provider for its users, and for more of them where it has more. kind is handle (""), nick, email, phone, name,
// any, oidc:<claim> or vcard:<property>. cursor is nil for the first page, and else the next of the page before; next is nil
// after the last one.
func (r *Relay) SearchPage(ctx context.Context, domain, kind, query string, cursor []byte) (found []Found, next []byte, err error) {
	e, err := elementOf(kind, query)
	if err != nil {
		return nil, nil, err
	}
	domain = wire.LowerDomain(domain)
	unasked := fmt.Errorf("%s %w", domain, errUnasked)
	switch {
	case domain == r.Naming.Domain:
		return nil, nil, errOnMatrix
	case r.Blocked != nil && r.Blocked(domain):
		return nil, nil, fmt.Errorf("%s is blocked here", domain)
	case !wire.ValidDomain(domain) || r.Requester == nil:
		return nil, nil, unasked
	}
	q := &wire.IdentifierRequest{Elements: []wire.QueryElement{e}}
	q.Extensions = q.Extensions.Set(wire.ComponentPage, (&wire.Page{Limit: pageSize, Cursor: cursor}).Marshal())
	body, err := r.Requester.Request(ctx, domain, verbIdentifierQuery, "", q.Marshal())
	if err != nil {
		r.Log.Info().Err(err).Str("peer", domain).Msg("a provider was not asked for its users")
		return nil, nil, unasked
	}
	received, err := wire.UnmarshalIdentifierResponse(body)
	if err != nil {
		return nil, nil, unasked
	}
	a, err := received.Check(domain)
	if err != nil {
		return nil, nil, unasked
	}
	switch a.Code {
	case wire.IdentifierSuccess:
	case wire.IdentifierNotFound:
		return nil, nil, errNobody
	default:
		return nil, nil, errNoSearch
	}
	if p := a.Page(); p != nil {
		next = p.Cursor
	}
	var out []Found
	for _, p := range a.Profiles {
		out = append(out, Found{URI: string(p.StableURI), Name: nameIn(p.Fields)})
	}
	for _, u := range a.URIs {
		if !has(out, u) {
			out = append(out, Found{URI: string(u)})
		}
	}
	if len(out) == 0 && next == nil {
		return nil, nil, errNobody
	}
	return out[:min(len(out), maxFound)], next, nil
}

func has(list []Found, u wire.IdentifierURI) bool {
	for _, f := range list {
		if u.Same(wire.IdentifierURI(f.URI)) {
			return true
		}
	}
	return false
}

func nameIn(fields []wire.ProfileField) string {
	name := ""
	for _, f := range fields {
		if f.Name == "name" {
			return f.Value
		}
		if f.Name == "preferred_username" {
			name = f.Value
		}
	}
	return name
}

// Resolve finds the MIMI user behind what people write: the Matrix id of a ghost, or an account, acct:user@domain, @user@domain or
// user@domain, by an identifier query for that handle. The error is for people.
func (r *Relay) Resolve(ctx context.Context, _, address string) (string, error) {
	if _, _, err := mapping.SplitMXID(address); err == nil {
		if r.mimiGhost(address) {
			return r.knownGhostURI(ctx, address)
		}
		return "", errOnMatrix
	}
	acct, err := mapping.Handle(address)
	if err != nil {
		return "", errors.New("it is no address: they look like mimi://a.example/u/alice or acct:alice@a.example")
	}
	_, domain, err := mapping.SplitAcct(acct)
	if err != nil {
		return "", err
	}
	found, err := r.Search(ctx, domain, "handle", acct)
	if err != nil {
		return "", err
	}
	if len(found) > 1 {
		return "", errors.New("more than one user was found")
	}
	return found[0].URI, nil
}
