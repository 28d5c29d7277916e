package bot

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
)

// Introductions is what the commands about introductions do. internal/relay
// implements it.
type Introductions interface {
	// CreateIntroduction makes one for a Matrix user; lasts 0 is without end.
	CreateIntroduction(ctx context.Context, mxid string, many bool, lasts time.Duration) (text, id string, err error)
	Introductions(ctx context.Context, mxid string) ([]store.Introduction, error)
	RevokeIntroduction(ctx context.Context, mxid, id string) error
	// Introduce presents one to the user who made it.
	Introduce(ctx context.Context, mxid, text string) (user string, err error)
}

const introductionUsage = "create [--once|--many] [--expires 7d|never] | list | revoke <id>"

// Introduction makes the commands about introductions.
func Introduction(i Introductions) []*Handler {
	return []*Handler{
		{Name: "introduction", Usage: introductionUsage, Help: "makes, lists and ends codes with which others may invite you without asking first",
			Needs: User, MinArgs: 1, Do: func(ctx context.Context, e *Event) error { return introduction(ctx, e, i) }},
		{Name: "introduce", Usage: "<introduction>", Help: "tells somebody who gave you an introduction that you want to invite them", Needs: User, MinArgs: 1,
			Do: func(ctx context.Context, e *Event) error {
				user, err := i.Introduce(ctx, e.Sender, strings.Trim(e.Args[0], "<>"))
				if err != nil {
					return explain(err)
				}
				return e.Reply("%s is told. When they accept you will hear of it.", Quote(user))
			}},
	}
}

func introduction(ctx context.Context, e *Event, i Introductions) error {
	switch strings.ToLower(e.Args[0]) {
	case "create":
		o, err := linkOptions(e.Args[1:])
		if err != nil {
			return err
		}
		if o.Role != "" || o.Passphrase != "" {
			return Tell("Usage: `%s`", e.Bot.say(e, "introduction "+introductionUsage))
		}
		text, id, err := i.CreateIntroduction(ctx, e.Sender, o.Many, o.Lasts)
		if err != nil {
			return explain(err)
		}
		who := "The first who presents it"
		if o.Many {
			who = "Whoever presents it"
		}
		return e.Reply("%s may invite you (introduction %s): %s", who, Quote(id), Quote(text))
	case "list":
		list, err := i.Introductions(ctx, e.Sender)
		if err != nil {
			return explain(err)
		}
		var b strings.Builder
		for _, x := range list {
			until := "without end"
			if x.UntilMS != store.Never {
				until = "until " + time.UnixMilli(x.UntilMS).UTC().Format("2006-01-02 15:04 UTC")
			}
			many := "the first who presents it may invite you"
			if x.Many {
				many = "whoever presents it may invite you"
			}
			fmt.Fprintf(&b, "- %s: %s, %s; presented by %d so far\n", Quote(x.ID), many, until, x.Uses)
		}
		if b.Len() == 0 {
			return e.Reply("You have no introductions.")
		}
		fmt.Fprintf(&b, "\n`%s` ends one.\n", e.Bot.say(e, "introduction revoke <id>"))
		return e.Reply("%s", b.String())
	case "revoke":
		if len(e.Args) == 2 {
			if err := i.RevokeIntroduction(ctx, e.Sender, e.Args[1]); err != nil {
				return explain(err)
			}
			return e.Reply("The introduction %s cannot be used any more.", Quote(e.Args[1]))
		}
	}
	return Tell("Usage: `%s`", e.Bot.say(e, "introduction "+introductionUsage))
}
