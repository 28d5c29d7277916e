package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// userDeleted is the state of a bridged user who does not exist any more. One who comes back is active again.
const userDeleted = "deleted"

// maxTold bounds how many providers are told that a user was deleted.
const maxTold = 1000

// ErrNobody says that a Matrix user never took part.
var ErrNobody = errors.New("this user never took part")

// DeleteUser ends what a Matrix user takes part in whose account is gone: it leaves its rooms, its KeyPackages and consents are
// void, others who ask for it hear that it was deleted, and those who know it are told (docs/extensions.md, docs/activitypub.md). An
// application service does not hear of a deactivation, so it is for an administrator to say.
func (r *Relay) DeleteUser(ctx context.Context, mxid string) error {
	if r.ours(mxid) {
		return ErrNobody
	}
	rooms, theirs, err := r.roomsOfWorlds(ctx, mxid)
	if err != nil {
		return err
	}
	var work []store.NewInput
	more := func(*store.Tx) error { return nil }
	if r.threads != nil {
		if work, more, err = r.threads.endUser(ctx, mxid, theirs); err != nil {
			return err
		}
	}
	u, err := r.Store.User(ctx, mxid)
	if errors.Is(err, store.ErrNotFound) {
		if len(work) == 0 {
			return ErrNobody
		}
		return r.endWith(ctx, mxid, work, more)
	}
	if err != nil {
		return err
	}
	domains, err := r.knownTo(ctx, wire.IdentifierURI(u.URI), rooms)
	if err != nil {
		return err
	}
	own := store.DerivedRoomID("deleted", mxid)
	work = append(work, r.actionInput(own, action{Do: actTellDeleted, User: u.URI, Domains: domains}))
	for _, m := range rooms {
		work = append(work, r.actionInput(m.Room, action{Do: actForgetUser, User: u.URI}))
	}
	u.State = userDeleted
	return r.endWith(ctx, mxid, work, func(tx *store.Tx) error {
		if err := more(tx); err != nil {
			return err
		}
		if _, err := tx.Room(ctx, own); errors.Is(err, store.ErrNotFound) {
			err = tx.CreateRoom(ctx, store.Room{ID: own, Kind: store.RoomNone, Epoch: -1, CreatedMS: r.Clock().UnixMilli()})
			if err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		if err := tx.SetUser(ctx, u); err != nil {
			return err
		}
		if err := tx.RevokeKeyPackagesOf(ctx, u.URI); err != nil {
			return err
		}
		if err := tx.DeleteConsents(ctx, wire.IdentifierURI(u.URI).Key()); err != nil {
			return err
		}
		if err := tx.ForgetFindable(ctx, mxid); err != nil {
			return err
		}
		return tx.SetSetting(ctx, mxid, settingSearchable, "")
	})
}

// roomsOfWorlds are the rooms of a Matrix user: those that are of MIMI or of nobody yet, and those of the ActivityPub world.
func (r *Relay) roomsOfWorlds(ctx context.Context, mxid string) (mimi, theirs []store.Member, err error) {
	rooms, err := r.Store.RoomsOf(ctx, mxid)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range rooms {
		head, err := r.Store.Room(ctx, m.Room)
		if err != nil {
			return nil, nil, err
		}
		if head.State == stateAP {
			theirs = append(theirs, m)
		} else {
			mimi = append(mimi, m)
		}
	}
	return mimi, theirs, nil
}

// endWith stores that a user was deleted: what write writes, and the inputs of what follows.
func (r *Relay) endWith(ctx context.Context, mxid string, work []store.NewInput, write func(*store.Tx) error) error {
	err := r.Store.Tx(ctx, func(tx *store.Tx) error {
		if err := write(tx); err != nil {
			return err
		}
		_, err := tx.AddInputs(ctx, work)
		return err
	})
	if err != nil {
		return fmt.Errorf("end what %s takes part in: %w", mxid, err)
	}
	r.clients.forget()
	for _, in := range work {
		r.Wake(in.Room)
	}
	return nil
}

func (r *Relay) actionInput(id store.RoomID, a action) store.NewInput {
	return store.NewInput{Room: id, Kind: inputAction, Source: a.Do, Epoch: -1, Body: mustJSON(a), CreatedMS: r.Clock().UnixMilli()}
}

// knownTo lists the providers that know a user of ours: those in its rooms, and those whom it has consents with.
func (r *Relay) knownTo(ctx context.Context, user wire.IdentifierURI, rooms []store.Member) ([]string, error) {
	var out []string
	had := map[string]bool{"": true, r.Naming.Domain: true}
	add := func(domain string) {
		if !had[domain] && len(out) < maxTold {
			had[domain] = true
			out = append(out, domain)
		}
	}
	for _, m := range rooms {
		head, err := r.Store.Room(ctx, m.Room)
		if err != nil {
			return nil, err
		}
		if head.Kind == store.RoomFollower {
			add(head.Hub)
		}
		members, err := r.Store.Members(ctx, m.Room)
		if err != nil {
			return nil, err
		}
		for _, other := range members {
			add(wire.IdentifierURI(other.URI).Domain())
		}
	}
	asked, err := r.Store.ConsentsOf(ctx, store.In, user.Key())
	if err != nil {
		return nil, err
	}
	asks, err := r.Store.ConsentsBy(ctx, store.Out, user.Key())
	if err != nil {
		return nil, err
	}
	for _, c := range asked {
		add(wire.IdentifierURI(c.Requester).Domain())
	}
	for _, c := range asks {
		add(wire.IdentifierURI(c.Owner).Domain())
	}
	return out, nil
}

// actTellDeleted tells the providers that know a user of ours, and share the extension, that it was deleted.
func (s *step) actTellDeleted(a action) {
	told := wire.UserDeleted{UserURI: wire.IdentifierURI(a.User), Timestamp: uint64(s.nowMS())}
	for _, domain := range a.Domains {
		if s.mayShare(domain, verbUserDeleted) {
			o := s.mimi(domain, verbUserDeleted, told.Marshal())
			o.Target = providerURI(domain)
			ask(o, refTold, 0)
		}
	}
}

// actForgetUser takes a user of ours who was deleted out of the room.
func (s *step) actForgetUser(a action) {
	s.cancel(intentAdd, a.User)
	if s.room.group == nil || !s.listed(a.User) {
		return
	}
	if s.room.head.Kind == store.RoomHub {
		s.wish(intentRemove, s.bot, a.User, intentData{Reason: "deleted"})
		return
	}
	s.wish(intentLeave, a.User, a.User, intentData{Reason: "deleted"})
}

// UserDeleted takes the word of a provider that a user of it was deleted (docs/extensions.md): it is removed from the rooms that
// we are the hub of, invitations of it end, and its consents are forgotten. Where another provider is the hub, that one removes
// it. The same word again changes nothing. ErrBusy when the provider has said too much in this hour.
func (r *Relay) UserDeleted(ctx context.Context, peer string, _ wire.IdentifierURI, body []byte) (Reply, error) {
	received, err := wire.UnmarshalUserDeleted(body)
	if err != nil {
		return Reply{}, err
	}
	d, err := received.Check(peer)
	if err != nil {
		return Reply{}, err
	}
	ghost, _, err := r.Naming.GhostMXID(d.UserURI)
	if err != nil {
		return Reply{}, nil // nobody who could be known
	}
	rooms, err := r.Store.RoomsOf(ctx, ghost)
	if err != nil {
		return Reply{}, err
	}
	var work []store.NewInput
	for _, m := range rooms {
		work = append(work, r.actionInput(m.Room, action{Do: actForgetGhost, User: m.URI, Ghost: ghost}))
	}
	w := word{Room: store.DerivedRoomID("user", d.UserURI.Key()), Peer: peer, Verb: verbUserDeleted, Body: body}
	return r.takeWord(ctx, w, func(tx *store.Tx) ([]store.NewInput, error) { return work, tx.DeleteConsents(ctx, d.UserURI.Key()) })
}

// actForgetGhost takes a user of another provider, who was deleted, out of the room.
func (s *step) actForgetGhost(a action) {
	v := s.room
	s.cancel(intentAdd, a.User)
	if v.group != nil && s.listed(a.User) {
		if v.head.Kind == store.RoomHub {
			s.wish(intentRemove, s.bot, a.User, intentData{MXID: a.Ghost, Reason: "deleted"})
		}
		return
	}
	m, ok := v.members.byMXID[a.Ghost]
	if ok && (m.Membership == string(event.Invite) || m.Membership == string(event.Join)) {
		s.matrix(event.LeaveRoom{Sender: userID(a.Ghost), Reason: "this user does not exist any more"})
		m.Membership = string(event.Leave)
		s.setMember(m)
	}
}
