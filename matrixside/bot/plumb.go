package bot

import (
	"context"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// stateLevel is the power that changing what a room is joined to takes.
func stateLevel(p event.PowerLevels) int64 { return p.State(event.TypeBridge) }

var plumb = &Handler{Name: "plumb", Aliases: []string{"bridge"}, Help: "joins this room to MIMI, so that MIMI users can be invited", Needs: User, InRoom: true,
	More: "The room gets a MIMI address and this bridge leads it there: who may do what follows from the room's power levels. Invite me first.", Do: func(ctx context.Context, e *Event) error {
		if err := e.mayAct(ctx, "join rooms to others", stateLevel); err != nil {
			return err
		}
		return explain(e.Bot.cfg.Actions.Plumb(ctx, e.RoomID, e.Sender, e.EventID))
	}}

var unplumb = &Handler{Name: "unplumb", Aliases: []string{"unbridge"}, Help: "ends the MIMI side of this room: all MIMI users leave", Needs: User, InRoom: true, Do: func(ctx context.Context, e *Event) error {
	if e.Level < Admin {
		if err := e.mayAct(ctx, "do that", stateLevel); err != nil {
			return err
		}
	}
	return explain(e.Bot.cfg.Actions.Unplumb(ctx, e.RoomID, e.Sender, e.EventID))
}}
