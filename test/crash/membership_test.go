package crash

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/test/fakes"
)

// Changes of membership have no transaction id. Somebody who left, and was invited again before the bridge heard that the
// leaving was carried out, does not leave a second time: neither when the answer was lost nor when the process was killed.
func TestLeavingIsNotRepeatedAfterANewInvitation(t *testing.T) {
	th := newTheatre(t, buildBridge(t), nil)
	for name, fault := range map[string]fakes.Fault{"answer lost": fakes.LostAnswer, "killed": fakes.NoAnswer} {
		t.Run(name, func(t *testing.T) {
			th.n++
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			r := &round{ctx: ctx, n: th.n, a: th.stage.Bridges[hub], b: th.stage.Bridges[follower], made: th.made}
			r.names()
			must := func(err error) {
				if t.Helper(); err != nil {
					t.Fatal(err)
				}
			}
			must(r.invite())
			must(r.talk(1))
			left := false
			r.a.Homeserver.SetFault(func(q *http.Request) fakes.Fault {
				switch {
				case left:
					return fakes.Unavailable
				case strings.HasSuffix(q.URL.Path, "/leave"):
					left = true
					return fault
				}
				return fakes.Fine
			})
			must(r.b.Homeserver.Act(r.portal, "leave", r.bob, r.bob))
			must(r.member(r.a, r.room, r.bobAtA, "leave"))
			if fault == fakes.NoAnswer {
				r.a.Process().Kill()
			}
			must(r.a.Homeserver.Act(r.room, "invite", r.alice, r.bobAtA))
			r.a.Homeserver.SetFault(nil)
			if fault == fakes.NoAnswer {
				must(r.a.Start(ctx))
			}
			must(r.member(r.b, r.portal, r.bob, "invite"))
			must(r.b.Homeserver.Act(r.portal, "join", r.bob, r.bob))
			must(r.member(r.a, r.room, r.bobAtA, "join"))
			must(r.member(r.b, r.portal, r.aliceAtB, "join"))
			must(r.talk(1))
			must(quiet(ctx, r.a))
			must(quiet(ctx, r.b))
		})
	}
}
