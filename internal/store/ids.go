package store

import (
	"crypto/sha256"
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"time"
)

// Shards is the number of virtual shards (docs/decisions/0006-scale-by-room.md). It never changes.
const Shards = 1024

// Never is a time in milliseconds that does not come.
const Never int64 = math.MaxInt64 / 2

// RoomID names a room in this database: a random UUID, or one derived from a name.
type RoomID [16]byte

// Shard is the virtual shard of a room, 0 … 1023.
type Shard int16

// NewRoomID makes a UUIDv7 (RFC 9562 §5.7).
func NewRoomID(now time.Time, rand io.Reader) (RoomID, error) {
	var id RoomID
	if _, err := io.ReadFull(rand, id[6:]); err != nil {
		return id, fmt.Errorf("making a room id: %w", err)
	}
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id, nil
}

// DerivedRoomID makes the UUIDv8 (RFC 9562 §5.8) that belongs to a name of a kind. It is for the
// rows of things that are not rooms and still need one writer, such as a user.
func DerivedRoomID(kind, name string) RoomID {
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s%s", len(kind), kind, name)
	id := RoomID(h.Sum(nil)[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// ParseRoomID reads what String wrote.
func ParseRoomID(s string) (RoomID, error) {
	var id RoomID
	if len(s) != 32 {
		return id, fmt.Errorf("%q is not a room id of 32 hexadecimal digits", s)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("%q is not a room id: %w", s, err)
	}
	return id, nil
}

// String returns 32 hexadecimal digits.
func (r RoomID) String() string { return hex.EncodeToString(r[:]) }

// IsZero says whether the id was never set.
func (r RoomID) IsZero() bool { return r == RoomID{} }

// Shard returns FNV-1a 32 of the id, modulo 1024. Rows are found by it: it must never change.
func (r RoomID) Shard() Shard {
	h := fnv.New32a()
	_, _ = h.Write(r[:])
	return Shard(h.Sum32() % Shards)
}

// Value gives the 16 bytes to the database.
func (r RoomID) Value() (driver.Value, error) { return r[:], nil }

// Scan reads 16 bytes from the database.
func (r *RoomID) Scan(src any) error {
	b, ok := src.([]byte)
	if !ok || len(b) != len(r) {
		return fmt.Errorf("a room id in the database is a %T", src)
	}
	copy(r[:], b)
	return nil
}

// Millis returns a time as the database keeps it; the zero time is 0.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Time is the inverse of Millis.
func Time(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
