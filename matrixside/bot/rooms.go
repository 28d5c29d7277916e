package bot

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/matrix-mimi/bridge/internal/relay"
)

// maxRooms bounds a list of rooms in a reply.
const maxRooms = 50

var roomInfo = &Handler{Name: "room", Aliases: []string{"info"}, Help: "says which MIMI room this room is joined to", Needs: User, InRoom: true, Do: func(ctx context.Context, e *Event) error {
	i, err := e.Bot.cfg.Actions.RoomOf(ctx, e.RoomID)
	if errors.Is(err, relay.ErrNoRoom) || err == nil && i.URI == "" {
		return Tell("This room is not joined to MIMI.")
	}
	if err != nil {
		return explain(err)
	}
	return e.Reply("%s", describeRoom(i, false))
}}

var listRooms = &Handler{Name: "list-rooms", Aliases: []string{"rooms"}, Help: "lists your rooms that are joined to MIMI", Needs: User, Do: func(ctx context.Context, e *Event) error {
	list, err := e.Bot.cfg.Actions.RoomsOf(ctx, e.Sender)
	if err != nil {
		return explain(err)
	}
	if len(list) == 0 {
		return e.Reply("You are in no room that is joined to MIMI.")
	}
	var b strings.Builder
	for n, i := range list {
		if n == maxRooms {
			fmt.Fprintf(&b, "- and %d more\n", len(list)-n)
			break
		}
		b.WriteString("- " + describeRoom(i, true) + "\n")
	}
	return e.Reply("%s", b.String())
}}

func describeRoom(i relay.RoomInfo, short bool) string {
	var b strings.Builder
	if i.Name != "" {
		b.WriteString(Quote(i.Name) + " ")
	}
	b.WriteString(Quote(i.URI))
	if i.Hub != "" {
		b.WriteString(", led by " + Quote(i.Hub))
	} else {
		b.WriteString(", led by this bridge")
	}
	fmt.Fprintf(&b, ", %d participants", i.Participants)
	if i.State != "" {
		b.WriteString(", " + Quote(i.State))
	}
	if !short {
		fmt.Fprintf(&b, ", epoch %d", i.Epoch)
	} else if i.MatrixRoomID != "" {
		b.WriteString(", " + Quote(i.MatrixRoomID))
	}
	return b.String()
}
