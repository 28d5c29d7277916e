package store

import (
	"context"
	"encoding/json"
	"fmt"
)

// PendingCommit is a staged commit of our own that waits for the hub's word (T6).
type PendingCommit struct {
	Room        RoomID
	BaseEpoch   int64
	Kind        string // a word of the relay's, such as commit, external, rejoin
	CommitHash  []byte // SHA-256 of the commit's bytes, to know it again when it comes back
	Transcript  []byte // confirmed transcript hash that it would lead to
	OutboundSeq int64
	Intents     []int64 // seqs of the intents that it covers
	Staged      []byte  // the whole staged state; sealed in the database
	CreatedMS   int64
}

type pendingRow struct {
	Room        RoomID `db:"room"`
	BaseEpoch   int64  `db:"base_epoch"`
	Kind        string `db:"kind"`
	CommitHash  []byte `db:"commit_hash"`
	Transcript  []byte `db:"transcript"`
	OutboundSeq int64  `db:"outbound_seq"`
	Intents     string `db:"intents"`
	Staged      []byte `db:"sealed_staged"`
	CreatedMS   int64  `db:"created_ms"`
}

const pendingColumns = `room, base_epoch, kind, commit_hash, transcript, outbound_seq, intents, sealed_staged, created_ms`

// PendingCommit returns the room's staged commit, or ErrNotFound.
func (r *Reader) PendingCommit(ctx context.Context, room RoomID) (PendingCommit, error) {
	row, err := get[pendingRow](ctx, r, `SELECT `+pendingColumns+` FROM pending_commit WHERE shard = $1 AND room = $2`, room.Shard(), room)
	if err != nil {
		return PendingCommit{}, err
	}
	staged, err := r.open(ctx, row.Staged, "pending_commit", [16]byte(room))
	if err != nil {
		return PendingCommit{}, err
	}
	p := PendingCommit{Room: row.Room, BaseEpoch: row.BaseEpoch, Kind: row.Kind, CommitHash: row.CommitHash, Transcript: row.Transcript,
		OutboundSeq: row.OutboundSeq, Staged: staged, CreatedMS: row.CreatedMS}
	if err := json.Unmarshal([]byte(row.Intents), &p.Intents); err != nil {
		return p, fmt.Errorf("reading the intents of a pending commit: %w", err)
	}
	return p, nil
}

// PutPendingCommit stores a staged commit. ErrCommitPending when the room has one. The database
// refuses at COMMIT one whose BaseEpoch is not the room's epoch.
func (tx *Tx) PutPendingCommit(ctx context.Context, p PendingCommit) error {
	box, err := tx.seal(p.Staged, "pending_commit", [16]byte(p.Room))
	if err != nil {
		return err
	}
	if p.Intents == nil {
		p.Intents = []int64{}
	}
	intents, err := json.Marshal(p.Intents)
	if err != nil {
		return err
	}
	n, err := tx.exec(ctx, `INSERT INTO pending_commit (shard, room, base_epoch, kind, commit_hash, transcript, outbound_seq, intents, sealed_staged, created_ms)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (shard, room) DO NOTHING`,
		p.Room.Shard(), p.Room, p.BaseEpoch, p.Kind, bytesOf(p.CommitHash), bytesOf(p.Transcript), p.OutboundSeq, string(intents), box, p.CreatedMS)
	if err != nil {
		return fmt.Errorf("storing a pending commit: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("room %s: %w", p.Room, ErrCommitPending)
	}
	return nil
}

// DeletePendingCommit forgets the room's staged commit with its secrets.
func (tx *Tx) DeletePendingCommit(ctx context.Context, room RoomID) error {
	_, err := tx.exec(ctx, `DELETE FROM pending_commit WHERE shard = $1 AND room = $2`, room.Shard(), room)
	return err
}

// LogEntry is one thing that the room's hub accepted.
type LogEntry struct {
	Room       RoomID `db:"room"`
	Seq        int64  `db:"seq"`
	Kind       string `db:"kind"` // LogCommit, LogMessage or LogProposal
	Group      int64  `db:"grp"`
	Epoch      int64  `db:"epoch"` // the epoch it was made in
	Hash       []byte `db:"hash"`
	Sender     string `db:"sender"`
	AcceptedMS int64  `db:"accepted_ms"`
}

// Kinds of entries. Of commits one epoch can have one only.
const (
	LogCommit   = "commit"
	LogMessage  = "message"
	LogProposal = "proposal"
)

// Log writes down what was accepted. ErrForked when it is the second commit of an epoch.
func (tx *Tx) Log(ctx context.Context, entries ...LogEntry) error {
	return chunks(tx.db, entries, 9, func(part []LogEntry) error {
		args := make([]any, 0, len(part)*9)
		for _, e := range part {
			args = append(args, e.Room.Shard(), e.Room, e.Seq, e.Kind, e.Group, e.Epoch, bytesOf(e.Hash), e.Sender, e.AcceptedMS)
		}
		_, err := tx.exec(ctx, `INSERT INTO room_log (shard, room, seq, kind, grp, epoch, hash, sender, accepted_ms) VALUES `+values(1, len(part), 9), args...)
		if unique(err) {
			return fmt.Errorf("%w (%v)", ErrForked, err)
		}
		return err
	})
}

// RoomLog returns entries after a seq in order.
func (r *Reader) RoomLog(ctx context.Context, room RoomID, after int64, limit int) ([]LogEntry, error) {
	return list[LogEntry](ctx, r, `SELECT room, seq, kind, grp, epoch, hash, sender, accepted_ms FROM room_log
		WHERE shard = $1 AND room = $2 AND seq > $3 ORDER BY seq LIMIT $4`, room.Shard(), room, after, limit)
}

// recentLog is how far back LogByHash looks.
const recentLog = 10_000

// LogByHash returns the newest entry of a kind with a hash, or ErrNotFound when the last ten thousand entries of the room hold none. There is no
// index for it, which each message would pay for: it is for what is rare.
func (r *Reader) LogByHash(ctx context.Context, room RoomID, kind string, hash []byte) (LogEntry, error) {
	return get[LogEntry](ctx, r, `SELECT room, seq, kind, grp, epoch, hash, sender, accepted_ms FROM room_log
		WHERE shard = $1 AND room = $2 AND hash = $3 AND kind = $4 AND seq >= COALESCE((SELECT l.seq FROM room_log AS l
		WHERE l.shard = $1 AND l.room = $2 ORDER BY l.seq DESC LIMIT 1 OFFSET `+number(recentLog-1)+`), 0) ORDER BY seq DESC LIMIT 1`,
		room.Shard(), room, hash, kind)
}
