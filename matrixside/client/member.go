package client

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// current is the membership of a user as the bot sees it.
func (c *Client) current(ctx context.Context, room id.RoomID, user id.UserID) (event.Membership, bool) {
	r := c.raw(ctx, c.cfg.Bot, http.MethodGet, mautrix.ClientURLPath{"v3", "rooms", room, "state", event.TypeMember, user}, nil, nil)
	if r.Code == "M_NOT_FOUND" {
		return event.None, true
	}
	if r.Class != Done {
		return "", false
	}
	return event.Membership(r.field("membership")), true
}

// satisfied turns a refusal into success when the room is already as wanted.
func (c *Client) satisfied(ctx context.Context, r Result, room id.RoomID, user id.UserID, ok ...event.Membership) Result {
	if r.Class != Refused {
		return r
	}
	if now, known := c.current(ctx, room, user); known && slices.Contains(ok, now) {
		return done(map[string]any{"already": true})
	}
	return r
}

// repeats answers a change of membership that may have been carried out before, nil when it is to be tried.
func (c *Client) repeats(ctx context.Context, k call, target id.UserID, was event.Membership, wanted ...event.Membership) *Result {
	if !k.Repeated {
		return nil
	}
	return c.moved(ctx, k.Room, target, was, wanted...)
}

// goals are the memberships that a change of another's membership is for: who has one of them already needs no change.
var goals = map[event.Verb][]event.Membership{
	event.VerbInvite: {event.Invite, event.Join},
	event.VerbKick:   {event.None, event.Leave, event.Ban},
	event.VerbBan:    {event.Ban},
	event.VerbUnban:  {event.None, event.Leave, event.Invite, event.Join, event.Knock},
}

// change carries out [event.InviteUser], [event.KickUser], [event.BanUser] and [event.UnbanUser], which have the same members.
func (c *Client) change(ctx context.Context, k call) Result {
	a, bad := read[event.InviteUser](k)
	if bad != nil {
		return *bad
	}
	if r := c.repeats(ctx, k, a.Target, a.Was, goals[k.Verb]...); r != nil {
		return *r
	}
	return c.membership(ctx, k.Room, k.Verb, a)
}

// membership makes the request of a verb of goals, and takes a refusal for success where there is nothing to do.
func (c *Client) membership(ctx context.Context, room id.RoomID, verb event.Verb, a event.InviteUser) Result {
	if verb == event.VerbInvite {
		// A ghost that does not exist yet can be invited, but has no name then.
		if err := c.ensure(ctx, a.Target); err != nil {
			return classify(nil, nil, err)
		}
	}
	var r Result
	if verb == event.VerbInvite && a.Direct {
		path := mautrix.ClientURLPath{"v3", "rooms", room, "state", event.TypeMember, a.Target}
		r = c.request(ctx, a.Sender, http.MethodPut, path, nil, map[string]any{"membership": "invite", "is_direct": true, "reason": a.Reason})
	} else {
		body := map[string]string{"user_id": string(a.Target)}
		if a.Reason != "" {
			body["reason"] = a.Reason
		}
		r = c.request(ctx, a.Sender, http.MethodPost, mautrix.ClientURLPath{"v3", "rooms", room, string(verb)}, nil, body)
	}
	return c.satisfied(ctx, r, room, a.Target, goals[verb]...)
}

// joinWaits are the pauses before somebody who was invited into the room of the row tries again to join it: Dendrite refuses that now and then
// right after the invitation.
var joinWaits = []time.Duration{200 * time.Millisecond, 600 * time.Millisecond, 1500 * time.Millisecond}

// outside tells whether a user is known not to be invited: a refused join is final then, as it is when the user is in the room.
func (c *Client) outside(ctx context.Context, room id.RoomID, user id.UserID) bool {
	now, known := c.current(ctx, room, user)
	return known && now != event.Invite
}

// pause waits; the error says that the context ended.
func pause(ctx context.Context, wait time.Duration) error {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (c *Client) join(ctx context.Context, k call) Result {
	a, bad := read[event.JoinRoom](k)
	if bad != nil {
		return *bad
	}
	target, room := a.Room, k.Room
	if target == "" {
		target = string(room)
	} else if room = ""; strings.HasPrefix(target, "!") {
		room = id.RoomID(target) // not the room of the row, in which somebody may well be
	}
	try := func() Result {
		cli := c.As(a.Sender)
		if err := c.ensure(ctx, a.Sender); err != nil {
			return classify(nil, nil, err)
		}
		answer, resp, err := cli.MakeFullRequestWithResp(ctx, mautrix.FullRequest{
			Method: http.MethodPost, RequestJSON: struct{}{}, MaxAttempts: 1,
			URL: cli.BuildURLWithFullQuery(mautrix.ClientURLPath{"v3", "join", target}, func(q url.Values) {
				for _, v := range a.Via {
					q.Add("via", v)
					q.Add("server_name", v) // its name before Matrix 1.12
				}
			}),
		})
		return classify(answer, resp, err)
	}
	r := try()
	if r.Class == Refused && a.InviteFirst && room != "" {
		if in := c.membership(ctx, room, event.VerbInvite, event.InviteUser{Target: a.Sender}); in.Class != Done {
			return in
		}
		r = try()
	}
	if room != "" && (a.Room == "" || a.InviteFirst) {
		for _, wait := range joinWaits {
			if r.Class != Refused || r.Code != "M_FORBIDDEN" || c.outside(ctx, room, a.Sender) {
				break
			}
			if err := c.pause(ctx, wait); err != nil {
				return retry(err)
			}
			r = try()
		}
	}
	if room != "" {
		return c.satisfied(ctx, r, room, a.Sender, event.Join)
	}
	return r
}

// knock uses the endpoint, and where it is missing (Dendrite) the event itself.
func (c *Client) knock(ctx context.Context, k call) Result {
	a, bad := read[event.KnockRoom](k)
	if bad != nil {
		return *bad
	}
	target := a.Room
	if target == "" {
		target = string(k.Room)
	}
	body := map[string]string{}
	if a.Reason != "" {
		body["reason"] = a.Reason
	}
	r := c.request(ctx, a.Sender, http.MethodPost, mautrix.ClientURLPath{"v3", "knock", target}, nil, body)
	if r.Code == "M_UNRECOGNIZED" && k.Room != "" {
		body["membership"] = "knock"
		r = c.request(ctx, a.Sender, http.MethodPut, mautrix.ClientURLPath{"v3", "rooms", k.Room, "state", event.TypeMember, a.Sender}, nil, body)
	}
	if k.Room != "" {
		return c.satisfied(ctx, r, k.Room, a.Sender, event.Knock, event.Invite, event.Join)
	}
	return r
}

func (c *Client) leave(ctx context.Context, k call) Result {
	a, bad := read[event.LeaveRoom](k)
	if bad != nil {
		return *bad
	}
	if r := c.repeats(ctx, k, a.Sender, a.Was, event.None, event.Leave, event.Ban); r != nil {
		return *r
	}
	body := map[string]string{}
	if a.Reason != "" {
		body["reason"] = a.Reason
	}
	r := c.request(ctx, a.Sender, http.MethodPost, mautrix.ClientURLPath{"v3", "rooms", k.Room, "leave"}, nil, body)
	return c.satisfied(ctx, r, k.Room, a.Sender, event.None, event.Leave, event.Ban)
}
