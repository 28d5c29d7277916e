package mls

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// invited is a Welcome for frank and what it takes to use it.
type invited struct {
	f       *forge
	key     JoinKey
	staged  *Staged
	welcome *Welcome
	tree    []byte
}

// newInvited adds frank at leaf 4 and gina at leaf 5.
func newInvited(t testing.TB, path bool) *invited {
	f := newForge(t)
	key := newTestClient(t, f.rand, testSuite, "frank").keyPackage(t, f.rand)
	gina := newTestClient(t, f.rand, testSuite, "gina").keyPackage(t, f.rand)
	s, err := f.a.StageCommit(f.rand, testNow, CommitParams{Path: path,
		Proposals: []Proposal{{Type: ProposalAdd, Add: key.KeyPackage}, {Type: ProposalAdd, Add: gina.KeyPackage}}})
	must(t, s, err)
	return &invited{f, key, s, message(t, s.Welcome()).Welcome, s.Tree()}
}

// sealed makes the Welcome anew with a GroupInfo and GroupSecrets that change may alter; the GroupInfo is signed by
// alice, as the attacker is alice.
func (i *invited) sealed(change func(info *GroupInfo, secrets *GroupSecrets)) *Welcome {
	t := i.f.t
	o, err := openWelcome(&i.f.bob.cfg, nil, &JoinParams{Welcome: i.welcome, Keys: []JoinKey{i.key}})
	must(t, o, err)
	info, secrets := *o.info, *o.secrets[0]
	info.raw = nil
	change(&info, &secrets)
	signature := info.Signature
	must(t, 0, info.Sign(i.f.alice.key))
	if signature == nil {
		info.Signature[0] ^= 1
		info.raw = nil
	}
	w := &Welcome{Suite: testSuite}
	psk, err := derivePSKSecret(testSuite, nil)
	must(t, psk, err)
	w.EncryptedGroupInfo = sealWelcomeGroupInfo(testSuite, deriveWelcomeSecret(testSuite, secrets.JoinerSecret, psk), info.Marshal())
	ct, err := EncryptWithLabel(testSuite, i.key.KeyPackage.InitKey, labelWelcome, w.EncryptedGroupInfo, secrets.Marshal())
	must(t, ct, err)
	w.Secrets = []EncryptedGroupSecrets{{NewMember: i.key.KeyPackage.Ref(), Secrets: ct}}
	return w
}

// changedTree alters the tree of the next epoch and returns it with its hash.
func (i *invited) changedTree(change func(e *treeEdit)) (tree, hash []byte) {
	base, err := unmarshalTree(testSuite, i.tree)
	must(i.f.t, base, err)
	e := base.edit(testSuite)
	change(e)
	done := e.finish()
	return done.marshal(), done.hash()
}

func TestForgedWelcomes(t *testing.T) {
	i := newInvited(t, true)
	loose := newInvited(t, false) // no parent hash covers leaves 4 and 5
	other := newTestClient(t, i.f.rand, testSuite, "other").keyPackage(t, i.f.rand)
	type join struct {
		name    string
		welcome *Welcome
		tree    []byte
		key     JoinKey
		want    error
	}
	with := func(name string, want error, change func(info *GroupInfo, secrets *GroupSecrets)) join {
		return join{name, i.sealed(change), i.tree, i.key, want}
	}
	withTree := func(name string, want error, change func(e *treeEdit)) join {
		tree, hash := i.changedTree(change)
		return join{name, i.sealed(func(info *GroupInfo, _ *GroupSecrets) { info.Context.TreeHash = hash }), tree, i.key, want}
	}
	gina := LeafIndex(5).node()
	withLoose := func(name string, want error, leaf *LeafNode) join {
		tree, hash := loose.changedTree(func(e *treeEdit) { e.setNode(gina, leaf, nil) })
		return join{name, loose.sealed(func(info *GroupInfo, _ *GroupSecrets) { info.Context.TreeHash = hash }), tree, loose.key, want}
	}
	keep := func(*GroupInfo, *GroupSecrets) {}
	garbled := i.sealed(keep)
	garbled.Secrets[0].Secrets.Ciphertext[0] ^= 1
	garbledInfo := i.sealed(keep)
	garbledInfo.EncryptedGroupInfo = bytes.Clone(garbledInfo.EncryptedGroupInfo)
	garbledInfo.EncryptedGroupInfo[0] ^= 1
	otherPrivate := *i.key.Private
	otherPrivate.EncryptionKey = other.Private.EncryptionKey
	carol := *i.f.a.cur.tree.leaf(2)
	broken := carol
	broken.EncryptionKey, broken.SignatureKey = other.KeyPackage.InitKey, other.KeyPackage.Leaf.SignatureKey
	broken.Signature, broken.raw = make([]byte, 64), nil
	mallory := newTestClient(t, i.f.rand, testSuite, "mallory").keyPackage(t, i.f.rand).KeyPackage.Leaf
	poor := newTestClient(t, i.f.rand, testSuite, "poor").keyPackage(t, i.f.rand).KeyPackage.Leaf
	poor.Capabilities.Extensions = nil
	must(t, 0, poor.Sign(newTestClient(t, i.f.rand, testSuite, "poor").key, LeafNodeContext{}))
	root := rootOf(3)
	ownMissing := newInvited(t, false)
	treeMissing, hashMissing := ownMissing.changedTree(func(e *treeEdit) { e.setNode(LeafIndex(4).node(), nil, nil) })
	cases := []join{
		{"not for us", i.welcome, i.tree, other, ErrNoKeyPackage},
		{"altered secrets", garbled, i.tree, i.key, ErrDecrypt},
		{"altered GroupInfo", garbledInfo, i.tree, i.key, ErrDecrypt},
		{"no tree", i.welcome, nil, i.key, ErrNoTree},
		{"tree of the epoch before", i.welcome, i.f.a.RatchetTree(), i.key, ErrTreeHash},
		{"tree that is none", i.welcome, []byte{2, 1, 9}, i.key, ErrUnknownValue},
		{"private key of another KeyPackage", i.welcome, i.tree, JoinKey{i.key.KeyPackage, &otherPrivate}, ErrKey},
		with("signature", ErrSignature, func(info *GroupInfo, _ *GroupSecrets) { info.Signature = nil }),
		with("signer that is not there", ErrUnknownSender, func(info *GroupInfo, _ *GroupSecrets) { info.Signer = 7 }),
		with("signer that did not sign", ErrSignature, func(info *GroupInfo, _ *GroupSecrets) { info.Signer = 2 }),
		with("confirmation tag", ErrConfirmationTag, func(info *GroupInfo, _ *GroupSecrets) { info.ConfirmationTag = make([]byte, 32) }),
		with("epoch", ErrConfirmationTag, func(info *GroupInfo, _ *GroupSecrets) { info.Context.Epoch++ }),
		with("tree hash", ErrTreeHash, func(info *GroupInfo, _ *GroupSecrets) { info.Context.TreeHash = make([]byte, 32) }),
		with("extension that the leaf lacks", ErrCapabilities, func(info *GroupInfo, _ *GroupSecrets) {
			info.Context.Extensions = info.Context.Extensions.With(0x7777, nil)
		}),
		with("path secret", ErrPathSecret, func(_ *GroupInfo, s *GroupSecrets) { s.PathSecret = make(Secret, 32) }),
		with("unknown PSK", ErrMissingPSK, func(_ *GroupInfo, s *GroupSecrets) {
			s.PSKs = []PreSharedKeyID{{Type: PSKExternal, ID: []byte("?"), Nonce: make([]byte, 32)}}
		}),
		withLoose("leaf signature in the tree", ErrSignature, &broken),
		withLoose("member that the validator refuses", ErrCredential, &mallory),
		withLoose("member without capabilities", ErrCapabilities, &poor),
		withLoose("a member twice", ErrDuplicateKey, &carol),
		{"own leaf missing", ownMissing.sealed(func(info *GroupInfo, s *GroupSecrets) {
			info.Context.TreeHash = hashMissing // and a tag that is right for it
			psk, _ := derivePSKSecret(testSuite, nil)
			secrets := deriveEpochSecrets(testSuite, deriveEpochSecret(testSuite, s.JoinerSecret, psk, info.Context.Marshal()))
			info.ConfirmationTag = secrets.confirmationTag(testSuite, info.Context.ConfirmedTranscriptHash)
		}), treeMissing, ownMissing.key, ErrNoKeyPackage},
		withTree("parent hash", ErrParentHash, func(e *treeEdit) {
			p := *e.at(root.left()).parent
			p.ParentHash = make([]byte, 32)
			e.setNode(root.left(), nil, &p)
		}),
		withTree("parent to whose key nothing can be encrypted", ErrKey, func(e *treeEdit) {
			// alice makes herself a path with such a key, whose parent hashes are right.
			steps := e.filteredPath(0)
			contents, link := pathContents(testSuite, steps, func(n int) []byte {
				if n == 0 {
					return smallOrders[2][:]
				}
				return e.at(steps[n].x).parent.EncryptionKey
			})
			leaf := *e.at(LeafIndex(0).node()).leaf
			leaf.Source, leaf.ParentHash = LeafSourceCommit, link
			must(t, 0, leaf.Sign(i.f.alice.key, LeafNodeContext{GroupID: i.f.a.GroupID(), Index: 0}))
			e.setPath(0, &leaf, contents)
		}),
		withTree("unmerged leaf that is no member", ErrTree, func(e *treeEdit) {
			p := *e.at(root).parent
			p.UnmergedLeaves = []LeafIndex{7}
			e.setNode(root, nil, &p)
		}),
		withTree("unmerged leaf elsewhere", ErrTree, func(e *treeEdit) {
			p := *e.at(root.left()).parent
			p.UnmergedLeaves = []LeafIndex{4}
			e.setNode(root.left(), nil, &p)
		}),
	}
	for _, c := range cases {
		if _, _, err := JoinWelcome(testNow, strictConfig(), JoinParams{Welcome: c.welcome, Tree: c.tree, Keys: []JoinKey{c.key}}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, _, err := JoinWelcome(testNow, strictConfig(), JoinParams{Welcome: i.sealed(keep), Tree: i.tree, Keys: []JoinKey{i.key}}); err != nil {
		t.Errorf("the good Welcome: %v", err)
	}
}

// A Welcome for a pool that is in the group must lead to the very epoch that the pool is in.
func TestForgedWelcomesForPool(t *testing.T) {
	i := newInvited(t, true)
	g := i.f.bob
	before := pieceMap(g)
	add := func(w *Welcome) error {
		_, _, err := g.AddOwnFromWelcome(testNow, JoinParams{Welcome: w, Keys: []JoinKey{i.key}})
		return err
	}
	if err := add(i.welcome); !errors.Is(err, ErrWrongEpoch) {
		t.Errorf("before the commit: %v", err)
	}
	comparePieces(t, "before the commit", pieceMap(g), before)
	r, err := g.StageReceived(testNow, i.staged.Commit())
	must(t, r, err)
	_, err = g.Merge(testNow, r)
	must(t, 0, err)
	before = pieceMap(g)
	for _, c := range []struct {
		name string
		want error
		w    *Welcome
	}{
		{"other group", ErrWrongGroup, i.sealed(func(info *GroupInfo, _ *GroupSecrets) { info.Context.GroupID = []byte("x") })},
		{"other transcript", ErrGroupInfo, i.sealed(func(info *GroupInfo, _ *GroupSecrets) { info.Context.ConfirmedTranscriptHash = make([]byte, 32) })},
		{"other joiner secret", ErrGroupInfo, i.sealed(func(_ *GroupInfo, s *GroupSecrets) { s.JoinerSecret = make(Secret, 32) })},
		{"signature", ErrSignature, i.sealed(func(info *GroupInfo, _ *GroupSecrets) { info.Signature = nil })},
	} {
		if err := add(c.w); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		comparePieces(t, c.name, pieceMap(g), before)
	}
	if err := add(i.welcome); err != nil {
		t.Errorf("the good Welcome: %v", err)
	}
	if err := add(i.welcome); !errors.Is(err, ErrAlreadyMember) {
		t.Errorf("a second time: %v", err)
	}
}

func TestForgedProposals(t *testing.T) {
	f := newForge(t)
	frame := func(key *SignatureKey, sender Sender, p Proposal) []byte {
		return f.frameAs(key, FramedContent{GroupID: f.a.groupID, Epoch: f.a.Epoch(), Sender: sender, AuthenticatedData: []byte{0},
			ContentType: ContentProposal, Proposal: &p}, nil)
	}
	member := func(p Proposal) []byte { return frame(f.alice.key, MemberSender(0), p) }
	external := func(key *SignatureKey, index uint32, p Proposal) []byte {
		return frame(key, Sender{Type: SenderExternal, Index: index}, p)
	}
	newMember := func(key *SignatureKey, p Proposal) []byte {
		return frame(key, Sender{Type: SenderNewMemberProposal}, p)
	}
	remove := Proposal{Type: ProposalRemove, Remove: 2}
	zoe := newTestClient(t, f.rand, testSuite, "zoe")
	kp := zoe.keyPackage(t, f.rand).KeyPackage
	update := *f.a.cur.tree.leaf(0)
	update.Source, update.Lifetime = LeafSourceUpdate, Lifetime{}
	f.resign(&update, f.alice.key)
	stranger := *f.a.cur.tree.leaf(0)
	stranger.Source, stranger.Credential, stranger.EncryptionKey = LeafSourceUpdate, BasicCredential([]byte("carol")), kp.InitKey
	f.resign(&stranger, f.alice.key)
	altered := member(remove)
	altered[len(altered)-1] ^= 1
	cases := []forged{
		{"membership tag", altered, ErrMembershipTag, nil},
		both("external sender that is not there", external(f.hub.key, 1, remove), ErrUnknownSender),
		both("external sender's signature", external(zoe.key, 0, remove), ErrSignature),
		both("external SelfRemove", external(f.hub.key, 0, Proposal{Type: ProposalSelfRemove}), ErrSender),
		both("external Update", external(f.hub.key, 0, Proposal{Type: ProposalUpdate, Update: &update}), ErrSender),
		both("new member removes", newMember(zoe.key, remove), ErrSender),
		both("new member adds somebody else", newMember(f.hub.key, Proposal{Type: ProposalAdd, Add: kp}), ErrSignature),
		both("ExternalInit", member(Proposal{Type: ProposalExternalInit, ExternalInit: []byte{1}}), ErrSender),
		both("Remove of a blank leaf", member(Proposal{Type: ProposalRemove, Remove: f.absent}), ErrProposal),
		both("Update with the old encryption key", member(Proposal{Type: ProposalUpdate, Update: &update}), ErrDuplicateKey),
		both("Update to another user", member(Proposal{Type: ProposalUpdate, Update: &stranger}), ErrCredential),
		both("SelfRemove of somebody else", frame(f.alice.key, MemberSender(2), Proposal{Type: ProposalSelfRemove}), ErrSignature),
		both("commit for a proposal", f.tamper(func(*Commit, *FramedContent) {}), ErrWireFormat),
	}
	before, publicBefore := pieceMap(f.bob), pieceMap(f.public)
	for _, c := range cases {
		if _, _, err := f.bob.ReceiveProposal(testNow, c.message); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		comparePieces(t, c.name, pieceMap(f.bob), before)
		if c.public == nil {
			continue
		}
		if _, _, err := f.public.ReceiveProposal(testNow, c.message); !errors.Is(err, c.public) {
			t.Errorf("%s: public view: %v, want %v", c.name, err, c.public)
		}
		comparePieces(t, c.name, pieceMap(f.public), publicBefore)
	}
}

func TestForgedMessages(t *testing.T) {
	f := newForge(t)
	protect := func(change func(a *AuthenticatedContent, m *PrivateMessage, d *senderData)) []byte {
		p, _, err := f.a.Protect(f.rand, 0, []byte("hello"), nil, 0)
		must(t, p, err)
		m := message(t, p.Message).Private
		change(nil, m, nil)
		return m.Message()
	}
	set := func(change func(m *PrivateMessage)) []byte {
		return protect(func(_ *AuthenticatedContent, m *PrivateMessage, _ *senderData) { change(m) })
	}
	// crafted seals a message with sender data of the attacker's choice, under a key of alice's ratchet.
	crafted := func(key *SignatureKey, leaf LeafIndex, generation uint32, aad []byte) []byte {
		a, err := signContent(key, WireFormatPrivateMessage, FramedContent{GroupID: f.a.groupID, Epoch: f.a.Epoch(), Sender: MemberSender(leaf),
			AuthenticatedData: aad, ContentType: ContentApplication, Application: []byte("hello")}, f.a.cur.encoded)
		must(t, a, err)
		var c Changes
		k, err := f.a.cur.keys.nextSendKey(0, ratchetApplication, &c)
		must(t, 0, err)
		if generation != 0 {
			k.generation = generation
		}
		m, err := sealPrivate(f.rand, testSuite, f.a.cur.secrets.senderData, a, k, 0)
		must(t, m, err)
		return m.Message()
	}
	good := set(func(*PrivateMessage) {})
	_, _, err := f.bob.Unprotect(testNow, good)
	must(t, 0, err)
	cases := []struct {
		name    string
		message []byte
		want    error
	}{
		{"replay", good, ErrReplay},
		{"ciphertext", set(func(m *PrivateMessage) { m.Ciphertext[40] ^= 1 }), ErrDecrypt},
		{"sample of the ciphertext", set(func(m *PrivateMessage) { m.Ciphertext[0] ^= 1 }), ErrDecrypt},
		{"sender data", set(func(m *PrivateMessage) { m.EncryptedSenderData[0] ^= 1 }), ErrDecrypt},
		{"authenticated data", set(func(m *PrivateMessage) { m.AuthenticatedData = SafeAAD{{Component: 1}}.Marshal() }), ErrDecrypt},
		{"later epoch", set(func(m *PrivateMessage) { m.Epoch++ }), ErrWrongEpoch},
		{"epoch long ago", set(func(m *PrivateMessage) { m.Epoch = 0 }), ErrWrongEpoch},
		{"other group", set(func(m *PrivateMessage) { m.GroupID = []byte("x") }), ErrWrongGroup},
		{"content type", set(func(m *PrivateMessage) { m.ContentType = ContentProposal }), ErrWireFormat},
		{"signature of somebody else", crafted(f.erin, 0, 0, []byte{0}), ErrSignature},
		{"in the name of carol", crafted(f.alice.key, 2, 0, []byte{0}), ErrDecrypt},
		{"in the name of the reader", crafted(f.alice.key, 1, 0, []byte{0}), ErrOwnMessage},
		{"in the name of a removed member", crafted(f.alice.key, f.absent, 0, []byte{0}), ErrUnknownSender},
		{"outside the tree", crafted(f.alice.key, 1<<31, 0, []byte{0}), ErrUnknownSender},
		{"generation 2^32-1", crafted(f.alice.key, 0, 1<<32-1, []byte{0}), ErrTooFarAhead},
		{"generation too far ahead", crafted(f.alice.key, 0, 5000, []byte{0}), ErrTooFarAhead},
		{"AAD that is no SafeAAD", crafted(f.alice.key, 0, 0, []byte("x")), ErrSafeAAD},
		{"PublicMessage", f.list(), ErrWireFormat},
		{"garbage", []byte{0, 1, 0, 2}, nil},
	}
	before := pieceMap(f.bob)
	for _, c := range cases {
		start := time.Now()
		_, _, err := f.bob.Unprotect(testNow, c.message)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("%s: took %v to refuse", c.name, took)
		}
		comparePieces(t, c.name, pieceMap(f.bob), before)
	}
	if _, _, err := f.public.Unprotect(testNow, set(func(*PrivateMessage) {})); !errors.Is(err, ErrNoSecrets) {
		t.Errorf("public view: %v", err)
	}
	if _, _, err := f.bob.Unprotect(testNow, set(func(*PrivateMessage) {})); err != nil {
		t.Errorf("a good message after all that: %v", err)
	}
}
