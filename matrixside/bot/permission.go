package bot

import "fmt"

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
