package relay

import (
	"encoding/json"
	"fmt"
	"slices"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

func unmarshalString(s string, into any) error { return json.Unmarshal([]byte(s), into) }

// open begins to make a Matrix room a hub room: its first MIMI user was invited (docs/mapping.md §3). The room gets its URI and
// the KeyPackages are claimed; only then the ghost joins, the room is read and the group is made. When nobody can
// be reached nothing has changed but the URI, which stays for the next try.
func (s *step) open(m event.Member, uri string, d intentData) error {
	v := s.room
	if err := s.becomeHub(); err != nil {
		return err
	}
	v.st.Opening = &opening{By: string(m.Sender), Direct: m.Direct}
	s.noteGhost(string(m.User), uri)
	s.wish(intentAdd, s.actorOf(string(m.Sender)), uri, d)
	return s.claimOpen()
}

// becomeHub gives the room a MIMI URI and a group id.
func (s *step) becomeHub() error {
	v := s.room
	v.head.Kind, v.head.State, v.head.Hub = store.RoomHub, stateOpening, s.Naming.Domain
	s.fx.unmanaged = v.head.MatrixRoomID // the bot listens to its prefix only, and others may hear
	if v.head.URI != "" {
		return nil
	}
	token, err := mapping.NewToken(s.Rand)
	if err != nil {
		return err
	}
	uri, err := s.Naming.RoomURI(token)
	if err != nil {
		return err
	}
	if token, err = mapping.NewToken(s.Rand); err != nil {
		return err
	}
	group, err := s.Naming.GroupURI(token)
	if err != nil {
		return err
	}
	v.head.URI, v.head.GroupID = string(uri), []byte(group)
	s.fx.names = append(s.fx.names, name{store.NameMIMI, uri.Key()}, name{store.NameGroup, fmt.Sprintf("%x", []byte(group))})
	return nil
}

// claimOpen asks for the KeyPackages of users who are to be added while there is no group yet; advance does it later on.
func (s *step) claimOpen() error {
	v := s.room
	if v.group != nil {
		return nil
	}
	for n := range v.intents {
		i := &v.intents[n]
		if i.Kind != intentAdd || i.State != store.IntentOpen || s.own(i.Target) {
			continue
		}
		d, err := dataOf(i)
		if err != nil {
			return err
		}
		if len(d.Packages) == 0 && d.NotBefore <= s.nowMS() {
			if err := s.claim(i, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// openOn goes on with the making of a hub room when somebody can be added: a ghost of theirs joins the Matrix room and
// reads it; where the bot is in the room already, the bot does.
func (s *step) openOn() error {
	v := s.room
	o := v.st.Opening
	if v.head.State != stateOpening || o == nil || o.Reading {
		return nil
	}
	if o.Set != nil {
		return s.openSet()
	}
	for n := range v.intents {
		i := &v.intents[n]
		d, err := dataOf(i)
		if err != nil {
			return err
		}
		if i.Kind != intentAdd || len(d.Packages) == 0 {
			continue
		}
		o.Reading = true
		if v.members.joined(s.cfg.Bot) {
			s.readRoom()
			return nil
		}
		o.Ghost = d.MXID
		row := s.matrix(event.JoinRoom{Sender: userID(d.MXID)})
		ask(row, refOpenJoin, i.Seq)
		return nil
	}
	return nil
}

// openSet goes on with a direct chat that was asked for by a command: everybody comes, or nobody.
func (s *step) openSet() error {
	adds := 0
	for n := range s.room.intents {
		if s.room.intents[n].Kind == intentAdd {
			adds++
		}
	}
	if adds < len(s.room.st.Opening.Set) {
		return s.notOpened("somebody else cannot be reached")
	}
	if !s.unclaimed() && s.room.head.MatrixRoomID != "" {
		s.room.st.Opening.Reading = true
		s.readRoom()
	}
	return nil
}

// readRoom lets the state of the Matrix room be read.
func (s *step) readRoom() {
	s.fx.inputs = append(s.fx.inputs, store.NewInput{Room: s.room.head.ID, Kind: inputRead, Epoch: -1, Body: []byte(s.room.reader(s.cfg.Bot)), CreatedMS: s.nowMS()})
}

// onOpenJoin: the ghost through which the room is read joined, or could not.
func (s *step) onOpenJoin(a *store.Answer) error {
	o := s.room.st.Opening
	if o == nil {
		return nil
	}
	if a.Class != "done" {
		o.Reading = false
		if i := s.intent(a.For); i != nil {
			d, err := dataOf(i)
			if err != nil {
				return err
			}
			s.refuse(*i, d, "the Matrix room does not let them in")
			s.closeIntents(i.Seq)
		}
		return s.openOn()
	}
	m, _ := s.room.members.of(o.Ghost)
	m.Membership, m.Ghost = string(event.Join), true
	if m.URI == "" {
		m.URI = s.actorOf(o.Ghost)
	}
	s.setMember(m)
	s.readRoom()
	return nil
}

// reader is who can read the state of the Matrix room.
func (v *roomView) reader(bot string) string {
	if v.members.joined(bot) || v.st.Opening == nil || v.st.Opening.Ghost == "" {
		return bot
	}
	return v.st.Opening.Ghost
}

// onRead takes the state of the Matrix room. While a hub room is made, the group follows. In a room that is there already it is
// news like any other: what people did is taken as if it had just come, and perhaps it is yet to come.
func (s *step) onRead(state []json.RawMessage) error {
	v := s.room
	if v.head.State == stateActive && v.group != nil {
		return s.onReadAgain(state)
	}
	r, err := s.takeState(state, false)
	if v.head.Kind == store.RoomNone {
		s.membersRead()
	}
	if err != nil || v.head.State != stateOpening || v.group != nil || v.st.Opening == nil {
		return err
	}
	if why, unwise := mapping.Unbridgeable(r); why != "" && !(unwise && s.cfg.AllowWorldReadable) {
		return s.notOpened(why)
	}
	if s.joinedElsewhere() {
		return s.notOpened(joinedTwice)
	}
	return s.makeRoom()
}

// onReadAgain takes the state of a Matrix room that is there already, and compares it when nothing is under way.
func (s *step) onReadAgain(state []json.RawMessage) error {
	v := s.room
	waiting, err := s.waitingForMatrix()
	if err != nil {
		return err
	}
	if waiting {
		s.checkAgain(busyPause)
		return nil // what was read is older than what was decided
	}
	busy := func() bool { return v.pending != nil || v.st.Join != nil || len(v.intents) > 0 }
	before := busy()
	if _, err := s.takeState(state, true); err != nil {
		return err
	}
	if !busy() && !before {
		return s.compare()
	}
	s.followPower("", "")
	if !before { // by what was read
		s.checkAgain(busyPause)
	}
	return nil
}

// takeState notes the state of the Matrix room and returns it; there says that what people did is news.
func (s *step) takeState(state []json.RawMessage, there bool) (event.Room, error) {
	v := s.room
	var r event.Room
	var rest []event.Event
	for _, raw := range state {
		ev, err := event.ParseChecked(raw)
		if err != nil || ev.StateKey == nil {
			continue
		}
		if ev.Type == event.TypeMember {
			if there && s.isNews(ev) {
				rest = append(rest, ev)
			} else {
				s.readMember(ev)
			}
			continue
		}
		r.Apply(ev)
		switch {
		case *ev.StateKey != "":
		case ev.Type == event.TypeCreate:
			v.matrix.created(ev)
		case ev.Type == event.TypePowerLevels && (!there || v.head.Kind == store.RoomHub || s.echo(string(ev.Sender))):
			v.matrix.Power = ev.Content.Encode()
		default:
			rest = append(rest, ev)
		}
	}
	// What follows from the rest depends on who has which power.
	for _, ev := range rest {
		if err := s.readRest(ev, there); err != nil {
			return r, err
		}
	}
	return r, nil
}

// readRest takes a state event that was read after those that say who may what.
func (s *step) readRest(ev event.Event, there bool) error {
	v := s.room
	switch {
	case ev.Type == event.TypeMember:
		return s.onMember(ev)
	case there && !s.echo(string(ev.Sender)):
		return s.onState(ev)
	case ev.Type == event.TypeName:
		v.matrix.Name = cleanName(ev.Content.Str("name"))
	case ev.Type == event.TypeTopic:
		v.matrix.Topic = ev.Content.Str("topic")
	default:
		return s.onState(ev)
	}
	return nil
}

// joinedTwice is said of a room that another bridge has joined to MIMI.
const joinedTwice = "another bridge beside this homeserver has joined the room to MIMI already"

// joinedElsewhere tells whether another bridge has joined the Matrix room to MIMI: it holds the ghost of a user of ours. Joined
// twice, its people would be in two MIMI rooms that do not hear each other (docs/mapping.md §11).
func (s *step) joinedElsewhere() bool {
	for mxid, m := range s.room.members.byMXID {
		if m.Membership == string(event.Join) && s.Naming.ForeignGhost(mxid) {
			return true
		}
	}
	return false
}

// isNews tells whether a membership that was read is what somebody did and what is not known. What our own did was written down
// when it was asked for.
func (s *step) isNews(ev event.Event) bool {
	m, ok := ev.Member()
	if !ok {
		return false
	}
	had, _ := s.room.members.of(string(m.User))
	return had.Membership != string(m.Membership) && !(s.hosts(string(m.User)) && s.echo(string(m.Sender)))
}

func (s *step) readMember(ev event.Event) {
	m, ok := ev.Member()
	if !ok {
		return
	}
	had, _ := s.room.members.of(string(m.User))
	had.Membership, had.Ghost = string(m.Membership), s.hosts(string(m.User))
	if m.DisplayName != "" {
		had.Display = m.DisplayName
	}
	if had.URI == "" && (had.Ghost || s.present(string(m.User))) {
		had.URI = s.actorOf(string(m.User))
	}
	s.setMember(had)
}

// makeRoom makes the group of a hub room with a leaf for everybody on Matrix who takes part.
func (s *step) makeRoom() error {
	v := s.room
	if set, ok := s.foundingSet(); ok {
		if v.st.Opening.Set != nil && s.unclaimed() {
			v.st.Opening.Reading = false // openOn reads again when all can come
			return nil
		}
		if err := s.makeFixed(set); err != nil || v.group == nil {
			return err
		}
		return s.roomMade()
	}
	list := policy.ParticipantList{{User: s.bot, Role: policy.RoleBridge}}
	users := s.exportedMembers()
	for _, m := range users {
		list = append(list, policy.UserRolePair{User: m.URI, Role: s.hubRole(m.MXID)})
	}
	if err := s.newGroup(list, s.cfg.Bot); err != nil {
		return err
	}
	v.head.State = stateActive
	for _, m := range users {
		s.wish(intentAdd, s.bot, m.URI, intentData{MXID: m.MXID})
		m.Listed, m.Role = true, int64(v.policy.RoleIndex(m.URI))
		s.setMember(m)
	}
	return s.roomMade()
}

// roomMade does what is left when the group of a hub room stands.
func (s *step) roomMade() error {
	v := s.room
	if !v.members.joined(s.cfg.Bot) {
		ghost := userID(v.st.Opening.Ghost)
		s.matrix(event.InviteUser{Sender: ghost, Target: userID(s.cfg.Bot)})
		o := s.matrix(event.JoinRoom{Sender: userID(s.cfg.Bot)})
		ask(o, refBotJoin, 0)
	}
	if asked := v.st.Opening.Event; asked != "" {
		s.notice("This room can now be reached over MIMI as "+v.head.URI, asked)
	}
	v.st.Opening = nil
	s.tellEncrypted()
	s.scheduleCare()
	s.checkAgain(s.cfg.Consistency)
	return nil
}

// onReadFailed: the Matrix room cannot be read.
func (s *step) onReadFailed() error {
	if s.room.head.Kind == store.RoomNone {
		s.membersRead()
	}
	if s.room.head.State != stateOpening || s.room.group != nil {
		return nil
	}
	return s.notOpened("the Matrix room cannot be read")
}

// notOpened gives the making of a hub room up: nobody is added.
func (s *step) notOpened(why string) error {
	v := s.room
	if o := v.st.Opening; o != nil && o.Event != "" {
		s.notice("This room cannot be joined to MIMI: "+why+".", o.Event)
	}
	for len(v.intents) > 0 {
		i := v.intents[0]
		d, err := dataOf(&i)
		if err != nil {
			return err
		}
		s.refuse(i, d, why)
		s.closeIntents(i.Seq)
	}
	s.unopen()
	return nil
}

// unopen ends the making of a hub room.
func (s *step) unopen() {
	v := s.room
	if o := v.st.Opening; o != nil && o.Set == nil {
		v.head.Kind, v.head.State, v.head.Hub = store.RoomNone, statePlain, "" // the next invitation begins anew
	}
	v.st.Opening = nil
}

// openOver ends the making of a hub room when nobody is left who could come: each of them refused, could not be reached or was taken back.
func (s *step) openOver() {
	v := s.room
	o := v.st.Opening
	if v.head.State != stateOpening || v.group != nil || o == nil || o.Reading ||
		slices.ContainsFunc(v.intents, func(i store.Intent) bool { return i.Kind == intentAdd }) {
		return
	}
	s.takeBackAll()
}

// openLeft ends the making of a direct chat: who asked for it left its Matrix room.
func (s *step) openLeft(user id.UserID) {
	v := s.room
	if o := v.st.Opening; v.head.State == stateOpening && v.group == nil && o != nil && o.Set != nil && o.By == string(user) {
		s.takeBackAll()
	}
}

// takeBackAll ends the making of a hub room and everything that was wished for it, without a word.
func (s *step) takeBackAll() {
	for len(s.room.intents) > 0 {
		i := s.room.intents[0]
		s.takeBackConsent(&i)
		s.closeIntents(i.Seq)
	}
	s.unopen()
}

// exportedMembers are the joined Matrix users who get a leaf at once: who invited first, then by name, up to the limit
// (docs/mapping.md §3). The others get one when they speak.
func (s *step) exportedMembers() []store.Member {
	var out []store.Member
	first := ""
	if o := s.room.st.Opening; o != nil {
		first = o.By
	}
	if m, ok := s.room.members.byMXID[first]; ok && m.Membership == string(event.Join) && s.present(first) {
		out = append(out, m)
	}
	for _, mxid := range sortedKeys(s.room.members.byMXID) {
		m := s.room.members.byMXID[mxid]
		if mxid != first && m.Membership == string(event.Join) && s.present(mxid) && len(out) < s.cfg.MaxExport {
			out = append(out, m)
		}
	}
	for i := range out {
		if out[i].URI == "" {
			out[i].URI = s.actorOf(out[i].MXID)
		}
	}
	return out
}
