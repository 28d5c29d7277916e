package relay

import (
	"cmp"
	"slices"
	"strings"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
	"github.com/matrix-mimi/bridge/puppets"
)

// cause is who brought a change about.
type cause struct {
	actor string          // user URI of the committer
	self  map[string]bool // users who changed themselves: they left
	ours  bool            // our own commit as a follower
	// joiner is the user of ours who joined by an external commit that begins the group for us.
	joiner string
}

// reconcile brings the Matrix room in line with what a commit changed (docs/mapping.md §4, §6): who is in the list, who is
// banned, name and topic. What Matrix shows already is left alone, so that a change that came from there does not go
// back.
func (s *step) reconcile(was before, why cause) error {
	v := s.room
	changed := map[string][2]uint32{}
	if was.policy != nil {
		for _, p := range was.policy.Participants {
			changed[p.User] = [2]uint32{p.Role, policy.RoleNone}
		}
	}
	for _, p := range v.policy.Participants {
		c := changed[p.User]
		changed[p.User] = [2]uint32{c[0], p.Role}
	}
	// In the order of the lists, so that the same commit gives the same rows.
	var order []string
	if was.policy != nil {
		for _, p := range was.policy.Participants {
			order = append(order, p.User)
		}
	}
	for _, p := range v.policy.Participants {
		if was.policy == nil || was.policy.RoleIndex(p.User) == policy.RoleNone {
			order = append(order, p.User)
		}
	}
	if v.head.Kind == store.RoomFollower {
		// Ghosts first: the one who brought our users in is to be there when it invites them.
		slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(btoi(s.own(a)), btoi(s.own(b))) })
	}
	for _, user := range order {
		c := changed[user]
		if c[0] != c[1] || was.policy == nil {
			if err := s.placeUser(user, c[0], c[1], why); err != nil {
				return err
			}
		}
	}
	s.noteLeaves()
	s.placePower(was, why)
	s.placeMetadata(why)
	s.placeConditions()
	s.tellStatus()
	s.followProviders(was.policy)
	s.leaveUnlogged()
	return s.checkAlive()
}

// placeUser makes Matrix show a participant's new place.
func (s *step) placeUser(user string, from, to uint32, why cause) error {
	if user == s.bot {
		return nil
	}
	m, err := s.memberOf(user)
	if err != nil {
		s.Log.Warn().Err(err).Stringer("room", s.room.head.ID).Msg("a participant has no place in Matrix")
		return nil
	}
	gone := m.Listed && !m.Ghost && m.Membership == string(event.Leave) // a participant who left all the same
	m.Listed, m.Role = to != policy.RoleNone, int64(to)
	switch {
	case to == policy.RoleNone:
		s.placeOut(&m, from, why)
	case to == policy.RoleBanned:
		s.placeBanned(&m, why)
	case s.going(user), gone && why.joiner != "" && why.joiner != user:
	default:
		s.placeIn(&m, from, why)
		if m.Ghost {
			s.wantProfile(user)
		}
	}
	s.setMember(m)
	return nil
}

// going tells whether Matrix has put a user out, or the user has left, and the list is to follow.
func (s *step) going(user string) bool {
	return s.wished(user, intentLeave, intentRemove, intentBan)
}

// wished tells whether there is a wish about a user of one of the kinds.
func (s *step) wished(user string, kinds ...string) bool {
	return slices.ContainsFunc(s.room.intents, func(i store.Intent) bool { return i.Target == user && slices.Contains(kinds, i.Kind) })
}

// placeIn makes a participant a member: a ghost joins, a user of ours is invited.
func (s *step) placeIn(m *store.Member, from uint32, why cause) {
	if m.Membership == string(event.Ban) {
		s.matrix(event.UnbanUser{Sender: s.handOf(why), Target: userID(m.MXID)})
		m.Membership = string(event.Leave)
	}
	switch {
	case m.Membership == string(event.Join):
	case m.Ghost:
		if s.room.head.Kind == store.RoomHub && m.Membership != string(event.Invite) {
			s.matrix(event.InviteUser{Sender: s.inviter(why, m.MXID), Target: userID(m.MXID), Direct: s.fixed()})
		}
		s.matrix(event.JoinRoom{Sender: userID(m.MXID), InviteFirst: s.room.head.Kind == store.RoomFollower})
		m.Membership = string(event.Join)
	case m.Membership != string(event.Invite):
		s.matrix(event.InviteUser{Sender: s.inviter(why, m.MXID), Target: userID(m.MXID), Direct: s.fixed()})
		m.Membership = string(event.Invite)
		s.follow(*m)
	}
}

// placeOut makes somebody who is no participant any more leave.
func (s *step) placeOut(m *store.Member, from uint32, why cause) {
	if from == policy.RoleBanned {
		if m.Membership == string(event.Ban) {
			s.matrix(event.UnbanUser{Sender: s.handOf(why), Target: userID(m.MXID)})
			m.Membership = string(event.Leave)
		}
		return
	}
	if m.Membership != string(event.Join) && m.Membership != string(event.Invite) {
		return
	}
	if !m.Ghost && s.room.st.Unlogged && m.Membership == string(event.Join) {
		return // keeps the portal to read
	}
	if !m.Ghost && why.self[m.URI] && m.Membership == string(event.Join) && s.room.head.State == stateActive {
		// Left, and came back before the commit that took them out.
		s.wish(intentAdd, s.inviterOf(m.MXID), m.URI, intentData{MXID: m.MXID})
		return
	}
	if m.Ghost {
		reason := ""
		if why.actor != m.URI && !why.self[m.URI] {
			reason = "removed by " + s.nameOf(why.actor)
		}
		s.matrix(event.LeaveRoom{Sender: userID(m.MXID), Reason: reason, Was: event.Membership(m.Membership)})
	} else {
		s.matrix(event.KickUser{Sender: s.handOf(why), Target: userID(m.MXID), Reason: "removed by " + s.nameOf(why.actor),
			Was: event.Membership(m.Membership)})
	}
	m.Membership = string(event.Leave)
}

func (s *step) placeBanned(m *store.Member, why cause) {
	if m.Membership == string(event.Ban) {
		return
	}
	s.matrix(event.BanUser{Sender: s.handOf(why), Target: userID(m.MXID), Reason: "banned by " + s.nameOf(why.actor)})
	m.Membership = string(event.Ban)
}

// handOf is who carries a removal or ban out in Matrix: in a portal the bot, which has the power; in a hub room the ghost
// of the one who did it, who has power there only if people gave it.
func (s *step) handOf(why cause) id.UserID {
	if s.room.head.Kind == store.RoomHub && !s.own(why.actor) {
		if m, ok := s.room.members.ofURI(why.actor); ok && m.Ghost && m.Membership == string(event.Join) {
			return userID(m.MXID)
		}
	}
	return userID(s.cfg.Bot)
}

// inviter is who invites somebody in Matrix: the ghost of the one who brought them in, so that people see by whom they are
// invited. In a portal the bot does it for one who has not the power there.
func (s *step) inviter(why cause, except string) id.UserID {
	portal := s.room.head.Kind == store.RoomFollower
	m, ok := s.room.members.ofURI(why.actor)
	if ok && m.Ghost && m.Membership == string(event.Join) && m.MXID != except {
		if p := s.room.matrix.power(); !portal || p.User(userID(m.MXID)) >= p.Invite {
			return userID(m.MXID)
		}
	}
	if portal {
		return userID(s.cfg.Bot)
	}
	return s.speaker()
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// nameOf names a user for people on Matrix, within a sentence of the bridge.
func (s *step) nameOf(user string) string {
	if user == "" {
		return "the room"
	}
	if m, ok := s.room.members.ofURI(user); ok {
		switch {
		case m.Display != "":
			return html.Apart(html.Name(m.Display))
		case m.Ghost:
			return html.Apart(puppets.Name(s.cfg.GhostName, "", wire.IdentifierURI(user)))
		}
		return m.MXID
	}
	return user
}

// memberOf returns the member that a participant is in Matrix. A ghost whose name is a hash is remembered by its URI.
func (s *step) memberOf(user string) (store.Member, error) {
	if m, ok := s.room.members.ofURI(user); ok {
		return m, nil
	}
	mxid, ghost, err := s.mxidOf(user)
	if err != nil {
		return store.Member{}, err
	}
	m, _ := s.room.members.of(mxid)
	m.URI, m.Ghost = user, ghost
	if ghost && m.Display == "" {
		m.Display = puppets.Name(s.cfg.GhostName, "", wire.IdentifierURI(user))
	}
	return m, nil
}

// mxidOf returns the Matrix user that a MIMI user is: a user of ours, or a ghost. The ghost is noted in the table of
// ghosts, so that its name and its URI are found when it is registered.
func (s *step) mxidOf(user string) (mxid string, ghost bool, err error) {
	uri := wire.IdentifierURI(user)
	if s.Naming.Own(uri) {
		mxid, err = s.Naming.ParseUserURI(uri)
		return mxid, false, err
	}
	mxid, _, err = s.Naming.GhostMXID(uri)
	if err != nil {
		return "", true, err
	}
	s.noteGhost(mxid, user)
	return mxid, true, nil
}

// noteGhost writes a ghost that is not known yet.
func (s *step) noteGhost(mxid, user string) {
	for _, g := range s.fx.ghosts {
		if g.MXID == mxid {
			return
		}
	}
	if _, err := s.Store.Ghost(s.ctx, mxid); err == nil {
		return
	}
	s.fx.ghosts = append(s.fx.ghosts, store.Ghost{MXID: mxid, URI: user,
		Display: puppets.Name(s.cfg.GhostName, "", wire.IdentifierURI(user)), UpdatedMS: s.nowMS()})
}

// ownMXID returns the Matrix user of one of our user URIs.
func (r *Relay) ownMXID(user string) (string, error) {
	return r.Naming.ParseUserURI(wire.IdentifierURI(user))
}

// noteLeaves writes down which members have an own leaf.
func (s *step) noteLeaves() {
	for _, m := range s.room.members.byMXID {
		leaf := int64(-1)
		if m.URI != "" && !m.Ghost {
			if l, ok := s.room.ownLeaf(m.URI); ok {
				leaf = int64(l)
			}
		}
		if leaf != m.Leaf {
			m.Leaf = leaf
			s.setMember(m)
		}
	}
}

// placeMetadata makes Matrix show name and topic (docs/mapping.md §6).
func (s *step) placeMetadata(why cause) {
	v := s.room
	if v.head.MatrixRoomID == "" {
		return // the portal is made with them
	}
	meta := v.policy.Metadata
	s.setText(s.stateHand(why), event.TypeName, "name", cleanName(meta.RoomName), &v.matrix.Name)
	if topic := s.topicOf(meta); topic != v.matrix.Topic {
		s.matrix(event.State{Sender: s.stateHand(why), Type: event.TypeTopic, Content: s.topicContent(topic),
			Was: mustJSON(map[string]string{"topic": v.matrix.Topic})})
		v.matrix.Topic = topic
	}
	s.placeRest(why)
}

// setText writes a state event with one text, of which have is what is known, when it is another.
func (s *step) setText(sender id.UserID, kind, key, text string, have *string) {
	if *have == text {
		return
	}
	s.matrix(event.State{Sender: sender, Type: kind, Content: mustJSON(map[string]string{key: text}), Was: mustJSON(map[string]string{key: *have})})
	*have = text
}

// stateHand is who writes a state event.
func (s *step) stateHand(why cause) id.UserID {
	if s.room.head.Kind == store.RoomFollower {
		return userID(s.cfg.Bot)
	}
	return s.handOf(why)
}

// cleanName bounds a name and drops control characters.
func cleanName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, name)
	return cutRunes(name, 255)
}

// topicOf is the topic of a room: its subject, or else the description that suits best.
func (s *step) topicOf(m policy.RoomMetaData) string {
	if m.RoomSubject != "" {
		return cutRunes(m.RoomSubject, 4096)
	}
	return cutRunes(mapping.ShowMetadata(m, s.cfg.Mapping.Languages).Topic, 4096)
}

func cutRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// checkAlive closes a follower room when no client of ours is in the group any more: its secrets are gone, and what is
// left of the group is of no use. Nor is a group that its hub ended by a ReInit to begin another: a Welcome leads into that one,
// or who writes first joins it.
func (s *step) checkAlive() error {
	v := s.room
	if v.head.Kind != store.RoomFollower || v.group == nil {
		return nil
	}
	if v.group.Closed() {
		return s.closeRoom()
	}
	if v.group.OwnCount() > 0 {
		return nil
	}
	for _, mxid := range sortedKeys(v.members.byMXID) {
		if m := v.members.byMXID[mxid]; m.Listed && !m.Ghost && m.Membership == string(event.Join) && !v.st.Unlogged {
			s.notice("Your client was removed from this room. It comes back when you write something.", "")
			break
		}
	}
	return s.closeRoom()
}

// closeRoom forgets the group. The portal stays, for the case that somebody is invited again.
func (s *step) closeRoom() error {
	v := s.room
	if v.pending != nil {
		s.clearPending()
	}
	for _, i := range slices.Clone(v.intents) {
		s.closeIntents(i.Seq)
	}
	s.fx.dropGroup, s.fx.newGroup, s.fx.changes = true, nil, nil
	v.setGroup(nil)
	v.head.State, v.head.Epoch = stateClosed, -1
	v.st.Resync = nil
	v.forgetRenewed(0)
	s.releaseAll()
	return nil
}
