package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

func (c *Client) createRoom(ctx context.Context, k call) Result {
	a, bad := read[event.CreateRoom](k)
	if bad != nil {
		return *bad
	}
	body := map[string]any{"visibility": "private", "is_direct": a.Direct}
	if a.Public {
		body["visibility"] = "public"
	}
	for key, v := range map[string]string{"room_alias_name": a.Alias, "name": a.Name, "topic": a.Topic, "preset": a.Preset, "room_version": a.Version} {
		if v != "" {
			body[key] = v
		}
	}
	if len(a.Invite) > 0 {
		body["invite"] = a.Invite
	}
	if len(a.State) > 0 {
		body["initial_state"] = a.State
	}
	if len(a.Levels) > 0 {
		body["power_level_content_override"] = a.Levels
	}
	creation := event.Object{}
	if len(a.Creation) > 0 {
		if err := json.Unmarshal(a.Creation, &creation); err != nil {
			return refused("M_BAD_JSON", fmt.Errorf("create room: read creation content: %w", err))
		}
	}
	if a.Local {
		creation["m.federate"] = json.RawMessage("false")
	}
	if len(creation) > 0 {
		body["creation_content"] = creation
	}
	r := c.request(ctx, a.Sender, http.MethodPost, mautrix.ClientURLPath{"v3", "createRoom"}, nil, body)
	if r.Code == "M_ROOM_IN_USE" && a.Alias != "" {
		return c.existing(ctx, a)
	}
	return r
}

// existing finds the room that an earlier try made and finishes its invites.
func (c *Client) existing(ctx context.Context, a event.CreateRoom) Result {
	_, server, _ := strings.Cut(string(c.cfg.Bot), ":")
	alias := "#" + a.Alias + ":" + server
	r := c.raw(ctx, c.cfg.Bot, http.MethodGet, mautrix.ClientURLPath{"v3", "directory", "room", alias}, nil, nil)
	if r.Class != Done {
		return r
	}
	room := id.RoomID(r.RoomID())
	if !event.ValidRoomID(room) {
		return refused("M_ROOM_IN_USE", fmt.Errorf("create room: alias is taken and leads nowhere"))
	}
	sender := a.Sender
	if sender == "" {
		sender = c.cfg.Bot
	}
	// Only a room that our own user made may be taken for it.
	made := c.raw(ctx, sender, http.MethodGet, mautrix.ClientURLPath{"v3", "rooms", room, "state", event.TypeMember, sender}, nil, nil)
	if made.Class != Done {
		if made.Class == Refused {
			return refused("M_ROOM_IN_USE", fmt.Errorf("create room: alias belongs to a room without %s", sender))
		}
		return made
	}
	for _, u := range a.Invite {
		res := c.membership(ctx, room, event.VerbInvite, event.InviteUser{Sender: sender, Target: u, Direct: a.Direct})
		if res.Class == Retry {
			return res
		}
	}
	return done(map[string]any{"room_id": room, "existed": true})
}

func (c *Client) alias(ctx context.Context, k call) Result {
	a, bad := read[event.Alias](k)
	if bad != nil {
		return *bad
	}
	path := mautrix.ClientURLPath{"v3", "directory", "room", string(a.Alias)}
	if a.Delete {
		r := c.request(ctx, "", http.MethodDelete, path, nil, nil)
		if r.Code == "M_NOT_FOUND" {
			return done(struct{}{})
		}
		return r
	}
	r := c.request(ctx, "", http.MethodPut, path, nil, map[string]any{"room_id": k.Room})
	if r.Class == Refused && r.Status == http.StatusConflict {
		if found := c.raw(ctx, c.cfg.Bot, http.MethodGet, path, nil, nil); found.Class == Done && found.RoomID() == string(k.Room) {
			return done(struct{}{})
		}
	}
	return r
}

func (c *Client) visibility(ctx context.Context, k call) Result {
	a, bad := read[event.Visibility](k)
	if bad != nil {
		return *bad
	}
	v := "private"
	if a.Public {
		v = "public"
	}
	return c.request(ctx, "", http.MethodPut, mautrix.ClientURLPath{"v3", "directory", "list", "room", k.Room}, nil, map[string]string{"visibility": v})
}
