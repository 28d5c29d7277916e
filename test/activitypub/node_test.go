package activitypub

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/test/harness/nodejs"
)

// node is a peer that is a program of Node.
type node struct {
	*nodejs.Process
	t *testing.T
}

// startNode starts <dir>/peer.mjs. Its environment says where it stands (place.mjs); without it is on loopback over http. Where there is
// no Node or a peer's packages are not installed the test is skipped and says so.
func startNode(t *testing.T, dir string, env ...string) *node {
	t.Helper()
	n, err := nodejs.Start(dir, env...)
	if errors.Is(err, nodejs.ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return &node{Process: n, t: t}
}

const nodeTimeout = 60 * time.Second

// ask makes a request and returns its answer.
func (n *node) ask(op string, args map[string]any) map[string]any {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), nodeTimeout)
	defer cancel()
	m, err := n.Ask(ctx, op, args)
	if err != nil {
		n.t.Fatal(err)
	}
	return m
}

// event waits for an event of a kind; a fault of the peer fails the test.
func (n *node) event(kind string) map[string]any {
	n.t.Helper()
	for {
		select {
		case m := <-n.Events:
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
