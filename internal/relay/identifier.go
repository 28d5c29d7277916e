package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

const (
	// settingSearchable is the setting of a Matrix user that wants to be found by more than the whole handle.
	settingSearchable = "searchable"
	// maxFound bounds how many users a query finds, and maxSearched how many are looked at for it.
	maxFound, maxSearched = 20, 2000
	// queriesAnHour bounds the identifier queries of a provider.
	queriesAnHour = 1000
	// minPartial is how many octets a part of a name must have to be searched for.
	minPartial = 3
)

// Findable returns the user of ours that a WebFinger resource names. ok is false when there is none, or when it does
// not take part.
func (r *Relay) Findable(ctx context.Context, resource string) (s mapping.Subject, ok bool, err error) {
	s, err = r.Naming.WebFingerSubject(resource)
	if err != nil || !r.exported(s.MXID) {
		return s, false, nil
	}
	if _, err := r.Store.User(ctx, s.MXID); err == nil {
		return s, true, nil
	} else if !errors.Is(err, store.ErrNotFound) {
		return s, false, err
	}
	if r.Homeserver == nil {
		return s, false, nil
	}
	ok, err = r.Homeserver.UserExists(ctx, s.MXID)
	return s, ok, err
}

// SetSearchable says whether a Matrix user is found by parts of its name and by its name without the domain, or only by
// the whole handle, which is how it begins.
func (r *Relay) SetSearchable(ctx context.Context, mxid string, on bool) error {
	value := ""
	if on {
		value = "yes"
	}
	return r.Store.Tx(ctx, func(tx *store.Tx) error { return tx.SetSetting(ctx, mxid, settingSearchable, value) })
}

// IdentifierQuery finds users of ours (draft-ietf-mimi-protocol-06 §5.8): by the whole handle everybody who takes part, by
// anything else who wants to be found. Who is not there and who does not want to be found look the same.
func (r *Relay) IdentifierQuery(ctx context.Context, peer string, q *wire.IdentifierRequest) (Reply, error) {
	if err := r.allow(ctx, "identifier", peer, queriesAnHour); err != nil {
		return Reply{}, err
	}
	var found []mapping.Subject
	for n, e := range q.Elements {
		list, known, err := r.findBy(ctx, e)
		if err != nil {
			return Reply{}, err
		}
		if !known {
			return Reply{Body: (&wire.IdentifierResponse{Code: wire.IdentifierUnsupportedField}).Marshal()}, nil
		}
		if n == 0 {
			found = list
			continue
		}
		var both []mapping.Subject
		for _, s := range found {
			for _, t := range list {
				if s.MXID == t.MXID {
					both = append(both, s)
				}
			}
		}
		found = both
	}
	a := &wire.IdentifierResponse{Code: wire.IdentifierNotFound}
	for _, s := range found {
		local, _, err := mapping.SplitMXID(s.MXID)
		if err != nil {
			continue
		}
		a.Code = wire.IdentifierSuccess
		a.URIs = append(a.URIs, s.URI)
		a.Profiles = append(a.Profiles, wire.UserProfile{StableURI: s.URI,
			Fields: []wire.ProfileField{{Source: wire.FieldOIDCStdClaim, Name: "preferred_username", Value: local}}})
	}
	return Reply{Body: a.Marshal()}, nil
}

// findBy finds users by one element; known is false for a kind of search that is not offered.
func (r *Relay) findBy(ctx context.Context, e wire.QueryElement) (list []mapping.Subject, known bool, err error) {
	switch e.Type {
	case wire.SearchHandle:
		list, err = r.findOne(ctx, r.resourceOf(e.Value))
		return list, true, err
	case wire.SearchNick:
		return r.findNick(ctx, e.Value)
	case wire.SearchOIDCStdClaim:
		if e.Field == "preferred_username" {
			return r.findNick(ctx, e.Value)
		}
	case wire.SearchPartialName, wire.SearchWholeProfile:
		list, err = r.findPart(ctx, e.Value)
		return list, true, err
	}
	return nil, false, nil
}

// resourceOf turns a handle into what WebFinger would ask for: @user:server and im:user@server name Matrix users.
func (r *Relay) resourceOf(handle string) string {
	mxid := handle
	if rest, ok := strings.CutPrefix(handle, "im:"); ok {
		at := strings.LastIndexByte(rest, '@')
		if at <= 0 {
			return ""
		}
		if rest[at+1:] == r.Naming.Domain {
			return "acct:" + rest
		}
		mxid = "@" + rest[:at] + ":" + rest[at+1:]
	}
	if strings.HasPrefix(mxid, "@") {
		uri, err := r.Naming.UserURI(mxid)
		if err != nil {
			return ""
		}
		return string(uri)
	}
	return mxid
}

func (r *Relay) findOne(ctx context.Context, resource string) ([]mapping.Subject, error) {
	if resource == "" {
		return nil, nil
	}
	s, ok, err := r.Findable(ctx, resource)
	if err != nil || !ok {
		return nil, err
	}
	return []mapping.Subject{s}, nil
}

func (r *Relay) searchable(ctx context.Context, mxid string) bool {
	v, err := r.Store.Setting(ctx, mxid, settingSearchable)
	return err == nil && v == "yes"
}

func (r *Relay) findNick(ctx context.Context, nick string) ([]mapping.Subject, bool, error) {
	mxid := "@" + nick + ":" + r.Naming.Server
	if !r.searchable(ctx, mxid) {
		return nil, true, nil
	}
	list, err := r.findOne(ctx, r.resourceOf(mxid))
	return list, true, err
}

// findPart looks for a part of the name, without regard to case.
func (r *Relay) findPart(ctx context.Context, part string) ([]mapping.Subject, error) {
	if part = strings.ToLower(part); len(part) < minPartial {
		return nil, nil
	}
	var out []mapping.Subject
	after := ""
	for looked := 0; looked < maxSearched && len(out) < maxFound; {
		users, err := r.Store.Users(ctx, after, 100)
		if err != nil || len(users) == 0 {
			return out, err
		}
		for _, u := range users {
			after = u.MXID
			looked++
			local, _, err := mapping.SplitMXID(u.MXID)
			if err != nil || !strings.Contains(strings.ToLower(local), part) || !r.exported(u.MXID) || !r.searchable(ctx, u.MXID) {
				continue
			}
			if s, err := r.Naming.Subject(u.MXID); err == nil && len(out) < maxFound {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

// Found is a user whom a search has found.
type Found struct {
	URI  string
	Name string // as its provider tells it, "" for none
}

var searchTypes = map[string]wire.SearchIdentifierType{"": wire.SearchHandle, "handle": wire.SearchHandle, "nick": wire.SearchNick,
	"email": wire.SearchEmail, "phone": wire.SearchPhone, "name": wire.SearchPartialName, "any": wire.SearchWholeProfile}

// Errors of searches, in words for who searches.
var (
	errNobody   = errors.New("nobody was found")
	errUnasked  = errors.New("their provider cannot be asked")
	errNoSearch = errors.New("their provider does not offer this search")
)

// Search asks a provider for its users. kind is handle (""), nick, email, phone, name or any.
func (r *Relay) Search(ctx context.Context, domain, kind, query string) ([]Found, error) {
	typ, ok := searchTypes[kind]
	if !ok {
		return nil, fmt.Errorf("search by %q: there is handle, nick, email, phone, name and any", kind)
	}
	domain = wire.LowerDomain(domain)
	if !wire.ValidDomain(domain) || domain == r.Naming.Domain || r.Requester == nil || r.Blocked != nil && r.Blocked(domain) {
		return nil, errUnasked
	}
	q := &wire.IdentifierRequest{Elements: []wire.QueryElement{{Type: typ, Value: query}}}
	body, err := r.Requester.Request(ctx, domain, verbIdentifierQuery, "", q.Marshal())
	if err != nil {
		r.Log.Info().Err(err).Str("peer", domain).Msg("a provider was not asked for its users")
		return nil, errUnasked
	}
	if len(body) == 0 { // some providers say only by the status that there is somebody
		return nil, errNobody
	}
	received, err := wire.UnmarshalIdentifierResponse(body)
	if err != nil {
		return nil, errUnasked
	}
	a, err := received.Check(domain)
	if err != nil {
		return nil, errUnasked
	}
	switch a.Code {
	case wire.IdentifierSuccess:
	case wire.IdentifierNotFound:
		return nil, errNobody
	default:
		return nil, errNoSearch
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
	if len(out) == 0 {
		return nil, errNobody
	}
	return out[:min(len(out), maxFound)], nil
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

// Resolve finds the MIMI user behind an account that people write: acct:user@domain, @user@domain or user@domain, by an
// identifier query for that handle.
func (r *Relay) Resolve(ctx context.Context, _, address string) (string, error) {
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
