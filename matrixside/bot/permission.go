package bot

import (
	"fmt"
	"strings"

	"maunium.net/go/mautrix/id"
)

// Level is what a Matrix user may do with the bridge.
type Level int

// The levels, as users of bridges know them from the config.
const (
	Block Level = iota
	User
	Admin
)

// String is the word of the config.
func (l Level) String() string {
	switch l {
	case User:
		return "user"
	case Admin:
		return "admin"
	}
	return "block"
}

// ParseLevel reads a word of the config.
func ParseLevel(s string) (Level, error) {
	for _, l := range []Level{Block, User, Admin} {
		if s == l.String() {
			return l, nil
		}
	}
	return Block, fmt.Errorf("permission %q is none of block, user, admin", s)
}

// Permissions say who may use the bridge: by user id, by the domain of a
// homeserver, or for everybody ("*"). The most exact entry counts; without any
// entry a user is blocked.
type Permissions map[string]Level

// Of is the level of a user.
func (p Permissions) Of(user id.UserID) Level {
	_, domain, _ := strings.Cut(string(user), ":")
	for _, key := range []string{string(user), domain, "*"} {
		if l, ok := p[key]; ok {
			return l
		}
	}
	return Block
}
