package main

import (
	"crypto/rand"
	"runtime"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/thomas-vilte/mls-go/keypackages"
)

// measureMaking measures what one member makes in a group of n+1. Both sides take turns, round by round, since they are
// close to each other and the machine's speed changes within seconds; they is nil to measure ours alone.
func measureMaking(n int, us, they *figures) {
	ours := newOurs(n)
	var theirs *theirs
	if they != nil {
		theirs = newTheirs(n)
	}
	turns := func(rounds int, get func(*figures) *time.Duration, our, their func() time.Duration) {
		var a, b []time.Duration
		for start := time.Now(); len(a) < 5 || len(a) < rounds && time.Since(start) < 5*time.Second; {
			runtime.GC()
			a = append(a, our())
			if they != nil {
				runtime.GC()
				b = append(b, their())
			}
		}
		*get(us) = middle(a)
		if they != nil {
			*get(they) = middle(b)
		}
	}
	turns(51, func(f *figures) *time.Duration { return &f.makeAdds },
		func() time.Duration { ours.create(); return timed(ours.add) },
		func() time.Duration { theirs.create(); return timed(theirs.add) })
	turns(51, func(f *figures) *time.Duration { return &f.checkAdds },
		func() time.Duration { ours.create(); return timed(func() { ours.checkAll(); ours.add() }) },
		func() time.Duration { theirs.create(); return timed(theirs.add) })
	turns(101, func(f *figures) *time.Duration { return &f.makePath },
		func() time.Duration { return timed(func() { ours.commit() }) },
		func() time.Duration { return timed(func() { theirs.outside.commit(nil) }) })
	turns(101, func(f *figures) *time.Duration { return &f.sendMessage },
		func() time.Duration { return timed(ours.send) / sends },
		func() time.Duration { return timed(theirs.send) / sends })
	next := n
	turns(51, func(f *figures) *time.Duration { return &f.makeAddOne },
		func() time.Duration {
			next++
			extra := joinKey(next)
			return timed(func() { ours.addOne(extra) })
		},
		func() time.Duration {
			extra := newClient(next)
			return timed(func() { theirs.addOne(extra) })
		})
}

// sends is how many messages are made in one measurement: one alone is about what the clock can tell apart.
const sends = 20

func (o *ours) send() {
	for range sends {
		_, _, err := o.outside.Protect(rand.Reader, 0, []byte("hello everybody"), nil, 0)
		check(err)
	}
}

func (t *theirs) send() {
	for range sends {
		t.outside.send()
	}
}

// addOne makes a commit with a path that adds one more client, and its Welcome.
func (o *ours) addOne(extra mls.JoinKey) {
	s := must(o.outside.StageCommit(rand.Reader, now, mls.CommitParams{Path: true,
		Proposals: []mls.Proposal{{Type: mls.ProposalAdd, Add: extra.KeyPackage}}}))
	must(o.outside.Merge(now, s))
	must(mls.UnmarshalMLSMessage(s.Welcome()))
}

func (t *theirs) addOne(extra *client) {
	t.outside.commit([]*keypackages.KeyPackage{extra.kp})
}
