package relay

import (
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// beacon tells whether a state event is the beginning of a live location: a message, although it is state.
func beacon(ev *event.Event) bool {
	return ev.StateKey != nil && (ev.Type == event.TypeBeaconInfo || ev.Type == event.TypeBeaconUnstable)
}

// missing returns the first right that a message needs and its sender lacks. Sending at all is left to the hub, which answers
// for itself.
func (s *step) missing(m *content.Message, user string, target mapping.Known, links *linkFinder) (policy.Capability, bool) {
	about := policy.About{OwnTarget: target.Sender == user}
	if len(m.TopicID) > 0 {
		_, _, about.TopicKnown = links.Topic(m.TopicID)
	}
	needs, possible := policy.MessageNeeds(m, about)
	if !possible {
		return policy.CanEditOwnMessage, true
	}
	role := s.room.policy.Role(s.room.policy.RoleIndex(user))
	for _, c := range needs {
		if c != policy.CanSendMessage && (role == nil || !role.Has(c)) {
			return c, true
		}
	}
	return 0, false
}

// changedBy is the message that another one changes or takes back; it is zero when that is not known.
func changedBy(m *content.Message, links *linkFinder) mapping.Known {
	if m.Replaces.IsZero() {
		return mapping.Known{}
	}
	if list := links.ByID(m.Replaces); len(list) > 0 {
		return list[0]
	}
	return mapping.Known{}
}

// mayShow tells whether the role of a message's author allows what it does. The hub cannot see it: who receives the message
// judges (draft-ietf-mimi-room-policy-03, Message Capabilities).
func (s *step) mayShow(in *mapping.Incoming, links *linkFinder) bool {
	target := changedBy(in.Message, links)
	if !in.Message.Replaces.IsZero() && target.Sender == "" {
		target.Sender = in.SenderURI // not known here: nothing is changed by it
	}
	_, lacks := s.missing(in.Message, in.SenderURI, target, links)
	return !lacks
}

// changed follows what a message of ours did to earlier events: a deletion takes all events of the message with it, because
// MIMI has no parts of a message that could stay.
func (s *step) changed(out *mapping.Outgoing, state string) {
	p := out.Message.Purpose()
	if state == store.LinkFailed || p != content.Delete && p != content.Unlike {
		return
	}
	for _, sibling := range out.Siblings {
		l, err := s.Store.LinkByEvent(s.ctx, s.room.head.ID, string(sibling))
		if err != nil {
			continue
		}
		if hand := s.redactor(l.SenderMXID, s.cfg.Bot); hand != "" {
			s.matrix(event.Redact{Sender: hand, Event: sibling})
		}
	}
	s.markRedacted(out.First)
}

// markRedacted notes that a message and all its edits are gone.
func (s *step) markRedacted(first content.MessageID) {
	room := s.room.head.ID
	list, err := s.Store.LinksByMIMI(s.ctx, room, first[:])
	if err != nil {
		return
	}
	edits, err := s.Store.LinksByFirst(s.ctx, room, first[:])
	if err != nil {
		return
	}
	for _, l := range append(list, edits...) {
		if l.State != store.LinkRedacted {
			s.fx.setLinks = append(s.fx.setLinks, linkChange{seq: l.Seq, state: store.LinkRedacted})
			s.dropActivities(&l)
		}
	}
}

// prepareRedaction finds who can take an event back on Matrix: its author, who asked for it, or the bot. false: nobody can,
// people are told once.
func (s *step) prepareRedaction(out *mapping.Out) bool {
	author := string(out.Sender)
	if k, ok := s.linkOfEvent(out.Redacts); ok {
		author = k.SenderMXID
		first := known(&k).FirstID()
		s.markRedacted(first)
	}
	hand := s.redactor(author, string(out.Sender))
	if hand == "" {
		s.once("redact", func() {
			s.notice("A message was deleted in the MIMI room. I may not delete it here: give me the power to remove messages.", "")
		})
		return false
	}
	out.Sender = hand
	return true
}

func (s *step) linkOfEvent(ev id.EventID) (store.Link, bool) {
	if event.IsPending(ev) {
		mimiID, part, err := event.ParsePending(ev)
		if err != nil {
			return store.Link{}, false
		}
		list, err := s.Store.LinksByMIMI(s.ctx, s.room.head.ID, mimiID)
		for i := range list {
			if err == nil && list[i].Part == int64(part) {
				return list[i], true
			}
		}
		return store.Link{}, false
	}
	l, err := s.Store.LinkByEvent(s.ctx, s.room.head.ID, string(ev))
	return l, err == nil
}

// redactor chooses who redacts an event of author at the wish of actor, both Matrix users: "" when nobody of ours has the power.
func (s *step) redactor(author, actor string) id.UserID {
	p := s.room.matrix.power()
	may := func(mxid string, others bool) bool {
		level := p.User(userID(mxid))
		return s.ours(mxid) && s.room.members.joined(mxid) && level >= p.Event(event.TypeRedaction) && (!others || level >= p.Redact)
	}
	for _, hand := range []string{actor, s.cfg.Bot, author} {
		if may(hand, hand != author) {
			return userID(hand)
		}
	}
	return ""
}

// userEvent is the event of a link, or the reference to one that waits to be sent.
func userEvent(l *store.Link) id.EventID {
	if l.EventID != "" {
		return id.EventID(l.EventID)
	}
	return event.PendingID(l.MIMIID, int(l.Part))
}
