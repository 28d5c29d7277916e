package relay

import (
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Acting as Matrix users (bridge.double_puppet). The bridge joins them to rooms that they agreed to, and marks direct chats as
// such for their clients. It never writes a message or a receipt in their name, so nothing of that comes back as theirs.

// puppet tells whether the bridge may act as a Matrix user.
func (s *step) puppet(mxid string) bool {
	_, server, err := mapping.SplitMXID(mxid)
	return s.cfg.DoublePuppet && err == nil && server == s.Naming.Server && s.exported(mxid)
}

// agree notes whether a user wants to be in the room: it asked for it, or it left.
func (s *step) agree(mxid string, yes bool) {
	m, _ := s.room.members.of(mxid)
	if d := dataOfMember(m); d.Agreed != yes {
		d.Agreed = yes
		s.setMemberData(m, d)
	}
}

// agreed tells whether a user wants to be in the room: it asked for it, or it let somebody who takes part invite it.
func (s *step) agreed(m store.Member) bool {
	if dataOfMember(m).Agreed {
		return true
	}
	given, err := s.Store.ConsentsOf(s.ctx, store.In, wire.IdentifierURI(m.URI).Key())
	if err != nil || s.room.policy == nil {
		return false
	}
	for _, p := range s.room.policy.Participants {
		if requester := wire.IdentifierURI(p.User).Key(); stateIn(given, requester, s.room.uri().Key()) == store.ConsentGranted {
			return true
		}
	}
	return false
}

// follow joins a user to the room that it was just invited to, where it agreed, and marks a direct chat.
func (s *step) follow(m store.Member) {
	if !s.puppet(m.MXID) {
		return
	}
	if s.fixed() {
		s.markDirect(m.MXID)
	}
	if s.agreed(m) {
		s.matrix(event.JoinRoom{Sender: userID(m.MXID)})
	}
}

// markDirect tells the clients of a user that the room is a direct chat with the others in it.
func (s *step) markDirect(mxid string) {
	var with []id.UserID
	for _, p := range s.room.policy.Participants {
		if m, ok := s.room.members.ofURI(p.User); ok && m.MXID != mxid {
			with = append(with, userID(m.MXID))
		} else if !ok {
			if other, _, err := s.mxidOf(p.User); err == nil && other != mxid {
				with = append(with, userID(other))
			}
		}
	}
	s.matrix(event.MarkDirect{User: userID(mxid), With: with})
}
