package relay

import (
	"context"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
	"github.com/matrix-mimi/bridge/puppets"
)

// openRoom makes a room of alice that everybody may join.
func (p *pair) openRoom() (uri string) {
	p.t.Helper()
	p.room = p.a.hs.create(p.alice, "Open", "")
	p.a.hs.set(p.room, p.alice, "m.room.join_rules", map[string]string{"join_rule": "public"})
	p.a.hs.invite(p.room, p.alice, p.a.hs.mxid("mimibot"))
	p.settle()
	if err := p.a.relay.Plumb(context.Background(), p.room.id, p.alice, ""); err != nil {
		p.t.Fatal(err)
	}
	p.settle()
	return p.a.room(p.room).URI
}

// The state of a group is lent for 30 s: a join that comes later is not accepted, and is tried again with a new loan.
func TestGroupInfoIsLentForHalfAMinute(t *testing.T) {
	for _, c := range []struct {
		after time.Duration
		loans int
	}{{24 * time.Second, 1}, {26 * time.Second, 2}} { // and 5 s until it is sent again
		p := newPair(t, warm)
		uri := p.openRoom()
		held := false
		p.fault = func(from, _, verb string, _ []byte) fault {
			if from == "b.example" && verb == verbUpdate && !held {
				held = true
				p.now = p.now.Add(c.after)
				return dropRequest
			}
			return deliver
		}
		p.patience = time.Minute
		if err := p.b.relay.Join(context.Background(), p.bob, uri, ""); err != nil {
			t.Fatal(err)
		}
		p.settle()
		p.pass(2 * time.Minute)
		p.equal("loans", p.calls[verbGroupInfo], c.loans)
		if p.portal = p.b.hs.roomOf(p.bob, "invite"); p.portal == nil {
			t.Fatalf("bob was not let in after %v: B %q", c.after, p.b.hs.rows)
		}
		p.b.hs.join(p.portal, p.bob)
		p.settle()
		p.talk(1)
		p.noTrouble()
	}
}

// A provider gets the state of a room ten times an hour.
func TestGroupInfoLimit(t *testing.T) {
	p := newPair(t, warm)
	uri := p.openRoom()
	var asked []byte
	p.fault = func(_, _, verb string, body []byte) fault {
		if verb == verbGroupInfo {
			asked = body
		}
		return deliver
	}
	if err := p.b.relay.Join(context.Background(), p.bob, uri, ""); err != nil {
		t.Fatal(err)
	}
	p.settle()
	get := func() int {
		r, err := p.a.serve("b.example", verbGroupInfo, uri, asked)
		if err != nil {
			t.Fatal(err)
		}
		return r.Status
	}
	for range 9 { // the join was the first
		p.equal("status", get(), 200)
	}
	p.equal("status of the eleventh", get(), 429)
	p.now = p.now.Add(time.Hour)
	p.equal("status an hour later", get(), 200)
}

// KeyPackages are renewed after two thirds of their life, and old ones are not handed out.
func TestKeyPackagesAreRenewed(t *testing.T) {
	ctx := context.Background()
	p := newPair(t, warm).begin()
	must0(t, p.b.relay.FillStocks(ctx))
	const bob = "mimi://b.example/u/bob"
	good := func(at time.Time) (ready, last int64) {
		t.Helper()
		stock, err := p.b.db.KeyPackageStock(ctx, bob, at.UnixMilli())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range stock {
			ready, last = ready+s.Ready, last+s.LastResort
		}
		return ready, last
	}
	end := p.now.Add(puppets.Lifetime - time.Minute)
	for _, c := range []struct {
		after time.Duration
		renew bool
	}{{puppets.Lifetime*2/3 - 24*time.Hour, false}, {48 * time.Hour, true}} {
		p.now = p.now.Add(c.after)
		must0(t, p.b.relay.FillStocks(ctx))
		ready, last := good(end.Add(2 * time.Minute))
		if renewed := ready == puppets.DefaultStock && last == 1; renewed != c.renew {
			t.Errorf("at %v there are %d and %d that live longer than the first ones", p.now, ready, last)
		}
	}
}

// The state of a group is for who may join or take part, brought by their own provider; whoever else asks cannot tell a room from none
// (S004-037).
func TestWhoIsGivenTheStateOfAGroup(t *testing.T) {
	p := newPair(t, warm, "c.example").begin()
	uri := string(p.view(p.a).uri())
	ask := func(peer, room, client string) wire.GroupInfoCode {
		t.Helper()
		key, err := mls.GenerateSignatureKey(p.a.relay.Rand, p.view(p.a).group.Suite())
		must0(t, err)
		_, public, err := mls.GenerateKeyPair(p.a.relay.Rand, key.Suite())
		must0(t, err)
		q := &wire.GroupInfoRequest{Credential: mls.BasicCredential([]byte(client)), PublicKey: public}
		must0(t, q.Sign(key))
		r, err := p.a.serve(peer, verbGroupInfo, room, q.Marshal())
		must0(t, err)
		a, err := wire.UnmarshalGroupInfoResponse(r.Body)
		must0(t, err)
		return a.Status()
	}
	p.equal("a participant", ask("b.example", uri, "mimi://b.example/d/bob/new"), wire.GroupInfoSuccess)
	p.equal("nobody in the room", ask("b.example", uri, "mimi://b.example/d/dave/new"), wire.GroupInfoNotAuthorized)
	p.equal("another provider in the participant's name", ask("c.example", uri, "mimi://b.example/d/bob/new"), wire.GroupInfoNotAuthorized)
	p.equal("a room that is not", ask("b.example", "mimi://a.example/r/none", "mimi://b.example/d/bob/new"), wire.GroupInfoNotAuthorized)
	p.a.hs.ban(p.room, p.alice, p.bobAtA)
	p.settle()
	p.equal("one who is banned", ask("b.example", uri, "mimi://b.example/d/bob/new"), wire.GroupInfoNotAuthorized)
	p.equal("one who is banned, in other letters", ask("b.example", uri, "mimi://B.example/d/bob/new"), wire.GroupInfoNotAuthorized)
}
