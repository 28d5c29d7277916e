package fakes

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
)

// request is one request of the bridge.
type request struct {
	*http.Request
	user string
	body map[string]any
	room *room
}

// problem is a refusal.
type problem struct {
	status     int
	code, text string
}

func forbidden(why string) *problem { return &problem{http.StatusForbidden, "M_FORBIDDEN", why} }

var notFound = &problem{http.StatusNotFound, "M_NOT_FOUND", "there is no such thing"}

type endpoint func(q *request) (any, *problem)

// routes are the endpoints of the client API that the bridge calls.
func (h *Homeserver) routes() http.Handler {
	mux := http.NewServeMux()
	const v3 = "/_matrix/client/v3"
	fine := func(*request) (any, *problem) { return map[string]any{}, nil }
	for pattern, f := range map[string]endpoint{
		"GET /_matrix/client/versions": func(*request) (any, *problem) {
			return map[string]any{"versions": []string{"v1.7", "v1.11"}}, nil
		},
		"GET /_matrix/federation/v1/version": func(*request) (any, *problem) {
			return map[string]any{"server": map[string]string{"name": "Synapse", "version": "0.0.0-fake"}}, nil
		},
		"POST /_matrix/client/v1/appservice/{id}/ping":        fine,
		"GET " + v3 + "/account/whoami":                       func(q *request) (any, *problem) { return map[string]any{"user_id": q.user}, nil },
		"POST " + v3 + "/register":                            h.register,
		"GET " + v3 + "/profile/{user}":                       h.profile,
		"PUT " + v3 + "/profile/{user}/{field}":               h.setProfile,
		"PUT " + v3 + "/pushrules/{rest...}":                  fine,
		"POST " + v3 + "/createRoom":                          h.createRoom,
		"GET " + v3 + "/directory/room/{alias}":               h.alias,
		"PUT " + v3 + "/directory/room/{alias}":               fine,
		"GET " + v3 + "/rooms/{room}/state":                   h.allState,
		"GET " + v3 + "/rooms/{room}/state/{type}/{key}":      h.oneState,
		"GET " + v3 + "/rooms/{room}/state/{type}/{$}":        h.oneState,
		"GET " + v3 + "/rooms/{room}/event/{event}":           h.event,
		"GET " + v3 + "/rooms/{room}/messages":                h.messages,
		"POST " + v3 + "/join/{room}":                         h.membership("join"),
		"POST " + v3 + "/rooms/{room}/leave":                  h.membership("leave"),
		"POST " + v3 + "/rooms/{room}/invite":                 h.membership("invite"),
		"POST " + v3 + "/rooms/{room}/kick":                   h.membership("kick"),
		"POST " + v3 + "/rooms/{room}/ban":                    h.membership("ban"),
		"POST " + v3 + "/rooms/{room}/unban":                  h.membership("unban"),
		"PUT " + v3 + "/rooms/{room}/send/{type}/{txn}":       h.send,
		"PUT " + v3 + "/rooms/{room}/redact/{event}/{txn}":    h.send,
		"PUT " + v3 + "/rooms/{room}/state/{type}/{key}":      h.setState,
		"PUT " + v3 + "/rooms/{room}/state/{type}/{$}":        h.setState,
		"PUT " + v3 + "/rooms/{room}/typing/{user}":           fine,
		"POST " + v3 + "/rooms/{room}/receipt/{type}/{event}": fine,
	} {
		mux.HandleFunc(pattern, h.handle(f))
	}
	return mux
}

func (h *Homeserver) handle(f endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		if raw, err := io.ReadAll(io.LimitReader(r.Body, 8<<20)); err == nil && len(raw) > 0 {
			_ = json.Unmarshal(raw, &body)
		}
		h.mu.Lock()
		fault := Fine
		if h.fault != nil {
			fault = h.fault(r)
		}
		var answer any
		bad := &problem{http.StatusServiceUnavailable, "M_UNKNOWN", "not now"}
		if fault != Unavailable {
			answer, bad = h.answer(f, &request{Request: r, body: body})
		}
		h.mu.Unlock()
		switch {
		case fault == NoAnswer:
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		case fault == LostAnswer:
			panic(http.ErrAbortHandler)
		case bad != nil:
			writeJSON(w, bad.status, map[string]string{"errcode": bad.code, "error": bad.text})
		default:
			writeJSON(w, http.StatusOK, answer)
		}
	}
}

// answer checks who asks and carries out one request. The lock is held.
func (h *Homeserver) answer(f endpoint, q *request) (any, *problem) {
	if q.Header.Get("Authorization") != "Bearer "+h.Token && q.Pattern != "GET /_matrix/client/versions" {
		return nil, &problem{http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "bad token"}
	}
	q.user = q.URL.Query().Get("user_id")
	if q.user == "" {
		q.user = h.MXID(h.Bot)
	}
	if !h.Ours(q.user) {
		return nil, forbidden("the user is not the bridge's")
	}
	if q.user != h.MXID(h.Bot) && h.users[q.user] == "" {
		return nil, forbidden("Application service has not registered this user")
	}
	if id := q.PathValue("room"); id != "" {
		if q.room = h.rooms[id]; q.room == nil {
			return nil, notFound
		}
	}
	return f(q)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (h *Homeserver) register(q *request) (any, *problem) {
	local, _ := q.body["username"].(string)
	user := h.MXID(local)
	if !h.Ours(user) {
		return nil, &problem{http.StatusBadRequest, "M_EXCLUSIVE", "not in the namespace"}
	}
	if h.users[user] != "" {
		return nil, &problem{http.StatusBadRequest, "M_USER_IN_USE", "there already"}
	}
	h.users[user] = local
	return map[string]string{"user_id": user}, nil
}

func (h *Homeserver) profile(q *request) (any, *problem) {
	name := h.users[q.PathValue("user")]
	if name == "" {
		return nil, notFound
	}
	return map[string]string{"displayname": name}, nil
}

func (h *Homeserver) setProfile(q *request) (any, *problem) {
	if name, ok := q.body["displayname"].(string); ok && q.PathValue("field") == "displayname" {
		h.users[q.PathValue("user")] = name
	}
	return map[string]any{}, nil
}

func (h *Homeserver) createRoom(q *request) (any, *problem) {
	local, _ := q.body["room_alias_name"].(string)
	alias := "#" + local + ":" + h.Name
	if local != "" && h.aliases[alias] != "" {
		return nil, &problem{http.StatusBadRequest, "M_ROOM_IN_USE", "the alias is taken"}
	}
	r := h.create(q.user, q.body)
	if local != "" {
		h.aliases[alias] = r.id
	}
	return map[string]string{"room_id": r.id}, nil
}

func (h *Homeserver) alias(q *request) (any, *problem) {
	if id := h.aliases[q.PathValue("alias")]; id != "" {
		return map[string]any{"room_id": id, "servers": []string{h.Name}}, nil
	}
	return nil, notFound
}

func (h *Homeserver) allState(q *request) (any, *problem) {
	if q.room.members[q.user] != "join" {
		return nil, forbidden("not in the room")
	}
	out := []any{}
	for _, at := range q.room.order {
		out = append(out, encode(q.room, q.room.state[at]))
	}
	return out, nil
}

func (h *Homeserver) oneState(q *request) (any, *problem) {
	if q.room.members[q.user] != "join" {
		return nil, forbidden("not in the room")
	}
	ev := q.room.state[[2]string{q.PathValue("type"), q.PathValue("key")}]
	if ev == nil {
		return nil, notFound
	}
	if q.URL.Query().Get("format") == "event" {
		return encode(q.room, ev), nil
	}
	return ev.Content, nil
}

func (h *Homeserver) event(q *request) (any, *problem) {
	for _, ev := range q.room.timeline {
		if ev.ID == q.PathValue("event") {
			return encode(q.room, ev), nil
		}
	}
	return nil, notFound
}

// messages are the last events of a room, the newest first, of the senders and types that the filter names.
func (h *Homeserver) messages(q *request) (any, *problem) {
	if q.room.members[q.user] != "join" {
		return nil, forbidden("not in the room")
	}
	var filter struct {
		Senders []string `json:"senders"`
		Types   []string `json:"types"`
	}
	limit, err := strconv.Atoi(q.URL.Query().Get("limit"))
	if err != nil || json.Unmarshal([]byte(q.URL.Query().Get("filter")), &filter) != nil || q.URL.Query().Get("dir") != "b" {
		return nil, &problem{http.StatusBadRequest, "M_INVALID_PARAM", "dir, limit and filter are needed"}
	}
	chunk := []any{}
	for _, ev := range slices.Backward(q.room.timeline) {
		if slices.Contains(filter.Senders, ev.Sender) && slices.Contains(filter.Types, ev.Type) && len(chunk) < limit {
			chunk = append(chunk, encode(q.room, ev))
		}
	}
	return map[string]any{"chunk": chunk}, nil
}

func (h *Homeserver) membership(what string) endpoint {
	return func(q *request) (any, *problem) {
		target, _ := q.body["user_id"].(string)
		if what == "join" || what == "leave" {
			target = q.user
		}
		var more map[string]any
		if reason, ok := q.body["reason"].(string); ok && reason != "" {
			more = map[string]any{"reason": reason}
		}
		if _, why := h.act(q.room, what, q.user, target, more); why != "" {
			return nil, forbidden(why)
		}
		return map[string]string{"room_id": q.room.id}, nil
	}
}

// send takes messages and redactions, each transaction id once.
func (h *Homeserver) send(q *request) (any, *problem) {
	typ, key := q.PathValue("type"), q.user+" "+q.PathValue("txn")
	if id := h.txns[key]; id != "" {
		h.repeats++
		return map[string]string{"event_id": id}, nil
	}
	content := q.body
	if target := q.PathValue("event"); target != "" {
		typ, content = "m.room.redaction", map[string]any{"redacts": target}
	}
	if q.room.members[q.user] != "join" || q.room.level(q.user) < q.room.neededFor(typ, false) {
		return nil, forbidden("may not send " + typ)
	}
	ev := h.emit(q.room, q.user, typ, nil, content, originTime(q))
	h.txns[key] = ev.ID
	return map[string]string{"event_id": ev.ID}, nil
}

func (h *Homeserver) setState(q *request) (any, *problem) {
	typ, key := q.PathValue("type"), q.PathValue("key")
	if typ == "m.room.member" {
		if q.body["membership"] != "invite" {
			return nil, forbidden("only invitations")
		}
		ev, why := h.act(q.room, "invite", q.user, key, map[string]any{"is_direct": q.body["is_direct"]})
		if why != "" {
			return nil, forbidden(why)
		}
		return map[string]string{"event_id": ev.ID}, nil
	}
	if q.room.members[q.user] != "join" || q.room.level(q.user) < q.room.neededFor(typ, true) {
		return nil, forbidden("may not set " + typ)
	}
	if old := q.room.state[[2]string{typ, key}]; old != nil && old.Sender == q.user && same(old.Content, q.body) {
		return map[string]string{"event_id": old.ID}, nil // as homeservers do
	}
	return map[string]string{"event_id": h.emit(q.room, q.user, typ, &key, q.body, originTime(q)).ID}, nil
}

func same(a, b map[string]any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

func originTime(q *request) int64 {
	ts, _ := strconv.ParseInt(q.URL.Query().Get("ts"), 10, 64)
	return ts
}
