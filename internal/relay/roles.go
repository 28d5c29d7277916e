package relay

import (
	"encoding/json"
	"slices"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// Power levels and roles (docs/mapping.md §5). In a hub room the power levels lead: each distinct level is a role. In a portal the
// roles lead: the bot writes the power levels.

// hierarchy is the order of power of a hub room as roles. It remembers which index stands for which level.
func (s *step) hierarchy() mapping.Hierarchy {
	m := &s.room.matrix
	p := m.power()
	var levels []int64
	for _, mxid := range sortedKeys(s.room.members.byMXID) {
		mem := s.room.members.byMXID[mxid]
		if mxid != s.cfg.Bot && (mem.Listed || mem.URI != "" && mem.Membership == string(event.Join)) {
			levels = append(levels, p.User(userID(mxid)))
		}
	}
	return s.room.st.Ranks.Hierarchy(p, levels, mapping.HubOptions{JoinRule: m.Join, JoinCodes: s.anyLink(), Encrypted: m.Crypt})
}

// hubRole is the role of a Matrix user in a hub room.
func (s *step) hubRole(mxid string) uint32 {
	p := s.room.matrix.power()
	role := s.hierarchy().RoleOf(p.User(userID(mxid)))
	if s.room.policy != nil && s.room.policy.Role(role) == nil {
		return policy.RoleMember // the role is on its way: it follows
	}
	return role
}

// wantedRoles are the role definitions that a hub room should have: those of its power levels, and those that are still in
// use.
func (s *step) wantedRoles(h mapping.Hierarchy) policy.RoleData {
	roles := slices.Clone(h.Roles)
	if s.room.policy == nil {
		return roles
	}
	for _, r := range s.room.policy.Roles {
		if roles.Role(r.Index) == nil && len(s.room.policy.InRole(r.Index)) > 0 {
			roles = append(roles, r)
		}
	}
	slices.SortFunc(roles, func(a, b policy.Role) int { return int(a.Index) - int(b.Index) })
	return roles
}

// followPower brings the roles of a hub room in line with its power levels: first the definitions, then who has which
// (docs/mapping.md §5; both must not be in one commit).
func (s *step) followPower(eventID, by string) {
	v := s.room
	if v.head.Kind != store.RoomHub || v.group == nil || s.fixed() {
		return
	}
	h, p := s.hierarchy(), v.matrix.power()
	if string(s.wantedRoles(h).Marshal()) != string(v.policy.Roles.Marshal()) {
		s.wish(intentRoles, s.bot, "", intentData{Event: eventID, By: by})
	}
	for _, part := range v.policy.Participants {
		if part.Role == policy.RoleBanned || part.User == s.bot {
			continue
		}
		m, ok := v.members.ofURI(part.User)
		if !ok {
			continue
		}
		if want := h.RoleOf(p.User(userID(m.MXID))); want != part.Role {
			s.wish(intentRole, s.bot, part.User, intentData{MXID: m.MXID, Role: want})
		}
	}
}

// onPower takes new power levels.
func (s *step) onPower(ev event.Event, echo bool) {
	v := s.room
	if echo && v.head.Kind == store.RoomFollower {
		return // written down when it was written
	}
	before := v.matrix.power()
	v.matrix.Power = ev.Content.Encode()
	switch {
	case echo:
	case v.head.Kind == store.RoomHub:
		s.followPower(string(ev.ID), string(ev.Sender))
	case v.head.Kind == store.RoomFollower && v.group != nil:
		s.askRoles(ev, before)
	}
}

// askRoles asks the hub for the roles that somebody gave by changing power levels in a portal. Anything else that was
// changed is taken back (docs/mapping.md §5).
func (s *step) askRoles(ev event.Event, before event.PowerLevels) {
	v := s.room
	users, thresholds := mapping.LevelChanges(before, v.matrix.power())
	standing := mapping.NewStanding(v.policy.Roles)
	actor := s.actorOf(string(ev.Sender))
	revert := thresholds
	for _, c := range users {
		m, ok := v.members.byMXID[string(c.User)]
		from := v.policy.RoleIndex(m.URI)
		role, may := standing.RoleFor(c.To, v.policy.RoleIndex(actor), from)
		switch {
		case !ok || m.URI == "" || from <= policy.RoleBanned || !may:
			revert = true
		case role != from:
			s.wish(intentRole, actor, m.URI, intentData{MXID: m.MXID, Role: role, Event: string(ev.ID), By: string(ev.Sender)})
		}
	}
	if revert {
		s.writePower(before)
		s.notice("Only roles that the room has can be given here; the other changes were taken back.", string(ev.ID))
	}
}

// placePower makes Matrix show the roles: in a portal all power levels, in a hub room the level of one who was given another
// role by a MIMI user.
func (s *step) placePower(was before, why cause) {
	v := s.room
	if v.head.Kind == store.RoomFollower {
		if v.head.MatrixRoomID != "" || v.st.Portal {
			s.writePower(s.portalPower())
		}
		return
	}
	if was.policy == nil || s.own(why.actor) || s.fixed() {
		return
	}
	h, p := s.hierarchy(), v.matrix.power().Clone()
	changed := false
	for _, part := range v.policy.Participants {
		from := was.policy.RoleIndex(part.User)
		m, ok := v.members.ofURI(part.User)
		if !ok || from == part.Role || from == policy.RoleBanned || part.Role <= policy.RoleBanned {
			continue
		}
		if level, ok := h.LevelOf(part.Role); ok && p.User(userID(m.MXID)) != level {
			p.Users[userID(m.MXID)] = level
			changed = true
		}
	}
	if changed {
		hand := s.powerHand(why)
		if hand == "" {
			// Nobody of ours may change power levels here, and Matrix leads: the role goes back.
			s.followPower("", "")
			s.once("power", func() {
				s.notice("A role was given in the MIMI room that I may not give here. Give me the power to change power levels.", "")
			})
			return
		}
		content := event.Merge(s.powerObject(), parseObject(p.Encode()))
		s.matrix(event.State{Sender: hand, Type: event.TypePowerLevels, Content: content.Encode(), Was: v.matrix.Power})
		v.matrix.Power = content.Encode()
	}
}

func (s *step) powerObject() event.Object { return parseObject(s.room.matrix.Power) }

func parseObject(raw json.RawMessage) event.Object {
	o, err := event.ParseObject(raw)
	if err != nil {
		return event.Object{}
	}
	return o
}

// portalPower are the power levels of a portal.
func (s *step) portalPower() event.PowerLevels {
	v := s.room
	roles := v.policy.Roles
	return mapping.NewStanding(roles).PowerLevels(v.policy.Participants, userID(s.cfg.Bot), func(uri string) (id.UserID, bool) {
		m, err := s.memberOf(uri)
		return userID(m.MXID), err == nil && m.MXID != s.cfg.Bot
	})
}

// writePower writes the power levels of a portal where they differ.
func (s *step) writePower(p event.PowerLevels) {
	v := s.room
	if len(v.matrix.Power) > 0 && v.matrix.power().Equal(p) {
		return
	}
	was := v.matrix.Power
	v.matrix.Power = p.Encode()
	s.matrix(event.State{Type: event.TypePowerLevels, Content: v.matrix.Power, Was: was})
}
