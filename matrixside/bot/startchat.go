package bot

import (
	"context"
	"strings"
)

var startChat = &Handler{Name: "start-chat", Aliases: []string{"pm", "dm", "group-dm"}, Usage: "<mimi address> [more addresses]", Needs: User, MinArgs: 1,
	Help: "begins a chat with a MIMI user, or with exactly these users; the one that you have is used again",
	Do: func(ctx context.Context, e *Event) error {
		var uris, names []string
		for _, a := range e.Args {
			uri, err := e.address(ctx, a)
			if err != nil {
				return err
			}
			uris, names = append(uris, uri), append(names, Quote(uri))
		}
		if err := e.Bot.cfg.Actions.StartChat(ctx, e.Sender, uris...); err != nil {
			return explain(err)
		}
		return e.Reply("A chat with %s is being made: you will be invited to it.", strings.Join(names, ", "))
	}}
