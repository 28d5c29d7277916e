package mls

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestGroupModel: a pool with any number of own leaves, processes with one leaf each and a public view take the same
// random operations (adds, removes, updates, external commits, self-removes, external proposals, PSKs, app data,
// messages in and out of order, lost commits, restarts from stored state at any point) and agree after each on
// everything that they can know.
func TestGroupModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		suite := rapid.SampledFrom([]Suite{SuiteX25519AES128Ed25519, SuiteX25519AES128Ed25519, SuiteX25519ChaCha20Ed25519, SuiteP256AES128P256}).Draw(t, "suite")
		m := &model{world: newWorld(t, suite, rapid.Int64().Draw(t, "seed")), t: t}
		steps := 5 + m.pick(35, "steps")
		for range steps {
			m.now = m.now.Add(time.Second)
			switch m.pick(12, "action") {
			case 0, 1, 2, 3:
				m.commit()
			case 4, 5:
				m.propose()
			case 6:
				m.externalProposal()
			case 7:
				m.externalCommit()
			case 8, 9:
				m.send()
			case 10:
				m.deliver()
			case 11:
				m.restart()
			}
			m.check()
		}
	})
}

type model struct {
	*world
	t     *rapid.T
	draws uint64
}

// pick draws a number below n. rapid prefers small numbers, which here would mean few of the actions and few of the
// members, so what it draws is mixed with the count of draws.
func (m *model) pick(n int, what string) int {
	m.draws++
	x := (rapid.Uint64().Draw(m.t, what) + m.draws) * 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	return int((x ^ x>>31) % uint64(n))
}

func (m *model) coin(what string) bool { return m.pick(2, what) == 1 }

// member picks an actor and one of its leaves.
func (m *model) member(what string) (*actor, LeafIndex) {
	holders := m.holders()
	a := holders[m.pick(len(holders), what)]
	leaves := a.g.OwnLeaves()
	return a, leaves[m.pick(len(leaves), what+" leaf")]
}

// values draws proposals to be committed by value. Leaves that other proposals are about are in taken.
func (m *model) values(committer LeafIndex, taken map[LeafIndex]bool) []Proposal {
	var out []Proposal
	for range m.pick(4, "adds") {
		if m.view.g.MemberCount() < 14 {
			out = append(out, m.invitation(m.coin("to the pool")))
		}
	}
	members := m.view.g.Members()
	for range m.pick(3, "removes") {
		l := members[m.pick(len(members), "removed")].Index
		if l != committer && !taken[l] {
			taken[l] = true
			out = append(out, Proposal{Type: ProposalRemove, Remove: l})
		}
	}
	if m.coin("app data") {
		out = append(out, Proposal{Type: ProposalAppDataUpdate,
			AppDataUpdate: &AppDataUpdate{Component: modelComponent, Operation: AppDataUpdateSet, Update: []byte{byte(len(out)), 7}}})
	}
	if m.pick(4, "psk") == 0 {
		id := &PreSharedKeyID{Type: PSKApplication, Component: modelComponent, ID: []byte("shared"), Nonce: make([]byte, m.suite.HashLength())}
		m.rand.Read(id.Nonce)
		out = append(out, Proposal{Type: ProposalPSK, PSK: id})
	}
	if m.pick(4, "ephemeral") == 0 {
		out = append(out, Proposal{Type: ProposalAppEphemeral, AppEphemeral: &AppEphemeral{Component: modelComponent, Data: []byte("note")}})
	}
	if m.pick(6, "extensions") == 0 {
		ext := m.view.g.Context().Extensions.With(0x0a0a, []byte{1})
		out = append(out, Proposal{Type: ProposalGroupContextExtensions, GroupContextExtensions: ext})
	}
	return out
}

// stage makes a commit, nil when the pending proposals do not go together with what was drawn.
func (m *model) stage(a *actor, l LeafIndex) *Staged {
	params := CommitParams{Leaf: l, Path: m.coin("path"), Private: m.pick(5, "private") == 0, TreeInWelcome: m.coin("tree in Welcome")}
	taken := map[LeafIndex]bool{}
	if m.coin("by reference") {
		params.Refs = a.g.Committable(l)
	}
	for _, p := range a.g.PendingProposals() {
		switch p.Proposal.Type { // a commit may not touch what they are about
		case ProposalUpdate, ProposalSelfRemove:
			taken[p.Sender.Leaf] = true
		case ProposalRemove:
			taken[p.Proposal.Remove] = true
		}
	}
	params.Proposals = m.values(l, taken)
	if m.pick(8, "new leaf") == 0 {
		c := m.client()
		params.NewLeaf = &c
	}
	before := frozen(a)
	s, err := a.g.StageCommit(m.rand, m.now, params)
	if err != nil {
		if KindOf(err) == KindMissing || KindOf(err) == KindLimit {
			m.t.Fatalf("%s cannot commit: %v", a.name, err)
		}
		sameStored(m.t, frozen(a), before)
		m.t.Logf("%s does not commit: %v", a.name, err)
		return nil
	}
	a.apply(s.Changes())
	m.checkStored(a)
	if len(s.Changes().Put) == 0 {
		sameStored(m.t, frozen(a), before)
	}
	return s
}

// commit: one or two members commit at once; one of the commits is accepted.
func (m *model) commit() {
	a, l := m.member("committer")
	s := m.stage(a, l)
	if s == nil {
		return
	}
	if m.coin("a second commit") {
		b, k := m.member("loser")
		if lost := m.stage(b, k); lost != nil && m.coin("loser restarts") {
			kept := lost.Marshal()
			b.restart(m.t, m.cfg)
			if _, err := b.g.LoadStaged(kept); err != nil {
				m.t.Fatalf("staged commit of %s does not come back: %v", b.name, err)
			}
			if a == b { // s belongs to the group before the restart
				again, err := b.g.LoadStaged(s.Marshal())
				ok(m.t, "staged commit", err)
				s = again
			}
		}
	}
	if m.coin("committer restarts") {
		kept := s.Marshal()
		a.restart(m.t, m.cfg)
		again, err := a.g.LoadStaged(kept)
		ok(m.t, "staged commit", err)
		same(m.t, "commit", again.Commit(), s.Commit())
		same(m.t, "Welcome", again.Welcome(), s.Welcome())
		same(m.t, "GroupInfo", again.GroupInfo(), s.GroupInfo())
		same(m.t, "tree", again.Tree(), s.Tree())
		same(m.t, "stored again", again.Marshal(), kept)
		s = again
	}
	m.advance(a, s, nil)
}

// propose: a member proposes; all others get it.
func (m *model) propose() {
	a, l := m.member("proposer")
	var message []byte
	var c Changes
	var err error
	before := frozen(a)
	kind := m.pick(5, "proposal")
	members := m.view.g.Members()
	propose := func(p Proposal) {
		message, _, c, err = a.g.Propose(m.rand, m.now, ProposeParams{Leaf: l, Proposal: p})
	}
	switch kind {
	case 0:
		message, _, c, err = a.g.ProposeUpdate(m.rand, m.now, l, nil, nil)
	case 1:
		message, _, c, err = a.g.ProposeSelfRemove(m.rand, m.now, l, nil)
	case 2:
		propose(m.invitation(m.coin("to the pool")))
	case 3:
		propose(Proposal{Type: ProposalRemove, Remove: members[m.pick(len(members), "removed")].Index})
	case 4:
		propose(Proposal{Type: ProposalAppDataUpdate, AppDataUpdate: &AppDataUpdate{Component: modelComponent, Operation: AppDataUpdateSet, Update: []byte{9}}})
	}
	if err != nil {
		if KindOf(err) != KindInvalid {
			m.t.Fatalf("proposal %d of %s: %v", kind, a.name, err)
		}
		sameStored(m.t, frozen(a), before)
		return
	}
	a.apply(c)
	if kind == 1 {
		m.selfRemoves = append(m.selfRemoves, message)
	}
	m.spread(a, message)
}

// spread brings a proposal to all but its sender, and again to one of them.
func (m *model) spread(sender *actor, message []byte) {
	for _, a := range m.all() {
		if a == sender {
			continue
		}
		_, c, err := a.g.ReceiveProposal(m.now, message)
		ok(m.t, a.name+" receives a proposal", err)
		a.apply(c)
	}
	_, c, err := m.view.g.ReceiveProposal(m.now, message)
	ok(m.t, "the view receives a proposal again", err)
	if !c.Empty() {
		m.t.Fatal("a proposal was cached twice")
	}
}

// externalProposal: the hub or a new member proposes.
func (m *model) externalProposal() {
	g := m.view.g
	members := g.Members()
	params := ExternalProposalParams{GroupID: g.GroupID(), Epoch: g.Epoch(), Suite: m.suite, SignatureKey: m.hub, AAD: []byte{0}}
	switch m.pick(3, "external proposal") {
	case 0:
		params.Proposal = Proposal{Type: ProposalRemove, Remove: members[m.pick(len(members), "removed")].Index}
	case 1:
		params.Proposal = m.invitation(m.coin("to the pool"))
	case 2:
		params.Proposal, params.NewMember = m.invitation(false), true
		params.SignatureKey = m.invites[string(params.Proposal.Add.Ref())].Private.SignatureKey
	}
	message, _, err := SignExternalProposal(params)
	ok(m.t, "external proposal", err)
	if _, _, err := g.ReceiveProposal(m.now, message); err != nil {
		for _, a := range m.all() { // all refuse it, or none
			before := frozen(a)
			if _, _, err := a.g.ReceiveProposal(m.now, message); KindOf(err) != KindInvalid {
				m.t.Fatalf("%s: %v", a.name, err)
			}
			sameStored(m.t, frozen(a), before)
		}
		return
	}
	m.view.restart(m.t, m.cfg) // drop what was just cached: spread does it again for all
	m.spread(nil, message)
}

// externalCommit: a new client joins, or one comes back in the place of its old leaf, or the pool gets a leaf so.
func (m *model) externalCommit() {
	info, err := UnmarshalMLSMessage(m.groupInfo())
	ok(m.t, "GroupInfo", err)
	params := ExternalCommitParams{GroupInfo: info.GroupInfo, Tree: m.view.g.RatchetTree(), Leaf: m.client(), SelfRemoves: m.selfRemoves}
	leaving := func(l LeafIndex) bool {
		return slices.ContainsFunc(m.view.g.PendingProposals(), func(p PendingProposal) bool {
			return p.Proposal.Type == ProposalSelfRemove && p.Sender.Leaf == l
		})
	}
	if m.coin("app data") {
		params.Proposals = []Proposal{{Type: ProposalAppDataUpdate, AppDataUpdate: &AppDataUpdate{Component: modelComponent, Operation: AppDataUpdateSet, Update: []byte{3}}}}
	}
	old, l := m.member("who comes back")
	if m.pick(3, "resync") == 0 && len(m.holders()) > 1 && len(old.g.OwnLeaves()) == 1 && !leaving(l) {
		params.Remove = &l
	}
	if m.pool != nil && m.coin("into the pool") {
		s, err := m.pool.g.StageExternalCommit(m.rand, m.now, params)
		ok(m.t, "external commit of the pool", err)
		m.advance(m.pool, s, nil)
		return
	}
	s, err := StageExternalCommit(m.rand, m.now, m.cfg, params)
	ok(m.t, "external commit", err)
	if m.coin("restart") {
		s, err = LoadStagedExternal(m.cfg, s.Marshal())
		ok(m.t, "staged external commit", err)
	}
	m.advance(nil, s, &actor{name: string(params.Leaf.Credential.Identity)})
}

// send: a member sends; who is to get it gets it later, in any order.
func (m *model) send() {
	a, l := m.member("sender")
	data := fmt.Appendf(nil, "message %d", len(m.letters))
	sent, c, err := a.g.Protect(m.rand, l, data, nil, m.pick(40, "padding"))
	ok(m.t, "protect", err)
	a.apply(c)
	if n := len(c.Put); n > 2+int(a.g.cur.tree.height) {
		m.t.Fatalf("a message changed %d pieces", n)
	}
	before := frozen(a)
	if _, _, err := a.g.Unprotect(m.now, sent.Message); !errors.Is(err, ErrOwnMessage) {
		m.t.Fatalf("own message: %v", err)
	}
	sameStored(m.t, frozen(a), before)
	in := letter{message: sent.Message, data: data, epoch: sent.Epoch, sender: l}
	for _, b := range m.holders() {
		if b != a {
			in.to = append(in.to, b)
		}
	}
	m.letters = append(m.letters, in)
}

// deliver brings one letter to all who are still there.
func (m *model) deliver() {
	if len(m.letters) == 0 {
		return
	}
	i := m.pick(len(m.letters), "letter")
	in := m.letters[i]
	m.letters = slices.Delete(m.letters, i, i+1)
	for _, a := range in.to {
		if !slices.Contains(m.holders(), a) {
			continue
		}
		got, c, err := a.g.Unprotect(m.now, in.message)
		gone := a == m.pool // it may have been out of the group meanwhile, and then knows fewer epochs, or older ones
		if old := a.g.Epoch()-in.epoch > DefaultPastEpochs; old && !gone && err == nil {
			m.t.Fatalf("%s opened a message of epoch %d", a.name, in.epoch)
		} else if errors.Is(err, ErrWrongEpoch) && (old || gone) {
			continue
		}
		ok(m.t, a.name+" receives", err)
		a.apply(c)
		if !bytes.Equal(got.Data, in.data) || got.Sender != in.sender || got.Epoch != in.epoch {
			m.t.Fatalf("%s got %q from %d", a.name, got.Data, got.Sender)
		}
		if m.coin("restart") {
			a.restart(m.t, m.cfg)
		}
		before := frozen(a)
		if _, _, err := a.g.Unprotect(m.now, in.message); !errors.Is(err, ErrReplay) {
			m.t.Fatalf("replay: %v", err)
		}
		sameStored(m.t, frozen(a), before)
	}
}

func (m *model) restart() {
	all := m.all()
	all[m.pick(len(all), "who restarts")].restart(m.t, m.cfg)
}
