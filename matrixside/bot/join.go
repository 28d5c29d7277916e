package bot

import (
	"context"
	"strings"
)

var join = &Handler{Name: "join", Usage: "<mimi room> [code]", Help: "joins a room of another provider", Needs: User, MinArgs: 1, Do: func(ctx context.Context, e *Event) error {
	uri := strings.Trim(e.Args[0], "<>")
	if !strings.HasPrefix(strings.ToLower(uri), "mimi://") {
		return Tell("%s is no MIMI room. They look like `mimi://a.example/r/clubhouse`.", Quote(uri))
	}
	var code []byte
	if len(e.Args) > 1 {
		code = []byte(e.Args[1])
	}
	if err := e.Bot.cfg.Actions.Join(ctx, e.Sender, uri, code); err != nil {
		return explain(err)
	}
	return e.Reply("Asking to join %s: you will be invited when it is done, or told why not.", Quote(uri))
}}
