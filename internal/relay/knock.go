package relay

import (
	"context"
	"errors"
	"slices"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Knocks (docs/extensions.md): a user of ours asks to be let into a room of another hub, which says that it has heard; what becomes
// of it may be told at any time, or never. As the hub we show the knock of the user's ghost where the Matrix room takes knocks.

const (
	// maxKnocks bounds the knocks at one room that are not answered.
	maxKnocks = 100
	// knocksAnHour bounds the knocks of one user of ours, peerKnocksAnHour those of a provider at one room.
	knocksAnHour, peerKnocksAnHour = 10, 50
)

// errNoKnock is for who knocks where it is of no use.
var errNoKnock = errors.New("its provider takes no knocks: ask somebody in the room to invite you")

// Knock asks to be let into a room of another hub, in the name of a Matrix user. That the hub heard it, and what becomes of it,
// is told in the chat with the bot. The user agrees to be added to the room by people of the hub's provider.
func (r *Relay) Knock(ctx context.Context, by, room, reason string) error {
	return r.knock(ctx, by, room, action{Do: actKnock, By: by, Text: cutBytes(reason, wire.MaxKnockReason)})
}

// Unknock takes a knock back.
func (r *Relay) Unknock(ctx context.Context, by, room string) error {
	return r.knock(ctx, by, room, action{Do: actUnknock, By: by})
}

func (r *Relay) knock(ctx context.Context, by, room string, a action) error {
	link, err := wire.ParseJoinLink(room)
	u := link.Room
	switch {
	case err != nil:
		return errors.New("it is no MIMI room: they look like mimi://a.example/r/clubhouse")
	case r.Naming.Own(u):
		return errors.New("it is a room of this bridge: knock at it on Matrix")
	case r.blockedUser(string(u)):
		return errors.New("its provider is not spoken with")
	case !r.mayShare(u.Domain(), verbKnock):
		return errNoKnock
	}
	if err := r.allow(ctx, "knock", by, knocksAnHour); err != nil {
		return errors.New("you have knocked too often: wait an hour")
	}
	var id store.RoomID
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		head, err := tx.RoomByName(ctx, store.NameMIMI, u.Key())
		if errors.Is(err, store.ErrNotFound) {
			head, err = r.newFollowerRoom(ctx, tx, u.Domain(), u)
		}
		id = head.ID
		return err
	})
	if err != nil {
		return err
	}
	return r.act(ctx, id, a)
}

// actKnock sends a knock, or takes it back. People of the hub's provider may add the user to the room then, and not any more.
func (s *step) actKnock(a action) error {
	v := s.room
	user := s.actorOf(a.By)
	if v.head.Kind != store.RoomFollower || user == "" {
		return nil
	}
	if s.listed(user) {
		s.tellUser(a.By, "You are in the room "+v.head.URI+" already, or invited.")
		return nil
	}
	if _, err := s.client(s.ctx, a.By); err != nil {
		return err
	}
	q := &wire.KnockRequest{Operation: wire.KnockAsk, User: wire.IdentifierURI(user), Reason: a.Text}
	state := store.ConsentGranted
	if a.Do == actUnknock {
		q.Operation, state = wire.KnockWithdraw, store.ConsentCancelled
		v.st.Knocks = slices.DeleteFunc(v.st.Knocks, func(k string) bool { return k == a.By })
	} else if !slices.Contains(v.st.Knocks, a.By) {
		if len(v.st.Knocks) >= maxKnocks {
			s.tellUser(a.By, "Too many people knock at the room "+v.head.URI+" now.")
			return nil
		}
		v.st.Knocks = append(v.st.Knocks, a.By)
	}
	s.fx.consents = append(s.fx.consents, store.Consent{Direction: store.In, Owner: q.User.Key(), Requester: providerURI(v.head.Hub), Room: v.uri().Key(),
		State: state, UpdatedMS: s.nowMS()})
	o := s.aside(v.head.Hub, verbKnock, q.Marshal())
	o.Target = v.head.URI
	if a.Do == actKnock {
		ask(o, refKnock+":"+a.By, 0)
	}
	return nil
}

// onKnocked: the hub has heard a knock, or not.
func (s *step) onKnocked(a *store.Answer, by string) error {
	v := s.room
	if !slices.Contains(v.st.Knocks, by) {
		return nil
	}
	answer, err := wire.UnmarshalKnockResponse(a.Body)
	switch {
	case a.Class == "done" && err == nil && answer.Status == wire.KnockReceived:
		s.tellUser(by, "Your knock was received at the room "+v.head.URI+". You will be invited if you are let in.")
		return nil
	case a.Class == "done":
		s.tellUser(by, "The room "+v.head.URI+" takes no knocks.")
	case a.Class == "refused":
		s.tellUser(by, "You cannot knock at the room "+v.head.URI+": "+errNoKnock.Error()+".")
	default:
		s.tellUser(by, "You cannot knock at the room "+v.head.URI+": its provider could not be reached.")
	}
	s.endKnock(by)
	return nil
}

// endKnock forgets a knock of a user of ours.
func (s *step) endKnock(by string) {
	s.room.st.Knocks = slices.DeleteFunc(s.room.st.Knocks, func(k string) bool { return k == by })
	s.fx.consents = append(s.fx.consents, store.Consent{Direction: store.In, Owner: wire.IdentifierURI(s.actorOf(by)).Key(),
		Requester: providerURI(s.room.head.Hub), Room: s.room.uri().Key(), State: store.ConsentCancelled, UpdatedMS: s.nowMS()})
}

// KnockOutcome takes the word of a hub on a knock of a user of ours.
func (r *Relay) KnockOutcome(ctx context.Context, peer string, _ wire.IdentifierURI, body []byte) (Reply, error) {
	received, err := wire.UnmarshalKnockOutcome(body)
	if err != nil {
		return Reply{}, err
	}
	o, err := received.Check(peer, r.Naming.Domain)
	if err != nil {
		return Reply{}, err
	}
	head, err := r.Store.RoomByName(ctx, store.NameMIMI, o.RoomID.Key())
	if errors.Is(err, store.ErrNotFound) {
		return Reply{}, nil // nobody of ours knows the room
	}
	if err != nil {
		return Reply{}, err
	}
	_, err = r.runStep(ctx, head.ID, nil, store.Settle{}, func(s *step) error { return s.onKnockOutcome(o) })
	return Reply{}, err
}

func (s *step) onKnockOutcome(o *wire.KnockOutcome) error {
	by, err := s.ownMXID(string(o.User))
	if err != nil || s.room.head.Kind != store.RoomFollower || !slices.Contains(s.room.st.Knocks, by) {
		return nil // not asked for, or told before
	}
	if o.Verdict == wire.KnockAccepted {
		// The consent stays: they are about to be added.
		s.room.st.Knocks = slices.DeleteFunc(s.room.st.Knocks, func(k string) bool { return k == by })
		s.tellUser(by, "You are let into the room "+s.room.head.URI+": the invitation follows.")
		return nil
	}
	s.endKnock(by)
	s.tellUser(by, "You are not let into the room "+s.room.head.URI+".")
	return nil
}

// KnockAt takes the knock of a user of another provider at a room that we are the hub of. A room that is not there and one that
// takes no knocks look the same.
func (r *Relay) KnockAt(ctx context.Context, peer string, path wire.IdentifierURI, body []byte) (Reply, error) {
	received, err := wire.UnmarshalKnockRequest(body)
	if err != nil {
		return Reply{}, err
	}
	q, err := received.Check(peer)
	if err != nil {
		return Reply{}, err
	}
	answer := wire.KnockResponse{Status: wire.KnockNotTaken}
	id, err := r.hubRoomFor(ctx, path, peer, func(s *step) bool { return s.takesKnocks(q) })
	if errors.Is(err, ErrNotFound) {
		return Reply{Body: answer.Marshal()}, nil
	}
	if err != nil {
		return Reply{}, err
	}
	if err := r.allow(ctx, "knockAt", peer+" "+path.Key(), peerKnocksAnHour); err != nil {
		return Reply{}, err
	}
	_, err = r.runStep(ctx, id, nil, store.Settle{}, func(s *step) error {
		if s.onKnock(q) {
			answer.Status = wire.KnockReceived
		}
		return nil
	})
	return Reply{Body: answer.Marshal()}, err
}

// takesKnocks tells whether the Matrix room takes knocks, of this user, too.
func (s *step) takesKnocks(q *wire.KnockRequest) bool {
	v := s.room
	return v.group != nil && v.head.State == stateActive && (v.matrix.Join == "knock" || v.matrix.Join == "knock_restricted") &&
		v.policy.RoleIndex(string(q.User)) != policy.RoleBanned && !s.denied(q.User.Domain())
}

// onKnock shows a knock in the Matrix room, and tells whether it was taken.
func (s *step) onKnock(q *wire.KnockRequest) bool {
	v := s.room
	user := string(q.User)
	if !s.takesKnocks(q) {
		return false
	}
	mxid, _, err := s.mxidOf(user)
	if err != nil {
		return false
	}
	m, _ := v.members.of(mxid)
	if q.Operation == wire.KnockWithdraw {
		if i := slices.Index(v.st.Knocks, user); i >= 0 {
			v.st.Knocks = slices.Delete(v.st.Knocks, i, i+1)
			s.matrix(event.LeaveRoom{Sender: userID(mxid)})
			m.Membership = string(event.Leave)
			s.setMember(m)
		}
		return true
	}
	switch event.Membership(m.Membership) {
	case event.Knock, event.Invite, event.Join:
		return true // heard before
	case event.Ban:
		return false
	}
	if len(v.st.Knocks) >= maxKnocks {
		return false
	}
	v.st.Knocks = append(v.st.Knocks, user)
	m.Membership, m.Ghost, m.URI = string(event.Knock), true, user
	s.setMember(m)
	reason := html.Line(q.Reason, 200)
	o := s.matrix(event.KnockRoom{Sender: userID(mxid), Reason: reason})
	ask(o, refShownKnock+":"+user, 0)
	said := ""
	if reason != "" {
		said = ": \"" + html.Apart(reason) + "\""
	}
	s.wantProfile(user)
	s.notice(s.nameOf(user)+" ("+user+") asks to be let in"+said+". Invite "+mxid+" to let them in, or remove their knock to refuse.", "")
	return true
}

// onShownKnock: the homeserver did not take a knock that the hub had heard.
func (s *step) onShownKnock(a *store.Answer, user string) error {
	if a.Class == "done" {
		return nil
	}
	if m, ok := s.room.members.ofURI(user); ok && m.Membership == string(event.Knock) {
		m.Membership = string(event.Leave)
		s.setMember(m)
	}
	s.knockAnswered(user, wire.KnockDeclined)
	return nil
}

// knockAnswered tells the provider of somebody who knocked what became of it.
func (s *step) knockAnswered(user string, verdict wire.KnockVerdict) {
	v := s.room
	i := slices.Index(v.st.Knocks, user)
	if v.head.Kind != store.RoomHub || i < 0 {
		return
	}
	v.st.Knocks = slices.Delete(v.st.Knocks, i, i+1)
	o := &wire.KnockOutcome{RoomID: v.uri(), User: wire.IdentifierURI(user), Verdict: verdict}
	s.aside(o.User.Domain(), verbKnockOutcome, o.Marshal())
}
