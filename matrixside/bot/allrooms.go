package bot

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/matrix-mimi/bridge/internal/store"
)

func allRooms(o Operator) *Handler {
	return &Handler{Name: "all-rooms", Usage: "[after <id>]", Needs: Admin, Help: "lists every room of the bridge that is joined to MIMI", Do: func(ctx context.Context, e *Event) error {
		var after store.RoomID
		if len(e.Args) > 0 {
			id, err := hex.DecodeString(e.Args[len(e.Args)-1])
			if err != nil || len(id) != len(after) || len(e.Args) != 2 || strings.ToLower(e.Args[0]) != "after" {
				return Tell("Usage: `%s`, with an id as the list ends with", e.Bot.say(e, "all-rooms [after <id>]"))
			}
			copy(after[:], id)
		}
		list, err := o.AllRooms(ctx, after, maxRooms+1)
		if err != nil {
			return explain(err)
		}
		if len(list) == 0 {
			return e.Reply("There are no more rooms.")
		}
		var b strings.Builder
		for n, i := range list {
			if n == maxRooms {
				fmt.Fprintf(&b, "\nMore: `%s`\n", e.Bot.say(e, fmt.Sprintf("all-rooms after %x", list[n-1].ID[:])))
				break
			}
			b.WriteString("- " + e.describeRoom(i, true) + "\n")
		}
		return e.Reply("%s", b.String())
	}}
}
