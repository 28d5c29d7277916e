package store

import (
	"context"
	"strings"
)

// SharesRoom tells whether a Matrix user is in a room, or invited to one, in whose participant list somebody of a MIMI provider is.
func (r *Reader) SharesRoom(ctx context.Context, mxid, domain string) (bool, error) {
	like := "mimi://" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(domain) + "/%"
	got, err := column[int64](ctx, r, `SELECT 1 FROM member AS a JOIN member AS b ON b.shard = a.shard AND b.room = a.room
		WHERE a.mxid = $1 AND a.membership IN ('join', 'invite') AND b.listed = 1 AND lower(b.uri) LIKE $2 ESCAPE '\' LIMIT 1`, mxid, like)
	return len(got) > 0, err
}
