package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/lib/pq"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var (
	// ErrNotFound says that there is no such row.
	ErrNotFound = errors.New("not in the database")
	// ErrConflict says that the room moved on since it was read: drop what was computed and read again.
	ErrConflict = errors.New("the room has another version")
	// ErrLeaseLost says that the lease on a lane or shard is another's now.
	ErrLeaseLost = errors.New("the lease was lost")
	// ErrUnknownCommit says that the connection broke while committing and it could not be found out
	// whether the transaction stands. Read again before doing anything.
	ErrUnknownCommit = errors.New("it is not known whether the transaction was committed")
	// ErrDuplicate says that a row with the same key is there already.
	ErrDuplicate = errors.New("already in the database")
	// ErrGenerationReused says that a position of a sending ratchet was about to be used twice (bug).
	ErrGenerationReused = errors.New("a ratchet generation was already used")
	// ErrForked says that a second commit was about to be accepted for one epoch (bug).
	ErrForked = errors.New("another commit was accepted for this epoch")
	// ErrCommitPending says that the room has a staged commit already.
	ErrCommitPending = errors.New("the room has a pending commit")
	// ErrNameTaken says that the name means another room.
	ErrNameTaken = errors.New("the name belongs to another room")
	// ErrUnsafe says that the database may lose committed transactions.
	ErrUnsafe = errors.New("the database does not sync its commits")
	// ErrInUse says that another process has the SQLite database open.
	ErrInUse = errors.New("another process uses this SQLite database")
	// ErrNewerSchema says that the database was migrated by a newer release.
	ErrNewerSchema = errors.New("the database's schema is newer than this program")
	// ErrSchema says that the database is not migrated.
	ErrSchema = errors.New("the database's schema is not up to date")
	// ErrNoCapacity says that a counted limit is used up.
	ErrNoCapacity = errors.New("limit reached")
	// ErrBusy says that the writer's place was not free in time.
	ErrBusy = errors.New("the database's writer is busy")
)

// sqlState returns the PostgreSQL error code, or "".
func sqlState(err error) string {
	var p *pq.Error
	if errors.As(err, &p) {
		return string(p.Code)
	}
	return ""
}

func sqliteCode(err error) int {
	var s *sqlite.Error
	if errors.As(err, &s) {
		return s.Code()
	}
	return 0
}

// unique says whether err is a violated primary or unique key.
func unique(err error) bool {
	if sqlState(err) == "23505" {
		return true
	}
	c := sqliteCode(err)
	return c == sqlite3.SQLITE_CONSTRAINT_UNIQUE || c == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
}

// retryCode returns a short name when the transaction was certainly not committed and may be run
// again, or "".
func retryCode(err error) string {
	if errors.Is(err, errShared) {
		return "shared"
	}
	switch s := sqlState(err); s {
	case "40001", "40P01", "55P03":
		return s
	}
	switch sqliteCode(err) & 0xff {
	case sqlite3.SQLITE_BUSY:
		return "busy"
	case sqlite3.SQLITE_LOCKED:
		return "locked"
	}
	return ""
}

// connectionLost says whether err means that the connection broke or the server is going away.
func connectionLost(err error) bool {
	if err == nil {
		return false
	}
	switch s := sqlState(err); {
	case strings.HasPrefix(s, "08"), strings.HasPrefix(s, "57P"):
		return true
	case s != "":
		return false
	}
	var n net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, sql.ErrConnDone) || errors.Is(err, net.ErrClosed) || errors.As(err, &n)
}

// Temporary says whether the same call may succeed later without anything being changed.
func Temporary(err error) bool {
	return retryCode(err) != "" || connectionLost(err) || errors.Is(err, ErrBusy) || errors.Is(err, ErrFailedOver) || errors.Is(err, ErrUnknownCommit) ||
		errors.Is(err, context.DeadlineExceeded) || strings.HasPrefix(sqlState(err), "53") || sqlState(err) == "57014" ||
		sqliteCode(err)&0xff == sqlite3.SQLITE_FULL || sqliteCode(err)&0xff == sqlite3.SQLITE_IOERR
}
