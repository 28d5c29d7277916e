package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Consent (draft-ietf-mimi-protocol-06 §5.7, mapping §1.4). A consent is between an owner, who would be added, and a
// requester, who adds, for one room or for all. The more exact one counts. Direction In: the owner is a user of ours,
// who is asked in the chat with the bot. Direction Out: a user of ours asked, and its invitation of a ghost waits.

// consentWork is the body of an input about consent.
type consentWork struct {
	Do    string `json:"do"`
	User  string `json:"user,omitempty"` // MXID of the user of ours
	Other string `json:"other"`          // MIMI user URI of the other
	Room  string `json:"room,omitempty"` // room URI, "" for all
	Send  bool   `json:"send,omitempty"` // a revoke is told to the other
	Code  string `json:"code,omitempty"` // of an introduction
	// Packages are KeyPackages that came with a grant.
	Packages [][]byte `json:"packages,omitempty"`
}

// What inputs about consent are for.
const (
	consentAsk       = "ask"       // the user is to be asked
	consentWithdrawn = "withdrawn" // what was asked is not asked any more
	consentGrant     = "grant"     // the user agrees
	consentRevoke    = "revoke"    // the user does not, or no longer
	consentGiven     = "given"     // the other agrees: an invitation that waits goes on
	consentDenied    = "denied"    // the other does not
	consentIntroduce = "introduce" // a user of ours presents an introduction
)

const (
	// maxRequests bounds the requests that wait for a word of one user.
	maxRequests = 50
	// requestsAnHour bounds what a provider asks one user in an hour.
	requestsAnHour = 20
	// updatesAnHour bounds what a provider says in an hour of the consent of its users: asked for or not, it is stored.
	updatesAnHour = 1000
	// whyNoConsent is why somebody who must be asked first is not added.
	whyNoConsent = "they do not accept invitations from you"
)

// RequestConsent takes a request, or its end, of a user of another provider to reach one of ours. The answer is the same
// whether or not there is such a user, and whatever it said before.
func (r *Relay) RequestConsent(ctx context.Context, peer string, e *wire.ConsentEntry) (Reply, error) {
	done := Reply{Status: http.StatusCreated}
	if err := r.allow(ctx, "consent", peer+" "+e.TargetURI.Key(), requestsAnHour); err != nil {
		return Reply{}, err
	}
	mxid, err := r.Naming.ParseUserURI(e.TargetURI)
	if err != nil || !r.exported(mxid) {
		return done, nil
	}
	if s, ok, err := r.Findable(ctx, string(e.TargetURI)); err != nil || !ok {
		return done, err
	} else {
		mxid = s.MXID
	}
	w := consentWork{User: mxid, Other: string(e.RequesterURI), Room: e.RoomID.Key()}
	if e.Operation == wire.ConsentCancel {
		w.Do = consentWithdrawn
	}
	known, err := r.Store.ConsentsOf(ctx, store.In, e.TargetURI.Key())
	if err != nil {
		return Reply{}, err
	}
	c := store.Consent{Direction: store.In, Owner: e.TargetURI.Key(), Requester: e.RequesterURI.Key(), Room: w.Room, UpdatedMS: r.Clock().UnixMilli()}
	state := stateIn(known, c.Requester, w.Room)
	switch {
	case e.Operation == wire.ConsentCancel:
		if exact(known, c.Requester, w.Room) != store.ConsentRequested {
			return done, nil
		}
		c.State = store.ConsentCancelled
	case state == store.ConsentRevoked:
		return done, nil
	}
	introduced := false
	if state != store.ConsentGranted {
		if introduced, err = r.introduced(ctx, mxid, e); err != nil {
			return Reply{}, err
		}
	}
	switch {
	case e.Operation == wire.ConsentCancel:
	case introduced:
		w.Do, c.State = consentGrant, store.ConsentGranted
	case state == store.ConsentRequested && exact(known, c.Requester, w.Room) == state:
		return done, nil
	case state == store.ConsentGranted, r.Consent == nil || r.Consent(peer):
		w.Do, c.State = consentGrant, store.ConsentGranted
	case r.Ask != nil && !r.Ask(peer), openRequests(known) >= maxRequests:
		return done, nil
	default:
		w.Do, c.State, c.ExpiresMS = consentAsk, store.ConsentRequested, r.Clock().Add(r.cfg.InviteTimeout).UnixMilli()
	}
	return done, r.consentWork(ctx, w, &c)
}

// stateIn is what counts for a requester and a room: the consent for the room, or else the one for all rooms.
func stateIn(list []store.Consent, requester, room string) string {
	if s := exact(list, requester, room); s != "" && s != store.ConsentCancelled {
		return s
	}
	return exact(list, requester, "")
}

func exact(list []store.Consent, requester, room string) string {
	for _, c := range list {
		if c.Requester == requester && c.Room == room {
			return c.State
		}
	}
	return ""
}

func openRequests(list []store.Consent) int {
	n := 0
	for _, c := range list {
		if c.State == store.ConsentRequested {
			n++
		}
	}
	return n
}

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

// knownConsentRoom is consentRoom without making one: store.ErrNotFound when there is none, with the id that it will have.
func (r *Relay) knownConsentRoom(ctx context.Context, mxid string) (store.RoomID, error) {
	if room, err := r.Store.ManagementRoom(ctx, mxid); err == nil {
		if id, err := r.Store.RoomIDByName(ctx, store.NameMatrix, room); err == nil {
			return id, nil
		}
	}
	id := store.DerivedRoomID("consent", mxid)
	_, err := r.Store.Room(ctx, id)
	return id, err
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
	if !other.Is(wire.KindUser, wire.KindPseudonym) || r.Naming.Own(other) {
		return fmt.Errorf("%q is no user of another MIMI provider", user)
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
	}
	for _, room := range rooms {
		w.User, w.Other, w.Room = mxid, user, room
		if err := r.consentWork(ctx, w, nil); err != nil {
			return err
		}
	}
	return nil
}

// UpdateConsent takes the word of a user of another provider on being added by one of ours. KeyPackages in a grant for a room
// that we are the hub of are used for it; elsewhere they are not, because the room's hub would not know where their Welcome
// goes. ErrBusy when the provider has said too much in this hour.
func (r *Relay) UpdateConsent(ctx context.Context, peer string, e *wire.ConsentEntry) (Reply, error) {
	if err := r.allow(ctx, "consentUpdate", peer, updatesAnHour); err != nil {
		return Reply{}, err
	}
	owner, requester, room := e.TargetURI.Key(), e.RequesterURI.Key(), e.RoomID.Key()
	asked, err := r.Store.ConsentsBy(ctx, store.Out, requester)
	if err != nil {
		return Reply{}, err
	}
	w := consentWork{Do: consentGiven, Other: string(e.TargetURI)}
	state := store.ConsentGranted
	if r.Naming.Own(e.RoomID) {
		for _, kp := range e.KeyPackages {
			w.Packages = append(w.Packages, kp.Marshal())
		}
	}
	if e.Operation == wire.ConsentRevoke {
		w.Do, state = consentDenied, store.ConsentRevoked
	}
	if _, err := r.Store.UserByURI(ctx, requester); err != nil {
		return Reply{Status: http.StatusCreated}, ignoreNotFound(err)
	}
	c := store.Consent{Direction: store.Out, Owner: owner, Requester: requester, Room: room, State: state, UpdatedMS: r.Clock().UnixMilli()}
	told, err := r.tellConsent(ctx, w, asked, e)
	if err != nil {
		return Reply{}, err
	}
	var inputs []store.NewInput
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		inputs = slices.Clone(told)
		if err := tx.PutConsent(ctx, c); err != nil {
			return err
		}
		for _, a := range asked {
			if a.Owner != owner || a.State != store.ConsentRequested || room != "" && a.Room != room {
				continue
			}
			a.State, a.UpdatedMS = state, c.UpdatedMS
			if err := tx.PutConsent(ctx, a); err != nil {
				return err
			}
			if a.Room == "" {
				continue // told apart
			}
			id, err := tx.RoomIDByName(ctx, store.NameMIMI, a.Room)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			inputs = append(inputs, r.consentInput(id, w))
		}
		if len(inputs) == 0 {
			return nil
		}
		_, err := tx.AddInputs(ctx, inputs)
		return err
	})
	if err == nil {
		for i := range inputs {
			r.Wake(inputs[i].Room)
		}
	}
	return Reply{Status: http.StatusCreated}, err
}

// tellConsent makes the input that tells a user of ours who asked for no room in particular that the other agrees; none for others.
// It is stored with the consent: afterwards nobody would know that it was asked for.
func (r *Relay) tellConsent(ctx context.Context, w consentWork, asked []store.Consent, e *wire.ConsentEntry) ([]store.NewInput, error) {
	if w.Do != consentGiven || exact(ofOwner(asked, e.TargetURI.Key()), e.RequesterURI.Key(), "") != store.ConsentRequested {
		return nil, nil
	}
	mxid, err := r.ownMXID(string(e.RequesterURI))
	if err != nil {
		return nil, nil
	}
	id, err := r.consentRoom(ctx, mxid)
	if err != nil {
		return nil, err
	}
	w.User = mxid
	return []store.NewInput{r.consentInput(id, w)}, nil
}

func ofOwner(list []store.Consent, owner string) (out []store.Consent) {
	for _, c := range list {
		if c.Owner == owner {
			out = append(out, c)
		}
	}
	return out
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

// usePackages takes the KeyPackages of a grant for a wish, those that fit the room and were not used before. Where none is
// left some are claimed.
func (s *step) usePackages(i *store.Intent, packages [][]byte) (use [][]byte) {
	if s.room.head.Kind != store.RoomHub {
		return nil
	}
	suite, required := s.cfg.Suite, s.required()
	if g := s.room.group; g != nil {
		suite = g.Suite()
	}
	target := wire.IdentifierURI(i.Target)
	for _, raw := range packages {
		kp, err := mls.UnmarshalKeyPackage(raw)
		if err != nil || kp.Suite != suite || !kp.Leaf.Lifetime.Contains(uint64(s.now.Unix())) || !credentialOf(&kp.Leaf, target) ||
			!kp.Leaf.Capabilities.Supports(&required) {
			continue
		}
		ref := kp.Ref()
		if _, err := s.Store.Route(s.ctx, ref); !errors.Is(err, store.ErrNotFound) ||
			slices.ContainsFunc(s.fx.routes, func(r store.Route) bool { return bytes.Equal(r.Ref, ref) }) {
			continue
		}
		s.fx.routes = append(s.fx.routes, store.Route{Ref: ref, Provider: target.Domain(),
			UntilMS: int64(min(kp.Leaf.Lifetime.NotAfter, 1<<40)) * 1000})
		use = append(use, raw)
	}
	return use
}

// askConsent asks somebody who may not be added without their word, once for each wish. The ghost stays invited meanwhile.
func (s *step) askConsent(i *store.Intent, d intentData) error {
	d.Consent, d.Request, d.Packages = true, nil, nil
	s.consentEntry(i, wire.ConsentRequest, store.ConsentRequested)
	s.setIntent(i, store.IntentAsking, "", d)
	s.later(timerConsent+strconv.FormatInt(i.Seq, 10), s.now.Add(s.cfg.InviteTimeout).UnixMilli())
	s.tell(d, s.nameOf(i.Target)+" was asked for permission and is added when they agree.")
	return nil
}

// consentEntry sends a request or its end for a wish, and writes it down.
func (s *step) consentEntry(i *store.Intent, op wire.ConsentOperation, state string) {
	requester := s.requesterOf(i)
	target := wire.IdentifierURI(i.Target)
	e := &wire.ConsentEntry{Operation: op, RequesterURI: wire.IdentifierURI(requester), TargetURI: target, RoomID: s.room.uri()}
	s.mimi(target.Domain(), verbRequestConsent, e.Marshal()).Target = i.Target
	s.fx.consents = append(s.fx.consents, store.Consent{Direction: store.Out, Owner: target.Key(), Requester: e.RequesterURI.Key(),
		Room: s.room.uri().Key(), State: state, UpdatedMS: s.nowMS()})
}

// requesterOf is who asks for the KeyPackages of a wish: who made it, or the bot.
func (s *step) requesterOf(i *store.Intent) string {
	if i.Actor != "" && s.own(i.Actor) {
		return i.Actor
	}
	return s.bot
}

// asksConsent tells whether a wish waits for somebody's consent.
func asksConsent(i *store.Intent) (intentData, bool) {
	d, err := dataOf(i)
	return d, err == nil && i.Kind == intentAdd && i.State == store.IntentAsking && d.Consent && len(d.Request) == 0
}

// consentAnswered goes on with the wishes that waited for somebody's word.
func (s *step) consentAnswered(w consentWork, given bool) error {
	for n := 0; n < len(s.room.intents); n++ {
		i := &s.room.intents[n]
		d, ok := asksConsent(i)
		if !ok || !wire.IdentifierURI(i.Target).Same(wire.IdentifierURI(w.Other)) {
			continue
		}
		if given {
			d.Packages = s.usePackages(i, w.Packages)
			s.setIntent(i, store.IntentOpen, "", d)
			continue
		}
		s.refuse(*i, d, whyNoConsent)
		s.closeIntents(i.Seq)
		n--
	}
	if given {
		if err := s.claimOpen(); err != nil {
			return err
		}
	}
	return s.openOn()
}

// onConsentTimeout: somebody did not answer in time.
func (s *step) onConsentTimeout(number string) error {
	seq, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return nil
	}
	i := s.intent(seq)
	if i == nil {
		return nil
	}
	d, ok := asksConsent(i)
	if !ok {
		return nil
	}
	s.consentEntry(i, wire.ConsentCancel, store.ConsentCancelled)
	s.refuse(*i, d, "they did not answer")
	s.closeIntents(seq)
	return s.openOn()
}

// takeBackConsent ends the request of a wish that is taken back.
func (s *step) takeBackConsent(i *store.Intent) {
	if _, ok := asksConsent(i); ok {
		s.consentEntry(i, wire.ConsentCancel, store.ConsentCancelled)
	}
}
