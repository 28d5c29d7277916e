package hub

import (
	"slices"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/room"
)

// The accepted time rises strictly, also when the clock stands or goes back.
func TestAcceptRises(t *testing.T) {
	r := &Room{}
	now := time.UnixMilli(1_000_000)
	for _, c := range []struct {
		now  time.Time
		want uint64
	}{{now, 1_000_000}, {now, 1_000_001}, {now.Add(-time.Hour), 1_000_002}, {now.Add(time.Second), 1_001_000}, {time.Unix(-5, 0), 1_001_001}} {
		got := r.Accept(c.now)
		if got != c.want {
			t.Errorf("accepted at %v: %d, want %d", c.now, got, c.want)
		}
		r.LastAccepted = got
	}
}

// S003-010: a server takes part in a room if it has at least one participant with a client.
func TestProviders(t *testing.T) {
	member := func(i mls.LeafIndex, who string) mls.Member {
		return mls.Member{Index: i, Leaf: &mls.LeafNode{Credential: mls.BasicCredential([]byte(who))}}
	}
	leaves := room.LeavesOf([]mls.Member{member(0, "mimi://hub.example/d/a/x"), member(1, "mimi://c.example/d/c/x"), member(2, "mimi://B.example/d/b/x"),
		member(3, "mimi://c.example/d/d/x")})
	list := policy.ParticipantList{{User: "mimi://hub.example/u/a", Role: 10}, {User: "mimi://B.example/u/b", Role: 10}, {User: "mimi://c.example/u/c", Role: 10},
		{User: "mimi://c.example/u/d", Role: 10}, {User: "mimi://idle.example/u/i", Role: 10}}
	if got := Providers(list, leaves, "hub.example"); !slices.Equal(got, []string{"b.example", "c.example"}) {
		t.Errorf("providers: %q", got)
	}
}
