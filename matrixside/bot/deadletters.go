package bot

import (
	"context"
	"fmt"
	"strings"

	"github.com/matrix-mimi/bridge/internal/store"
)

const (
	maxLetters   = 20   // shown in a reply
	letterSearch = 1000 // that one command works on
)

// letterID names a dead letter in a chat: the end of its room's id and its number there.
func letterID(d store.DeadLetter) string { return fmt.Sprintf("%x-%d", d.Room[12:], d.Seq) }

func deadLetters(o Operator) *Handler {
	return &Handler{Name: "dead-letters", Usage: "[retry|drop <id>|<destination>|all]", Needs: Admin,
		Help: "lists what could not be delivered, puts it back in the queue or deletes it",
		More: "Whoever wrote the message was told that it did not arrive. One that is tried again comes late, and others may have been written since.\n\n" +
			"Examples: `dead-letters`, `dead-letters retry mimi:two.example`, `dead-letters drop 0a1b2c3d-17`",
		Do: func(ctx context.Context, e *Event) error {
			if len(e.Args) == 0 {
				return listLetters(ctx, e, o)
			}
			verb := strings.ToLower(e.Args[0])
			if len(e.Args) != 2 || verb != "retry" && verb != "drop" {
				return Tell("Usage: `%s`", e.Bot.say(e, "dead-letters [retry|drop <id>|<destination>|all]"))
			}
			all, err := o.DeadLetters(ctx, letterSearch)
			if err != nil {
				return explain(err)
			}
			var chosen []store.DeadLetter
			for _, d := range all {
				if which := e.Args[1]; which == "all" || which == d.Dest || which == letterID(d) {
					chosen = append(chosen, d)
				}
			}
			if len(chosen) == 0 {
				return e.Reply("There is no dead letter %s.", Quote(e.Args[1]))
			}
			do, done := o.RetryDeadLetters, "are sent again"
			if verb == "drop" {
				do, done = o.DropDeadLetters, "were deleted"
			}
			n, err := do(ctx, e.Sender, chosen)
			if err != nil {
				return explain(err)
			}
			return e.Reply("%d dead letters %s.", n, done)
		}}
}

func listLetters(ctx context.Context, e *Event, o Operator) error {
	list, err := o.DeadLetters(ctx, maxLetters+1)
	if err != nil {
		return explain(err)
	}
	if len(list) == 0 {
		return e.Reply("There are no dead letters.")
	}
	var b strings.Builder
	for n, d := range list {
		if n == maxLetters {
			b.WriteString("- and more\n")
			break
		}
		fmt.Fprintf(&b, "- `%s` %s to %s, given up %s ago after %d tries: %s\n", letterID(d), Quote(d.Verb), Quote(d.Dest), since(e.Bot.cfg.Now(), d.DeadMS), d.Attempts, Quote(d.Reason))
	}
	return e.Reply("%s", b.String())
}
