package bot

import (
	"context"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

var invite = &Handler{Name: "invite", Usage: "<address>", Help: "invites somebody into this room", Needs: User, InRoom: true, MinArgs: 1,
	More: "A room that is not joined to MIMI yet becomes so. Addresses: `mimi://two.example/u/bob`, `acct:bob@two.example`, `@bob@two.example`, or the Matrix id of a ghost. " +
		"In a room that is a channel the accounts are those of ActivityPub servers.", Do: func(ctx context.Context, e *Event) error {
		if err := e.mayAct(ctx, "invite people", func(p event.PowerLevels) int64 { return p.Invite }); err != nil {
			return err
		}
		done, err := e.inChannel(ctx, e.Args[0], func(ctx context.Context, c Channels) error {
			return c.InviteToChannel(ctx, e.RoomID, e.Sender, e.Args[0], e.EventID)
		})
		if err != nil {
			return err
		}
		if done {
			return e.Reply("%s is being invited.", Quote(e.Args[0]))
		}
		uri, err := e.address(ctx, e.Args[0])
		if err != nil {
			return err
		}
		if err := e.Bot.cfg.Actions.Invite(ctx, e.RoomID, e.Sender, uri, e.EventID); err != nil {
			return explain(err)
		}
		return e.Reply("%s is being invited.", Quote(uri))
	}}
