package relay

import (
	"context"
	"errors"
	"strings"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/follower"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Abuse reports of Matrix users. What a report must show is kept for a while when a message comes.

const (
	// maxEvidence is the largest message, as it was encrypted, that is kept: previews included.
	maxEvidence = 128 << 10
	// reportsAnHour bounds the reports of one Matrix user.
	reportsAnHour = 20
)

// keepEvidence keeps a message of somebody else with what its hub said about it, when that proves it.
func (s *step) keepEvidence(app *mls.Application, item *wire.FanoutMessage, in *mapping.Incoming) {
	if item.Frank == nil || len(app.Data) > maxEvidence {
		return
	}
	sender, named := in.Message.Extensions.Text(content.KeySenderURI)
	room, where := in.Message.Extensions.Text(content.KeyRoomURI)
	if !named || !where {
		return
	}
	if s.room.head.Kind == store.RoomFollower {
		c := wire.FrankingContext{SenderURI: wire.IdentifierURI(sender), RoomURI: wire.IdentifierURI(room), AcceptedTimestamp: item.Timestamp}
		if err := follower.CheckFrank(s.room.group, s.room.head.Hub, item, c, in.Message.Salt[:], app.Data); err != nil {
			s.Log.Info().Err(err).Stringer("room", s.room.head.ID).Msg("a message could not be reported: it is not proven")
			return
		}
	}
	m := wire.AbusiveMessage{Content: app.Data, Frank: *item.Frank, AcceptedTimestamp: item.Timestamp}
	s.fx.evidence = append(s.fx.evidence, store.Evidence{Room: s.room.head.ID, MIMIID: in.ID[:], Data: m.Marshal(), CreatedMS: s.nowMS()})
}

// Complaint is a Matrix user's report about a message.
type Complaint struct {
	RoomID, By string
	// Event is the message, Command the event by which it is reported, "" when that is not in the room.
	Event, Command string
	Note           string
	// Anonymous keeps the name of the user from the hub.
	Anonymous bool
}

// ErrOwnMessage says that a message was written on Matrix: the homeserver's administrators are the ones to tell.
var ErrOwnMessage = errors.New("the message was written on Matrix")

// Report tells the hub of a room about a message. What comes of it is told to the user.
func (r *Relay) Report(ctx context.Context, c Complaint) error {
	head, err := r.Store.RoomByName(ctx, store.NameMatrix, c.RoomID)
	if errors.Is(err, store.ErrNotFound) {
		return ErrNoRoom
	}
	if err != nil {
		return err
	}
	m, err := r.Store.Member(ctx, head.ID, c.By)
	if errors.Is(err, store.ErrNotFound) || err == nil && m.Membership != "join" {
		return ErrNoRoom // nobody learns of rooms that they are not in
	}
	if err != nil {
		return err
	}
	link, err := r.Store.LinkByEvent(ctx, head.ID, c.Event)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return ErrNotFound
	case err != nil:
		return err
	case link.Direction != store.In:
		return ErrOwnMessage
	}
	if err := r.allow(ctx, "report-by", c.By, reportsAnHour); err != nil {
		return err
	}
	if err := r.readyOperators(ctx); err != nil {
		return err
	}
	a := action{Do: actReport, By: c.By, Event: c.Command, Target: c.Event, Text: c.Note}
	if c.Anonymous {
		a.User = "anonymous"
	}
	return r.act(ctx, head.ID, a)
}

// actReport makes the report and gives it to the hub, which may be we.
func (s *step) actReport(a action) error {
	v := s.room
	link, err := s.Store.LinkByEvent(s.ctx, v.head.ID, a.Target)
	if err != nil {
		return ignoreNotFound(err)
	}
	if v.group == nil {
		s.answerReport(a.By, a.Event, "This conversation is over: nobody takes reports about it.")
		return nil
	}
	user := s.actorOf(a.By)
	if role := v.policy.Role(v.policy.RoleIndex(user)); role == nil || !role.Has(policy.CanReportAbuse) {
		s.answerReport(a.By, a.Event, "This room does not let you report messages.")
		return nil
	}
	report := wire.AbuseReport{ReportingUser: wire.IdentifierURI(user), AllegedAbuserURI: wire.IdentifierURI(link.Sender), Note: a.Text}
	if a.User != "" {
		report.ReportingUser = ""
	}
	data, err := s.Store.Evidence(s.ctx, v.head.ID, link.MIMIID)
	switch {
	case err == nil:
		m, err := wire.UnmarshalAbusiveMessage(data)
		if err != nil {
			return err
		}
		report.Messages = append(report.Messages, *m)
	case errors.Is(err, store.ErrNotFound):
		s.answerReport(a.By, a.Event, "The message cannot be proven to the room's provider any more: it is reported without it.")
	default:
		return err
	}
	if v.head.Kind == store.RoomFollower {
		o := s.mimi(v.head.Hub, verbReportAbuse, report.Marshal())
		ask(o, refReport+":"+a.By+" "+a.Event, 0)
		return nil
	}
	switch err := s.onAbuseReport(s.Naming.Domain, &report); {
	case errors.Is(err, ErrForbidden), errors.Is(err, ErrNotFound), errors.Is(err, ErrBusy):
		s.answerReport(a.By, a.Event, "Your report was not accepted.")
	case err != nil:
		return err
	default:
		s.answerReport(a.By, a.Event, "Your report was given to the administrators of this bridge, who lead this room.")
	}
	return nil
}

// onReportAnswer tells a user what the hub made of their report.
func (s *step) onReportAnswer(a *store.Answer, rest string) {
	by, command, _ := strings.Cut(rest, " ")
	hub := strings.TrimPrefix(a.Dest, destMIMI)
	switch a.Class {
	case "done":
		s.answerReport(by, command, "Your report was taken by "+hub+", which leads this room.")
	case "refused":
		s.answerReport(by, command, "Your report was not accepted by "+hub+", which leads this room.")
	default:
		s.answerReport(by, command, "Your report could not be brought to "+hub+", which leads this room.")
	}
}

// answerReport answers where the report was made: in the room, as a reply, or in the chat with the bot.
func (s *step) answerReport(by, command, text string) {
	if command != "" {
		s.notice(text, command)
		return
	}
	s.tellUser(by, text)
}
