package bot

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// maxAudit bounds a list of the audit log in a reply.
const maxAudit = 30

func audit(o Operator) *Handler {
	return &Handler{Name: "audit", Needs: Admin, Help: "lists what administrators did lately", Do: func(ctx context.Context, e *Event) error {
		list, err := o.AuditLog(ctx, maxAudit)
		if err != nil {
			return explain(err)
		}
		if len(list) == 0 {
			return e.Reply("Nothing was done yet.")
		}
		var b strings.Builder
		for _, a := range list {
			fmt.Fprintf(&b, "- %s %s: %s %s", time.UnixMilli(a.AtMS).UTC().Format(time.RFC3339), Quote(a.Actor), Quote(a.Action), Quote(a.Subject))
			if a.Detail != "" {
				b.WriteString(" " + Quote(a.Detail))
			}
			b.WriteString("\n")
		}
		return e.Reply("%s", b.String())
	}}
}
