// Command report runs go test and says in the end what it was: what failed with
// its output, what was skipped and why, which files of official test vectors
// were verified, and one closing line "N passed, N failed, N skipped". It exits
// with 1 when anything failed.
//
//	go run ./test/report [flags] -- <arguments of go test> [-- <more arguments of go test>]...
//
// Each group of arguments is one run of go test; "-C dir" as its first argument
// runs another module's.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func main() {
	vectors := flag.String("vectors", "", "`directory` of official test vectors; every .json and .cbor file in it must be verified")
	allow := flag.String("allow-skip", "", "`regexp`: a test that is skipped for a reason that does not match counts as failed")
	limit := flag.Duration("limit", 0, "stop everything after this `time`")
	var others []string
	flag.Func("failed", "count a step that failed before, by its `name`", func(s string) error { others = append(others, s); return nil })
	verbose := flag.Bool("v", false, "print every test")
	flag.Parse()
	groups := split(flag.Args())
	if len(groups) == 0 {
		groups = [][]string{{"./..."}}
	}
	r := newReport(os.Stdout, *verbose)
	if *allow != "" {
		r.allow = regexp.MustCompile(*allow)
	}
	r.haveVectors = *vectors != ""
	for _, name := range others {
		r.fail("failed before the tests: " + name)
	}
	ctx := context.Background()
	if *limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *limit)
		defer cancel()
	}
	for _, args := range groups {
		r.run(ctx, args)
	}
	if ctx.Err() != nil {
		r.fail(fmt.Sprintf("the tests did not end within %v", *limit))
	}
	if *vectors != "" {
		r.checkVectors(*vectors)
	}
	if !r.close() {
		os.Exit(1)
	}
}

// split cuts arguments at "--".
func split(args []string) [][]string {
	var out [][]string
	var cur []string
	for _, a := range append(args, "--") {
		if a != "--" {
			cur = append(cur, a)
			continue
		}
		if len(cur) > 0 {
			out = append(out, cur)
		}
		cur = nil
	}
	return out
}

// run starts one go test and reads its events.
func (r *report) run(ctx context.Context, args []string) {
	full := []string{"test"}
	if args[0] == "-C" && len(args) > 1 {
		full, args = append(full, args[:2]...), args[2:]
	}
	full = append(append(full, "-json"), args...)
	fmt.Fprintf(r.out, "== go %s\n", strings.Join(full, " "))
	cmd := exec.CommandContext(ctx, "go", full...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// The test binaries get the signal too, and what they started ends with them.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	cmd.Stderr = r.out
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		r.fail("go test did not start: " + err.Error())
		return
	}
	before := r.failed
	r.read(out)
	if err := cmd.Wait(); err != nil && r.failed == before {
		r.fail("go " + strings.Join(full, " ") + ": " + err.Error())
	}
}

// event is one line of go test -json (see go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
	// FailedBuild is set when a package fails because something of it does not build.
	FailedBuild string
}

func (r *report) read(in io.Reader) {
	br := bufio.NewReaderSize(in, 1<<20)
	for {
		line, err := br.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				r.event(e)
			} else {
				fmt.Fprintf(r.out, "%s", line)
			}
		}
		if err != nil {
			return
		}
	}
}
