package relay

import (
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// compare brings both sides of a room in line after the Matrix room was read, every hour (docs/mapping.md §4): what a homeserver
// lost, or refused at the time, is made up for. The side that leads decides: Matrix in a hub room, the participant list
// in a portal. While something is under way nothing is compared: the reader of the room sees to it.
func (s *step) compare() error {
	v := s.room
	if !v.members.joined(s.cfg.Bot) {
		return nil
	}
	if v.head.Kind == store.RoomHub {
		s.compareHub()
	} else {
		s.comparePortal()
	}
	return nil
}

// compareHub: who of ours is in the Matrix room is a participant, and nobody else of ours; the ghosts of all others are in
// it. Name, topic and power levels are those of Matrix.
func (s *step) compareHub() {
	v := s.room
	for _, mxid := range sortedKeys(v.members.byMXID) {
		m := v.members.byMXID[mxid]
		if mxid == s.cfg.Bot || m.URI == "" {
			continue
		}
		role := v.policy.RoleIndex(m.URI)
		switch {
		case m.Ghost && role > policy.RoleBanned:
			if m.Membership == string(event.Ban) {
				s.wish(intentBan, s.bot, m.URI, intentData{MXID: mxid})
			} else {
				s.placeAgain(m)
			}
		case m.Ghost && m.Membership == string(event.Join):
			s.placeOut(&m, policy.RoleNone, cause{actor: m.URI})
			s.setMember(m)
		case m.Ghost:
		case !s.fixed() && m.Membership == string(event.Join) && role == policy.RoleNone && s.present(mxid) && v.group.OwnCount() <= s.cfg.MaxExport:
			s.wish(intentAdd, s.bot, m.URI, intentData{MXID: mxid})
		case s.fixed():
		case m.Membership != string(event.Join) && m.Membership != string(event.Invite) && role > policy.RoleBanned:
			s.wish(intentLeave, m.URI, m.URI, intentData{MXID: mxid})
		}
	}
	meta := v.policy.Metadata
	if name, topic := v.matrix.Name, v.matrix.Topic; cleanName(meta.RoomName) != name || s.topicOf(meta) != topic {
		s.wish(intentMetadata, s.bot, "", intentData{Name: &name, Topic: &topic})
	}
	s.followPower("", "")
}

// comparePortal: participants are in the portal or invited to it, ghosts of others are not.
func (s *step) comparePortal() {
	v := s.room
	for _, p := range v.policy.Participants {
		if m, err := s.memberOf(p.User); err == nil && p.Role > policy.RoleBanned {
			s.placeAgain(m)
		}
	}
	for _, mxid := range sortedKeys(v.members.byMXID) {
		m := v.members.byMXID[mxid]
		if m.URI == "" || mxid == s.cfg.Bot || v.policy.RoleIndex(m.URI) != policy.RoleNone || m.Membership == string(event.Ban) {
			continue
		}
		s.placeOut(&m, policy.RoleNone, cause{})
		s.setMember(m)
	}
	s.placePower(before{}, cause{})
	s.placeMetadata(cause{})
	s.leaveUnlogged()
}

// placeAgain lets somebody who belongs into the Matrix room come in, if they are not there. A user of ours who has left a
// portal has said so: that is on its way to the hub, or was refused there.
func (s *step) placeAgain(m store.Member) {
	if m.Membership == string(event.Join) || !m.Ghost && m.Membership != "" {
		return
	}
	s.placeIn(&m, policy.RoleNone, cause{})
	s.setMember(m)
}
