package bot

import (
	"context"
	"strings"
)

var startChat = &Handler{Name: "start-chat", Aliases: []string{"pm", "dm", "group-dm"}, Usage: "<address> [more addresses]", Needs: User, MinArgs: 1,
	Help: "begins a chat with somebody, or with exactly these people; the one that you have is used again",
	More: "Example: `start-chat mimi://two.example/u/bob`. An address may also be `acct:bob@two.example` or `@bob@two.example`, when their provider can be asked for it.",
	Do: func(ctx context.Context, e *Event) error {
		var uris, names []string
		for _, a := range e.Args {
			uri, err := e.address(ctx, a)
			if err != nil {
				if done, otherErr := e.conversation(ctx); done {
					return otherErr
				}
				return err
			}
			uris, names = append(uris, uri), append(names, Quote(uri))
		}
		if err := e.Bot.cfg.Actions.StartChat(ctx, e.Sender, uris...); err != nil {
			return explain(err)
		}
		return e.Reply("A chat with %s is being made: you will be invited to it.", strings.Join(names, ", "))
	}}

// conversation begins a chat with accounts that are no MIMI users, where the ActivityPub face is on and knows them all. done is false when it cannot.
func (e *Event) conversation(ctx context.Context) (done bool, err error) {
	if e.Bot.channels == nil {
		return false, nil
	}
	for _, a := range e.Args {
		if !account(a) {
			return false, nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, channelTime)
	defer cancel()
	if err := e.Bot.channels.StartChat(ctx, e.Sender, e.Args...); err != nil {
		return false, nil //nolint:nilerr // what MIMI said of the address is told
	}
	return true, e.Reply("A chat with %s is being made: you will be invited to it, or it is there already. It is encrypted as far as this bridge, which reads it.", Quote(e.Rest))
}
