package bot

import (
	"context"
	"strings"
	"time"
)

var status = &Handler{Name: "status", Help: "says how the bridge is", Needs: User, Do: func(ctx context.Context, e *Event) error {
	var b strings.Builder
	b.WriteString("The bridge is up")
	if up := e.Bot.cfg.Now().Sub(e.Bot.cfg.Started); !e.Bot.cfg.Started.IsZero() && up > 0 {
		b.WriteString(" for " + up.Round(time.Second).String())
	}
	b.WriteString(".\n")
	if e.Level == Admin && e.Bot.cfg.Status != nil {
		b.WriteString("\n")
		for _, line := range e.Bot.cfg.Status(ctx) {
			b.WriteString("- " + Quote(line) + "\n")
		}
	}
	if !e.Private {
		if info, err := e.Bot.cfg.Actions.RoomOf(ctx, e.RoomID); err == nil && info.URI != "" {
			b.WriteString("\nThis room is joined to " + Quote(info.URI) + ".\n")
		}
	}
	return e.Reply("%s", b.String())
}}
