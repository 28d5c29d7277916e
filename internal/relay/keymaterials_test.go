package relay

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// sharing makes a pair of bridges that publish the extensions, with more users at B. Wishes of the same moment go together.
func sharing(t *testing.T, m mode, users ...string) *pair {
	p := newPair(t, m, "c.example")
	for _, d := range p.order {
		p.offers[d] = true
		n := p.nodes[d]
		n.conf.Combine = 500 * time.Millisecond
		n.start()
		for _, u := range users {
			n.hs.users[n.hs.mxid(u)] = true
		}
	}
	return p
}

var team = []string{"bobby", "betty", "bella"}

// inviteTeam lets somebody invite bobby, betty, bella and nobody of a provider at once.
func inviteTeam(p *pair, n *node, room *hsRoom, by, provider string) {
	p.t.Helper()
	for _, u := range append(team, "nobody") {
		n.hs.invite(room, by, n.ghost("mimi://"+provider+"/u/"+u))
	}
	p.settle()
	p.pass(2 * time.Second)
}

// invited demands that all of the team but nobody are invited at a provider.
func invited(p *pair, at *node, from *node, room *hsRoom) {
	p.t.Helper()
	for _, u := range team {
		if r := at.hs.roomOf(at.hs.mxid(u), "invite"); r == nil {
			p.t.Errorf("%s was not invited", u)
		}
	}
	p.equal("nobody", room.members[from.ghost("mimi://"+at.domain+"/u/nobody")], "leave")
}

// S004-010, S004-012: all who are invited at once are asked for in one request, for a new room and for one that is there.
func TestKeyPackagesOfManyInOneRequest(t *testing.T) { modes(t, testKeyPackagesOfMany) }

func testKeyPackagesOfMany(t *testing.T, m mode) {
	p := sharing(t, m, team...)
	p.room = p.a.hs.create(p.alice, "Team", "")
	inviteTeam(p, p.a, p.room, p.alice, "b.example")
	invited(p, p.b, p.a, p.room)
	p.equal("requests for one user", p.calls[verbKeyMaterial], 0)
	if n := p.calls[verbKeyMaterials]; n < 1 || n > 2 { // two where the first answer is lost
		t.Errorf("%d requests for many", n)
	}
	// The hub forwards: the follower asks for users of a third provider.
	bobby := p.b.hs.mxid("bobby")
	p.portal = p.b.hs.roomOf(bobby, "invite")
	p.b.hs.join(p.portal, bobby)
	p.settle()
	p.b.hs.invite(p.portal, bobby, p.b.ghost("mimi://a.example/u/alice")) // no change: she is there
	c := p.nodes["c.example"]
	clear(p.calls)
	for _, u := range team {
		p.b.hs.invite(p.portal, bobby, p.b.ghost("mimi://c.example/u/"+u))
	}
	p.settle()
	p.pass(2 * time.Second)
	for _, u := range team {
		if c.hs.roomOf(c.hs.mxid(u), "invite") == nil {
			t.Errorf("%s of the third provider was not invited", u)
		}
	}
	if p.fault == nil {
		p.equal("forwarded requests for one user", p.calls[verbKeyMaterial], 0)
		p.equal("forwarded requests for many", p.calls[verbKeyMaterials], 2)
	}
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal, c: c.hs.roomOf(c.hs.mxid("betty"), "invite")})
	p.noTrouble()
}

// Who does not publish the extension is asked in the draft's way; nothing else is different.
func TestKeyPackagesOfManyFromADraftPeer(t *testing.T) {
	for _, off := range []string{"a.example", "b.example"} {
		p := sharing(t, warm, team...)
		p.offers[off] = false
		p.room = p.a.hs.create(p.alice, "Team", "")
		inviteTeam(p, p.a, p.room, p.alice, "b.example")
		invited(p, p.b, p.a, p.room)
		p.equal("requests for one user", p.calls[verbKeyMaterial], 4)
		p.equal("requests for many", p.calls[verbKeyMaterials], 0)
		p.noTrouble()
	}
}

// S004-019: a status for each user; the limits hold for each; only users of the provider and only in one's own name.
func TestKeyMaterialsLimitsAndRefusals(t *testing.T) {
	p := sharing(t, warm, team...)
	ctx := context.Background()
	p.b.relay.Consent = func(string) bool { return true }
	alice, err := p.a.relay.client(ctx, p.alice)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(peer, path string, change func(*wire.KeyMaterialsRequest), users ...string) ([]*wire.KeyMaterialResponse, error) {
		q := &wire.KeyMaterialsRequest{KeyMaterialRequest: wire.KeyMaterialRequest{RequestingUser: wire.IdentifierURI(alice.UserURI),
			RoomID:           wire.IdentifierURI(fmt.Sprintf("mimi://a.example/r/%d", p.now.UnixNano())),
			AcceptableSuites: []mls.Suite{alice.Key.Suite()}, RequesterCredential: alice.Credential}}
		p.now = p.now.Add(time.Millisecond)
		for _, u := range users {
			q.TargetUsers = append(q.TargetUsers, wire.IdentifierURI("mimi://b.example/u/"+u))
		}
		if change != nil {
			change(q)
		}
		if err := q.Sign(alice.Key); err != nil {
			t.Fatal(err)
		}
		r, err := p.b.relay.Extension(ctx, peer, verbKeyMaterials, wire.IdentifierURI(path), q.Marshal())
		if err != nil {
			return nil, err
		}
		answers, err := readKeyMaterials(r.Body, q)
		if err != nil {
			t.Fatal(err)
		}
		return answers, nil
	}
	const b = "mimi://b.example"
	if err := p.b.db.Tx(ctx, func(tx *store.Tx) error {
		return tx.PutConsent(ctx, store.Consent{Direction: store.In, Owner: b + "/u/bella", Requester: alice.UserURI, State: store.ConsentRevoked, UpdatedMS: 1})
	}); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		got, err := ask("a.example", b, nil, "bobby", "nobody", "bella")
		if err != nil {
			t.Fatal(err)
		}
		if got[0] == nil || got[0].UserStatus != wire.KeyMaterialSuccess || len(got[0].Clients) != 1 ||
			got[1] == nil || got[1].UserStatus != wire.KeyMaterialUserUnknown || got[2] == nil || got[2].UserStatus != wire.KeyMaterialNoConsent {
			t.Fatalf("claim %d: %+v", i, got)
		}
	}
	got, err := ask("a.example", b, nil, "bobby", "betty")
	if err != nil || got[0] != nil || got[1] == nil || got[1].UserStatus != wire.KeyMaterialSuccess {
		t.Errorf("the eleventh claim of bobby, and betty: %+v, %v", got, err)
	}
	if _, err := ask("a.example", b, nil, "bobby"); !errors.Is(err, ErrBusy) {
		t.Errorf("nobody can be claimed: %v", err)
	}
	for name, c := range map[string]struct {
		peer, path string
		change     func(*wire.KeyMaterialsRequest)
	}{
		"another provider asks": {"c.example", b, nil},
		"the path is another's": {"a.example", "mimi://c.example", nil},
		"in another's name":     {"a.example", b, func(q *wire.KeyMaterialsRequest) { q.RequestingUser = "mimi://a.example/u/eve" }},
		"foreign users": {"a.example", "mimi://c.example", func(q *wire.KeyMaterialsRequest) {
			q.TargetUsers = []wire.IdentifierURI{"mimi://c.example/u/betty"}
		}},
	} {
		if got, err := ask(c.peer, c.path, c.change, "betty"); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
