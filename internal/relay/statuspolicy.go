package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// StatusChange is what somebody wants of the status_notification_policy of a room (draft-ietf-mimi-room-policy-03,
// StatusNotificationPolicy): optional, required or forbidden. What is "" stays.
type StatusChange struct {
	Delivery string `json:"delivery,omitempty"`
	Read     string `json:"read,omitempty"`
}

// of is a policy with the change.
func (c StatusChange) of(p policy.StatusNotificationPolicy) (policy.StatusNotificationPolicy, error) {
	for _, x := range []struct {
		word string
		to   *policy.Optionality
	}{{c.Delivery, &p.DeliveryNotifications}, {c.Read, &p.ReadReceipts}} {
		if x.word == "" {
			continue
		}
		o, ok := policy.ParseOptionality(x.word)
		if !ok {
			return p, fmt.Errorf("%q is none of optional, required and forbidden", x.word)
		}
		*x.to = o
	}
	return p, nil
}

// StatusPolicy tells in a Matrix room whether people are told what was read and what arrived there, or changes that in the name
// of a Matrix user. What comes of it is told in the room. ErrNoRoom when the bridge is not in it; an error for a word that says
// nothing.
func (r *Relay) StatusPolicy(ctx context.Context, roomID, by, eventID string, change StatusChange) error {
	if _, err := change.of(policy.StatusNotificationPolicy{}); err != nil {
		return err
	}
	id, err := r.Store.RoomIDByName(ctx, store.NameMatrix, roomID)
	if errors.Is(err, store.ErrNotFound) {
		return ErrNoRoom
	}
	if err != nil {
		return err
	}
	return r.act(ctx, id, action{Do: actStatusPolicy, By: by, Event: eventID, Status: &change})
}

func (s *step) actStatusPolicy(a action) error {
	v := s.room
	if v.policy == nil || v.head.State != stateActive {
		s.notice("This room is not joined to MIMI.", a.Event)
		return nil
	}
	if a.Status == nil || *a.Status == (StatusChange{}) {
		s.notice(fmt.Sprintf("Read receipts in this room: %s. Reports that messages have arrived: %s.", v.policy.Status.ReadReceipts,
			v.policy.Status.DeliveryNotifications), a.Event)
		return nil
	}
	next, err := a.Status.of(v.policy.Status)
	if err != nil {
		return err
	}
	if why := s.mayNotDemand(a.By, next); why != "" {
		s.notice(why, a.Event)
		return nil
	}
	if next == v.policy.Status {
		s.notice("So it is.", a.Event)
	}
	s.wish(intentPolicy, s.bot, "", intentData{Components: map[uint16][]byte{policy.ComponentStatus: next.Marshal()}, Event: a.Event, By: a.By})
	return nil
}

// mayNotDemand says why somebody may not give the room this policy, "" when they may. It takes what changing everybody's powers
// takes on Matrix: what is demanded is demanded of all.
func (s *step) mayNotDemand(by string, next policy.StatusNotificationPolicy) string {
	v := s.room
	p := v.matrix.power()
	switch need := p.State(event.TypePowerLevels); {
	case v.head.Kind != store.RoomHub:
		return "That is decided at " + v.head.Hub + ", which leads this room."
	case s.fixed():
		return "In a direct chat that cannot be changed."
	case p.User(userID(by)) < need:
		return fmt.Sprintf("You may not change that in this room: it needs power level %d.", need)
	case len(v.members.byMXID) > s.cfg.MaxExport && next != forbiddenStatus:
		return fmt.Sprintf("This room is larger than %d people: receipts would flood it.", s.cfg.MaxExport)
	}
	return ""
}

// forbiddenStatus is the policy of rooms that are so large that receipts would flood them.
var forbiddenStatus = policy.StatusNotificationPolicy{DeliveryNotifications: policy.Forbidden, ReadReceipts: policy.Forbidden}

// tellStatus tells the people of a room what its policy demands of them, when that is news.
func (s *step) tellStatus() {
	v := s.room
	text := mapping.StatusTold(v.policy.Status)
	if v.group == nil || v.head.MatrixRoomID == "" && !v.st.Portal || text == v.st.StatusTold {
		return
	}
	v.st.StatusTold = text
	if text == "" {
		text = "Everybody decides again whether their read receipts are sent on in this room."
	}
	s.notice(text, "")
}
