package main

import (
	"crypto/rand"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

const ownLeaves = 1000

// measureGrowth prints what a group with n leaves costs, 1,000 of them own and spread over the tree. The tree is as
// filled as that of a group in use as seen from the member outside, who commits: there is a key at every node beside
// its path.
func measureGrowth(n int) {
	line := func(what string, format string, value ...any) {
		fmt.Printf("%s leaves=%d own=%d ours=%s\n", what, n, ownCount(n), fmt.Sprintf(format, value...))
	}
	o := newOurs(n - 1)
	line("making the commit and Welcome that add all", "%s", short(timed(o.add)))
	before := heap()
	line("joining own by Welcome", "%s", short(timed(func() { o.pool = o.join(o.some(n)) })))
	line("heap of the pool in bytes", "%d", heap()-before)
	receive(o.pool, o.commit())
	for k := bits.Len(uint(n-1)) - 1; k >= 0; k-- {
		s := must(o.pool.StageCommit(rand.Reader, now, mls.CommitParams{Leaf: mls.LeafIndex(1 << k)}))
		receive(o.outside, s.Commit())
		must(o.pool.Merge(now, s))
	}
	var bytes int64
	var commit []byte
	var made []time.Duration
	d := median(30, 300, func() time.Duration {
		made = append(made, timed(func() { commit = o.commit() }))
		return timed(func() { bytes = stored(receive(o.pool, commit)) })
	})
	line("path commit processed by own", "%s", short(d))
	line("making a path commit", "%s", short(middle(made)))
	line("bytes of a path commit", "%d", len(commit))
	line("bytes to store per path commit", "%d", bytes)
	o.messages(line)
	var pieces []mls.Piece
	line("storing all", "%s", short(timed(func() { pieces = o.pool.Export() })))
	bytes = stored(mls.Changes{Put: pieces})
	line("bytes of all stored", "%d", bytes)
	line("loading all", "%s", short(median(1, 5, func() time.Duration { return timed(func() { must(mls.LoadGroup(config, pieces)) }) })))
}

func (o *ours) messages(line func(string, string, ...any)) {
	var bytes int64
	first := func(round func() int64) time.Duration { return timed(func() { bytes = round() }) }
	var message []byte
	send := func() int64 {
		p, c, err := o.outside.Protect(rand.Reader, 0, []byte("hello everybody"), nil, 0)
		check(err)
		message = p.Message
		return stored(c)
	}
	read := func() int64 {
		_, c, err := o.pool.Unprotect(now, message)
		check(err)
		return stored(c)
	}
	sent := first(send)
	d := first(read)
	line("first message of a sender in an epoch received", "%s", short(d))
	line("bytes to store for it", "%d", bytes)
	line("first message in an epoch sent", "%s", short(sent))
	d = median(100, 3000, func() time.Duration {
		send()
		return first(read)
	})
	line("message received by own", "%s", short(d))
	line("bytes to store per message received", "%d", bytes)
	line("message sent", "%s", short(median(100, 3000, func() time.Duration { return first(send) })))
	line("bytes to store per message sent", "%d", bytes)
}

func ownCount(n int) int { return min(n-1, ownLeaves) }

// some returns the keys of the own leaves of the growth table: those at powers of two, which warm the tree, and the
// rest evenly over the tree. The key of leaf i is keys[i-1].
func (o *ours) some(n int) []mls.JoinKey {
	want := ownCount(n)
	chosen := map[int]bool{}
	for i := 1; i < n; i *= 2 {
		chosen[i] = true
	}
	for i := range want {
		if len(chosen) == want {
			break
		}
		chosen[1+i*(n-1)/want] = true
	}
	for i := 1; len(chosen) < want; i++ {
		chosen[i] = true
	}
	var leaves []int
	for i := range chosen {
		leaves = append(leaves, i)
	}
	slices.Sort(leaves)
	var keys []mls.JoinKey
	for _, i := range leaves {
		keys = append(keys, o.keys[i-1])
	}
	return keys
}
