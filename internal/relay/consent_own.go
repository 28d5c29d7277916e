package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// What users of ours say about being invited, and what they hear, in the chat with the bot.

// consentRoom is the room whose steps do what concerns a user's consents: the chat with the bot, or one that becomes it.
func (r *Relay) consentRoom(ctx context.Context, mxid string) (store.RoomID, error) {
	id, err := r.knownConsentRoom(ctx, mxid)
	if !errors.Is(err, store.ErrNotFound) {
		return id, err
	}
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		return tx.CreateRoom(ctx, store.Room{ID: id, Kind: store.RoomNone, Epoch: -1, CreatedMS: r.Clock().UnixMilli()})
	})
	if errors.Is(err, store.ErrDuplicate) {
		err = nil
	}
	return id, err
}

// maxChats bounds how many chats the bot makes for one user in the course of time.
const maxChats = 100

// knownConsentRoom is consentRoom without making one: store.ErrNotFound when there is none, with the id that it will have.
func (r *Relay) knownConsentRoom(ctx context.Context, mxid string) (store.RoomID, error) {
	if room, err := r.Store.ManagementRoom(ctx, mxid); err == nil {
		if id, err := r.Store.RoomIDByName(ctx, store.NameMatrix, room); err == nil {
			return id, nil
		}
	}
	var id store.RoomID
	for n := range maxChats {
		name := mxid
		if n > 0 {
			name += " " + strconv.Itoa(n)
		}
		id = store.DerivedRoomID("consent", name)
		if room, err := r.Store.Room(ctx, id); err != nil || room.MatrixRoomID == "" {
			return id, err
		} // was a chat once: the user left it, or others came in
	}
	return id, nil
}

// consentWork stores a consent and the input that follows from it, together.
func (r *Relay) consentWork(ctx context.Context, w consentWork, c *store.Consent) error {
	id, err := r.consentRoom(ctx, w.User)
	if err != nil {
		return err
	}
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		if c != nil {
			if err := tx.PutConsent(ctx, *c); err != nil {
				return err
			}
		}
		_, err := tx.AddInputs(ctx, []store.NewInput{r.consentInput(id, w)})
		return err
	})
	if err == nil {
		r.Wake(id)
	}
	return err
}

func (r *Relay) consentInput(id store.RoomID, w consentWork) store.NewInput {
	return store.NewInput{Room: id, Kind: inputConsent, Source: w.Do, Epoch: -1, Body: mustJSON(w), CreatedMS: r.Clock().UnixMilli()}
}

// Consents lists what others ask a Matrix user, or may do with its word.
func (r *Relay) Consents(ctx context.Context, mxid string) ([]store.Consent, error) {
	uri, err := r.Naming.UserURI(mxid)
	if err != nil {
		return nil, err
	}
	return r.Store.ConsentsOf(ctx, store.In, uri.Key())
}

// GrantConsent lets a MIMI user invite a Matrix user: into the rooms that it asked for, or, when it asked for none, into any.
func (r *Relay) GrantConsent(ctx context.Context, mxid, user string) error {
	return r.answerConsent(ctx, mxid, user, consentWork{Do: consentGrant})
}

// DeclineConsent refuses what a MIMI user asked, without a word to them.
func (r *Relay) DeclineConsent(ctx context.Context, mxid, user string) error {
	return r.answerConsent(ctx, mxid, user, consentWork{Do: consentRevoke})
}

// RevokeConsent takes back what a MIMI user may do, and tells their provider. Rooms that they share stay as they are.
func (r *Relay) RevokeConsent(ctx context.Context, mxid, user string) error {
	return r.answerConsent(ctx, mxid, user, consentWork{Do: consentRevoke, Send: true})
}

func (r *Relay) answerConsent(ctx context.Context, mxid, user string, w consentWork) error {
	other := wire.IdentifierURI(user)
	if err := r.otherUser(user); err != nil {
		return err
	}
	known, err := r.Consents(ctx, mxid)
	if err != nil {
		return err
	}
	rooms := []string{}
	for _, c := range known {
		if c.Requester == other.Key() && (c.State == store.ConsentRequested || w.Send && c.State == store.ConsentGranted) {
			rooms = append(rooms, c.Room)
		}
	}
	if len(rooms) == 0 {
		rooms = append(rooms, "")
		for _, c := range known { // what was refused for one room would count there
			if w.Do == consentGrant && c.Requester == other.Key() && c.State == store.ConsentRevoked && c.Room != "" {
				rooms = append(rooms, c.Room)
			}
		}
	}
	for _, room := range rooms {
		w.User, w.Other, w.Room = mxid, user, room
		if err := r.consentWork(ctx, w, nil); err != nil {
			return err
		}
	}
	return nil
}

// onConsent does what an input about consent is for.
func (s *step) onConsent(body []byte) error {
	var w consentWork
	if err := json.Unmarshal(body, &w); err != nil {
		return fmt.Errorf("read an input about consent: %w", err)
	}
	switch w.Do {
	case consentAsk:
		s.askUser(w)
	case consentWithdrawn:
		s.notice(w.Other+" does not ask you any more.", "")
	case consentGrant, consentRevoke:
		return s.giveConsent(w)
	case consentIntroduce:
		return s.introduce(w)
	case consentGiven:
		if w.User != "" {
			s.openChat(w.User)
			s.notice(fmt.Sprintf("%s accepts invitations from you now. Say \"start-chat %s\".", w.Other, w.Other), "")
			return nil
		}
		return s.consentAnswered(w, true)
	case consentDenied:
		return s.consentAnswered(w, false)
	}
	return nil
}

// openChat makes the chat of the bot with a user, where there is none.
func (s *step) openChat(mxid string) {
	v := s.room
	if v.head.MatrixRoomID == "" && !v.st.Portal {
		o := s.matrix(event.CreateRoom{Preset: "trusted_private_chat", Direct: true, Invite: []id.UserID{userID(mxid)}})
		ask(o, refPortal, 0)
		v.st.Portal, v.st.Manager = true, mxid
		bot, _ := v.members.of(s.cfg.Bot)
		bot.Membership = string(event.Join)
		s.setMember(bot)
	}
}

// askUser asks a user in the chat with the bot.
func (s *step) askUser(w consentWork) {
	s.openChat(w.User)
	what := "any room"
	if w.Room != "" {
		what = "the room " + w.Room
	}
	s.notice(fmt.Sprintf("%s asks to invite you into %s. Say \"accept %s\" or \"decline %s\".", w.Other, what, w.Other, w.Other), "")
}

// giveConsent writes down what a user of ours says and tells the other's provider.
func (s *step) giveConsent(w consentWork) error {
	uri, err := s.Naming.UserURI(w.User)
	if err != nil {
		return err
	}
	other := wire.IdentifierURI(w.Other)
	e := &wire.ConsentEntry{Operation: wire.ConsentGrant, RequesterURI: other, TargetURI: uri, RoomID: wire.IdentifierURI(w.Room)}
	state := store.ConsentGranted
	if w.Do == consentRevoke {
		e.Operation, state = wire.ConsentRevoke, store.ConsentRevoked
	}
	s.fx.consents = append(s.fx.consents, store.Consent{Direction: store.In, Owner: uri.Key(), Requester: other.Key(), Room: w.Room, State: state,
		UpdatedMS: s.nowMS()})
	if w.Do == consentGrant && e.RoomID != "" && e.RoomID.Domain() == other.Domain() {
		if err := s.givePackage(e, w.User); err != nil {
			return err
		}
	}
	if (w.Do == consentGrant || w.Send) && !s.blockedUser(w.Other) {
		s.mimi(other.Domain(), verbUpdateConsent, e.Marshal()).Target = w.Other
	}
	return nil
}

// givePackage puts a KeyPackage into a grant for a room whose hub is the requester's own provider, which knows then where
// the Welcome goes (draft-ietf-mimi-protocol-06 §5.7).
func (s *step) givePackage(e *wire.ConsentEntry, mxid string) error {
	client, err := s.client(s.ctx, mxid)
	if err != nil {
		return err
	}
	row, err := s.makeKeyPackage(client, false)
	if err != nil {
		return err
	}
	kp, err := mls.UnmarshalKeyPackage(row.Public)
	if err != nil {
		return err
	}
	row.State, row.ClaimedBy, row.ClaimedRoom, row.ClaimedMS = store.KeyPackageClaimed, e.RequesterURI.Domain(), string(e.RoomID), s.nowMS()
	s.fx.keyPackages = append(s.fx.keyPackages, row)
	e.KeyPackages = append(e.KeyPackages, kp)
	return nil
}
