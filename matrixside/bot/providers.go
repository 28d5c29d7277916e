package bot

import (
	"context"
	"strings"
)

var providers = &Handler{Name: "providers", Help: "lists the MIMI providers that this bridge talks with", Needs: User, Do: func(ctx context.Context, e *Event) error {
	if e.Bot.cfg.Providers == nil {
		return e.Reply("This bridge keeps no list of providers.")
	}
	list, err := e.Bot.cfg.Providers(ctx)
	if err != nil {
		return explain(err)
	}
	if len(list) == 0 {
		return e.Reply("This bridge has not talked with any provider yet.")
	}
	var b strings.Builder
	for _, p := range list {
		state := "is reached"
		switch {
		case p.Blocked:
			state = "blocked: the operator of this bridge does not want to exchange anything with it"
		case !p.Up:
			state = "not reached now: what is written to its people is kept, and sent when it answers"
		}
		b.WriteString("- " + Quote(p.Domain) + ": " + state + "\n")
	}
	return e.Reply("%s", b.String())
}}
