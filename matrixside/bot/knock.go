package bot

import (
	"context"
	"strings"
)

// Knocks is what the commands about knocking do. internal/relay implements it.
type Knocks interface {
	// Knock asks to be let into a room of another provider, Unknock takes that back.
	Knock(ctx context.Context, by, room, reason string) error
	Unknock(ctx context.Context, by, room string) error
}

// Knock makes the commands about knocking.
func Knock(k Knocks) []*Handler {
	return []*Handler{
		{Name: "knock", Usage: "<mimi room> [reason]", Help: "asks to be let into a room of another provider", Needs: User, MinArgs: 1,
			Do: func(ctx context.Context, e *Event) error {
				_, reason, _ := strings.Cut(e.Rest, e.Args[0])
				room := strings.Trim(e.Args[0], "<>")
				if err := k.Knock(ctx, e.Sender, room, strings.TrimSpace(reason)); err != nil {
					return explain(err)
				}
				return e.Reply("Knocking at %s.", Quote(room))
			}},
		{Name: "unknock", Usage: "<mimi room>", Help: "takes back that you asked to be let in", Needs: User, MinArgs: 1,
			Do: func(ctx context.Context, e *Event) error {
				room := strings.Trim(e.Args[0], "<>")
				if err := k.Unknock(ctx, e.Sender, room); err != nil {
					return explain(err)
				}
				return e.Reply("You do not knock at %s any more.", Quote(room))
			}},
	}
}
