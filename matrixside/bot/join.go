package bot

import (
	"context"
	"strings"
)

var join = &Handler{Name: "join", Usage: "<room or join link> [code or passphrase]", Help: "joins a room of another provider, or a channel of another server", Needs: User, MinArgs: 1,
	More: "Example: `join mimi://two.example/r/clubhouse`. Where a room does not let everybody in, ask somebody there for a join link or an invitation, or see `knock`.", Do: func(ctx context.Context, e *Event) error {
		link := strings.Trim(e.Args[0], "<>")
		done, err := e.inChannel(ctx, link, func(ctx context.Context, c Channels) error { return c.JoinChannel(ctx, e.Sender, link) })
		if err != nil {
			return err
		}
		if done {
			return e.Reply("Asking to join %s: you will be invited when it is done, or told why not.", Quote(link))
		}
		if l := strings.ToLower(link); !strings.HasPrefix(l, "mimi://") && !strings.HasPrefix(l, "https://") {
			return Tell("%s is no MIMI room. They look like `mimi://a.example/r/clubhouse`.", Quote(link))
		}
		_, secret, _ := strings.Cut(e.Rest, e.Args[0])
		if err := e.Bot.cfg.Actions.Join(ctx, e.Sender, link, strings.TrimSpace(secret)); err != nil {
			return explain(err)
		}
		room, _, _ := strings.Cut(link, "?")
		return e.Reply("Asking to join %s: you will be invited when it is done, or told why not.", Quote(room))
	}}
