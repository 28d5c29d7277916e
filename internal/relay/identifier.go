package relay

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

const (
	// settingSearchable is the setting of a Matrix user that wants to be found by more than the whole handle.
	settingSearchable = "searchable"
	// searchedAtOnce is how many users are read with one question.
	searchedAtOnce = 256
	// maxFound bounds how many users a page has, foundUnsaid how many it has when nothing is said, and maxSearched how many are
	// looked at for it.
	maxFound, foundUnsaid, maxSearched = 50, 20, 2000
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
	if u, err := r.Store.User(ctx, s.MXID); err == nil {
		return s, u.State != userDeleted, nil
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
	if on {
		if err := r.maySearch(); err != nil {
			return err
		}
	}
	value := ""
	if on {
		value = "yes"
	}
	return r.Store.Tx(ctx, func(tx *store.Tx) error { return tx.SetSetting(ctx, mxid, settingSearchable, value) })
}

// maySearch demands that people can be found by more than the whole address. The error is for people.
func (r *Relay) maySearch() error {
	if r.cfg.NoQueries || r.cfg.HandlesOnly {
		return errors.New("whoever runs this bridge lets nobody be found by more than the whole address")
	}
	return nil
}

// IdentifierQuery finds users of ours (draft-ietf-mimi-protocol-06 §5.8): by the whole handle everybody who takes part, by
// anything else who wants to be found by it. Who is not there and who does not want to be found look the same. What is more than
// a page comes in further ones, to who asks for pages (docs/extensions.md).
func (r *Relay) IdentifierQuery(ctx context.Context, peer string, q *wire.IdentifierRequest) (Reply, error) {
	if err := r.allow(ctx, "identifier", peer, queriesAnHour); err != nil {
		return Reply{}, err
	}
	page, err := q.Page()
	if err != nil {
		return Reply{}, err
	}
	limit, after := foundUnsaid, ""
	if page != nil {
		if page.Limit > 0 {
			limit = min(int(page.Limit), maxFound)
		}
		if after, err = r.openCursor(peer, q, page.Cursor); err != nil {
			return Reply{}, err
		}
	}
	if r.cfg.NoQueries || r.cfg.HandlesOnly && slices.ContainsFunc(q.Elements, func(e wire.QueryElement) bool { return e.Type != wire.SearchHandle }) {
		return Reply{Body: (&wire.IdentifierResponse{Code: wire.IdentifierForbidden}).Marshal()}, nil
	}
	conditions, known := r.conditionsOf(q.Elements)
	if !known {
		return Reply{Body: (&wire.IdentifierResponse{Code: wire.IdentifierUnsupportedField}).Marshal()}, nil
	}
	found, next, err := r.findPage(ctx, conditions, after, limit)
	if err != nil {
		return Reply{}, err
	}
	a := &wire.IdentifierResponse{Code: wire.IdentifierNotFound}
	for _, f := range found {
		a.URIs = append(a.URIs, f.URI)
		a.Profiles = append(a.Profiles, f.profile(conditions))
	}
	if len(found) > 0 || next != "" {
		a.Code = wire.IdentifierSuccess
	}
	if next != "" && page != nil {
		cursor, err := r.sealCursor(peer, q, next)
		if err != nil {
			return Reply{}, err
		}
		a.Extensions = a.Extensions.Set(wire.ComponentPage, (&wire.Page{Cursor: cursor}).Marshal())
	} else if len(found) == 0 {
		a.Code = wire.IdentifierNotFound
	}
	return Reply{Body: a.Marshal()}, nil
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
