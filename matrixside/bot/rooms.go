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
	return e.Reply("%s", e.describeRoom(i, false))
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
		b.WriteString("- " + e.describeRoom(i, true) + "\n")
	}
	return e.Reply("%s", b.String())
}}

// roomStates are the states of rooms in words; of one that is as it should be nothing is said.
var roomStates = map[string]string{"active": "", "opening": "being made", "joining": "being joined", "desynced": "being joined anew, because messages could not be read",
	"closed": "not joined any more"}

// maxAwaited bounds the people who are named as awaited in a room.
const maxAwaited = 3

// makingRoom says how far the making of a room is, and what its people can do; "" when it is made.
func (e *Event) makingRoom(i relay.RoomInfo) string {
	if i.State == relay.StateUnmade {
		return "not made, because not everybody could come: say `" + e.Bot.say(e, "start-chat") + "` with the same addresses to try again, or leave the room"
	}
	if i.State != "opening" || len(i.Awaited) == 0 {
		return roomStates[i.State]
	}
	names := make([]string, 0, maxAwaited+1)
	for n, uri := range i.Awaited {
		if n == maxAwaited {
			names = append(names, fmt.Sprintf("%d more", len(i.Awaited)-n))
			break
		}
		names = append(names, Quote(uri))
	}
	word := roomStates[i.State] + " as soon as there is an answer from " + strings.Join(names, ", ")
	if i.Chat {
		word += "; leave the room to give it up"
	}
	return word
}

// people counts the people of a room.
func people(n int) string {
	if n == 1 {
		return "1 participant"
	}
	return fmt.Sprintf("%d participants", n)
}

// describeRoom says in Markdown what a room is; short for a list.
func (e *Event) describeRoom(i relay.RoomInfo, short bool) string {
	var b strings.Builder
	if i.Name != "" {
		b.WriteString(Quote(i.Name) + " ")
	}
	b.WriteString(Quote(i.URI))
	if i.Hub != "" && i.Hub != e.Bot.cfg.Domain {
		b.WriteString(", led by " + Quote(i.Hub))
	} else {
		b.WriteString(", led by this bridge")
	}
	word := e.makingRoom(i)
	if i.State != "opening" && i.State != relay.StateUnmade {
		b.WriteString(", " + people(i.Participants))
	}
	if word != "" {
		b.WriteString(", " + word)
	}
	if !short && e.Level == Admin {
		fmt.Fprintf(&b, ", epoch %d", i.Epoch)
	} else if i.MatrixRoomID != "" {
		b.WriteString(", " + Quote(i.MatrixRoomID))
	}
	return b.String()
}
