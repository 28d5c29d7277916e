package mls

import "math/bits"

// seedsTogether is how many seeds are stored in one piece. More make the first message of a sender smaller, which stores all that
// it derived, and that of the next one larger, which stores those again that lay beside the one that it uses up.
const seedsTogether = 6

// seedBundle is what is stored together of the seeds beside the way to a leaf: those of up to seedsTogether levels, less
// those that were used up since.
type seedBundle struct {
	top  nodeIndex // of the first of them, on the highest level
	leaf LeafIndex // to which the way went
	mask uint8     // bit i: the seed i levels below top is there
}

// node returns the node that is i levels below the first.
func (b *seedBundle) node(i int) nodeIndex { return b.leaf.above(b.top.level() - uint(i)).sibling() }

// above returns the node on a level that a leaf is under.
func (l LeafIndex) above(level uint) nodeIndex {
	return nodeIndex(uint32(l)>>level<<(level+1) | (1<<level - 1))
}

// drop takes a seed out and tells whether it was the last.
func (b *seedBundle) drop(n nodeIndex) bool {
	b.mask &^= 1 << (b.top.level() - n.level())
	return b.mask == 0
}

func (t *secretTree) seedKey(n nodeIndex) PieceKey {
	return PieceKey{Kind: "seed", A: t.epoch, B: uint64(n)}
}

func (t *secretTree) bundleKey(b *seedBundle) PieceKey {
	return PieceKey{Kind: "seed", A: t.epoch, B: uint64(b.top), C: uint64(b.leaf)}
}

// Versions of seed pieces.
const (
	seedVersion   = 1 // one seed
	bundleVersion = 2 // a seedBundle
)

// seedPiece is the stored form of a single seed: a version byte and the secret.
func (t *secretTree) seedPiece(n nodeIndex, secret Secret) Piece {
	return Piece{Key: t.seedKey(n), Data: append(Secret{seedVersion}, secret...)}
}

// bundlePiece is the stored form of a bundle: a version byte, the mask, and the secrets from the highest level down.
func (t *secretTree) bundlePiece(b *seedBundle) Piece {
	data := Secret{bundleVersion, b.mask}
	for i := range seedsTogether {
		if b.mask>>i&1 == 1 {
			data = append(data, t.seeds[b.node(i)]...)
		}
	}
	return Piece{Key: t.bundleKey(b), Data: data}
}

// loadSeeds takes a piece of seeds over.
func (t *secretTree) loadSeeds(p Piece) error {
	const op = "load secret tree"
	malformed := func(why error) error {
		return failf(KindMalformed, op, why, "seed of node %d", p.Key.B)
	}
	nh, top := t.suite.HashLength(), nodeIndex(p.Key.B)
	switch {
	case p.Key.B >= 2<<t.height-1 || len(p.Data) < 2:
		return malformed(ErrUnknownValue)
	case p.Data[0] != seedVersion && p.Data[0] != bundleVersion:
		return malformed(ErrStateVersion)
	case p.Data[0] == seedVersion && len(p.Data) != 1+nh:
		return malformed(ErrUnknownValue)
	case p.Data[0] == seedVersion:
		return t.loadSeed(top, p.Data[1:], malformed)
	}
	b := &seedBundle{top: top, leaf: LeafIndex(p.Key.C), mask: p.Data[1]}
	secrets := p.Data[2:]
	if p.Key.C >= 1<<t.height || top.level() >= t.height || b.node(0) != top || b.mask>>seedsTogether != 0 ||
		bits.Len8(b.mask) > int(top.level())+1 || len(secrets) != nh*bits.OnesCount8(b.mask) {
		return malformed(ErrUnknownValue)
	}
	for i := range seedsTogether {
		if b.mask>>i&1 == 0 {
			continue
		}
		if err := t.loadSeed(b.node(i), secrets[:nh], malformed); err != nil {
			return err
		}
		t.bundles[b.node(i)], secrets = b, secrets[nh:]
	}
	return nil
}

func (t *secretTree) loadSeed(n nodeIndex, secret Secret, malformed func(error) error) error {
	if _, twice := t.seeds[n]; twice {
		return malformed(ErrUnknownValue)
	}
	t.seeds[n] = secret.Clone()
	return nil
}
