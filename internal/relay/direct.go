package relay

import (
	"context"
	"errors"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

// directRoom is the one direct chat of a Matrix user and MIMI users (docs/mapping.md §3): the one that they have, whoever leads it, or a
// new one.
func (r *Relay) directRoom(ctx context.Context, by string, users []string) (id store.RoomID, err error) {
	own, err := r.Naming.UserURI(by)
	if err != nil {
		return id, err
	}
	fresh, err := store.NewRoomID(r.Clock(), r.Rand)
	if err != nil {
		return id, err
	}
	one, other := setKey(append([]string{string(own)}, users...))
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		var err error
		if id, err = tx.AnyDirectRoom(ctx, one, other); !errors.Is(err, store.ErrNotFound) {
			return err
		}
		id = fresh
		if err := tx.CreateRoom(ctx, store.Room{ID: id, Kind: store.RoomNone, Epoch: -1, CreatedMS: r.Clock().UnixMilli()}); err != nil {
			return err
		}
		return tx.BindDirectRoom(ctx, r.Naming.Domain, one, other, id)
	})
	if errors.Is(err, store.ErrNameTaken) { // somebody else was quicker
		return r.Store.DirectRoom(ctx, r.Naming.Domain, one, other)
	}
	return id, err
}

// directBefore is the direct chat that somebody who invites a ghost into a new one has with it already.
func (s *step) directBefore(m event.Member, uri string) (store.RoomID, bool) {
	own := s.actorOf(string(m.Sender))
	if !m.Direct || own == "" {
		return store.RoomID{}, false
	}
	one, other := setKey([]string{own, uri})
	had, err := s.Store.AnyDirectRoom(s.ctx, one, other)
	return had, err == nil && had != s.room.head.ID
}

// startAgain brings everybody back into the chat that they have.
func (s *step) startAgain(a action) error {
	v := s.room
	s.agree(a.By, true)
	by, _ := v.members.of(a.By)
	if by.Membership != string(event.Join) {
		s.matrix(event.InviteUser{Target: userID(a.By), Direct: true})
		by.Membership, by.URI = string(event.Invite), s.actorOf(a.By)
		s.setMember(by)
		s.follow(by)
	}
	if v.group != nil || v.head.Kind != store.RoomHub {
		return nil // who takes part does not change
	}
	if v.st.Opening == nil { // the last try came to nothing
		v.head.State, v.st.Opening = stateOpening, &opening{By: a.By, Direct: true, Set: a.Users}
	}
	return s.wishSet(a)
}
