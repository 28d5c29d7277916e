package bot

import (
	"context"
	"strings"

	"github.com/matrix-mimi/bridge/internal/store"
)

// Consents is what the commands about consent do. internal/relay implements it.
type Consents interface {
	// GrantConsent lets a MIMI user invite a Matrix user, DeclineConsent refuses
	// without a word, RevokeConsent takes back and tells the other's provider.
	GrantConsent(ctx context.Context, mxid, user string) error
	DeclineConsent(ctx context.Context, mxid, user string) error
	RevokeConsent(ctx context.Context, mxid, user string) error
	// Consents lists what others ask a Matrix user or may do.
	Consents(ctx context.Context, mxid string) ([]store.Consent, error)
}

// Consent makes the commands about who may invite the sender.
func Consent(c Consents) []*Handler {
	return []*Handler{
		answer("accept", "lets a MIMI user invite you", "%s may invite you.", c.GrantConsent),
		answer("decline", "refuses what a MIMI user asked, without a word to them", "%s is not allowed to invite you.", c.DeclineConsent),
		answer("revoke", "takes back that a MIMI user may invite you, and tells them", "%s may not invite you any more.", c.RevokeConsent),
		{Name: "consents", Help: "lists who asks to invite you, and who may", Needs: User, Do: func(ctx context.Context, e *Event) error {
			list, err := c.Consents(ctx, e.Sender)
			if err != nil {
				return explain(err)
			}
			var b strings.Builder
			for _, x := range list {
				b.WriteString("- " + Quote(x.Requester) + ": " + x.State)
				if x.Room != "" {
					b.WriteString(" for " + Quote(x.Room))
				}
				b.WriteString("\n")
			}
			if b.Len() == 0 {
				return e.Reply("Nobody has asked to invite you.")
			}
			return e.Reply("%s", b.String())
		}},
	}
}

func answer(name, help, said string, do func(ctx context.Context, mxid, user string) error) *Handler {
	return &Handler{Name: name, Usage: "<mimi address>", Help: help, Needs: User, MinArgs: 1, Do: func(ctx context.Context, e *Event) error {
		uri, err := e.address(ctx, e.Args[0])
		if err != nil {
			return err
		}
		if err := do(ctx, e.Sender, uri); err != nil {
			return explain(err)
		}
		return e.Reply(said, Quote(uri))
	}}
}
