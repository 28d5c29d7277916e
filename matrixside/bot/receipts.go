package bot

import (
	"context"
	"strings"

	"github.com/matrix-mimi/bridge/internal/relay"
)

// StatusPolicies is what the command about receipts does. internal/relay
// implements it: who may, and what came of it, is told in the room.
type StatusPolicies interface {
	StatusPolicy(ctx context.Context, roomID, by, eventID string, change relay.StatusChange) error
}

const receiptsUsage = "[read|delivery optional|required|forbidden]"

// Receipts makes the command about receipts.
func Receipts(p StatusPolicies) *Handler {
	return &Handler{Name: "receipts", Usage: receiptsUsage, Help: "says or decides whether people are told what was read and what has arrived in this room",
		More: "`receipts read required` makes everybody's client send its receipts on, private ones, too; `receipts read forbidden` lets none through; `optional` leaves it " +
			"to people and the operators of their bridges. `receipts delivery required` makes the others tell when messages have arrived. It is decided in rooms that this " +
			"bridge leads, by who may change powers there.",
		Needs: User, InRoom: true, Do: func(ctx context.Context, e *Event) error {
			var change relay.StatusChange
			switch words := strings.Fields(strings.ToLower(e.Rest)); {
			case len(words) == 0:
			case len(words) == 2 && words[0] == "read":
				change.Read = words[1]
			case len(words) == 2 && words[0] == "delivery":
				change.Delivery = words[1]
			default:
				return Tell("Usage: `%s`", e.Bot.say(e, "receipts "+receiptsUsage))
			}
			return explain(p.StatusPolicy(ctx, e.RoomID, e.Sender, e.EventID, change))
		}}
}
