package intake

import (
	"net/http"
	"net/url"
	"strings"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// maxFields bounds the fields of a third-party lookup and maxField each of
// them, in octets.
const (
	maxFields = 16
	maxField  = 1024
)

func (h *Handler) user(w http.ResponseWriter, r *http.Request, user id.UserID) {
	if h.cfg.Queries == nil || !event.ValidUserID(user) {
		fail(w, http.StatusNotFound, "M_NOT_FOUND", "no such user")
		return
	}
	ok, err := h.cfg.Queries.UserExists(r.Context(), user)
	h.exists(w, ok, err, "no such user")
}

func (h *Handler) room(w http.ResponseWriter, r *http.Request, alias id.RoomAlias) {
	if h.cfg.Queries == nil || !event.ValidAlias(alias) {
		fail(w, http.StatusNotFound, "M_NOT_FOUND", "no such alias")
		return
	}
	ok, err := h.cfg.Queries.AliasExists(r.Context(), alias)
	h.exists(w, ok, err, "no such alias")
}

func (h *Handler) exists(w http.ResponseWriter, ok bool, err error, text string) {
	switch {
	case err != nil:
		h.cfg.Log.Error().Err(err).Msg("query of the homeserver failed")
		fail(w, http.StatusInternalServerError, "M_UNKNOWN", "query failed")
	case !ok:
		fail(w, http.StatusNotFound, "M_NOT_FOUND", text)
	default:
		reply(w, http.StatusOK, struct{}{})
	}
}

// thirdparty serves the lookups of third-party networks (Matrix spec,
// Application Service API, "Third-party networks"). path is still escaped.
func (h *Handler) thirdparty(w http.ResponseWriter, r *http.Request, path string) {
	if h.cfg.Queries == nil {
		fail(w, http.StatusNotFound, "M_NOT_FOUND", "no such protocol")
		return
	}
	what, escaped, named := strings.Cut(path, "/")
	protocol, err := url.PathUnescape(escaped)
	if err != nil || strings.Contains(protocol, "/") || len(protocol) > maxField {
		fail(w, http.StatusBadRequest, "M_INVALID_PARAM", "bad path")
		return
	}
	ctx, q := r.Context(), r.URL.Query()
	var list any
	switch {
	case what == "protocol" && named:
		p, ok := h.cfg.Queries.Protocol(ctx, protocol)
		if !ok {
			fail(w, http.StatusNotFound, "M_NOT_FOUND", "no such protocol")
			return
		}
		reply(w, http.StatusOK, p)
		return
	case what == "user" && named:
		var users []ThirdPartyUser
		users, err = h.cfg.Queries.Users(ctx, protocol, fields(q))
		list = orEmpty(users)
	case what == "location" && named:
		var rooms []ThirdPartyLocation
		rooms, err = h.cfg.Queries.Locations(ctx, protocol, fields(q))
		list = orEmpty(rooms)
	case what == "user" && event.ValidUserID(id.UserID(q.Get("userid"))):
		var users []ThirdPartyUser
		users, err = h.cfg.Queries.UserByID(ctx, id.UserID(q.Get("userid")))
		list = orEmpty(users)
	case what == "location" && event.ValidAlias(id.RoomAlias(q.Get("alias"))):
		var rooms []ThirdPartyLocation
		rooms, err = h.cfg.Queries.LocationByAlias(ctx, id.RoomAlias(q.Get("alias")))
		list = orEmpty(rooms)
	default:
		fail(w, http.StatusNotFound, "M_UNRECOGNIZED", "no such endpoint")
		return
	}
	if err != nil {
		h.exists(w, false, err, "")
		return
	}
	reply(w, http.StatusOK, list)
}

// fields are the search fields of a lookup, bounded.
func fields(q url.Values) map[string]string {
	out := map[string]string{}
	for k := range q {
		if v := q.Get(k); k != "access_token" && len(out) < maxFields && len(v) <= maxField && len(k) <= maxField {
			out[k] = v
		}
	}
	return out
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
