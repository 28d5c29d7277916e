package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// get asks a question as the bot and returns the answer.
func (c *Client) get(ctx context.Context, what string, path mautrix.PrefixableURLPath, query map[string]string) (json.RawMessage, error) {
	cli := c.As("")
	answer, resp, err := cli.MakeFullRequestWithResp(ctx, mautrix.FullRequest{
		Method: http.MethodGet, URL: cli.BuildURLWithQuery(path, query), MaxAttempts: 1,
	})
	if err == nil {
		return answer, nil
	}
	return nil, fmt.Errorf("%s: %w", what, classify(answer, resp, err).asError())
}

// Whoami checks the token and returns the user it belongs to.
func (c *Client) Whoami(ctx context.Context) (id.UserID, error) {
	b, err := c.get(ctx, "check token", mautrix.ClientURLPath{"v3", "account", "whoami"}, nil)
	if err != nil {
		return "", err
	}
	o, err := event.ParseObject(b)
	if err != nil {
		return "", fmt.Errorf("check token: %w", err)
	}
	return id.UserID(o.Str("user_id")), nil
}

// EnsureBot registers the bot's own user, which some homeservers do not do by
// themselves, mutes it as ghosts are, and sets its display name and its picture,
// an mxc:// address, unless they are "".
func (c *Client) EnsureBot(ctx context.Context, name, avatar string) error {
	if r := c.registerUser(ctx, c.cfg.Bot); r.Class == Retry {
		return fmt.Errorf("register bot: %w", r.asError())
	}
	if r := c.mute(ctx, c.cfg.Bot); r.Class == Retry {
		return fmt.Errorf("mute bot: %w", r.asError())
	}
	for _, p := range [][2]string{{"displayname", name}, {"avatar_url", avatar}} {
		if p[1] == "" {
			continue
		}
		if r := c.setProfile(ctx, c.cfg.Bot, p[0], p[1]); r.Class != Done {
			return fmt.Errorf("set the bot's %s: %w", p[0], r.asError())
		}
	}
	return nil
}

// RoomState is the state of a room with the memberships in it.
type RoomState struct {
	Room    event.Room
	Members []event.Member
	// Events are the other state events, checked; events that do not pass are left out.
	Events []event.Event
}

// State reads the whole state of a room that the bot is in.
func (c *Client) State(ctx context.Context, room id.RoomID) (*RoomState, error) {
	b, err := c.get(ctx, "read room state", mautrix.ClientURLPath{"v3", "rooms", room, "state"}, nil)
	if err != nil {
		return nil, err
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("read room state: %w", err)
	}
	var s RoomState
	for _, ev := range raw {
		r, err := event.Parse(ev)
		if err != nil {
			continue
		}
		r.Room = string(room) // some homeservers leave it out here
		e, err := r.Check()
		if err != nil || e.StateKey == nil {
			continue
		}
		if m, ok := e.Member(); ok {
			s.Members = append(s.Members, m)
			continue
		}
		s.Room.Apply(e)
		s.Events = append(s.Events, e)
	}
	return &s, nil
}

// Name is the display name and avatar (mxc) of a user, both "" when there is none.
func (c *Client) Name(ctx context.Context, user id.UserID) (name, avatar string, err error) {
	b, err := c.get(ctx, "read profile", mautrix.ClientURLPath{"v3", "profile", user}, nil)
	if err != nil {
		var own *outcome
		if errors.As(err, &own) && own.Status == http.StatusNotFound {
			return "", "", nil
		}
		return "", "", err
	}
	o, err := event.ParseObject(b)
	if err != nil {
		return "", "", fmt.Errorf("read profile: %w", err)
	}
	return o.Str("displayname"), o.Str("avatar_url"), nil
}

// SetPresence says whether a ghost is there. state is online, unavailable or offline.
func (c *Client) SetPresence(ctx context.Context, user id.UserID, state, text string) error {
	if err := c.ensure(ctx, user); err != nil {
		return fmt.Errorf("set presence: %w", err)
	}
	body := map[string]string{"presence": state}
	if text != "" {
		body["status_msg"] = text
	}
	if r := c.raw(ctx, user, http.MethodPut, mautrix.ClientURLPath{"v3", "presence", user, "status"}, nil, body); r.Class != Done {
		return fmt.Errorf("set presence: %w", r.asError())
	}
	return nil
}

// Exists reports whether a user has an account at the own homeserver, or a
// profile at another.
func (c *Client) Exists(ctx context.Context, user id.UserID) (bool, error) {
	_, err := c.get(ctx, "look up user", mautrix.ClientURLPath{"v3", "profile", user}, nil)
	var own *outcome
	if errors.As(err, &own) && own.Class == Refused {
		return false, nil
	}
	return err == nil, err
}

// Event reads one event of a room.
func (c *Client) Event(ctx context.Context, room id.RoomID, ev id.EventID) (event.Event, error) {
	b, err := c.get(ctx, "read event", mautrix.ClientURLPath{"v3", "rooms", room, "event", ev}, nil)
	if err != nil {
		return event.Event{}, err
	}
	r, err := event.Parse(b)
	if err != nil {
		return event.Event{}, err
	}
	r.Room = string(room)
	return r.Check()
}

// Software is what runs at the homeserver's address.
type Software struct {
	// Name and Version are as the server calls itself, "" if it does not say.
	Name, Version string
	// Ping says that the server knows the appservice ping (Matrix 1.7).
	Ping bool
}

// Software finds out what the homeserver is. A server that does not tell gives
// empty names, no error.
func (c *Client) Software(ctx context.Context) (Software, error) {
	var s Software
	b, err := c.get(ctx, "ask for versions", mautrix.ClientURLPath{"versions"}, nil)
	if err != nil {
		return s, err
	}
	o, err := event.ParseObject(b)
	if err != nil {
		return s, fmt.Errorf("ask for versions: %w", err)
	}
	s.Ping = o.Obj("unstable_features").Bool("fi.mau.msc2659.stable")
	for _, v := range o.Strings("versions", 100) {
		var major, minor int
		if n, _ := fmt.Sscanf(v, "v%d.%d", &major, &minor); n == 2 && (major > 1 || major == 1 && minor >= 7) {
			s.Ping = true
		}
	}
	// Without the token: Synapse takes that for another server's, which a list of allowed servers does not have.
	open := c.As("")
	open.AccessToken, open.SetAppServiceUserID = "", false
	b, _, err = open.MakeFullRequestWithResp(ctx, mautrix.FullRequest{
		Method: http.MethodGet, URL: open.BuildURL(mautrix.BaseURLPath{"_matrix", "federation", "v1", "version"}), MaxAttempts: 1,
	})
	if err == nil {
		if o, err := event.ParseObject(b); err == nil {
			s.Name, s.Version = o.Obj("server").Str("name"), o.Obj("server").Str("version")
		}
	}
	return s, nil
}

// Ping asks the homeserver to call the bridge back (Matrix 1.7). txn comes with
// the call. It also makes Synapse deliver again at once after a failure.
func (c *Client) Ping(ctx context.Context, appserviceID, txn string) error {
	r := c.raw(ctx, c.cfg.Bot, http.MethodPost, mautrix.ClientURLPath{"v1", "appservice", appserviceID, "ping"}, nil, map[string]string{"transaction_id": txn})
	if r.Class != Done {
		return fmt.Errorf("ping through homeserver: %w", r.asError())
	}
	return nil
}

// Levels reads the power levels of a room that the bot is in, with the creators
// where the room version gives them power.
func (c *Client) Levels(ctx context.Context, room id.RoomID) (event.PowerLevels, error) {
	var r event.Room
	for _, typ := range []string{event.TypeCreate, event.TypePowerLevels} {
		b, err := c.get(ctx, "read power levels", mautrix.ClientURLPath{"v3", "rooms", room, "state", typ, ""}, map[string]string{"format": "event"})
		if err != nil {
			if Code(err) == "M_NOT_FOUND" {
				continue
			}
			return event.PowerLevels{}, err
		}
		if e, err := stateEvent(b, room, typ); err == nil {
			r.Apply(e)
		}
	}
	return r.Levels, nil
}

// stateEvent reads the answer to a question for a state event: the event, or,
// from homeservers that do not know format=event, its content alone.
func stateEvent(b []byte, room id.RoomID, typ string) (event.Event, error) {
	o, err := event.ParseObject(b)
	if err != nil {
		return event.Event{}, err
	}
	key := ""
	e := event.Event{Room: room, Type: typ, StateKey: &key, Content: o}
	if inner := o.Obj("content"); inner != nil && o.Str("type") == typ {
		e.Content, e.Sender = inner, id.UserID(o.Str("sender"))
	} else if creator := o.Str("creator"); creator != "" { // rooms before version 11
		e.Sender = id.UserID(creator)
	}
	return e, nil
}
