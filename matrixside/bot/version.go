package bot

import "context"

var version = &Handler{Name: "version", Help: "says what runs here", Needs: User, Do: func(_ context.Context, e *Event) error {
	return e.Reply("This is the Matrix–MIMI bridge %s, MIMI provider %s.", Quote(e.Bot.cfg.Version), Quote(e.Bot.cfg.Domain))
}}
