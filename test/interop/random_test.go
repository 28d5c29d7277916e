package interop

import (
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"os"
	"strconv"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// randomPlay plays steps of all kinds in random order. INTEROP_SEED chooses another order than the fixed one,
// INTEROP_STEPS another length.
func randomPlay(w *world) {
	seed, steps := uint64(1), 25
	if v, err := strconv.ParseUint(os.Getenv("INTEROP_SEED"), 10, 64); err == nil {
		seed = v
	}
	if v, err := strconv.Atoi(os.Getenv("INTEROP_STEPS")); err == nil {
		steps = v
	}
	w.Logf("INTEROP_SEED=%d INTEROP_STEPS=%d", seed, steps)
	g := &game{w, mathrand.New(mathrand.NewPCG(seed, 0))}
	if g.IntN(2) == 0 {
		w.ourGroup(1+g.IntN(4), 4, true, nil)
	} else {
		w.theirGroup(1+g.IntN(4), 4, true)
	}
	moves := []func(){g.weAdd, g.theyAdd, g.weRemove, g.theyRemove, g.proposals, g.weJoinExternal, g.theyJoinExternally,
		g.weJustCommit, g.theyJustCommit, g.lose, g.chat}
	for range steps {
		moves[g.IntN(len(moves))]()
	}
	w.chat()
}

type game struct {
	*world
	*mathrand.Rand
}

const crowded = 6 // members of a side

func (g *game) own() mls.LeafIndex {
	own := g.ours.group.OwnLeaves()
	return own[g.IntN(len(own))]
}

func (g *game) them() peer { return g.peers[g.IntN(len(g.peers))] }

func (g *game) newcomers() ([]mls.JoinKey, [][]byte, []mls.Proposal, []peer) {
	var keys []mls.JoinKey
	var messages [][]byte
	var adds []mls.Proposal
	var guests []peer
	if g.ours.group.OwnCount() < crowded {
		keys, messages, adds = g.ours.joinKeys(1 + g.IntN(3))
	}
	if len(g.peers) < crowded && g.peers[0].can().joinUnmerged && g.IntN(2) == 0 {
		p := g.peer()
		guests = append(guests, p)
		messages = append(messages, p.keyPackage())
		adds = append(adds, g.addOf(p.keyPackage()))
	}
	return keys, messages, adds, guests
}

func (g *game) weAdd() {
	keys, _, adds, guests := g.newcomers()
	g.weCommit(mls.CommitParams{Leaf: g.own(), Proposals: adds, Path: g.IntN(2) == 0, TreeInWelcome: true}, keys, guests)
}

func (g *game) theyAdd() {
	keys, messages, _, guests := g.newcomers()
	g.theyCommit(g.them(), changes{add: messages}, keys, guests)
}

// victim is a leaf to remove that is not the committer's, of us if possible when ours. It leaves somebody on each side.
func (g *game) victim(committer mls.LeafIndex, ours bool) (mls.LeafIndex, bool) {
	if own := g.ours.group.OwnLeaves(); ours && len(own) > 1 {
		for _, i := range g.Perm(len(own)) {
			if own[i] != committer {
				return own[i], true
			}
		}
	}
	if len(g.peers) > 1 {
		for _, i := range g.Perm(len(g.peers)) {
			if l := g.leafOf(g.peers[i]); l != committer {
				g.gone(g.peers[i])
				return l, true
			}
		}
	}
	return 0, false
}

func (g *game) weRemove() {
	committer := g.own()
	if l, ok := g.victim(committer, g.IntN(2) == 0); ok {
		g.weCommit(mls.CommitParams{Leaf: committer, Proposals: []mls.Proposal{{Type: mls.ProposalRemove, Remove: l}}}, nil, nil)
	}
}

func (g *game) theyRemove() {
	p := g.them()
	if l, ok := g.victim(g.leafOf(p), g.IntN(2) == 0); ok {
		g.theyCommit(p, changes{remove: []mls.LeafIndex{l}}, nil, nil)
	}
}

// proposals lets both sides propose by reference, and one commit.
func (g *game) proposals() {
	us, they := g.own(), g.them()
	committer := us
	weCommit := g.IntN(2) == 0
	if !weCommit {
		committer = g.leafOf(they)
	}
	var keys []mls.JoinKey
	for range g.IntN(3) {
		k, messages, adds := g.ours.joinKeys(1)
		keys = append(keys, k...)
		if g.IntN(2) == 0 {
			g.wePropose(mls.ProposeParams{Leaf: g.own(), Proposal: adds[0]})
		} else {
			g.theyPropose(g.them(), changes{add: messages})
		}
	}
	if l := g.own(); l != us && g.IntN(2) == 0 {
		m, _, c, err := g.ours.group.ProposeUpdate(rand.Reader, now(), l, nil, nil)
		g.must(err)
		g.ours.changed(c)
		g.toPeers(m, nil)
		g.toPublic(m, false)
	}
	proposer := g.own()
	if l, ok := g.victim(committer, false); ok {
		g.wePropose(mls.ProposeParams{Leaf: proposer, Proposal: mls.Proposal{Type: mls.ProposalRemove, Remove: l}})
	}
	if weCommit {
		g.weCommit(mls.CommitParams{Leaf: us, Refs: g.ours.group.Committable(us), TreeInWelcome: true}, keys, nil)
	} else {
		g.theyCommit(they, changes{}, keys, nil)
	}
}

func (g *game) weJoinExternal() {
	own := g.ours.group.OwnLeaves()
	if len(own) >= crowded {
		return
	}
	info, _, err := g.them().groupInfo(false)
	if errors.Is(err, errCannot) {
		return
	}
	g.must(err)
	params := mls.ExternalCommitParams{GroupInfo: unmarshalInfo(g, info), Leaf: g.ours.leaf()}
	if g.IntN(2) == 0 {
		params.Remove = &own[g.IntN(len(own))]
	}
	s, err := g.ours.group.StageExternalCommit(rand.Reader, now(), params)
	g.must(err)
	g.merge(s, nil, nil, true)
}

func (g *game) theyJoinExternally() {
	if len(g.peers) >= crowded || !g.peers[0].can().joinUnmerged {
		return
	}
	p := g.peer()
	g.theyJoinExternal(p, g.own(), g.IntN(2) == 0, false)
	g.peers = append(g.peers, p)
	g.check()
}

func (g *game) weJustCommit() {
	g.weCommit(mls.CommitParams{Leaf: g.own(), Private: g.IntN(4) == 0}, nil, nil)
	if g.public == nil { // it could not follow
		g.follow(g.ours.groupInfo(g.own(), false))
	}
}

func (g *game) theyJustCommit() { g.theyCommit(g.them(), changes{}, nil, nil) }

// lose stages a commit that is dropped, because one of theirs wins.
func (g *game) lose() {
	_, _, adds := g.ours.joinKeys(1)
	g.stage(mls.CommitParams{Leaf: g.own(), Proposals: adds, Path: g.IntN(2) == 0})
	g.theyJustCommit()
}
