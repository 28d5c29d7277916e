package relay

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Ghosts have the names and pictures of their users where both bridges share profiles, and made-up names otherwise.
func TestGhostsHaveTheNamesOfTheirUsers(t *testing.T) {
	for name, m := range map[string]mode{"warm": warm, "restarting": restarting, "doubling": doubling, "shuffling": shuffling} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, m)
			p.offers["a.example"], p.offers["b.example"] = true, true
			p.a.hs.names[p.alice] = [2]string{"Alice Liddell\u202e", p.a.files.add(onePixel)}
			p.b.hs.names[p.bob] = [2]string{"Bob the Builder", ""}
			p.begin().talk(1)
			p.pass(time.Minute)
			p.equal("bob at A", p.a.hs.names[p.bobAtA][0], "Bob the Builder (b.example)")
			p.equal("alice at B", p.b.hs.names[p.aliceAtB][0], "Alice Liddell (a.example)")
			if got := p.b.files.repo[p.b.hs.names[p.aliceAtB][1]]; !bytes.Equal(got, onePixel) {
				t.Errorf("the picture of alice at B is %q, %d octets", p.b.hs.names[p.aliceAtB][1], len(got))
			}
			// A name that changed is seen with the next look, a day later at most.
			p.b.hs.names[p.bob] = [2]string{"Robert", ""}
			p.a.hs.names[p.alice] = [2]string{"Alice", ""}
			p.pass(26 * time.Hour)
			p.equal("bob at A", p.a.hs.names[p.bobAtA][0], "Robert (b.example)")
			p.equal("alice at B", p.b.hs.names[p.aliceAtB], [2]string{"Alice (a.example)", ""})
			p.talk(2)
			p.noTrouble()
		})
	}
}

func TestNamesAreMadeUpTowardsOthers(t *testing.T) {
	p := newPair(t, warm)
	p.offers["a.example"] = true
	p.b.hs.names[p.bob] = [2]string{"Bob the Builder", ""}
	p.begin().talk(1)
	p.pass(time.Minute)
	if got := p.a.hs.names[p.bobAtA][0]; strings.Contains(got, "Builder") {
		t.Errorf("bob is called %q", got)
	}
	p.noTrouble()
}

// Who shares no room with a user is told nothing about it, not even whether it exists.
func TestProfilesAreForThoseWhoShareARoom(t *testing.T) {
	p := newPair(t, warm, "c.example")
	p.offers["a.example"], p.offers["b.example"] = true, true
	p.b.hs.names[p.bob] = [2]string{"Bob the Builder", ""}
	p.begin()
	ask := func(peer string, users ...wire.IdentifierURI) int {
		t.Helper()
		r, err := p.b.relay.Profiles(context.Background(), peer, "", (&wire.ProfilesRequest{Users: users}).Marshal())
		must0(t, err)
		a, err := wire.UnmarshalProfilesResponse(r.Body)
		must0(t, err)
		told, err := a.Check("b.example")
		must0(t, err)
		return len(told.Profiles)
	}
	p.equal("a.example is told", ask("a.example", bobURI, "mimi://b.example/u/nobody"), 1)
	p.equal("c.example is told", ask("c.example", bobURI), 0)
	// Nor does anybody tell of users of others.
	if _, err := p.b.relay.Profiles(context.Background(), "a.example", "", (&wire.ProfilesRequest{Users: []wire.IdentifierURI{aliceURI}}).Marshal()); err == nil {
		t.Error("b.example answers for users of a.example")
	}
}
