package relay

import (
	"encoding/hex"

	"github.com/matrix-mimi/bridge/internal/media"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// onApplication shows a decrypted message in Matrix. item is what the hub said about it; as the hub that is our own word.
func (s *step) onApplication(app *mls.Application, item *wire.FanoutMessage) error {
	v := s.room
	id, ok := identityOf(app.Leaf)
	if !ok || v.st.Unlogged {
		return nil
	}
	if s.own(string(id.User)) {
		// Our own message came back. From another leaf it is not ours: shown, it would put words into the mouth of a user here.
		if m, there := v.group.Member(app.Sender); there && !m.Own {
			s.Log.Warn().Stringer("room", v.head.ID).Str("hub", v.head.Hub).Str("user", string(id.User)).Str("fate", "ignored").Msg("a client that is not ours speaks for a user of ours")
			s.Alert("impersonation", "somebody speaks in the name of "+string(id.User)+" in room "+v.head.URI)
		}
		return nil
	}
	user := s.listedURI(id.User)
	in, why, err := s.readContent(app, item, user)
	if err != nil {
		return err
	}
	if in == nil {
		s.Log.Info().Stringer("room", v.head.ID).Str("sender", user).Str("reason", why).Str("fate", "ignored").Msg("a message was not shown")
		return nil
	}
	had := len(s.fx.links)
	if err := s.show(in, item); err != nil {
		return err
	}
	if len(s.fx.links) > had {
		s.keepEvidence(app, item, in)
	}
	return nil
}

// readContent unwraps and checks the content of a message. A nil result with a reason is thrown away.
func (s *step) readContent(app *mls.Application, item *wire.FanoutMessage, user string) (*mapping.Incoming, string, error) {
	v := s.room
	mediaType, octets, err := mls.UnframeApplicationData(v.group.Dictionary(), app.Data)
	if err != nil {
		return nil, "the framing of the content cannot be read", nil
	}
	if mediaType.Type != "" && mediaType.Type != content.TypeMIMI {
		return nil, "content of type " + mediaType.Type, nil
	}
	received, err := content.Receive(octets, content.Envelope{SenderURI: user, RoomURI: v.head.URI, AcceptedMS: item.Timestamp})
	if err != nil {
		return nil, err.Error(), nil
	}
	if s.looped(received.Message) {
		return nil, "it is a message of this very Matrix room that came back over another bridge", nil
	}
	if s.wary { // else the link that is written last says so
		seen, err := s.Store.LinksByMIMI(s.ctx, v.head.ID, received.ID[:])
		if err != nil {
			return nil, "", err
		}
		if len(seen) > 0 {
			return nil, "it was shown before", nil
		}
	}
	m, err := s.memberOf(user)
	if err != nil {
		return nil, "its sender has no place in Matrix", nil
	}
	role := v.policy.Role(v.policy.RoleIndex(user))
	has := func(c policy.Capability) bool { return role != nil && role.Has(c) }
	return &mapping.Incoming{Message: received.Message, ID: received.ID, SenderURI: user, Sender: userID(m.MXID), AcceptedMS: item.Timestamp,
		MayNotifyRoom: has(policy.CanRemoveParticipant), MayDeleteOthers: has(policy.CanDeleteOtherMessage),
		MayDeleteOthersReactions: has(policy.CanDeleteOtherReaction)}, "", nil
}

// show queues the events that a message becomes, each with its link.
func (s *step) show(in *mapping.Incoming, item *wire.FanoutMessage) error {
	v := s.room
	links := &linkFinder{s: s}
	res := s.mappingRoom(links).FromMIMI(*in)
	if links.err != nil {
		return links.err
	}
	if !s.mayShow(in, links) {
		s.Log.Info().Stringer("room", v.head.ID).Str("sender", in.SenderURI).Str("reason", "the sender's role does not allow it").Str("fate", "ignored").Msg("a message was not shown")
		return links.err
	}
	if len(res.Status) > 0 {
		return s.onStatus(in, res.Status, s.mappingRoom(links))
	}
	if m, _ := v.members.of(string(in.Sender)); m.Membership != string(event.Join) && m.Ghost && len(res.Events) > 0 {
		s.placeIn(&m, policy.RoleNone, cause{})
		s.setMember(m)
	}
	if len(res.Events) > 0 {
		s.callBack()
	}
	var frank []byte
	if item.Frank != nil {
		frank = item.Frank.Marshal()
	}
	for i := range res.Events {
		out := &res.Events[i]
		if out.Redacts != "" && !s.prepareRedaction(out) {
			continue
		}
		if link := s.showEvent(in, out); link != nil {
			link.Frank = frank
		}
	}
	if len(res.Events) > 0 {
		s.expire(in.ID, in.Message.Expires)
		s.willReportDelivery()
	}
	s.passes("K19", "")
	return nil
}

// showEvent queues an event that a message becomes, with its link; in the place of one with a file, the file is fetched first. The pointer is
// valid until the next link; nil: the event has none.
func (s *step) showEvent(in *mapping.Incoming, out *mapping.Out) *store.Link {
	var job *media.Fetch
	if out.File != nil {
		job = s.fetchJob(in, out)
	}
	var row *store.Outbound
	if job != nil {
		row = s.blank()
	} else {
		row = s.matrixRequest(out.Request())
	}
	if out.Kind == "" {
		return nil
	}
	link := store.Link{Room: s.room.head.ID, Seq: s.seq(), MIMIID: in.ID[:], Part: int64(out.Part), Direction: store.In, Kind: string(out.Kind),
		Sender: in.SenderURI, SenderMXID: string(in.Sender), FirstEvent: string(out.FirstEvent), Topic: hex.EncodeToString(out.Topic),
		Data: string(mustJSON(linkData{Memory: out.Memory})), AcceptedMS: int64(in.AcceptedMS), CreatedMS: s.nowMS()}
	if !out.First.IsZero() {
		link.FirstID = out.First[:]
	}
	row.AnswerTo, row.AnswerSeq = store.AnswerLink, link.Seq
	if job != nil {
		s.fetch(job, out, link.Seq, row.Seq)
	}
	s.fx.links = append(s.fx.links, link)
	return &s.fx.links[len(s.fx.links)-1]
}

// onUnreadable shows that a message could not be decrypted.
func (s *step) onUnreadable(item *wire.FanoutMessage, cause error) error {
	v := s.room
	s.Log.Warn().Err(cause).Stringer("room", v.head.ID).Uint64("epoch", item.Message.Epoch()).Uint64("now", v.group.Epoch()).Str("fate", "ignored").
		Msg("a message could not be decrypted")
	if mls.KindOf(cause) == mls.KindReplay {
		return nil // read before, and brought again by somebody
	}
	if v.group.Epoch()-item.Message.Epoch() > mls.DefaultPastEpochs {
		return nil // of a time before we joined, or long ago
	}
	s.notice("A message could not be decrypted.", "")
	return nil
}
