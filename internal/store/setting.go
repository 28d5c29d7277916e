package store

import (
	"context"
	"fmt"
)

// Setting returns a setting of a scope ("" for the bridge, or a Matrix user id), "" if not set.
func (r *Reader) Setting(ctx context.Context, scope, key string) (string, error) {
	got, err := column[string](ctx, r, `SELECT value FROM setting WHERE scope = $1 AND key = $2`, scope, key)
	if err != nil || len(got) == 0 {
		return "", err
	}
	return got[0], nil
}

// Settings returns all settings of a scope.
func (r *Reader) Settings(ctx context.Context, scope string) (map[string]string, error) {
	rows, err := list[pair](ctx, r, `SELECT key, value FROM setting WHERE scope = $1`, scope)
	out := make(map[string]string, len(rows))
	for _, x := range rows {
		out[x.Key] = x.Value
	}
	return out, err
}

// SetSetting changes a setting; "" deletes it. Not for secrets.
func (tx *Tx) SetSetting(ctx context.Context, scope, key, value string) error {
	var err error
	if value == "" {
		_, err = tx.exec(ctx, `DELETE FROM setting WHERE scope = $1 AND key = $2`, scope, key)
	} else {
		_, err = tx.exec(ctx, `INSERT INTO setting (scope, key, value) VALUES ($1, $2, $3) ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value`, scope, key, value)
	}
	return err
}

// ManagementRoom returns the room in which the bot talks with a user, or ErrNotFound.
func (r *Reader) ManagementRoom(ctx context.Context, mxid string) (string, error) {
	return value[string](ctx, r, `SELECT room_id FROM management_room WHERE mxid = $1`, mxid)
}

// ManagementUsers lists the users who have a chat with the bot.
func (r *Reader) ManagementUsers(ctx context.Context) ([]string, error) {
	return column[string](ctx, r, `SELECT mxid FROM management_room ORDER BY mxid`)
}

// SetManagementRoom says in which room the bot talks with a user; "" forgets it.
func (tx *Tx) SetManagementRoom(ctx context.Context, mxid, roomID string) error {
	if _, err := tx.exec(ctx, `DELETE FROM management_room WHERE mxid = $1 OR room_id = $2`, mxid, roomID); err != nil || roomID == "" {
		return err
	}
	_, err := tx.exec(ctx, `INSERT INTO management_room (mxid, room_id) VALUES ($1, $2)`, mxid, roomID)
	return err
}

// ForgetManagementRoom notes that the bot does not talk with a user in a room any more.
func (tx *Tx) ForgetManagementRoom(ctx context.Context, roomID string) error {
	_, err := tx.exec(ctx, `DELETE FROM management_room WHERE room_id = $1`, roomID)
	return err
}

// DirectRoom returns the direct room of a pair at a hub, in either order, or ErrNotFound.
func (r *Reader) DirectRoom(ctx context.Context, hub, one, other string) (RoomID, error) {
	one, other = min(one, other), max(one, other)
	return value[RoomID](ctx, r, `SELECT room FROM direct_room WHERE hub = $1 AND one = $2 AND other = $3`, hub, one, other)
}

// AnyDirectRoom returns a direct room of a pair whoever its hub is, or ErrNotFound.
func (r *Reader) AnyDirectRoom(ctx context.Context, one, other string) (RoomID, error) {
	one, other = min(one, other), max(one, other)
	return value[RoomID](ctx, r, `SELECT room FROM direct_room WHERE one = $1 AND other = $2 ORDER BY hub LIMIT 1`, one, other)
}

// BindDirectRoom makes a room the direct one of a pair. ErrNameTaken when they have another.
func (tx *Tx) BindDirectRoom(ctx context.Context, hub, one, other string, room RoomID) error {
	one, other = min(one, other), max(one, other)
	n, err := tx.exec(ctx, `INSERT INTO direct_room (hub, one, other, shard, room) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (hub, one, other) DO UPDATE SET shard = excluded.shard WHERE direct_room.room = excluded.room`, hub, one, other, room.Shard(), room)
	if err == nil && n == 0 {
		return fmt.Errorf("naming room %s the direct one of a pair: %w", room, ErrNameTaken)
	}
	return err
}

// Secret returns a secret by name, or ErrNotFound.
func (r *Reader) Secret(ctx context.Context, name string) ([]byte, error) {
	box, err := value[[]byte](ctx, r, `SELECT sealed FROM secret WHERE name = $1`, name)
	if err != nil {
		return nil, err
	}
	return r.open(ctx, box, "secret", name)
}

// SetSecret keeps a secret by name, sealed.
func (tx *Tx) SetSecret(ctx context.Context, name string, secret []byte, nowMS int64) error {
	box, err := tx.seal(secret, "secret", name)
	if err != nil {
		return err
	}
	_, err = tx.exec(ctx, `INSERT INTO secret (name, sealed, updated_ms) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed, updated_ms = excluded.updated_ms`, name, box, nowMS)
	return err
}

// DeleteSecret forgets a secret.
func (tx *Tx) DeleteSecret(ctx context.Context, name string) error {
	_, err := tx.exec(ctx, `DELETE FROM secret WHERE name = $1`, name)
	return err
}
