package relay

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Rooms of fixed membership (draft-ietf-mimi-room-policy-03, Base Room Policy): direct chats, of two or of a set of more.
// Exactly these people take part, so the bot, which is in the Matrix room, is no participant; a client of a Matrix user makes
// the group and commits. All who take part are in the list from the first epoch, because nobody can be added later; the
// commit that follows brings all their clients. A set of people has one such room at a hub.

// maxSet bounds the people of a direct chat.
const maxSet = 50

// setKey names a set of users in the table of direct rooms: a pair by its members, a larger one by their hash.
func setKey(users []string) (one, other string) {
	keys := make([]string, len(users))
	for i, u := range users {
		keys[i] = wire.IdentifierURI(u).Key()
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	if len(keys) == 2 {
		return keys[0], keys[1]
	}
	return fmt.Sprintf("set:%x", sha256.Sum256([]byte(strings.Join(keys, "\n")))), ""
}

// fixed tells whether nobody can be added to the room.
func (s *step) fixed() bool { return s.room.policy != nil && s.room.policy.Base.FixedMembership }

// foundingSet are those who are to take part in a direct chat that is being made, the one who makes the group first. ok is
// false for an ordinary room: one that was not meant to be direct, or where there are others than one Matrix user and
// one MIMI user in a room that Matrix calls direct.
func (s *step) foundingSet() (set []store.Member, ok bool) {
	v, o := s.room, s.room.st.Opening
	if o == nil || !o.Direct {
		return nil, false
	}
	by, _ := v.members.of(o.By)
	if by.URI == "" {
		by.URI = s.actorOf(o.By)
	}
	set = append(set, by)
	for _, mxid := range sortedKeys(v.members.byMXID) {
		m := v.members.byMXID[mxid]
		in := m.Membership == string(event.Join) || m.Membership == string(event.Invite)
		switch {
		case mxid == o.By, mxid == s.cfg.Bot:
		case o.Set == nil && in && !m.Ghost:
			return nil, false
		case o.Set == nil && in && m.Ghost:
			if m.URI == "" {
				m.URI = s.actorOf(mxid)
			}
			set = append(set, m)
		}
	}
	for _, user := range o.Set {
		m, err := s.memberOf(user)
		if err != nil {
			return nil, false
		}
		set = append(set, m)
	}
	return set, s.exported(o.By) && (o.Set != nil || len(set) == 2)
}

// unclaimed tells whether somebody of a set that is asked for has no KeyPackages yet.
func (s *step) unclaimed() bool {
	for n := range s.room.intents {
		i := &s.room.intents[n]
		if i.Kind != intentAdd || s.own(i.Target) {
			continue
		}
		if d, err := dataOf(i); err != nil || len(d.Packages) == 0 {
			return true
		}
	}
	return false
}

// makeFixed makes the group of a direct chat.
func (s *step) makeFixed(set []store.Member) error {
	v := s.room
	users := make([]string, len(set))
	for i, m := range set {
		users[i] = m.URI
	}
	one, other := setKey(users)
	if had, err := s.Store.DirectRoom(s.ctx, s.Naming.Domain, one, other); err == nil && had != v.head.ID {
		return s.notOpened("you have this conversation already")
	}
	s.fx.direct = &directRoom{s.Naming.Domain, one, other}
	var list policy.ParticipantList
	for _, u := range users {
		list = append(list, policy.UserRolePair{User: u, Role: policy.RoleMember})
	}
	v.st.Founding = true
	if err := s.newGroup(list, set[0].MXID); err != nil {
		return err
	}
	v.head.State = stateActive
	for _, m := range set {
		m.Listed, m.Role = true, int64(policy.RoleMember)
		if m.Ghost {
			s.placeIn(&m, policy.RoleNone, cause{})
		}
		s.setMember(m)
	}
	if s.puppet(set[0].MXID) {
		s.markDirect(set[0].MXID)
	}
	return nil
}

// founder commits for everybody while a direct chat is made: no role has the right to add clients of others afterwards.
func (s *step) founder() (user string, ok bool) {
	v := s.room
	if !v.st.Founding || v.group == nil {
		return "", false
	}
	leaves := v.group.OwnLeaves()
	if len(leaves) == 0 {
		return "", false
	}
	id, ok := v.leaves.Who(leaves[0])
	return s.listedURI(id.User), ok
}

// founded ends the founding when nobody is left to be brought in.
func (s *step) founded() {
	for n := range s.room.intents {
		if s.room.intents[n].Kind == intentAdd {
			return
		}
	}
	s.room.st.Founding = false
}

// claimAgain asks for KeyPackages that ran out while others were waited for.
func (s *step) claimAgain() error {
	for n := range s.room.intents {
		i := &s.room.intents[n]
		d, err := dataOf(i)
		if err != nil {
			return err
		}
		if i.Kind == intentAdd && i.State == store.IntentOpen && len(d.Packages) == 0 {
			if err := s.claim(i, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// callBack invites users of ours into a direct chat that they left: it cannot be left, and somebody writes to them.
func (s *step) callBack() {
	if !s.fixed() {
		return
	}
	for _, p := range s.room.policy.Participants {
		m, ok := s.room.members.ofURI(p.User)
		if !ok || m.Ghost || !s.active(p.User) || m.Membership == string(event.Join) || m.Membership == string(event.Invite) {
			continue
		}
		s.placeIn(&m, policy.RoleNone, cause{})
		s.setMember(m)
	}
}

// noteAlone tells once who writes into a direct chat that nobody else has a client in.
func (s *step) noteAlone() {
	if !s.fixed() || s.room.st.Founding {
		return
	}
	for _, p := range s.room.policy.Participants {
		if !s.own(p.User) && s.room.leaves.Active(wire.IdentifierURI(p.User)) || s.own(p.User) && s.room.group.OwnCount() > 1 {
			return
		}
	}
	s.once("alone", func() {
		s.notice("Nobody else has a client in this conversation now: what you write reaches nobody.", "")
	})
}

// noteDirect remembers a direct chat that another provider leads, so that its people have no second one with us.
func (s *step) noteDirect() {
	v := s.room
	if !s.fixed() || v.head.Kind != store.RoomFollower {
		return
	}
	var users []string
	for _, p := range v.policy.Participants {
		users = append(users, p.User)
	}
	one, other := setKey(users)
	if _, err := s.Store.DirectRoom(s.ctx, v.head.Hub, one, other); err == nil {
		return // this one, or a hub that keeps two
	}
	s.fx.direct = &directRoom{v.head.Hub, one, other}
}
