//go:build killpoint && !unix

package killpoint

import "os"

func kill() { os.Exit(137) }
