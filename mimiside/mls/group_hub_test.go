package mls

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// A hub without secrets checks what comes with a commit: the GroupInfo, whole or partial, and who is in the group.
func TestHubChecksBundle(t *testing.T) {
	x := newPair(t, testExtensions())
	r := testRand(2)
	dave := newTestClient(t, r, testSuite, "dave").keyPackage(t, r)
	s, err := x.p.StageCommit(x.rand, testNow, CommitParams{Leaf: 1, Path: true, Proposals: []Proposal{{Type: ProposalAdd, Add: dave.KeyPackage}}})
	must(t, s, err)
	seen, err := x.view.StageReceived(testNow, s.Commit())
	must(t, seen, err)
	info := message(t, s.GroupInfo()).GroupInfo
	if err := seen.CheckGroupInfo(info); err != nil {
		t.Error(err)
	}
	full, err := seen.FullGroupInfo(info.Partial(false))
	must(t, full, err)
	if !bytes.Equal(full.Marshal(), info.Marshal()) {
		t.Error("rebuilt GroupInfo differs")
	}
	now, err := x.p.GroupInfo(1, true, nil)
	must(t, now, err)
	if err := seen.CheckGroupInfo(message(t, now).GroupInfo); !errors.Is(err, ErrGroupInfo) {
		t.Errorf("GroupInfo of the epoch before: %v", err)
	}
	again := *info
	again.raw, again.Signature = nil, make([]byte, 64)
	if err := seen.CheckGroupInfo(&again); !errors.Is(err, ErrSignature) {
		t.Errorf("GroupInfo with a bad signature: %v", err)
	}
	again.Signer = 0
	if err := seen.CheckGroupInfo(&again); !errors.Is(err, ErrGroupInfo) {
		t.Errorf("GroupInfo of another signer: %v", err)
	}
	if len(seen.Members()) != 4 || len(seen.Added()) != 1 || seen.Verified() || !s.Verified() {
		t.Errorf("members %d, added %d", len(seen.Members()), len(seen.Added()))
	}
	own := 0
	for _, m := range s.Members() {
		if m.Own {
			own++
		}
	}
	if own != 2 {
		t.Errorf("%d own members", own)
	}
}

func TestCheckKeyPackage(t *testing.T) {
	x := newPair(t, testExtensions())
	r := testRand(2)
	dave := newTestClient(t, r, testSuite, "dave")
	good := dave.keyPackage(t, r).KeyPackage
	for _, h := range []*held{x.a, x.view} {
		before := pieceMap(h.Group)
		if err := h.CheckKeyPackage(testNow, good); err != nil {
			t.Error(err)
		}
		member, _ := h.Member(1)
		if err := h.CheckKeyPackage(testNow.Add(1e9*(1<<32)), good); err != nil {
			t.Error(err)
		}
		if err := h.CheckKeyPackage(time.Unix(1<<41, 0), good); !errors.Is(err, ErrLifetime) {
			t.Errorf("expired: %v", err)
		}
		twice := *good
		twice.Leaf = *member.Leaf
		if err := h.CheckKeyPackage(testNow, &twice); !errors.Is(err, ErrDuplicateKey) {
			t.Errorf("a member: %v", err)
		}
		if m, there := h.MemberBySignatureKey(member.Leaf.SignatureKey); !there || m.Index != 1 {
			t.Errorf("found %+v", m)
		}
		comparePieces(t, "after checks", pieceMap(h.Group), before)
	}
}

// Proposals that do not go together are all kept, since any of them may be committed; a commit takes what does.
func TestCommittable(t *testing.T) {
	x := newPair(t, testExtensions())
	_, removeRef := x.propose(x.a, 0, Proposal{Type: ProposalRemove, Remove: 2})
	m, selfRef, c, err := x.p.ProposeSelfRemove(x.rand, testNow, 2, nil)
	must(t, m, err)
	x.p.apply(c)
	x.spread(x.p, m)
	_, dataRef := x.propose(x.p, 1, appUpdate("x"))
	_, _, _, err = x.p.Propose(x.rand, testNow, ProposeParams{Leaf: 1, Proposal: Proposal{Type: ProposalRemove, Remove: 2}})
	if !errors.Is(err, ErrProposal) {
		t.Errorf("own Remove of a leaf that removes itself: %v", err)
	}
	refs := x.a.Committable(0)
	has := func(ref []byte) bool {
		for _, r := range refs {
			if bytes.Equal(r, ref) {
				return true
			}
		}
		return false
	}
	if has(removeRef) || !has(selfRef) || !has(dataRef) || len(refs) != 2 {
		t.Errorf("%d proposals can be committed", len(refs))
	}
	x.commit(x.a, CommitParams{Leaf: 0, Refs: refs})
	if x.view.MemberCount() != 2 || len(x.view.PendingProposals()) != 0 {
		t.Errorf("%d members", x.view.MemberCount())
	}
}

// After its own commit lost, a group processes the one that won, also when the loser was staged before a restart.
func TestLostCommit(t *testing.T) {
	x := newPair(t, testExtensions())
	lost, err := x.p.StageCommit(x.rand, testNow, CommitParams{Leaf: 1, Proposals: []Proposal{appUpdate("lost")}, Path: true})
	must(t, lost, err)
	kept := lost.Marshal()
	x.p.restart()
	won := x.commit(x.a, CommitParams{Leaf: 0, Proposals: []Proposal{appUpdate("won")}})
	if _, err := x.p.LoadStaged(kept); !errors.Is(err, ErrStaged) {
		t.Errorf("the lost commit: %v", err)
	}
	if _, err := x.p.Merge(testNow, lost); !errors.Is(err, ErrStaged) {
		t.Errorf("merge of the lost commit: %v", err)
	}
	if bytes.Equal(won.ConfirmedTranscriptHash(), lost.ConfirmedTranscriptHash()) || bytes.Equal(lost.Commit(), won.Commit()) {
		t.Error("commits cannot be told apart")
	}
	x.commit(x.p, CommitParams{Leaf: 2})
}

// Messages of epochs that ended are read within the limits, and forgotten after.
func TestPastEpochs(t *testing.T) {
	x := newPair(t, testExtensions())
	var sent [][]byte
	for range 4 {
		p, c, err := x.a.Protect(x.rand, 0, []byte("late"), nil, 0)
		must(t, p, err)
		x.a.apply(c)
		sent = append(sent, p.Message)
		x.commit(x.p, CommitParams{Leaf: 1})
	}
	for i, want := range []error{ErrWrongEpoch, ErrWrongEpoch, nil, nil} {
		if i == 3 { // too late for the last one
			c := x.p.Expire(testNow.Add(DefaultPastAge + time.Second))
			x.p.apply(c)
			want = ErrWrongEpoch
		}
		_, c, err := x.p.Unprotect(testNow, sent[i])
		if !errors.Is(err, want) {
			t.Errorf("message of the %d. epoch: %v, want %v", i, err, want)
		}
		x.p.apply(c)
	}
	if _, _, err := x.p.Unprotect(testNow.Add(DefaultPastAge+time.Second), sent[2]); !errors.Is(err, ErrWrongEpoch) {
		t.Errorf("after the age limit: %v", err)
	}
}

// A leaf that another member takes after an own leaf left it, and the other way round: late messages are told apart.
func TestLeafChangesHands(t *testing.T) {
	x := newPair(t, testExtensions())
	late, c, err := x.a.Protect(x.rand, 0, []byte("from alice"), nil, 0)
	must(t, late, err)
	x.a.apply(c)
	r := testRand(2)
	zoe := newTestClient(t, r, testSuite, "zoe").keyPackage(t, r)
	// Bob removes alice; zoe, who joins the pool, gets her leaf.
	s, err := x.p.StageCommit(x.rand, testNow, CommitParams{Leaf: 1, Proposals: []Proposal{{Type: ProposalRemove, Remove: 0}, {Type: ProposalAdd, Add: zoe.KeyPackage}}})
	must(t, s, err)
	x.p.merge(s, nil)
	leaves, c, err := x.p.AddOwnFromWelcome(testNow, JoinParams{Welcome: message(t, s.Welcome()).Welcome, Keys: []JoinKey{zoe}})
	must(t, leaves, err)
	x.p.apply(c)
	x.p.restart()
	if leaves[0] != 0 {
		t.Fatalf("zoe is at %v", leaves)
	}
	got, c, err := x.p.Unprotect(testNow, late.Message)
	must(t, got, err)
	x.p.apply(c)
	if string(got.Leaf.Credential.Identity) != "alice" {
		t.Errorf("message is from %q", got.Leaf.Credential.Identity)
	}
	mine, c, err := x.p.Protect(x.rand, 0, []byte("from zoe"), nil, 0)
	must(t, mine, err)
	x.p.apply(c)
	if _, _, err := x.p.Unprotect(testNow, mine.Message); !errors.Is(err, ErrOwnMessage) {
		t.Errorf("own message: %v", err)
	}
}

// A stored piece of an unknown version or kind is refused.
func TestStoredVersions(t *testing.T) {
	x := newPair(t, testExtensions())
	_, _ = x.propose(x.p, 1, appUpdate("x"))
	_, _, c, err := x.p.ProposeUpdate(x.rand, testNow, 1, nil, nil)
	must(t, 0, err)
	x.p.apply(c)
	s, err := x.p.StageCommit(x.rand, testNow, CommitParams{Leaf: 2})
	must(t, s, err)
	b := s.Marshal()
	b[0]++
	if _, err := x.p.LoadStaged(b); !errors.Is(err, ErrStateVersion) {
		t.Errorf("staged: %v", err)
	}
	x.commit(x.a, CommitParams{Leaf: 0})
	pieces := pieceMap(x.p.Group)
	for k := range pieces {
		d := pieces[k]
		d[0] += 100
		if _, err := LoadGroup(testConfig(), pieceList(pieces)); !errors.Is(err, ErrStateVersion) {
			t.Errorf("piece %v: %v", k, err)
		}
		d[0] -= 100
		delete(pieces, k)
		switch k.Kind {
		case "group", "epoch", "tree", "exports":
			if _, err := LoadGroup(testConfig(), pieceList(pieces)); err == nil {
				t.Errorf("group loads without piece %v", k)
			}
		}
		pieces[k] = d
	}
	pieces[PieceKey{Kind: "other"}] = Secret{1}
	if _, err := LoadGroup(testConfig(), pieceList(pieces)); !errors.Is(err, ErrStateVersion) {
		t.Errorf("unknown kind: %v", err)
	}
}

// Late messages are read as well after the last own leaf has gone and others have taken leaves meanwhile.
func TestLateMessagesOfPublicView(t *testing.T) {
	x := newPair(t, testExtensions())
	r := testRand(2)
	late, c, err := x.a.Protect(x.rand, 0, []byte("late"), nil, 0)
	must(t, late, err)
	x.a.apply(c)
	zoe := newTestClient(t, r, testSuite, "zoe").keyPackage(t, r)
	step := func(from *Group, leaf LeafIndex, p ...Proposal) *Staged {
		t.Helper()
		s, err := from.StageCommit(x.rand, testNow, CommitParams{Leaf: leaf, Proposals: p})
		must(t, s, err)
		x.p.receive(s.Commit())
		x.p.restart()
		return s
	}
	s := step(x.a.Group, 0, Proposal{Type: ProposalRemove, Remove: 1}, Proposal{Type: ProposalRemove, Remove: 2}, Proposal{Type: ProposalAdd, Add: zoe.KeyPackage})
	if len(x.p.OwnLeaves()) != 0 || x.p.EpochAuthenticator() != nil {
		t.Fatal("the pool still has secrets")
	}
	x.a.merge(s, nil)
	z, _, err := JoinWelcome(testNow, testConfig(), JoinParams{Welcome: message(t, s.Welcome()).Welcome, Tree: s.Tree(), Keys: []JoinKey{zoe}})
	must(t, z, err)
	yan := newTestClient(t, r, testSuite, "yan").keyPackage(t, r)
	step(z, 1, Proposal{Type: ProposalRemove, Remove: 0}, Proposal{Type: ProposalAdd, Add: yan.KeyPackage})
	got, c, err := x.p.Unprotect(testNow, late.Message)
	must(t, got, err)
	x.p.apply(c)
	if string(got.Leaf.Credential.Identity) != "alice" {
		t.Errorf("message is from %q", got.Leaf.Credential.Identity)
	}
}

// The same proposal made twice in an epoch is one: signatures are deterministic, so its ref is the same.
func TestSameProposalTwiceIsOne(t *testing.T) {
	rand := testRand(77)
	alice, bob := newTestClient(t, rand, SuiteX25519AES128Ed25519, "alice"), newTestClient(t, rand, SuiteX25519AES128Ed25519, "bob")
	g := newTestGroup(t, rand, alice, testExtensions())
	staged, err := g.StageCommit(rand, testNow, CommitParams{Leaf: 0, Proposals: []Proposal{{Type: ProposalAdd, Add: bob.keyPackage(t, rand).KeyPackage}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = g.Merge(testNow, staged); err != nil {
		t.Fatal(err)
	}
	remove := ProposeParams{Leaf: 0, Proposal: Proposal{Type: ProposalRemove, Remove: 1}}
	_, first, _, err := g.Propose(rand, testNow, remove)
	if err != nil {
		t.Fatal(err)
	}
	_, second, changes, err := g.Propose(rand, testNow, remove)
	if err != nil || string(first) != string(second) || !changes.Empty() || len(g.PendingProposals()) != 1 {
		t.Fatalf("second time: %v, same ref %t, changes empty %t, %d waiting", err, string(first) == string(second), changes.Empty(), len(g.PendingProposals()))
	}
	if _, err := g.StageCommit(rand, testNow, CommitParams{Leaf: 0, Refs: g.Committable(0)}); err != nil {
		t.Fatal(err)
	}
}
