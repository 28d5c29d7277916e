package relay

import (
	"fmt"
	"testing"
	"time"
)

// crowd lets more Matrix users join at A and B.
func (p *pair) crowd(n int) {
	p.t.Helper()
	for i := range n {
		u := p.a.hs.mxid(fmt.Sprintf("a%d", i))
		p.a.hs.invite(p.room, p.alice, u)
		p.a.hs.join(p.room, u)
	}
	p.settle()
	if got, want := len(p.a.view(p.room).group.OwnLeaves()), n+2; got != want {
		p.t.Fatalf("A has %d own leaves, want %d", got, want)
	}
}

// BenchmarkMessage measures what a message costs the hub and the follower together, from the Matrix event to the other
// side's Matrix request, with 2 to 500 own leaves in the room: it must not grow.
func BenchmarkMessage(b *testing.B) {
	for _, n := range []int{0, 50, 500} {
		b.Run(fmt.Sprintf("ghosts=%d", n+2), func(b *testing.B) {
			p := newPair(b, warm)
			p.t = b
			p.begin()
			p.crowd(n)
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				p.a.hs.say(p.room, p.alice, fmt.Sprint("message ", i))
				p.now = p.now.Add(time.Millisecond)
				p.settle()
			}
		})
	}
}
