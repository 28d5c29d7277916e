package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func newRun(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "Run the bridge until SIGTERM; SIGHUP reads certificates again", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), o) },
	}
}

// run starts the bridge and returns when it was told to stop and has stopped,
// or when a part of it failed. The first SIGTERM or SIGINT stops it in order, a
// second one at once.
func run(ctx context.Context, o *options) error {
	cfg, err := o.load()
	if err != nil {
		return err
	}
	if err := forbidDumps(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // gives the second signal its ordinary meaning
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	a, err := newApp(ctx, cfg, os.Stderr)
	if err != nil {
		return err
	}
	return a.run(ctx, hup)
}
