package relay

import (
	"errors"
	"slices"
	"strings"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// Reasons of failed messages, as clients of mautrix bridges know them.
const (
	reasonRefused = "m.no_permission"
	reasonNetwork = "m.foreign_network_error"
	reasonUnfit   = "com.beeper.unsupported_event"
)

// failed tells a sender that a message did not get through (docs/mapping.md §11): by a status event, which clients show at the
// message, and by a notice of the bot. retry says that sending it again may help.
func (s *step) failed(eventID, sender, why string, retry bool) {
	if retry {
		s.tellFailed(eventID, event.StatusRetriable, reasonNetwork, why)
		return
	}
	s.tellFailed(eventID, event.StatusFail, reasonRefused, why)
}

// tellFailed tells it with one of the words that clients know.
func (s *step) tellFailed(eventID, status, reason, why string) {
	if eventID == "" || s.room.head.MatrixRoomID == "" {
		return
	}
	s.matrix(event.Send{Sender: s.speaker(), Type: event.TypeSendStatus, Plain: true, Content: event.SendStatus{Event: id.EventID(eventID),
		Status: status, Reason: reason, Message: why, Network: "mimi"}.Encode()})
	s.notice("⚠ Your message was not delivered: "+strings.TrimSuffix(why, ".")+".", eventID)
}

// delivered tells a sender that the room has a message, where the operator wants that.
func (s *step) delivered(eventID string) {
	if !s.cfg.StatusEvents || eventID == "" {
		return
	}
	s.matrix(event.Send{Sender: s.speaker(), Type: event.TypeSendStatus, Plain: true, Content: event.SendStatus{Event: id.EventID(eventID),
		Status: event.StatusSuccess, Network: "mimi"}.Encode()})
}

// refuse tells who asked for a change that it was not made, and where Matrix shows it already takes it back there
// (docs/mapping.md §11).
func (s *step) refuse(i store.Intent, d intentData, why string) {
	if why == "" {
		why = "the room does not allow it"
	}
	s.Log.Info().Stringer("room", s.room.head.ID).Str("intent", i.Kind).Str("reason", why).Str("fate", "refused").Msg("a wish was not fulfilled")
	switch i.Kind {
	case intentAdd:
		s.refuseAdd(&i, d, why)
	case intentRemove, intentBan:
		s.putBack(i.Target)
		s.tell(d, "This could not be done: "+why+".")
	case intentUnban, intentRole, intentRoles:
		if i.Kind == intentRole && s.room.head.Kind == store.RoomFollower && s.room.group != nil {
			s.writePower(s.portalPower())
		}
		s.tell(d, "This could not be done: "+why+".")
	case intentMetadata:
		s.revertMetadata()
		s.tell(d, "The change was not accepted: "+why+".")
	}
}

// refuseAdd: a ghost declines, with the reason in its leave event; a user of ours is put out of a portal again.
func (s *step) refuseAdd(i *store.Intent, d intentData, why string) {
	mxid := d.MXID
	if mxid == "" {
		if m, err := s.memberOf(i.Target); err == nil {
			mxid = m.MXID
		}
	}
	m, known := s.room.members.of(mxid)
	if !known && !s.ours(mxid) {
		return
	}
	if s.own(i.Target) {
		if s.room.head.Kind == store.RoomFollower && m.Membership == string(event.Join) {
			s.matrix(event.KickUser{Target: userID(mxid), Reason: why, Was: event.Join})
			m.Membership = string(event.Leave)
			s.setMember(m)
		}
		s.tell(d, mxid+" could not be added: "+why+".")
		return
	}
	if m.Membership == string(event.Invite) || m.Membership == string(event.Join) {
		s.matrix(event.LeaveRoom{Sender: userID(mxid), Reason: why, Was: event.Membership(m.Membership)})
		m.Membership = string(event.Leave)
		s.setMember(m)
	}
	s.tell(d, s.nameOf(i.Target)+" could not be invited: "+why+".")
}

// putBack shows a participant whom Matrix put out and the room kept.
func (s *step) putBack(user string) {
	if s.room.group == nil {
		return
	}
	role := s.room.policy.RoleIndex(user)
	if role == policy.RoleNone || role == policy.RoleBanned {
		return
	}
	m, err := s.memberOf(user)
	if err != nil {
		return
	}
	s.placeIn(&m, policy.RoleNone, cause{})
	s.setMember(m)
}

// revertMetadata shows name and topic as the room has them.
func (s *step) revertMetadata() {
	if s.room.head.Kind == store.RoomFollower {
		s.placeMetadata(cause{})
	}
}

// tell says something to who asked, in the room; in the chat with the bot when nobody of ours is in the room, and when they have
// not come into a chat that the bot made for them, which is of no use now.
func (s *step) tell(d intentData, text string) {
	if d.By == "" || s.ours(d.By) {
		return
	}
	v := s.room
	if by, _ := v.members.of(d.By); v.group == nil && v.st.Opening != nil && v.st.Opening.Direct && by.Membership == string(event.Invite) && s.tellUser(d.By, text) {
		if v.head.MatrixRoomID != "" {
			s.matrix(event.KickUser{Target: userID(d.By), Reason: "nobody came", Was: event.Invite})
		}
		by.Membership = string(event.Leave)
		s.setMember(by)
		return
	}
	if _, there := s.speakerThere(); !there {
		s.tellUser(d.By, text)
		return
	}
	s.notice(text, d.Event)
}

func ignoreNotFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
