package store

import "context"

// Asset is a file that went through a room.
type Asset struct {
	Room        RoomID    `db:"room"`
	ID          string    `db:"id"` // of one of ours the secret part of its address
	Direction   Direction `db:"direction"`
	State       string    `db:"state"`
	MXC         string    `db:"mxc"`
	URL         string    `db:"url"`
	Path        string    `db:"path"` // below the data directory
	ContentType string    `db:"content_type"`
	Filename    string    `db:"filename"`
	Size        int64     `db:"size"` // bytes
	Hash        []byte    `db:"hash"`
	Key         []byte    `db:"sealed_key"` // sealed in the database
	LinkSeq     int64     `db:"link_seq"`   // of the message that it belongs to
	Data        string    `db:"data"`
	ExpiresMS   int64     `db:"expires_ms"` // 0: never
	CreatedMS   int64     `db:"created_ms"`
}

const assetColumns = `room, id, direction, state, mxc, url, path, content_type, filename, size, hash, sealed_key, link_seq, data, expires_ms, created_ms`

// PutAsset writes an asset, one that is there is overwritten.
func (tx *Tx) PutAsset(ctx context.Context, a Asset) error {
	box, err := tx.seal(a.Key, "asset", [16]byte(a.Room), a.ID)
	if err != nil {
		return err
	}
	_, err = tx.exec(ctx, `INSERT INTO asset (shard, room, id, direction, state, mxc, url, path, content_type, filename, size, hash, sealed_key, link_seq, data, expires_ms, created_ms)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
		ON CONFLICT (shard, room, id) DO UPDATE SET state = excluded.state, mxc = excluded.mxc, url = excluded.url, path = excluded.path, content_type = excluded.content_type,
		filename = excluded.filename, size = excluded.size, hash = excluded.hash, sealed_key = excluded.sealed_key, link_seq = excluded.link_seq, data = excluded.data, expires_ms = excluded.expires_ms`,
		a.Room.Shard(), a.Room, a.ID, a.Direction, a.State, a.MXC, a.URL, a.Path, a.ContentType, a.Filename, a.Size, bytesOf(a.Hash), box, a.LinkSeq, a.Data, a.ExpiresMS, a.CreatedMS)
	return err
}

func (r *Reader) assets(ctx context.Context, query string, args ...any) ([]Asset, error) {
	rows, err := list[Asset](ctx, r, `SELECT `+assetColumns+` FROM asset WHERE `+query, args...)
	for i := range rows {
		if rows[i].Key, err = r.open(ctx, rows[i].Key, "asset", [16]byte(rows[i].Room), rows[i].ID); err != nil {
			return nil, err
		}
	}
	return rows, err
}

// Asset returns an asset by its id alone, or ErrNotFound.
func (r *Reader) Asset(ctx context.Context, id string) (Asset, error) {
	rows, err := r.assets(ctx, `id = $1`, id)
	if err == nil && len(rows) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Asset{}, err
	}
	return rows[0], nil
}

// AssetsOf returns the assets of a link.
func (r *Reader) AssetsOf(ctx context.Context, room RoomID, linkSeq int64) ([]Asset, error) {
	return r.assets(ctx, `shard = $1 AND room = $2 AND link_seq = $3 ORDER BY id`, room.Shard(), room, linkSeq)
}

// AssetsWith returns the assets of a room with the given Data.
func (r *Reader) AssetsWith(ctx context.Context, room RoomID, data string) ([]Asset, error) {
	return r.assets(ctx, `shard = $1 AND room = $2 AND data = $3 ORDER BY id`, room.Shard(), room, data)
}

// AssetBytes is the size of all files of a direction.
func (r *Reader) AssetBytes(ctx context.Context, d Direction) (int64, error) {
	return value[int64](ctx, r, `SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM asset WHERE direction = $1`, d)
}

// OldestAssets returns the assets of a direction that were made first.
func (r *Reader) OldestAssets(ctx context.Context, d Direction, limit int) ([]Asset, error) {
	return r.assets(ctx, `direction = $1 ORDER BY created_ms LIMIT $2`, d, limit)
}

// ExpiredAssets returns assets whose time is over.
func (r *Reader) ExpiredAssets(ctx context.Context, nowMS int64, limit int) ([]Asset, error) {
	return r.assets(ctx, `expires_ms > 0 AND expires_ms <= $1 ORDER BY expires_ms LIMIT $2`, nowMS, limit)
}

// DeleteAsset forgets an asset. Its file is the caller's to delete, afterwards.
func (tx *Tx) DeleteAsset(ctx context.Context, room RoomID, id string) error {
	_, err := tx.exec(ctx, `DELETE FROM asset WHERE shard = $1 AND room = $2 AND id = $3`, room.Shard(), room, id)
	return err
}
