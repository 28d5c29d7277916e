package relay

import (
	"context"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// onMatrix takes an event of the Matrix room.
func (s *step) onMatrix(in *store.Input) error {
	ev, err := event.ParseChecked(in.Body)
	if err != nil {
		s.Log.Info().Err(err).Stringer("room", s.room.head.ID).Str("source", in.Source).Str("fate", "ignored").Msg("event was not understood")
		return nil
	}
	switch {
	case ev.Type == event.TypeMember:
		return s.onMember(ev)
	case ev.StateKey != nil && !beacon(&ev):
		return s.onState(ev)
	}
	if s.refusedClear(ev) {
		return nil
	}
	return s.onMessage(ev)
}

// ours tells whether a Matrix user is the bot or a ghost.
func (r *Relay) ours(mxid string) bool { return mxid == r.cfg.Bot || r.Naming.IsGhost(mxid) }

// exported tells whether a Matrix user takes part in MIMI rooms.
func (r *Relay) exported(mxid string) bool { return !r.ours(mxid) && r.Permitted(mxid) }

// actorOf is the MIMI user URI of a Matrix user, "" when there is none.
func (s *step) actorOf(mxid string) string {
	if s.Naming.IsGhost(mxid) && !s.visitor(mxid) {
		uri, err := s.ghostURI(mxid)
		if err != nil {
			return ""
		}
		return uri
	}
	uri, err := s.Naming.UserURI(mxid)
	if err != nil {
		return ""
	}
	return string(uri)
}

// ghostURI returns the MIMI user that a ghost stands for: octet for octet as first received where it is known.
func (s *step) ghostURI(mxid string) (string, error) {
	if m, ok := s.room.members.byMXID[mxid]; ok && m.URI != "" {
		return m.URI, nil
	}
	return s.knownGhostURI(s.ctx, mxid)
}

// knownGhostURI is ghostURI without a room.
func (r *Relay) knownGhostURI(ctx context.Context, mxid string) (string, error) {
	if g, err := r.Store.Ghost(ctx, mxid); err == nil {
		return g.URI, nil
	}
	uri, err := r.Naming.ParseGhostMXID(mxid)
	return string(uri), err
}

// onMember takes a change of membership (docs/mapping.md §4). What it was before is asked of our own table.
func (s *step) onMember(ev event.Event) error {
	m, ok := ev.Member()
	if !ok {
		return nil
	}
	target, sender := string(m.User), string(m.Sender)
	had, _ := s.room.members.of(target)
	if s.hosts(target) && s.echo(sender) {
		return nil // our own doing, written down when it was asked for
	}
	if !s.ours(target) && s.exported(target) && m.Membership == event.Join && had.Membership == string(event.Join) {
		s.current.renamedUser(target)
	}
	move := m.Classify(event.Membership(had.Membership), had.Display != m.DisplayName && m.DisplayName != "")
	had.Membership, had.Ghost = string(m.Membership), s.hosts(target)
	if m.DisplayName != "" && !had.Ghost {
		had.Display = m.DisplayName
	}
	if move == event.MoveNothing {
		return nil
	}
	if had.URI == "" && s.room.head.Kind != store.RoomNone && (had.Ghost || s.present(target)) {
		had.URI = s.actorOf(target)
	}
	s.setMember(had)
	if s.room.head.Kind == store.RoomNone && m.Membership != event.Invite {
		s.chatChanged()
	}
	switch {
	case target == s.cfg.Bot:
		return s.onBotMoved(move, m)
	case had.Ghost:
		return s.onGhostMoved(ev, move, m)
	case s.present(target):
		return s.onUserMoved(ev, move, m)
	}
	return nil
}

// onBotMoved: the bot follows an invitation of somebody who may take part.
func (s *step) onBotMoved(move event.Move, m event.Member) error {
	if move != event.MoveInvited {
		return nil
	}
	if !s.Permitted(string(m.Sender)) {
		s.matrix(event.LeaveRoom{Sender: userID(s.cfg.Bot), Reason: "you are not allowed to use this bridge"})
		return nil
	}
	o := s.matrix(event.JoinRoom{Sender: userID(s.cfg.Bot)})
	ask(o, refBotJoin+":"+string(m.Sender), 0)
	return nil
}

// onGhostMoved: somebody on Matrix did something to a ghost.
func (s *step) onGhostMoved(ev event.Event, move event.Move, m event.Member) error {
	v := s.room
	uri, err := s.ghostURI(string(m.User))
	if err != nil || s.blockedUser(uri) || s.denied(wire.IdentifierURI(uri).Domain()) {
		if move == event.MoveInvited {
			s.declineGhost(m.User, "nobody is known by this name")
		}
		return nil
	}
	d := intentData{MXID: string(m.User), Event: string(ev.ID), By: string(m.Sender), Reason: m.Reason}
	actor := s.actorOf(string(m.Sender))
	switch move {
	case event.MoveInvited:
		return s.onGhostInvited(m, uri, actor, d)
	case event.MoveKicked, event.MoveWithdrawn:
		s.knockAnswered(uri, wire.KnockDeclined)
		s.cancel(intentAdd, uri)
		if s.listed(uri) || s.coming(uri) {
			s.wish(intentRemove, actor, uri, d)
		}
	case event.MoveBanned:
		s.knockAnswered(uri, wire.KnockDeclined)
		s.cancel(intentAdd, uri)
		if v.group != nil {
			s.wish(intentBan, actor, uri, d)
		}
	case event.MoveUnbanned:
		s.cancel(intentBan, uri)
		if v.group != nil && v.policy.RoleIndex(uri) == policy.RoleBanned {
			s.wish(intentUnban, actor, uri, d)
		}
	}
	return nil
}

// onGhostInvited: somebody on Matrix invited the ghost of the user uri; actor is the MIMI user who did. A room without a MIMI side gets one.
func (s *step) onGhostInvited(m event.Member, uri, actor string, d intentData) error {
	if !s.present(string(m.Sender)) {
		s.declineGhost(m.User, "you are not allowed to use this bridge")
		return nil
	}
	if !m.Direct {
		s.gather(uri, &d)
	}
	if s.room.head.Kind == store.RoomNone {
		if old, ok := s.replaces(); ok {
			s.goOver(old, m, uri)
			return nil
		}
		if had, ok := s.directBefore(m, uri); ok {
			s.declineGhost(m.User, "you have a conversation already")
			s.sayIn(had, action{Do: actStart, By: string(m.Sender), Users: []string{uri}})
			return nil
		}
		return s.open(m, uri, d)
	}
	s.noteGhost(string(m.User), uri)
	s.knockAnswered(uri, wire.KnockAccepted)
	s.wish(intentAdd, actor, uri, d)
	return s.claimOpen()
}

func (s *step) declineGhost(ghost id.UserID, why string) {
	s.matrix(event.LeaveRoom{Sender: ghost, Reason: why})
	m, _ := s.room.members.of(string(ghost))
	m.Membership, m.Ghost = string(event.Leave), true
	s.setMember(m)
}

// onUserMoved: a Matrix user who takes part came or went.
func (s *step) onUserMoved(ev event.Event, move event.Move, m event.Member) error {
	v := s.room
	if move == event.MoveLeft || move == event.MoveRejected {
		s.openLeft(m.User)
	}
	if v.head.Kind == store.RoomNone || v.head.Kind == store.RoomHub && v.group == nil {
		return nil // read from the Matrix room when the group is made
	}
	uri := s.actorOf(string(m.User))
	d := intentData{MXID: string(m.User), Event: string(ev.ID), By: string(m.Sender), Reason: m.Reason}
	actor := s.actorOf(string(m.Sender))
	switch move {
	case event.MoveJoined:
		s.onUserJoined(m, uri, actor, d)
	case event.MoveInvited:
		s.noteInviter(string(m.User), string(m.Sender))
	case event.MoveLeft, event.MoveRejected:
		s.agree(string(m.User), false)
		s.cancel(intentAdd, uri)
		s.joinLeft(string(m.User))
		if s.fixed() && move == event.MoveLeft {
			return nil // a direct chat cannot be left: the user comes back when somebody writes
		}
		if s.listed(uri) || s.coming(uri) {
			s.wish(intentLeave, uri, uri, d)
		}
	case event.MoveKicked, event.MoveWithdrawn:
		s.cancel(intentAdd, uri)
		if move == event.MoveKicked {
			s.joinLeft(string(m.User))
		}
		if (s.listed(uri) || move == event.MoveKicked && s.coming(uri)) && !s.echo(string(m.Sender)) {
			s.wish(intentRemove, actor, uri, d)
		}
	case event.MoveBanned:
		s.cancel(intentAdd, uri)
		s.joinLeft(string(m.User))
		if !s.echo(string(m.Sender)) {
			s.wish(intentBan, actor, uri, d)
		}
	case event.MoveUnbanned:
		if !s.echo(string(m.Sender)) && v.group != nil && v.policy.RoleIndex(uri) == policy.RoleBanned {
			s.wish(intentUnban, actor, uri, d)
		}
	}
	return nil
}

// onUserJoined: the Matrix user who is uri came, or was let in by actor, and takes part from now on.
func (s *step) onUserJoined(m event.Member, uri, actor string, d intentData) {
	v := s.room
	s.tellEncrypted()
	s.cancel(intentLeave, uri)
	s.cancel(intentRemove, uri)
	if s.listed(uri) && s.active(uri) {
		return
	}
	if v.head.Kind == store.RoomHub && v.group.OwnCount() > s.cfg.MaxExport {
		return // who speaks gets a client then (docs/mapping.md §3)
	}
	if inviter := s.inviterOf(string(m.User)); v.head.Kind == store.RoomFollower && inviter != "" {
		actor = inviter
	}
	if s.visitor(string(m.User)) {
		actor = "" // whoever of ours may: a visitor came in over the other world's door
	}
	s.wish(intentAdd, actor, uri, d)
}

// listed tells whether a user is a participant who is not banned.
func (s *step) listed(uri string) bool {
	return s.room.group != nil && s.room.policy.RoleIndex(uri) > policy.RoleBanned
}

// active tells whether a user of ours has a client in the group.
func (s *step) active(uri string) bool {
	_, ok := s.room.ownLeaf(uri)
	return ok
}

// cancel takes back a wish that was not carried out.
func (s *step) cancel(kind, target string) {
	for _, i := range s.room.intents {
		if i.Kind == kind && i.Target == target && i.State != store.IntentStaged && !(kind == intentLeave && i.State == store.IntentAsking) {
			s.takeBackConsent(&i)
			s.closeIntents(i.Seq)
			return
		}
	}
}

// memberData is what is remembered of a member beside the columns.
type memberData struct {
	Inviter  string `json:"inviter,omitempty"`  // MXID of who invited a user
	Agreed   bool   `json:"agreed,omitempty"`   // the user asked to be in the room
	Read     int64  `json:"read,omitempty"`     // number of the link up to which the user is known to have read
	Reading  int64  `json:"reading,omitempty"`  // the same, not reported yet
	Stranger bool   `json:"stranger,omitempty"` // was banned without ever having been invited or in the room
	// Unreported is the number of the link up to which the user has read without others being told.
	Unreported int64 `json:"unreported,omitempty"`
}

func (s *step) noteInviter(mxid, inviter string) {
	m, _ := s.room.members.of(mxid)
	d := dataOfMember(m)
	d.Inviter = inviter
	s.setMemberData(m, d)
}

func dataOfMember(m store.Member) (d memberData) {
	if m.Data != "" {
		_ = unmarshalString(m.Data, &d) // we wrote it
	}
	return d
}

func (s *step) setMemberData(m store.Member, d memberData) {
	m.Data = string(mustJSON(d))
	s.setMember(m)
}

// inviterOf is the MIMI user who invited a Matrix user, "" when nobody of ours did.
func (s *step) inviterOf(mxid string) string {
	m, ok := s.room.members.byMXID[mxid]
	if !ok || m.Data == "" {
		return ""
	}
	var d memberData
	if err := unmarshalString(m.Data, &d); err != nil || d.Inviter == "" || s.echo(d.Inviter) {
		return ""
	}
	return s.actorOf(d.Inviter)
}

// onState takes a state event that is no change of membership.
func (s *step) onState(ev event.Event) error {
	v := s.room
	echo := s.echo(string(ev.Sender))
	if *ev.StateKey != "" {
		return nil
	}
	switch ev.Type {
	case event.TypeName:
		name := cleanName(ev.Content.Str("name"))
		if name == v.matrix.Name || echo && !s.joint() {
			return nil
		}
		v.matrix.Name = name
		s.wishMetadata(ev, intentData{Name: &name})
	case event.TypeTopic:
		topic := ev.Content.Str("topic")
		if topic == v.matrix.Topic || echo && !s.joint() {
			return nil
		}
		v.matrix.Topic = topic
		_, html := event.ParseTopic(ev.Content)
		s.wishMetadata(ev, intentData{Topic: &topic, TopicHTML: html})
	case event.TypePowerLevels:
		s.onPower(ev, echo)
	case event.TypeJoinRules:
		if v.head.Kind == store.RoomFollower {
			if !echo {
				s.showAgain(event.TypeJoinRules)
			}
			return nil
		}
		v.matrix.Join = ev.Content.Str("join_rule")
		s.followPower(string(ev.ID), string(ev.Sender))
	case event.TypeHistoryVisibility, event.TypeAvatar, event.TypeMood, event.TypeRetention, event.TypeServerACL:
		s.onCondition(ev, echo)
	case event.TypeTombstone:
		s.onTombstone(ev, echo)
	case event.TypeEncryption:
		v.matrix.Crypt = true
		if v.group != nil {
			s.tellEncrypted()
		}
	case event.TypeCreate:
		v.matrix.created(ev)
	}
	return nil
}

// wishMetadata asks for name or topic to be changed. The newest of several counts.
func (s *step) wishMetadata(ev event.Event, d intentData) {
	if s.room.head.Kind == store.RoomNone || s.room.group == nil {
		return
	}
	d.Event, d.By, d.MXID = string(ev.ID), string(ev.Sender), string(ev.Sender)
	if s.cfg.Combine > 0 {
		d.NotBefore = s.now.Add(s.cfg.Combine).UnixMilli()
		s.later(timerGo, d.NotBefore)
	}
	actor := ""
	if s.present(string(ev.Sender)) {
		actor = s.actorOf(string(ev.Sender))
	}
	s.wish(intentMetadata, actor, "", d)
}
