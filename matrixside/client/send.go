package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"maunium.net/go/mautrix"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// checkKey refuses rows without a transaction key: without one a retry would
// send twice.
func checkKey(k call) *Result {
	if k.Txn == "" || k.Room == "" {
		r := refused("M_INVALID_PARAM", fmt.Errorf("carry out Matrix request %s: row has no transaction key or room", k.Verb))
		return &r
	}
	return nil
}

func originTime(ts int64) map[string]string {
	if ts <= 0 {
		return nil
	}
	return map[string]string{"ts": strconv.FormatInt(ts, 10)}
}

func (c *Client) send(ctx context.Context, k call) Result {
	a, bad := read[event.Send](k)
	if bad == nil {
		bad = checkKey(k)
	}
	if bad != nil {
		return *bad
	}
	typ, content := a.Type, a.Content
	if c.cfg.Encrypter != nil && !a.Plain && typ != event.TypeReaction {
		var err error
		if typ, content, err = c.cfg.Encrypter.Encrypt(ctx, k.Room, k.Txn, a.Sender, typ, content); err != nil {
			var p interface{ Permanent() bool }
			if errors.As(err, &p) && p.Permanent() {
				return refused("M_FORBIDDEN", err)
			}
			return retry(err)
		}
	}
	sender := a.Sender
	if sender == "" {
		sender = c.cfg.Bot
	}
	if k.Repeated {
		if r := c.sent(ctx, k.Room, sender, typ, content); r != nil {
			return *r
		}
	}
	path := mautrix.ClientURLPath{"v3", "rooms", k.Room, "send", typ, txn(k.Txn, sender)}
	r := c.request(ctx, sender, http.MethodPut, path, originTime(a.TS), content)
	if r.Code == "M_DUPLICATE_ANNOTATION" {
		// The same reaction is there already: what was wanted is so.
		return done(map[string]any{"duplicate": true})
	}
	return r
}

func (c *Client) redact(ctx context.Context, k call) Result {
	a, bad := read[event.Redact](k)
	if bad == nil {
		bad = checkKey(k)
	}
	if bad != nil {
		return *bad
	}
	if !event.ValidEventID(a.Event) {
		return refused("M_INVALID_PARAM", errors.New("redact event: bad event id"))
	}
	sender := a.Sender
	if sender == "" {
		sender = c.cfg.Bot
	}
	body := map[string]string{}
	if a.Reason != "" {
		body["reason"] = a.Reason
	}
	path := mautrix.ClientURLPath{"v3", "rooms", k.Room, "redact", a.Event, txn(k.Txn, sender)}
	return c.request(ctx, sender, http.MethodPut, path, nil, body)
}

func (c *Client) state(ctx context.Context, k call) Result {
	a, bad := read[event.State](k)
	if bad != nil {
		return *bad
	}
	if k.Repeated {
		if r := c.overtaken(ctx, k.Room, a); r != nil {
			return *r
		}
	}
	path := mautrix.ClientURLPath{"v3", "rooms", k.Room, "state", a.Type, a.Key}
	return c.request(ctx, a.Sender, http.MethodPut, path, originTime(a.TS), a.Content)
}

func (c *Client) receipt(ctx context.Context, k call) Result {
	a, bad := read[event.ReadUpTo](k)
	if bad != nil {
		return *bad
	}
	body := map[string]string{}
	if a.Thread != "" {
		body["thread_id"] = a.Thread
	}
	path := mautrix.ClientURLPath{"v3", "rooms", k.Room, "receipt", "m.read", a.Event}
	return c.request(ctx, a.Sender, http.MethodPost, path, nil, body)
}

func (c *Client) typing(ctx context.Context, k call) Result {
	a, bad := read[event.Typing](k)
	if bad != nil {
		return *bad
	}
	body := map[string]any{"typing": a.Typing}
	if a.Typing {
		body["timeout"] = max(1000, min(a.Timeout, 120000))
	}
	path := mautrix.ClientURLPath{"v3", "rooms", k.Room, "typing", a.Sender}
	return c.request(ctx, a.Sender, http.MethodPut, path, nil, body)
}
