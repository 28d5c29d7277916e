package activitypub

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// node is a program of Node with one JSON object a line.
type node struct {
	t      *testing.T
	in     io.WriteCloser
	mu     sync.Mutex
	next   int
	wait   map[int]chan map[string]any
	events chan map[string]any
}

// nodePath finds Node. Where there is none or a peer's packages are not installed the test is skipped and says so.
func nodePath(t *testing.T, dir string) string {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		t.Skip("NOT TESTED AGAINST ", dir, ": there is no node")
	}
	if _, err := os.Stat(dir + "/node_modules"); err != nil {
		t.Skip("NOT TESTED AGAINST ", dir, ": run npm ci in test/activitypub/", dir)
	}
	return path
}

// startNode starts <dir>/peer.mjs. Its environment says where it stands (place.mjs); without it is on loopback over http.
func startNode(t *testing.T, dir string, env ...string) *node {
	t.Helper()
	cmd := exec.Command(nodePath(t, dir), "peer.mjs")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, in: in, wait: map[int]chan map[string]any{}, events: make(chan map[string]any, 100)}
	done := make(chan struct{})
	go func() { defer close(done); n.read(out) }()
	t.Cleanup(func() {
		in.Close()
		<-done
		_ = cmd.Wait()
	})
	return n
}

func (n *node) read(out io.Reader) {
	s := bufio.NewScanner(out)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		var m map[string]any
		if json.Unmarshal(s.Bytes(), &m) != nil {
			continue
		}
		if m["event"] != nil {
			n.events <- m
			continue
		}
		id, _ := m["id"].(float64)
		n.mu.Lock()
		c := n.wait[int(id)]
		n.mu.Unlock()
		if c != nil {
			c <- m
		}
	}
}

const nodeTimeout = 60 * time.Second

// ask makes a request and returns its answer.
func (n *node) ask(op string, args map[string]any) map[string]any {
	n.t.Helper()
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
	b, _ := json.Marshal(q)
	if _, err := n.in.Write(append(b, '\n')); err != nil {
		n.t.Fatal(err)
	}
	select {
	case m := <-c:
		if m["error"] != nil {
			n.t.Fatalf("%s: %v", op, m["error"])
		}
		return m
	case <-time.After(nodeTimeout):
		n.t.Fatalf("%s: no answer", op)
	}
	return nil
}

// event waits for an event of a kind; a fault of the peer fails the test.
func (n *node) event(kind string) map[string]any {
	n.t.Helper()
	for {
		select {
		case m := <-n.events:
			if m["event"] == "fault" {
				n.t.Fatalf("the peer: %v", m["error"])
			}
			if m["event"] == kind {
				return m
			}
			n.t.Logf("the peer: %v", m)
		case <-time.After(nodeTimeout):
			n.t.Fatalf("no %s came", kind)
		}
	}
}
