package follower

import (
	"bytes"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Place says where an item of the fan-out stands in the order of epochs.
type Place int

// The places.
const (
	// Now is an item of the epoch that the group is in.
	Now Place = iota
	// Later is one of an epoch that the group has not reached: it waits.
	Later
	// Past is one of an epoch that is over. Messages may still be read for a while, anything else is late or a repetition.
	Past
	// Foreign is one of another group.
	Foreign
)

// PlaceOf says where a message with a group id and an epoch stands. A Welcome has neither and is not for this
// function.
func PlaceOf(m wire.Message, groupID []byte, epoch uint64) Place {
	switch {
	case !bytes.Equal(m.GroupID(), groupID):
		return Foreign
	case m.Epoch() > epoch:
		return Later
	case m.Epoch() < epoch:
		return Past
	}
	return Now
}

// Bounds limits what waits for a later epoch (docs/flow.md, T11).
type Bounds struct {
	Ahead uint64        // epochs that an item may be ahead
	Rows  int           // items that wait in a room
	Bytes int64         // and their size
	Age   time.Duration // how long one waits before the group is joined anew
}

// DefaultBounds are the defaults of limits.waiting_* in the settings.
var DefaultBounds = Bounds{Ahead: 2, Rows: 1000, Bytes: 16 << 20, Age: time.Minute}

// Verdict says what to do about an item that cannot be applied now.
type Verdict int

// The verdicts.
const (
	// Wait keeps the item until its epoch comes.
	Wait Verdict = iota
	// Resync says that what is missing will not come: ask the hub for the group's state and join anew.
	Resync
)

// Admit judges an item of a later epoch, when rows items of size bytes wait already.
func (b Bounds) Admit(epoch, itemEpoch uint64, rows int, size int64) Verdict {
	if itemEpoch-epoch > b.Ahead || rows >= b.Rows || size >= b.Bytes {
		return Resync
	}
	return Wait
}

// Expired judges an item that has waited since a time.
func (b Bounds) Expired(since, now time.Time) bool { return now.Sub(since) >= b.Age }
