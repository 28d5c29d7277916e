package bot

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/matrix-mimi/bridge/internal/relay"
)

// Reporting is what the commands about abuse do. internal/relay implements it.
type Reporting interface {
	// Report tells the hub of a room about a message.
	Report(ctx context.Context, c relay.Complaint) error
	// Reports lists what was reported to this bridge as a hub, DecideReport does
	// what an administrator says about one.
	Reports(ctx context.Context) ([]relay.Report, error)
	DecideReport(ctx context.Context, by, name, what string) error
}

// anonymously is the word that keeps the sender's name from the hub.
const anonymously = "anonymously"

// Reports makes the commands about abuse.
func Reports(r Reporting) []*Handler {
	return []*Handler{
		{Name: "report", Usage: "[link to the message] [anonymously] [reason]", Needs: User,
			Help: "tells the provider that leads a room about a MIMI user's message: in reply to it, or in the chat with me by a link to it",
			Do:   func(ctx context.Context, e *Event) error { return report(ctx, r, e) }},
		{Name: "reports", Usage: "[show|redact|ban|close] [report]", Needs: Admin,
			Help: "lists what was reported to this bridge, or acts on a report",
			Do:   func(ctx context.Context, e *Event) error { return reports(ctx, r, e) }},
	}
}

func report(ctx context.Context, r Reporting, e *Event) error {
	c := relay.Complaint{RoomID: e.RoomID, By: e.Sender, Event: e.ReplyTo, Command: e.EventID}
	args := e.Args
	if len(args) > 0 {
		if room, event, ok := parsePermalink(args[0]); ok {
			c.RoomID, c.Event, args = room, event, args[1:]
			if room != e.RoomID {
				c.Command = ""
			}
		}
	}
	if c.Event == "" {
		return Tell("Reply with it to the message, or give me a link to the message.")
	}
	if len(args) > 0 && strings.EqualFold(args[0], anonymously) {
		c.Anonymous, args = true, args[1:]
	}
	c.Note = strings.Join(args, " ")
	switch err := r.Report(ctx, c); {
	case errors.Is(err, relay.ErrNotFound):
		return Tell("I do not know this message: it did not come over MIMI, or too long ago.")
	case errors.Is(err, relay.ErrOwnMessage):
		return Tell("This message was written on Matrix: report it to your homeserver.")
	case errors.Is(err, relay.ErrNoRoom):
		return Tell("You are in no such room that is joined to MIMI.")
	case errors.Is(err, relay.ErrBusy):
		return Tell("You have reported a lot in this hour. Try again later.")
	default:
		return err // the outcome is told when it is known
	}
}

// parsePermalink reads a link to an event as clients copy it:
// https://matrix.to/#/!room/$event?via=…
func parsePermalink(link string) (room, event string, ok bool) {
	rest, ok := strings.CutPrefix(link, "https://matrix.to/#/")
	if !ok {
		return "", "", false
	}
	rest, _, _ = strings.Cut(rest, "?")
	room, event, ok = strings.Cut(rest, "/")
	if !ok {
		return "", "", false
	}
	room, err := url.PathUnescape(room)
	if err != nil {
		return "", "", false
	}
	event, err = url.PathUnescape(event)
	return room, event, err == nil && strings.HasPrefix(room, "!") && strings.HasPrefix(event, "$")
}

func reports(ctx context.Context, r Reporting, e *Event) error {
	if len(e.Args) == 0 {
		list, err := r.Reports(ctx)
		if err != nil {
			return err
		}
		var b strings.Builder
		for _, x := range list {
			b.WriteString("- " + Quote(x.ID) + ": " + Quote(x.Text) + "\n")
		}
		if b.Len() == 0 {
			return e.Reply("No report is open.")
		}
		b.WriteString("\n`" + e.Bot.say(e, "reports show <report>") + "` tells more. `redact` in place of `show` removes the messages, `ban` bans their author from the room, `close` ends it.\n")
		return e.Reply("%s", b.String())
	}
	what, name := strings.ToLower(e.Args[0]), ""
	if len(e.Args) > 1 {
		name = strings.ToLower(e.Args[1])
	}
	switch what {
	case relay.ReportShow, relay.ReportRedact, relay.ReportBan, relay.ReportClose:
	default:
		return Tell("Say `reports`, or `reports` with `show`, `redact`, `ban` or `close`.")
	}
	switch err := r.DecideReport(ctx, e.Sender, name, what); {
	case errors.Is(err, relay.ErrWhichReport):
		return Tell("%s.", Quote(err.Error()))
	default:
		return err // the outcome is told when it is known
	}
}
