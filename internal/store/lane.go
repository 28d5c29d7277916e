package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// LaneLease is the right to send a lane's rows. It ends at the database's time UntilMS unless it is
// renewed; Token is checked with every change.
type LaneLease struct {
	Lane
	Owner        string
	Token        int64
	Work         int64 // the lane's count of additions when the lease was taken or renewed
	Failures     int64
	FailingSince int64
	DueMS        int64
	// Unclean says that the last holder did not give the lease back, and that the lane did not rest until it ended: the row at the
	// head, if it is not in a batch, may have been sent alone.
	Unclean bool
}

type laneRow struct {
	Unclean      bool   `db:"unclean"`
	Room         RoomID `db:"room"`
	Dest         string `db:"dest"`
	Token        int64  `db:"token"`
	Work         int64  `db:"work"`
	Failures     int64  `db:"failures"`
	FailingSince int64  `db:"failing_since_ms"`
	DueMS        int64  `db:"due_ms"`
}

// notGivenBack notes whether a lease ended while there was something to send: nothing is under way when more came only later (rested).
const notGivenBack = `unclean = CASE WHEN owner <> '' AND due_ms < until_ms THEN 1 ELSE unclean END`

// ClaimLane takes the lease on a lane for lifeMS milliseconds. ErrNotFound when another holds it, the
// lane is not due (due or not with early), or there is no such lane. The owner's own lease is taken
// over: a process knows which lanes it is working on.
func (tx *Tx) ClaimLane(ctx context.Context, lane Lane, owner string, lifeMS int64, early bool) (LaneLease, error) {
	token := rand.Int64()
	row, err := get[laneRow](ctx, &tx.Reader, `UPDATE lane SET owner = $4, token = $5, until_ms = {now} + $6, `+notGivenBack+`
		WHERE shard = $1 AND room = $2 AND dest = $3 AND (until_ms <= {now} OR owner = $4) AND (due_ms <= {now} OR CAST($7 AS BIGINT) = 1)
		RETURNING unclean, room, dest, token, work, failures, failing_since_ms, due_ms`, lane.Room.Shard(), lane.Room, lane.Dest, owner, token, lifeMS, bit(early))
	if err != nil {
		return LaneLease{}, err
	}
	return LaneLease{Lane: lane, Owner: owner, Token: row.Token, Work: row.Work, Failures: row.Failures, FailingSince: row.FailingSince, DueMS: row.DueMS, Unclean: row.Unclean}, nil
}

// DueLanes returns lanes that are due and that nobody but the owner holds, the longest waiting first.
// Lanes of the destinations named are passed over.
func (r *Reader) DueLanes(ctx context.Context, owner string, limit int, except ...string) ([]Lane, error) {
	args := []any{owner}
	not := ""
	for _, d := range except {
		args = append(args, d)
		not += fmt.Sprintf(" AND dest <> $%d", len(args))
	}
	rows, err := list[laneRow](ctx, r, `SELECT room, dest FROM lane
		WHERE due_ms <= {now} AND (until_ms <= {now} OR owner = $1)`+not+` ORDER BY due_ms LIMIT `+number(limit), args...)
	out := make([]Lane, len(rows))
	for i, x := range rows {
		out[i] = Lane{x.Room, x.Dest}
	}
	return out, err
}

// RenewLane prolongs a lease and reads the lane's work anew. ErrLeaseLost when it is another's.
func (tx *Tx) RenewLane(ctx context.Context, l LaneLease, lifeMS int64) (LaneLease, error) {
	row, err := get[laneRow](ctx, &tx.Reader, `UPDATE lane SET until_ms = {now} + $5 WHERE shard = $1 AND room = $2 AND dest = $3 AND token = $4
		RETURNING room, dest, token, work, failures, failing_since_ms, due_ms`, l.Room.Shard(), l.Room, l.Dest, l.Token, lifeMS)
	if errors.Is(err, ErrNotFound) {
		return l, ErrLeaseLost
	}
	if err != nil {
		return l, err
	}
	l.Work, l.Failures, l.FailingSince, l.DueMS = row.Work, row.Failures, row.FailingSince, row.DueMS
	return l, nil
}

// RestLane says that everything was sent that the holder knew of (l.Work). It returns true when
// nothing was added since: then the lane is not due any more, and with keep the holder keeps the
// lease to its end so that the next row needs no claim. ErrLeaseLost.
func (tx *Tx) RestLane(ctx context.Context, l LaneLease, keep bool) (bool, error) {
	set := `due_ms = $6, failures = 0, failing_since_ms = 0, unclean = 0`
	if !keep {
		set += `, owner = '', until_ms = 0, token = 0`
	}
	n, err := tx.exec(ctx, `UPDATE lane SET `+set+` WHERE shard = $1 AND room = $2 AND dest = $3 AND token = $4 AND work = $5`,
		l.Room.Shard(), l.Room, l.Dest, l.Token, l.Work, Never)
	if err != nil || n > 0 {
		return n > 0, err
	}
	_, err = tx.RenewLane(ctx, l, 0)
	return false, err
}

// FailLane notes a failure: the lane is tried again at dueMS, and the lease ends. ErrLeaseLost.
func (tx *Tx) FailLane(ctx context.Context, l LaneLease, dueMS, failingSinceMS int64, reason string) error {
	n, err := tx.exec(ctx, `UPDATE lane SET owner = '', until_ms = 0, token = 0, unclean = 0, due_ms = $5, failures = failures + 1, failing_since_ms = $6, last_error = $7
		WHERE shard = $1 AND room = $2 AND dest = $3 AND token = $4`, l.Room.Shard(), l.Room, l.Dest, l.Token, dueMS, failingSinceMS, cut(reason, 500))
	if err == nil && n == 0 {
		return ErrLeaseLost
	}
	return err
}

// FailWaiting notes, of at most limit lanes of some destinations, that they fail since nowMS: those that are due, that nobody holds,
// and that did not fail yet. They stay due. It returns how many there were.
func (tx *Tx) FailWaiting(ctx context.Context, nowMS int64, reason string, limit int, dests ...string) (int64, error) {
	args := []any{nowMS, cut(reason, 500)}
	in := make([]string, len(dests))
	for i, d := range dests {
		args = append(args, d)
		in[i] = fmt.Sprintf("$%d", len(args))
	}
	return tx.exec(ctx, `UPDATE lane SET failures = 1, failing_since_ms = $1, last_error = $2 WHERE failures = 0 AND (shard, room, dest) IN (
		SELECT shard, room, dest FROM lane WHERE due_ms <= {now} AND until_ms <= {now} AND failures = 0 AND dest IN (`+strings.Join(in, ", ")+`)
		LIMIT `+number(limit)+`)`, args...)
}

// DropLane gives a lease back and leaves the lane as it is. Losing it is not an error.
func (tx *Tx) DropLane(ctx context.Context, l LaneLease) error {
	_, err := tx.exec(ctx, `UPDATE lane SET owner = '', until_ms = 0, token = 0 WHERE shard = $1 AND room = $2 AND dest = $3 AND token = $4`,
		l.Room.Shard(), l.Room, l.Dest, l.Token)
	return err
}

// DropLanes gives back every lease of an owner: the end of a process. What the head of such a lane went
// through is not known, unless the lane rests.
func (tx *Tx) DropLanes(ctx context.Context, owner string) error {
	_, err := tx.exec(ctx, `UPDATE lane SET owner = '', until_ms = 0, token = 0, `+notGivenBack+` WHERE owner = $1 AND owner <> ''`, owner)
	return err
}

// WakeLanes makes the failing lanes of a destination due at once: the peer spoke to us. It returns
// how many there were.
func (tx *Tx) WakeLanes(ctx context.Context, dest string) (int64, error) {
	return tx.exec(ctx, `UPDATE lane SET due_ms = 0 WHERE dest = $1 AND failures > 0 AND due_ms < $2`, dest, Never)
}

// Destinations lists to whom there are lanes, of those whose name begins with prefix, at most limit. It reads all lanes.
func (r *Reader) Destinations(ctx context.Context, prefix string, limit int) ([]string, error) {
	return column[string](ctx, r, `SELECT DISTINCT dest FROM lane WHERE substr(dest, 1, $1) = $2 ORDER BY dest LIMIT `+number(limit), len(prefix), prefix)
}

// Classes of outcomes.
const (
	OutcomeDone    = "done"
	OutcomeRefused = "refused" // for good, by the other side
	OutcomeDead    = "dead"    // given up, or too broken to send
	OutcomeTaken   = "taken"   // the other side has it and tells the outcome later: the row stays, and no lane sends it (CloseTaken)
)

// Outcome is what became of a row that was sent for the last time.
type Outcome struct {
	Class      string // OutcomeDone, OutcomeRefused or OutcomeDead
	Status     int    // HTTP status, 0 if there was none
	Body       []byte // of the answer
	EventID    string // for AnswerLink: the Matrix event that the row became
	AcceptedMS int64  // for AnswerLink: the hub's accepted time
	Reason     string // for a dead letter and for logs
}

// Answer is the body of an input of kind "answer", as JSON.
type Answer struct {
	Dest   string `json:"dest"`
	Verb   string `json:"verb"`
	Target string `json:"target,omitempty"`
	Seq    int64  `json:"seq"` // of the outgoing row
	Ref    string `json:"ref,omitempty"`
	For    int64  `json:"for,omitempty"` // AnswerSeq of the row
	Class  string `json:"class"`
	Status int    `json:"status,omitempty"`
	Body   []byte `json:"body,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// InputAnswer is the kind of inputs that carry an Answer.
const InputAnswer = "answer"

// Closing is a row that is sent, with its outcome.
type Closing struct {
	Row     Outbound
	Outcome Outcome
}

// CloseOutbound ends rows of a lane in one go: it renews the lease by lifeMS, deletes the rows, writes
// dead letters (also for refused rows of which nobody else learns), and answers whoever wants it: a link gets event id, accepted time and state (sent,
// failed); a room gets an input of kind "answer" (also for AnswerLink when the row failed). A row that
// is gone already answers nobody. It clears the lane's failures unless all rows are dead. ErrLeaseLost: nothing may be written.
//
// With done, the holder says that it knows of no further row: if nothing was added meanwhile, the lane
// rests (see RestLane, keep). It returns the lease as it is now (Work stays: it says what the holder has
// read), whether the lane rests, and the rooms that got an input.
func (tx *Tx) CloseOutbound(ctx context.Context, l LaneLease, rows []Closing, nowMS, lifeMS int64, done bool) (LaneLease, bool, []RoomID, error) {
	inputs, woken := answers(rows, nowMS)
	if len(inputs) > 0 { // rooms before lanes
		if _, err := tx.arrive(ctx, l.Room, 0, Never); err != nil && !errors.Is(err, ErrNotFound) {
			return l, false, nil, err
		}
	}
	row, err := tx.keepLane(ctx, l, lifeMS, done, alive(rows))
	if errors.Is(err, ErrNotFound) {
		return l, false, nil, ErrLeaseLost
	}
	if err != nil {
		return l, false, nil, err
	}
	gone := map[int64]bool{}
	for i := range rows {
		was, err := tx.closeRow(ctx, &rows[i], nowMS)
		if err != nil {
			return l, false, nil, err
		}
		if !was {
			gone[rows[i].Row.Seq] = true
		}
	}
	var keep []NewInput
	for i, in := range inputs {
		if !gone[woken[i]] {
			keep = append(keep, in)
		}
	}
	var rooms []RoomID
	if len(keep) > 0 {
		if _, err := tx.AddInputs(ctx, keep); err != nil && !errors.Is(err, ErrNotFound) {
			return l, false, nil, err
		}
		rooms = []RoomID{l.Room}
	}
	l.Failures, l.FailingSince, l.DueMS, l.Unclean = row.Failures, row.FailingSince, row.DueMS, false
	return l, row.DueMS == Never, rooms, nil
}

// keepLane renews the lease of a lane that was served, clears its failures, and with done lets it rest if nothing was added.
// ErrNotFound when the lease is lost.
func (tx *Tx) keepLane(ctx context.Context, l LaneLease, lifeMS int64, done, alive bool) (laneRow, error) {
	// Where all is known without an answer (RETURNING), none is asked for: it costs SQLite more than the change.
	if done { // mostly nothing was added
		n, err := tx.exec(ctx, `UPDATE lane SET until_ms = {now} + $5, unclean = 0, due_ms = $7, failures = 0, failing_since_ms = 0
			WHERE shard = $1 AND room = $2 AND dest = $3 AND token = $4 AND work = $6`,
			l.Room.Shard(), l.Room, l.Dest, l.Token, lifeMS, l.Work, Never)
		if err != nil || n == 1 {
			return laneRow{Room: l.Room, Dest: l.Dest, Token: l.Token, Work: l.Work, DueMS: Never}, err
		}
	}
	if alive {
		n, err := tx.exec(ctx, `UPDATE lane SET until_ms = {now} + $5, unclean = 0, due_ms = 0, failures = 0, failing_since_ms = 0
			WHERE shard = $1 AND room = $2 AND dest = $3 AND token = $4`, l.Room.Shard(), l.Room, l.Dest, l.Token, lifeMS)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		return laneRow{Room: l.Room, Dest: l.Dest, Token: l.Token, Work: l.Work}, err
	}
	return get[laneRow](ctx, &tx.Reader, `UPDATE lane SET until_ms = {now} + $5, unclean = 0 WHERE shard = $1 AND room = $2 AND dest = $3 AND token = $4
		RETURNING room, dest, token, work, failures, failing_since_ms, due_ms`, l.Room.Shard(), l.Room, l.Dest, l.Token, lifeMS)
}

// alive says whether the destination answered one of the rows.
func alive(rows []Closing) bool {
	return slices.ContainsFunc(rows, func(c Closing) bool { return c.Outcome.Class != OutcomeDead })
}

// answers makes the inputs that outcomes ask for, and for each the seq of its row.
func answers(rows []Closing, nowMS int64) (inputs []NewInput, seqs []int64) {
	for i := range rows {
		o, out := &rows[i].Row, &rows[i].Outcome
		if out.Class == OutcomeTaken || o.AnswerTo != AnswerInput && (o.AnswerTo != AnswerLink || out.Class == OutcomeDone) {
			continue
		}
		body, _ := json.Marshal(Answer{Dest: o.Dest, Verb: o.Verb, Target: o.Target, Seq: o.Seq, Ref: o.AnswerRef, For: o.AnswerSeq,
			Class: out.Class, Status: out.Status, Body: out.Body, Reason: out.Reason})
		inputs = append(inputs, NewInput{Room: o.Room, Kind: InputAnswer, Source: fmt.Sprintf("%s#%d", o.Dest, o.Seq), Epoch: -1, Body: body, CreatedMS: nowMS})
		seqs = append(seqs, o.Seq)
	}
	return inputs, seqs
}

// Answered tells whether somebody learns that the row was refused: otherwise it becomes a dead letter.
func (o *Outbound) Answered() bool {
	return o.AnswerTo == AnswerInput || o.AnswerTo == AnswerLink && o.AnswerSeq != 0
}

func (tx *Tx) closeRow(ctx context.Context, c *Closing, nowMS int64) (bool, error) {
	o, out := &c.Row, &c.Outcome
	if out.Class == OutcomeTaken {
		return tx.takeRow(ctx, o, nowMS)
	}
	was, err := tx.deleteOutbound(ctx, o)
	if err != nil || !was {
		return was, err
	}
	if out.Class == OutcomeDead || out.Class == OutcomeRefused && !o.Answered() {
		if err := tx.addDeadLetter(ctx, o, out.Reason, nowMS); err != nil {
			return true, err
		}
	}
	if o.AnswerTo != AnswerLink || o.AnswerSeq == 0 {
		return true, nil
	}
	state := LinkSent
	if out.Class != OutcomeDone {
		state = LinkFailed
	}
	return true, tx.answerLink(ctx, o.Room, o.AnswerSeq, state, out.EventID, out.AcceptedMS)
}

// NoteAttempt counts an attempt at rows that will be sent again.
func (tx *Tx) NoteAttempt(ctx context.Context, lane Lane, seqs []int64, nowMS int64) error {
	if len(seqs) == 0 {
		return nil
	}
	_, err := tx.exec(ctx, `UPDATE outbound SET attempts = attempts + 1, tried_ms = $4 WHERE shard = $1 AND room = $2 AND dest = $3 AND seq >= $5 AND seq <= $6`,
		lane.Room.Shard(), lane.Room, lane.Dest, nowMS, seqs[0], seqs[len(seqs)-1])
	return err
}
