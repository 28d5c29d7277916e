package bot

import (
	"context"
	"strings"
	"time"

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
				b.WriteString(e.describeConsent(x))
			}
			if b.Len() == 0 {
				return e.Reply("Nobody asks to invite you, and nobody has your permission.")
			}
			return e.Reply("%s", b.String())
		}},
	}
}

// describeConsent says in a line what somebody asks or may do, and what the sender can do about it; "" of what is of no interest any more.
func (e *Event) describeConsent(x store.Consent) string {
	where := "any room"
	if x.Room != "" {
		where = "the room " + Quote(x.Room)
	}
	since := ", since " + time.UnixMilli(x.UpdatedMS).UTC().Format("2006-01-02") + ": "
	authority := strings.TrimPrefix(x.Requester, "mimi://") // of a whole provider, when it is no user
	say := func(verb string) string { return "`" + e.Bot.say(e, verb) + "` " + Quote(x.Requester) }
	switch {
	case x.State == store.ConsentGranted && !strings.Contains(authority, "/"): // by a knock
		return "- the people of " + Quote(authority) + " may invite you into " + where + since + "`" + e.Bot.say(e, "unknock") + "` and its address takes it back\n"
	case x.State == store.ConsentGranted:
		return "- " + Quote(x.Requester) + " may invite you into " + where + since + say("revoke") + " takes it back\n"
	case x.State == store.ConsentRevoked:
		return "- " + Quote(x.Requester) + " may not invite you into " + where + since + say("accept") + " allows it\n"
	case x.State == store.ConsentRequested && (x.ExpiresMS == 0 || x.ExpiresMS > e.Bot.cfg.Now().UnixMilli()):
		return "- " + Quote(x.Requester) + " asks to invite you into " + where + since + say("accept") + " or " + say("decline") + "\n"
	}
	return ""
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
