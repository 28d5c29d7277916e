package bot

import (
	"context"
	"strings"
)

var whoami = &Handler{Name: "whoami", Aliases: []string{"id"}, Help: "says who you are in MIMI", Needs: User, Do: func(_ context.Context, e *Event) error {
	var b strings.Builder
	b.WriteString("You are " + Quote(e.Sender) + " on Matrix")
	if uri, err := e.Bot.cfg.Actions.UserURI(e.Sender); err == nil {
		b.WriteString(" and " + Quote(uri) + " in MIMI")
	} else {
		b.WriteString("; your name on Matrix cannot be written in MIMI")
	}
	if e.Bot.cfg.AcctURI != nil {
		if acct, err := e.Bot.cfg.AcctURI(e.Sender); err == nil {
			b.WriteString(", found as " + Quote(acct))
		}
	}
	b.WriteString(". To this bridge you are: " + e.Level.String() + ".")
	return e.Reply("%s", b.String())
}}
