package store

import "context"

// TopicLinks returns the first and the latest link with a topic, or ErrNotFound. The topic is in the form in which it was stored.
func (r *Reader) TopicLinks(ctx context.Context, room RoomID, topic string) (first, last Link, err error) {
	const query = `SELECT ` + linkColumns + ` FROM link WHERE shard = $1 AND room = $2 AND topic = $3 AND topic <> '' AND state <> 'failed' ORDER BY seq `
	if first, err = get[Link](ctx, r, query+`LIMIT 1`, room.Shard(), room, topic); err != nil {
		return first, last, err
	}
	last, err = get[Link](ctx, r, query+`DESC LIMIT 1`, room.Shard(), room, topic)
	return first, last, err
}

// LinksBetween returns the links with numbers above after and up to last, the newest first, at most limit.
func (r *Reader) LinksBetween(ctx context.Context, room RoomID, after, last int64, limit int) ([]Link, error) {
	return list[Link](ctx, r, `SELECT `+linkColumns+` FROM link WHERE shard = $1 AND room = $2 AND seq > $3 AND seq <= $4 ORDER BY seq DESC LIMIT $5`,
		room.Shard(), room, after, last, limit)
}
