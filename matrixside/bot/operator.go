package bot

import (
	"context"
	"time"

	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/internal/store"
)

// Operator is what administrators do with a running bridge by talking to its bot. cmd/bridge implements it. What changes
// something is written to the audit log with the Matrix user who did it.
type Operator interface {
	// Waiting counts what waits in the bridge, and lists at most limit lanes that fail, the longest failing first.
	Waiting(ctx context.Context, limit int) (store.Gauges, []store.LaneState, error)
	// SendNow makes the failing lanes of a destination ("matrix", "mimi:<domain>", "ap:<origin>") due at once and says how many
	// there were.
	SendNow(ctx context.Context, by, dest string) (int64, error)
	// DeadLetters lists at most limit of what could not be delivered, the newest first.
	DeadLetters(ctx context.Context, limit int) ([]store.DeadLetter, error)
	// RetryDeadLetters puts dead letters back in their lanes, DropDeadLetters deletes them. Both say how many there were.
	RetryDeadLetters(ctx context.Context, by string, list []store.DeadLetter) (int, error)
	DropDeadLetters(ctx context.Context, by string, list []store.DeadLetter) (int, error)
	// Broken lists at most limit of what arrived and was set aside because it broke the bridge, by room.
	Broken(ctx context.Context, limit int) ([]store.BrokenInput, error)
	// RetryBroken lets it be worked off again, DropBroken deletes it. Both say how many there were.
	RetryBroken(ctx context.Context, by string, list []store.BrokenInput) (int, error)
	DropBroken(ctx context.Context, by string, list []store.BrokenInput) (int, error)
	// SetBlocked says whether a provider is spoken with.
	SetBlocked(ctx context.Context, by, domain string, blocked bool) error
	// AuditLog lists at most limit of what administrators did, the newest first.
	AuditLog(ctx context.Context, limit int) ([]store.AuditEntry, error)
	// AllRooms lists at most limit rooms that are joined to MIMI, after the one given, in the order of their ids.
	AllRooms(ctx context.Context, after store.RoomID, limit int) ([]relay.RoomInfo, error)
	// Resync joins the group of the room of a Matrix room anew. relay.ErrNoRoom if there is none.
	Resync(ctx context.Context, by, matrixRoom string) error
}

// Operate makes the commands of administrators.
func Operate(o Operator) []*Handler {
	return []*Handler{queue(o), deadLetters(o), broken(o), block(o, true), block(o, false), audit(o), allRooms(o), resync(o)}
}

// since says how long something has lasted.
func since(now time.Time, ms int64) string {
	return max(now.Sub(time.UnixMilli(ms)), 0).Round(time.Second).String()
}
