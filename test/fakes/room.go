package fakes

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Event is an event of a room.
type Event struct {
	ID, Sender, Type string
	// Key is the state key, nil for events without one.
	Key     *string
	Content map[string]any
	TS      int64
	// At is when the homeserver took it.
	At time.Time
}

// Room is a Matrix room. It is read and changed through its Homeserver only.
type room struct {
	id       string
	members  map[string]string
	state    map[[2]string]*Event
	order    [][2]string
	timeline []*Event
}

func (h *Homeserver) newID(sigil string) string {
	h.count++
	return fmt.Sprintf("%s%s%d:%s", sigil, h.salt, h.count, h.Name)
}

// emit adds an event and queues it for the bridge when that is interested. The lock is held.
func (h *Homeserver) emit(r *room, sender, typ string, key *string, content map[string]any, ts int64) *Event {
	now := time.Now()
	if ts == 0 {
		ts = now.UnixMilli()
	}
	ev := &Event{ID: h.newID("$"), Sender: sender, Type: typ, Key: key, Content: content, TS: ts, At: now}
	r.timeline = append(r.timeline, ev)
	if key != nil {
		at := [2]string{typ, *key}
		if r.state[at] == nil {
			r.order = append(r.order, at)
		}
		r.state[at] = ev
	}
	if h.interested(r, key) {
		h.queue = append(h.queue, encode(r, ev))
	}
	h.touch()
	return ev
}

func encode(r *room, ev *Event) map[string]any {
	m := map[string]any{"event_id": ev.ID, "room_id": r.id, "sender": ev.Sender, "type": ev.Type, "content": ev.Content, "origin_server_ts": ev.TS}
	if ev.Key != nil {
		m["state_key"] = *ev.Key
	}
	return m
}

// interested tells whether the bridge is told of an event: one of its users is in the room, or is the subject.
func (h *Homeserver) interested(r *room, key *string) bool {
	if key != nil && h.Ours(*key) {
		return true
	}
	for u, m := range r.members {
		if m == "join" && h.Ours(u) {
			return true
		}
	}
	return false
}

func (h *Homeserver) member(r *room, sender, user, membership string, more map[string]any) *Event {
	r.members[user] = membership
	name := h.users[user]
	if name == "" {
		name, _, _ = strings.Cut(strings.TrimPrefix(user, "@"), ":")
	}
	content := map[string]any{"membership": membership, "displayname": name}
	for k, v := range more {
		content[k] = v
	}
	return h.emit(r, sender, "m.room.member", &user, content, 0)
}

// levels are the power levels of a room.
func (r *room) levels() map[string]any {
	if ev := r.state[[2]string{"m.room.power_levels", ""}]; ev != nil {
		return ev.Content
	}
	return nil
}

func number(v any, def int) int {
	switch n := v.(type) {
	case float64:
		return int(n)
	case int:
		return n
	case json.Number:
		i, _ := n.Int64()
		return int(i)
	}
	return def
}

func (r *room) level(user string) int {
	l := r.levels()
	if users, ok := l["users"].(map[string]any); ok {
		if v, ok := users[user]; ok {
			return number(v, 0)
		}
	}
	return number(l["users_default"], 0)
}

// needed is the level for an act ("kick"), a state event or a message.
func (r *room) needed(what string, def int) int { return number(r.levels()[what], def) }

func (r *room) neededFor(typ string, state bool) int {
	if events, ok := r.levels()["events"].(map[string]any); ok {
		if v, ok := events[typ]; ok {
			return number(v, 0)
		}
	}
	if state {
		return r.needed("state_default", 50)
	}
	return r.needed("events_default", 0)
}

func (h *Homeserver) create(creator string, opts map[string]any) *room {
	r := &room{id: h.newID("!"), members: map[string]string{}, state: map[[2]string]*Event{}}
	h.rooms[r.id] = r
	h.order = append(h.order, r.id)
	empty := ""
	creation := map[string]any{"room_version": "10", "creator": creator}
	if c, ok := opts["creation_content"].(map[string]any); ok {
		for k, v := range c {
			creation[k] = v
		}
	}
	h.emit(r, creator, "m.room.create", &empty, creation, 0)
	h.member(r, creator, creator, "join", nil)
	levels := map[string]any{"users": map[string]any{creator: 100}}
	if l, ok := opts["power_level_content_override"].(map[string]any); ok {
		for k, v := range l {
			levels[k] = v
		}
	}
	h.emit(r, creator, "m.room.power_levels", &empty, levels, 0)
	h.emit(r, creator, "m.room.join_rules", &empty, map[string]any{"join_rule": "invite"}, 0)
	h.emit(r, creator, "m.room.history_visibility", &empty, map[string]any{"history_visibility": "shared"}, 0)
	if list, ok := opts["initial_state"].([]any); ok {
		for _, raw := range list {
			st, _ := raw.(map[string]any)
			key, _ := st["state_key"].(string)
			typ, _ := st["type"].(string)
			content, _ := st["content"].(map[string]any)
			h.emit(r, creator, typ, &key, content, 0)
		}
	}
	for field, typ := range map[string]string{"name": "m.room.name", "topic": "m.room.topic"} {
		if v, ok := opts[field].(string); ok && v != "" {
			h.emit(r, creator, typ, &empty, map[string]any{field: v}, 0)
		}
	}
	if list, ok := opts["invite"].([]any); ok {
		for _, u := range list {
			if user, ok := u.(string); ok {
				h.member(r, creator, user, "invite", nil)
			}
		}
	}
	return r
}

// act is a change of membership that sender wants for target; "" when it is allowed, else why not.
func (h *Homeserver) act(r *room, what, sender, target string, more map[string]any) (*Event, string) {
	now, in := r.members[target], r.members[sender] == "join"
	to := map[string]string{"invite": "invite", "kick": "leave", "ban": "ban", "unban": "leave", "leave": "leave", "join": "join"}[what]
	var ok bool
	switch what {
	case "invite":
		if now == "invite" {
			return r.state[[2]string{"m.room.member", target}], ""
		}
		ok = in && now != "join" && now != "ban" && r.level(sender) >= r.needed("invite", 0)
	case "kick", "ban":
		ok = in && now != "" && now != to && r.level(sender) >= r.needed(what, 50) && r.level(sender) > r.level(target) && (what == "ban" || now != "ban" && now != "leave")
	case "unban":
		ok = in && now == "ban" && r.level(sender) >= r.needed("ban", 50)
	case "leave":
		ok = now == "join" || now == "invite"
	case "join":
		if now == "join" {
			return r.state[[2]string{"m.room.member", target}], ""
		}
		ok = now == "invite"
	}
	if !ok {
		return nil, fmt.Sprintf("%s may not %s %s (%s)", sender, what, target, now)
	}
	return h.member(r, sender, target, to, more), ""
}

// Text is a message as people see it.
type Text struct {
	EventID, Sender, MsgType, Body string
	At                             time.Time
}

// Texts are the messages of a room in order. Edits are left out.
func (h *Homeserver) Texts(roomID string) []Text {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.texts(roomID, 0)
}

func (h *Homeserver) texts(roomID string, from int) []Text {
	var out []Text
	r := h.rooms[roomID]
	if r == nil {
		return nil
	}
	for _, ev := range r.timeline[min(from, len(r.timeline)):] {
		if ev.Type != "m.room.message" {
			continue
		}
		body, _ := ev.Content["body"].(string)
		kind, _ := ev.Content["msgtype"].(string)
		out = append(out, Text{ev.ID, ev.Sender, kind, body, ev.At})
	}
	return out
}

// Member is the membership of a user in a room, "" for none.
func (h *Homeserver) Member(roomID, user string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.rooms[roomID]; r != nil {
		return r.members[user]
	}
	return ""
}

// Members are all users with a membership in a room, "user membership", sorted.
func (h *Homeserver) Members(roomID string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	if r := h.rooms[roomID]; r != nil {
		for u, m := range r.members {
			out = append(out, u+" "+m)
		}
	}
	slices.Sort(out)
	return out
}

// State is a field of the content of a state event with an empty key.
func (h *Homeserver) State(roomID, typ, field string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.rooms[roomID]; r != nil {
		if ev := r.state[[2]string{typ, ""}]; ev != nil {
			s, _ := ev.Content[field].(string)
			return s
		}
	}
	return ""
}

// RoomOf is the newest room in which a user has a membership, "" when there is none.
func (h *Homeserver) RoomOf(user, membership string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range slices.Backward(h.order) {
		if h.rooms[id].members[user] == membership {
			return id
		}
	}
	return ""
}

// LastTexts are the last n messages of a room, the oldest first.
func (h *Homeserver) LastTexts(roomID string, n int) []Text {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.rooms[roomID]
	if r == nil {
		return nil
	}
	for from := max(len(r.timeline)-n, 0); ; from = max(from-n, 0) {
		texts := h.texts(roomID, from)
		if len(texts) >= n || from == 0 {
			return texts[max(len(texts)-n, 0):]
		}
	}
}

// LastText is the last message of a room, "" when there is none.
func (h *Homeserver) LastText(roomID string) string {
	texts := h.LastTexts(roomID, 1)
	if len(texts) == 0 {
		return ""
	}
	return texts[0].Body
}
