package mls

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// pair is alice's group and a pool with bob and carol, both restarted from their stored form now and then.
type pair struct {
	t    *testing.T
	rand interface{ Read([]byte) (int, error) }
	a    *held // alice, leaf 0
	p    *held // bob and carol, leaves 1 and 2
	view *held
}

func newPair(t *testing.T, extensions Extensions) *pair {
	r := testRand(5)
	alice := newTestClient(t, r, testSuite, "alice")
	a := newTestGroup(t, r, alice, extensions)
	var adds []Proposal
	var keys []JoinKey
	for _, name := range []string{"bob", "carol"} {
		k := newTestClient(t, r, testSuite, name).keyPackage(t, r)
		keys = append(keys, k)
		adds = append(adds, Proposal{Type: ProposalAdd, Add: k.KeyPackage})
	}
	s, err := a.StageCommit(r, testNow, CommitParams{Leaf: 0, Proposals: adds})
	must(t, s, err)
	p, _, err := JoinWelcome(testNow, testConfig(), JoinParams{Welcome: message(t, s.Welcome()).Welcome, Tree: s.Tree(), Keys: keys})
	must(t, p, err)
	view, err := NewPublicGroup(testNow, testConfig(), PublicGroupParams{GroupInfo: message(t, s.GroupInfo()).GroupInfo, Tree: s.Tree()})
	must(t, view, err)
	_, err = a.Merge(testNow, s)
	must(t, 0, err)
	return &pair{t: t, rand: r, a: hold(t, a), p: hold(t, p), view: hold(t, view)}
}

// commit lets an own leaf of from commit and all others follow.
func (x *pair) commit(from *held, params CommitParams) *Staged {
	x.t.Helper()
	s, err := from.StageCommit(x.rand, testNow, params)
	must(x.t, s, err)
	for _, h := range []*held{x.a, x.p, x.view} {
		if h != from {
			h.receive(s.Commit())
			h.restart()
		}
	}
	from.merge(s, nil)
	from.restart()
	x.same()
	return s
}

func (x *pair) same() {
	x.t.Helper()
	if !x.a.SamePublicState(x.p.Group) || !x.a.SamePublicState(x.view.Group) || !bytes.Equal(x.a.EpochAuthenticator(), x.p.EpochAuthenticator()) {
		x.t.Fatal("groups differ")
	}
}

// propose lets an own leaf of from propose and all others receive it.
func (x *pair) propose(from *held, leaf LeafIndex, p Proposal) (message, ref []byte) {
	x.t.Helper()
	message, ref, c, err := from.Propose(x.rand, testNow, ProposeParams{Leaf: leaf, Proposal: p})
	must(x.t, 0, err)
	from.apply(c)
	x.spread(from, message)
	return message, ref
}

func (x *pair) spread(from *held, message []byte) {
	x.t.Helper()
	for _, h := range []*held{x.a, x.p, x.view} {
		if h != from {
			_, c, err := h.ReceiveProposal(testNow, message)
			must(x.t, 0, err)
			h.apply(c)
		}
	}
}

func appUpdate(data string) Proposal {
	return Proposal{Type: ProposalAppDataUpdate, AppDataUpdate: &AppDataUpdate{Component: testComponent, Operation: AppDataUpdateSet, Update: []byte(data)}}
}

func TestAppDataUpdate(t *testing.T) {
	x := newPair(t, testExtensions())
	_, ref := x.propose(x.p, 2, appUpdate("by reference "))
	s := x.commit(x.a, CommitParams{Leaf: 0, Refs: [][]byte{ref}, Proposals: []Proposal{appUpdate("by value "), appUpdate("and again")}})
	if c := message(t, s.Commit()).Public.Content.Commit; c.Path != nil {
		t.Error("app data needs no path")
	}
	want := "by reference by value and again"
	for _, h := range []*held{x.a, x.p, x.view} {
		if got, _ := h.Dictionary().Get(testComponent); string(got) != want {
			t.Errorf("component is %q, want %q", got, want)
		}
	}
	remove := Proposal{Type: ProposalAppDataUpdate, AppDataUpdate: &AppDataUpdate{Component: testComponent, Operation: AppDataUpdateRemove}}
	// GroupContextExtensions may stand beside it when it repeats the dictionary as it is.
	gce := Proposal{Type: ProposalGroupContextExtensions, GroupContextExtensions: x.a.Context().Extensions}
	x.commit(x.p, CommitParams{Leaf: 1, Proposals: []Proposal{remove, gce}})
	if _, there := x.view.Dictionary().Get(testComponent); there {
		t.Error("component is still there")
	}
	// New rules for members: everybody lists testComponent in app_components.
	list := Proposal{Type: ProposalAppDataUpdate, AppDataUpdate: &AppDataUpdate{Component: ComponentAppComponents, Operation: AppDataUpdateSet,
		Update: ComponentsList{testComponent, ComponentSafeAAD}.Marshal()}}
	x.commit(x.p, CommitParams{Leaf: 1, Proposals: []Proposal{list}})
}

// Without app_data_dictionary in the GroupContext, an update puts it there, if all members support it.
func TestAppDataUpdateCreatesDictionary(t *testing.T) {
	x := newPair(t, nil)
	x.commit(x.a, CommitParams{Leaf: 0, Proposals: []Proposal{appUpdate("x")}})
	if got, _ := x.view.Dictionary().Get(testComponent); string(got) != "x" {
		t.Errorf("component is %q", got)
	}
}

func TestAppEphemeral(t *testing.T) {
	x := newPair(t, testExtensions())
	p := Proposal{Type: ProposalAppEphemeral, AppEphemeral: &AppEphemeral{Component: ComponentAppAck, Data: []byte("ack")}}
	before := x.a.Context().Extensions.Marshal()
	s := x.commit(x.p, CommitParams{Leaf: 2, Proposals: []Proposal{p}})
	if message(t, s.Commit()).Public.Content.Commit.Path != nil {
		t.Error("AppEphemeral needs no path")
	}
	if list := s.Proposals(); len(list) != 1 || string(list[0].Proposal.AppEphemeral.Data) != "ack" {
		t.Errorf("proposals %+v", list)
	}
	if !bytes.Equal(x.a.Context().Extensions.Marshal(), before) {
		t.Error("AppEphemeral changed the GroupContext")
	}
}

func TestSelfRemove(t *testing.T) {
	x := newPair(t, testExtensions())
	m, ref, c, err := x.p.ProposeSelfRemove(x.rand, testNow, 2, nil)
	must(t, ref, err)
	x.p.apply(c)
	x.spread(x.p, m)
	if _, _, _, err := x.p.ProposeSelfRemove(x.rand, testNow, 2, SafeAAD{{Component: 1}}.Marshal()); !errors.Is(err, ErrProposal) {
		t.Errorf("second SelfRemove: %v", err)
	}
	if _, err := x.a.StageCommit(x.rand, testNow, CommitParams{Leaf: 0, Proposals: []Proposal{{Type: ProposalRemove, Remove: 2}}}); !errors.Is(err, ErrProposalList) {
		t.Errorf("Remove beside SelfRemove: %v", err)
	}
	if _, _, _, err := x.p.Propose(x.rand, testNow, ProposeParams{Leaf: 1, Proposal: Proposal{Type: ProposalSelfRemove}, Private: true}); !errors.Is(err, ErrWireFormat) {
		t.Errorf("SelfRemove in a PrivateMessage: %v", err)
	}
	// The one that leaves cannot commit its own departure.
	own, err := x.p.StageCommit(x.rand, testNow, CommitParams{Leaf: 2})
	must(t, own, err)
	if len(own.Proposals()) != 0 {
		t.Error("the leaving member commits its own SelfRemove")
	}
	s := x.commit(x.a, CommitParams{Leaf: 0}) // nobody asked for it to be included
	if removed := s.Removed(); len(removed) != 1 || removed[0].Index != 2 || string(removed[0].Leaf.Credential.Identity) != "carol" {
		t.Errorf("removed %+v", removed)
	}
	if message(t, s.Commit()).Public.Content.Commit.Path == nil {
		t.Error("SelfRemove needs a path")
	}
	if own := x.p.OwnLeaves(); !slices.Equal(own, []LeafIndex{1}) {
		t.Errorf("own leaves %v", own)
	}
}

// An external joiner includes the SelfRemove that it was given.
func TestSelfRemoveInExternalCommit(t *testing.T) {
	x := newPair(t, testExtensions())
	m, _, c, err := x.p.ProposeSelfRemove(x.rand, testNow, 1, nil)
	must(t, m, err)
	x.p.apply(c)
	x.spread(x.p, m)
	info, err := x.a.GroupInfo(0, true, nil)
	must(t, info, err)
	r := testRand(6)
	zoe := newTestClient(t, r, testSuite, "zoe")
	s, err := StageExternalCommit(r, testNow, testConfig(), ExternalCommitParams{GroupInfo: message(t, info).GroupInfo, Tree: x.a.RatchetTree(),
		Leaf: zoe.leaf(), SelfRemoves: [][]byte{m}, Proposals: []Proposal{appUpdate("zoe")}})
	must(t, s, err)
	s, err = LoadStagedExternal(testConfig(), s.Marshal())
	must(t, s, err)
	for _, h := range []*held{x.a, x.p, x.view} {
		h.receive(s.Commit())
	}
	x.same()
	z, err := NewGroupFromStaged(testNow, testConfig(), s)
	must(t, z, err)
	if !bytes.Equal(z.EpochAuthenticator(), x.a.EpochAuthenticator()) || s.Committer() != 1 || !slices.Equal(z.OwnLeaves(), []LeafIndex{1}) {
		t.Errorf("zoe joined as %d", s.Committer())
	}
	if got, _ := z.Dictionary().Get(testComponent); string(got) != "zoe" {
		t.Errorf("component is %q", got)
	}
}

func TestSafeAADIsAsked(t *testing.T) {
	x := newPair(t, testExtensions())
	before := pieceMap(x.p.Group)
	if _, _, err := x.p.Protect(x.rand, 1, []byte("x"), []byte("loose"), 0); !errors.Is(err, ErrSafeAAD) {
		t.Errorf("loose AAD: %v", err)
	}
	comparePieces(t, "after a refusal", pieceMap(x.p.Group), before)
	aad := SafeAAD{{Component: ComponentFrankAAD, Data: []byte("frank")}}.Marshal()
	sent, c, err := x.p.Protect(x.rand, 1, []byte("x"), aad, 0)
	must(t, sent, err)
	x.p.apply(c)
	got, c, err := x.a.Unprotect(testNow, sent.Message)
	must(t, got, err)
	x.a.apply(c)
	if !bytes.Equal(got.AAD, aad) {
		t.Errorf("AAD is %x", got.AAD)
	}
	loose := newPair(t, nil)
	sent, _, err = loose.p.Protect(x.rand, 1, []byte("x"), []byte("loose"), 0)
	must(t, sent, err)
}

func TestRequiredWireFormats(t *testing.T) {
	x := newPair(t, testExtensions())
	require := func(f ...WireFormat) error {
		ext := x.a.Context().Extensions.With(ExtensionRequiredWireFormats, WireFormats(f).Marshal())
		_, err := x.a.StageCommit(x.rand, testNow, CommitParams{Leaf: 0,
			Proposals: []Proposal{{Type: ProposalGroupContextExtensions, GroupContextExtensions: ext}}})
		return err
	}
	if err := require(WireFormatPublicMessage, WireFormatSemiPrivateMessage); !errors.Is(err, ErrCapabilities) {
		t.Errorf("a wire format that nobody supports: %v", err)
	}
}

func TestSafeExportSecretOnce(t *testing.T) {
	x := newPair(t, testExtensions())
	one, c, err := x.p.SafeExportSecret(testComponent)
	must(t, one, err)
	x.p.apply(c)
	x.p.restart()
	if _, _, err := x.p.SafeExportSecret(testComponent); !errors.Is(err, ErrConsumed) {
		t.Errorf("second time: %v", err)
	}
	two, c, err := x.a.SafeExportSecret(testComponent)
	must(t, two, err)
	x.a.apply(c)
	if !one.Equal(two) {
		t.Error("members export different secrets")
	}
	if _, _, err := x.view.SafeExportSecret(testComponent); !errors.Is(err, ErrNoSecrets) {
		t.Errorf("public view: %v", err)
	}
	x.commit(x.p, CommitParams{Leaf: 1})
	if _, _, err := x.p.SafeExportSecret(testComponent); err != nil {
		t.Errorf("next epoch: %v", err)
	}
}

// A ReInit closes the group; its successor is bound to it by a resumption PSK (RFC 9420 §11.2).
func TestReInit(t *testing.T) {
	x := newPair(t, testExtensions())
	s := x.commit(x.a, CommitParams{Leaf: 0, Proposals: []Proposal{{Type: ProposalReInit, ReInit: &ReInit{
		GroupID: []byte("next"), Version: VersionMLS10, Suite: testSuite, Extensions: testExtensions()}}}})
	if s.ReInit() == nil || !x.p.Closed() || !x.view.Closed() {
		t.Fatal("the group is not closed")
	}
	if _, _, err := x.p.Protect(x.rand, 1, nil, nil, 0); !errors.Is(err, ErrReInit) {
		t.Errorf("message: %v", err)
	}
	if _, err := x.a.StageCommit(x.rand, testNow, CommitParams{Leaf: 0}); !errors.Is(err, ErrReInit) {
		t.Errorf("commit: %v", err)
	}
	r := testRand(6)
	with := func(h *held) Config {
		cfg := testConfig()
		cfg.PSK = func(id *PreSharedKeyID) Secret {
			if id.Type == PSKResumption && bytes.Equal(id.GroupID, h.GroupID()) {
				return h.ResumptionPSK(id.Epoch)
			}
			return nil
		}
		return cfg
	}
	alice := newTestClient(t, r, testSuite, "alice")
	next, err := NewGroup(r, testNow, with(x.a), GroupParams{Suite: testSuite, GroupID: []byte("next"), Extensions: testExtensions(),
		Creator: alice.leaf(), Lifetime: testLifetime})
	must(t, next, err)
	bob := newTestClient(t, r, testSuite, "bob").keyPackage(t, r)
	id := &PreSharedKeyID{Type: PSKResumption, Usage: ResumptionReInit, GroupID: x.a.GroupID(), Epoch: x.a.Epoch(), Nonce: make([]byte, 32)}
	first, err := next.StageCommit(r, testNow, CommitParams{Leaf: 0, Proposals: []Proposal{{Type: ProposalAdd, Add: bob.KeyPackage}, {Type: ProposalPSK, PSK: id}}})
	must(t, first, err)
	params := JoinParams{Welcome: message(t, first.Welcome()).Welcome, Tree: first.Tree(), Keys: []JoinKey{bob}}
	joined, _, err := JoinWelcome(testNow, with(x.p), params)
	must(t, joined, err)
	_, err = next.Merge(testNow, first)
	must(t, 0, err)
	if !bytes.Equal(joined.EpochAuthenticator(), next.EpochAuthenticator()) {
		t.Error("successors differ")
	}
	if _, _, err := JoinWelcome(testNow, testConfig(), params); !errors.Is(err, ErrMissingPSK) {
		t.Errorf("without the old group: %v", err)
	}
}

// Resumption PSKs of the group's own past come from the group, external ones from the caller.
func TestPreSharedKeys(t *testing.T) {
	x := newPair(t, testExtensions())
	then := x.a.Epoch()
	x.commit(x.p, CommitParams{Leaf: 1})
	ids := []PreSharedKeyID{
		{Type: PSKResumption, Usage: ResumptionApplication, GroupID: x.a.GroupID(), Epoch: then, Nonce: make([]byte, 32)},
		{Type: PSKResumption, Usage: ResumptionApplication, GroupID: x.a.GroupID(), Epoch: then + 1, Nonce: make([]byte, 32)},
		{Type: PSKExternal, ID: []byte("psk"), Nonce: make([]byte, 32)},
	}
	var list []Proposal
	for i := range ids {
		list = append(list, Proposal{Type: ProposalPSK, PSK: &ids[i]})
	}
	x.commit(x.a, CommitParams{Leaf: 0, Proposals: list})
}

// A last-resort KeyPackage may be used for two groups, and is an ordinary one inside each.
func TestLastResortKeyPackage(t *testing.T) {
	r := testRand(3)
	bob := newTestClient(t, r, testSuite, "bob")
	p := bob.leaf()
	kp, private, err := NewKeyPackage(r, KeyPackageParams{Suite: testSuite, Credential: p.Credential, SignatureKey: bob.key,
		Capabilities: p.Capabilities, Lifetime: testLifetime, LeafExtensions: p.Extensions, LastResort: true})
	must(t, kp, err)
	for _, name := range []string{"alice", "anna"} {
		g := newTestGroup(t, r, newTestClient(t, r, testSuite, name), testExtensions())
		s, err := g.StageCommit(r, testNow, CommitParams{Leaf: 0, Proposals: []Proposal{{Type: ProposalAdd, Add: kp}}})
		must(t, s, err)
		_, _, err = JoinWelcome(testNow, testConfig(), JoinParams{Welcome: message(t, s.Welcome()).Welcome, Tree: s.Tree(),
			Keys: []JoinKey{{kp, private}}})
		must(t, 0, err)
	}
}

// An own commit refuses KeyPackages that are not valid at the time; others' commits are not judged by our clock.
func TestLifetimes(t *testing.T) {
	x := newPair(t, testExtensions())
	r := testRand(4)
	old := newTestClient(t, r, testSuite, "old")
	p := old.leaf()
	kp, _, err := NewKeyPackage(r, KeyPackageParams{Suite: testSuite, Credential: p.Credential, SignatureKey: old.key, Capabilities: p.Capabilities,
		Lifetime: Lifetime{NotAfter: uint64(testNow.Unix()) - 1}, LeafExtensions: p.Extensions})
	must(t, kp, err)
	params := CommitParams{Leaf: 0, Proposals: []Proposal{{Type: ProposalAdd, Add: kp}}}
	if _, err := x.a.StageCommit(x.rand, testNow, params); !errors.Is(err, ErrLifetime) {
		t.Errorf("expired KeyPackage: %v", err)
	}
	s, err := x.a.StageCommit(x.rand, testNow.Add(-1e9*10), params)
	must(t, s, err)
	x.p.receive(s.Commit())
}

// What the GroupContext asks for, every member must list: media types, wire formats, components.
func TestMembersMustSupportTheGroup(t *testing.T) {
	r := testRand(12)
	alice, bob := newTestClient(t, r, testSuite, "alice"), newTestClient(t, r, testSuite, "bob")
	media := MediaTypeList{{Type: "application/mimi-content"}}
	semi := WireFormats{WireFormatSemiPrivateMessage}
	shows := func(c *testClient, mediaTypes, wireFormats bool) LeafParams {
		p := c.leaf()
		p.Capabilities.Extensions = append(p.Capabilities.Extensions, ExtensionSupportedWireFormats, ExtensionRequiredWireFormats)
		dict := AppDataDictionary{}
		if mediaTypes {
			dict = dict.Set(ComponentContentMediaTypes, append(MediaTypeList{{Type: "text/plain"}}, media...).Marshal())
		}
		p.Extensions = Extensions{dict.Extension()}
		if wireFormats {
			p.Extensions = append(p.Extensions, Extension{ExtensionSupportedWireFormats, semi.Marshal()})
		}
		return p
	}
	asks := Extensions{AppDataDictionary{}.Set(ComponentContentMediaTypes, media.Marshal()).Extension(),
		Extension{ExtensionRequiredWireFormats, semi.Marshal()}}
	for _, c := range []struct{ media, formats, good bool }{{true, true, true}, {false, true, false}, {true, false, false}} {
		g, err := NewGroup(r, testNow, testConfig(), GroupParams{Suite: testSuite, GroupID: []byte("g"), Extensions: asks,
			Creator: shows(alice, c.media, c.formats), Lifetime: testLifetime})
		if c.good != (err == nil) || err != nil && !errors.Is(err, ErrCapabilities) {
			t.Errorf("creator %+v: %v", c, err)
		}
		if !c.good {
			continue
		}
		for _, b := range []struct{ media, formats, good bool }{{true, true, true}, {false, true, false}, {true, false, false}} {
			p := shows(bob, b.media, b.formats)
			kp, _, err := NewKeyPackage(r, KeyPackageParams{Suite: testSuite, Credential: p.Credential, SignatureKey: bob.key,
				Capabilities: p.Capabilities, Lifetime: testLifetime, LeafExtensions: p.Extensions})
			must(t, kp, err)
			_, err = g.StageCommit(r, testNow, CommitParams{Leaf: 0, Proposals: []Proposal{{Type: ProposalAdd, Add: kp}}})
			if b.good != (err == nil) || err != nil && !errors.Is(err, ErrCapabilities) {
				t.Errorf("added %+v: %v", b, err)
			}
		}
	}
}
