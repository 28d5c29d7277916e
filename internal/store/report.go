package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/matrix-mimi/bridge/internal/sealed"
)

// Evidence is a message of somebody else as it was encrypted, with what its hub said about it.
type Evidence struct {
	Room      RoomID `db:"room"`
	MIMIID    []byte `db:"mimi_id"`
	Data      []byte `db:"sealed_data"` // sealed in the database
	CreatedMS int64  `db:"created_ms"`
}

// PutEvidence keeps what a report about a message must show. What is there already stays.
func (tx *Tx) PutEvidence(ctx context.Context, e Evidence) error {
	box, err := tx.seal(e.Data, "evidence", [16]byte(e.Room), e.MIMIID)
	if err != nil {
		return err
	}
	_, err = tx.exec(ctx, `INSERT INTO evidence (shard, room, mimi_id, sealed_data, created_ms) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (shard, room, mimi_id) DO NOTHING`, e.Room.Shard(), e.Room, e.MIMIID, box, e.CreatedMS)
	if err != nil {
		return fmt.Errorf("keeping evidence: %w", err)
	}
	return nil
}

// Evidence returns what is kept of a message, or ErrNotFound.
func (r *Reader) Evidence(ctx context.Context, room RoomID, mimiID []byte) ([]byte, error) {
	box, err := value[[]byte](ctx, r, `SELECT sealed_data FROM evidence WHERE shard = $1 AND room = $2 AND mimi_id = $3`, room.Shard(), room, bytesOf(mimiID))
	if err != nil {
		return nil, err
	}
	return r.open(ctx, box, "evidence", [16]byte(room), bytesOf(mimiID))
}

// DropEvidence forgets what is kept of a message.
func (tx *Tx) DropEvidence(ctx context.Context, room RoomID, mimiID []byte) error {
	_, err := tx.exec(ctx, `DELETE FROM evidence WHERE shard = $1 AND room = $2 AND mimi_id = $3`, room.Shard(), room, bytesOf(mimiID))
	return err
}

// States of a report.
const (
	ReportOpen   = "open"
	ReportClosed = "closed"
)

// Report is one about a user of a room that we are the hub of.
type Report struct {
	Room      RoomID `db:"room"`
	ID        string `db:"id"`
	Peer      string `db:"peer"` // the provider that sent it
	State     string `db:"state"`
	Body      []byte `db:"sealed_body"` // as received, sealed in the database
	CreatedMS int64  `db:"created_ms"`
	// Broken says that the report's bytes cannot be opened any more: it can only be closed.
	Broken bool `db:"-"`
}

const reportColumns = `room, id, peer, state, sealed_body, created_ms`

// AddReport stores a report. ErrDuplicate when the room has one with the id.
func (tx *Tx) AddReport(ctx context.Context, p Report) error {
	box, err := tx.seal(p.Body, "report", [16]byte(p.Room), p.ID)
	if err != nil {
		return err
	}
	_, err = tx.exec(ctx, `INSERT INTO report (shard, room, id, peer, state, sealed_body, created_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		p.Room.Shard(), p.Room, p.ID, p.Peer, p.State, box, p.CreatedMS)
	if unique(err) {
		return fmt.Errorf("storing a report: %w", ErrDuplicate)
	}
	return err
}

// SetReport changes the state of a report.
func (tx *Tx) SetReport(ctx context.Context, room RoomID, id, state string) error {
	_, err := tx.exec(ctx, `UPDATE report SET state = $4 WHERE shard = $1 AND room = $2 AND id = $3`, room.Shard(), room, id, state)
	return err
}

// Report returns a report of a room, or ErrNotFound.
func (r *Reader) Report(ctx context.Context, room RoomID, id string) (Report, error) {
	rows, err := r.reports(ctx, `shard = $1 AND room = $2 AND id = $3`, room.Shard(), room, id)
	if err == nil && len(rows) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Report{}, err
	}
	return rows[0], nil
}

// OpenReports counts the open reports of a room.
func (r *Reader) OpenReports(ctx context.Context, room RoomID) (int64, error) {
	return value[int64](ctx, r, `SELECT COUNT(*) FROM report WHERE shard = $1 AND room = $2 AND state = $3`, room.Shard(), room, ReportOpen)
}

// Reports lists the reports in a state, the newest first.
func (r *Reader) Reports(ctx context.Context, state string, limit int) ([]Report, error) {
	return r.reports(ctx, `state = $1 ORDER BY created_ms DESC, id LIMIT $2`, state, limit)
}

// ReportsNamed lists the reports in a state that have an id, of whatever rooms, the newest first.
func (r *Reader) ReportsNamed(ctx context.Context, state, id string, limit int) ([]Report, error) {
	return r.reports(ctx, `state = $1 AND id = $2 ORDER BY created_ms DESC LIMIT $3`, state, id, limit)
}

func (r *Reader) reports(ctx context.Context, query string, args ...any) ([]Report, error) {
	rows, err := list[Report](ctx, r, `SELECT `+reportColumns+` FROM report WHERE `+query, args...)
	for i := range rows {
		x := &rows[i]
		if x.Body, err = r.open(ctx, x.Body, "report", [16]byte(x.Room), x.ID); errors.Is(err, sealed.ErrBroken) {
			x.Body, x.Broken, err = nil, true, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return rows, err
}
