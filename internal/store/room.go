package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
)

// RoomKind is what the bridge is for a room.
type RoomKind string

// The kinds of rooms. RoomUser is the line of inputs of something that is not a room (DerivedRoomID).
const (
	RoomNone     RoomKind = "none"     // known on the Matrix side only
	RoomHub      RoomKind = "hub"      // we lead it
	RoomFollower RoomKind = "follower" // another provider leads it
	RoomUser     RoomKind = "user"
)

// Room is the head of a room.
type Room struct {
	ID           RoomID   `db:"room"`
	Version      int64    `db:"version"` // set by the database only
	Kind         RoomKind `db:"kind"`
	State        string   `db:"state"` // a word of the relay's
	URI          string   `db:"uri"`
	MatrixRoomID string   `db:"matrix_room_id"`
	Hub          string   `db:"hub"` // domain of the hub
	GroupID      []byte   `db:"group_id"`
	Group        int64    `db:"grp"`     // counts the MLS groups the room has had
	Epoch        int64    `db:"epoch"`   // -1: no group
	Refresh      bool     `db:"refresh"` // update before send (T17)
	NextSeq      int64    `db:"next_seq"`
	NextIn       int64    `db:"next_in"` // set by arrivals only
	DueMS        int64    `db:"due_ms"`  // set by arrivals and Settle only
	EpochMS      int64    `db:"epoch_ms"`
	LastAccepted int64    `db:"last_accepted_ms"`
	CreatedMS    int64    `db:"created_ms"`
}

const roomColumns = `room, version, kind, state, uri, matrix_room_id, hub, group_id, grp, epoch, refresh, next_seq, next_in, due_ms, epoch_ms, last_accepted_ms, created_ms`

// NameKind is what sort of name means a room.
type NameKind string

// The kinds of names. One name means one room; a room may have many names.
const (
	NameMatrix NameKind = "matrix" // Matrix room id
	NameMIMI   NameKind = "mimi"   // room URI
	NameGroup  NameKind = "group"  // hexadecimal MLS group id
	// NameSuccessor is the id of the Matrix room that replaces a room's, while the bot is not in it.
	NameSuccessor NameKind = "successor"
	// Names of the ActivityPub side. A Matrix room may have both a room of this side, by NameChannel, and one of the MIMI side, by NameMatrix.
	NameChannel NameKind = "channel" // Matrix room id
	NameActor   NameKind = "actor"   // id of the actor of a channel of another server
	NameAccount NameKind = "account" // local part of the acct: URI of a channel of ours
	NameSet     NameKind = "set"     // the set of people of a group DM (activitypub.SetKey)
)

// Settle says that the worker saw all inputs up to Work and that the next one is due at DueMS (Never
// if there is none). It is ignored when something arrived since. The zero value settles nothing.
type Settle struct {
	Work  int64
	DueMS int64
}

// Room returns a room, or ErrNotFound.
func (r *Reader) Room(ctx context.Context, id RoomID) (Room, error) {
	return get[Room](ctx, r, `SELECT `+roomColumns+` FROM room WHERE shard = $1 AND room = $2`, id.Shard(), id)
}

// RoomByName returns the room that a name means, or ErrNotFound.
func (r *Reader) RoomByName(ctx context.Context, kind NameKind, name string) (Room, error) {
	return get[Room](ctx, r, `SELECT `+roomColumnsOf("r")+` FROM room_name AS n JOIN room AS r ON r.shard = n.shard AND r.room = n.room
		WHERE n.kind = $1 AND n.name = $2`, kind, name)
}

func roomColumnsOf(alias string) string { return prefixed(alias, roomColumns) }

// RoomIDByName returns the id of the room that a name means, or ErrNotFound.
func (r *Reader) RoomIDByName(ctx context.Context, kind NameKind, name string) (RoomID, error) {
	return value[RoomID](ctx, r, `SELECT room FROM room_name WHERE kind = $1 AND name = $2`, kind, name)
}

// MatrixRoomID returns the Matrix room of a room, "" while it has none, or ErrNotFound.
func (r *Reader) MatrixRoomID(ctx context.Context, id RoomID) (string, error) {
	return value[string](ctx, r, `SELECT matrix_room_id FROM room WHERE shard = $1 AND room = $2`, id.Shard(), id)
}

// afterRoom are the shard and id that rooms after one are looked for with; the zero id is before all.
func afterRoom(id RoomID) (shard int64, room RoomID) {
	if id.IsZero() {
		return -1, id
	}
	return int64(id.Shard()), id
}

// Rooms returns rooms in the order of their shards and ids, beginning after a room: for lists and checks.
func (r *Reader) Rooms(ctx context.Context, after RoomID, limit int) ([]Room, error) {
	shard, room := afterRoom(after)
	return list[Room](ctx, r, `SELECT `+roomColumns+` FROM room WHERE (shard, room) > ($1, $2) ORDER BY shard, room LIMIT $3`, shard, room, limit)
}

// Hubs lists the providers that lead rooms which we follow, at most limit.
func (r *Reader) Hubs(ctx context.Context, limit int) ([]string, error) {
	return column[string](ctx, r, `SELECT DISTINCT hub FROM room WHERE kind = 'follower' AND hub <> '' ORDER BY hub LIMIT `+number(limit))
}

// DueRooms returns rooms of the owner's shards that have something to do, the longest waiting first.
func (r *Reader) DueRooms(ctx context.Context, owner string, limit int) ([]RoomID, error) {
	// Not "shard IN": for that SQLite would go through all rooms of all shards.
	return column[RoomID](ctx, r, `SELECT room FROM room WHERE due_ms <= {now}
		AND EXISTS (SELECT 1 FROM shard_lease AS l WHERE l.shard = room.shard AND l.owner = $1 AND l.until_ms > {now}) ORDER BY due_ms LIMIT `+number(limit), owner)
}

// CreateRoom writes a room with its names (MatrixRoomID, URI and GroupID where not empty). Version,
// NextIn and DueMS are ignored, NextSeq of 0 means 1. ErrNameTaken, ErrDuplicate.
func (tx *Tx) CreateRoom(ctx context.Context, r Room) error {
	if r.NextSeq < 1 {
		r.NextSeq = 1
	}
	n, err := tx.exec(ctx, `INSERT INTO room (shard, room, kind, state, uri, matrix_room_id, hub, group_id, grp, epoch, refresh, next_seq, due_ms, epoch_ms, last_accepted_ms, created_ms)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT (shard, room) DO NOTHING`,
		r.ID.Shard(), r.ID, r.Kind, r.State, r.URI, r.MatrixRoomID, r.Hub, bytesOf(r.GroupID), r.Group, r.Epoch, bit(r.Refresh), r.NextSeq, Never,
		r.EpochMS, r.LastAccepted, r.CreatedMS)
	if err != nil {
		return fmt.Errorf("making a room: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("making room %s: %w", r.ID, ErrDuplicate)
	}
	if r.MatrixRoomID != "" {
		err = tx.BindName(ctx, NameMatrix, r.MatrixRoomID, r.ID)
	}
	if err == nil && r.URI != "" {
		err = tx.BindName(ctx, NameMIMI, r.URI, r.ID)
	}
	if err == nil && len(r.GroupID) > 0 {
		err = tx.BindName(ctx, NameGroup, fmt.Sprintf("%x", r.GroupID), r.ID)
	}
	return err
}

// FindOrCreateRoom returns the room that a name means, and makes it from init if there is none. The
// name is bound to it in any case. It waits for another transaction that makes the same one.
func (tx *Tx) FindOrCreateRoom(ctx context.Context, kind NameKind, name string, init Room) (Room, bool, error) {
	r, err := tx.RoomByName(ctx, kind, name)
	if !errors.Is(err, ErrNotFound) {
		return r, false, err
	}
	n, err := tx.exec(ctx, `INSERT INTO room_name (kind, name, shard, room) VALUES ($1, $2, $3, $4) ON CONFLICT (kind, name) DO NOTHING`,
		kind, name, init.ID.Shard(), init.ID)
	if err != nil {
		return r, false, fmt.Errorf("naming a room: %w", err)
	}
	if n == 0 { // made meanwhile
		r, err = tx.RoomByName(ctx, kind, name)
		return r, false, err
	}
	if err := tx.CreateRoom(ctx, init); err != nil {
		return r, false, err
	}
	r, err = tx.Room(ctx, init.ID)
	return r, true, err
}

// BindName lets a name mean a room. ErrNameTaken when it means another.
func (tx *Tx) BindName(ctx context.Context, kind NameKind, name string, room RoomID) error {
	n, err := tx.exec(ctx, `INSERT INTO room_name (kind, name, shard, room) VALUES ($1, $2, $3, $4)
		ON CONFLICT (kind, name) DO UPDATE SET shard = excluded.shard WHERE room_name.room = excluded.room`, kind, name, room.Shard(), room)
	if err != nil {
		return fmt.Errorf("naming a room: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("naming room %s %s %q: %w", room, kind, name, ErrNameTaken)
	}
	return nil
}

// UnbindName forgets a name.
func (tx *Tx) UnbindName(ctx context.Context, kind NameKind, name string) error {
	_, err := tx.exec(ctx, `DELETE FROM room_name WHERE kind = $1 AND name = $2`, kind, name)
	return err
}

// StepRoom writes the head of a room if it still has the version that next carries, and returns the
// head as it stands then. It must be the first change of a step: it locks the room. ErrConflict when
// the room moved on. Names are not touched (BindName); NextIn and DueMS are the database's.
func (tx *Tx) StepRoom(ctx context.Context, next Room, settle Settle) (Room, error) {
	return tx.StepRoomFrom(ctx, Room{Epoch: -2}, next, settle)
}

// StepRoomFrom is StepRoom for a head that was read, or written by the last step, as was: of one in which only NextSeq and
// LastAccepted changed, only those are written, and a settle that settles nothing is left out, so that no index and no reference is touched.
func (tx *Tx) StepRoomFrom(ctx context.Context, was, next Room, settle Settle) (Room, error) {
	token := rand.Int64()
	set := `version = version + 1, step_token = $4, next_seq = $5, last_accepted_ms = $6`
	args := []any{next.ID.Shard(), next.ID, next.Version, token, next.NextSeq, next.LastAccepted}
	with := func(format string, values ...any) {
		places := make([]any, len(values))
		for i := range values {
			places[i] = len(args) + i + 1
		}
		set, args = set+", "+fmt.Sprintf(format, places...), append(args, values...)
	}
	if !next.sameBut(was) {
		with(`kind = $%d, state = $%d, uri = $%d, matrix_room_id = $%d, hub = $%d, group_id = $%d, grp = $%d, epoch = $%d, refresh = $%d, epoch_ms = $%d`,
			next.Kind, next.State, next.URI, next.MatrixRoomID, next.Hub, bytesOf(next.GroupID), next.Group, next.Epoch, bit(next.Refresh), next.EpochMS)
	}
	if settle != (Settle{}) { // SQLite writes an index again for each column that is set, changed or not
		with(`due_ms = CASE WHEN next_in = $%d THEN CAST($%d AS BIGINT) ELSE due_ms END`, settle.Work, settle.DueMS)
	}
	n, err := tx.exec(ctx, `UPDATE room SET `+set+` WHERE shard = $1 AND room = $2 AND version = $3`, args...)
	if err != nil {
		return next, fmt.Errorf("stepping a room: %w", err)
	}
	if n == 0 {
		return next, fmt.Errorf("stepping room %s from version %d: %w", next.ID, next.Version, ErrConflict)
	}
	next.Version++
	tx.step = &stepMark{room: next.ID, version: next.Version, token: token}
	return next, nil
}

// sameBut tells whether two heads of one version differ in nothing but what every step changes.
func (r *Room) sameBut(was Room) bool {
	return r.ID == was.ID && r.Version == was.Version && r.Kind == was.Kind && r.State == was.State && r.URI == was.URI && r.MatrixRoomID == was.MatrixRoomID &&
		r.Hub == was.Hub && bytes.Equal(r.GroupID, was.GroupID) && r.Group == was.Group && r.Epoch == was.Epoch && r.Refresh == was.Refresh && r.EpochMS == was.EpochMS
}

// SettleRoom is Settle without a step: the worker looked and there was nothing it could do now.
func (tx *Tx) SettleRoom(ctx context.Context, id RoomID, settle Settle) error {
	_, err := tx.exec(ctx, `UPDATE room SET due_ms = $3 WHERE shard = $1 AND room = $2 AND next_in = $4`, id.Shard(), id, settle.DueMS, settle.Work)
	return err
}

// WakeRoom makes a room due no later than a time.
func (tx *Tx) WakeRoom(ctx context.Context, id RoomID, dueMS int64) error {
	_, err := tx.arrive(ctx, id, 1, dueMS)
	return err
}

// DelayRoom makes a room due no earlier than a time, in order that the head of its line is tried again
// then. What arrives meanwhile does not wake it earlier only if the caller keeps the time in mind.
func (tx *Tx) DelayRoom(ctx context.Context, id RoomID, dueMS int64) error {
	_, err := tx.exec(ctx, `UPDATE room SET due_ms = $3 WHERE shard = $1 AND room = $2`, id.Shard(), id, dueMS)
	return err
}

// RoomByName is that of Reader. What is stored for the room in this transaction then costs less.
func (tx *Tx) RoomByName(ctx context.Context, kind NameKind, name string) (Room, error) {
	r, err := tx.Reader.RoomByName(ctx, kind, name)
	if err == nil {
		if tx.arrived == nil {
			tx.arrived = map[RoomID]int64{}
		}
		tx.arrived[r.ID] = r.NextIn
	}
	return r, err
}

// arrive counts n arrivals in a room and returns the first of their numbers. It locks the room.
func (tx *Tx) arrive(ctx context.Context, id RoomID, n int, dueMS int64) (int64, error) {
	if first, known := tx.arrived[id]; known {
		delete(tx.arrived, id)
		// An answer (RETURNING) costs SQLite more than the change: it is only asked for when somebody else was quicker.
		rows, err := tx.exec(ctx, `UPDATE room SET next_in = next_in + $3, due_ms = CASE WHEN due_ms > $4 THEN $4 ELSE due_ms END
			WHERE shard = $1 AND room = $2 AND next_in = $5`, id.Shard(), id, int64(n), dueMS, first)
		if err != nil {
			return 0, fmt.Errorf("arriving in room %s: %w", id, err)
		}
		if rows == 1 {
			return first, nil
		}
	}
	next, err := value[int64](ctx, &tx.Reader, `UPDATE room SET next_in = next_in + $3, due_ms = CASE WHEN due_ms > $4 THEN $4 ELSE due_ms END
		WHERE shard = $1 AND room = $2 RETURNING next_in`, id.Shard(), id, int64(n), dueMS)
	if err != nil {
		return 0, fmt.Errorf("arriving in room %s: %w", id, err)
	}
	return next - int64(n), nil
}
