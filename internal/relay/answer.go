package relay

import (
	"strconv"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
	"github.com/matrix-mimi/bridge/mimiside/follower"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// onAnswer takes the outcome of a request of ours.
func (s *step) onAnswer(a *store.Answer) error {
	ref, rest, _ := strings.Cut(a.Ref, ":")
	switch ref {
	case refUpdate:
		return s.onUpdateAnswer(a)
	case refProposals:
		return s.onProposalsAnswer(a, rest)
	case refSubmit:
		return s.onSubmitAnswer(a, rest)
	case refClaim:
		return s.onClaim(a)
	case refClaims:
		return s.onClaims(a)
	case refTold:
		return nil
	case refOpenJoin:
		return s.onOpenJoin(a)
	case refBotJoin:
		return s.onBotJoin(a, rest)
	case refPortal:
		return s.onPortal(a)
	case refGroupInfo, refEvidence, refExternal, refCompare:
		return s.onGroupInfo(a, ref)
	case refUpgrade:
		s.onUpgraded(a, rest)
	case refGoOver:
		s.onGoneOver()
	case refUploaded:
		return s.onUploaded(a, rest)
	case refAvatar:
		return s.onAvatar(a, rest)
	case refProfiles:
		return s.onProfiles(a, rest)
	case refLinkStatus:
		return s.onLinkStatus(a, rest)
	case refKnock:
		return s.onKnocked(a, rest)
	case refShownKnock:
		return s.onShownKnock(a, rest)
	case refPicture:
		return s.onPicture(a, rest)
	case refFetched:
		return s.onFetched(a)
	case refReport:
		s.onReportAnswer(a, rest)
		return nil
	case refMember:
		return s.onMembershipAnswer(a, rest)
	}
	if a.Dest == destMatrix {
		return s.onMatrixRefused(a)
	}
	if a.Verb == verbNotify && a.Class == store.OutcomeDead {
		s.onGivenUp(strings.TrimPrefix(a.Dest, destMIMI))
	}
	return nil
}

// givenUpEvery is how often the people of a room and the operator are told at most that a follower did not get what was written there.
const givenUpEvery = 24 * time.Hour

// onGivenUp: a follower did not get something in all its time. Who wrote it is told, in the room, and the operator.
func (s *step) onGivenUp(domain string) {
	st := &s.room.st
	if s.nowMS() < st.GivenUp[domain]+givenUpEvery.Milliseconds() {
		return
	}
	for d, at := range st.GivenUp {
		if s.nowMS() >= at+givenUpEvery.Milliseconds() {
			delete(st.GivenUp, d)
		}
	}
	if st.GivenUp == nil {
		st.GivenUp = map[string]int64{}
	}
	st.GivenUp[domain] = s.nowMS()
	s.Alert("dead", "deliveries to "+domain+" in room "+s.room.head.ID.String()+" were given up; dead-letters of the bot lists them")
	s.notice("⚠ "+domain+" did not answer for too long. Its people did not get all of what was written here.", "")
}

// onUpdateAnswer: the hub's word on our commit (T7–T9).
func (s *step) onUpdateAnswer(a *store.Answer) error {
	p := s.room.pending
	if p == nil || p.OutboundSeq != a.Seq {
		return nil // resolved by other evidence
	}
	if a.Class == "done" {
		answer, err := wire.UnmarshalUpdateRoomResponse(a.Body)
		if err != nil {
			s.Log.Warn().Err(err).Stringer("room", s.room.head.ID).Msg("the hub's answer to a commit was not understood")
			return s.askEvidence()
		}
		return s.settlePending(s.pendingView().OnAnswer(answer), html.Apart(html.Line(answer.ErrorDescription, 200)))
	}
	// The hub said no without a verdict, or could not be reached in five days. What became of the commit is for the
	// hub's state to tell; where that is not given either, we are not in the room any more.
	return s.askEvidence()
}

func (s *step) onProposalsAnswer(a *store.Answer, user string) error {
	taken := false
	if a.Class == "done" {
		if answer, err := wire.UnmarshalUpdateRoomResponse(a.Body); err == nil {
			taken = answer.ResponseCode == wire.UpdateSuccess
			if answer.ResponseCode == wire.UpdateWrongEpoch {
				s.reopenLeave(user)
				return nil
			}
		}
	}
	return s.leaveAnswered(user, taken)
}

// onSubmitAnswer: the hub did not take a message (T3). The link is marked as failed already.
func (s *step) onSubmitAnswer(a *store.Answer, said string) error {
	link, err := s.Store.LinkBySeq(s.ctx, s.room.head.ID, a.For)
	if err != nil {
		return ignoreNotFound(err)
	}
	tries, _ := strconv.Atoi(said)
	why, retry := "the room's provider could not be reached", a.Class == "dead"
	if a.Class == "done" || a.Class == "refused" {
		why = "the room does not accept this message"
		if answer, err := wire.UnmarshalSubmitMessageResponse(a.Body); err == nil {
			switch follower.OnSubmit(answer, tries) {
			case follower.Again:
				return s.sayAgain(&link, tries+1, answer.CurrentEpoch)
			case follower.Delivered:
				s.fx.setLinks = append(s.fx.setLinks, linkChange{seq: link.Seq, state: store.LinkSent, acceptedMS: int64(answer.AcceptedTimestamp)})
				s.delivered(link.EventID)
				return nil
			}
			if answer.StatusCode == wire.SubmitEpochTooOld {
				why, retry = "the room changes too often", true
			}
		}
	}
	s.failed(link.EventID, link.SenderMXID, why, retry)
	return nil
}

// onBotJoin: the bot is in the room now.
func (s *step) onBotJoin(a *store.Answer, inviter string) error {
	if a.Class != "done" {
		return nil
	}
	m, _ := s.room.members.of(s.cfg.Bot)
	m.Membership = string(event.Join)
	s.setMember(m)
	if inviter != "" && s.room.head.Kind == store.RoomNone {
		s.room.st.Greet, s.room.st.MembersRead = inviter, false
		s.readRoom()
	}
	return nil
}

// onMatrixRefused: the homeserver did not take an event that shows a message. Its ghost is most likely not in the room: before
// the next one it joins again.
func (s *step) onMatrixRefused(a *store.Answer) error {
	link, err := s.Store.LinkBySeq(s.ctx, s.room.head.ID, a.For)
	if err != nil {
		return ignoreNotFound(err)
	}
	s.Log.Warn().Stringer("room", s.room.head.ID).Str("verb", a.Verb).Int("status", a.Status).Str("reason", a.Reason).Str("fate", a.Class).
		Msg("the homeserver did not take an event")
	if m, ok := s.room.members.byMXID[link.SenderMXID]; ok && m.Ghost && m.Membership == string(event.Join) {
		m.Membership = string(event.Leave)
		s.setMember(m)
	}
	s.once("refused-event", func() {
		s.notice("A message of "+s.nameOf(link.Sender)+" could not be shown here.", "")
	})
	return nil
}

// onMembershipAnswer: the homeserver did not carry out a change of membership.
func (s *step) onMembershipAnswer(a *store.Answer, mxid string) error {
	if a.Class != "done" {
		s.Log.Warn().Stringer("room", s.room.head.ID).Str("verb", a.Verb).Int("status", a.Status).Msg("the homeserver refused a change of membership")
	}
	return nil
}
