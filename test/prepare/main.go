// Command prepare builds what the tests run besides the bridge, into the cache
// (see harness.CacheDir), so that no test's time limit pays for it: the
// homeserver.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/matrix-mimi/bridge/test/harness"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	began := time.Now()
	bins, err := harness.BuildDendrite(ctx, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		os.Exit(1)
	}
	fmt.Printf("homeserver: Dendrite %s, %s (%.0f s)\n", harness.DendriteVersion, bins.Server, time.Since(began).Seconds())
}
