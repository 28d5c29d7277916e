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

// keepsOut tells whether proposals bring in somebody whom the room keeps out: of a provider that m.room.server_acl of the Matrix room
// denies, or that is not spoken with. Who is in the room already stays.
func (s *step) keepsOut(proposals []*mls.Proposal) bool {
	return slices.ContainsFunc(proposals, func(p *mls.Proposal) bool {
		u := p.AppDataUpdate
		if u == nil || u.Component != mls.ComponentParticipantList {
			return false
		}
		update, err := policy.UnmarshalParticipantListUpdate(u.Update)
		if err != nil {
			return true
		}
		changes, err := update.Changes(s.room.policy.Participants, nil)
		return err != nil || slices.ContainsFunc(changes, func(c policy.ParticipantChange) bool {
			return c.To > policy.RoleBanned && c.From <= policy.RoleBanned && (s.denied(wire.IdentifierURI(c.User).Domain()) || s.blockedUser(c.User))
		})
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
