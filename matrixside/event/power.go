package event

import (
	"encoding/json"
	"maps"
	"math"
	"sort"

	"maunium.net/go/mautrix/id"
)

// CreatorLevel is the level of the creators of a room of version 12 and newer:
// above every level that can be written.
const CreatorLevel = math.MaxInt64

// MaxLevelEntries is the largest number of users or event types that are read
// from power levels.
const MaxLevelEntries = 20000

// PowerLevels is the content of m.room.power_levels with the defaults filled
// in (Matrix spec, "m.room.power_levels").
type PowerLevels struct {
	Users         map[id.UserID]int64
	UsersDefault  int64
	Events        map[string]int64
	EventsDefault int64
	StateDefault  int64
	Invite        int64
	Kick          int64
	Ban           int64
	Redact        int64
	// NotifyRoom is `notifications.room`.
	NotifyRoom int64
	// Creators stand above everybody. Only rooms of version 12 and newer have any.
	Creators []id.UserID
}

// DefaultPowerLevels are the levels of a room without the event, where only
// the creator has power.
func DefaultPowerLevels(creator id.UserID) PowerLevels {
	p := ParsePowerLevels(nil)
	p.StateDefault = 0
	if creator != "" {
		p.Users[creator] = 100
	}
	return p
}

// ParsePowerLevels reads the content of the event.
func ParsePowerLevels(o Object) PowerLevels {
	def := func(o Object, key string, d int64) int64 {
		if n, ok := o.Level(key); ok {
			return n
		}
		return d
	}
	p := PowerLevels{
		Users: map[id.UserID]int64{}, Events: map[string]int64{},
		UsersDefault: def(o, "users_default", 0), EventsDefault: def(o, "events_default", 0),
		StateDefault: def(o, "state_default", 50), Invite: def(o, "invite", 0),
		Kick: def(o, "kick", 50), Ban: def(o, "ban", 50), Redact: def(o, "redact", 50),
		NotifyRoom: def(o.Obj("notifications"), "room", 50),
	}
	users := o.Obj("users")
	for _, k := range sortedKeys(users, MaxLevelEntries) {
		if n, ok := users.Level(k); ok && ValidUserID(id.UserID(k)) {
			p.Users[id.UserID(k)] = n
		}
	}
	events := o.Obj("events")
	for _, k := range sortedKeys(events, MaxLevelEntries) {
		if n, ok := events.Level(k); ok && len(k) <= MaxIdentifier {
			p.Events[k] = n
		}
	}
	return p
}

func sortedKeys(o Object, limit int) []string {
	keys := make([]string, 0, len(o))
	for k := range o {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	if len(keys) > limit {
		keys = keys[:limit]
	}
	return keys
}

// User is the level of a user.
func (p PowerLevels) User(u id.UserID) int64 {
	for _, c := range p.Creators {
		if c == u {
			return CreatorLevel
		}
	}
	if n, ok := p.Users[u]; ok {
		return n
	}
	return p.UsersDefault
}

// Event is the level needed to send a message event of that type.
func (p PowerLevels) Event(typ string) int64 {
	if n, ok := p.Events[typ]; ok {
		return n
	}
	return p.EventsDefault
}

// State is the level needed to send a state event of that type.
func (p PowerLevels) State(typ string) int64 {
	if n, ok := p.Events[typ]; ok {
		return n
	}
	return p.StateDefault
}

// Clone returns a copy that shares nothing.
func (p PowerLevels) Clone() PowerLevels {
	p.Users, p.Events = maps.Clone(p.Users), maps.Clone(p.Events)
	p.Creators = append([]id.UserID(nil), p.Creators...)
	if p.Users == nil {
		p.Users = map[id.UserID]int64{}
	}
	if p.Events == nil {
		p.Events = map[string]int64{}
	}
	return p
}

// Equal reports whether both say the same.
func (p PowerLevels) Equal(q PowerLevels) bool {
	a, b := p, q
	a.Users, a.Events, a.Creators, b.Users, b.Events, b.Creators = nil, nil, nil, nil, nil, nil
	scalar := a.UsersDefault == b.UsersDefault && a.EventsDefault == b.EventsDefault && a.StateDefault == b.StateDefault &&
		a.Invite == b.Invite && a.Kick == b.Kick && a.Ban == b.Ban && a.Redact == b.Redact && a.NotifyRoom == b.NotifyRoom
	return scalar && maps.Equal(p.Users, q.Users) && maps.Equal(p.Events, q.Events)
}

// Encode returns the content of the event. Creators are not written: they
// follow from m.room.create, and an event that names them is refused.
func (p PowerLevels) Encode() json.RawMessage {
	users := make(map[id.UserID]int64, len(p.Users))
	for u, n := range p.Users {
		users[u] = n
	}
	for _, c := range p.Creators {
		delete(users, c)
	}
	events := p.Events
	if events == nil {
		events = map[string]int64{}
	}
	return mustJSON(map[string]any{
		"users": users, "users_default": p.UsersDefault, "events": events, "events_default": p.EventsDefault,
		"state_default": p.StateDefault, "invite": p.Invite, "kick": p.Kick, "ban": p.Ban, "redact": p.Redact,
		"notifications": map[string]int64{"room": p.NotifyRoom},
	})
}
