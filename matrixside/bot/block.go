package bot

import (
	"context"
	"strings"
)

func block(o Operator, on bool) *Handler {
	h := &Handler{Name: "unblock", Usage: "<provider>", Needs: Admin, MinArgs: 1, Help: "speaks with a provider again that `block` had stopped",
		More: "What the settings forbid (`mimi.peers`, `mimi.federation`) stays forbidden."}
	done := "%s is spoken with again, unless the settings forbid it."
	if on {
		h.Name, h.Help = "block", "stops speaking with a provider, in both directions and at once"
		h.More = "Its people stay in the rooms that are led here, without hearing anything, until somebody removes them. Rooms that it leads fall silent. Conversations and channels of ActivityPub with its people are left; from channels of this bridge they are removed.\n\nExample: `block spam.example`"
		done = "%s is not spoken with any more."
	}
	h.Do = func(ctx context.Context, e *Event) error {
		domain := strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(e.Args[0], "mimi://"), "mimi:"))
		if err := o.SetBlocked(ctx, e.Sender, domain, on); err != nil {
			return explain(err)
		}
		return e.Reply(done, Quote(domain))
	}
	return h
}
