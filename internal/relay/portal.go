package relay

import (
	"encoding/json"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// makePortal asks for the Matrix room of a follower room (mapping §2.2), with name and topic, and an invitation to our
// users. What else is to be done in it is held until its room id is known. A portal that is there is used again.
func (s *step) makePortal() error {
	v := s.room
	if v.head.MatrixRoomID != "" || v.st.Portal {
		return nil
	}
	meta := v.policy.Metadata
	alias, _, err := mapping.AliasLocalpart(v.uri(), mapping.MaxLocalpart(s.Naming.Server))
	if err != nil {
		return err
	}
	info := event.BridgeInfo{Bot: userID(s.cfg.Bot), Creator: userID(s.cfg.Bot), RoomURI: v.head.URI, Name: meta.RoomName, Provider: v.head.Hub}
	v.matrix.Name, v.matrix.Topic = cleanName(meta.RoomName), topicOf(meta)
	o := s.matrix(event.CreateRoom{
		Alias: alias, Name: v.matrix.Name, Topic: v.matrix.Topic, Preset: "private_chat", Direct: meta.RoomName == "" && len(v.policy.Participants) == 2,
		Levels: s.portalLevels(), State: []event.StateEvent{
			{Type: event.TypeBridge, Key: info.StateKey(), Content: info.Encode()},
			{Type: event.TypeBridgeUnstable, Key: info.StateKey(), Content: info.Encode()},
			{Type: event.TypeGuestAccess, Content: json.RawMessage(`{"guest_access":"forbidden"}`)},
			{Type: event.TypeHistoryVisibility, Content: json.RawMessage(`{"history_visibility":"joined"}`)},
		},
	})
	ask(o, refPortal, 0)
	v.st.Portal = true
	bot, _ := v.members.of(s.cfg.Bot)
	bot.Membership = string(event.Join)
	s.setMember(bot)
	return nil
}

// portalLevels are the power levels of a portal: the bot leads, and what everybody may do follows from the roles
// (mapping §4.3).
func (s *step) portalLevels() json.RawMessage {
	v := s.room
	all := func(c policy.Capability) bool {
		for _, p := range v.policy.Participants {
			if r := v.policy.Role(p.Role); p.Role > policy.RoleBanned && r != nil && r.MayBeActive() && !r.Has(c) {
				return false
			}
		}
		return true
	}
	level := func(c policy.Capability) int {
		if all(c) {
			return 0
		}
		return 50
	}
	users := map[id.UserID]int{userID(s.cfg.Bot): 100}
	for _, p := range v.policy.Participants {
		if r := v.policy.Role(p.Role); r != nil && p.Role > policy.RoleBanned && r.Has(policy.CanRemoveParticipant) {
			if m, err := s.memberOf(p.User); err == nil && m.MXID != s.cfg.Bot {
				users[userID(m.MXID)] = 50
			}
		}
	}
	return mustJSON(map[string]any{
		"users": users, "users_default": 0, "events_default": 0, "state_default": 100,
		"invite": level(policy.CanAddParticipant), "kick": 50, "ban": 50, "redact": 50,
		"events": map[string]int{
			event.TypeName: level(policy.CanChangeRoomName), event.TypeTopic: level(policy.CanChangeRoomSubject),
			event.TypeAvatar: 100, event.TypePowerLevels: 100, event.TypeTombstone: 100, event.TypeEncryption: 100,
			event.TypeServerACL: 100, event.TypeHistoryVisibility: 100,
		},
	})
}

// onPortal: the Matrix room of a follower room was made.
func (s *step) onPortal(a *store.Answer) error {
	v := s.room
	var made struct {
		Room string `json:"room_id"`
	}
	if a.Class != "done" || json.Unmarshal(a.Body, &made) != nil || !event.ValidRoomID(id.RoomID(made.Room)) {
		v.st.Portal = false
		s.Alert("portal", "the homeserver did not make the portal of "+v.head.URI)
		return nil
	}
	v.head.MatrixRoomID = made.Room
	s.fx.names = append(s.fx.names, name{store.NameMatrix, made.Room})
	s.fx.releaseHeld = true
	if v.head.State == stateOpening {
		s.readRoom() // a chat that the bot made
	}
	return nil
}
