// Command bridge runs the Matrix–MIMI bridge beside a homeserver, and does what
// its operator needs around that: registration, settings, keys, migration, a
// demonstration. One file is one subcommand; app.go puts the parts of a running
// bridge together and parts.go starts and stops them.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := newRoot().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "bridge:", err)
		os.Exit(1)
	}
}
