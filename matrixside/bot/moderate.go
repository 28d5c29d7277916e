package bot

import (
	"context"
	"fmt"
	"strings"

	"github.com/matrix-mimi/bridge/internal/relay"
)

// Moderation is what the commands of moderators do. internal/relay implements it.
type Moderation interface {
	// RolesOf lists the roles of the MIMI room that a Matrix room is joined to.
	RolesOf(ctx context.Context, roomID string) ([]relay.RoleInfo, error)
	// Moderate does one of relay.Moderate… to somebody in a room that another
	// provider leads.
	Moderate(ctx context.Context, roomID, by, what, target, role, eventID string) error
}

// Moderate makes the commands for what power levels cannot express.
func Moderate(m Moderation) []*Handler {
	list := []*Handler{
		{Name: "roles", Help: "lists the roles of this room and how many have each", Needs: User, InRoom: true, Do: func(ctx context.Context, e *Event) error {
			roles, err := m.RolesOf(ctx, e.RoomID)
			if err != nil {
				return explain(err)
			}
			var b strings.Builder
			for _, r := range roles {
				fmt.Fprintf(&b, "- %d %s: %s (%d people)\n", r.Index, Quote(r.Name), Quote(r.Description), len(r.Users))
			}
			return e.Reply("%s", b.String())
		}},
		{Name: "role", Usage: "<user> <role>", Help: "gives somebody a role, by its name or number", Needs: User, InRoom: true, MinArgs: 2, Do: func(ctx context.Context, e *Event) error {
			return e.moderate(ctx, m, relay.ModerateRole, strings.Join(e.Args[1:], " "))
		}},
	}
	for what, help := range map[string]string{relay.ModerateKick: "puts somebody out of this room", relay.ModerateBan: "bans somebody from this room", relay.ModerateUnban: "lifts a ban from this room"} {
		list = append(list, &Handler{Name: what, Usage: "<user>", Help: help + ", where your client cannot", Needs: User, InRoom: true, MinArgs: 1, Do: func(ctx context.Context, e *Event) error {
			return e.moderate(ctx, m, what, "")
		}})
	}
	return list
}

// moderate finds the user, by a Matrix id or an address, and leaves the rest to
// the room, which tells what came of it.
func (e *Event) moderate(ctx context.Context, m Moderation, what, role string) error {
	target := e.Args[0]
	if !strings.HasPrefix(target, "@") || strings.Count(target, "@") > 1 {
		uri, err := e.address(ctx, target)
		if err != nil {
			return err
		}
		target = uri
	}
	return explain(m.Moderate(ctx, e.RoomID, e.Sender, what, target, role, e.EventID))
}
