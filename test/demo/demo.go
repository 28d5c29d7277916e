// Command demo plays a conversation between two real homeservers, each with a bridge, and prints what everybody saw: make demo.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/matrix-mimi/bridge/test/dialogue"
	"github.com/matrix-mimi/bridge/test/harness"
)

// options are the flags.
type options struct {
	keep   bool
	script string
	dir    string
}

func main() {
	var o options
	flag.BoolVar(&o.keep, "keep", false, "leave everything running afterwards, until Ctrl-C, and print how to log in")
	flag.StringVar(&o.script, "script", "", "play this `file` instead (see test/dialogue/README.md)")
	flag.StringVar(&o.dir, "dir", "", "keep the program, databases and logs in this `directory` instead of a temporary one that is removed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx, os.Stdout, o); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo builds the stage, plays the script, prints what both sides saw, and
// clears up. The error is nil when nothing was lost or doubled.
func demo(ctx context.Context, out io.Writer, o options) error {
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
	fmt.Fprintln(out, "== building the homeserver and the bridge")
	stop := progress(out, "still building")
	software, bridge, err := build(ctx, out, dir, len(script.Bridges) > 0)
	stop()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "== starting %d homeservers and %d bridges\n", len(script.Homeservers), len(script.Bridges))
	w, err := dialogue.NewWorld(ctx, dialogue.Plan{Homeservers: script.Homeservers, Bridges: script.Bridges}, dialogue.Options{
		Dir: dir, Software: software, Bridge: bridge, Log: func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) },
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

// build builds the homeserver, unless it is in the cache, and into dir the bridge, unless the script has none.
func build(ctx context.Context, out io.Writer, dir string, needBridge bool) (software harness.Software, bridge string, err error) {
	if software, err = harness.HomeserverSoftware(ctx, out); err != nil || !needBridge {
		return software, "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return software, "", err
	}
	bridge, err = harness.BuildBridge(ctx, dir)
	return software, bridge, err
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
