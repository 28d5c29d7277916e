package bot

import "context"

var ping = &Handler{Name: "ping", Help: "shows that I am here", Needs: User, Do: func(_ context.Context, e *Event) error {
	return e.Reply("Pong!")
}}
