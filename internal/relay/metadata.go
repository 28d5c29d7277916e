package relay

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// onCondition takes a state event, beside name, topic and power levels, that says how a room is.
func (s *step) onCondition(ev event.Event, echo bool) {
	v := s.room
	portal := v.head.Kind == store.RoomFollower
	var r event.Room
	r.Apply(ev)
	switch ev.Type {
	case event.TypeAvatar:
		if echo || r.Avatar == v.matrix.Avatar {
			return
		}
		v.matrix.Avatar = r.Avatar
		if url, ok := s.publicURL(r.Avatar); ok {
			s.wishMetadata(ev, intentData{Avatar: &url})
		}
	case event.TypeMood:
		if echo || r.Mood == v.matrix.Mood {
			return
		}
		v.matrix.Mood = r.Mood
		s.wishMetadata(ev, intentData{Mood: &r.Mood})
	case event.TypeRetention:
		if !portal {
			v.matrix.MaxAge = r.MaxAge
		}
	case event.TypeServerACL:
		v.matrix.ACL = r.ACL
	case event.TypeHistoryVisibility:
		if !portal {
			v.matrix.History = r.History
		}
	}
	if portal && !echo && (ev.Type == event.TypeRetention || ev.Type == event.TypeHistoryVisibility) {
		s.showAgain(ev.Type)
		return
	}
	s.followConditions(string(ev.ID), string(ev.Sender))
}

// publicURL is where everybody may fetch a file of the Matrix media repository, "" for no file. false: files are not published.
func (s *step) publicURL(mxc string) (string, bool) {
	if mxc == "" {
		return "", true
	}
	if s.PublicURL == nil {
		return "", false
	}
	url := s.PublicURL(mxc)
	return url, url != ""
}

// conditions are the components of a hub room's policy that follow from the Matrix room (docs/mapping.md §6). Who reports what they have
// read in a room as large as this one would flood it.
func (s *step) conditions(roles policy.RoleData, list policy.ParticipantList) map[uint16][]byte {
	m := &s.room.matrix
	history := mapping.HistoryPolicy(m.History, roles)
	out := map[uint16][]byte{policy.ComponentHistory: history.Marshal()}
	if x, ok := mapping.Expiration(m.MaxAge); ok {
		out[policy.ComponentExpiration] = x.Marshal()
	} else {
		out[policy.ComponentExpiration] = (&policy.MessageExpiration{Max: 1<<32 - 1}).Marshal()
	}
	var status policy.StatusNotificationPolicy
	if len(s.room.members.byMXID) > s.cfg.MaxExport {
		status = forbiddenStatus
	}
	out[policy.ComponentStatus] = status.Marshal()
	maps.Copy(out, s.linkComponents())
	assets := s.assetPolicy(list)
	out[policy.ComponentAsset] = assets.Marshal()
	return out
}

// followConditions brings the policy of a hub room in line with its Matrix room. Only components that the room's base policy
// lists are in force.
func (s *step) followConditions(eventID, by string) {
	v := s.room
	if v.head.Kind != store.RoomHub || v.group == nil || s.fixed() {
		return
	}
	changed := map[uint16][]byte{}
	for id, data := range s.conditions(v.policy.Roles, v.policy.Participants) {
		if id == policy.ComponentStatus {
			continue // set at first, then by command: it is not worth a commit whenever somebody comes or goes
		}
		if had, ok := v.policy.Data(id); !ok || !bytes.Equal(had, data) {
			changed[id] = data
		}
	}
	if len(changed) > 0 {
		s.wish(intentPolicy, s.bot, "", intentData{Components: changed, Event: eventID, By: by})
	}
}

// componentUpdates are the proposals that set components of the policy, the base policy's list of what is in force included.
func (s *step) componentUpdates(components map[uint16][]byte) []mls.Proposal {
	base := s.room.policy.Base
	list := slices.Clone(base.PolicyComponents)
	var out []mls.Proposal
	ids := make([]uint16, 0, len(components))
	for id := range components {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		data := components[id]
		if id == policy.ComponentJoinLinks {
			data = linksUpdate(s.room.policy.JoinLinks, data)
		}
		if data != nil {
			out = append(out, appDataUpdate(mls.ComponentID(id), data))
		}
		if !slices.Contains(list, id) {
			list = append(list, id)
		}
	}
	if len(list) > len(base.PolicyComponents) {
		slices.Sort(list)
		base.PolicyComponents = list
		out = append(out, appDataUpdate(mls.ComponentBaseRoomPolicy, base.Marshal()))
	}
	return out
}

// metadataOf is a room's metadata after the change that a wish asks for. What Matrix does not know is carried over.
func metadataOf(m policy.RoomMetaData, d intentData) policy.RoomMetaData {
	next := event.Room{Name: m.RoomName, Topic: m.RoomSubject}
	avatar := m.RoomAvatar
	if d.Name != nil {
		next.Name = *d.Name
	}
	if d.Topic != nil {
		next.Topic, next.TopicHTML = *d.Topic, d.TopicHTML
	}
	if d.Avatar != nil {
		avatar = *d.Avatar
	}
	out := mapping.Metadata(m, next, avatar)
	if d.Mood != nil {
		out.RoomMood = *d.Mood
	}
	return out
}

// placeRest makes Matrix show what of the metadata is neither name nor topic.
func (s *step) placeRest(why cause) {
	s.placeAvatar()
	shown := mapping.ShowMetadata(s.room.policy.Metadata, s.cfg.Mapping.Languages)
	s.setText(s.stateHand(why), event.TypeMood, "mood", shown.Mood, &s.room.matrix.Mood)
}

// topicContent is the content of m.room.topic, with its formatting where a description has one.
func (s *step) topicContent(topic string) json.RawMessage {
	shown := mapping.ShowMetadata(s.room.policy.Metadata, s.cfg.Mapping.Languages)
	if shown.TopicHTML == "" || shown.Topic != topic {
		return mustJSON(map[string]string{"topic": topic})
	}
	return mapping.TopicContent(shown)
}

// placeConditions makes a portal show how the MIMI room is (docs/mapping.md §6): its history, retention, who may come in, and its roles.
// People are told once what they must know of the policy.
func (s *step) placeConditions() {
	v := s.room
	if v.head.Kind != store.RoomFollower || v.group == nil || v.head.MatrixRoomID == "" && !v.st.Portal {
		return
	}
	retention, _ := mapping.Retention(v.policy.Expiration)
	if v.policy.Expiration.Max == 1<<32-1 {
		retention = nil
	}
	if retention == nil && v.st.Shown[event.TypeRetention] != "" {
		retention = []byte(`{}`)
	}
	s.showState(event.TypeHistoryVisibility, mustJSON(map[string]string{"history_visibility": mapping.HistoryVisibility(v.policy.History)}))
	s.showState(event.TypeJoinRules, mustJSON(map[string]string{"join_rule": mapping.JoinRule(v.policy)}))
	s.showState(event.TypeRetention, retention)
	s.showState(event.TypeRoles, rolesContent(v.policy.Roles))
	for _, text := range mapping.Told(v.policy) {
		s.once("policy:"+text, func() { s.notice(text, "") })
	}
}

// showState writes a state event where it differs from what was written last.
func (s *step) showState(typ string, content []byte) {
	st := &s.room.st
	if content == nil || st.Shown[typ] == string(content) {
		return
	}
	if st.Shown == nil {
		st.Shown = map[string]string{}
	}
	was := st.Shown[typ]
	st.Shown[typ] = string(content)
	s.matrix(event.State{Type: typ, Content: content, Was: json.RawMessage(was)})
}

// showAgain writes a state event of a portal again, because somebody changed what the MIMI room decides.
func (s *step) showAgain(typ string) {
	delete(s.room.st.Shown, typ)
	if s.room.policy != nil {
		s.placeConditions()
	}
}

// maxShownRoles bounds the roles in the state event: it must fit an event and the memory of what was written.
const maxShownRoles = 32

// rolesContent names the roles of a room for clients that care.
func rolesContent(roles policy.RoleData) []byte {
	type role struct {
		Index       uint32 `json:"index"`
		Name        string `json:"name,omitempty"`
		Description string `json:"description,omitempty"`
	}
	list := []role{}
	for i := range roles {
		if i == maxShownRoles {
			break
		}
		list = append(list, role{roles[i].Index, cutRunes(roles[i].Name, 60), cutRunes(roles[i].Description, 120)})
	}
	if len(list) == 0 {
		return nil
	}
	return mustJSON(map[string]any{"roles": list})
}
