package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// settle puts event identifiers in place of references of event.PendingID.
// When the event of a reference was never sent, the request does what is still
// sensible without it: fate is then the outcome if there is nothing to do.
func (c *Client) settle(ctx context.Context, row Row) (args json.RawMessage, fate *Result, err error) {
	if !bytes.Contains(row.Args, []byte(`"mimi-pending:`)) {
		return row.Args, nil, nil
	}
	find := func(e id.EventID) (id.EventID, error) {
		mimiID, part, err := event.ParsePending(e)
		if err != nil || c.cfg.Pending == nil {
			return "", nil
		}
		return c.cfg.Pending.Resolve(ctx, row.Room, mimiID, part)
	}
	k := call{row}
	nothing := done(map[string]any{"nothing": true})
	switch row.Verb {
	case event.VerbRedact:
		a, bad := read[event.Redact](k)
		if bad != nil {
			return nil, bad, nil
		}
		if a.Event, err = find(a.Event); err != nil || a.Event == "" {
			return nil, &nothing, err
		}
		return event.NewRequest(a).Args, nil, nil
	case event.VerbReceipt:
		a, bad := read[event.ReadUpTo](k)
		if bad != nil {
			return nil, bad, nil
		}
		if a.Event, err = find(a.Event); err != nil || a.Event == "" {
			return nil, &nothing, err
		}
		if event.IsPending(id.EventID(a.Thread)) {
			root, err := find(id.EventID(a.Thread))
			if err != nil {
				return nil, nil, err
			}
			a.Thread = string(root)
		}
		return event.NewRequest(a).Args, nil, nil
	case event.VerbSend:
		a, bad := read[event.Send](k)
		if bad != nil {
			return nil, bad, nil
		}
		a.Content, fate, err = settleContent(a.Content, find)
		if err != nil || fate != nil {
			return nil, fate, err
		}
		return event.NewRequest(a).Args, nil, nil
	}
	r := refused("M_INVALID_PARAM", fmt.Errorf("carry out Matrix request %s: it cannot refer to an event that waits", row.Verb))
	return nil, &r, nil
}

func settleContent(content json.RawMessage, find func(id.EventID) (id.EventID, error)) (json.RawMessage, *Result, error) {
	o, err := event.ParseObject(content)
	if err != nil {
		r := refused("M_BAD_JSON", fmt.Errorf("send event: %w", err))
		return nil, &r, nil
	}
	rel := event.ParseRelation(o)
	before := rel
	for _, e := range []*id.EventID{&rel.ReplyTo, &rel.Replaces, &rel.Annotates, &rel.Thread, &rel.References} {
		if event.IsPending(*e) {
			if *e, err = find(*e); err != nil {
				return nil, nil, err
			}
		}
	}
	switch {
	case before.Annotates != "" && rel.Annotates == "":
		r := refused("M_NOT_FOUND", errors.New("send reaction: the event it belongs to was never sent"))
		return nil, &r, nil
	case before.Replaces != "" && rel.Replaces == "":
		// The edit stands alone: its new content is the message.
		if inner := o.Obj("m.new_content"); inner != nil {
			o = inner
		}
		return o.Encode(), nil, nil
	}
	delete(o, "m.relates_to")
	if enc := rel.Encode(); enc != nil {
		o["m.relates_to"] = enc
	}
	return o.Encode(), nil, nil
}
