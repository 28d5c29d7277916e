package store

import (
	"context"
	"strings"
)

// SharesRoom tells whether a Matrix user is in a room, or invited to one, in whose participant list somebody of a MIMI provider is.
func (r *Reader) SharesRoom(ctx context.Context, mxid, domain string) (bool, error) {
	got, err := column[int64](ctx, r, `SELECT 1 FROM member AS a JOIN member AS b ON b.shard = a.shard AND b.room = a.room
		WHERE a.mxid = $1 AND a.membership IN ('join', 'invite') AND b.listed = 1 AND lower(b.uri) LIKE $2 ESCAPE '\' LIMIT 1`, mxid, usersOf(domain))
	return len(got) > 0, err
}

// TakesPart tells whether somebody of a MIMI provider is in a room's participant list.
func (r *Reader) TakesPart(ctx context.Context, room RoomID, domain string) (bool, error) {
	got, err := column[int64](ctx, r, `SELECT 1 FROM member WHERE shard = $1 AND room = $2 AND listed = 1 AND lower(uri) LIKE $3 ESCAPE '\' LIMIT 1`,
		room.Shard(), room, usersOf(domain))
	return len(got) > 0, err
}

// Led tells whether somebody of a MIMI provider is in the participant list of a room that we are the hub of. It may read all members.
func (r *Reader) Led(ctx context.Context, domain string) (bool, error) {
	got, err := column[int64](ctx, r, `SELECT 1 FROM member AS m JOIN room AS r ON r.shard = m.shard AND r.room = m.room
		WHERE r.kind = $1 AND m.listed = 1 AND lower(m.uri) LIKE $2 ESCAPE '\' LIMIT 1`, RoomHub, usersOf(domain))
	return len(got) > 0, err
}

// usersOf is the LIKE pattern of the URIs of a provider's users.
func usersOf(domain string) string {
	return "mimi://" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(domain) + "/%"
}
