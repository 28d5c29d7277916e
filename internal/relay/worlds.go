package relay

import (
	"context"
	"errors"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

// One Matrix room may have people of three worlds in it: of Matrix, of MIMI and of ActivityPub. MIMI and ActivityPub have a room row, a group, a worker and transactions of
// their own there, which know nothing of each other. They meet in Matrix: what a ghost of the one world says or does there is to the other what a Matrix user says or does. So
// a ghost of the ActivityPub world is a participant of the MIMI room, mimi://B/u/acct_…, and a ghost of the MIMI world an actor of the channel, https://B/ap/u/mimi__…; each world leaves
// the events of its own ghosts alone, as it made them, and so nothing goes round in circles.

// visitor tells whether a Matrix user is the ghost of somebody of the ActivityPub world, who takes part in MIMI rooms as our users do.
func (r *Relay) visitor(mxid string) bool { return r.channels != nil && r.acctGhost(mxid) }

// hosts tells whether a Matrix user is a ghost of the MIMI world.
func (r *Relay) hosts(mxid string) bool { return r.Naming.IsGhost(mxid) && !r.visitor(mxid) }

// echo tells whether what a Matrix user did is what the MIMI side itself asked for.
func (r *Relay) echo(mxid string) bool { return r.ours(mxid) && !r.visitor(mxid) }

// present tells whether a Matrix user takes part in the MIMI rooms that it is in. Who is exported is so everywhere; a visitor only there.
func (r *Relay) present(mxid string) bool { return r.visitor(mxid) || r.exported(mxid) }

// joint tells whether the Matrix room is a channel, too.
func (s *step) joint() bool {
	ok, err := s.hasChannel(s.ctx, &s.Store.Reader, s.room.head.MatrixRoomID)
	return err == nil && ok && s.room.head.MatrixRoomID != ""
}

// firstSeen makes the row of a Matrix room that the MIMI side did not know, when it becomes of interest: the bot or a ghost is invited, it replaces another, or it is the portal of a channel, where
// people may speak to the bot.
func (r *Relay) firstSeen(ctx context.Context, tx *store.Tx, ev *event.Event) (room store.Room, ok bool, err error) {
	channel := false
	if !r.opens(ev) {
		_, err := tx.RoomIDByName(ctx, store.NameSuccessor, string(ev.Room))
		if errors.Is(err, store.ErrNotFound) {
			if channel, err = r.hasChannel(ctx, tx, string(ev.Room)); err == nil && !channel {
				return room, false, nil
			}
		}
		if err != nil {
			return room, false, err
		}
	}
	if room, err = r.newRoom(ctx, tx, string(ev.Room)); err != nil || !channel {
		return room, err == nil, err
	}
	return room, true, tx.PutMembers(ctx, store.Member{Room: room.ID, MXID: r.cfg.Bot, Membership: string(event.Join), Leaf: -1, UpdatedMS: r.Clock().UnixMilli()})
}
