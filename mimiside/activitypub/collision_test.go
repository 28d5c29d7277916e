package activitypub

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"testing"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// network delivers what members send to all others, in any order.
type network struct {
	threads []*Thread
	ids     []string
	waiting [][][]byte // by receiver
}

func (n *network) send(from int, b []byte) {
	for to := range n.threads {
		if to != from {
			n.waiting[to] = append(n.waiting[to], b)
		}
	}
}

// deliver hands out everything; what cannot be taken yet is offered again. It returns what was said, by receiver.
func (n *network) deliver(t *testing.T, rng *mathrand.Rand) [][]string {
	t.Helper()
	said := make([][]string, len(n.threads))
	for idle := 0; idle < 200; {
		to := rng.IntN(len(n.threads))
		if len(n.waiting[to]) == 0 {
			idle++
			continue
		}
		i := rng.IntN(len(n.waiting[to]))
		b := n.waiting[to][i]
		e, err := n.threads[to].Receive(testNow, b)
		if err != nil && !errors.Is(err, ErrOld) { // of an epoch to come, or of a branch whose first commit did not come yet: it is offered again
			idle++
			continue
		}
		n.waiting[to] = append(n.waiting[to][:i:i], n.waiting[to][i+1:]...)
		idle = 0
		if err == nil && e.Said != nil {
			said[to] = append(said[to], string(e.Said.Data))
		}
	}
	return said
}

// TestManyCommitAtOnce: four members, several of whom commit in the same epoch and on top of their commits; whatever the order in which all of it comes,
// all of them end in the same epoch, and what they say then is heard by all (docs/activitypub.md).
func TestManyCommitAtOnce(t *testing.T) {
	for round := range 40 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			rng := mathrand.New(mathrand.NewPCG(uint64(round), 7))
			first := newMember(t, alice)
			n := &network{ids: []string{alice, bob, carol, "https://c.example/u/dora"}, waiting: make([][][]byte, 4)}
			var others []member
			var packages []*mls.KeyPackage
			for _, id := range n.ids[1:] {
				m := newMember(t, id)
				others, packages = append(others, m), append(packages, m.key.KeyPackage)
			}
			thread, e, err := StartThread(rand.Reader, testNow, testMLS, "mimi://b.example/r/x", alice, first.key.Private.SignatureKey, packages, true)
			if err != nil {
				t.Fatal(err)
			}
			n.threads = append(n.threads, thread)
			for _, m := range others {
				joined, _, err := JoinThread(testNow, testMLS, welcomeOf(t, e), []mls.JoinKey{m.key})
				if err != nil {
					t.Fatal(err)
				}
				n.threads = append(n.threads, joined)
			}
			for range 2 { // commits of one epoch, then commits upon commits
				for i := range n.threads {
					if rng.IntN(3) > 0 {
						c := must(n.threads[i].Commit(rand.Reader, testNow, n.ids[i], nil, nil, true))
						n.send(i, c.Commit)
					}
				}
			}
			n.deliver(t, rng)
			epoch, auth := n.threads[0].Group.Epoch(), n.threads[0].Group.EpochAuthenticator()
			for i, th := range n.threads {
				if th.Group.Epoch() != epoch || !bytes.Equal(th.Group.EpochAuthenticator(), auth) {
					t.Fatalf("%s is in epoch %d, %s in %d, or in another of that number", n.ids[i], th.Group.Epoch(), n.ids[0], epoch)
				}
			}
			for i := range n.threads {
				n.send(i, must(n.threads[i].Say(rand.Reader, n.ids[i], []byte(n.ids[i]))).Message)
			}
			for i, heard := range n.deliver(t, rng) {
				if len(heard) != len(n.threads)-1 {
					t.Errorf("%s heard %v", n.ids[i], heard)
				}
			}
		})
	}
}
