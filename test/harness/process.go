package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Process is a child process with its output in a file. It does not outlive
// the process that started it, however that one ends (see guard).
type Process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}

	guard     io.WriteCloser
	guardDone chan struct{}

	mu  sync.Mutex
	err error
}

// Command says what StartProcess runs.
type Command struct {
	Name string   // for messages
	Path string   // the binary
	Args []string // without the binary's name
	Dir  string   // working directory
	Env  []string // whole environment; nil means the caller's
	Log  string   // file that gets stdout and stderr, appended to
	Temp []string // removed when this process dies without having stopped the child
}

// StartProcess starts a child. The caller ends it with Stop or Kill.
func StartProcess(c Command) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(c.Log), 0o755); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	out, err := os.OpenFile(c.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	defer out.Close()
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Dir, cmd.Env = c.Dir, c.Env
	cmd.Stdout, cmd.Stderr = out, out
	// A group of its own: a Ctrl-C at the terminal reaches the parent, which
	// then stops its children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	p := &Process{name: c.Name, cmd: cmd, log: c.Log, done: make(chan struct{})}
	if err := p.startGuard(c.Temp); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		// At once: the id of a child that ended may soon be another process's.
		p.releaseGuard()
		close(p.done)
	}()
	return p, nil
}

// startGuard starts a shell that waits on a pipe from us. When we die without
// a word, even by SIGKILL or a test's deadline, the pipe closes and the guard
// kills the child by its id and removes its temporary files, once its own
// children have noticed.
func (p *Process) startGuard(temp []string) error {
	const script = `read word; [ "$word" = done ] || { kill -9 "$0"; [ $# = 0 ] || { sleep 2; rm -rf "$@"; }; }`
	g := exec.Command("/bin/sh", append([]string{"-c", script, strconv.Itoa(p.PID())}, temp...)...)
	g.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := g.StdinPipe()
	if err != nil {
		return fmt.Errorf("guard %s: %w", p.name, err)
	}
	if err := g.Start(); err != nil {
		return fmt.Errorf("guard %s: %w", p.name, err)
	}
	p.guard, p.guardDone = in, make(chan struct{})
	go func() {
		_ = g.Wait()
		close(p.guardDone)
	}()
	return nil
}

// PID returns the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running says whether the child has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Err returns how the child ended (nil for exit code 0). Only meaningful after
// Done.
func (p *Process) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Signal sends a signal to the child.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Kill ends the child with SIGKILL, as a crash would, and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop asks the child to end with SIGTERM and waits at most limit; after that
// it is killed and an error returned. A child that ended by itself before is no
// error.
func (p *Process) Stop(limit time.Duration) error {
	if p.Running() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		p.Kill()
		return fmt.Errorf("stop %s: did not end within %v of SIGTERM, killed; its log ends:\n%s", p.name, limit, p.LogTail(2000))
	}
}

func (p *Process) releaseGuard() {
	_, _ = io.WriteString(p.guard, "done\n")
	_ = p.guard.Close()
	<-p.guardDone
}

// LogTail returns at most the last n bytes of the child's output.
func (p *Process) LogTail(n int) string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	return string(tail(data, n))
}

// Await calls try until it returns nil, the child ends, or ctx ends. The first
// calls follow each other quickly because a server that starts is usually
// there within a few hundred milliseconds.
func (p *Process) Await(ctx context.Context, what string, try func(context.Context) error) error {
	pause := 10 * time.Millisecond
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-p.done:
			timer.Stop()
			return fmt.Errorf("wait for %s: %s ended (%v); its log ends:\n%s", what, p.name, p.Err(), p.LogTail(4000))
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("wait for %s: %w; its log ends:\n%s", what, errors.Join(ctx.Err(), err), p.LogTail(4000))
		case <-timer.C:
		}
		if pause < 200*time.Millisecond {
			pause += pause / 2
		}
	}
}

// GetOK makes one GET and returns nil when the answer is 200.
func GetOK(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}
