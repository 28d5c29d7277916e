package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/matrix-mimi/bridge/internal/sealed"
)

// AnswerTo says who wants to know the outcome of an outgoing row.
type AnswerTo string

// The kinds of answers. See Tx.CloseOutbound for what is written.
const (
	AnswerNone  AnswerTo = "none"
	AnswerLink  AnswerTo = "link"  // link AnswerSeq gets the event id and the accepted time; 0 is no link: only a failure is told
	AnswerInput AnswerTo = "input" // the room gets an input of kind "answer"
)

// OutboundState says whether a row can be sent.
type OutboundState string

// The states of an outgoing row. A held one, and all after it in its lane, wait.
const (
	OutboundReady OutboundState = "ready"
	OutboundHeld  OutboundState = "held"
)

// Outbound is something to be sent, exactly. A lane (Room, Dest) is sent in the order of Seq.
type Outbound struct {
	Room      RoomID        `db:"room"`
	Dest      string        `db:"dest"` // matrix, or mimi:<domain>, ap:<domain>
	Seq       int64         `db:"seq"`
	State     OutboundState `db:"state"`
	Verb      string        `db:"verb"`
	Target    string        `db:"target"`
	TxnKey    string        `db:"txn_key"` // Matrix transaction id: names the ghost and the row, never changes
	Body      int64         `db:"body"`    // seq of a shared body (PutBody), or 0: then Data is the row's own
	Batch     int64         `db:"batch"`   // first seq of the batch that it was sent in, 0 if it was not (FreezeBatch)
	Data      []byte        `db:"sealed_data"`
	AnswerTo  AnswerTo      `db:"answer_to"`
	AnswerSeq int64         `db:"answer_seq"` // link or intent
	AnswerRef string        `db:"answer_ref"` // given back in the answer
	Attempts  int64         `db:"attempts"`
	TriedMS   int64         `db:"tried_ms"`
	CreatedMS int64         `db:"created_ms"`
	// Broken says that the row's bytes cannot be opened any more: it can only become a dead letter.
	Broken bool `db:"-"`
	// MatrixRoomID is that of the room when the row was made, in rows that are handed over and not read (Woken.Head); else "".
	MatrixRoomID string `db:"-"`
	// Repeated says that an earlier try may have reached the destination: there was one, or the last holder of the lane
	// ended without a word. The outbox sets it before it sends.
	Repeated bool `db:"-"`
}

// Lane names the order of one destination of one room.
type Lane struct {
	Room RoomID
	Dest string
}

// Woken is a lane that has something to send.
type Woken struct {
	Lane
	// Head is all that the lane holds, as LaneRows returns it, where that is known because the lane was at rest before: one that
	// knows the lease it rests under need not read it. It is nil where the rows must be read. Its bytes are shared.
	Head []Outbound
}

// WokenLanes are lanes whose rows must be read.
func WokenLanes(lanes []Lane) []Woken {
	out := make([]Woken, len(lanes))
	for i, l := range lanes {
		out[i].Lane = l
	}
	return out
}

// Lane returns the lane of a row.
func (o *Outbound) Lane() Lane { return Lane{o.Room, o.Dest} }

// PutBody stores bytes that several rows share, under a seq of the room. Rows refer to it with Body.
// It goes when the last of them is closed.
func (tx *Tx) PutBody(ctx context.Context, room RoomID, seq int64, data []byte, nowMS int64) error {
	box, err := tx.seal(data, "body", [16]byte(room), seq)
	if err != nil {
		return err
	}
	_, err = tx.exec(ctx, `INSERT INTO body (shard, room, seq, sealed_data, created_ms) VALUES ($1, $2, $3, $4, $5)`, room.Shard(), room, seq, box, nowMS)
	if err != nil {
		return fmt.Errorf("storing a body of room %s: %w", room, err)
	}
	if tx.bodies == nil {
		tx.bodies = map[bodyKey][]byte{}
	}
	tx.bodies[bodyKey{room, seq}] = data
	return nil
}

// bodyKey names a shared body.
type bodyKey struct {
	room RoomID
	seq  int64
}

// AddOutbound stores rows to be sent, of any rooms, and makes their lanes due. State "" is ready,
// AnswerTo "" is none. Bodies that they share must be stored before. It returns the lanes to wake
// after the commit.
func (tx *Tx) AddOutbound(ctx context.Context, rows []Outbound) ([]Woken, error) {
	lanes := WokenLanes(lanesOf(rows))
	rest := make([]Lane, 0, len(lanes))
	for i := range lanes {
		l := &lanes[i]
		rested := false
		if len(lanes) <= few {
			var err error
			if rested, err = tx.wakeRested(ctx, l.Lane); err != nil {
				return nil, err
			}
		}
		if rested {
			l.Head = tx.headOf(l.Lane, rows)
		} else {
			rest = append(rest, l.Lane)
		}
	}
	err := chunks(tx.db, rest, 5, func(part []Lane) error {
		args := make([]any, 0, len(part)*5)
		for _, l := range part {
			args = append(args, l.Room.Shard(), l.Room, l.Dest, int64(1), int64(0))
		}
		_, err := tx.exec(ctx, `INSERT INTO lane (shard, room, dest, work, due_ms) VALUES `+values(1, len(part), 5)+
			` ON CONFLICT (shard, room, dest) DO UPDATE SET work = lane.work + 1, `+nowDue, args...)
		if err != nil {
			return fmt.Errorf("making lanes due: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = chunks(tx.db, rows, 13, func(part []Outbound) error {
		args := make([]any, 0, len(part)*13)
		for i := range part {
			o := &part[i]
			box, err := tx.seal(o.Data, "outbound", [16]byte(o.Room), o.Dest, o.Seq)
			if err != nil {
				return err
			}
			var body any
			if o.Body != 0 {
				body = o.Body
			}
			args = append(args, o.Room.Shard(), o.Room, o.Dest, o.Seq, cmp.Or(o.State, OutboundReady), o.Verb, o.Target, o.TxnKey, body, box,
				cmp.Or(o.AnswerTo, AnswerNone), o.AnswerSeq, o.AnswerRef)
		}
		// created_ms is one parameter for all rows of a statement: they come from one step.
		_, err := tx.exec(ctx, `INSERT INTO outbound (shard, room, dest, seq, state, verb, target, txn_key, body, sealed_data, answer_to, answer_seq, answer_ref, created_ms) VALUES `+
			valuesPlus(len(part), 13, fmt.Sprintf("$%d", len(part)*13+1)), append(args, part[0].CreatedMS)...)
		if err != nil {
			return fmt.Errorf("storing rows to be sent: %w", err)
		}
		return nil
	})
	return lanes, err
}

// rested is since when a lane is due that rested: since the lease of its last holder ended, or 0 while that one may still send. No clock that
// is put back makes it wait (notGivenBack).
const rested = `CASE WHEN lane.until_ms <= {now} THEN lane.until_ms ELSE 0 END`

// nowDue makes a lane at rest due, and lets another be due when it was.
var nowDue = `due_ms = CASE WHEN lane.due_ms < ` + never + ` THEN lane.due_ms ELSE ` + rested + ` END`

// wakeRested makes a lane due that rests with its lease kept (CloseOutbound): it has no rows. False when the lane is another one.
func (tx *Tx) wakeRested(ctx context.Context, l Lane) (bool, error) {
	n, err := tx.exec(ctx, `UPDATE lane SET work = work + 1, due_ms = `+rested+` WHERE shard = $1 AND room = $2 AND dest = $3 AND due_ms = `+never+` AND owner <> ''`,
		l.Room.Shard(), l.Room, l.Dest)
	if err != nil {
		return false, fmt.Errorf("making a lane due: %w", err)
	}
	return n == 1, nil
}

// headOf picks the rows of a lane as they will be read; nil when one of them cannot be sent now.
func (tx *Tx) headOf(l Lane, rows []Outbound) []Outbound {
	var head []Outbound
	for _, o := range rows {
		if o.Lane() != l {
			continue
		}
		o.State, o.AnswerTo = cmp.Or(o.State, OutboundReady), cmp.Or(o.AnswerTo, AnswerNone)
		known := true
		if o.Body != 0 {
			o.Data, known = tx.bodies[bodyKey{o.Room, o.Body}]
		}
		if o.State != OutboundReady || !known {
			return nil
		}
		head = append(head, o)
	}
	return head
}

func lanesOf(rows []Outbound) []Lane {
	var lanes []Lane
	had := map[Lane]bool{}
	for i := range rows {
		if l := rows[i].Lane(); !had[l] {
			had[l] = true
			lanes = append(lanes, l)
		}
	}
	slices.SortFunc(lanes, func(a, b Lane) int {
		return cmp.Or(bytes.Compare(a.Room[:], b.Room[:]), cmp.Compare(a.Dest, b.Dest))
	})
	return lanes
}

const outboundColumns = `room, dest, seq, state, verb, target, txn_key, COALESCE(body, 0) AS body, batch, sealed_data, answer_to, answer_seq, answer_ref, attempts, tried_ms, created_ms`

// LaneHead is the beginning of a lane as it was at one moment.
type LaneHead struct {
	Rows []Outbound
	Work int64 // of the lane, for LaneLease.Work; 0 when there is no row
	More bool  // there may be more rows than were read
}

// LaneRows returns the head of a lane in order, held rows included, those left out whose outcome is awaited (OutcomeTaken): at most limit rows, and about
// maxBytes of them (always one). Data is filled in, from the shared body where there is one.
func (r *Reader) LaneRows(ctx context.Context, lane Lane, limit int, maxBytes int64) (LaneHead, error) {
	first, size := min(few, limit), int64(0)
	rows, err := listWhile(ctx, r, func(x *laneHeadRow) bool {
		fits := size < maxBytes
		size += int64(len(x.Data) + len(x.Shared))
		return fits
	}, `SELECT `+laneColumns+`, (SELECT l.work FROM lane AS l WHERE l.shard = $1 AND l.room = $2 AND l.dest = $3) AS work
		FROM outbound AS o LEFT JOIN body AS b ON b.shard = o.shard AND b.room = o.room AND b.seq = o.body
		WHERE o.shard = $1 AND o.room = $2 AND o.dest = $3 AND o.taken_ms = 0 ORDER BY o.seq LIMIT `+number(first), lane.Room.Shard(), lane.Room, lane.Dest)
	if err != nil {
		return LaneHead{}, fmt.Errorf("reading a lane of room %s: %w", lane.Room, err)
	}
	if len(rows) == 0 {
		return LaneHead{}, nil
	}
	head := LaneHead{Rows: make([]Outbound, 0, len(rows)), Work: rows[0].Work}
	if len(rows) == first && size < maxBytes && limit > first {
		rest, err := r.laneRest(ctx, lane, rows[first-1].Seq, limit-first, maxBytes-size)
		if err != nil {
			return LaneHead{}, err
		}
		// Work stays that of the first read: whoever takes the later one for what the rows were would miss what changed between them,
		// such as that they were released.
		for i := range rest {
			size += int64(len(rest[i].Data) + len(rest[i].Shared))
		}
		rows = append(rows, rest...)
	}
	head.More = len(rows) == limit || size >= maxBytes
	for i := range rows {
		o, err := r.openOutbound(ctx, &rows[i])
		if err != nil {
			return LaneHead{}, err
		}
		head.Rows = append(head.Rows, o)
	}
	return head, nil
}

// laneHeadRow is a row of a lane with the body that it shares, and how much was ever added to the lane.
type laneHeadRow struct {
	Outbound
	Shared []byte `db:"shared"`
	Work   int64  `db:"work"`
}

// laneColumns are those of laneHeadRow but for work, of outbound as o and body as b.
var laneColumns = strings.Replace(prefixed("o", strings.Replace(outboundColumns, "COALESCE(body, 0) AS body", "body", 1)), "o.body", "COALESCE(o.body, 0) AS body", 1) +
	`, b.sealed_data AS shared`

// laneRest reads on in a lane, as far as the bytes go.
func (r *Reader) laneRest(ctx context.Context, lane Lane, after int64, limit int, maxBytes int64) ([]laneHeadRow, error) {
	rows, err := list[laneHeadRow](ctx, r, `SELECT `+outboundColumns+`, shared FROM (
		SELECT `+strings.Replace(laneColumns, "COALESCE(o.body, 0) AS body", "o.body", 1)+`, LENGTH(o.sealed_data) + COALESCE(LENGTH(b.sealed_data), 0) AS size,
		SUM(LENGTH(o.sealed_data) + COALESCE(LENGTH(b.sealed_data), 0)) OVER (ORDER BY o.seq) AS upto
		FROM (SELECT shard, `+strings.Replace(outboundColumns, "COALESCE(body, 0) AS body", "body", 1)+` FROM outbound
			WHERE shard = $1 AND room = $2 AND dest = $3 AND taken_ms = 0 AND seq > $4 ORDER BY seq LIMIT `+number(limit)+`) AS o
		LEFT JOIN body AS b ON b.shard = o.shard AND b.room = o.room AND b.seq = o.body) AS x WHERE upto - size < $5 ORDER BY seq`,
		lane.Room.Shard(), lane.Room, lane.Dest, after, maxBytes)
	if err != nil {
		return nil, fmt.Errorf("reading a lane of room %s: %w", lane.Room, err)
	}
	return rows, nil
}

// openOutbound opens the bytes of a row.
func (r *Reader) openOutbound(ctx context.Context, x *laneHeadRow) (o Outbound, err error) {
	o = x.Outbound
	if o.Body != 0 {
		o.Data, err = r.open(ctx, x.Shared, "body", [16]byte(o.Room), o.Body)
	} else {
		o.Data, err = r.open(ctx, o.Data, "outbound", [16]byte(o.Room), o.Dest, o.Seq)
	}
	if errors.Is(err, sealed.ErrBroken) {
		o.Data, o.Broken, err = nil, true, nil
	}
	return o, err
}

// FreezeBatch writes down, before they are sent, that rows are sent as one request: a retry must send
// the same bytes, also after a crash and when more rows came. ErrLeaseLost.
func (tx *Tx) FreezeBatch(ctx context.Context, l LaneLease, first, last, lifeMS int64) error {
	if _, err := tx.RenewLane(ctx, l, lifeMS); err != nil {
		return err
	}
	_, err := tx.exec(ctx, `UPDATE outbound SET batch = $4 WHERE shard = $1 AND room = $2 AND dest = $3 AND seq >= $4 AND seq <= $5`,
		l.Room.Shard(), l.Room, l.Dest, first, last)
	return err
}

// SplitBatch makes each row of a batch one of its own: the peer refused them together.
func (tx *Tx) SplitBatch(ctx context.Context, l LaneLease, first, last, lifeMS int64) error {
	if _, err := tx.RenewLane(ctx, l, lifeMS); err != nil {
		return err
	}
	_, err := tx.exec(ctx, `UPDATE outbound SET batch = seq WHERE shard = $1 AND room = $2 AND dest = $3 AND seq >= $4 AND seq <= $5`,
		l.Room.Shard(), l.Room, l.Dest, first, last)
	return err
}

// OldLanes returns lanes that nobody holds, that fail at least since a time, sinceMS, and whose first row was made before another
// and is not held: it has to be given up.
func (r *Reader) OldLanes(ctx context.Context, beforeMS, sinceMS int64, limit int) ([]Lane, error) {
	rows, err := list[laneRow](ctx, r, `SELECT l.room, l.dest FROM lane AS l WHERE l.failures > 0 AND l.failing_since_ms <= $2 AND l.until_ms <= {now}
		AND (SELECT CASE WHEN o.state = 'ready' THEN o.created_ms ELSE `+never+` END FROM outbound AS o WHERE o.shard = l.shard AND o.room = l.room AND o.dest = l.dest AND o.taken_ms = 0 ORDER BY o.seq LIMIT 1) < $1 LIMIT `+number(limit),
		beforeMS, sinceMS)
	out := make([]Lane, len(rows))
	for i, x := range rows {
		out[i] = Lane{x.Room, x.Dest}
	}
	return out, err
}

// ReleaseHeld makes a room's held rows ready and their lanes due. It returns the lanes to wake.
func (tx *Tx) ReleaseHeld(ctx context.Context, room RoomID) ([]Lane, error) {
	dests, err := column[string](ctx, &tx.Reader, `SELECT DISTINCT dest FROM outbound WHERE shard = $1 AND room = $2 AND state = 'held' ORDER BY dest`, room.Shard(), room)
	if err != nil {
		return nil, err
	}
	var lanes []Lane
	for _, d := range dests {
		lanes = append(lanes, Lane{room, d})
		if err := tx.moreWork(ctx, Lane{room, d}); err != nil {
			return nil, err
		}
	}
	_, err = tx.exec(ctx, `UPDATE outbound SET state = 'ready' WHERE shard = $1 AND room = $2 AND state = 'held' AND verb <> '`+VerbBlank+`'`, room.Shard(), room)
	return lanes, err
}

// VerbBlank is the verb of held rows whose request is not known yet: they keep a place in their lane until FillOutbound.
const VerbBlank = "blank"

func (tx *Tx) moreWork(ctx context.Context, l Lane) error {
	_, err := tx.exec(ctx, `UPDATE lane SET work = work + 1, `+nowDue+` WHERE shard = $1 AND room = $2 AND dest = $3`,
		l.Room.Shard(), l.Room, l.Dest)
	return err
}

// FillOutbound gives a blank row, which was never sent, its request and state.
func (tx *Tx) FillOutbound(ctx context.Context, o Outbound) error {
	box, err := tx.seal(o.Data, "outbound", [16]byte(o.Room), o.Dest, o.Seq)
	if err != nil {
		return err
	}
	if _, err := tx.exec(ctx, `UPDATE outbound SET verb = $5, sealed_data = $6, state = $7 WHERE shard = $1 AND room = $2 AND dest = $3 AND seq = $4 AND verb = '`+VerbBlank+`'`,
		o.Room.Shard(), o.Room, o.Dest, o.Seq, o.Verb, box, cmp.Or(o.State, OutboundReady)); err != nil {
		return fmt.Errorf("filling a blank row: %w", err)
	}
	return tx.moreWork(ctx, o.Lane())
}

// DropOutbound deletes rows that need not be sent any more: commits whose epoch is over. It is the room's worker that knows; the lane
// goes on without them. A row that was handed to the outbox in the last second, or is on its way, is sent all the same, so only what
// its receiver tells from its own state to be late may be dropped: a hub refuses a commit of an epoch that is over.
func (tx *Tx) DropOutbound(ctx context.Context, lane Lane, seqs ...int64) error {
	for _, s := range seqs {
		body, err := column[int64](ctx, &tx.Reader, `DELETE FROM outbound WHERE shard = $1 AND room = $2 AND dest = $3 AND seq = $4 RETURNING COALESCE(body, 0)`,
			lane.Room.Shard(), lane.Room, lane.Dest, s)
		if err != nil {
			return err
		}
		for _, b := range body {
			if err := tx.dropBody(ctx, lane.Room, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// deleteOutbound deletes a row that was read, and the body that it shared if it was the last.
func (tx *Tx) deleteOutbound(ctx context.Context, o *Outbound) (bool, error) {
	n, err := tx.exec(ctx, `DELETE FROM outbound WHERE shard = $1 AND room = $2 AND dest = $3 AND seq = $4`, o.Room.Shard(), o.Room, o.Dest, o.Seq)
	if err != nil || n == 0 {
		return false, err
	}
	return true, tx.dropBody(ctx, o.Room, o.Body)
}

// dropBody deletes a shared body, 0 for none, unless another row needs it. Two lanes that close the last two rows at once both leave
// it: Cleanup takes it then.
func (tx *Tx) dropBody(ctx context.Context, room RoomID, body int64) error {
	if body == 0 {
		return nil
	}
	_, err := tx.exec(ctx, `DELETE FROM body WHERE shard = $1 AND room = $2 AND seq = $3
		AND NOT EXISTS (SELECT 1 FROM outbound AS o WHERE o.shard = $1 AND o.room = $2 AND o.body = $3)`, room.Shard(), room, body)
	return err
}
