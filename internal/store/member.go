package store

import (
	"context"
	"fmt"
)

// Member is someone in a room, on both sides.
type Member struct {
	Room       RoomID `db:"room"`
	MXID       string `db:"mxid"`
	URI        string `db:"uri"`        // user URI; "" when they are not known on the MIMI side
	Ghost      bool   `db:"ghost"`      // the Matrix user is ours
	Membership string `db:"membership"` // as in m.room.member
	Listed     bool   `db:"listed"`     // they are in the participant list
	Role       int64  `db:"role"`       // index in the room's roles
	Power      int64  `db:"power"`      // power level
	Leaf       int64  `db:"leaf"`       // own leaf in the group, -1 if none
	Display    string `db:"display"`    // display name
	Data       string `db:"data"`
	UpdatedMS  int64  `db:"updated_ms"`
}

const memberColumns = `room, mxid, COALESCE(uri, '') AS uri, ghost, membership, listed, role, power, leaf, display, data, updated_ms`

// Members returns everyone who is or was in a room.
func (r *Reader) Members(ctx context.Context, room RoomID) ([]Member, error) {
	return list[Member](ctx, r, `SELECT `+memberColumns+` FROM member WHERE shard = $1 AND room = $2 ORDER BY mxid`, room.Shard(), room)
}

// Member returns one member by Matrix id, or ErrNotFound.
func (r *Reader) Member(ctx context.Context, room RoomID, mxid string) (Member, error) {
	return get[Member](ctx, r, `SELECT `+memberColumns+` FROM member WHERE shard = $1 AND room = $2 AND mxid = $3`, room.Shard(), room, mxid)
}

// JoinedMembers returns at most limit of the Matrix users who are in a room.
func (r *Reader) JoinedMembers(ctx context.Context, room RoomID, limit int) ([]string, error) {
	return column[string](ctx, r, `SELECT mxid FROM member WHERE shard = $1 AND room = $2 AND membership = 'join' ORDER BY mxid LIMIT $3`, room.Shard(), room, limit)
}

// MemberByURI returns one member by user URI, or ErrNotFound.
func (r *Reader) MemberByURI(ctx context.Context, room RoomID, uri string) (Member, error) {
	return get[Member](ctx, r, `SELECT `+memberColumns+` FROM member WHERE shard = $1 AND room = $2 AND uri = $3`, room.Shard(), room, uri)
}

// RoomsOf returns a Matrix user's memberships in all rooms.
func (r *Reader) RoomsOf(ctx context.Context, mxid string) ([]Member, error) {
	return list[Member](ctx, r, `SELECT `+memberColumns+` FROM member WHERE mxid = $1 ORDER BY room`, mxid)
}

// PutMembers writes members, those that are there are overwritten.
func (tx *Tx) PutMembers(ctx context.Context, members ...Member) error {
	return chunks(tx.db, members, 13, func(part []Member) error {
		args := make([]any, 0, len(part)*13)
		for i := range part {
			m := &part[i]
			args = append(args, m.Room.Shard(), m.Room, m.MXID, nullable(m.URI), bit(m.Ghost), m.Membership, bit(m.Listed), m.Role, m.Power, m.Leaf, m.Display, m.Data, m.UpdatedMS)
		}
		_, err := tx.exec(ctx, `INSERT INTO member (shard, room, mxid, uri, ghost, membership, listed, role, power, leaf, display, data, updated_ms) VALUES `+values(1, len(part), 13)+
			` ON CONFLICT (shard, room, mxid) DO UPDATE SET uri = excluded.uri, ghost = excluded.ghost, membership = excluded.membership, listed = excluded.listed,
			role = excluded.role, power = excluded.power, leaf = excluded.leaf, display = excluded.display, data = excluded.data, updated_ms = excluded.updated_ms`, args...)
		if err != nil {
			return fmt.Errorf("writing members: %w", err)
		}
		return nil
	})
}
