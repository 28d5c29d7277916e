package mls

import (
	"bytes"
	"slices"
	"testing"
)

// sameAfter runs try against bob's group and the public view and fails when a refused input left a trace.
func (f *forge) sameAfter(t *testing.T, try func(g *Group) error) {
	for _, g := range []*Group{f.bob, f.public} {
		before := pieceMap(g)
		if try(g) != nil {
			comparePieces(t, "after a refusal", pieceMap(g), before)
		}
	}
}

// FuzzCommitAgainstGroup gives a group commits of a member that signs anything: as raw messages, and as Commit structs
// that are framed with a good signature and membership tag.
func FuzzCommitAgainstGroup(f *testing.F) {
	world := newForge(f)
	for _, c := range slices.Concat(world.framing(), world.paths(), world.lists(), world.appData(), world.externals()) {
		f.Add(c.message)
		if m, err := UnmarshalMLSMessage(c.message); err == nil && m.Public != nil && m.Public.Content.Commit != nil {
			f.Add(m.Public.Content.Commit.Marshal())
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		world.t = t
		messages := [][]byte{in}
		if c, err := UnmarshalCommit(bytes.Clone(in)); err == nil {
			messages = append(messages, world.frame(world.content(c), make([]byte, 32)))
		}
		for _, m := range messages {
			for _, g := range []*Group{world.bob, world.public} {
				before := pieceMap(g)
				_, _ = g.StageReceived(testNow, m)
				comparePieces(t, "staging", pieceMap(g), before) // also when it is accepted
			}
		}
	})
}

// FuzzProposalAgainstGroup gives a group proposals of a member that signs anything.
func FuzzProposalAgainstGroup(f *testing.F) {
	world := newForge(f)
	for _, c := range slices.Concat(world.lists(), world.appData()) {
		if m, err := UnmarshalMLSMessage(c.message); err == nil && m.Public != nil {
			for _, p := range m.Public.Content.Commit.Proposals {
				if p.Proposal != nil {
					f.Add(p.Proposal.Marshal())
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		world.t = t
		p, err := UnmarshalProposal(bytes.Clone(in))
		if err != nil {
			return
		}
		m := world.frame(FramedContent{GroupID: world.a.groupID, Epoch: world.a.Epoch(), Sender: MemberSender(0), AuthenticatedData: []byte{0},
			ContentType: ContentProposal, Proposal: p}, nil)
		world.sameAfter(t, func(g *Group) error {
			received, _, err := g.ReceiveProposal(testNow, m)
			if err == nil { // a commit may refer to it
				c := &Commit{Proposals: []ProposalOrRef{{Ref: received.Ref}}}
				_, _ = g.StageReceived(testNow, world.frame(world.content(c), make([]byte, 32)))
				g.pending = &proposalCache{}
			}
			return err
		})
	})
}

// FuzzPrivateMessageAgainstGroup gives a group PrivateMessages of a member that encrypts anything: as raw messages, and
// as sender data and plaintext under good keys.
func FuzzPrivateMessageAgainstGroup(f *testing.F) {
	world := newForge(f)
	sent, _, err := world.a.Protect(world.rand, 0, []byte("hello"), nil, 3)
	must(f, sent, err)
	f.Add(sent.Message, uint32(0), uint32(0))
	f.Add([]byte("\x05hello\x00"), uint32(0), uint32(1<<32-1))
	f.Add([]byte("\x05hello\x00"), uint32(2), uint32(1000))
	f.Add([]byte("\x05hello\x00"), uint32(1<<31), uint32(1001))
	pristine := pieceList(pieceMap(world.bob))
	f.Fuzz(func(t *testing.T, in []byte, leaf, generation uint32) {
		bob, err := LoadGroup(strictConfig(), pristine)
		world.bob = must(t, bob, err)
		e := bob.cur
		m := &PrivateMessage{GroupID: bob.groupID, Epoch: bob.Epoch(), ContentType: ContentApplication, AuthenticatedData: []byte{0}}
		d := senderData{leaf: LeafIndex(leaf), generation: generation}
		if key, err := e.keys.findKey(d.leaf, ratchetApplication, generation, bob.cfg.Limits); err == nil {
			m.Ciphertext = testSuite.newAEAD(key.key.key).Seal(nil, key.key.guarded(d.reuseGuard), in, m.appendAAD(nil))
		} else {
			m.Ciphertext = append(make([]byte, 32), in...)
		}
		k, nonce := senderDataKey(testSuite, e.secrets.senderData, m.Ciphertext)
		m.EncryptedSenderData = testSuite.newAEAD(k).Seal(nil, nonce, d.append(nil), m.senderDataAAD())
		for _, message := range [][]byte{in, m.Message()} {
			world.sameAfter(t, func(g *Group) error {
				_, _, err := g.Unprotect(testNow, message)
				return err
			})
		}
	})
}

// FuzzJoin gives the ways into a group anything: a Welcome with its tree, and a GroupInfo.
func FuzzJoin(f *testing.F) {
	world := newForge(f)
	key := newTestClient(f, world.rand, testSuite, "frank").keyPackage(f, world.rand)
	s, err := world.a.StageCommit(world.rand, testNow, CommitParams{Path: true, Proposals: []Proposal{{Type: ProposalAdd, Add: key.KeyPackage}}})
	must(f, s, err)
	f.Add(s.Welcome(), s.Tree())
	f.Add(s.GroupInfo(), s.Tree())
	f.Add(s.Welcome(), world.a.RatchetTree())
	f.Fuzz(func(_ *testing.T, in, tree []byte) {
		m, err := UnmarshalMLSMessage(in)
		if err != nil {
			return
		}
		if m.Welcome != nil {
			_, _, _ = JoinWelcome(testNow, strictConfig(), JoinParams{Welcome: m.Welcome, Tree: tree, Keys: []JoinKey{key}})
		}
		if m.GroupInfo != nil {
			_, _ = NewPublicGroup(testNow, strictConfig(), PublicGroupParams{GroupInfo: m.GroupInfo, Tree: tree})
		}
	})
}

// FuzzRatchetTreeValidate validates trees that decode.
func FuzzRatchetTreeValidate(f *testing.F) {
	world := newForge(f)
	f.Add(world.a.RatchetTree())
	f.Fuzz(func(t *testing.T, in []byte) {
		tree, err := unmarshalTree(testSuite, bytes.Clone(in))
		if err != nil {
			return
		}
		if !bytes.Equal(tree.marshal(), in) {
			t.Fatal("encoding again differs")
		}
		c := &leafChecker{suite: testSuite, groupID: world.a.groupID, rules: world.a.cur.rules, validator: acceptAll, now: testNow}
		_ = tree.validateParents(testSuite)
		_ = tree.validate(c)
	})
}

// FuzzGroupStateStored changes one piece of a stored group, or a stored Staged.
func FuzzGroupStateStored(f *testing.F) {
	world := newForge(f)
	s, err := world.a.StageCommit(world.rand, testNow, CommitParams{Leaf: 0, Proposals: []Proposal{{Type: ProposalRemove, Remove: 2}}})
	must(f, s, err)
	pieces := world.bob.Export()
	for i, p := range pieces {
		f.Add(i, []byte(p.Data))
	}
	f.Add(-1, []byte(s.Marshal()))
	f.Fuzz(func(t *testing.T, i int, data []byte) {
		if i < 0 || i >= len(pieces) {
			if s, err := world.a.LoadStaged(data); err == nil {
				_, _, _ = s.Tree(), s.Members(), s.Marshal()
			}
			_, _ = LoadStagedExternal(strictConfig(), data)
			return
		}
		changed := slices.Clone(pieces)
		changed[i].Data = data
		g, err := LoadGroup(strictConfig(), changed)
		if err != nil {
			return
		}
		_ = g.Export()
		if n := len(g.Members()); n != 4 {
			t.Fatalf("%d members", n)
		}
	})
}
