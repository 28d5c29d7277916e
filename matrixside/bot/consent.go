package bot

import (
	"context"
	"strings"

	"github.com/matrix-mimi/bridge/internal/relay"
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

// Searches is what the commands about finding people do. internal/relay
// implements it.
type Searches interface {
	// Search asks a provider for its users.
	Search(ctx context.Context, domain, kind, query string) ([]relay.Found, error)
	// SetSearchable says whether others find a Matrix user by parts of its name.
	SetSearchable(ctx context.Context, mxid string, on bool) error
}

// Search makes the commands about finding people.
func Search(s Searches) []*Handler {
	return []*Handler{
		{Name: "search", Usage: "<provider> <name> [handle|nick|email|phone|name|any]", Help: "looks for people at a MIMI provider", Needs: User, MinArgs: 2,
			Do: func(ctx context.Context, e *Event) error {
				kind := "handle"
				if len(e.Args) > 2 {
					kind = strings.ToLower(e.Args[2])
				}
				found, err := s.Search(ctx, e.Args[0], kind, e.Args[1])
				if err != nil {
					return explain(err)
				}
				var b strings.Builder
				for _, f := range found {
					b.WriteString("- " + Quote(f.URI))
					if f.Name != "" {
						b.WriteString(" " + Quote(f.Name))
					}
					b.WriteString("\n")
				}
				return e.Reply("%s", b.String())
			}},
		{Name: "searchable", Usage: "on|off", Help: "says whether others find you by your name, or only by your whole address", Needs: User, MinArgs: 1,
			Do: func(ctx context.Context, e *Event) error {
				on := strings.EqualFold(e.Args[0], "on")
				if !on && !strings.EqualFold(e.Args[0], "off") {
					return Tell("Say `on` or `off`.")
				}
				if err := s.SetSearchable(ctx, e.Sender, on); err != nil {
					return err
				}
				if on {
					return e.Reply("Others find you by your name now.")
				}
				return e.Reply("Others find you only by your whole address now.")
			}},
	}
}
