package event

import (
	"path"
	"strconv"
	"strings"

	"maunium.net/go/mautrix/id"
)

// Room is what the bridge keeps of the state of a room, apart from its
// members. It is stored as JSON; the zero value is a room nothing is known of.
type Room struct {
	Create     Create      `json:"create"`
	Name       string      `json:"name,omitempty"`
	Topic      string      `json:"topic,omitempty"`
	TopicHTML  string      `json:"topic_html,omitempty"`
	Avatar     string      `json:"avatar,omitempty"`
	Mood       string      `json:"mood,omitempty"`
	Alias      string      `json:"alias,omitempty"`
	JoinRule   string      `json:"join_rule,omitempty"`
	History    string      `json:"history,omitempty"`
	Guests     bool        `json:"guests,omitempty"`
	Encryption string      `json:"encryption,omitempty"`
	MaxAge     int64       `json:"max_age,omitempty"`
	Successor  id.RoomID   `json:"successor,omitempty"`
	ACL        *ServerACL  `json:"acl,omitempty"`
	Levels     PowerLevels `json:"levels"`
	// HasLevels says that Levels come from an event.
	HasLevels bool `json:"has_levels,omitempty"`
}

// Create is what m.room.create says.
type Create struct {
	Version     string      `json:"version,omitempty"`
	Type        string      `json:"type,omitempty"`
	Creators    []id.UserID `json:"creators,omitempty"`
	Federate    bool        `json:"federate,omitempty"`
	Predecessor id.RoomID   `json:"predecessor,omitempty"`
}

// ServerACL is m.room.server_acl.
type ServerACL struct {
	Allow []string `json:"allow,omitempty"`
	Deny  []string `json:"deny,omitempty"`
}

// Bounds on the text of a room's state, in octets.
const (
	MaxName  = 1024
	MaxTopic = 32 << 10
)

// Apply takes a state event into the picture and reports whether it changed
// anything that is kept. Members are not kept here.
func (r *Room) Apply(e Event) bool {
	if e.StateKey == nil || *e.StateKey != "" {
		return false
	}
	o := e.Content
	switch e.Type {
	case TypeCreate:
		r.Create = parseCreate(o, e.Sender)
		r.fixLevels()
	case TypeName:
		return set(&r.Name, cut(o.Str("name"), MaxName))
	case TypeTopic:
		text, html := ParseTopic(o)
		a, b := set(&r.Topic, text), set(&r.TopicHTML, html)
		return a || b
	case TypeAvatar:
		return set(&r.Avatar, cut(o.Str("url"), 2*MaxIdentifier))
	case TypeMood:
		return set(&r.Mood, cut(o.Str("mood"), MaxName))
	case TypeCanonicalAlias:
		return set(&r.Alias, cut(o.Str("alias"), MaxIdentifier))
	case TypeJoinRules:
		return set(&r.JoinRule, cut(o.Str("join_rule"), MaxIdentifier))
	case TypeHistoryVisibility:
		return set(&r.History, cut(o.Str("history_visibility"), MaxIdentifier))
	case TypeGuestAccess:
		return set(&r.Guests, o.Str("guest_access") == "can_join")
	case TypeEncryption:
		return set(&r.Encryption, cut(o.Str("algorithm"), MaxIdentifier))
	case TypeRetention:
		n, _ := o.Int("max_lifetime")
		return set(&r.MaxAge, positive(n))
	case TypeTombstone:
		next := id.RoomID(o.Str("replacement_room"))
		if !ValidRoomID(next) {
			return false
		}
		return set(&r.Successor, next)
	case TypeServerACL:
		r.ACL = &ServerACL{Allow: o.Strings("allow", 4096), Deny: o.Strings("deny", 4096)}
	case TypePowerLevels:
		before := r.Levels
		had := r.HasLevels
		r.Levels, r.HasLevels = ParsePowerLevels(o), true
		r.fixLevels()
		return !had || !before.Equal(r.Levels)
	default:
		return false
	}
	return true
}

func set[T comparable](to *T, v T) bool {
	changed := *to != v
	*to = v
	return changed
}

// fixLevels gives the creators their power in whatever way the room version
// wants.
func (r *Room) fixLevels() {
	if !r.HasLevels {
		var first id.UserID
		if len(r.Create.Creators) > 0 {
			first = r.Create.Creators[0]
		}
		r.Levels = DefaultPowerLevels(first)
	}
	r.Levels.Creators = nil
	if r.Create.PrivilegedCreators() {
		r.Levels.Creators = r.Create.Creators
	}
}

func parseCreate(o Object, sender id.UserID) Create {
	c := Create{
		Version: cut(o.Str("room_version"), MaxIdentifier), Type: cut(o.Str("type"), MaxIdentifier),
		Federate: !o.Has("m.federate") || o.Bool("m.federate"), Creators: []id.UserID{sender},
	}
	if c.Version == "" {
		c.Version = "1"
	}
	if p := id.RoomID(o.Obj("predecessor").Str("room_id")); ValidRoomID(p) {
		c.Predecessor = p
	}
	if c.PrivilegedCreators() {
		for _, s := range o.Strings("additional_creators", 100) {
			if u := id.UserID(s); ValidUserID(u) && u != sender {
				c.Creators = append(c.Creators, u)
			}
		}
	}
	return c
}

// PrivilegedCreators reports whether creators stand above the power levels
// (room version 12 and newer).
func (c Create) PrivilegedCreators() bool {
	n, err := strconv.Atoi(c.Version)
	return err == nil && n >= 12 || strings.HasPrefix(c.Version, "org.matrix.hydra.")
}

// ParseTopic reads m.room.topic: the plain text and, for rich topics
// (Matrix spec v1.15), the HTML as received.
func ParseTopic(o Object) (text, html string) {
	text = o.Str("topic")
	for _, r := range o.Obj("m.topic").Objects("m.text", 8) {
		switch r.Str("mimetype") {
		case "", "text/plain":
			if text == "" {
				text = r.Str("body")
			}
		case "text/html":
			if html == "" {
				html = r.Str("body")
			}
		}
	}
	return cut(text, MaxTopic), cut(html, MaxTopic)
}

// Denies reports whether the list keeps a server out. Globs are `*` and `?`
// (Matrix spec, "m.room.server_acl"). A nil list denies nobody.
func (a *ServerACL) Denies(server string) bool {
	if a == nil {
		return false
	}
	server = strings.ToLower(server)
	match := func(globs []string) bool {
		for _, g := range globs {
			// path.Match treats `[` and `\` as special, which ACL globs do not.
			g = strings.NewReplacer(`\`, `\\`, `[`, `\[`).Replace(strings.ToLower(g))
			if ok, err := path.Match(g, server); err == nil && ok {
				return true
			}
		}
		return false
	}
	return match(a.Deny) || !match(a.Allow)
}
