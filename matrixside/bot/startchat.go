package bot

import "context"

var startChat = &Handler{Name: "start-chat", Aliases: []string{"pm", "dm"}, Usage: "<mimi address>", Help: "begins a chat with a MIMI user", Needs: User, MinArgs: 1, Do: func(ctx context.Context, e *Event) error {
	uri, err := e.address(ctx, e.Args[0])
	if err != nil {
		return err
	}
	if err := e.Bot.cfg.Actions.StartChat(ctx, e.Sender, uri); err != nil {
		return explain(err)
	}
	return e.Reply("A chat with %s is being made: you will be invited to it.", Quote(uri))
}}
