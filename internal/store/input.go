package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
)

// InputState says whether an input can be dealt with.
type InputState string

// The states of an input. One that is done has no row.
const (
	InputReady   InputState = "ready"
	InputWaiting InputState = "waiting" // for a later epoch (T11)
	InputBroken  InputState = "broken"  // set aside after it failed too often
)

// Input is something that arrived in a room and is not dealt with. Body is sealed in the database.
type Input struct {
	Room      RoomID     `db:"room"`
	Seq       int64      `db:"seq"`
	Kind      string     `db:"kind"`
	Source    string     `db:"source"` // event id, request hash …: for logs
	Peer      string     `db:"peer"`
	State     InputState `db:"state"`
	Reason    string     `db:"reason"`
	Epoch     int64      `db:"epoch"` // the epoch it waits for or belongs to, -1 if none
	Tries     int64      `db:"tries"`
	NotBefore int64      `db:"not_before_ms"`
	Size      int64      `db:"size"`
	Body      []byte     `db:"sealed_body"`
	CreatedMS int64      `db:"created_ms"`
}

const inputColumns = `room, seq, kind, source, peer, state, reason, epoch, tries, not_before_ms, size, sealed_body, created_ms`

// maxReason bounds the reason that is kept of what failed, in bytes.
const maxReason = 500

// NewInput is an input that arrives.
type NewInput struct {
	Room      RoomID
	Kind      string
	Source    string
	Peer      string
	Epoch     int64 // -1 if none
	Body      []byte
	NotBefore int64 // milliseconds; 0 means at once
	CreatedMS int64
	// SeenKind and SeenKey, when set, let the same thing in once only.
	SeenKind, SeenKey string
}

// Added says what became of a NewInput.
type Added struct {
	Seq       int64
	Duplicate bool // it was seen before; no row was written
}

// AddInputs stores inputs of any rooms, in the order given within each room, and makes the rooms due.
// Things seen before are passed over. The rooms are locked until the end of the transaction.
// ErrNotFound when a room does not exist.
func (tx *Tx) AddInputs(ctx context.Context, in []NewInput) ([]Added, error) {
	out := make([]Added, len(in))
	order := make([]int, len(in))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return bytes.Compare(in[a].Room[:], in[b].Room[:]) })
	for start := 0; start < len(order); {
		end := start
		for end < len(order) && in[order[end]].Room == in[order[start]].Room {
			end++
		}
		if err := tx.addRoomInputs(ctx, in, order[start:end], out); err != nil {
			return nil, err
		}
		start = end
	}
	return out, nil
}

func (tx *Tx) addRoomInputs(ctx context.Context, in []NewInput, which []int, out []Added) error {
	room := in[which[0]].Room
	due := Never
	for _, i := range which {
		due = min(due, in[i].NotBefore)
	}
	// The room is locked first, so that of two that bring the same thing one sees the other's mark.
	first, err := tx.arrive(ctx, room, len(which), due)
	if err != nil {
		return err
	}
	if err := tx.markSeenInputs(ctx, in, which, out); err != nil {
		return err
	}
	var rows []int
	for n, i := range which {
		if !out[i].Duplicate {
			out[i].Seq = first + int64(n)
			rows = append(rows, i)
		}
	}
	return chunks(tx.db, rows, 13, func(part []int) error {
		args := make([]any, 0, len(part)*13)
		for _, i := range part {
			x, seq := &in[i], out[i].Seq
			box, err := tx.seal(x.Body, "input", [16]byte(room), seq)
			if err != nil {
				return err
			}
			args = append(args, room.Shard(), room, seq, x.Kind, x.Source, x.Peer, string(InputReady), x.Epoch, int64(0), x.NotBefore, int64(len(x.Body)), box, x.CreatedMS)
		}
		_, err := tx.exec(ctx, `INSERT INTO input (shard, room, seq, kind, source, peer, state, epoch, tries, not_before_ms, size, sealed_body, created_ms) VALUES `+
			values(1, len(part), 13), args...)
		if err != nil {
			return fmt.Errorf("storing inputs of room %s: %w", room, err)
		}
		return nil
	})
}

func (tx *Tx) markSeenInputs(ctx context.Context, in []NewInput, which []int, out []Added) error {
	var marks []Seen
	for _, i := range which {
		if in[i].SeenKey != "" {
			marks = append(marks, Seen{Room: in[i].Room, Kind: in[i].SeenKind, Key: in[i].SeenKey, CreatedMS: in[i].CreatedMS})
		}
	}
	fresh, err := tx.MarkSeen(ctx, marks)
	if err != nil {
		return err
	}
	n := 0
	for _, i := range which {
		if in[i].SeenKey != "" {
			out[i].Duplicate = !fresh[n]
			n++
		}
	}
	return nil
}

// Inbox is what a worker needs to know of a room's inputs.
type Inbox struct {
	Inputs []Input // ready and due, in order
	Settle Settle  // for the step or SettleRoom after the last of Inputs; valid when More is false
	More   bool    // there are more due inputs than were read
}

// inboxBytes is about how much body Inbox reads at once.
const inboxBytes = 4 << 20

// Inbox reads the next due inputs of a room: at most limit, and about 4 MiB. now is the clock that
// NotBefore is compared with.
func (r *Reader) Inbox(ctx context.Context, room RoomID, nowMS int64, limit int) (Inbox, error) {
	type row struct {
		Input
		Work  int64  `db:"work"`
		Later *int64 `db:"later"`
	}
	const later = `(SELECT MIN(not_before_ms) FROM input WHERE shard = $1 AND room = $2 AND state = 'ready' AND not_before_ms > $3) AS later`
	first, size := min(few, limit+1), int64(0)
	read := func() ([]row, error) {
		rows, err := listWhile(ctx, r, func(x *row) bool {
			fits := size < inboxBytes
			size += x.Size
			return fits
		}, `SELECT `+inputColumns+`, (SELECT next_in FROM room WHERE shard = $1 AND room = $2) AS work, `+later+`
			FROM input WHERE shard = $1 AND room = $2 AND state = 'ready' AND not_before_ms <= $3 ORDER BY seq LIMIT `+number(first), room.Shard(), room, nowMS)
		if err != nil {
			return nil, fmt.Errorf("reading the inputs of room %s: %w", room, err)
		}
		return rows, nil
	}
	rows, err := read()
	if err != nil {
		return Inbox{}, err
	}
	if len(rows) == 0 {
		head, err := get[row](ctx, r, `SELECT next_in AS work, `+later+` FROM room WHERE shard = $1 AND room = $2`, room.Shard(), room, nowMS)
		if err != nil {
			return Inbox{}, err
		}
		// What came between the two is counted in work already, and would be settled without having been seen.
		if rows, err = read(); err != nil || len(rows) == 0 {
			return Inbox{Settle: settleAt(head.Work, head.Later)}, err
		}
	}
	box := Inbox{Settle: settleAt(rows[0].Work, rows[0].Later)}
	for i := range rows {
		box.Inputs = append(box.Inputs, rows[i].Input)
	}
	if len(rows) == first && size < inboxBytes && limit >= first {
		rest, err := list[Input](ctx, r, `SELECT `+inputColumns+` FROM (SELECT `+inputColumns+`, SUM(size) OVER (ORDER BY seq) - size AS before
			FROM input WHERE shard = $1 AND room = $2 AND state = 'ready' AND not_before_ms <= $3 AND seq > $4 ORDER BY seq LIMIT `+
			number(limit-first+1)+`) AS i WHERE before < $5 ORDER BY seq`, room.Shard(), room, nowMS, box.Inputs[first-1].Seq, inboxBytes-size)
		if err != nil {
			return Inbox{}, fmt.Errorf("reading the inputs of room %s: %w", room, err)
		}
		for _, x := range rest {
			size += x.Size
		}
		box.Inputs = append(box.Inputs, rest...)
	}
	if box.More = len(box.Inputs) > limit || size >= inboxBytes; len(box.Inputs) > limit {
		box.Inputs = box.Inputs[:limit]
	}
	return box, r.openInputs(ctx, box.Inputs)
}

func settleAt(work int64, later *int64) Settle {
	s := Settle{Work: work, DueMS: Never}
	if later != nil {
		s.DueMS = *later
	}
	return s
}

func (r *Reader) openInputs(ctx context.Context, rows []Input) (err error) {
	for i := range rows {
		x := &rows[i]
		if x.Body, err = r.open(ctx, x.Body, "input", [16]byte(x.Room), x.Seq); err != nil {
			return err
		}
	}
	return nil
}

// Input returns one input, or ErrNotFound when it is done.
func (r *Reader) Input(ctx context.Context, room RoomID, seq int64) (Input, error) {
	rows, err := list[Input](ctx, r, `SELECT `+inputColumns+` FROM input WHERE shard = $1 AND room = $2 AND seq = $3`, room.Shard(), room, seq)
	if err != nil {
		return Input{}, err
	}
	if len(rows) == 0 {
		return Input{}, ErrNotFound
	}
	return rows[0], r.openInputs(ctx, rows)
}

// InputsIn returns inputs of a room in a state, in order.
func (r *Reader) InputsIn(ctx context.Context, room RoomID, state InputState, limit int) ([]Input, error) {
	rows, err := list[Input](ctx, r, `SELECT `+inputColumns+` FROM input WHERE shard = $1 AND room = $2 AND state = $3 ORDER BY seq LIMIT $4`,
		room.Shard(), room, state, limit)
	if err != nil {
		return nil, err
	}
	return rows, r.openInputs(ctx, rows)
}

// FinishInput deletes an input that is dealt with. It reports whether the row was there.
func (tx *Tx) FinishInput(ctx context.Context, room RoomID, seq int64) (bool, error) {
	n, err := tx.exec(ctx, `DELETE FROM input WHERE shard = $1 AND room = $2 AND seq = $3`, room.Shard(), room, seq)
	return n > 0, err
}

// WaitInput sets an input aside until its epoch has come (T11).
func (tx *Tx) WaitInput(ctx context.Context, room RoomID, seq, epoch int64, reason string) error {
	_, err := tx.exec(ctx, `UPDATE input SET state = 'waiting', epoch = $4, reason = $5 WHERE shard = $1 AND room = $2 AND seq = $3`,
		room.Shard(), room, seq, epoch, reason)
	return err
}

// InputsOf counts the ready inputs of a kind that came from a peer, and their bytes.
func (r *Reader) InputsOf(ctx context.Context, room RoomID, kind, peer string) (rows, size int64, err error) {
	return r.countInputs(ctx, `state = 'ready' AND kind = $3 AND peer = $4`, room.Shard(), room, kind, peer)
}

// Unread counts the inputs of a room that came from a peer and are not worked off, ready or waiting, and their bytes.
func (r *Reader) Unread(ctx context.Context, room RoomID, peer string) (rows, size int64, err error) {
	return r.countInputs(ctx, `state <> 'broken' AND peer = $3`, room.Shard(), room, peer)
}

// Waiting counts a room's waiting inputs, and their bytes.
func (r *Reader) Waiting(ctx context.Context, room RoomID) (rows, size int64, err error) {
	return r.countInputs(ctx, `state = 'waiting'`, room.Shard(), room)
}

func (r *Reader) countInputs(ctx context.Context, which string, args ...any) (rows, size int64, err error) {
	type sum struct {
		Rows int64 `db:"n"`
		Size int64 `db:"size"`
	}
	s, err := get[sum](ctx, r, `SELECT COUNT(*) AS n, CAST(COALESCE(SUM(size), 0) AS BIGINT) AS size FROM input
		WHERE shard = $1 AND room = $2 AND `+which, args...)
	return s.Rows, s.Size, err
}

// ReleaseWaiting makes the inputs ready again that wait for an epoch up to the given one, and the room
// due if there are any. It returns their number.
func (tx *Tx) ReleaseWaiting(ctx context.Context, room RoomID, epoch int64) (int64, error) {
	n, err := tx.exec(ctx, `UPDATE input SET state = 'ready', reason = '' WHERE shard = $1 AND room = $2 AND state = 'waiting' AND epoch <= $3`,
		room.Shard(), room, epoch)
	if err != nil || n == 0 {
		return n, err
	}
	return n, tx.WakeRoom(ctx, room, 0)
}

// RetryInput notes that an input failed and shall be tried again no earlier than a time. It is for
// inputs that may be overtaken; to hold the whole room back use DelayRoom.
func (tx *Tx) RetryInput(ctx context.Context, room RoomID, seq int64, reason string, notBefore int64) error {
	_, err := tx.exec(ctx, `UPDATE input SET tries = tries + 1, reason = $4, not_before_ms = $5, state = 'ready' WHERE shard = $1 AND room = $2 AND seq = $3`,
		room.Shard(), room, seq, cut(reason, maxReason), notBefore)
	if err != nil {
		return err
	}
	return tx.WakeRoom(ctx, room, notBefore)
}

// BreakInput sets an input aside that failed too often. An operator is told, and may try it again (RetryBroken) or delete it
// (DropBroken); Cleanup deletes it in the end.
func (tx *Tx) BreakInput(ctx context.Context, room RoomID, seq int64, reason string) error {
	_, err := tx.exec(ctx, `UPDATE input SET state = 'broken', tries = tries + 1, reason = $4 WHERE shard = $1 AND room = $2 AND seq = $3`,
		room.Shard(), room, seq, cut(reason, maxReason))
	return err
}

// BrokenInput is an input that was set aside, without its body, and what its room is called.
type BrokenInput struct {
	Room         RoomID `db:"room"`
	URI          string `db:"uri"`
	MatrixRoomID string `db:"matrix_room_id"`
	Seq          int64  `db:"seq"`
	Kind         string `db:"kind"`
	Source       string `db:"source"`
	Peer         string `db:"peer"`
	Reason       string `db:"reason"`
	Tries        int64  `db:"tries"`
	CreatedMS    int64  `db:"created_ms"`
}

// BrokenInputs lists at most limit inputs that were set aside, by their rooms and in each in the order in which they came.
func (r *Reader) BrokenInputs(ctx context.Context, limit int) ([]BrokenInput, error) {
	return list[BrokenInput](ctx, r, `SELECT i.room, r.uri, r.matrix_room_id, i.seq, i.kind, i.source, i.peer, i.reason, i.tries, i.created_ms
		FROM input AS i JOIN room AS r ON r.shard = i.shard AND r.room = i.room WHERE i.state = 'broken' ORDER BY i.room, i.seq LIMIT $1`, limit)
}

// RetryBroken makes an input ready again that was set aside, at its old place and with all its tries, and the room due.
// ErrNotFound when it is gone or was not set aside.
func (tx *Tx) RetryBroken(ctx context.Context, room RoomID, seq int64) error {
	if err := tx.WakeRoom(ctx, room, 0); err != nil {
		return err
	}
	n, err := tx.exec(ctx, `UPDATE input SET state = 'ready', tries = 0, reason = '', not_before_ms = 0 WHERE shard = $1 AND room = $2 AND seq = $3 AND state = 'broken'`,
		room.Shard(), room, seq)
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// DropBroken deletes an input that was set aside for good. ErrNotFound when it is gone or was not set aside.
func (tx *Tx) DropBroken(ctx context.Context, room RoomID, seq int64) error {
	n, err := tx.exec(ctx, `DELETE FROM input WHERE shard = $1 AND room = $2 AND seq = $3 AND state = 'broken'`, room.Shard(), room, seq)
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}
