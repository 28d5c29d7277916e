package relay

import (
	"slices"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// looped tells whether a message is an event of this very Matrix room that another bridge put into the MIMI room, too (mapping
// §8): it names the event, and we have it. The other way round the mark on our own events tells (mapping.DropLoop).
func (s *step) looped(m *content.Message) bool {
	ev, domain, ok := m.Extensions.ExternalID()
	if !ok || domain != s.Naming.Server {
		return false
	}
	if _, err := s.Store.LinkByEvent(s.ctx, s.room.head.ID, string(ev)); err != nil {
		return false
	}
	s.once("loop", func() {
		s.Alert("loop", "the Matrix room of "+s.room.head.URI+" is joined to it by two bridges")
		s.notice("This room is joined to the same MIMI room twice. What the other bridge sends is not shown.", "")
	})
	return true
}

// addsDenied tells whether a commit adds somebody of a provider that the Matrix room keeps out by m.room.server_acl.
func (s *step) addsDenied(staged *mls.Staged) bool {
	if s.room.matrix.ACL == nil {
		return false
	}
	next, err := policyState(staged.Dictionary())
	if err != nil {
		return true
	}
	return slices.ContainsFunc(next.Participants, func(p policy.UserRolePair) bool {
		return p.Role > policy.RoleBanned && s.room.policy.RoleIndex(p.User) <= policy.RoleBanned && s.denied(wire.IdentifierURI(p.User).Domain())
	})
}

// denied tells whether the Matrix room's list of servers keeps a provider out.
func (s *step) denied(domain string) bool { return s.room.matrix.ACL.Denies(domain) }

// powerHand chooses who writes power levels in a hub room: the ghost of who did it, or the bot, whoever has the power; "" when
// neither has.
func (s *step) powerHand(why cause) id.UserID {
	p := s.room.matrix.power()
	hands := []string{s.cfg.Bot}
	if m, ok := s.room.members.ofURI(why.actor); ok && m.Ghost {
		hands = []string{m.MXID, s.cfg.Bot}
	}
	for _, hand := range hands {
		if s.room.members.joined(hand) && p.User(userID(hand)) >= p.State(event.TypePowerLevels) {
			return userID(hand)
		}
	}
	return ""
}
