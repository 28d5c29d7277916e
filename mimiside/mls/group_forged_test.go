package mls

import (
	"bytes"
	"errors"
	"math/rand"
	"testing"
)

// forge is a group of alice (leaf 0), bob (1, whose group is under attack), carol (2) and dave (3); leaf 4 was erin,
// who is removed. Alice's group and keys are the attacker's.
type forge struct {
	t      testing.TB
	rand   *rand.Rand
	alice  *testClient
	a      *Group
	bob    *Group
	public *Group
	hub    *testClient
	erin   *SignatureKey
	absent LeafIndex
}

// strictConfig refuses leaves that change their identity and the identity "mallory".
func strictConfig() Config {
	cfg := testConfig()
	cfg.Validator = ValidatorFunc(func(c CredentialCheck) error {
		if string(c.Credential.Identity) == "mallory" || c.Replaces != nil && !c.Replaces.Equal(c.Credential) {
			return errors.New("not who it was")
		}
		return nil
	})
	return cfg
}

func newForge(t testing.TB) *forge {
	f := &forge{t: t, rand: testRand(77)}
	r := f.rand
	f.alice, f.hub = newTestClient(t, r, testSuite, "alice"), newTestClient(t, r, testSuite, "hub")
	f.a = newTestGroup(t, r, f.alice, testExtensions(ExternalSender{f.hub.key.Public(), BasicCredential([]byte("hub"))}))
	var adds []Proposal
	var bob JoinKey
	for i, name := range []string{"bob", "carol", "dave", "erin"} {
		c := newTestClient(t, r, testSuite, name)
		key := c.keyPackage(t, r)
		if i == 0 {
			bob = key
		}
		f.erin, f.absent = c.key, LeafIndex(i+1)
		adds = append(adds, Proposal{Type: ProposalAdd, Add: key.KeyPackage})
	}
	s, err := f.a.StageCommit(r, testNow, CommitParams{Leaf: 0, Proposals: adds, Path: true})
	must(t, s, err)
	welcome, tree := message(t, s.Welcome()).Welcome, s.Tree()
	public, err := NewPublicGroup(testNow, strictConfig(), PublicGroupParams{GroupInfo: message(t, s.GroupInfo()).GroupInfo, Tree: tree})
	f.public = must(t, public, err)
	_, err = f.a.Merge(testNow, s)
	must(t, 0, err)
	f.bob, _, err = JoinWelcome(testNow, strictConfig(), JoinParams{Welcome: welcome, Tree: tree, Keys: []JoinKey{bob}})
	must(t, 0, err)
	f.step(CommitParams{Proposals: []Proposal{{Type: ProposalRemove, Remove: f.absent}}})
	return f
}

// step lets alice commit and everybody follow.
func (f *forge) step(p CommitParams) {
	f.t.Helper()
	s, err := f.a.StageCommit(f.rand, testNow, p)
	must(f.t, s, err)
	for _, g := range []*Group{f.bob, f.public} {
		r, err := g.StageReceived(testNow, s.Commit())
		must(f.t, r, err)
		_, err = g.Merge(testNow, r)
		must(f.t, 0, err)
	}
	_, err = f.a.Merge(testNow, s)
	must(f.t, 0, err)
}

// public frames content as alice would, signed with her key, with a membership tag that is right.
func (f *forge) frame(content FramedContent, tag []byte) []byte {
	return f.frameAs(f.alice.key, content, tag)
}

func (f *forge) frameAs(key *SignatureKey, content FramedContent, tag []byte) []byte {
	a, err := signContent(key, WireFormatPublicMessage, content, f.a.cur.encoded)
	must(f.t, a, err)
	a.Auth.ConfirmationTag = tag
	return f.a.cur.secrets.sealPublic(testSuite, a, f.a.cur.encoded).Message()
}

func (f *forge) content(c *Commit) FramedContent {
	return FramedContent{GroupID: f.a.groupID, Epoch: f.a.Epoch(), Sender: MemberSender(0), AuthenticatedData: []byte{0},
		ContentType: ContentCommit, Commit: c}
}

// list is a commit with the given proposals by value and a path that nobody looks at before the list is judged.
func (f *forge) list(proposals ...Proposal) []byte {
	c := &Commit{}
	for i := range proposals {
		c.Proposals = append(c.Proposals, ProposalOrRef{Proposal: &proposals[i]})
	}
	return f.frame(f.content(c), make([]byte, 32))
}

// tamper makes a good commit with a path, lets change alter it, and frames it anew.
func (f *forge) tamper(change func(c *Commit, content *FramedContent)) []byte {
	s, err := f.a.StageCommit(f.rand, testNow, CommitParams{Leaf: 0})
	must(f.t, s, err)
	m := message(f.t, s.Commit()).Public
	content := m.Content
	change(content.Commit, &content)
	return f.frame(content, m.Auth.ConfirmationTag)
}

// resign signs alice's path leaf anew after a change.
func (f *forge) resign(leaf *LeafNode, key *SignatureKey) {
	must(f.t, 0, leaf.Sign(key, LeafNodeContext{GroupID: f.a.groupID, Index: 0}))
}

// external makes an external commit of a new client; change may alter it before it is signed.
func (f *forge) external(remove *LeafIndex, change func(c *Commit, content *FramedContent)) []byte {
	info, err := f.a.GroupInfo(0, true, nil)
	must(f.t, info, err)
	joiner := newTestClient(f.t, f.rand, testSuite, "joiner")
	s, err := StageExternalCommit(f.rand, testNow, testConfig(), ExternalCommitParams{GroupInfo: message(f.t, info).GroupInfo,
		Tree: f.a.RatchetTree(), Leaf: joiner.leaf(), Remove: remove})
	must(f.t, s, err)
	m := message(f.t, s.Commit()).Public
	content := m.Content
	change(content.Commit, &content)
	return f.frameAs(joiner.key, content, m.Auth.ConfirmationTag)
}

// forged is one refused input; public is what a view without secrets says, nil where it cannot know.
type forged struct {
	name    string
	message []byte
	want    error
	public  error
}

func both(name string, message []byte, want error) forged { return forged{name, message, want, want} }

func TestForgedCommits(t *testing.T) {
	f := newForge(t)
	cases := append(f.framing(), f.paths()...)
	cases = append(cases, f.lists()...)
	cases = append(cases, f.appData()...)
	cases = append(cases, f.externals()...)
	before, publicBefore := pieceMap(f.bob), pieceMap(f.public)
	for _, c := range cases {
		if _, err := f.bob.StageReceived(testNow, c.message); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		comparePieces(t, c.name, pieceMap(f.bob), before)
		_, err := f.public.StageReceived(testNow, c.message)
		if c.public == nil && err != nil || c.public != nil && !errors.Is(err, c.public) {
			t.Errorf("%s: public view: %v, want %v", c.name, err, c.public)
		}
		comparePieces(t, c.name+": public view", pieceMap(f.public), publicBefore)
	}
	f.step(CommitParams{}) // a good commit still goes through
}

func (f *forge) framing() []forged {
	good := f.tamper(func(*Commit, *FramedContent) {})
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[len(b)-at] ^= 1
		return b
	}
	m := message(f.t, good).Public
	resealed := func(change func(a *AuthenticatedContent)) []byte {
		a := m.authenticated()
		a.Auth.Signature, a.Auth.ConfirmationTag = bytes.Clone(a.Auth.Signature), bytes.Clone(a.Auth.ConfirmationTag)
		change(a)
		return f.a.cur.secrets.sealPublic(testSuite, a, f.a.cur.encoded).Message()
	}
	set := func(change func(c *FramedContent)) []byte {
		return f.tamper(func(_ *Commit, c *FramedContent) { change(c) })
	}
	proposal := f.frame(FramedContent{GroupID: f.a.groupID, Epoch: f.a.Epoch(), Sender: MemberSender(0), AuthenticatedData: []byte{0},
		ContentType: ContentProposal, Proposal: &Proposal{Type: ProposalRemove, Remove: 2}}, nil)
	return []forged{
		{"membership tag", flip(1), ErrMembershipTag, nil},
		both("signature", resealed(func(a *AuthenticatedContent) { a.Auth.Signature[3] ^= 1 }), ErrSignature),
		{"confirmation tag", resealed(func(a *AuthenticatedContent) { a.Auth.ConfirmationTag[3] ^= 1 }), ErrConfirmationTag, nil},
		{"no confirmation tag", resealed(func(a *AuthenticatedContent) { a.Auth.ConfirmationTag = nil }), ErrConfirmationTag, nil},
		both("later epoch", set(func(c *FramedContent) { c.Epoch++ }), ErrWrongEpoch),
		both("earlier epoch", set(func(c *FramedContent) { c.Epoch-- }), ErrWrongEpoch),
		both("other group", set(func(c *FramedContent) { c.GroupID = []byte("other") }), ErrWrongGroup),
		both("removed sender", set(func(c *FramedContent) { c.Sender.Leaf = f.absent }), ErrUnknownSender),
		both("sender outside the tree", set(func(c *FramedContent) { c.Sender.Leaf = 1 << 30 }), ErrUnknownSender),
		both("signed by somebody else", f.frameAs(f.erin, f.content(&Commit{}), make([]byte, 32)), ErrSignature),
		{"in the name of bob", f.frameAs(f.alice.key, FramedContent{GroupID: f.a.groupID, Epoch: f.a.Epoch(), Sender: MemberSender(1),
			AuthenticatedData: []byte{0}, ContentType: ContentCommit, Commit: &Commit{}}, make([]byte, 32)), ErrSignature, ErrSignature},
		both("external sender", f.frameAs(f.hub.key, FramedContent{GroupID: f.a.groupID, Epoch: f.a.Epoch(), Sender: Sender{Type: SenderExternal},
			AuthenticatedData: []byte{0}, ContentType: ContentCommit, Commit: &Commit{}}, make([]byte, 32)), ErrSender),
		both("AAD that is no SafeAAD", set(func(c *FramedContent) { c.AuthenticatedData = []byte("hello") }), ErrSafeAAD),
		both("empty AAD", set(func(c *FramedContent) { c.AuthenticatedData = nil }), ErrSafeAAD),
		both("proposal for a commit", proposal, ErrWireFormat),
		both("KeyPackage for a commit", newTestClient(f.t, f.rand, testSuite, "x").keyPackage(f.t, f.rand).KeyPackage.Message(), ErrWireFormat),
	}
}

func (f *forge) paths() []forged {
	path := func(change func(p *UpdatePath)) []byte {
		return f.tamper(func(c *Commit, _ *FramedContent) { change(c.Path) })
	}
	leaf := func(change func(l *LeafNode)) []byte {
		return path(func(p *UpdatePath) {
			change(&p.Leaf)
			f.resign(&p.Leaf, f.alice.key)
		})
	}
	other := newTestClient(f.t, f.rand, testSuite, "other")
	return []forged{
		both("no path", f.frame(f.content(&Commit{}), make([]byte, 32)), ErrPathMissing),
		both("path node too few", path(func(p *UpdatePath) { p.Nodes = p.Nodes[1:] }), ErrPath),
		both("path node too many", path(func(p *UpdatePath) { p.Nodes = append(p.Nodes, p.Nodes[0]) }), ErrPath),
		both("ciphertext too few", path(func(p *UpdatePath) { p.Nodes[1].PathSecrets = nil }), ErrPath),
		{"ciphertext altered", path(func(p *UpdatePath) { p.Nodes[0].PathSecrets[0].Ciphertext[0] ^= 1 }), ErrDecrypt, nil},
		both("key altered", path(func(p *UpdatePath) { p.Nodes[0].EncryptionKey[0] ^= 1 }), ErrParentHash),
		both("key of the wrong length", path(func(p *UpdatePath) { p.Nodes[0].EncryptionKey = []byte{1} }), ErrKey),
		both("key twice", path(func(p *UpdatePath) { p.Nodes[1].EncryptionKey = p.Nodes[0].EncryptionKey }), ErrDuplicateKey),
		both("key of a member", path(func(p *UpdatePath) { p.Nodes[1].EncryptionKey = f.a.cur.tree.leaf(2).EncryptionKey }), ErrDuplicateKey),
		both("parent hash", leaf(func(l *LeafNode) { l.ParentHash = make([]byte, 32) }), ErrParentHash),
		both("old encryption key", leaf(func(l *LeafNode) { l.EncryptionKey = f.a.cur.tree.leaf(0).EncryptionKey }), ErrDuplicateKey),
		both("signature key of a member", path(func(p *UpdatePath) {
			p.Leaf.SignatureKey, p.Leaf.raw = f.a.cur.tree.leaf(2).SignatureKey, nil
		}), ErrSignature),
		both("leaf signature", path(func(p *UpdatePath) {
			p.Leaf.Signature = bytes.Clone(p.Leaf.Signature)
			p.Leaf.Signature[0] ^= 1
			p.Leaf.raw = nil
		}), ErrSignature),
		both("leaf signed for another index", path(func(p *UpdatePath) {
			must(f.t, 0, p.Leaf.Sign(f.alice.key, LeafNodeContext{GroupID: f.a.groupID, Index: 1}))
		}), ErrSignature),
		both("leaf of another user", leaf(func(l *LeafNode) { l.Credential = BasicCredential([]byte("carol")) }), ErrCredential),
		both("leaf of source update", leaf(func(l *LeafNode) { l.Source = LeafSourceUpdate }), ErrLeafNode),
		both("leaf without capabilities", leaf(func(l *LeafNode) { l.Capabilities.Extensions = nil }), ErrCapabilities),
		both("leaf without its credential type", leaf(func(l *LeafNode) { l.Capabilities.Credentials = nil }), ErrCapabilities),
		both("leaf without a component", leaf(func(l *LeafNode) { l.Extensions = nil }), ErrCapabilities),
		{"new signature key, tag of the old path", path(func(p *UpdatePath) { f.resign(&p.Leaf, other.key) }), ErrDecrypt, nil},
	}
}

func (f *forge) lists() []forged {
	add := newTestClient(f.t, f.rand, testSuite, "new").keyPackage(f.t, f.rand).KeyPackage
	mallory := newTestClient(f.t, f.rand, testSuite, "mallory").keyPackage(f.t, f.rand).KeyPackage
	again := (&testClient{"again", f.alice.key}).keyPackage(f.t, f.rand).KeyPackage
	broken := *newTestClient(f.t, f.rand, testSuite, "broken").keyPackage(f.t, f.rand).KeyPackage
	broken.Signature, broken.raw = make([]byte, 64), nil
	poor := newTestClient(f.t, f.rand, testSuite, "poor")
	poorKP, _, err := NewKeyPackage(f.rand, KeyPackageParams{Suite: testSuite, Credential: BasicCredential([]byte("poor")), SignatureKey: poor.key,
		Capabilities: Capabilities{Credentials: []CredentialType{CredentialBasic}}, Lifetime: testLifetime})
	must(f.t, poorKP, err)
	otherSuite := newTestClient(f.t, f.rand, SuiteP256AES128P256, "p256").keyPackage(f.t, f.rand).KeyPackage
	update := *f.a.cur.tree.leaf(0)
	update.Source, update.Lifetime = LeafSourceUpdate, Lifetime{}
	f.resign(&update, f.alice.key)
	addOf := func(kp *KeyPackage) Proposal { return Proposal{Type: ProposalAdd, Add: kp} }
	remove := func(l LeafIndex) Proposal { return Proposal{Type: ProposalRemove, Remove: l} }
	psk := func(id PreSharedKeyID) Proposal { return Proposal{Type: ProposalPSK, PSK: &id} }
	nonce := make([]byte, 32)
	reinit := Proposal{Type: ProposalReInit, ReInit: &ReInit{GroupID: []byte("next"), Version: VersionMLS10, Suite: testSuite}}
	gce := Proposal{Type: ProposalGroupContextExtensions, GroupContextExtensions: f.a.cur.context.Extensions}
	unknownRef := f.frame(f.content(&Commit{Proposals: []ProposalOrRef{{Ref: make([]byte, 32)}}}), make([]byte, 32))
	return []forged{
		both("unknown reference", unknownRef, ErrUnknownProposalRef),
		both("Update by value", f.list(Proposal{Type: ProposalUpdate, Update: &update}), ErrProposalList),
		both("Remove of the committer", f.list(remove(0)), ErrProposalList),
		both("Remove twice", f.list(remove(2), remove(2)), ErrProposalList),
		both("Remove of a blank leaf", f.list(remove(f.absent)), ErrProposal),
		both("Remove outside the tree", f.list(remove(1<<31)), ErrProposal),
		both("Add twice", f.list(addOf(add), addOf(add)), ErrDuplicateKey),
		both("Add of a member", f.list(addOf(again)), ErrDuplicateKey),
		both("Add that the validator refuses", f.list(addOf(mallory)), ErrCredential),
		both("Add with a bad signature", f.list(addOf(&broken)), ErrSignature),
		both("Add without capabilities", f.list(addOf(poorKP)), ErrCapabilities),
		both("Add of another suite", f.list(addOf(otherSuite)), ErrUnknownSuite),
		both("ReInit beside others", f.list(reinit, remove(2)), ErrProposalList),
		both("ReInit twice", f.list(reinit, reinit), ErrProposalList),
		both("two GroupContextExtensions", f.list(gce, gce), ErrProposalList),
		both("ExternalInit of a member", f.list(Proposal{Type: ProposalExternalInit, ExternalInit: []byte{1}}), ErrSender),
		both("SelfRemove by value", f.list(Proposal{Type: ProposalSelfRemove}), ErrProposalList),
		both("PSK twice", f.list(psk(PreSharedKeyID{Type: PSKExternal, ID: []byte("psk"), Nonce: nonce}),
			psk(PreSharedKeyID{Type: PSKExternal, ID: []byte("psk"), Nonce: nonce})), ErrProposalList),
		both("PSK nonce", f.list(psk(PreSharedKeyID{Type: PSKExternal, ID: []byte("psk"), Nonce: nonce[1:]})), ErrProposal),
		both("resumption PSK of a branch", f.list(psk(PreSharedKeyID{Type: PSKResumption, Usage: ResumptionBranch, Nonce: nonce})), ErrProposal),
		{"unknown PSK", f.list(psk(PreSharedKeyID{Type: PSKExternal, ID: []byte("?"), Nonce: nonce})), ErrMissingPSK, nil},
	}
}

func (f *forge) appData() []forged {
	update := func(id ComponentID, op AppDataUpdateOperation, data string) Proposal {
		return Proposal{Type: ProposalAppDataUpdate, AppDataUpdate: &AppDataUpdate{Component: id, Operation: op, Update: []byte(data)}}
	}
	const set, remove = AppDataUpdateSet, AppDataUpdateRemove
	dict, err := f.a.cur.context.Extensions.Dictionary()
	must(f.t, dict, err)
	gce := func(l Extensions) Proposal {
		return Proposal{Type: ProposalGroupContextExtensions, GroupContextExtensions: l}
	}
	ext := f.a.cur.context.Extensions
	strict := RequiredCapabilities{Extensions: []ExtensionType{0x7777}}
	return []forged{
		both("unknown component", f.list(update(0x9999, set, "x")), ErrUnknownComponent),
		both("remove of an absent component", f.list(update(testComponent, remove, "")), ErrProposal),
		both("remove and update", f.list(update(testComponent, remove, ""), update(testComponent, set, "x")), ErrProposalList),
		both("update and remove", f.list(update(testComponent, set, "x"), update(testComponent, remove, "")), ErrProposalList),
		both("remove twice", f.list(update(testComponent, remove, ""), update(testComponent, remove, "")), ErrProposalList),
		both("logic refuses", f.list(update(testComponent, set, "x"), update(testComponent, set, "bad")), ErrComponent),
		both("safe_aad that is no list", f.list(update(ComponentSafeAAD, set, "\x01")), ErrComponent),
		both("component that members lack", f.list(update(ComponentAppComponents, set, string(ComponentsList{0x9999}.Marshal()))), ErrCapabilities),
		both("dictionary by GroupContextExtensions", f.list(gce(ext.With(ExtensionAppDataDictionary, dict.Set(testComponent, []byte("x")).Marshal()))), ErrDictionaryChanged),
		both("dictionary gone", f.list(gce(ext.Without(ExtensionAppDataDictionary))), ErrDictionaryChanged),
		both("extension that members lack", f.list(gce(ext.With(0x7777, nil))), ErrCapabilities),
		both("required_capabilities that members lack", f.list(gce(ext.With(ExtensionRequiredCapabilities, strict.Marshal()))), ErrCapabilities),
		both("external sender that the validator refuses", f.list(gce(append(ext.Without(ExtensionExternalSenders),
			ExternalSendersExtension(ExternalSender{f.hub.key.Public(), BasicCredential([]byte("mallory"))})))), ErrCredential),
	}
}

func (f *forge) externals() []forged {
	change := func(change func(c *Commit)) []byte {
		return f.external(nil, func(c *Commit, _ *FramedContent) { change(c) })
	}
	with := func(p ...Proposal) []byte {
		return change(func(c *Commit) {
			for i := range p {
				c.Proposals = append(c.Proposals, ProposalOrRef{Proposal: &p[i]})
			}
		})
	}
	carol := LeafIndex(2)
	add := newTestClient(f.t, f.rand, testSuite, "added").keyPackage(f.t, f.rand).KeyPackage
	return []forged{
		both("external commit without ExternalInit", change(func(c *Commit) { c.Proposals = nil }), ErrProposalList),
		both("two ExternalInit", with(Proposal{Type: ProposalExternalInit, ExternalInit: make([]byte, 32)}), ErrProposalList),
		both("two Remove", with(Proposal{Type: ProposalRemove, Remove: 2}, Proposal{Type: ProposalRemove, Remove: 3}), ErrProposalList),
		both("Remove of somebody else", f.external(&carol, func(*Commit, *FramedContent) {}), ErrCredential),
		both("Add in an external commit", with(Proposal{Type: ProposalAdd, Add: add}), ErrSender),
		both("no path in an external commit", change(func(c *Commit) { c.Path = nil }), ErrPathMissing),
		{"altered ExternalInit", change(func(c *Commit) { c.Proposals[0].Proposal.ExternalInit[3] ^= 1 }), ErrConfirmationTag, nil},
	}
}
