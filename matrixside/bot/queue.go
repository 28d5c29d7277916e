package bot

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// maxLanes bounds a list of lanes in a reply.
const maxLanes = 20

func queue(o Operator) *Handler {
	return &Handler{Name: "queue", Usage: "[now <destination>]", Needs: Admin, Help: "says what waits to be worked off or sent, and what fails; or lets a destination be tried at once",
		More: "A destination is written as `queue` shows it: `matrix` is the homeserver, `matrix:new` rooms that it is to make, `mimi:two.example` a provider, " +
			"`aside:two.example` what is asked of a provider beside messages, `ap:social.example` an ActivityPub server.\n\nExample: `queue now mimi:two.example`",
		Do: func(ctx context.Context, e *Event) error {
			if len(e.Args) > 0 {
				if len(e.Args) != 2 || strings.ToLower(e.Args[0]) != "now" {
					return Tell("Usage: `%s`", e.Bot.say(e, "queue [now <destination>]"))
				}
				n, err := o.SendNow(ctx, e.Sender, e.Args[1])
				switch {
				case err != nil:
					return explain(err)
				case n == 0:
					return e.Reply("Nothing that fails waits for %s.", Quote(e.Args[1]))
				}
				return e.Reply("%s is tried again now; rooms with something for it: %d.", Quote(e.Args[1]), n)
			}
			g, lanes, err := o.Waiting(ctx, maxLanes+1)
			if err != nil {
				return explain(err)
			}
			now := e.Bot.cfg.Now()
			var b strings.Builder
			fmt.Fprintf(&b, "- arrived, to be worked off: %d", g.InputReady)
			if g.OldestReady > 0 {
				b.WriteString(", the oldest for " + since(now, g.OldestReady))
			}
			fmt.Fprintf(&b, "\n- arrived, waiting for something that must come before it: %d\n- set aside as broken: %d (`broken`)\n", g.InputWaiting, g.InputBroken)
			for _, side := range [][2]string{{"matrix", "the homeserver"}, {"mimi", "MIMI providers"}, {"ap", "ActivityPub servers"}} {
				if n := g.Outbound[side[0]]; n > 0 || side[0] != "ap" {
					fmt.Fprintf(&b, "- to be sent to %s: %d", side[1], n)
					if n > 0 {
						b.WriteString(", the oldest for " + since(now, g.OldestOutbound[side[0]]))
					}
					b.WriteString("\n")
				}
			}
			fmt.Fprintf(&b, "- changes of rooms that their providers have not answered: %d\n- changes of rooms that are not made yet: %d\n- dead letters: %d (`dead-letters`)\n", g.PendingCommits, g.OpenIntents, g.DeadLetters)
			for n, l := range lanes {
				if n == maxLanes {
					b.WriteString("- and more that fail\n")
					break
				}
				fmt.Fprintf(&b, "- %s has failed for %s, tried %d times, %d waiting", Quote(l.Dest), since(now, l.FailingSince), l.Failures, l.Rows)
				if wait := time.UnixMilli(l.DueMS).Sub(now).Round(time.Second); l.DueMS > 0 && wait > 0 {
					b.WriteString(", next in " + wait.String())
				}
				b.WriteString(": " + Quote(l.LastError) + "\n")
			}
			return e.Reply("%s", b.String())
		}}
}
