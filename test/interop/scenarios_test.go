package interop

import (
	"crypto/rand"
	"errors"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

func theyJoinTreeInside(w *world) {
	w.ourGroup(3, 2, true, nil)
	w.chat()
}

func theyJoinTreeApart(w *world) {
	if p := w.peer(); !p.can().takesTreeApart {
		w.ours.create(nil)
		_, _, adds := w.ours.joinKeys(0)
		s := w.stage(mls.CommitParams{Proposals: append(adds, w.addOf(p.keyPackage()))})
		if err := p.join(s.Welcome(), s.Tree()); !errors.Is(err, errCannot) {
			w.Fatal(err)
		}
		w.Log("the peer takes no tree that travels apart, and says so")
		return
	}
	w.ourGroup(3, 2, false, nil)
	w.chat()
}

func weJoinTreeInside(w *world) {
	w.theirGroup(3, 2, true)
	w.chat()
}

func weJoinTreeApart(w *world) {
	peers := 1
	if w.peer().can().takesTreeApart {
		peers = 2
	}
	w.theirGroup(3, peers, false)
	w.chat()
}

func commitsInOurs(w *world) {
	w.ourGroup(3, 2, true, nil)
	w.manyCommits()
}

func commitsInTheirs(w *world) {
	w.theirGroup(3, 2, true)
	w.manyCommits()
}

// manyCommits lets everybody commit: without proposals, adds and removes of clients of both sides, in turns, so that
// the tree has blank nodes and unmerged leaves.
func (w *world) manyCommits() {
	everybody := func() {
		for _, l := range w.ours.group.OwnLeaves() {
			w.weCommit(mls.CommitParams{Leaf: l}, nil, nil)
		}
		for _, p := range w.peers {
			w.theyCommit(p, changes{}, nil, nil)
		}
		w.chat()
	}
	everybody()

	// They add one of us and one of them at once.
	keys, messages, _ := w.ours.joinKeys(1)
	guest := w.peer()
	w.theyCommit(w.peers[0], changes{add: append(messages, guest.keyPackage())}, keys, []peer{guest})
	w.chat()
	// We do, without a path.
	keys, _, adds := w.ours.joinKeys(2)
	guest = w.peer()
	w.weCommit(mls.CommitParams{Leaf: w.ours.group.OwnLeaves()[1], Proposals: append(adds, w.addOf(guest.keyPackage())), TreeInWelcome: true},
		keys, []peer{guest})
	w.chat()
	everybody()

	// They remove one of us; we remove one of them and one of us.
	own := w.ours.group.OwnLeaves()
	w.theyCommit(w.peers[1], changes{remove: own[:1]}, nil, nil)
	removed := w.peers[2]
	remove := []mls.Proposal{{Type: mls.ProposalRemove, Remove: w.leafOf(removed)}, {Type: mls.ProposalRemove, Remove: own[1]}}
	w.gone(removed)
	w.weCommit(mls.CommitParams{Leaf: own[2], Proposals: remove}, nil, nil)
	w.chat()

	// The free leaves are taken again, and a commit adds and removes.
	keys, messages, _ = w.ours.joinKeys(2)
	w.theyCommit(w.peers[0], changes{add: messages, remove: w.ours.group.OwnLeaves()[:1]}, keys, nil)
	everybody()
	// Of us only the last leaf stays.
	own = w.ours.group.OwnLeaves()
	w.theyCommit(w.peers[1], changes{remove: own[:len(own)-1]}, nil, nil)
	everybody()
}

func (w *world) wePropose(params mls.ProposeParams) {
	w.Helper()
	m, _, c, err := w.ours.group.Propose(rand.Reader, now(), params)
	w.must(err)
	w.ours.changed(c)
	w.toPeers(m, nil)
	w.toPublic(m, false)
}

func (w *world) theyPropose(p peer, c changes) {
	w.Helper()
	m, err := p.propose(c)
	w.must(err)
	w.fromPeer(p, m, false)
}

// weCommitPending commits all that waits.
func (w *world) weCommitPending(leaf mls.LeafIndex, keys []mls.JoinKey, guests []peer) {
	w.Helper()
	w.weCommit(mls.CommitParams{Leaf: leaf, Refs: w.ours.group.Committable(leaf), TreeInWelcome: true}, keys, guests)
	w.chat()
}

func (w *world) theyCommitPending(p peer, keys []mls.JoinKey, guests []peer) {
	w.Helper()
	w.theyCommit(p, changes{}, keys, guests)
	w.chat()
}

func proposalsByReference(w *world) {
	w.ourGroup(4, 3, true, nil)
	own := w.ours.group.OwnLeaves()

	// We propose: an Update, an Add of ours and one of theirs, a Remove of each side. They commit, then others of us.
	for _, theirs := range []bool{true, false} {
		keys, _, adds := w.ours.joinKeys(1)
		guest := w.peer()
		m, _, c, err := w.ours.group.ProposeUpdate(rand.Reader, now(), own[1], nil, nil)
		w.must(err)
		w.ours.changed(c)
		w.toPeers(m, nil)
		w.toPublic(m, false)
		w.wePropose(mls.ProposeParams{Leaf: own[1], Proposal: adds[0]})
		w.wePropose(mls.ProposeParams{Leaf: own[2], Proposal: w.addOf(guest.keyPackage())})
		last := w.peers[len(w.peers)-1]
		w.wePropose(mls.ProposeParams{Leaf: own[2], Proposal: mls.Proposal{Type: mls.ProposalRemove, Remove: w.leafOf(last)}})
		w.gone(last)
		if theirs {
			w.theyCommitPending(w.peers[0], keys, []peer{guest})
		} else {
			w.weCommitPending(own[0], keys, []peer{guest})
		}
	}

	// They propose the same; we commit, then others of them.
	for _, theirs := range []bool{false, true} {
		keys, messages, _ := w.ours.joinKeys(1)
		guest := w.peer()
		if w.peers[0].can().proposesUpdate {
			w.theyPropose(w.peers[0], changes{update: true})
		}
		w.theyPropose(w.peers[1], changes{add: messages})
		w.theyPropose(w.peers[1], changes{add: [][]byte{guest.keyPackage()}})
		leaves := w.ours.group.OwnLeaves()
		w.theyPropose(w.peers[1], changes{remove: leaves[len(leaves)-1:]})
		if theirs {
			w.theyCommitPending(w.peers[len(w.peers)-1], keys, []peer{guest})
		} else {
			w.weCommitPending(own[0], keys, []peer{guest})
		}
	}
}

func privateHandshakes(w *world) {
	w.ourGroup(3, 2, true, nil)
	own := w.ours.group.OwnLeaves()
	padding := 0
	if w.peers[0].can().paddedHandshake {
		padding = 13
	}
	w.weCommit(mls.CommitParams{Leaf: own[1], Private: true, Padding: padding}, nil, nil)
	w.chat()
	keys, _, adds := w.ours.joinKeys(1)
	w.wePropose(mls.ProposeParams{Leaf: own[2], Proposal: adds[0], Private: true, Padding: padding})
	w.theyCommitPending(w.peers[0], keys, nil)
	_, messages, _ := w.ours.joinKeys(1)
	if p := w.peers[1]; p.can().privateProposal {
		w.theyPropose(p, changes{add: messages, private: true})
		w.theyPropose(p, changes{remove: own[2:3], private: true})
		w.weCommit(mls.CommitParams{Leaf: own[0], Refs: w.ours.group.Committable(own[0]), Private: true}, nil, nil)
		w.chat()
	}
	if p := w.peers[1]; p.can().privateCommits {
		w.theyCommit(p, changes{private: true}, nil, nil)
		w.chat()
	}
}

func lostCommit(w *world) {
	w.ourGroup(3, 2, true, nil)
	own := w.ours.group.OwnLeaves()
	keys, _, adds := w.ours.joinKeys(1)
	guest := w.peer()
	w.stage(mls.CommitParams{Leaf: own[1], Proposals: append(adds, w.addOf(guest.keyPackage())), Path: true})
	w.theyCommit(w.peers[0], changes{}, nil, nil) // drops the staged one
	w.chat()
	// The same change is made again.
	w.weCommit(mls.CommitParams{Leaf: own[1], Proposals: append(adds, w.addOf(guest.keyPackage())), Path: true, TreeInWelcome: true},
		keys, []peer{guest})
	w.chat()
}

func lateMessages(w *world) {
	w.ourGroup(2, 1, true, nil)
	own, p := w.ours.group.OwnLeaves(), w.peers[0]
	var theirs, ours [][]byte
	for i := range 5 {
		theirs = append(theirs, w.say(p, []byte{'t', byte('0' + i)}))
		ours = append(ours, w.ours.send(own[1], []byte{'o', byte('0' + i)}))
	}
	read := func(i int) {
		w.Helper()
		if a := w.ours.read(theirs[i]); string(a.Data) != string([]byte{'t', byte('0' + i)}) || int(a.Generation) != i {
			w.Fatalf("read %q of generation %d", a.Data, a.Generation)
		}
		w.peersRead(ours[i], []byte{'o', byte('0' + i)}, nil)
	}
	read(3)
	read(1)
	read(2)
	w.weCommit(mls.CommitParams{Leaf: own[0]}, nil, nil)
	read(4) // of the epoch before
	read(0)
	w.chat()
	if _, _, err := w.ours.group.Unprotect(now(), theirs[0]); !errors.Is(err, mls.ErrReplay) {
		w.Fatalf("a message twice: %v", err)
	}
}

func ourExternalCommit(w *world) {
	w.theirGroup(0, 3, true)
	join := func(inside bool, remove *mls.LeafIndex) {
		w.Helper()
		info, tree, err := w.peers[1].groupInfo(inside)
		w.must(err)
		if inside {
			tree = nil
		}
		params := mls.ExternalCommitParams{GroupInfo: unmarshalInfo(w, info), Tree: tree, Leaf: w.ours.leaf(), Remove: remove}
		if w.ours.group != nil {
			// The pool is in the group already: a further leaf joins, or one takes the place of another.
			s, err := w.ours.group.StageExternalCommit(rand.Reader, now(), params)
			w.must(err)
			w.merge(s, nil, nil, true)
		} else {
			s, err := mls.StageExternalCommit(rand.Reader, now(), w.ours.config(), params)
			w.must(err)
			s, err = mls.LoadStagedExternal(w.ours.config(), s.Marshal())
			w.must(err)
			w.toPeers(s.Commit(), nil)
			w.toPublic(s.Commit(), true)
			g, err := mls.NewGroupFromStaged(now(), w.ours.config(), s)
			w.must(err)
			w.ours.stored(g)
			w.check()
		}
		w.chat()
	}
	join(true, nil)
	join(false, nil)
	own := w.ours.group.OwnLeaves()
	join(false, &own[0])
	w.theyCommit(w.peers[0], changes{}, nil, nil)
	w.weCommit(mls.CommitParams{Leaf: w.ours.group.OwnLeaves()[0]}, nil, nil)
	w.chat()
}

func theirExternalCommit(w *world) {
	w.ourGroup(3, 1, true, nil)
	for _, inside := range []bool{true, false} {
		p := w.peer()
		w.theyJoinExternal(p, w.ours.group.OwnLeaves()[1], inside, false)
		w.peers = append(w.peers, p)
		w.check()
		w.chat()
	}
	if p := w.peers[2]; p.can().resync {
		w.theyJoinExternal(p, w.ours.group.OwnLeaves()[1], true, true)
		w.check()
		w.chat()
	}
	for _, l := range w.ours.group.OwnLeaves() {
		w.weCommit(mls.CommitParams{Leaf: l}, nil, nil)
	}
	w.theyCommit(w.peers[1], changes{}, nil, nil)
	w.chat()
}

func (w *world) theyJoinExternal(p peer, signer mls.LeafIndex, inside, resync bool) {
	w.Helper()
	info, tree := w.ours.groupInfo(signer, inside)
	if inside {
		tree = nil
	}
	commit, err := p.joinExternal(info, tree, resync)
	w.must(err)
	w.fromPeer(p, commit, true)
}

// externalSender has two senders in the group: sender 0 is a client of the other side, sender 1 is our hub.
func externalSender(w *world) {
	theirs := w.peer()
	key, err := mls.GenerateSignatureKey(rand.Reader, w.ours.suite)
	w.must(err)
	w.ourGroup(4, 3, true, mls.Extensions{mls.ExternalSendersExtension(
		mls.ExternalSender{SignatureKey: theirs.signatureKey(), Credential: mls.BasicCredential([]byte(theirs.identity()))},
		mls.ExternalSender{SignatureKey: key.Public(), Credential: mls.BasicCredential([]byte("mimi://hub.example"))})})
	own := w.ours.group.OwnLeaves()
	hub := func(p mls.Proposal) {
		w.Helper()
		m, _, err := mls.SignExternalProposal(mls.ExternalProposalParams{GroupID: groupID, Epoch: w.ours.group.Epoch(),
			Suite: w.ours.suite, SignatureKey: key, SenderIndex: 1, Proposal: p})
		w.must(err)
		w.external(m)
	}

	// Our hub removes one of each side and adds one of each; they commit, then we.
	for i, committer := range []peer{w.peers[0], nil} {
		keys, _, adds := w.ours.joinKeys(1)
		guest := w.peer()
		removed := w.peers[1]
		hub(mls.Proposal{Type: mls.ProposalRemove, Remove: w.leafOf(removed)})
		w.gone(removed)
		hub(mls.Proposal{Type: mls.ProposalRemove, Remove: own[1+i]})
		hub(adds[0])
		hub(w.addOf(guest.keyPackage()))
		if committer != nil {
			w.theyCommitPending(committer, keys, []peer{guest})
		} else {
			w.weCommitPending(own[0], keys, []peer{guest})
		}
	}

	// Theirs does; we commit, then they.
	for _, committer := range []peer{nil, w.peers[0]} {
		keys, messages, _ := w.ours.joinKeys(1)
		info, _ := w.ours.groupInfo(own[0], false)
		leaves := w.ours.group.OwnLeaves()
		for _, c := range []changes{{remove: leaves[len(leaves)-1:]}, {add: messages}} {
			m, err := theirs.proposeExternal(info, c)
			w.must(err)
			w.external(m)
		}
		if committer != nil {
			w.theyCommitPending(committer, keys, nil)
		} else {
			w.weCommitPending(own[0], keys, nil)
		}
	}
}

func newMemberProposals(w *world) {
	w.ourGroup(2, 2, true, nil)
	own := w.ours.group.OwnLeaves()
	for _, theyCommit := range []bool{true, false} {
		guest := w.peer()
		info, _ := w.ours.groupInfo(own[0], false)
		m, err := guest.proposeOwnAdd(info)
		w.must(err)
		w.external(m)
		k := w.ours.joinKey()
		m, _, err = mls.SignExternalProposal(mls.ExternalProposalParams{GroupID: groupID, Epoch: w.ours.group.Epoch(), Suite: w.ours.suite,
			SignatureKey: k.Private.SignatureKey, NewMember: true, Proposal: mls.Proposal{Type: mls.ProposalAdd, Add: k.KeyPackage}})
		w.must(err)
		w.external(m)
		if theyCommit {
			w.theyCommitPending(w.peers[0], []mls.JoinKey{k}, []peer{guest})
		} else {
			w.weCommitPending(own[1], []mls.JoinKey{k}, []peer{guest})
		}
	}
}

func preSharedKeys(w *world) {
	id, secret := []byte("psk"), []byte("a pre-shared key of some length")
	w.ours.psks[string(id)] = secret
	w.ourGroup(2, 2, true, nil)
	own := w.ours.group.OwnLeaves()
	for _, p := range w.peers {
		w.must(p.setPSK(id, secret))
	}
	nonce := make([]byte, w.ours.suite.HashLength())
	external := mls.Proposal{Type: mls.ProposalPSK, PSK: &mls.PreSharedKeyID{Type: mls.PSKExternal, ID: id, Nonce: nonce}}

	// By value of both sides, and with one who joins by the Welcome of the same commit.
	guest := w.peer()
	w.must(guest.setPSK(id, secret))
	keys, _, adds := w.ours.joinKeys(1)
	w.weCommit(mls.CommitParams{Leaf: own[1], Proposals: append(adds, w.addOf(guest.keyPackage()), external), TreeInWelcome: true}, keys, []peer{guest})
	w.chat()
	keys, messages, _ := w.ours.joinKeys(1)
	w.theyCommit(w.peers[0], changes{psk: [][]byte{id}, add: messages}, keys, nil)
	w.chat()

	// By reference.
	w.wePropose(mls.ProposeParams{Leaf: own[0], Proposal: external})
	w.theyCommitPending(w.peers[1], nil, nil)
	w.theyPropose(w.peers[0], changes{psk: [][]byte{id}})
	w.weCommitPending(own[1], nil, nil)

	// The resumption PSK of the epoch before, together with the external one.
	resumption := mls.Proposal{Type: mls.ProposalPSK, PSK: &mls.PreSharedKeyID{Type: mls.PSKResumption, Usage: mls.ResumptionApplication,
		GroupID: groupID, Epoch: w.ours.group.Epoch() - 1, Nonce: nonce}}
	w.weCommit(mls.CommitParams{Leaf: own[0], Proposals: []mls.Proposal{external, resumption}}, nil, nil)
	w.chat()
	w.theyCommit(w.peers[0], changes{resumption: []uint64{w.ours.group.Epoch() - 1}}, nil, nil)
	w.chat()
}

// contextExtensions puts an extension into the GroupContext.
func contextExtensions(w *world) {
	w.ourGroup(2, 2, true, nil)
	own := w.ours.group.OwnLeaves()
	required := mls.RequiredCapabilities{Credentials: []mls.CredentialType{mls.CredentialBasic}}
	extension := required.Extension()
	if !w.peers[0].can().requiredCapabilities {
		extension = mls.ExternalSendersExtension(mls.ExternalSender{SignatureKey: w.ours.leaf().SignatureKey.Public(),
			Credential: mls.BasicCredential([]byte("mimi://hub.example"))})
	}
	proposal := mls.Proposal{Type: mls.ProposalGroupContextExtensions, GroupContextExtensions: mls.Extensions{extension}}
	w.weCommit(mls.CommitParams{Leaf: own[1], Proposals: []mls.Proposal{proposal}}, nil, nil)
	w.chat()
	guest := w.peer()
	keys, messages, _ := w.ours.joinKeys(1)
	w.theyCommit(w.peers[0], changes{add: append(messages, guest.keyPackage())}, keys, []peer{guest})
	w.chat()
	if p := w.peers[1]; p.can().commitsExtensions {
		proposal.GroupContextExtensions = nil
		w.wePropose(mls.ProposeParams{Leaf: own[0], Proposal: proposal})
		w.theyCommitPending(p, nil, nil)
	} else {
		w.wePropose(mls.ProposeParams{Leaf: own[0], Proposal: proposal})
		w.weCommitPending(own[1], nil, nil)
	}
}
