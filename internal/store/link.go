package store

import (
	"context"
	"fmt"
)

// Direction says which way something went, seen from Matrix: out is Matrix to MIMI.
type Direction string

// The directions.
const (
	In  Direction = "in"
	Out Direction = "out"
)

// States of a link.
const (
	LinkPending   = ""          // on its way
	LinkSent      = "sent"      // the other side has it
	LinkDelivered = "delivered" // the other side said so
	LinkFailed    = "failed"
	LinkRedacted  = "redacted"
)

// Link joins one Matrix event and one part of one MIMI message (docs/mapping.md §7).
type Link struct {
	Room       RoomID    `db:"room"`
	Seq        int64     `db:"seq"`
	EventID    string    `db:"event_id"`    // "" while it is not known
	MIMIID     []byte    `db:"mimi_id"`     // empty while it is not known
	Part       int64     `db:"part"`        // number of the part in the message, from 0
	FirstEvent string    `db:"first_event"` // of an edit: the event that was there first
	FirstID    []byte    `db:"first_id"`    // of an edit: the message that was there first
	Direction  Direction `db:"direction"`
	Kind       string    `db:"kind"`
	State      string    `db:"state"`
	Sender     string    `db:"sender"` // user URI
	SenderMXID string    `db:"sender_mxid"`
	Target     string    `db:"target"` // what it is about: an event id or hexadecimal message id
	Topic      string    `db:"topic"`
	Frank      []byte    `db:"frank"`       // by which the hub can be shown the message (draft-ietf-mimi-protocol-06 §5.4), empty when there is none
	Data       string    `db:"data"`        // anything else, as JSON
	AcceptedMS int64     `db:"accepted_ms"` // the hub's time, 0 while it is not known
	CreatedMS  int64     `db:"created_ms"`
}

const linkColumns = `room, seq, COALESCE(event_id, '') AS event_id, mimi_id, part, first_event, first_id, direction, kind, state, sender, sender_mxid, target, topic, frank, data, accepted_ms, created_ms`

// AddLinks stores links. ErrDuplicate when the event id, or message id and part, is linked already.
func (tx *Tx) AddLinks(ctx context.Context, links ...Link) error {
	return chunks(tx.db, links, 19, func(part []Link) error {
		args := make([]any, 0, len(part)*19)
		for i := range part {
			l := &part[i]
			args = append(args, l.Room.Shard(), l.Room, l.Seq, nullable(l.EventID), nullableBytes(l.MIMIID), l.Part, l.FirstEvent, bytesOf(l.FirstID), l.Direction,
				l.Kind, l.State, l.Sender, l.SenderMXID, l.Target, l.Topic, bytesOf(l.Frank), l.Data, l.AcceptedMS, l.CreatedMS)
		}
		_, err := tx.exec(ctx, `INSERT INTO link (shard, room, seq, event_id, mimi_id, part, first_event, first_id, direction, kind, state, sender, sender_mxid, target, topic, frank, data, accepted_ms, created_ms) VALUES `+
			values(1, len(part), 19), args...)
		if unique(err) {
			return fmt.Errorf("linking: %w (%v)", ErrDuplicate, err)
		}
		if err != nil {
			return fmt.Errorf("linking: %w", err)
		}
		return nil
	})
}

// LinkByEvent returns the link of a Matrix event, or ErrNotFound.
func (r *Reader) LinkByEvent(ctx context.Context, room RoomID, eventID string) (Link, error) {
	return get[Link](ctx, r, `SELECT `+linkColumns+` FROM link WHERE shard = $1 AND room = $2 AND event_id = $3`, room.Shard(), room, eventID)
}

// LinksByMIMI returns the links of all parts of a MIMI message, in the order of the parts.
func (r *Reader) LinksByMIMI(ctx context.Context, room RoomID, mimiID []byte) ([]Link, error) {
	return list[Link](ctx, r, `SELECT `+linkColumns+` FROM link WHERE shard = $1 AND room = $2 AND mimi_id = $3 ORDER BY part`, room.Shard(), room, bytesOf(mimiID))
}

// LinkBySeq returns a link by its number, or ErrNotFound.
func (r *Reader) LinkBySeq(ctx context.Context, room RoomID, seq int64) (Link, error) {
	return get[Link](ctx, r, `SELECT `+linkColumns+` FROM link WHERE shard = $1 AND room = $2 AND seq = $3`, room.Shard(), room, seq)
}

// LinksByFirst returns the edits of the message that was there first, in their order.
func (r *Reader) LinksByFirst(ctx context.Context, room RoomID, firstID []byte) ([]Link, error) {
	return list[Link](ctx, r, `SELECT `+linkColumns+` FROM link WHERE shard = $1 AND room = $2 AND first_id = $3 AND length(first_id) > 0 ORDER BY seq`, room.Shard(), room, bytesOf(firstID))
}

// SetLink changes the state of a link, and its event id, message id and accepted time where given.
func (tx *Tx) SetLink(ctx context.Context, room RoomID, seq int64, state, eventID string, mimiID []byte, acceptedMS int64) error {
	_, err := tx.exec(ctx, `UPDATE link SET state = $4, event_id = COALESCE($5, event_id), mimi_id = COALESCE($6, mimi_id),
		accepted_ms = CASE WHEN CAST($7 AS BIGINT) > 0 THEN CAST($7 AS BIGINT) ELSE accepted_ms END WHERE shard = $1 AND room = $2 AND seq = $3`,
		room.Shard(), room, seq, state, nullable(eventID), nullableBytes(mimiID), acceptedMS)
	if unique(err) {
		return fmt.Errorf("linking: %w (%v)", ErrDuplicate, err)
	}
	return err
}

// ClearLinkEvent forgets the event of a link, because another is sent in its place.
func (tx *Tx) ClearLinkEvent(ctx context.Context, room RoomID, seq int64) error {
	_, err := tx.exec(ctx, `UPDATE link SET event_id = NULL WHERE shard = $1 AND room = $2 AND seq = $3`, room.Shard(), room, seq)
	return err
}

// SetLinkData replaces the JSON of a link.
func (tx *Tx) SetLinkData(ctx context.Context, room RoomID, seq int64, data string) error {
	_, err := tx.exec(ctx, `UPDATE link SET data = $4 WHERE shard = $1 AND room = $2 AND seq = $3`, room.Shard(), room, seq, data)
	return err
}

// answerLink is SetLink for the outbox: an event id that is linked already does not stop the lane.
func (tx *Tx) answerLink(ctx context.Context, room RoomID, seq int64, state, eventID string, acceptedMS int64) error {
	set := `state = CASE WHEN state IN ('', 'sent') THEN $4 ELSE state END,
		accepted_ms = CASE WHEN CAST($5 AS BIGINT) > 0 THEN CAST($5 AS BIGINT) ELSE accepted_ms END`
	args := []any{room.Shard(), room, seq, state, acceptedMS}
	if eventID != "" {
		set += `, event_id = CASE WHEN NOT EXISTS (SELECT 1 FROM link AS o WHERE o.shard = $1 AND o.room = $2 AND o.event_id = $6) THEN CAST($6 AS TEXT) ELSE event_id END`
		args = append(args, eventID)
	}
	_, err := tx.exec(ctx, `UPDATE link SET `+set+` WHERE shard = $1 AND room = $2 AND seq = $3`, args...)
	return err
}
