package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// mark is what must not change when a request is refused.
func (p *pair) mark(n *node, r *hsRoom) string {
	v := n.view(r)
	log, err := n.db.RoomLog(context.Background(), v.head.ID, 0, 1000)
	if err != nil {
		p.t.Fatal(err)
	}
	return fmt.Sprintf("epoch %d, %x, %d accepted, %d proposals, %d participants", v.group.Epoch(), v.group.EpochAuthenticator(), len(log),
		len(v.group.PendingProposals()), len(v.policy.Participants))
}

// refusedUpdate sends an update as B and demands the code, with nothing changed.
func (p *pair) refusedUpdate(what, peer string, b *wire.HandshakeBundle, want wire.UpdateResponseCode) {
	p.t.Helper()
	before, kept := p.mark(p.a, p.room), p.a.answers()
	r, err := p.a.relay.Update(context.Background(), peer, wire.IdentifierURI(p.a.room(p.room).URI), b.Marshal())
	if err != nil {
		p.t.Errorf("%s: %v", what, err)
		return
	}
	answer, err := wire.UnmarshalUpdateRoomResponse(r.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if answer.ResponseCode != want {
		p.t.Errorf("%s: code %d (%s), want %d", what, answer.ResponseCode, answer.ErrorDescription, want)
	}
	p.equal(what+": state", p.mark(p.a, p.room), before)
	p.equal(what+": answers that are kept", p.a.answers(), kept)
}

// answers counts the answers to requests that are kept.
func (n *node) answers() (rows int) {
	n.w.t.Helper()
	must0(n.w.t, n.db.Side().QueryRow(`SELECT COUNT(*) FROM answer`).Scan(&rows))
	return rows
}

// Nor can a follower with proposals that nobody commits.
func TestProposalsThatWaitAreBounded(t *testing.T) {
	p := newPair(t, warm).begin()
	wait := func(size int) {
		_, err := p.a.relay.runStep(t.Context(), p.a.room(p.room).ID, nil, store.Settle{}, func(s *step) error {
			s.room.st.Proposals = []heldProposal{{Message: make([]byte, size)}}
			return nil
		})
		must0(t, err)
	}
	wait(maxWaiting)
	p.refusedUpdate("one more", "b.example", p.propose(mls.Proposal{Type: mls.ProposalSelfRemove}), wire.UpdateNotAllowed)
	wait(maxWaiting / 2)
	p.accepted("one more", p.propose(mls.Proposal{Type: mls.ProposalSelfRemove}))
}

// A hub cannot fill the database: what a room has not worked off is bounded, and the hub is told to come again.
func TestUnreadIsBounded(t *testing.T) {
	for name, limit := range map[string]Config{"items": {MaxUnread: 100}, "bytes": {MaxUnreadBytes: 1 << 20}} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, warm)
			p.b.conf.MaxUnread, p.b.conf.MaxUnreadBytes = limit.MaxUnread, limit.MaxUnreadBytes
			p.b.start()
			var items []wire.FanoutMessage
			p.fault = func(from, _, verb string, body []byte) fault {
				if received, err := wire.UnmarshalNotify(body); from == "a.example" && verb == verbNotify && err == nil {
					items, err = received.Check()
					must0(t, err)
				}
				return deliver
			}
			p.begin()
			p.talk(1)
			uri := p.view(p.b).uri()
			m := items[len(items)-1].Message.MLS.Private
			send := func(n, size int) int {
				forged := *m
				forged.Epoch += 2
				forged.Ciphertext = append(make([]byte, size), byte(n), byte(n>>8))
				message, err := wire.ParseMessage(forged.Message())
				must0(t, err)
				r, err := p.b.serve("a.example", verbNotify, string(uri), wire.MarshalNotify([]wire.FanoutMessage{{Timestamp: 1, Message: message}}))
				must0(t, err)
				return r.Status
			}
			taken := 0
			for n := range 400 {
				if send(n, 10_000) == 201 {
					taken++
				}
			}
			if taken < 100 || taken > 100+2*unreadEvery {
				t.Errorf("%d of 400 were taken", taken)
			}
			if limit.MaxUnreadBytes > 0 {
				p.equal("a large one", send(1000, largeFanout), 429)
			}
			p.settle() // they wait now, for an epoch that does not come
			p.equal("afterwards", send(2000, largeFanout), 429)
		})
	}
}

// forge makes a commit of bob's client with the given proposals.
func (p *pair) forge(proposals ...mls.Proposal) *wire.HandshakeBundle {
	p.t.Helper()
	v := p.b.view(p.portal)
	leaf, ok := v.ownLeaf("mimi://b.example/u/bob")
	if !ok {
		p.t.Fatal("bob has no leaf")
	}
	staged, err := v.group.StageCommit(p.b.relay.Rand, p.now, mls.CommitParams{Leaf: leaf, Proposals: proposals, AAD: room.HandshakeAAD(v.group.Dictionary())})
	if err != nil {
		p.t.Fatal(err)
	}
	bundle, err := bundleOf(staged)
	if err != nil {
		p.t.Fatal(err)
	}
	return bundle
}

func listUpdate(u policy.ParticipantListUpdate) mls.Proposal {
	return appDataUpdate(mls.ComponentParticipantList, u.Marshal())
}

// What a hub refuses, it refuses without a trace.
func TestHubRefusals(t *testing.T) {
	p := newPair(t, warm, "c.example").begin()
	v := p.a.view(p.room)
	list := v.policy.Participants
	alice, bob := uint32(list.Index("mimi://a.example/u/alice")), uint32(list.Index("mimi://b.example/u/bob"))

	p.refusedUpdate("self-promotion", "b.example", p.forge(listUpdate(policy.ParticipantListUpdate{
		ChangedRoles: []policy.UserindexRolePair{{Index: bob, Role: policy.RoleBridge}}})), wire.UpdateNotAllowed)
	p.refusedUpdate("removal of somebody above", "b.example", p.forge(listUpdate(policy.ParticipantListUpdate{Removed: []uint32{alice}}),
		mls.Proposal{Type: mls.ProposalRemove, Remove: v.leaves.Of("mimi://a.example/u/alice")[0]}), wire.UpdateNotAllowed)
	p.refusedUpdate("ban without the right", "b.example", p.forge(listUpdate(policy.ParticipantListUpdate{
		ChangedRoles: []policy.UserindexRolePair{{Index: alice, Role: policy.RoleBanned}}})), wire.UpdateNotAllowed)
	p.refusedUpdate("new role definitions", "b.example", p.forge(appDataUpdate(mls.ComponentRolesList, policy.FixedRoles().Marshal())),
		wire.UpdateNotAllowed)
	meta := v.policy.Metadata
	meta.RoomName = "mine"
	p.refusedUpdate("name without the right", "b.example", p.forge(appDataUpdate(mls.ComponentRoomMetadata, meta.Marshal())), wire.UpdateNotAllowed)
	p.refusedUpdate("a client kicked, its user kept", "b.example", p.forge(mls.Proposal{Type: mls.ProposalRemove, Remove: v.leaves.Of("mimi://a.example/u/alice")[0]}),
		wire.UpdateNotAllowed)
	p.a.hs.invite(p.room, p.alice, p.a.ghost("mimi://c.example/u/eve"))
	p.nodes["c.example"].hs.users[p.nodes["c.example"].hs.mxid("eve")] = true
	p.settle()
	p.refusedUpdate("a commit that another provider brings", "c.example", p.forge(), wire.UpdateNotAllowed)

	bad := p.forge()
	bad.Message.Raw[len(bad.Message.Raw)-40] ^= 1
	p.refusedUpdate("a broken signature or tag", "b.example", bad, wire.UpdateNotAllowed)
	lied := p.forge()
	other := p.forge(listUpdate(policy.ParticipantListUpdate{Added: []policy.UserRolePair{{User: "mimi://b.example/u/x", Role: policy.RoleMember}}}))
	lied.GroupInfo = other.GroupInfo
	p.refusedUpdate("the GroupInfo of another commit", "b.example", lied, wire.UpdateNotAllowed)

	theirs := p.b.view(p.portal)
	leaf, _ := theirs.ownLeaf("mimi://b.example/u/bob")
	messages, _, err := (&step{Relay: p.b.relay, now: p.now, room: theirs}).leaveProposals("mimi://b.example/u/bob", leaf, true)
	if err != nil || len(messages) != 2 {
		t.Fatalf("%d proposals to leave: %v", len(messages), err)
	}
	p.b.relay.Forget() // the group in memory knows them now
	messages[1].Raw[len(messages[1].Raw)-1] ^= 1
	p.refusedUpdate("proposals of which the second is broken", "b.example", &wire.HandshakeBundle{Message: messages[0], MoreProposals: messages[1:]}, wire.UpdateNotAllowed)

	old := p.forge()
	p.a.hs.set(p.room, p.alice, "m.room.topic", map[string]string{"topic": "new epoch"})
	p.settle()
	p.refusedUpdate("an epoch that is over", "b.example", old, wire.UpdateWrongEpoch)
	p.talk(1)
	p.noTrouble()
}

func TestHubRefusesMessages(t *testing.T) {
	p := newPair(t, warm, "c.example").begin()
	const carolURI = "mimi://b.example/u/carol"
	p.b.hs.users[p.b.hs.mxid("carol")] = true
	p.a.hs.invite(p.room, p.alice, p.a.ghost(carolURI))
	p.settle()
	ctx, uri := context.Background(), wire.IdentifierURI(p.a.room(p.room).URI)
	v := p.b.view(p.portal)
	by := func(user string) wire.Message {
		leaf, _ := v.ownLeaf(user)
		m, _, err := v.group.Protect(p.b.relay.Rand, leaf, []byte("x"), room.MessageAAD(v.group.Dictionary(), []byte("salt"), []byte("x")), 0)
		if err != nil {
			t.Fatal(err)
		}
		return wire.NewMessage(m.Message)
	}
	protect := func() wire.Message { return by(bobURI) }
	carol := by(carolURI)
	submit := func(peer string, q wire.SubmitMessageRequest) wire.SubmitResponseCode {
		t.Helper()
		r, err := p.a.relay.SubmitMessage(ctx, peer, uri, q.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		a, err := wire.UnmarshalSubmitMessageResponse(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return a.StatusCode
	}
	before := p.mark(p.a, p.room)
	m := protect()
	if c := submit("b.example", wire.SubmitMessageRequest{Message: m, SendingURI: "mimi://a.example/u/alice"}); c != wire.SubmitNotAllowed {
		t.Errorf("foreign sendingUri: code %d", c)
	}
	if c := submit("b.example", wire.SubmitMessageRequest{Message: m, SendingURI: "mimi://b.example/u/eve"}); c != wire.SubmitNotAllowed {
		t.Errorf("nobody's sendingUri: code %d", c)
	}
	p.equal("state", p.mark(p.a, p.room), before)
	// What no member would take goes to nobody: of another client than the sender's, of one of the hub's own, or broken.
	fanned := p.calls[verbNotify]
	broken := protect()
	broken.Raw[len(broken.Raw)-1] ^= 1
	for what, m := range map[string]wire.Message{"of carol": carol, "of the hub's own": p.said(p.a.view(p.room).group, p.view(p.a).group.OwnLeaves()[0], "x").Message, "broken": broken} {
		if c := submit("b.example", wire.SubmitMessageRequest{Message: m, SendingURI: bobURI}); c != wire.SubmitNotAllowed {
			t.Errorf("a message %s as bob's: code %d", what, c)
		}
	}
	p.a.relay.Forget() // who spoke as the hub's own moved the group in memory
	p.settle()
	p.equal("state", p.mark(p.a, p.room), before)
	p.equal("fan-outs", p.calls[verbNotify], fanned)
	// Carol's is hers still.
	if c := submit("b.example", wire.SubmitMessageRequest{Message: carol, SendingURI: carolURI}); c != wire.SubmitAccepted {
		t.Errorf("a message of carol as hers: code %d", c)
	}
	// The same request again gets the same answer, and nothing happens twice.
	q := wire.SubmitMessageRequest{Message: protect(), SendingURI: "mimi://b.example/u/bob"}
	first, err := p.a.relay.SubmitMessage(ctx, "b.example", uri, q.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	before = p.mark(p.a, p.room)
	p.now = p.now.Add(time.Minute)
	again := func(when string) {
		t.Helper()
		r, err := p.a.relay.SubmitMessage(ctx, "b.example", uri, q.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		p.equal("answer "+when, fmt.Sprintf("%x", r.Body), fmt.Sprintf("%x", first.Body))
		p.equal("state "+when, p.mark(p.a, p.room), before)
	}
	again("at once")
	p.a.relay.Forget()
	again("from what is stored")
	for i := range hubTolerance + 1 {
		p.a.hs.set(p.room, p.alice, "m.room.topic", map[string]string{"topic": fmt.Sprint(i)})
		p.settle()
	}
	before = p.mark(p.a, p.room)
	again("when its epoch is long over")
}

func TestNotifyFromOneWhoIsNotTheHub(t *testing.T) {
	p := newPair(t, warm, "c.example").begin()
	uri := wire.IdentifierURI(p.a.room(p.room).URI)
	if _, err := p.b.relay.Notify(context.Background(), "c.example", uri, []byte{0}); !errors.Is(err, ErrForbidden) {
		t.Errorf("notify by another provider: %v", err)
	}
	if _, err := p.b.relay.Notify(context.Background(), "a.example", uri, []byte{0}); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("malformed notify: %v", err)
	}
	if r, err := p.b.relay.Update(context.Background(), "a.example", uri, p.forge().Marshal()); !errors.Is(err, ErrNotFound) {
		t.Errorf("update of a follower: %v %v", r, err)
	}
}

// A KeyPackage is handed out once, however many ask at once.
func TestParallelClaims(t *testing.T) {
	p := newPair(t, warm)
	p.b.conf.KeyClaims = 1000
	p.b.start()
	p.settle()
	ctx := context.Background()
	alice, err := p.a.relay.client(ctx, p.alice)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			q := wire.KeyMaterialRequest{RequestingUser: wire.IdentifierURI(alice.UserURI), TargetUser: "mimi://b.example/u/bob",
				RoomID: wire.IdentifierURI(fmt.Sprintf("mimi://a.example/r/%d", i)), AcceptableSuites: []mls.Suite{alice.Key.Suite()}, RequesterCredential: alice.Credential}
			if err := q.Sign(alice.Key); err != nil {
				t.Error(err)
				return
			}
			r, err := p.b.relay.KeyMaterial(ctx, "a.example", q.Marshal())
			if err != nil {
				t.Error(err)
				return
			}
			a, err := wire.UnmarshalKeyMaterialResponse(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			checked, err := a.Check(&q)
			if err != nil || len(checked.Clients) != 1 || checked.Clients[0].KeyPackage == nil {
				t.Errorf("claim %d: %v %v", i, checked, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if !checked.Clients[0].KeyPackage.LastResort() {
				seen[string(checked.Clients[0].KeyPackage.Ref())]++
			}
		})
	}
	wg.Wait()
	for _, n := range seen {
		if n > 1 {
			t.Errorf("a KeyPackage was handed out %d times", n)
		}
	}
	if len(seen) == 0 {
		t.Error("nothing but last resorts were handed out")
	}
	// The stock is filled up again.
	if err := p.b.relay.FillStocks(ctx); err != nil {
		t.Fatal(err)
	}
	stock, err := p.b.db.KeyPackageStock(ctx, "mimi://b.example/u/bob", 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(stock) != 1 || stock[0].Ready < 5 || stock[0].LastResort < 1 {
		t.Errorf("stock: %+v", stock)
	}
}

func TestClaimLimit(t *testing.T) {
	p := newPair(t, warm)
	ctx := context.Background()
	alice, err := p.a.relay.client(ctx, p.alice)
	if err != nil {
		t.Fatal(err)
	}
	claim := func(i int) error {
		q := wire.KeyMaterialRequest{RequestingUser: wire.IdentifierURI(alice.UserURI), TargetUser: "mimi://b.example/u/bob",
			RoomID: wire.IdentifierURI(fmt.Sprintf("mimi://a.example/r/%d", i)), AcceptableSuites: []mls.Suite{alice.Key.Suite()}, RequesterCredential: alice.Credential}
		if err := q.Sign(alice.Key); err != nil {
			t.Fatal(err)
		}
		_, err := p.b.relay.KeyMaterial(ctx, "a.example", q.Marshal())
		return err
	}
	for i := range 10 {
		if err := claim(i); err != nil {
			t.Fatal(err)
		}
	}
	if err := claim(10); !errors.Is(err, ErrBusy) {
		t.Errorf("the eleventh claim within an hour: %v", err)
	}
	p.now = p.now.Add(time.Hour)
	if err := claim(11); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}

// An input that cannot be worked off is set aside after three tries, and the room goes on. An operator may have it tried again.
func TestPoisonedInput(t *testing.T) {
	p := newPair(t, warm).begin()
	head := p.a.room(p.room)
	err := p.a.db.Tx(context.Background(), func(tx *store.Tx) error {
		_, err := tx.AddInputs(context.Background(), []store.NewInput{{Room: head.ID, Kind: "nonsense", Source: "test", Epoch: -1, Body: []byte("x"), CreatedMS: 1}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p.a.hs.say(p.room, p.alice, "after the poison")
	p.pass(10 * time.Second)
	p.last("B", p.b.hs.texts(p.portal), local(p.aliceAtB)+": after the poison")
	broken, err := p.a.db.BrokenInputs(context.Background(), 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(broken) != 1 || broken[0].Kind != "nonsense" || len(p.a.alerts) != 1 {
		t.Fatalf("broken: %+v, alerts %q", broken, p.a.alerts)
	}
	if err := p.a.db.Tx(context.Background(), func(tx *store.Tx) error { return tx.RetryBroken(context.Background(), head.ID, broken[0].Seq) }); err != nil {
		t.Fatal(err)
	}
	p.a.hs.say(p.room, p.alice, "after the second time")
	p.pass(10 * time.Second)
	p.last("B", p.b.hs.texts(p.portal), local(p.aliceAtB)+": after the second time")
	if again, err := p.a.db.BrokenInputs(context.Background(), 10); err != nil || len(again) != 1 || again[0].Tries != broken[0].Tries || len(p.a.alerts) != 2 {
		t.Errorf("broken the second time: %+v, %v, alerts %q", again, err, p.a.alerts)
	}
}

// Events that the homeserver pushes again have no effect, under the same transaction id or another.
func TestRepeatedTransactions(t *testing.T) {
	p := newPair(t, warm).begin()
	p.a.hs.say(p.room, p.alice, "once")
	d, ok := p.a.hs.delivery()
	if !ok {
		t.Fatal("nothing to deliver")
	}
	for i, want := range []bool{false, true, false} {
		if i == 2 {
			d.ID = "another id"
		}
		dup, err := p.a.relay.Accept(context.Background(), d)
		if err != nil || dup != want {
			t.Errorf("delivery %d: dup=%v err=%v", i, dup, err)
		}
		p.settle()
	}
	p.last("B", p.b.hs.texts(p.portal)[len(p.b.hs.texts(p.portal))-1:], local(p.aliceAtB)+": once")
	n := 0
	for _, l := range p.b.hs.texts(p.portal) {
		if l == local(p.aliceAtB)+": once" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("shown %d times", n)
	}
	p.noTrouble()
}

// A provider speaks for its own users, and as the hub for those of others; not for others in a room of ours.
func TestWhoMayAskForKeyPackages(t *testing.T) {
	p := newPair(t, warm)
	ctx := context.Background()
	alice, err := p.a.relay.client(ctx, p.alice)
	must0(t, err)
	for _, c := range []struct {
		peer, room string
		ok         bool
	}{{"a.example", "mimi://b.example/r/x", true}, {"c.example", "mimi://c.example/r/x", true}, {"c.example", "mimi://b.example/r/x", false}, {"c.example", "", false}} {
		q := wire.KeyMaterialRequest{RequestingUser: wire.IdentifierURI(alice.UserURI), TargetUser: "mimi://b.example/u/bob", RoomID: wire.IdentifierURI(c.room),
			AcceptableSuites: []mls.Suite{alice.Key.Suite()}, RequesterCredential: alice.Credential}
		must0(t, q.Sign(alice.Key))
		if _, err := p.b.relay.KeyMaterial(ctx, c.peer, q.Marshal()); errors.Is(err, ErrForbidden) == c.ok || c.ok && err != nil {
			t.Errorf("%s for room %q: %v", c.peer, c.room, err)
		}
	}
	// Nor does one of its users speak for another.
	q := wire.KeyMaterialRequest{RequestingUser: "mimi://a.example/u/trudy", TargetUser: "mimi://b.example/u/bob", RoomID: "mimi://a.example/r/x",
		AcceptableSuites: []mls.Suite{alice.Key.Suite()}, RequesterCredential: alice.Credential}
	must0(t, q.Sign(alice.Key))
	if _, err := p.b.relay.KeyMaterial(ctx, "a.example", q.Marshal()); !errors.Is(err, ErrForbidden) {
		t.Errorf("alice's credential for trudy: %v", err)
	}
}

// A hub asks for others on behalf of participants only, each for its own provider's user, by that user's credential
// (draft-ietf-mimi-protocol-06 §5.2).
func TestWhomAHubAsksFor(t *testing.T) {
	p := newPair(t, warm, "c.example").begin()
	for _, name := range []string{"carol", "eve"} {
		p.nodes["c.example"].hs.users[p.nodes["c.example"].hs.mxid(name)] = true
	}
	p.a.hs.invite(p.room, p.alice, p.a.ghost("mimi://c.example/u/eve"))
	p.settle()
	for _, c := range []struct {
		what, peer string
		user       wire.IdentifierURI
		credential string
		want       wire.KeyMaterialUserCode
	}{
		{"a participant", "b.example", "mimi://b.example/u/bob", "mimi://b.example/d/bob/bridge", wire.KeyMaterialSuccess},
		{"another provider in its name", "c.example", "mimi://b.example/u/bob", "mimi://b.example/d/bob/bridge", wire.KeyMaterialNoConsentForThisRoom},
		{"the credential of somebody else", "b.example", "mimi://b.example/u/bob", "mimi://b.example/d/dave/bridge", wire.KeyMaterialNoConsentForThisRoom},
		{"nobody in the room", "b.example", "mimi://b.example/u/dave", "mimi://b.example/d/dave/bridge", wire.KeyMaterialNoConsentForThisRoom},
	} {
		key, err := mls.GenerateSignatureKey(p.a.relay.Rand, p.view(p.a).group.Suite())
		must0(t, err)
		q := wire.KeyMaterialRequest{RequestingUser: c.user, TargetUser: "mimi://c.example/u/carol", RoomID: p.view(p.a).uri(),
			AcceptableSuites: []mls.Suite{key.Suite()}, RequesterCredential: mls.BasicCredential([]byte(c.credential))}
		must0(t, q.Sign(key))
		r, err := p.a.relay.KeyMaterial(context.Background(), c.peer, q.Marshal())
		must0(t, err)
		received, err := wire.UnmarshalKeyMaterialResponse(r.Body)
		must0(t, err)
		answer, err := received.Check(&q)
		must0(t, err)
		p.equal(c.what, answer.UserStatus, c.want)
	}
}

// What a group must say of itself to be joined (docs/mapping.md §3).
func TestWhichGroupsAreJoined(t *testing.T) {
	p := newPair(t, warm).begin()
	for want, change := range map[string]func(v *roomView){
		"":                                func(*roomView) {},
		"its hub is no external sender":   func(v *roomView) { v.head.Hub = "c.example" },
		"it says that it is another room": func(v *roomView) { v.head.URI = "mimi://a.example/r/other" },
	} {
		v := p.view(p.b)
		change(v)
		p.equal("why not", (&step{Relay: p.b.relay, room: v}).checkJoined(v.group), want)
		p.b.relay.Forget()
	}
}
