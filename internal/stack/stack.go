// Package stack spares goroutines that live for one request the growing of their stack.
package stack

// depth is more than SQLite in Go needs below a handler (about 30 KB).
const depth = 40 << 10

// Deepen makes the stack of the goroutine large enough for a transaction while little lies on it. A new goroutine has a few KB, and
// each doubling on the way down copies and adjusts every frame that is there by then.
func Deepen() { use(0) }

//go:noinline
func use(i int) byte {
	var room [depth]byte
	return room[i]
}
