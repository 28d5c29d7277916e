package mls

import (
	"maps"
	"slices"
	"time"
)

// Merge moves the group to the epoch of s. The Staged must not be used again. Discarding is dropping the value.
func (g *Group) Merge(now time.Time, s *Staged) (Changes, error) {
	if s.base != g.cur || s.edit.base != g.cur.tree {
		return Changes{}, fail(KindBug, "merge commit", ErrStaged)
	}
	var c Changes
	if s.used != nil {
		s.used.use(&c)
	}
	old := g.cur
	before := g.leavesBefore(s)
	s.edit.mergeIndex()
	g.mergePool(s, &c)
	g.cur = s.next
	g.pending = &proposalCache{}
	g.retire(now, old, before, &c)
	g.putEpoch(s, &c)
	return c, nil
}

// leavesBefore lists the leaves that s changes as they are now.
func (g *Group) leavesBefore(s *Staged) map[LeafIndex]pastLeaf {
	before := map[LeafIndex]pastLeaf{}
	for x := range s.edit.changed {
		if x.isLeaf() {
			before[x.leaf()] = g.leafNow(x.leaf())
		}
	}
	return before
}

// mergePool brings the private keys of own leaves up to date.
func (g *Group) mergePool(s *Staged, c *Changes) {
	for _, l := range slices.Sorted(maps.Keys(s.own)) {
		if old := g.own[l]; old != nil {
			old.encryptionKey.Wipe()
		}
		if o := s.own[l]; o != nil {
			g.own[l] = o
			c.Put = append(c.Put, ownPiece(l, o))
		} else {
			delete(g.own, l)
			c.Delete = append(c.Delete, PieceKey{Kind: "own", A: uint64(l)})
		}
	}
	for _, x := range sortedNodes(s.path) {
		if k := s.path[x]; k != nil {
			g.path[x].Wipe()
			g.path[x] = k
			c.Put = append(c.Put, pathPiece(x, k))
		} else {
			g.forgetPath(x, c)
		}
	}
	if len(g.own) == 0 {
		for _, x := range sortedNodes(g.path) {
			g.forgetPath(x, c)
		}
	}
}

func (g *Group) forgetPath(x nodeIndex, c *Changes) {
	if k := g.path[x]; k != nil {
		k.Wipe()
		delete(g.path, x)
		c.forget(PieceKey{Kind: "path", A: uint64(x)})
	}
}

// retire turns the epoch that ended into a past one and forgets what is over the limits.
func (g *Group) retire(now time.Time, old *epoch, before map[LeafIndex]pastLeaf, c *Changes) {
	n := old.context.Epoch
	for _, kind := range []string{"proposal", "update", "send", "exports"} {
		c.DeleteRange = append(c.DeleteRange, PieceRange{kind, n})
	}
	if old.secrets == nil {
		c.Delete = append(c.Delete, PieceKey{Kind: "epoch", A: n})
		g.rememberLeaves(before, c)
		g.expire(now, c)
		return
	}
	old.keys.stopSending()
	old.exports.wipe()
	p := &pastEpoch{number: n, encoded: old.encoded, rules: old.rules, senderData: old.secrets.senderData.Clone(),
		keys: old.keys, ended: now, before: before}
	g.past = slices.Insert(g.past, 0, p)
	g.resumption[n] = old.secrets.resumption.Clone()
	old.secrets.wipe()
	c.Put = append(c.Put, p.piece(), resumptionPiece(n, g.resumption[n]))
	g.expire(now, c)
}

// rememberLeaves notes what a commit changed that ended an epoch without secrets, which is not remembered itself: the
// epochs before it still need to know the leaves as they were.
func (g *Group) rememberLeaves(before map[LeafIndex]pastLeaf, c *Changes) {
	if len(g.past) == 0 {
		return
	}
	last := g.past[0]
	for l, was := range before {
		if _, there := last.before[l]; !there {
			last.before[l] = was
		}
	}
	c.Put = append(c.Put, last.piece())
}

// Expire forgets past epochs that are over their age. Merge does so too; a caller should from time to time, so that a
// group in which nothing happens keeps no old keys.
func (g *Group) Expire(now time.Time) Changes {
	var c Changes
	g.expire(now, &c)
	return c
}

// expire forgets past epochs and resumption PSKs that are over the limits.
func (g *Group) expire(now time.Time, c *Changes) {
	for i := len(g.past) - 1; i >= 0; i-- {
		p := g.past[i]
		near := i < g.cfg.Limits.PastEpochs && g.Epoch()-p.number <= uint64(g.cfg.Limits.PastEpochs)
		if near && now.Sub(p.ended) <= g.cfg.Limits.PastAge {
			break
		}
		p.keys.wipe()
		p.senderData.Wipe()
		g.past = g.past[:i]
		c.forget(PieceKey{Kind: "epoch", A: p.number})
		c.forgetRange("seed", p.number)
		c.forgetRange("recv", p.number)
	}
	for _, n := range slices.Sorted(maps.Keys(g.resumption)) {
		if len(g.own) > 0 && g.Epoch()-n <= uint64(g.cfg.Limits.ResumptionEpochs) {
			continue
		}
		g.resumption[n].Wipe()
		delete(g.resumption, n)
		c.forget(PieceKey{Kind: "resumption", A: n})
	}
}

// forget deletes a piece, also one that the same Changes put.
func (c *Changes) forget(k PieceKey) {
	c.Put = slices.DeleteFunc(c.Put, func(p Piece) bool { return p.Key == k })
	c.Delete = append(c.Delete, k)
}

func (c *Changes) forgetRange(kind string, a uint64) {
	c.Put = slices.DeleteFunc(c.Put, func(p Piece) bool { return p.Key.Kind == kind && p.Key.A == a })
	c.DeleteRange = append(c.DeleteRange, PieceRange{kind, a})
}

// putEpoch notes the stored form of the new epoch: of the tree only the chunks that changed.
func (g *Group) putEpoch(s *Staged, c *Changes) {
	c.Put = append(c.Put, g.epochPiece())
	if g.cur.secrets != nil {
		c.Put = append(c.Put, g.exportsPiece())
		c.Put = append(c.Put, g.cur.keys.pieces()...)
	}
	chunks := map[chunkID]struct{}{}
	for x := range s.edit.changed {
		chunks[chunkOf(x)] = struct{}{}
	}
	for _, id := range slices.SortedFunc(maps.Keys(chunks), compareChunks) {
		if p, there := g.cur.tree.chunk(id); there {
			c.Put = append(c.Put, p)
		} else {
			c.Delete = append(c.Delete, id.key())
		}
	}
}

func compareChunks(a, b chunkID) int {
	if a.stratum != b.stratum {
		return int(a.stratum) - int(b.stratum)
	}
	return int(a.number) - int(b.number)
}
