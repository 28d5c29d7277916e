package relay

import (
	"encoding/json"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

// makePortal asks for the Matrix room of a follower room (docs/mapping.md §3), with name and topic, and an invitation to our
// users. What else is to be done in it is held until its room id is known. A portal that is there is used again. why says who
// brought our users in.
func (s *step) makePortal(why cause) error {
	v := s.room
	if v.head.MatrixRoomID != "" || v.st.Portal {
		return nil
	}
	meta := v.policy.Metadata
	alias, _, err := mapping.AliasLocalpart(v.uri(), mapping.MaxLocalpart(s.Naming.Server))
	if err != nil {
		return err
	}
	if v.st.PortalTries > 0 {
		alias = "" // somebody else may have the name
	}
	info := event.BridgeInfo{Bot: userID(s.cfg.Bot), Creator: userID(s.cfg.Bot), RoomURI: v.head.URI, Name: meta.RoomName, Provider: v.head.Hub}
	v.matrix.Name, v.matrix.Topic = cleanName(meta.RoomName), s.topicOf(meta)
	power := s.portalPower()
	if why.actor != "" {
		if by, err := s.memberOf(why.actor); err == nil && by.Ghost && power.User(userID(by.MXID)) < power.Invite {
			power.Invite = 0 // until the ghost of the one who brought our users in has invited them: see placePower
		}
	}
	v.matrix.Power = power.Encode()
	state := []event.StateEvent{
		{Type: event.TypeBridge, Key: info.StateKey(), Content: info.Encode()},
		{Type: event.TypeBridgeUnstable, Key: info.StateKey(), Content: info.Encode()},
		{Type: event.TypeGuestAccess, Content: json.RawMessage(`{"guest_access":"forbidden"}`)},
		{Type: event.TypeHistoryVisibility, Content: json.RawMessage(`{"history_visibility":"joined"}`)},
	}
	if s.fixed() {
		state = append(state, s.functionalMembers())
	}
	if s.encryptsPortals() {
		state = append(state, s.encryptionState())
		v.matrix.Crypt = true
	}
	o := s.matrix(event.CreateRoom{
		Alias: alias, Name: v.matrix.Name, Topic: v.matrix.Topic, Preset: "private_chat", Direct: s.fixed(),
		Levels: power.Encode(), State: state,
	})
	s.portalAsked(o, refPortal)
	return nil
}

// portalAsked notes that a row asks for the room's portal, in which the bot will be; ref says whose the answer is.
func (s *step) portalAsked(o *store.Outbound, ref string) {
	ask(o, ref, 0)
	s.room.st.Portal = true
	bot, _ := s.room.members.of(s.cfg.Bot)
	bot.Membership = string(event.Join)
	s.setMember(bot)
}

// functionalMembers tells clients that the bot is nobody to name a direct chat after (MSC4171).
func (s *step) functionalMembers() event.StateEvent {
	return event.StateEvent{Type: "io.element.functional_members", Content: mustJSON(map[string]any{"service_members": []string{s.cfg.Bot}})}
}

// onPortal: the Matrix room of a follower room was made.
func (s *step) onPortal(a *store.Answer) error {
	v := s.room
	var made struct {
		Room string `json:"room_id"`
	}
	if a.Class != "done" || json.Unmarshal(a.Body, &made) != nil || !event.ValidRoomID(id.RoomID(made.Room)) {
		return s.noPortal()
	}
	v.head.MatrixRoomID, v.st.PortalTries = made.Room, 0
	s.fx.names = append(s.fx.names, name{store.NameMatrix, made.Room})
	s.fx.releaseHeld = true
	if v.st.Manager != "" {
		s.fx.managers = append(s.fx.managers, manager{v.st.Manager, made.Room})
		v.st.Manager, v.st.MembersRead = "", true
	}
	if v.head.State == stateOpening {
		s.readRoom() // a chat that the bot made
	}
	return nil
}

// chatNotMade: the homeserver did not make the room of a direct chat. Who asked for it may ask again.
func (s *step) chatNotMade() error {
	v := s.room
	v.st.Portal = false
	by := ""
	if o := v.st.Opening; o != nil {
		by = o.By
	}
	err := s.notOpened("the homeserver did not make the room")
	if m, known := v.members.of(by); known {
		m.Membership = string(event.Leave)
		s.setMember(m)
	}
	return err
}

// noPortal: the homeserver did not make the room. It is asked again, for as long as it takes.
func (s *step) noPortal() error {
	v := s.room
	s.Alert("portal", "the homeserver did not make the room of "+v.head.URI)
	v.st.PortalTries++
	if v.head.State == stateOpening {
		return s.chatNotMade()
	}
	s.later(timerPortal, s.now.Add(time.Minute<<min(v.st.PortalTries, 6)).UnixMilli())
	return nil
}
