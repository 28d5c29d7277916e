package config

import (
	"slices"
	"strings"
)

// Level is what a Matrix user may do with the bridge.
type Level string

// The levels, lowest first.
const (
	LevelBlock Level = "block" // not bridged, commands ignored
	LevelUser  Level = "user"  // takes part, uses the commands
	LevelAdmin Level = "admin" // also the commands of the operator
)

// UnmarshalText takes one of the constants.
func (l *Level) UnmarshalText(text []byte) error {
	return choose(l, text, LevelBlock, LevelUser, LevelAdmin)
}

// Permissions gives levels to users. Keys are "*", a homeserver's domain, a
// user id, or a user id with * in it for any characters, such as the names that
// another bridge gives its ghosts; the most exact key wins.
type Permissions map[string]Level

// matching returns the level of the longest user id with * in it that fits.
func (p Permissions) matching(userID string) (Level, bool) {
	best := ""
	for key := range p {
		if len(key) < 2 || !strings.Contains(key, "*") || len(key) < len(best) || len(key) == len(best) && key > best {
			continue
		}
		if fits(key, userID) {
			best = key
		}
	}
	return p[best], best != ""
}

// fits tells whether a text is a pattern with any characters in place of each *.
func fits(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	last := len(parts) - 1
	s, ok := strings.CutPrefix(s, parts[0])
	for _, part := range parts[1:last] {
		at := strings.Index(s, part)
		if !ok || at < 0 {
			return false
		}
		s = s[at+len(part):]
	}
	return ok && strings.HasSuffix(s, parts[last])
}

// Permission returns the level of a Matrix user id. With no permissions set,
// users of the bridge's own homeserver are users and all others are blocked.
func (c *Config) Permission(userID string) Level {
	_, domain, _ := strings.Cut(userID, ":")
	p := c.Bridge.Permissions
	if len(p) == 0 {
		if domain != "" && domain == c.Homeserver.Domain {
			return LevelUser
		}
		return LevelBlock
	}
	if l, ok := p[userID]; ok {
		return l
	}
	if l, ok := p.matching(userID); ok {
		return l
	}
	for _, key := range []string{domain, "*"} {
		if l, ok := p[key]; ok {
			return l
		}
	}
	return LevelBlock
}

// Admins are the users who are named as admin.
func (c *Config) Admins() []string {
	var out []string
	for key, l := range c.Bridge.Permissions {
		if l == LevelAdmin && strings.HasPrefix(key, "@") && !strings.Contains(key, "*") {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

// PeerTrust returns how a provider proves who it is and what it may ask:
// mimi.peers over mimi.peer_defaults. The second result is false when the
// settings forbid to speak with it.
func (c *Config) PeerTrust(domain string) (Trust, bool) {
	t := c.MIMI.PeerDefaults
	peer, listed := c.MIMI.Peers[domain]
	if !listed {
		return t, c.MIMI.Federation == FederationOpen
	}
	if peer.Roots != "" {
		t.Roots, t.CAFile = peer.Roots, peer.CAFile
	}
	if peer.RequireClientUsage != nil {
		t.RequireClientUsage = *peer.RequireClientUsage
	}
	if peer.RequireCertificates != nil {
		t.RequireCertificates = *peer.RequireCertificates
	}
	if peer.Consent != "" {
		t.Consent = peer.Consent
	}
	return t, !peer.Blocked
}
