package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/follower"
	"github.com/matrix-mimi/bridge/mimiside/hub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
	"github.com/matrix-mimi/bridge/puppets"
)

// madeUp is a KeyPackage in the name of a client, by a key that anybody can make.
func (p *pair) madeUp(client wire.IdentifierURI) *mls.KeyPackage {
	p.t.Helper()
	key, err := mls.GenerateSignatureKey(p.b.relay.Rand, p.view(p.b).group.Suite())
	must0(p.t, err)
	kp, err := puppets.NewKeyPackage(p.b.relay.Rand, p.now, puppets.Client{ClientURI: string(client), Credential: puppets.BasicCredential(string(client)), Key: key}, false)
	must0(p.t, err)
	return kp.Public
}

// A provider that answers with the KeyPackage of another's user does not draw the Welcomes for it to itself, and no answer is
// remembered for ever.
func TestRoutesAreOfTheUserWhoWasAskedFor(t *testing.T) {
	p := newPair(t, warm).begin()
	theirs, own := p.madeUp("mimi://d.example/d/dora/bridge"), p.madeUp("mimi://c.example/d/eve/bridge")
	own.Leaf.Lifetime.NotAfter = 1 << 62
	_, err := p.a.relay.runStep(t.Context(), p.a.room(p.room).ID, nil, store.Settle{}, func(s *step) error {
		s.remember(&wire.KeyMaterialResponse{UserURI: "mimi://c.example/u/eve", Clients: []wire.ClientKeyMaterial{{KeyPackage: theirs}, {KeyPackage: own}}}, "c.example")
		return nil
	})
	must0(t, err)
	if r, err := p.a.db.Route(t.Context(), theirs.Ref()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the Welcome of dora goes to %+v, %v", r, err)
	}
	r, err := p.a.db.Route(t.Context(), own.Ref())
	must0(t, err)
	p.equal("the Welcome of eve", []any{r.Provider, r.UntilMS}, []any{"c.example", p.now.Add(routeFor).Truncate(time.Second).UnixMilli()})
}

// propose makes proposals of bob's client.
func (p *pair) propose(proposals ...mls.Proposal) *wire.HandshakeBundle {
	p.t.Helper()
	v, leaf := p.view(p.b), p.leaf()
	var messages []wire.Message
	for _, one := range proposals {
		m, _, _, err := v.group.Propose(p.b.relay.Rand, p.now, mls.ProposeParams{Leaf: leaf, Proposal: one, AAD: room.HandshakeAAD(v.group.Dictionary())})
		must0(p.t, err)
		messages = append(messages, wire.NewMessage(m))
	}
	p.b.relay.Forget() // the group in memory knows them now
	return &wire.HandshakeBundle{Message: messages[0], MoreProposals: messages[1:]}
}

// A basic credential is believed because its leaf came from the provider whose user it names: a KeyPackage in the name of
// another provider's user, or of one of ours, must have come through the hub (S000-011, draft-ietf-mimi-protocol-06 §5.2).
// Otherwise whoever may invite could bring a client of its own in anybody's name, without asking them.
func TestClientsInTheNameOfOthers(t *testing.T) {
	p := newPair(t, warm, "c.example").begin()
	role := p.view(p.a).policy.RoleIndex("mimi://b.example/u/bob")
	add := func(user wire.IdentifierURI, kp *mls.KeyPackage) []mls.Proposal {
		list := []mls.Proposal{{Type: mls.ProposalAdd, Add: kp}}
		if p.view(p.a).policy.RoleIndex(string(user)) == policy.RoleNone {
			list = append(list, listUpdate(policy.ParticipantListUpdate{Added: []policy.UserRolePair{{User: string(user), Role: role}}}))
		}
		return list
	}
	for _, who := range []string{"c.example/d/carol", "a.example/d/trudy", "a.example/d/alice", "B.example.c.example/d/bob"} {
		client := wire.IdentifierURI("mimi://" + who + "/forged")
		u, err := client.Parse()
		must0(t, err)
		user, _ := u.User()
		p.refusedUpdate("a commit with a client of "+string(user), "b.example", p.forge(add(user, p.madeUp(client))...), wire.UpdateNotAllowed)
		p.refusedUpdate("proposals of a client of "+string(user), "b.example", p.propose(add(user, p.madeUp(client))...), wire.UpdateNotAllowed)
	}
	// Those of our own users count when they were claimed, and for this room.
	p.a.hs.users[p.a.hs.mxid("trudy")] = true
	trudy := wire.IdentifierURI("mimi://a.example/u/trudy")
	p.refusedUpdate("a KeyPackage that was claimed for another room", "b.example", p.forge(add(trudy, p.claimed(p.a, p.b, p.bob, trudy, "mimi://a.example/r/other"))...),
		wire.UpdateNotAllowed)
	p.accepted("a KeyPackage that was claimed", p.forge(add(trudy, p.claimed(p.a, p.b, p.bob, trudy, p.view(p.a).uri()))...))
	// B answers for its own users, whose KeyPackages it need not fetch anywhere.
	p.accepted("a client of B's own", p.forge(add("mimi://b.example/u/dave", p.madeUp("mimi://b.example/d/dave/new"))...))
}

// accepted sends an update as B and demands that it is taken, and that B hears of it.
func (p *pair) accepted(what string, b *wire.HandshakeBundle) {
	p.t.Helper()
	r, err := p.a.serve("b.example", verbUpdate, string(p.view(p.a).uri()), b.Marshal())
	must0(p.t, err)
	answer, err := wire.UnmarshalUpdateRoomResponse(r.Body)
	must0(p.t, err)
	p.equal(what, answer.ResponseCode, wire.UpdateSuccess)
	p.settle()
}

// claimed is a KeyPackage of a user of one bridge that somebody of another claims for a room.
func (p *pair) claimed(of, by *node, who string, target, roomURI wire.IdentifierURI) *mls.KeyPackage {
	p.t.Helper()
	client, err := by.relay.client(context.Background(), who)
	must0(p.t, err)
	q := wire.KeyMaterialRequest{RequestingUser: wire.IdentifierURI(client.UserURI), TargetUser: target, RoomID: roomURI,
		AcceptableSuites: []mls.Suite{client.Key.Suite()}, RequesterCredential: client.Credential}
	must0(p.t, q.Sign(client.Key))
	r, err := of.relay.KeyMaterial(context.Background(), by.domain, q.Marshal())
	must0(p.t, err)
	received, err := wire.UnmarshalKeyMaterialResponse(r.Body)
	must0(p.t, err)
	answer, err := received.Check(&q)
	must0(p.t, err)
	if len(answer.Clients) != 1 || answer.Clients[0].KeyPackage == nil {
		p.t.Fatalf("no KeyPackage of %s: %s", target, answer.UserStatus)
	}
	return answer.Clients[0].KeyPackage
}

// Consent may be for one room, and a KeyPackage is for one: a hub that claims it for one room and uses it in another does not get
// the user into that (S004-022, draft-ietf-mimi-protocol-06 §5.2).
func TestKeyPackagesAreForTheRoomTheyWereClaimedFor(t *testing.T) {
	for _, c := range []struct {
		claimed, to wire.IdentifierURI
		in          bool
		alert       string
	}{
		{"", "", true, "[]"},
		{"the room", "", true, "[]"},
		{"mimi://a.example/r/other", "", false, "[welcome: a Welcome of a.example uses a KeyPackage that was claimed for another room]"},
		{"", "mimi://a.example/r/other", false, "[welcome: a room of a.example was not joined: it says that it is another room]"},
	} {
		p := newPair(t, warm).begin()
		p.b.hs.users[p.b.hs.mxid("dave")] = true
		v := p.view(p.a)
		uri := v.uri()
		if c.claimed == "the room" {
			c.claimed = uri
		}
		kp := p.claimed(p.b, p.a, p.alice, "mimi://b.example/u/dave", c.claimed)
		leaf, _ := v.ownLeaf("mimi://a.example/u/alice")
		staged, err := v.group.StageCommit(p.a.relay.Rand, p.now, mls.CommitParams{Leaf: leaf, AAD: room.HandshakeAAD(v.group.Dictionary()), Proposals: []mls.Proposal{
			{Type: mls.ProposalAdd, Add: kp},
			listUpdate(policy.ParticipantListUpdate{Added: []policy.UserRolePair{{User: "mimi://b.example/u/dave", Role: policy.RoleMember}}})}})
		must0(t, err)
		welcome, err := mls.UnmarshalMLSMessage(staged.Welcome())
		must0(t, err)
		item := hub.WelcomeItem(1<<41, welcome.Welcome, staged.Tree())
		_, err = p.b.serve("a.example", verbNotify, string(uri), wire.MarshalNotify([]wire.FanoutMessage{{Timestamp: 1 << 41, Message: wire.NewMessage(staged.Commit())}}))
		must0(t, err)
		_, err = p.b.serve("a.example", verbNotify, string(cmp.Or(c.to, uri)), item.Marshal())
		must0(t, err)
		p.settle()
		_, in := p.view(p.b).ownLeaf("mimi://b.example/u/dave")
		p.equal("dave is in with a KeyPackage claimed for "+string(c.claimed), in, c.in)
		p.equal("alerts", fmt.Sprint(p.b.alerts), c.alert)
	}
}

// What comes with a commit must be of that commit: its GroupInfo, the tree that later joiners get, and a Welcome for all who are added and nobody
// else (S004-026, S004-027).
func TestBundlesThatDoNotFit(t *testing.T) {
	p := newPair(t, warm).begin()
	added := policy.ParticipantListUpdate{}
	var adds []mls.Proposal
	for _, who := range []string{"dave", "frank"} {
		added.Added = append(added.Added, policy.UserRolePair{User: "mimi://b.example/u/" + who, Role: policy.RoleMember})
		adds = append(adds, mls.Proposal{Type: mls.ProposalAdd, Add: p.madeUp(wire.IdentifierURI("mimi://b.example/d/" + who + "/x"))})
	}
	good := func() *wire.HandshakeBundle { return p.forge(append(adds, listUpdate(added))...) }
	other := p.forge()

	lied := good()
	lied.Tree = other.Tree
	p.refusedUpdate("the tree of another commit", "b.example", lied, wire.UpdateNotAllowed)
	lied = good()
	lied.GroupInfo = other.GroupInfo
	p.refusedUpdate("the GroupInfo of another commit", "b.example", lied, wire.UpdateNotAllowed)
	lied = good()
	lied.GroupInfo = &wire.GroupInfoOption{Full: broken(lied.GroupInfo.Full)}
	p.refusedUpdate("a GroupInfo that nobody signed", "b.example", lied, wire.UpdateNotAllowed)
	lied = good()
	lied.GroupInfo = &wire.GroupInfoOption{Partial: broken(lied.GroupInfo.Full).Partial(false)}
	p.refusedUpdate("a partial GroupInfo that nobody signed", "b.example", lied, wire.UpdateNotAllowed)
	lied = good()
	lied.Welcome = nil
	p.refusedUpdate("clients without a Welcome", "b.example", lied, wire.UpdateNotAllowed)
	lied = good()
	lied.Welcome.Secrets = lied.Welcome.Secrets[:1]
	p.refusedUpdate("a Welcome that leaves one out", "b.example", lied, wire.UpdateNotAllowed)
	lied = good()
	stranger := lied.Welcome.Secrets[0]
	stranger.NewMember = append([]byte{1}, stranger.NewMember[1:]...)
	lied.Welcome.Secrets = append(lied.Welcome.Secrets, stranger)
	p.refusedUpdate("a Welcome for somebody else", "b.example", lied, wire.UpdateNotAllowed)
	other.Welcome = good().Welcome
	p.refusedUpdate("a Welcome of nobody who is added", "b.example", other, wire.UpdateNotAllowed)
	p.accepted("all of one commit", good())
	partial := p.forge()
	partial.GroupInfo = &wire.GroupInfoOption{Partial: partial.GroupInfo.Full.Partial(false)}
	p.accepted("a partial GroupInfo", partial)
	p.talk(1)
}

// broken is a GroupInfo with another signature.
func broken(info *mls.GroupInfo) *mls.GroupInfo {
	b := info.Marshal()
	b[len(b)-1] ^= 1
	out, err := mls.UnmarshalGroupInfo(b)
	if err != nil {
		panic(err)
	}
	return out
}

// A message that comes a second time, for somebody else, is no message that cannot be read: whoever takes part could have the room
// told so with any message of others. It is passed on once, and who sent it hears the same again (RFC 9420 §9.1).
func TestMessageBroughtAgainByAnother(t *testing.T) {
	p := newPair(t, warm).begin()
	dave := wire.IdentifierURI("mimi://b.example/u/dave")
	p.accepted("dave", p.forge(mls.Proposal{Type: mls.ProposalAdd, Add: p.madeUp("mimi://b.example/d/dave/x")},
		listUpdate(policy.ParticipantListUpdate{Added: []policy.UserRolePair{{User: string(dave), Role: policy.RoleMember}}})))
	sent := p.overhears()
	p.b.hs.say(p.portal, p.bob, "once")
	p.settle()
	shown := p.a.hs.texts(p.room)
	p.last("A", shown, local(p.bobAtA)+": once")
	once := p.repeats(*sent, bobURI) // still known by the request
	p.equal("of dave", p.repeats(*sent, dave).StatusCode, wire.SubmitNotAllowed)
	p.now = p.now.Add(keepAnswers + time.Minute)
	_, err := p.a.db.Cleanup(t.Context(), store.DefaultRetention, p.now, 1000, 1)
	must0(t, err)
	p.equal("a day later", p.repeats(*sent, bobURI), once)
	p.equal("of dave, a day later", p.repeats(*sent, dave).StatusCode, wire.SubmitNotAllowed)
	p.equal("A, when it was brought again", p.a.hs.texts(p.room), shown)
	p.talk(1)
}

// overhears returns where the last message is that B submitted.
func (p *pair) overhears() *wire.Message {
	sent := new(wire.Message)
	p.fault = func(_, _, verb string, body []byte) fault {
		if received, err := wire.UnmarshalSubmitMessageRequest(body); verb == verbSubmitMessage && err == nil {
			q, err := received.Check("b.example")
			must0(p.t, err)
			*sent = q.Message
		}
		return deliver
	}
	return sent
}

// repeats submits a message of B again to A, which answers it and passes nothing on.
func (p *pair) repeats(m wire.Message, sender wire.IdentifierURI) wire.SubmitMessageResponse {
	p.t.Helper()
	id, notified := p.view(p.a).head.ID, p.calls[verbNotify]
	log, err := p.a.db.RoomLog(p.t.Context(), id, 0, 1000)
	must0(p.t, err)
	r, err := p.a.serve("b.example", verbSubmitMessage, string(p.view(p.a).uri()), (&wire.SubmitMessageRequest{Message: m, SendingURI: sender}).Marshal())
	must0(p.t, err)
	p.settle()
	a, err := wire.UnmarshalSubmitMessageResponse(r.Body)
	must0(p.t, err)
	after, err := p.a.db.RoomLog(p.t.Context(), id, 0, 1000)
	must0(p.t, err)
	p.equal("accepted anew, passed on", []int{len(after) - len(log), p.calls[verbNotify] - notified}, []int{0, 0})
	return *a
}

// A hub whose own people want nothing of a direct chat cannot read what it passes on, and passes each message on once all the same.
func TestMessageBroughtAgainToAHubThatReadsNothing(t *testing.T) {
	p := newPair(t, warm)
	p.aloneAndLeaving(t)
	p.settle()
	p.b.hs.say(p.portal, p.bob, "are you there?") // commits that she leaves
	p.settle()
	p.equal("clients of A", p.view(p.a).group.OwnCount(), 0)
	sent := p.overhears()
	p.b.hs.say(p.portal, p.bob, "hello?")
	p.settle()
	once := p.repeats(*sent, bobURI)
	p.equal("status", once.StatusCode, wire.SubmitAccepted)
	p.now = p.now.Add(keepAnswers + time.Minute)
	_, err := p.a.db.Cleanup(t.Context(), store.DefaultRetention, p.now, 1000, 1)
	must0(t, err)
	p.equal("a day later", p.repeats(*sent, bobURI), once)
}

// A hub that lets somebody in in the name of a user here does not make the user say anything here: the bridge knows its clients
// (S000-011).
func TestMessageInTheNameOfOneOfOurs(t *testing.T) {
	p := newPair(t, warm).begin()
	v := p.view(p.a)
	const client = "mimi://b.example/d/bob/forged"
	key, err := mls.GenerateSignatureKey(p.a.relay.Rand, v.group.Suite())
	must0(t, err)
	kp, err := puppets.NewKeyPackage(p.a.relay.Rand, p.now, puppets.Client{ClientURI: client, Credential: puppets.BasicCredential(client), Key: key}, false)
	must0(t, err)
	leaf, _ := v.ownLeaf("mimi://a.example/u/alice")
	staged, err := v.group.StageCommit(p.a.relay.Rand, p.now, mls.CommitParams{Leaf: leaf, AAD: room.HandshakeAAD(v.group.Dictionary()),
		Proposals: []mls.Proposal{{Type: mls.ProposalAdd, Add: kp.Public}}})
	must0(t, err)
	welcome, err := mls.UnmarshalMLSMessage(staged.Welcome())
	must0(t, err)
	g, leaves, err := mls.JoinWelcome(p.now, v.mlsc, mls.JoinParams{Welcome: welcome.Welcome, Tree: staged.Tree(),
		Keys: []mls.JoinKey{{KeyPackage: kp.Public, Private: kp.Private}}})
	must0(t, err)
	_, err = p.b.serve("a.example", verbNotify, string(v.uri()), wire.MarshalNotify([]wire.FanoutMessage{
		{Timestamp: uint64(p.now.UnixMilli()), Message: wire.NewMessage(staged.Commit())}, *p.said(g, leaves[0], "forged words")}))
	must0(t, err)
	p.settle()
	p.equal("the client is in the group", len(p.view(p.b).leaves.Of("mimi://b.example/u/bob")), 2)
	p.equal("what is shown", p.b.hs.texts(p.portal), []string{})
	p.equal("alerts", len(p.b.alerts), 1)
}

// What a hub has accepted counts at once, before it is committed (draft-ietf-mimi-protocol-06 §7.1, S004-047): who is leaving says,
// claims and commits nothing any more.
func TestProposalsCountAtOnce(t *testing.T) {
	p := newPair(t, warm).begin()
	bob := wire.IdentifierURI("mimi://b.example/u/bob")
	leaving := p.propose(listUpdate(policy.ParticipantListUpdate{Removed: []uint32{uint32(p.view(p.a).policy.Participants.Index(string(bob)))}}),
		mls.Proposal{Type: mls.ProposalSelfRemove})
	commit := p.forge()
	v := p.view(p.a)
	s := &step{Relay: p.a.relay, now: p.now, room: v, ctx: context.Background()}
	says := func() wire.SubmitResponseCode {
		m, _, err := p.view(p.b).group.Protect(p.b.relay.Rand, p.leaf(), []byte("x"), room.MessageAAD(v.group.Dictionary(), []byte("salt"), []byte("x")), 0)
		must0(t, err)
		return hub.SubmitMessage(p.now, s.hubRoom(), nil, &wire.SubmitMessageRequest{Message: wire.NewMessage(m.Message), SendingURI: bob}).Response.StatusCode
	}
	claims := func() string {
		q := &wire.KeyMaterialRequest{RequestingUser: bob, TargetUser: "mimi://c.example/u/carol", RequesterCredential: puppets.BasicCredential("mimi://b.example/d/bob/bridge")}
		return hub.KeyMaterial(s.hubRoom(), "b.example", q)
	}
	p.equal("before: a message", says(), wire.SubmitAccepted)
	p.equal("before: a claim", claims(), "")
	verdict := hub.Update(p.now, s.hubRoom(), "b.example", leaving, nil)
	p.equal("the proposal", verdict.Response.ResponseCode, wire.UpdateSuccess)
	p.equal("afterwards: a message", says(), wire.SubmitNotAllowed)
	p.equal("afterwards: a claim", claims() != "", true)
	p.equal("afterwards: a commit", hub.Update(p.now, s.hubRoom(), "b.example", commit, nil).Response.ResponseCode, wire.UpdateNotAllowed)
	p.a.relay.Forget()
	p.b.relay.Forget()
}

// leaf is that of bob's client.
func (p *pair) leaf() mls.LeafIndex {
	p.t.Helper()
	leaf, ok := p.view(p.b).ownLeaf("mimi://b.example/u/bob")
	if !ok {
		p.t.Fatal("bob has no leaf")
	}
	return leaf
}

// Neither a commit nor a proposal brings in somebody of a domain that the Matrix room's server ACL keeps out, or that is blocked, also when
// they were asked for before.
func TestServerACLHoldsForCommits(t *testing.T) {
	p := newPair(t, warm, "c.example").begin()
	const eve = "mimi://c.example/u/eve"
	p.nodes["c.example"].hs.users[p.nodes["c.example"].hs.mxid("eve")] = true
	add := []mls.Proposal{{Type: mls.ProposalAdd, Add: p.claimed(p.a, p.b, p.bob, eve, p.view(p.a).uri())},
		listUpdate(policy.ParticipantListUpdate{Added: []policy.UserRolePair{{User: eve, Role: policy.RoleMember}}})}
	p.a.hs.set(p.room, p.alice, event.TypeServerACL, map[string]any{"allow": []string{"*"}, "deny": []string{"c.example"}})
	p.settle()
	p.refusedUpdate("a client of a domain that is denied", "b.example", p.forge(add...), wire.UpdateNotAllowed)
	p.refusedUpdate("one that is proposed", "b.example", p.propose(add...), wire.UpdateNotAllowed)
	p.a.hs.set(p.room, p.alice, event.TypeServerACL, map[string]any{"allow": []string{"*"}})
	p.settle()
	p.a.relay.Blocked = func(domain string) bool { return domain == "c.example" }
	p.refusedUpdate("a client of a provider that is blocked", "b.example", p.forge(add...), wire.UpdateNotAllowed)
	p.refusedUpdate("one that is proposed", "b.example", p.propose(add...), wire.UpdateNotAllowed)
	p.a.relay.Blocked = nil
	p.accepted("the same when it is not", p.forge(add...))
}

// What a hub vouches for counts when all of it fits: tag, key, hub, sender, room and time (draft-ietf-mimi-protocol-06 §5.4.1.3).
func TestWhatAFrankProves(t *testing.T) {
	p := newPair(t, warm).begin()
	g, at := p.view(p.b).group, uint64(p.now.UnixMilli())
	franker := (&step{Relay: p.a.relay, room: p.view(p.a)}).franker()
	salt, data := []byte("salt"), []byte("data")
	c := wire.FrankingContext{SenderURI: "mimi://b.example/u/bob", RoomURI: p.view(p.a).uri(), AcceptedTimestamp: at}
	tag := wire.NewFrankingTag(salt, data)
	frank, err := wire.NewFrank(franker.Secret, franker.Key, tag, c)
	must0(t, err)
	message := func(aad []byte) wire.Message {
		m := mls.PrivateMessage{GroupID: g.GroupID(), Epoch: g.Epoch(), ContentType: mls.ContentApplication, AuthenticatedData: aad}
		return wire.NewMessage(m.Message())
	}
	good := func() (*wire.FanoutMessage, string, wire.FrankingContext, []byte) {
		return &wire.FanoutMessage{Timestamp: at, Message: message(tag.AuthenticatedData()), Frank: frank}, "a.example", c, data
	}
	for what, change := range map[string]func(item *wire.FanoutMessage, hub *string, c *wire.FrankingContext, data *[]byte){
		"":         nil,
		"no frank": func(item *wire.FanoutMessage, _ *string, _ *wire.FrankingContext, _ *[]byte) { item.Frank = nil },
		"no tag": func(item *wire.FanoutMessage, _ *string, _ *wire.FrankingContext, _ *[]byte) {
			item.Message = message([]byte{0})
		},
		"other data":  func(_ *wire.FanoutMessage, _ *string, _ *wire.FrankingContext, data *[]byte) { *data = []byte("else") },
		"another hub": func(_ *wire.FanoutMessage, hub *string, _ *wire.FrankingContext, _ *[]byte) { *hub = "c.example" },
		"other sender": func(_ *wire.FanoutMessage, _ *string, c *wire.FrankingContext, _ *[]byte) {
			c.SenderURI = "mimi://b.example/u/eve"
		},
		"other room": func(_ *wire.FanoutMessage, _ *string, c *wire.FrankingContext, _ *[]byte) { c.RoomURI += "2" },
		"other time": func(_ *wire.FanoutMessage, _ *string, c *wire.FrankingContext, _ *[]byte) { c.AcceptedTimestamp++ },
		"other frank": func(item *wire.FanoutMessage, _ *string, _ *wire.FrankingContext, _ *[]byte) {
			item.Frank = &wire.Frank{ServerFrank: [32]byte{1}, Suite: frank.Suite, Signature: frank.Signature}
		},
	} {
		item, hub, c, data := good()
		if change != nil {
			change(item, &hub, &c, &data)
		}
		if err := follower.CheckFrank(g, hub, item, c, salt, data); (err == nil) != (what == "") || err != nil && !errors.Is(err, follower.ErrUnfranked) {
			t.Errorf("%q: %v", what, err)
		}
	}
}

// What a role does not allow and the hub cannot see is not shown by who receives it (S003-056); whether somebody may speak at all is
// for the hub to say, which knows when.
func TestWhatARoleDoesNotAllowIsNotShown(t *testing.T) {
	p := newPair(t, warm).begin()
	s := &step{Relay: p.b.relay, room: p.view(p.b), ctx: context.Background()}
	data := s.room.policy.Dictionary()
	roles := s.room.policy.Roles
	for i := range roles {
		roles[i].Capabilities = slices.DeleteFunc(slices.Clone(roles[i].Capabilities), func(c policy.Capability) bool {
			return slices.Contains([]policy.Capability{policy.CanSendMessage, policy.CanReplyToMessage, policy.CanStartTopic, policy.CanUploadImage}, c)
		})
	}
	data[policy.ComponentRoles] = roles.Marshal()
	var err error
	s.room.policy, err = policy.ParseState(func(c uint16) ([]byte, bool) { d, there := data[c]; return d, there })
	must0(t, err)
	text := content.SinglePart{ContentType: content.TypePlain, Content: []byte("x")}
	for what, c := range map[string]struct {
		m     content.Message
		shown bool
	}{
		"a text":     {content.Message{Body: content.Part{Disposition: content.Render, Body: text}}, true},
		"a reaction": {content.Message{InReplyTo: content.MessageID{1, 2}, Body: content.Part{Disposition: content.Reaction, Body: text}}, true},
		"a reply":    {content.Message{InReplyTo: content.MessageID{1, 2}, Body: content.Part{Disposition: content.Render, Body: text}}, false},
		"a topic":    {content.Message{TopicID: []byte("t"), Body: content.Part{Disposition: content.Render, Body: text}}, false},
		"an image":   {content.Message{Body: content.Part{Disposition: content.Render, Body: content.ExternalPart{ContentType: "image/png"}}}, false},
	} {
		in := &mapping.Incoming{Message: &c.m, SenderURI: "mimi://a.example/u/alice"}
		p.equal(what, s.mayShow(in, &linkFinder{s: s}), c.shown)
	}
	p.b.relay.Forget()
}

// said is a message of a leaf as a hub fans it out.
func (p *pair) said(g *mls.Group, leaf mls.LeafIndex, text string) *wire.FanoutMessage {
	p.t.Helper()
	octets, err := (&content.Message{Salt: content.Salt{1}, Extensions: content.Extensions{}, Body: content.Part{Disposition: content.Render,
		Body: content.SinglePart{ContentType: content.TypePlain, Content: []byte(text)}}}).Marshal()
	must0(p.t, err)
	data := mls.FrameApplicationData(g.Dictionary(), mls.MediaType{}, octets)
	m, _, err := g.Protect(p.a.relay.Rand, leaf, data, room.MessageAAD(g.Dictionary(), []byte{1}, data), 0)
	must0(p.t, err)
	return &wire.FanoutMessage{Timestamp: uint64(p.now.UnixMilli()), Message: wire.NewMessage(m.Message)}
}
