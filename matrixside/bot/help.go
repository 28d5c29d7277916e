package bot

import (
	"context"
	"strings"
)

var help = &Handler{Name: "help", Help: "says what I know", Needs: User, Do: func(_ context.Context, e *Event) error {
	var b strings.Builder
	b.WriteString("I join Matrix rooms to MIMI. ")
	if e.Private {
		b.WriteString("Here you may say:\n\n")
	} else {
		b.WriteString("In a room, begin with `" + e.Bot.cfg.Prefix + "`; in a chat with me, without it:\n\n")
	}
	for _, name := range e.Bot.names {
		h := e.Bot.handlers[name]
		if h.Needs > e.Level || h.InRoom && e.Private {
			continue
		}
		b.WriteString("- `" + usage(h) + "`: " + h.Help)
		if len(h.Aliases) > 0 {
			b.WriteString(" (or `" + strings.Join(h.Aliases, "`, `") + "`)")
		}
		b.WriteString("\n")
	}
	return e.Reply("%s", b.String())
}}
