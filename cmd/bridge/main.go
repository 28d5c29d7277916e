// Command bridge runs the Matrix–MIMI bridge beside a homeserver, and does what
// its operator needs around that: registration, settings, keys, migration, a
// demonstration. One file is one subcommand; app.go puts the parts of a running
// bridge together and parts.go starts and stops them.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
)

// gcPercent is GOGC where it is not set. Most of what a message needs goes at once, and what stays, the groups of large rooms, is walked
// through half as often as by default: with 500 ghosts in a room that saves a twentieth of the time a message.
const gcPercent = 200

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := newRoot().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "bridge:", err)
		os.Exit(1)
	}
}
