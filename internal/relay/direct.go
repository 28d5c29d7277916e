package relay

import (
	"context"
	"errors"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// directRoom is the one chat of a Matrix user and a MIMI user that we are the hub of (mapping §2): the one that they have,
// or a new one.
func (r *Relay) directRoom(ctx context.Context, by, user string) (id store.RoomID, err error) {
	own, err := r.Naming.UserURI(by)
	if err != nil {
		return id, err
	}
	fresh, err := store.NewRoomID(r.Clock(), r.Rand)
	if err != nil {
		return id, err
	}
	one, other := own.Key(), wire.IdentifierURI(user).Key()
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		var err error
		if id, err = tx.DirectRoom(ctx, r.Naming.Domain, one, other); !errors.Is(err, store.ErrNotFound) {
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

// startAgain brings both back into the chat that they have.
func (s *step) startAgain(a action, mxid string) error {
	v := s.room
	by, _ := v.members.of(a.By)
	if by.Membership != string(event.Join) {
		s.matrix(event.InviteUser{Target: userID(a.By)})
		by.Membership, by.URI = string(event.Invite), s.actorOf(a.By)
		s.setMember(by)
	}
	if s.listed(a.User) {
		return nil
	}
	if v.group == nil && v.st.Opening == nil {
		v.st.Opening = &opening{By: a.By, Direct: true}
	}
	s.wish(intentAdd, s.actorOf(a.By), a.User, intentData{MXID: mxid, By: a.By})
	return s.claimOpen()
}
