package relay

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

// fakeHS is a homeserver: it carries out rows as the appservice's client does, does what its users do, and pushes
// events to the bridge as transactions.
type fakeHS struct {
	server  string
	ours    func(mxid string) bool
	clock   func() time.Time
	rooms   map[string]*hsRoom
	order   []string
	aliases map[string]string
	txns    map[string]string // transaction key and sender → event id
	queue   []json.RawMessage
	// ephemeral are receipts to be pushed.
	ephemeral []event.Ephemeral
	n         int
	txn       int
	users     map[string]bool
	present   []string             // the presence of ghosts
	typed     []string             // what ghosts were shown typing
	names     map[string][2]string // display name and picture, by user
	direct    map[int]bool         // rows that mark a direct chat
	rows      []string             // what the bridge did, for assertions
	states    []event.Object       // the requests for state events among it
	reads     int                  // how often the state of a room was read
	refuse    func(verb string, args event.Object) bool
	down      bool
}

type hsRoom struct {
	id       string
	members  map[string]string
	state    map[string]json.RawMessage
	sender   map[string]string
	timeline []hsEvent
	power    event.PowerLevels
	reads    map[string]string // user → event of the last read receipt
}

type hsEvent struct {
	id, sender, typ string
	key             *string
	content         json.RawMessage
	ts              int64
	redacted        bool
}

func newHS(server string, clock func() time.Time, ours func(string) bool) *fakeHS {
	return &fakeHS{server: server, ours: ours, clock: clock, rooms: map[string]*hsRoom{}, aliases: map[string]string{}, txns: map[string]string{}, users: map[string]bool{}, names: map[string][2]string{}, direct: map[int]bool{}}
}

func (h *fakeHS) mxid(local string) string { return "@" + local + ":" + h.server }

// emit writes an event into a room and pushes it when the appservice is interested.
func (h *fakeHS) emit(room *hsRoom, sender, typ string, key *string, content any, ts int64) string {
	h.n++
	raw := mustJSON(content)
	if ts == 0 {
		ts = h.clock().UnixMilli()
	}
	ev := hsEvent{id: fmt.Sprintf("$e%d:%s", h.n, h.server), sender: sender, typ: typ, key: key, content: raw, ts: ts}
	room.timeline = append(room.timeline, ev)
	if key != nil {
		room.state[typ+"\x00"+*key], room.sender[typ+"\x00"+*key] = raw, sender
		if typ == event.TypePowerLevels {
			o, _ := event.ParseObject(raw)
			room.power = event.ParsePowerLevels(o)
		}
	}
	if h.interested(room, key) {
		h.queue = append(h.queue, h.encode(room, ev))
	}
	return ev.id
}

func (h *fakeHS) encode(room *hsRoom, ev hsEvent) json.RawMessage {
	m := map[string]any{"event_id": ev.id, "room_id": room.id, "sender": ev.sender, "type": ev.typ, "content": ev.content, "origin_server_ts": ev.ts}
	if ev.key != nil {
		m["state_key"] = *ev.key
	}
	return mustJSON(m)
}

func (h *fakeHS) interested(room *hsRoom, key *string) bool {
	if key != nil && h.ours(*key) {
		return true
	}
	for u, m := range room.members {
		if h.ours(u) && m == "join" {
			return true
		}
	}
	return false
}

func (h *fakeHS) member(room *hsRoom, sender, user, membership, reason string) string {
	room.members[user] = membership
	c := map[string]any{"membership": membership}
	if reason != "" {
		c["reason"] = reason
	}
	local, _, _ := strings.Cut(strings.TrimPrefix(user, "@"), ":")
	c["displayname"] = local
	return h.emit(room, sender, event.TypeMember, &user, c, 0)
}

// What people do.

func (h *fakeHS) create(user, name, topic string) *hsRoom {
	h.n++
	r := &hsRoom{id: fmt.Sprintf("!r%d:%s", h.n, h.server), members: map[string]string{}, state: map[string]json.RawMessage{}, sender: map[string]string{}}
	h.rooms[r.id] = r
	h.order = append(h.order, r.id)
	empty := ""
	h.emit(r, user, event.TypeCreate, &empty, map[string]any{"room_version": "10"}, 0)
	h.member(r, user, user, "join", "")
	h.emit(r, user, event.TypePowerLevels, &empty, map[string]any{"users": map[string]int{user: 100}}, 0)
	h.emit(r, user, event.TypeJoinRules, &empty, map[string]any{"join_rule": "invite"}, 0)
	if name != "" {
		h.emit(r, user, event.TypeName, &empty, map[string]any{"name": name}, 0)
	}
	if topic != "" {
		h.emit(r, user, event.TypeTopic, &empty, map[string]any{"topic": topic}, 0)
	}
	return r
}

func (h *fakeHS) invite(r *hsRoom, by, user string) { h.member(r, by, user, "invite", "") }

// inviteDirect invites somebody to a direct chat.
func (h *fakeHS) inviteDirect(r *hsRoom, by, user string) {
	r.members[user] = "invite"
	h.emit(r, by, event.TypeMember, &user, map[string]any{"membership": "invite", "is_direct": true}, 0)
}
func (h *fakeHS) join(r *hsRoom, user string)      { h.member(r, user, user, "join", "") }
func (h *fakeHS) leave(r *hsRoom, user string)     { h.member(r, user, user, "leave", "") }
func (h *fakeHS) kick(r *hsRoom, by, user string)  { h.member(r, by, user, "leave", "kicked") }
func (h *fakeHS) ban(r *hsRoom, by, user string)   { h.member(r, by, user, "ban", "banned") }
func (h *fakeHS) unban(r *hsRoom, by, user string) { h.member(r, by, user, "leave", "") }

func (h *fakeHS) say(r *hsRoom, user, text string) string {
	return h.emit(r, user, event.TypeMessage, nil, map[string]any{"msgtype": "m.text", "body": text}, 0)
}

func (h *fakeHS) set(r *hsRoom, user, typ string, content any) {
	empty := ""
	h.emit(r, user, typ, &empty, content, 0)
}

// delivery takes what is to be pushed.
func (h *fakeHS) delivery() (Delivery, bool) {
	if len(h.queue)+len(h.ephemeral) == 0 || h.down {
		return Delivery{}, false
	}
	h.txn++
	d := Delivery{Source: "appservice", ID: fmt.Sprint(h.txn)}
	sum := sha256.New()
	for _, raw := range h.queue {
		sum.Write(raw)
		ev, err := event.ParseChecked(raw)
		if err != nil {
			panic(err)
		}
		d.Events = append(d.Events, ev)
	}
	d.Ephemeral, h.ephemeral = h.ephemeral, nil
	d.Hash = [32]byte(sum.Sum(nil))
	h.queue = nil
	return d, true
}

// What the bridge asks.

func (h *fakeHS) UserExists(_ context.Context, mxid string) (bool, error) { return h.users[mxid], nil }

func (h *fakeHS) RoomState(_ context.Context, as, roomID string) ([]json.RawMessage, error) {
	h.reads++
	r := h.rooms[roomID]
	if r == nil || r.members[as] != "join" {
		return nil, ErrRefused
	}
	var out []json.RawMessage
	for _, k := range sortedKeys(r.state) {
		typ, key, _ := strings.Cut(k, "\x00")
		h.n++
		out = append(out, h.encode(r, hsEvent{id: fmt.Sprintf("$s%d:%s", h.n, h.server), sender: r.sender[k], typ: typ, key: &key, content: r.state[k], ts: 1}))
	}
	return out, nil
}

// types lets users type in a room, and nobody else.
func (h *fakeHS) types(r *hsRoom, users ...string) {
	e := event.Ephemeral{Type: event.TypeTyping, Room: id.RoomID(r.id)}
	for _, u := range users {
		e.Typing = append(e.Typing, userID(u))
	}
	h.ephemeral = append(h.ephemeral, e)
}

func (h *fakeHS) showPresence(_ context.Context, ghost id.UserID, state, text string) error {
	h.present = append(h.present, local(string(ghost))+" "+state+" "+text)
	return nil
}

func (h *fakeHS) showTyping(_ context.Context, room id.RoomID, ghost id.UserID, lasts time.Duration) error {
	if h.rooms[string(room)].members[string(ghost)] != "join" {
		return ErrRefused
	}
	h.typed = append(h.typed, fmt.Sprintf("%s %s", local(string(ghost)), lasts))
	return nil
}

func (h *fakeHS) nameOf(_ context.Context, mxid string) (name, avatar string, err error) {
	p := h.names[mxid]
	return p[0], p[1], nil
}

func (h *fakeHS) Event(_ context.Context, as, roomID, eventID string) (json.RawMessage, error) {
	r := h.rooms[roomID]
	if r == nil {
		return nil, ErrRefused
	}
	for _, ev := range r.timeline {
		if ev.id == eventID {
			return h.encode(r, ev), nil
		}
	}
	return nil, ErrRefused
}

// exec carries out one row.
func (h *fakeHS) exec(row store.Outbound, roomID string) (class string, eventID string, body []byte) {
	if h.down {
		return "retry", "", nil
	}
	var args event.Object
	if err := json.Unmarshal(row.Data, &args); err != nil {
		panic(err)
	}
	sender := args.Str("sender")
	if sender == "" {
		sender = h.mxid("mimibot")
	}
	if string(args["direct"]) == "true" {
		h.direct[len(h.rows)] = true
	}
	h.rows = append(h.rows, row.Verb+" "+sender+" "+args.Str("target"))
	if event.Verb(row.Verb) == event.VerbState {
		h.states = append(h.states, args)
	}
	if h.refuse != nil && h.refuse(row.Verb, args) {
		return "refused", "", []byte(`{}`)
	}
	if row.Verb == string(event.VerbCreateRoom) {
		return h.execCreate(args, sender)
	}
	r := h.rooms[roomID]
	if other := args.Str("room"); other != "" {
		r = h.rooms[other]
	}
	if r == nil {
		return "refused", "", []byte(`{"errcode":"M_NOT_FOUND"}`)
	}
	key := row.TxnKey + sender
	if id, done := h.txns[key]; done {
		return "done", id, nil
	}
	class, eventID = h.execIn(r, event.Verb(row.Verb), args, sender)
	if class == "done" {
		h.txns[key] = eventID
	}
	return class, eventID, []byte(`{}`)
}

func (h *fakeHS) execCreate(args event.Object, sender string) (string, string, []byte) {
	alias := args.Str("alias")
	if alias != "" && !strings.HasPrefix(alias, "mimi_") { // Synapse makes rooms for the aliases in the registration only
		return "refused", "", []byte(`{"errcode":"M_EXCLUSIVE"}`)
	}
	if id, ok := h.aliases[alias]; ok && alias != "" {
		return "done", "", mustJSON(map[string]string{"room_id": id})
	}
	r := h.create(sender, args.Str("name"), args.Str("topic"))
	if levels := args["levels"]; len(levels) > 0 {
		h.set(r, sender, event.TypePowerLevels, levels)
	}
	for _, st := range args.Objects("state", 50) {
		key := st.Str("state_key")
		h.emit(r, sender, st.Str("type"), &key, st["content"], 0)
	}
	for _, u := range args.Strings("invite", 100) {
		h.invite(r, sender, u)
	}
	h.aliases[alias] = r.id
	return "done", "", mustJSON(map[string]string{"room_id": r.id})
}

func (h *fakeHS) execIn(r *hsRoom, verb event.Verb, args event.Object, sender string) (class, eventID string) {
	target, in := args.Str("target"), r.members[sender] == "join"
	level := func(u string) int64 { return r.power.User(userID(u)) }
	switch verb {
	case event.VerbJoin:
		switch r.members[sender] {
		case "join":
			return "done", ""
		case "ban":
			return "refused", ""
		case "invite":
		default:
			if r.str(event.TypeJoinRules, "join_rule") == "public" {
				break
			}
			if first, _ := args["invite_first"]; string(first) != "true" || r.members[h.mxid("mimibot")] != "join" {
				return "refused", ""
			}
			h.invite(r, h.mxid("mimibot"), sender)
		}
		return "done", h.member(r, sender, sender, "join", "")
	case event.VerbKnock:
		if m := r.members[sender]; m == "join" || m == "invite" || m == "ban" {
			return map[bool]string{true: "refused", false: "done"}[m == "ban"], ""
		}
		if r.str(event.TypeJoinRules, "join_rule") != "knock" {
			return "refused", ""
		}
		return "done", h.member(r, sender, sender, "knock", args.Str("reason"))
	case event.VerbLeave:
		if m := r.members[sender]; m != "join" && m != "invite" && m != "knock" {
			return "done", ""
		}
		return "done", h.member(r, sender, sender, "leave", args.Str("reason"))
	case event.VerbInvite:
		if m := r.members[target]; m == "join" || m == "invite" {
			return "done", ""
		}
		if !in || r.members[target] == "ban" || level(sender) < r.power.Invite {
			return "refused", ""
		}
		return "done", h.member(r, sender, target, "invite", "")
	case event.VerbKick, event.VerbBan, event.VerbUnban:
		return h.execPower(r, verb, sender, target, args.Str("reason"))
	case event.VerbSend:
		if !in || level(sender) < r.power.Event(args.Str("type")) {
			return "refused", ""
		}
		ts, _ := args.Int("ts")
		return "done", h.emit(r, sender, args.Str("type"), nil, args["content"], ts)
	case event.VerbState:
		if !in || level(sender) < r.power.State(args.Str("type")) {
			return "refused", ""
		}
		key := args.Str("state_key")
		return "done", h.emit(r, sender, args.Str("type"), &key, args["content"], 0)
	case event.VerbProfile:
		p, user := h.names[args.Str("user")], args.Str("user")
		if _, ok := args["name"]; ok {
			p[0] = args.Str("name")
		}
		if _, ok := args["avatar"]; ok {
			p[1] = args.Str("avatar")
		}
		h.names[user] = p
	case event.VerbReceipt:
		if !in {
			return "refused", ""
		}
		if r.reads == nil {
			r.reads = map[string]string{}
		}
		r.reads[sender] = args.Str("event")
	case event.VerbRedact:
		own := false
		for i := range r.timeline {
			own = own || r.timeline[i].id == args.Str("event") && r.timeline[i].sender == sender
		}
		if !in || !own && level(sender) < r.power.Redact {
			return "refused", ""
		}
		for i := range r.timeline {
			if r.timeline[i].id == args.Str("event") {
				r.timeline[i].redacted = true
			}
		}
		return "done", h.emit(r, sender, event.TypeRedaction, nil, map[string]string{"redacts": args.Str("event")}, 0)
	}
	return "done", ""
}

func (h *fakeHS) execPower(r *hsRoom, verb event.Verb, sender, target, reason string) (string, string) {
	to, need := "leave", r.power.Kick
	switch verb {
	case event.VerbBan:
		to, need = "ban", r.power.Ban
	case event.VerbUnban:
		if r.members[target] != "ban" {
			return "done", ""
		}
		need = r.power.Ban
	}
	if r.members[target] == to {
		return "done", ""
	}
	if r.members[sender] != "join" || r.power.User(userID(sender)) < need {
		return "refused", ""
	}
	return "done", h.member(r, sender, target, to, reason)
}

// loggedNotice is what people of every portal are told once.
const loggedNotice = "Messages in this room are logged."

// texts are the messages in a room as people see them: "sender: text". What is told once in every portal is left out.
func (h *fakeHS) texts(r *hsRoom) []string {
	var out []string
	for _, ev := range r.timeline {
		if ev.typ != event.TypeMessage {
			continue
		}
		o, _ := event.ParseObject(ev.content)
		if o.Str("body") == loggedNotice {
			continue
		}
		local, _, _ := strings.Cut(strings.TrimPrefix(ev.sender, "@"), ":")
		kind := ""
		if t := o.Str("msgtype"); t != event.MsgText {
			kind = strings.TrimPrefix(t, "m.") + " "
		}
		out = append(out, kind+local+": "+o.Str("body"))
	}
	return out
}

func (h *fakeHS) joined(r *hsRoom) []string {
	var out []string
	for u, m := range r.members {
		if m == "join" {
			out = append(out, u)
		}
	}
	slices.Sort(out)
	return out
}

// roomOf finds the room in which a user has a membership, the newest first.
func (h *fakeHS) roomOf(user, membership string) *hsRoom {
	for i := len(h.order) - 1; i >= 0; i-- {
		if r := h.rooms[h.order[i]]; r.members[user] == membership {
			return r
		}
	}
	return nil
}

func (r *hsRoom) str(typ, field string) string {
	o, _ := event.ParseObject(r.state[typ+"\x00"])
	return o.Str(field)
}
