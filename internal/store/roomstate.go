package store

import "context"

type pair struct {
	Key   string `db:"key"`
	Value string `db:"value"`
}

// RoomState returns everything that is remembered of a room by name.
func (r *Reader) RoomState(ctx context.Context, room RoomID) (map[string]string, error) {
	rows, err := list[pair](ctx, r, `SELECT key, value FROM room_state WHERE shard = $1 AND room = $2`, room.Shard(), room)
	out := make(map[string]string, len(rows))
	for _, x := range rows {
		out[x.Key] = x.Value
	}
	return out, err
}

// RoomStateValue returns one thing, "" when there is none.
func (r *Reader) RoomStateValue(ctx context.Context, room RoomID, key string) (string, error) {
	got, err := column[string](ctx, r, `SELECT value FROM room_state WHERE shard = $1 AND room = $2 AND key = $3`, room.Shard(), room, key)
	if err != nil || len(got) == 0 {
		return "", err
	}
	return got[0], nil
}

// SetRoomState remembers something of a room; "" forgets it. Not for secrets.
func (tx *Tx) SetRoomState(ctx context.Context, room RoomID, key, value string, nowMS int64) error {
	var err error
	if value == "" {
		_, err = tx.exec(ctx, `DELETE FROM room_state WHERE shard = $1 AND room = $2 AND key = $3`, room.Shard(), room, key)
	} else {
		_, err = tx.exec(ctx, `INSERT INTO room_state (shard, room, key, value, updated_ms) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (shard, room, key) DO UPDATE SET value = excluded.value, updated_ms = excluded.updated_ms`, room.Shard(), room, key, value, nowMS)
	}
	return err
}
