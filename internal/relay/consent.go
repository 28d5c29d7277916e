package relay

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Consent (draft-ietf-mimi-protocol-06 §5.7, docs/mapping.md §2). A consent is between an owner, who would be added, and a
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
	// maxConsents bounds what is kept of the consent of others to one user of ours: beyond, only what was asked for is taken.
	maxConsents = 500
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
	if mxid, err := r.Naming.ParseUserURI(e.TargetURI); err != nil || !r.exported(mxid) {
		return done, nil
	}
	target, ok, err := r.Findable(ctx, string(e.TargetURI))
	if err != nil || !ok {
		return done, err
	}
	w := consentWork{User: target.MXID, Other: string(e.RequesterURI), Room: e.RoomID.Key()}
	known, err := r.Store.ConsentsOf(ctx, store.In, e.TargetURI.Key())
	if err != nil {
		return Reply{}, err
	}
	c := store.Consent{Direction: store.In, Owner: e.TargetURI.Key(), Requester: e.RequesterURI.Key(), Room: w.Room, UpdatedMS: r.Clock().UnixMilli()}
	state, here := stateIn(known, c.Requester, w.Room), exact(known, c.Requester, w.Room)
	if e.Operation == wire.ConsentCancel {
		if here != store.ConsentRequested {
			return done, nil
		}
		w.Do, c.State = consentWithdrawn, store.ConsentCancelled
		return done, r.consentWork(ctx, w, &c)
	}
	if state == store.ConsentRevoked {
		return done, nil
	}
	introduced := false
	if state != store.ConsentGranted {
		if introduced, err = r.introduced(ctx, w.User, e); err != nil {
			return Reply{}, err
		}
	}
	switch {
	case introduced:
		w.Do, c.State = consentGrant, store.ConsentGranted
	case state == store.ConsentRequested && here == state:
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
	if len(asked) >= maxConsents && len(ofOwner(asked, owner)) == 0 {
		return Reply{Status: http.StatusCreated}, nil
	}
	c := store.Consent{Direction: store.Out, Owner: owner, Requester: requester, Room: room, State: state, UpdatedMS: r.Clock().UnixMilli()}
	told, err := r.tellConsent(ctx, w, asked, e)
	if err != nil {
		return Reply{}, err
	}
	var inputs []store.NewInput
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		if err := tx.PutConsent(ctx, c); err != nil {
			return err
		}
		waiting, err := r.endRequests(ctx, tx, asked, c, w)
		if err != nil {
			return err
		}
		inputs = slices.Concat(told, waiting)
		_, err = tx.AddInputs(ctx, inputs)
		return err
	})
	if err == nil {
		for i := range inputs {
			r.Wake(inputs[i].Room)
		}
	}
	return Reply{Status: http.StatusCreated}, err
}

// endRequests writes the word of the owner of c to what was asked before it, and returns the inputs by which the rooms hear of it.
func (r *Relay) endRequests(ctx context.Context, tx *store.Tx, asked []store.Consent, c store.Consent, w consentWork) (inputs []store.NewInput, err error) {
	for _, a := range asked {
		if a.Owner != c.Owner || a.State != store.ConsentRequested || c.Room != "" && a.Room != c.Room {
			continue
		}
		a.State, a.UpdatedMS = c.State, c.UpdatedMS
		if err := tx.PutConsent(ctx, a); err != nil {
			return nil, err
		}
		if a.Room == "" {
			continue // told apart
		}
		id, err := tx.RoomIDByName(ctx, store.NameMIMI, a.Room)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, r.consentInput(id, w))
	}
	return inputs, nil
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
