// Package nodejs runs programs of Node that tests talk to.
package nodejs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// ErrNone says that a program of Node cannot be run: there is no Node, or the packages of the program are not installed.
var ErrNone = errors.New("NOT TESTED AGAINST a program of Node")

// Process is a running program of Node, `peer.mjs`, which answers requests and tells events, one JSON object a line: a request has
// `id` and `op`, its answer the same `id` and maybe `error`, an event has `event`.
type Process struct {
	// Events are the events in their order. Whoever starts a program must read them: it stops when 100 are waiting.
	Events <-chan map[string]any

	cmd  *exec.Cmd
	in   io.WriteCloser
	mu   sync.Mutex
	next int
	wait map[int]chan map[string]any
	done chan struct{}
	quit chan struct{}
}

// Start starts dir/peer.mjs with what env adds to the environment. Its standard error is ours. The error wraps ErrNone when that
// cannot be. The caller ends it with Close.
func Start(dir string, env ...string) (*Process, error) {
	path, err := exec.LookPath("node")
	if err != nil {
		return nil, fmt.Errorf("%w in %s: there is no node", ErrNone, dir)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil {
		return nil, fmt.Errorf("%w: run npm ci in %s", ErrNone, dir)
	}
	cmd := exec.Command(path, "peer.mjs")
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), env...), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	events := make(chan map[string]any, 100)
	n := &Process{Events: events, cmd: cmd, in: in, wait: map[int]chan map[string]any{}, done: make(chan struct{}), quit: make(chan struct{})}
	go n.read(out, events)
	return n, nil
}

func (n *Process) read(out io.Reader, events chan<- map[string]any) {
	defer close(n.done)
	s := bufio.NewScanner(out)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		var m map[string]any
		if json.Unmarshal(s.Bytes(), &m) != nil {
			continue
		}
		if m["event"] != nil {
			select {
			case events <- m:
			case <-n.quit:
			}
			continue
		}
		id, _ := m["id"].(float64)
		n.mu.Lock()
		c := n.wait[int(id)]
		delete(n.wait, int(id))
		n.mu.Unlock()
		if c != nil {
			c <- m
		}
	}
}

// Ask makes a request and returns its answer; the program's error is one.
func (n *Process) Ask(ctx context.Context, op string, args map[string]any) (map[string]any, error) {
	c := make(chan map[string]any, 1)
	n.mu.Lock()
	n.next++
	id := n.next
	n.wait[id] = c
	n.mu.Unlock()
	q := map[string]any{"id": id, "op": op}
	for k, v := range args {
		q[k] = v
	}
	b, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	if _, err := n.in.Write(append(b, '\n')); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	select {
	case m := <-c:
		if m["error"] != nil {
			return nil, fmt.Errorf("%s: %v", op, m["error"])
		}
		return m, nil
	case <-n.done:
		return nil, fmt.Errorf("%s: the program has ended", op)
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", op, ctx.Err())
	}
}

// Close ends the program, which ends itself when its input does, and waits for it.
func (n *Process) Close() {
	_ = n.in.Close()
	close(n.quit)
	<-n.done
	_ = n.cmd.Wait()
}
