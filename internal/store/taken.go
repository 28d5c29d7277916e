package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
)

// takeRow notes that the other side has a row and tells its outcome later.
func (tx *Tx) takeRow(ctx context.Context, o *Outbound, nowMS int64) (bool, error) {
	hash := sha256.Sum256(o.Data)
	n, err := tx.exec(ctx, `UPDATE outbound SET taken_ms = $5, taken_hash = $6 WHERE shard = $1 AND room = $2 AND dest = $3 AND seq = $4 AND taken_ms = 0`,
		o.Room.Shard(), o.Room, o.Dest, o.Seq, nowMS, hash[:])
	return n > 0, err
}

// CloseTaken ends a row that the other side took (OutcomeTaken) with its outcome, as CloseOutbound does. hash is the SHA-256 of
// the row's bytes. It reports whether there was such a row, and whether the room got an input.
func (tx *Tx) CloseTaken(ctx context.Context, lane Lane, hash []byte, out Outcome, nowMS int64) (was, woken bool, err error) {
	// Rooms before lanes: the room is locked before the row.
	if _, err := tx.arrive(ctx, lane.Room, 0, Never); err != nil {
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
		return false, false, err
	}
	row, err := tx.findTaken(ctx, lane, hash)
	if errors.Is(err, ErrNotFound) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("looking for a row that was taken: %w", err)
	}
	closing := []Closing{{Row: row, Outcome: out}}
	if was, err = tx.closeRow(ctx, &closing[0], nowMS); err != nil || !was {
		return was, false, err
	}
	inputs, _ := answers(closing, nowMS)
	if len(inputs) == 0 {
		return true, false, nil
	}
	_, err = tx.AddInputs(ctx, inputs)
	return true, err == nil, err
}

// findTaken finds a row by the SHA-256 of its bytes. The outcome may be told before the answer that the row was taken is written
// down: then the row stands at the head of its lane.
func (tx *Tx) findTaken(ctx context.Context, lane Lane, hash []byte) (Outbound, error) {
	taken := func() (Outbound, error) {
		return get[Outbound](ctx, &tx.Reader, `SELECT `+outboundColumns+` FROM outbound WHERE shard = $1 AND room = $2 AND dest = $3 AND taken_ms > 0 AND taken_hash = $4 ORDER BY seq LIMIT 1`,
			lane.Room.Shard(), lane.Room, lane.Dest, hash)
	}
	row, err := taken()
	if !errors.Is(err, ErrNotFound) {
		return row, err
	}
	if tx.head == nil || tx.head.lane != lane { // once for all outcomes of a lane: a peer may tell hundreds of what is not there
		head, err := tx.LaneRows(ctx, lane, takenRows, takenBytes)
		if err != nil {
			return row, err
		}
		tx.head = &hashedHead{lane, map[string]Outbound{}}
		for _, o := range head.Rows {
			sum := sha256.Sum256(o.Data)
			tx.head.rows[string(sum[:])] = o
		}
	}
	if o, ok := tx.head.rows[string(hash)]; ok {
		return o, nil
	}
	return taken() // it was written down between the two looks
}

// hashedHead is the head of a lane by the hashes of its rows. The lane's room is locked, so that only what was there can go.
type hashedHead struct {
	lane Lane
	rows map[string]Outbound
}

// How much of a lane's head is looked through for an outcome that came early.
const (
	takenRows  = 128
	takenBytes = 4 << 20
)

// AskAgain puts rows whose outcome was not told since a time back into their lanes, each to be sent alone. It returns the lanes to
// wake after the commit.
func (tx *Tx) AskAgain(ctx context.Context, beforeMS int64, limit int) ([]Lane, error) {
	type row struct {
		Room RoomID `db:"room"`
		Dest string `db:"dest"`
		Seq  int64  `db:"seq"`
	}
	rows, err := list[row](ctx, &tx.Reader, `SELECT room, dest, seq FROM outbound WHERE taken_ms > 0 AND taken_ms < $1 ORDER BY taken_ms LIMIT `+number(limit), beforeMS)
	if err != nil {
		return nil, fmt.Errorf("looking for rows whose outcome was not told: %w", err)
	}
	outs := make([]Outbound, len(rows))
	for i, r := range rows {
		outs[i] = Outbound{Room: r.Room, Dest: r.Dest}
	}
	lanes := lanesOf(outs)
	for _, l := range lanes {
		if err := tx.moreWork(ctx, l); err != nil {
			return nil, err
		}
	}
	for _, r := range rows {
		if _, err := tx.exec(ctx, `UPDATE outbound SET taken_ms = 0, taken_hash = '', batch = seq WHERE shard = $1 AND room = $2 AND dest = $3 AND seq = $4`,
			r.Room.Shard(), r.Room, r.Dest, r.Seq); err != nil {
			return nil, err
		}
	}
	return lanes, nil
}
