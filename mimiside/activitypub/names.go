package activitypub

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// ErrName: a name or address that means nothing here. It is permanent.
var ErrName = errors.New("name is not known here")

// EscapeName turns the user part of an identity (mapping.Naming: the localpart, or the whole Matrix id of a user of another homeserver)
// into [a-z0-9_], reversibly: "_" is "__", anything else is "_xx", its octets in hexadecimal. Paths and keyIds made of it look
// the same decoded and encoded, which servers disagree about.
func EscapeName(segment string) string {
	var b strings.Builder
	for i := 0; i < len(segment); i++ {
		switch c := segment[i]; {
		case c == '_':
			b.WriteString("__")
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}

// UnescapeName is the inverse of EscapeName and accepts only what EscapeName produces.
func UnescapeName(name string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] != '_' {
			b.WriteByte(name[i])
			continue
		}
		if strings.HasPrefix(name[i:], "__") {
			b.WriteByte('_')
			i++
			continue
		}
		var c byte
		if i+2 >= len(name) {
			return "", fmt.Errorf("%w: %.100q", ErrName, name)
		}
		if _, err := fmt.Sscanf(name[i+1:i+3], "%02x", &c); err != nil {
			return "", fmt.Errorf("%w: %.100q", ErrName, name)
		}
		b.WriteByte(c)
		i += 2
	}
	if name == "" || EscapeName(b.String()) != name {
		return "", fmt.Errorf("%w: %.100q", ErrName, name)
	}
	return b.String(), nil
}

// Site makes the addresses of the ActivityPub face.
type Site struct {
	// Base is https://<domain>, without a slash at the end.
	Base string
}

// prefix is where everything but the well-known addresses lies.
const prefix = "/ap"

// Paths of actors and of what belongs to them.
const (
	pathUsers    = prefix + "/u/"
	pathRooms    = prefix + "/r/"
	pathObjects  = prefix + "/o/"
	pathThreads  = prefix + "/c/"
	pathInstance = prefix + "/actor"
	pathInbox    = prefix + "/inbox"
	pathNodeInfo = prefix + "/nodeinfo/2.1"
)

// User is the id of the actor of a user of ours, by its escaped name.
func (s Site) User(name string) string { return s.Base + pathUsers + name }

// Room is the id of the actor of a room of ours.
func (s Site) Room(token string) string { return s.Base + pathRooms + token }

// Instance is the id of the actor that signs our GETs.
func (s Site) Instance() string { return s.Base + pathInstance }

// SharedInbox is the inbox for all of our actors.
func (s Site) SharedInbox() string { return s.Base + pathInbox }

// ObjectID is the id of an activity or object that we send.
func (s Site) ObjectID(token string) string { return s.Base + pathObjects + token }

// Conversation is the id of the collection of a group's activities.
func (s Site) Conversation(token string) string { return s.Base + pathThreads + token }

// KeyID is the id of an actor's key. Some servers cut it at the "#" and want the actor's id before it.
func KeyID(actor string) string { return actor + "#main-key" }

// Kind is what an address of ours names.
type Kind int

// Kinds of our addresses.
const (
	KindNone Kind = iota
	KindUser
	KindRoom
	KindInstance
)

// Parse tells what the id of an actor of ours names: a user by its escaped name, or a room by its token.
func (s Site) Parse(id string) (Kind, string) {
	rest, ok := strings.CutPrefix(id, s.Base)
	if !ok {
		return KindNone, ""
	}
	if rest == pathInstance {
		return KindInstance, ""
	}
	for at, kind := range map[string]Kind{pathUsers: KindUser, pathRooms: KindRoom} {
		if name, ok := strings.CutPrefix(rest, at); ok && name != "" && !strings.ContainsAny(name, "/?#%") {
			return kind, name
		}
	}
	return KindNone, ""
}

// Own tells whether an id is an address of ours.
func (s Site) Own(id string) bool { return strings.HasPrefix(id, s.Base+"/") }

// Host is the domain of the site, as it stands in requests.
func (s Site) Host() string {
	u, err := url.Parse(s.Base)
	if err != nil {
		return ""
	}
	return u.Host
}

// Scheme is https, or http in tests.
func (s Site) Scheme() string {
	scheme, _, _ := strings.Cut(s.Base, "://")
	return scheme
}

// SameOrigin tells whether two addresses are of one server: scheme, host and port.
func SameOrigin(a, b string) bool { return sameOrigin(a, b) }
