package bot

import (
	"context"
	"strings"
)

var help = &Handler{Name: "help", Usage: "[command]", Help: "says what I know, or more about one command", Needs: User, Do: func(_ context.Context, e *Event) error {
	if len(e.Args) > 0 {
		return helpOn(e, strings.ToLower(e.Args[0]))
	}
	var b strings.Builder
	b.WriteString("I join Matrix rooms to MIMI. ")
	if e.Private {
		b.WriteString("To talk with somebody of another provider, say `start-chat` and their address, or invite them into a room. Here you may say:\n\n")
	} else {
		b.WriteString("In a room, begin with `" + e.Bot.cfg.Prefix + "`; in a chat with me, without it:\n\n")
	}
	listCommands(&b, e, func(h *Handler) bool { return h.Needs == User && !(h.InRoom && e.Private) })
	if e.Private {
		b.WriteString("\nIn a room that I am in, after `" + e.Bot.cfg.Prefix + "`:\n\n")
		listCommands(&b, e, func(h *Handler) bool { return h.Needs == User && h.InRoom })
	}
	if e.Level == Admin {
		b.WriteString("\nFor administrators:\n\n")
		listCommands(&b, e, func(h *Handler) bool { return h.Needs == Admin })
	}
	b.WriteString("\n`" + e.Bot.say(e, "help invite") + "` says more about `invite`, and so for all.\n")
	return e.Reply("%s", b.String())
}}

// listCommands writes a line for each command that the sender may use and that is wanted.
func listCommands(b *strings.Builder, e *Event, want func(*Handler) bool) {
	for _, name := range e.Bot.names {
		h := e.Bot.handlers[name]
		if h.Needs > e.Level || !want(h) {
			continue
		}
		b.WriteString("- `" + usage(h) + "`: " + h.Help)
		if len(h.Aliases) > 0 {
			b.WriteString(" (or `" + strings.Join(h.Aliases, "`, `") + "`)")
		}
		b.WriteString("\n")
	}
}

// helpOn says all about one command.
func helpOn(e *Event, name string) error {
	h := e.Bot.handlers[name]
	if h == nil && elsewhere[name] != "" {
		return Tell("%s", strings.ReplaceAll(elsewhere[name], "%p", e.Bot.cfg.Prefix))
	}
	if h == nil || h.Needs > e.Level {
		return Tell("I do not know %s.%s", Quote(name), e.Bot.guess(e, name))
	}
	line := "`" + e.Bot.say(e, usage(h)) + "`"
	if h.InRoom && e.Private {
		line = "`" + e.Bot.cfg.Prefix + " " + usage(h) + "` in a room that I am in"
	}
	text := line + "\n\n" + strings.ToUpper(h.Help[:1]) + h.Help[1:] + "."
	if len(h.Aliases) > 0 {
		text += " Also: `" + strings.Join(h.Aliases, "`, `") + "`."
	}
	if h.More != "" {
		text += "\n\n" + h.More
	}
	return e.Reply("%s", text)
}
