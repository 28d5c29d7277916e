package relay

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/room"
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

// asksState is a request of a client of a user of B for the state of the room, in a suite, with the private half of its key.
func (p *pair) asksState(client string, suite mls.Suite, key *mls.SignatureKey) (q *wire.GroupInfoRequest, private mls.Secret) {
	p.t.Helper()
	private, public, err := mls.GenerateKeyPair(p.a.relay.Rand, suite)
	must0(p.t, err)
	q = &wire.GroupInfoRequest{Credential: mls.BasicCredential([]byte(client)), PublicKey: public}
	must0(p.t, q.Sign(key))
	return q, private
}

// state sends such a request and opens the answer.
func (p *pair) state(q *wire.GroupInfoRequest, private mls.Secret) (*wire.OpenedGroupInfo, error) {
	p.t.Helper()
	uri := p.view(p.a).uri()
	r, err := p.a.serve("b.example", verbGroupInfo, string(uri), q.Marshal())
	must0(p.t, err)
	a, err := wire.UnmarshalGroupInfoResponse(r.Body)
	must0(p.t, err)
	p.equal("status", a.Status(), wire.GroupInfoSuccess)
	return a.Check(q.Suite, uri, private)
}

// enters makes the external commit by which a client joins with the state that it was given.
func (p *pair) enters(info *wire.OpenedGroupInfo, client string, key *mls.SignatureKey, selfRemoves [][]byte) *wire.HandshakeBundle {
	p.t.Helper()
	g := p.view(p.a).group
	staged, err := mls.StageExternalCommit(p.a.relay.Rand, p.now, p.view(p.a).mlsc, mls.ExternalCommitParams{GroupInfo: info.GroupInfo, Tree: info.Tree.Tree, SelfRemoves: selfRemoves,
		AAD: room.HandshakeAAD(g.Dictionary()), Leaf: mls.LeafParams{SignatureKey: key, Credential: mls.BasicCredential([]byte(client)), Capabilities: puppets.Capabilities(), Extensions: puppets.LeafExtensions()}})
	must0(p.t, err)
	b, err := bundleOf(staged)
	must0(p.t, err)
	return b
}

// aloneAndLeaving makes a chat of alice and bob, and proposes that she leaves it: nobody else of A can commit that.
func (p *pair) aloneAndLeaving(t *testing.T) {
	t.Helper()
	p.start(t, bobURI)
	p.room, p.portal = p.a.hs.roomOf(p.alice, "invite"), p.b.hs.roomOf(p.bob, "invite")
	p.a.hs.join(p.room, p.alice)
	p.b.hs.join(p.portal, p.bob)
	p.settle()
	p.talk(1)
	_, err := p.a.relay.runStep(t.Context(), p.a.room(p.room).ID, nil, store.Settle{}, func(s *step) error {
		s.wish(intentLeave, aliceURI, aliceURI, intentData{})
		return s.advance()
	})
	must0(t, err)
	p.a.relay.Forget()
}

// With the state of a group come the proposals that wait in it, and when they were accepted: who joins by an external commit must take the SelfRemoves among them
// along (draft-ietf-mimi-protocol-06 §5.6, draft-ietf-mls-extensions-10, SelfRemove).
func TestProposalsThatWaitAreGivenWithTheState(t *testing.T) {
	p := newPair(t, warm)
	p.aloneAndLeaving(t)
	client, at := "mimi://b.example/d/bob/new", uint64(p.view(p.a).head.LastAccepted)
	key, err := mls.GenerateSignatureKey(p.a.relay.Rand, p.view(p.a).group.Suite())
	must0(t, err)
	info, err := p.state(p.asksState(client, key.Suite(), key))
	must0(t, err)
	if len(info.Pending) != 1 || info.Pending[0].HubAcceptedTime != at || info.Pending[0].Proposal.MLS.Public.Content.Proposal.Type != mls.ProposalSelfRemove {
		t.Fatalf("proposals: %+v", info.Pending)
	}
	p.refusedUpdate("a client that leaves it out", "b.example", p.enters(info, client, key, nil), wire.UpdateNotAllowed)
	p.accepted("a client that takes it along", p.enters(info, client, key, [][]byte{info.Pending[0].Proposal.Raw}))
	v := p.view(p.a)
	p.equal("clients", []int{len(v.leaves.Of(aliceURI)), len(v.leaves.Of(bobURI)), len(v.st.Proposals)}, []int{0, 2, 0})
}

// The ciphersuite of the request is for the exchange alone: it need not be the group's, nor of the same signature scheme
// (draft-ietf-mimi-protocol-06 §5.6). The answer is a success that the requester can verify.
func TestStateIsGivenInAnotherSuite(t *testing.T) {
	for _, suite := range mls.Suites() {
		p := newPair(t, warm).begin()
		client, group := "mimi://b.example/d/bob/new", p.view(p.a).group.Suite()
		key, err := mls.GenerateSignatureKey(p.a.relay.Rand, suite)
		must0(t, err)
		info, err := p.state(p.asksState(client, suite, key))
		must0(t, err)
		p.equal("epoch", info.GroupInfo.Context.Epoch, p.view(p.a).group.Epoch())
		leaf, ok := key.As(group)
		if !ok {
			leaf, err = mls.GenerateSignatureKey(p.a.relay.Rand, group)
			must0(t, err)
		}
		other, _ := mls.GenerateSignatureKey(p.a.relay.Rand, group)
		loan := func(client string, key *mls.SignatureKey) bool {
			s := &step{Relay: p.a.relay, room: p.view(p.a), now: p.now}
			_, ok := s.borrowed(&mls.LeafNode{Credential: mls.BasicCredential([]byte(client)), SignatureKey: key.Public()})
			return ok
		}
		p.equal("who may use it", []bool{loan(client, leaf), loan(client, other), loan(client+"2", leaf)}, []bool{true, !ok, false})
	}
}

// A room whose group is in another ciphersuite than the keys of the users here is not joined, and who asked is told why.
func TestRoomInAnotherSuiteIsNotJoined(t *testing.T) {
	for _, suite := range []mls.Suite{mls.SuiteP256AES128P256, mls.SuiteX25519ChaCha20Ed25519} {
		p := newPair(t, warm)
		p.a.relay.cfg.Suite = suite
		uri := p.openRoom()
		p.equal("the room's", p.view(p.a).group.Suite(), suite)
		chat := p.b.hs.create(p.bob, "", "")
		p.b.hs.invite(chat, p.bob, p.b.hs.mxid("mimibot"))
		p.settle()
		must0(t, p.b.relay.Join(t.Context(), p.bob, uri, ""))
		p.settle()
		told := p.b.hs.texts(chat)
		if want := fmt.Sprintf("ciphersuite %d", suite); !strings.Contains(told[len(told)-1], want) {
			t.Errorf("bob was not told %q: %q", want, told)
		}
		p.noTrouble()
	}
}
