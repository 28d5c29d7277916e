package relay

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

const (
	// upgradeEvery and upgradeTries bound how often the bot tries to come into the room that replaces another.
	upgradeEvery = time.Minute
	upgradeTries = 60
	// aheadEvery and aheadFor bound how long what is said in the new room waits for the conversation to go there.
	aheadEvery = 500 * time.Millisecond
	aheadFor   = 10 * time.Second
)

// onTombstone: the Matrix room was replaced by another (docs/mapping.md §3). The MIMI room stays the same; the bot goes over first.
// Without another the room has ended.
func (s *step) onTombstone(ev event.Event, echo bool) {
	v := s.room
	var r event.Room
	r.Apply(ev)
	if r.Successor == "" && ev.Content.Str("replacement_room") == "" && v.head.Kind == store.RoomHub && v.group != nil && !echo {
		s.endRoom(wire.DestroyedByAdmin, intentData{Event: string(ev.ID), By: string(ev.Sender)})
		return
	}
	if r.Successor == "" || echo || v.group == nil || string(r.Successor) == v.head.MatrixRoomID {
		return
	}
	v.st.Upgrade = &upgrade{To: string(r.Successor), By: string(ev.Sender)}
	s.fx.unbind = append(s.fx.unbind, name{store.NameSuccessor, v.st.Upgrade.To})
	s.fx.names = append(s.fx.names, name{store.NameSuccessor, v.st.Upgrade.To})
	if _, server, ok := strings.Cut(string(ev.Sender), ":"); ok {
		v.st.Upgrade.Via = server
	}
	s.tryUpgrade()
}

// upgrade is a Matrix room that was replaced.
type upgrade struct {
	To    string `json:"to"`
	By    string `json:"by,omitempty"` // who replaced it, by MXID
	Via   string `json:"via,omitempty"`
	Tries int    `json:"tries,omitempty"`
	// ToldThere says that people in the new room were told that they are not heard.
	ToldThere bool   `json:"told_there,omitempty"`
	Told      string `json:"told,omitempty"` // why the conversation is not there yet, as people were told last
}

func (s *step) tryUpgrade() {
	u := s.room.st.Upgrade
	if u == nil {
		return
	}
	u.Tries++
	args := event.JoinRoom{Sender: userID(s.cfg.Bot), Room: u.To}
	if u.Via != "" {
		args.Via = []string{u.Via}
	}
	ask(s.matrix(args), refUpgrade+":"+u.To, 0)
}

// onAhead: something was said in the new room. People write there as soon as they see the bot.
func (s *step) onAhead(in *store.Input) error {
	ev, err := event.ParseChecked(in.Body)
	if err != nil {
		return nil
	}
	again := store.NewInput{Room: s.room.head.ID, Kind: inputAhead, Source: in.Source, Epoch: -1, Body: in.Body,
		NotBefore: s.now.Add(aheadEvery).UnixMilli(), CreatedMS: in.CreatedMS}
	u := s.room.st.Upgrade
	switch {
	case string(ev.Room) == s.room.head.MatrixRoomID && ev.Type == event.TypeEncrypted:
		again.Kind, again.NotBefore = inputEncrypted, 0
	case string(ev.Room) == s.room.head.MatrixRoomID:
		return s.onMatrix(in)
	case u == nil || u.To != string(ev.Room):
		return nil
	case s.nowMS() >= in.CreatedMS+aheadFor.Milliseconds():
		s.notHeard(u, ev)
		return nil
	}
	s.fx.inputs = append(s.fx.inputs, again)
	return nil
}

// notHeard tells people in the new room, once, that what they say there does not go over.
func (s *step) notHeard(u *upgrade, ev event.Event) {
	there, err := s.Store.RoomIDByName(s.ctx, store.NameMatrix, u.To)
	if err != nil || u.ToldThere || !s.present(string(ev.Sender)) {
		return
	}
	u.ToldThere = true
	s.sayIn(there, action{Do: actSay, Event: string(ev.ID), Text: "This was not carried over to the other side, nor is what comes after it: " +
		"the conversation is still in the room that this one replaces. I say here when it has come."})
}

// onUpgraded: the bot is in the new room, which is read before the conversation goes there, or was not let in.
func (s *step) onUpgraded(a *store.Answer, to string) {
	u := s.room.st.Upgrade
	if u == nil || u.To != to {
		return
	}
	if a.Class != "done" {
		s.notOver("Invite me to the new one, and the conversation goes on there.")
		return
	}
	s.fx.inputs = append(s.fx.inputs, store.NewInput{Room: s.room.head.ID, Kind: inputSuccessor, Epoch: -1, Body: []byte(to), CreatedMS: s.nowMS()})
}

// onSuccessor: the state of the new room was read, or could not be. It must be one that could be joined to MIMI.
func (s *step) onSuccessor(to string, state []json.RawMessage, read bool) {
	u := s.room.st.Upgrade
	if u == nil || u.To != to {
		return
	}
	var r event.Room
	elsewhere := false
	for _, raw := range state {
		ev, err := event.ParseChecked(raw)
		if err != nil || ev.StateKey == nil {
			continue
		}
		if m, ok := ev.Member(); ok {
			elsewhere = elsewhere || m.Membership == event.Join && s.Naming.ForeignGhost(string(m.User))
			continue
		}
		r.Apply(ev)
	}
	why, unwise := mapping.Unbridgeable(r)
	if unwise && s.cfg.AllowWorldReadable {
		why = ""
	}
	switch {
	case !read:
		s.notOver("Invite me to the new one, and the conversation goes on there.")
	case why != "":
		s.notOver("The conversation cannot go on in the new one: " + why + ".")
	case elsewhere:
		s.notOver("The conversation cannot go on in the new one: " + joinedTwice + ".")
	default:
		s.moveTo(to)
	}
}

// notOver: the conversation does not go on in the new room yet. People are told why, and it is tried again for an hour: what is in
// the way may go meanwhile.
func (s *step) notOver(why string) {
	v := s.room
	u := v.st.Upgrade
	if u.Told != why {
		u.Told = why
		s.notice("This room was replaced. "+why, "")
		// Synapse lets only moderators speak in a room that was replaced.
		s.tellUser(u.By, "The room \""+html.Apart(html.Name(v.matrix.Name))+"\" was replaced. "+why)
	}
	if u.Tries >= upgradeTries {
		s.fx.unbind = append(s.fx.unbind, name{store.NameSuccessor, u.To})
		v.st.Upgrade = nil
		return
	}
	// Soon at first: mostly whoever replaced the room invites the bot at once.
	s.later(timerUpgrade, s.now.Add(min(2*time.Second<<min(u.Tries, 5), upgradeEvery)).UnixMilli())
}

// replaces is the room that the Matrix room of this step replaces, while the bot has not moved into it.
func (s *step) replaces() (store.RoomID, bool) {
	room, err := s.Store.RoomIDByName(s.ctx, store.NameSuccessor, s.room.head.MatrixRoomID)
	return room, err == nil
}

// goOver: a ghost was invited into a room that replaces another, before the bot moved into it. It goes in and lets the bot in;
// who is new here is invited into the room that moves.
func (s *step) goOver(old store.RoomID, m event.Member, uri string) {
	if had, err := s.Store.MemberByURI(s.ctx, old, uri); err != nil || !had.Listed {
		s.sayIn(old, action{Do: actInvite, User: uri, By: string(m.Sender)})
	}
	s.matrix(event.JoinRoom{Sender: m.User})
	ask(s.matrix(event.InviteUser{Sender: m.User, Target: userID(s.cfg.Bot)}), refGoOver, 0)
	had, _ := s.room.members.of(string(m.User))
	had.Membership, had.Ghost = string(event.Join), true
	s.setMember(had)
}

// onGoneOver: the bot was invited into the room that replaces another.
func (s *step) onGoneOver() {
	if old, ok := s.replaces(); ok {
		s.sayIn(old, action{Do: actUpgrade})
	}
}

// moveTo puts the room into another Matrix room: links and members stay, ghosts follow. Who of the Matrix users does not come
// along leaves when they leave the old room: nobody is removed because rooms are replaced.
func (s *step) moveTo(to string) {
	v := s.room
	s.fx.unbind = append(s.fx.unbind, name{store.NameMatrix, to}, name{store.NameMatrix, v.head.MatrixRoomID}, name{store.NameSuccessor, to})
	s.fx.names = append(s.fx.names, name{store.NameMatrix, to})
	v.head.MatrixRoomID = to
	v.st.Upgrade, v.st.Shown = nil, nil
	for _, mxid := range sortedKeys(v.members.byMXID) {
		m := v.members.byMXID[mxid]
		if !m.Ghost || m.Membership != string(event.Join) {
			continue
		}
		s.matrix(event.JoinRoom{Sender: userID(mxid), InviteFirst: true})
	}
	if v.head.Kind == store.RoomFollower {
		v.matrix.Power = nil
		s.placePower(before{}, cause{})
		s.placeConditions()
	}
	s.readRoom()
	s.notice("This room goes on where the old one ended: it is joined to "+v.head.URI, "")
}
