package relay

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/hub"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

const (
	// reportAfter is how long reports of what was read and delivered are collected (docs/mapping.md §8).
	reportAfter = 5 * time.Second
	// maxReported bounds the messages that are looked at for one report.
	maxReported = 200
	// maxReporters bounds the users of ours who say that they have a message, where a room demands it.
	maxReporters = 20
)

// receipts is the body of an input of that kind: who has read the room up to where.
type receipts []receipt

type receipt struct {
	User    string `json:"user"`
	Event   string `json:"event"`
	Private bool   `json:"private,omitempty"`
}

// acceptReceipts makes an input of the receipts in a room; ok is false when they concern nobody.
func (r *Relay) acceptReceipts(ctx context.Context, tx *store.Tx, e *event.Ephemeral) (in store.NewInput, ok bool, err error) {
	var list receipts
	for _, x := range e.Receipts {
		if r.exported(string(x.User)) {
			list = append(list, receipt{string(x.User), string(x.Event), x.Private})
		}
	}
	if len(list) == 0 {
		return in, false, nil
	}
	room, err := tx.RoomByName(ctx, store.NameMatrix, string(e.Room))
	if errors.Is(err, store.ErrNotFound) || err == nil && room.Kind == store.RoomNone {
		return in, false, nil
	}
	return store.NewInput{Room: room.ID, Kind: inputReceipt, Epoch: -1, Body: mustJSON(list), CreatedMS: r.Clock().UnixMilli()}, err == nil, err
}

// onReceipts notes what Matrix users have read; reports go out together after a while. A receipt for an event that never went
// over the bridge says nothing.
func (s *step) onReceipts(body []byte) error {
	var list receipts
	if err := json.Unmarshal(body, &list); err != nil {
		return err
	}
	v := s.room
	if v.group == nil {
		return nil
	}
	noted := false
	for _, r := range list {
		if !v.members.joined(r.User) {
			continue
		}
		l, err := s.Store.LinkByEvent(s.ctx, v.head.ID, r.Event)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		m, _ := v.members.of(r.User)
		d := dataOfMember(m)
		if !s.reads(r.Private) {
			if err := s.readUnreported(m, d, l.Seq); err != nil {
				return err
			}
			continue
		}
		if l.Seq <= max(d.Read, d.Reading) {
			continue
		}
		d.Reading, noted = l.Seq, true
		s.setMemberData(m, d)
	}
	if noted && !v.st.Reporting {
		v.st.Reporting = true
		s.later(timerReport, s.now.Add(reportAfter).UnixMilli())
	}
	return nil
}

// readUnreported notes that a user has read up to a link, which nobody is told: what expires after reading begins to.
func (s *step) readUnreported(m store.Member, d memberData, last int64) error {
	from := max(d.Read, d.Unreported)
	if last <= from {
		return nil
	}
	d.Unreported = last
	s.setMemberData(m, d)
	_, err := s.readBetween(m.URI, from, last)
	return err
}

// reads tells whether receipts of Matrix users are reported (docs/mapping.md §6): the room's policy decides, and where it leaves the
// choice, the operator. Private ones are reported only where the room demands it.
func (s *step) reads(private bool) bool {
	switch s.room.policy.Status.ReadReceipts {
	case policy.Required:
		return true
	case policy.Forbidden:
		return false
	}
	return !private && !s.cfg.NoReceipts
}

// onReport sends the reports that were collected.
func (s *step) onReport() error {
	v := s.room
	if v.group == nil || v.head.State != stateActive {
		v.st.Reporting = false // what was read is reported with the next receipt
		return nil
	}
	if s.mustCommitFirst() {
		return nil // tried again after the commit
	}
	v.st.Reporting = false
	for _, mxid := range sortedKeys(v.members.byMXID) {
		m := v.members.byMXID[mxid]
		if m.Ghost || m.Data == "" {
			continue
		}
		d := dataOfMember(m)
		if d.Reading <= d.Read {
			continue
		}
		ids, err := s.readBetween(m.URI, d.Read, d.Reading)
		if err != nil {
			return err
		}
		if err := s.report(m.URI, ids, content.Read); err != nil {
			return err
		}
		d.Read, d.Reading = d.Reading, 0
		s.setMemberData(m, d)
	}
	return s.reportDelivered()
}

// readBetween lists the messages of others with numbers above after and up to last, the newest first. What expires after reading
// begins to.
func (s *step) readBetween(user string, after, last int64) ([]content.MessageID, error) {
	links, err := s.Store.LinksBetween(s.ctx, s.room.head.ID, after, last, maxReported)
	if err != nil {
		return nil, err
	}
	var ids []content.MessageID
	for i := range links {
		l := &links[i]
		if l.Sender == user || !reportable(l) {
			continue
		}
		k := known(l)
		if x := k.Expires; x != nil && x.Relative {
			s.later(timerExpire+hex.EncodeToString(l.MIMIID), s.now.Add(time.Duration(x.Time)*time.Second).UnixMilli())
		}
		if !slices.Contains(ids, k.ID) {
			ids = append(ids, k.ID)
		}
	}
	return ids, nil
}

func reportable(l *store.Link) bool {
	kind := mapping.Kind(l.Kind)
	return (kind == mapping.KindText || kind == mapping.KindMedia) && l.State != store.LinkFailed && l.State != store.LinkRedacted &&
		len(l.MIMIID) == len(content.MessageID{})
}

// reportDelivered says that what came is stored in Matrix, where the room demands to be told.
func (s *step) reportDelivered() error {
	v := s.room
	if v.policy.Status.DeliveryNotifications != policy.Required {
		return nil
	}
	last := v.head.NextSeq - 1
	links, err := s.Store.LinksBetween(s.ctx, v.head.ID, v.st.Delivered, last, maxReported)
	if err != nil {
		return err
	}
	v.st.Delivered = last
	reporters := 0
	for _, leaf := range v.group.OwnLeaves() {
		who, ok := v.leaves.Who(leaf)
		user := s.listedURI(who.User)
		if !ok || user == s.bot || reporters == maxReporters {
			continue
		}
		var ids []content.MessageID
		for i := range links {
			if l := &links[i]; l.Direction == store.In && reportable(l) && !slices.Contains(ids, known(l).ID) {
				ids = append(ids, known(l).ID)
			}
		}
		if len(ids) > 0 {
			reporters++
		}
		if err := s.report(user, ids, content.Delivered); err != nil {
			return err
		}
	}
	return nil
}

// report sends a status report of a user of ours: messages may be empty. Nobody is told when it is not accepted.
func (s *step) report(user string, messages []content.MessageID, status content.MessageStatus) error {
	v := s.room
	leaf, ok := v.ownLeaf(user)
	if !ok || len(messages) == 0 {
		return nil
	}
	salt, err := content.NewSalt(s.Rand)
	if err != nil {
		return err
	}
	m, err := s.mappingRoom(&linkFinder{s: s}).ToStatus(user, messages, status, salt)
	if err != nil {
		return err
	}
	octets, err := m.Marshal()
	if err != nil {
		return err
	}
	message, err := s.protect(user, leaf, octets, salt)
	if err != nil {
		return err
	}
	q := wire.SubmitMessageRequest{Message: message, SendingURI: wire.IdentifierURI(user)}
	if v.head.Kind == store.RoomFollower {
		s.mimi(v.head.Hub, verbSubmitMessage, q.Marshal())
		return nil
	}
	if verdict := hub.SubmitMessage(s.now, s.hubRoom(), s.franker(), &q); verdict.Item != nil {
		s.accepted(verdict, user)
	}
	return nil
}

// onStatus shows what others say of messages: a receipt of the ghost, the fate of a message to its sender (docs/mapping.md §8).
func (s *step) onStatus(in *mapping.Incoming, report content.StatusReport, r *mapping.Room) error {
	v := s.room
	m, ok := v.members.byMXID[string(in.Sender)]
	if !ok || !m.Ghost || m.Membership != string(event.Join) {
		return nil
	}
	if k, ok := r.ReadUpTo(report); ok && v.policy.Status.ReadReceipts != policy.Forbidden {
		d := dataOfMember(m)
		if k.Seq > d.Read { // never backwards
			d.Read = k.Seq
			s.setMemberData(m, d)
			s.matrixRequest(mapping.Receipt(in.Sender, k))
		}
	}
	delivered, failed := mapping.Delivered(report)
	for _, mimiID := range delivered {
		if err := s.noteDelivered(mimiID, in); err != nil {
			return err
		}
	}
	for _, mimiID := range failed {
		for _, k := range r.Links.ByID(mimiID) {
			if k.Event != "" && s.own(k.Sender) {
				s.once("cannot-show:"+string(in.Sender), func() {
					s.notice(s.nameOf(in.SenderURI)+" says that this message could not be shown to them.", string(k.Event))
				})
			}
		}
	}
	return nil
}

// noteDelivered writes down that a message of ours arrived, and tells its sender where the operator wants that.
func (s *step) noteDelivered(mimiID content.MessageID, in *mapping.Incoming) error {
	links, err := s.Store.LinksByMIMI(s.ctx, s.room.head.ID, mimiID[:])
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Direction != store.Out || l.State != store.LinkPending && l.State != store.LinkSent {
			continue
		}
		s.fx.setLinks = append(s.fx.setLinks, linkChange{seq: l.Seq, state: store.LinkDelivered})
		if s.cfg.StatusEvents && l.EventID != "" {
			s.matrix(event.Send{Sender: s.speaker(), Type: event.TypeSendStatus, Plain: true, Content: event.SendStatus{Event: id.EventID(l.EventID),
				Status: event.StatusSuccess, Network: "mimi", Delivered: []id.UserID{in.Sender}}.Encode()})
		}
	}
	return nil
}

// willReportDelivery sets the time for saying that messages came, where the room demands that.
func (s *step) willReportDelivery() {
	if s.room.policy.Status.DeliveryNotifications != policy.Required || s.room.st.Reporting {
		return
	}
	s.room.st.Reporting = true
	s.later(timerReport, s.now.Add(reportAfter).UnixMilli())
}
