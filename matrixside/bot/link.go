package bot

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/relay"
)

// JoinLinks is what the command about join links does. internal/relay implements
// it: who may, and what came of it, is told in the room.
type JoinLinks interface {
	CreateLink(ctx context.Context, roomID, by, eventID string, o relay.LinkOptions) error
	ListLinks(ctx context.Context, roomID, by, eventID string) error
	RevokeLink(ctx context.Context, roomID, by, eventID, id string) error
}

// linkUsage shows the forms of the command.
const linkUsage = "[create [--once|--many] [--expires 7d|never] [--role NAME] [--passphrase WORDS] | list | revoke <id>]"

// linkLasts is how long a link lasts when nothing is said.
const linkLasts = 7 * 24 * time.Hour

// Link makes the command about join links.
func Link(links JoinLinks) *Handler {
	return &Handler{Name: "link", Usage: linkUsage, Help: "shows the address of this room, or makes, lists and ends links by which people of other providers can join",
		More:  "A link lets in one person, with `--many` whoever has it, with `--passphrase` only who knows the words. It ends after 7 days when nothing else is said.\n\nExample: `link create --many --expires 30d`",
		Needs: User, InRoom: true, Do: func(ctx context.Context, e *Event) error {
			if len(e.Args) == 0 {
				info, err := e.Bot.cfg.Actions.RoomOf(ctx, e.RoomID)
				if err != nil {
					return explain(err)
				}
				if info.URI == "" {
					return Tell("This room is not joined to MIMI.")
				}
				return e.Reply("This room is %s. The address alone lets nobody in.", Quote(info.URI))
			}
			switch strings.ToLower(e.Args[0]) {
			case "create":
				o, err := linkOptions(e.Args[1:])
				if err != nil {
					return err
				}
				return explain(links.CreateLink(ctx, e.RoomID, e.Sender, e.EventID, o))
			case "list":
				return explain(links.ListLinks(ctx, e.RoomID, e.Sender, e.EventID))
			case "revoke":
				if len(e.Args) == 2 {
					return explain(links.RevokeLink(ctx, e.RoomID, e.Sender, e.EventID, e.Args[1]))
				}
			}
			return Tell("Usage: `%s`", e.Bot.say(e, "link "+linkUsage))
		}}
}

// linkOptions reads what stands behind `link create`. A passphrase is everything
// behind its word.
func linkOptions(args []string) (relay.LinkOptions, error) {
	o := relay.LinkOptions{Lasts: linkLasts}
	for n := 0; n < len(args); n++ {
		value := ""
		if n+1 < len(args) {
			value = args[n+1]
		}
		// Some clients turn two hyphens into a dash.
		switch name := strings.TrimLeft(args[n], "-–—"); {
		case name == "once":
			o.Many = false
		case name == "many":
			o.Many = true
		case name == "expires" && value != "":
			d, ok := lasting(value)
			if !ok {
				return o, Tell("%s is no time. Write `12h`, `7d` or `never`.", Quote(value))
			}
			o.Lasts = d
			n++
		case name == "role" && value != "":
			o.Role = value
			n++
		case name == "passphrase" && value != "":
			o.Passphrase = strings.Join(args[n+1:], " ")
			return o, nil
		default:
			return o, Tell("I do not understand %s. There are `--once`, `--many`, `--expires`, `--role` and, at the end, `--passphrase`.", Quote(args[n]))
		}
	}
	return o, nil
}

// lasting reads a time like 30m, 12h, 7d or never, which is 0.
func lasting(s string) (time.Duration, bool) {
	if s == "never" {
		return 0, true
	}
	unit := map[byte]time.Duration{'m': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}[s[len(s)-1]]
	n, err := strconv.Atoi(s[:len(s)-1])
	if err != nil || unit == 0 || n < 1 || n > 10_000 {
		return 0, false
	}
	return time.Duration(n) * unit, true
}
