package bot

import (
	"context"
	"errors"

	"github.com/matrix-mimi/bridge/internal/relay"
)

func resync(o Operator) *Handler {
	return &Handler{Name: "resync", Needs: Admin, InRoom: true, Help: "joins the MLS group of this room anew, when messages cannot be read any more",
		More: "Only for rooms that another provider leads. The bridge does it by itself when it notices; this is for when it does not.",
		Do: func(ctx context.Context, e *Event) error {
			err := o.Resync(ctx, e.Sender, e.RoomID)
			switch {
			case errors.Is(err, relay.ErrNoRoom):
				return Tell("This room is led by nobody else.")
			case err != nil:
				return explain(err)
			}
			return e.Reply("The group is being joined anew.")
		}}
}
