package relay

import (
	"context"
	"strconv"
	"strings"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/html"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Moderation by commands, in rooms that another provider leads (docs/mapping.md §5): roles that no power level stands for, and
// rights that no threshold expresses. The hub decides.

// What moderators ask for.
const (
	ModerateKick  = "kick"
	ModerateBan   = "ban"
	ModerateUnban = "unban"
	ModerateRole  = "role"
)

// RoleInfo is a role of a room and who has it.
type RoleInfo struct {
	Index             uint32
	Name, Description string
	Users             []string // MIMI user URIs
}

// RolesOf lists the roles of the MIMI room that a Matrix room is joined to, without role 0. ErrNoRoom when there is none.
func (r *Relay) RolesOf(ctx context.Context, roomID string) ([]RoleInfo, error) {
	id, err := r.roomNamed(ctx, roomID)
	if err != nil {
		return nil, err
	}
	var out []RoleInfo
	_, err = r.runStep(ctx, id, nil, store.Settle{}, func(s *step) error {
		out = nil
		if s.room.policy == nil {
			return ErrNoRoom
		}
		for _, role := range s.room.policy.Roles {
			if role.Index == policy.RoleNone {
				continue
			}
			out = append(out, RoleInfo{Index: role.Index, Name: role.Name, Description: role.Description, Users: s.room.policy.InRole(role.Index)})
		}
		return nil
	})
	return out, err
}

// Moderate puts somebody out of a room that another provider leads, bans or unbans them, or gives them a role by its name or
// number, in the name of a Matrix user. target is a Matrix id or a MIMI user. What comes of it is told in the room.
func (r *Relay) Moderate(ctx context.Context, roomID, by, what, target, role, eventID string) error {
	return r.actIn(ctx, roomID, action{Do: actModerate, By: by, User: target, Text: what, Target: role, Event: eventID})
}

// actModerate makes a wish of a moderator's command.
func (s *step) actModerate(a action) error {
	v := s.room
	if v.head.Kind != store.RoomFollower || v.group == nil {
		s.notice("This room is led here: use what your client offers for that.", a.Event)
		return nil
	}
	uri := a.User
	if strings.HasPrefix(uri, "@") {
		uri = s.actorOf(uri)
	}
	uri = s.listedURI(wire.IdentifierURI(uri))
	mxid := ""
	if m, ok := v.members.ofURI(uri); ok {
		mxid = m.MXID
	}
	if v.policy.RoleIndex(uri) == policy.RoleNone && a.Text != ModerateBan || uri == "" {
		s.notice(html.Apart(html.Line(a.User, 300))+" does not take part in this room.", a.Event)
		return nil
	}
	d := intentData{MXID: mxid, Event: a.Event, By: a.By}
	actor := s.actorOf(a.By)
	switch a.Text {
	case ModerateKick:
		s.wish(intentRemove, actor, uri, d)
	case ModerateBan:
		s.wish(intentBan, actor, uri, d)
	case ModerateUnban:
		s.wish(intentUnban, actor, uri, d)
	case ModerateRole:
		role, ok := roleNamed(v.policy.Roles, a.Target)
		if !ok {
			s.notice("There is no role "+html.Apart(html.Line(a.Target, 100))+" here: see the command roles.", a.Event)
			return nil
		}
		d.Role = role
		s.wish(intentRole, actor, uri, d)
	}
	return nil
}

// roleNamed finds a role by its number or its name, in any case.
func roleNamed(roles policy.RoleData, name string) (uint32, bool) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), uint32(n) > policy.RoleBanned && roles.Role(uint32(n)) != nil
	}
	for _, r := range roles {
		if r.Index > policy.RoleBanned && strings.EqualFold(r.Name, name) {
			return r.Index, true
		}
	}
	return 0, false
}
