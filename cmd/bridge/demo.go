package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/matrix-mimi/bridge/test/dialogue"
	"github.com/matrix-mimi/bridge/test/harness"
)

// demoOptions are the flags of the demonstration.
type demoOptions struct {
	keep   bool
	script string
	dir    string
}

func newDemo() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Play a conversation between two real homeservers, each with a bridge; needs a checkout and Go",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return demo(ctx, cmd.OutOrStdout(), o)
		},
	}
	cmd.Flags().BoolVar(&o.keep, "keep", false, "leave everything running afterwards, until Ctrl-C, and print how to log in")
	cmd.Flags().StringVar(&o.script, "script", "", "play this `file` instead (see test/dialogue/README.md)")
	cmd.Flags().StringVar(&o.dir, "dir", "", "keep databases and logs in this `directory` instead of a temporary one that is removed")
	return cmd
}

// demo builds the stage, plays the script, prints what both sides saw, and
// clears up. The error is nil when nothing was lost or doubled.
func demo(ctx context.Context, out io.Writer, o demoOptions) error {
	name, text := "demo.txt", dialogue.DemoScript
	if o.script != "" {
		data, err := os.ReadFile(o.script)
		if err != nil {
			return fmt.Errorf("read the script: %w", err)
		}
		name, text = o.script, string(data)
	}
	script, err := dialogue.Parse(name, strings.NewReader(text))
	if err != nil {
		return err
	}
	dir := o.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "mimi-demo-*"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	fmt.Fprintln(out, "== building the homeserver")
	stop := progress(out, "still building")
	software, err := harness.HomeserverSoftware(ctx, out)
	stop()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "== starting %d homeservers and %d bridges\n", len(script.Homeservers), len(script.Bridges))
	w, err := dialogue.NewWorld(ctx, dialogue.Plan{Homeservers: script.Homeservers, Bridges: script.Bridges}, dialogue.Options{
		Dir: dir, Software: software, Bridge: self, Log: func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) },
	})
	if err != nil {
		return err
	}
	err = playDemo(ctx, out, w, script)
	if o.keep {
		keepDemo(ctx, out, w, dir)
	}
	return errors.Join(err, w.Close())
}

func playDemo(ctx context.Context, out io.Writer, w *dialogue.World, script *dialogue.Script) error {
	fmt.Fprintf(out, "== %s\n", script.Title)
	result, err := dialogue.Run(ctx, w, script, dialogue.Play{Wait: time.Minute, Tell: func(t dialogue.Told) {
		delay := ""
		if t.Delay > 0 {
			delay = fmt.Sprintf("   (%d ms after it was sent)", t.Delay.Milliseconds())
		}
		fmt.Fprintf(out, "%8.3f s  %s: %s%s\n", t.Since.Seconds(), t.Step.Actor, t.Step.Text, delay)
	}})
	fmt.Fprintln(out, "\n== what everybody saw")
	w.Transcript(out)
	if err != nil {
		return fmt.Errorf("demo failed: %w", err)
	}
	if result.Lost > 0 {
		return fmt.Errorf("demo failed: %d messages, %d lost, %d doubled", result.Messages, result.Lost, result.Doubled)
	}
	fmt.Fprintf(out, "\ndemo ok: %d messages, %d lost, %d doubled\n", result.Messages, result.Lost, result.Doubled)
	return nil
}

// keepDemo prints how to log in and waits for Ctrl-C.
func keepDemo(ctx context.Context, out io.Writer, w *dialogue.World, dir string) {
	fmt.Fprintf(out, "\n== it goes on running; files are in %s; Ctrl-C ends it\n", dir)
	for _, l := range w.People() {
		fmt.Fprintf(out, "%-28s homeserver %s  user %s  password %s\n", l.User, l.Homeserver, l.Localpart, harness.Password(l.Localpart))
	}
	<-ctx.Done()
}

// progress prints a line each 15 s until it is stopped.
func progress(out io.Writer, what string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	began := time.Now()
	go func() {
		defer close(ended)
		tick := time.NewTicker(15 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				fmt.Fprintf(out, "%s (%.0f s)\n", what, time.Since(began).Seconds())
			}
		}
	}()
	return func() { close(done); <-ended }
}
