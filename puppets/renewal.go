package puppets

import (
	"slices"
	"time"
)

// RenewEvery is how often the keys of an own leaf are renewed by a commit of that leaf, so that what a thief
// of its keys can read ends (RFC 9420 §16.6).
const RenewEvery = 7 * 24 * time.Hour

// Leaf is an own leaf of a group and the time its keys were last renewed.
type Leaf struct {
	Index   uint32
	Renewed time.Time
}

// DueLeaf returns the leaf that is to be renewed now: the one whose keys are oldest among those that are due,
// the lowest index at equal age. One leaf a commit, and the caller makes at most one such commit a minute and room, so
// that a room with many own leaves is not flooded.
func DueLeaf(leaves []Leaf, now time.Time, every time.Duration) (Leaf, bool) {
	due := slices.DeleteFunc(slices.Clone(leaves), func(l Leaf) bool { return now.Sub(l.Renewed) < every })
	if len(due) == 0 {
		return Leaf{}, false
	}
	return slices.MinFunc(due, func(a, b Leaf) int {
		if c := a.Renewed.Compare(b.Renewed); c != 0 {
			return c
		}
		return int(a.Index) - int(b.Index)
	}), true
}

// NextRenewal is when the next of the leaves is due; the zero time when there is none.
func NextRenewal(leaves []Leaf, every time.Duration) time.Time {
	var next time.Time
	for _, l := range leaves {
		if at := l.Renewed.Add(every); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}
