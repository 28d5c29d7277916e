package mls

import (
	"fmt"
	"testing"
)

// crowd is a group of one outside member at leaf 0 and a pool with all other leaves.
type crowd struct {
	outside *Group
	pool    *Group
	welcome *Welcome
	tree    []byte
	keys    []JoinKey
}

func newCrowd(t testing.TB, n, own int) *crowd {
	t.Helper()
	r := testRand(int64(n))
	c := &crowd{outside: newTestGroup(t, r, newTestClient(t, r, testSuite, "outside"), testExtensions())}
	var adds []Proposal
	for i := 1; i < n; i++ {
		k := newTestClient(t, r, testSuite, fmt.Sprintf("mimi://bridge.example/d/user%d/bridge", i)).keyPackage(t, r)
		if i <= own {
			c.keys = append(c.keys, k)
		}
		adds = append(adds, Proposal{Type: ProposalAdd, Add: k.KeyPackage})
	}
	s, err := c.outside.StageCommit(r, testNow, CommitParams{Leaf: 0, Proposals: adds, Path: true})
	must(t, s, err)
	c.welcome, c.tree = message(t, s.Welcome()).Welcome, s.Tree()
	_, err = c.outside.Merge(testNow, s)
	must(t, 0, err)
	return c
}

func (c *crowd) join(t testing.TB) {
	t.Helper()
	g, _, err := JoinWelcome(testNow, testConfig(), JoinParams{Welcome: c.welcome, Tree: c.tree, Keys: c.keys})
	c.pool = must(t, g, err)
}

func BenchmarkJoinAll(b *testing.B) {
	for _, n := range []int{50, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := newCrowd(b, n, n-1)
			for b.Loop() {
				c.join(b)
			}
		})
	}
}

// BenchmarkReceivePathCommit processes a path commit of the outside member for all own leaves, after everybody has
// committed once.
func BenchmarkReceivePathCommit(b *testing.B) {
	for _, n := range []int{50, 500, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := newCrowd(b, n, n-1)
			c.join(b)
			c.warm(b, min(n, 500))
			r := testRand(9)
			for b.Loop() {
				b.StopTimer()
				s, err := c.outside.StageCommit(r, testNow, CommitParams{Leaf: 0})
				must(b, s, err)
				_, err = c.outside.Merge(testNow, s)
				must(b, 0, err)
				b.StartTimer()
				got, err := c.pool.StageReceived(testNow, s.Commit())
				must(b, got, err)
				_, err = c.pool.Merge(testNow, got)
				must(b, 0, err)
			}
		})
	}
}

// warm lets count own leaves, spread over the tree, commit.
func (c *crowd) warm(t testing.TB, count int) {
	t.Helper()
	r := testRand(8)
	leaves := c.pool.OwnLeaves()
	for i := range count {
		s, err := c.pool.StageCommit(r, testNow, CommitParams{Leaf: leaves[i*len(leaves)/count]})
		must(t, s, err)
		got, err := c.outside.StageReceived(testNow, s.Commit())
		must(t, got, err)
		_, err = c.outside.Merge(testNow, got)
		must(t, 0, err)
		_, err = c.pool.Merge(testNow, s)
		must(t, 0, err)
	}
}

func BenchmarkStagePathCommit(b *testing.B) {
	for _, n := range []int{50, 500, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := newCrowd(b, n, n-1)
			c.join(b)
			c.warm(b, min(n, 500))
			r := testRand(9)
			for b.Loop() {
				s, err := c.pool.StageCommit(r, testNow, CommitParams{Leaf: 1})
				must(b, s, err)
			}
		})
	}
}

func BenchmarkReceiveMessage(b *testing.B) {
	for _, n := range []int{50, 500, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := newCrowd(b, n, min(n-1, 100))
			c.join(b)
			r := testRand(9)
			for b.Loop() {
				b.StopTimer()
				p, _, err := c.outside.Protect(r, 0, []byte("hello"), nil, 0)
				must(b, p, err)
				b.StartTimer()
				m, _, err := c.pool.Unprotect(testNow, p.Message)
				must(b, m, err)
			}
		})
	}
}
