package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// part is something that runs as long as the bridge does.
type part struct {
	name string
	// run works until its context ends and then finishes what it has begun. It
	// returns nil, or why it could not go on.
	run func(ctx context.Context) error
}

// stopLimit is what the parts have to finish once told to stop. Together with
// the closing of the database and of the admin listener it stays below the 20 s
// after which an init system kills the process.
const stopLimit = 15 * time.Second

// runParts runs all parts until ctx ends or one of them returns, then stops the
// others. Parts are stopped in groups, the first group first: what takes work
// in stops before what does the work.
func runParts(ctx context.Context, log zerolog.Logger, groups ...[]part) error {
	type ended struct {
		group int
		name  string
		err   error
	}
	total := 0
	for _, g := range groups {
		total += len(g)
	}
	ends := make(chan ended, total)
	running := make([]map[string]bool, len(groups))
	stops := make([]context.CancelFunc, len(groups))
	for i, g := range groups {
		gctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		stops[i], running[i] = cancel, map[string]bool{}
		defer cancel()
		for _, p := range g {
			running[i][p.name] = true
			go func() { ends <- ended{i, p.name, p.run(gctx)} }()
		}
	}
	var errs []error
	note := func(e ended, stopping bool) {
		delete(running[e.group], e.name)
		switch {
		case e.err != nil && !errors.Is(e.err, context.Canceled):
			errs = append(errs, fmt.Errorf("%s: %w", e.name, e.err))
		case !stopping:
			errs = append(errs, fmt.Errorf("%s ended by itself", e.name))
		}
	}
	select {
	case <-ctx.Done():
		log.Info().Msg("stopping")
	case e := <-ends:
		note(e, false)
		log.Error().Err(errs[0]).Msg("stopping because a part failed")
	}
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	for i := range groups {
		stops[i]()
		for len(running[i]) > 0 {
			select {
			case e := <-ends:
				note(e, e.group <= i || ctx.Err() != nil)
			case <-timer.C:
				return errors.Join(append(errs, fmt.Errorf("stop: %s did not end within %v", names(running), stopLimit))...)
			}
		}
	}
	return errors.Join(errs...)
}

func names(running []map[string]bool) string {
	var out []string
	for _, g := range running {
		for name := range g {
			out = append(out, name)
		}
	}
	return strings.Join(out, ", ")
}
