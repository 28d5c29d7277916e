package mls

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// ratchetKind tells the two ratchets of a sender apart (RFC 9420 §9.1). The numbers are stored.
type ratchetKind uint8

const (
	ratchetHandshake   ratchetKind = 1
	ratchetApplication ratchetKind = 2
)

// ratchetKindOf returns the ratchet that protects a content type.
func ratchetKindOf(t ContentType) ratchetKind {
	if t == ContentApplication {
		return ratchetApplication
	}
	return ratchetHandshake
}

type ratchetID struct {
	leaf LeafIndex
	kind ratchetKind
}

func compareRatchetID(a, b ratchetID) int {
	return cmp.Or(cmp.Compare(a.leaf, b.leaf), cmp.Compare(a.kind, b.kind))
}

// secretTree gives the keys of the messages of one epoch (RFC 9420 §9). A leaf's first message turns its secret into
// two ratchets, of sending for an own leaf, of receiving for others, and uses the seed above it up. Its stored form
// is one piece a ratchet and one for a few seeds that were derived together, so that a message costs one small piece.
type secretTree struct {
	seedTree
	epoch   uint64
	bundles map[nodeIndex]*seedBundle // by the nodes of the seeds; the root's is in none
	sending map[ratchetID]*sendRatchet
	receive map[ratchetID]*receiveRatchet
}

// newSecretTree takes the encryption secret of an epoch over.
func newSecretTree(suite Suite, epoch uint64, height uint, encryptionSecret Secret) *secretTree {
	t := emptySecretTree(suite, epoch, height)
	t.seeds[rootOf(height)] = encryptionSecret
	return t
}

// emptySecretTree is what load fills.
func emptySecretTree(suite Suite, epoch uint64, height uint) *secretTree {
	return &secretTree{
		seedTree: seedTree{suite: suite, height: height, seeds: map[nodeIndex]Secret{}},
		epoch:    epoch,
		bundles:  map[nodeIndex]*seedBundle{},
		sending:  map[ratchetID]*sendRatchet{},
		receive:  map[ratchetID]*receiveRatchet{},
	}
}

// ratchets derives both first ratchets of a leaf from its secret.
func (t *secretTree) ratchets(leaf Secret) map[ratchetKind]ratchet {
	nh := t.suite.HashLength()
	return map[ratchetKind]ratchet{
		ratchetHandshake:   {secret: t.suite.ExpandWithLabel(leaf, "handshake", nil, nh)},
		ratchetApplication: {secret: t.suite.ExpandWithLabel(leaf, "application", nil, nh)},
	}
}

// applyOpening uses a leaf's seed up and notes what of the stored form changes.
func (t *secretTree) applyOpening(leaf LeafIndex, o *opening, changes *Changes) {
	t.apply(o)
	old := t.bundles[o.from]
	delete(t.bundles, o.from)
	switch {
	case old == nil:
		changes.Delete = append(changes.Delete, t.seedKey(o.from))
	case old.drop(o.from):
		changes.Delete = append(changes.Delete, t.bundleKey(old))
	default:
		changes.Put = append(changes.Put, t.bundlePiece(old))
	}
	for kept := range slices.Chunk(o.kept, seedsTogether) {
		b := &seedBundle{top: kept[0].node, leaf: leaf, mask: 1<<len(kept) - 1}
		for _, s := range kept {
			t.bundles[s.node] = b
		}
		changes.Put = append(changes.Put, t.bundlePiece(b))
	}
}

// nextSendKey returns the key for the next message of an own leaf and moves its ratchet on. The Changes must be
// stored before the message is sent.
func (t *secretTree) nextSendKey(leaf LeafIndex, kind ratchetKind, changes *Changes) (messageKey, error) {
	const op = "protect message"
	id := ratchetID{leaf, kind}
	r := t.sending[id]
	if r == nil {
		o, ok := t.open(leaf)
		if !ok {
			return messageKey{}, failf(KindBug, op, ErrUnknownSender, "leaf %d", leaf)
		}
		for k, first := range t.ratchets(o.leaf) {
			t.sending[ratchetID{leaf, k}] = &sendRatchet{first}
		}
		t.applyOpening(leaf, o, changes)
		r = t.sending[id]
		other := ratchetID{leaf, ratchetHandshake + ratchetApplication - kind}
		changes.Put = append(changes.Put, Piece{Key: t.ratchetKey("send", other), Data: t.sending[other].Marshal()})
	}
	k, err := r.advance(t.suite)
	if err != nil {
		return messageKey{}, err
	}
	changes.Put = append(changes.Put, Piece{Key: t.ratchetKey("send", id), Data: r.Marshal()})
	return k, nil
}

// foundKey is the key of a received message. The tree changes when use is called, after the message proved good.
type foundKey struct {
	tree    *secretTree
	id      ratchetID
	old     *receiveRatchet
	taken   uint64 // of old, when the key was found
	first   map[ratchetKind]ratchet
	opening *opening // nil unless it is the leaf's first message
	received
}

// findKey finds the key for a message of a member that is no own leaf, without changing the tree.
func (t *secretTree) findKey(leaf LeafIndex, kind ratchetKind, generation uint32, limits Limits) (*foundKey, error) {
	f := &foundKey{tree: t, id: ratchetID{leaf, kind}}
	if f.old = t.receive[f.id]; f.old == nil {
		// Refuse what is too far ahead before anything is derived.
		if uint64(generation) > uint64(limits.MaxForward) {
			return nil, failf(KindLimit, "find message key", ErrTooFarAhead, "generation %d, next is 0", generation)
		}
		o, ok := t.open(leaf)
		if !ok {
			return nil, failf(KindInvalid, "find message key", ErrUnknownSender, "leaf %d", leaf)
		}
		f.opening, f.first = o, t.ratchets(o.leaf)
		f.old = &receiveRatchet{ratchet: f.first[kind]}
	}
	n, err := f.old.find(t.suite, generation, limits.MaxForward, limits.MaxSkipped)
	if err != nil {
		return nil, err
	}
	f.received, f.taken = *n, f.old.taken
	return f, nil
}

// use forgets the key and notes what of the stored form changes. When the ratchet has moved since the key was found,
// the key is looked for again, so that no used one can come back.
func (f *foundKey) use(changes *Changes) {
	t := f.tree
	if now := t.receive[f.id]; f.opening != nil && now != nil || f.opening == nil && (now != f.old || now.taken != f.taken) {
		if now == nil {
			return // the epoch has been wiped
		}
		if n, err := now.find(t.suite, f.key.generation, math.MaxUint32, len(now.skipped)+len(f.next.skipped)); err == nil {
			now.take(n)
			changes.Put = append(changes.Put, Piece{Key: t.ratchetKey("recv", f.id), Data: now.Marshal()})
		}
		return
	}
	if f.opening != nil {
		t.applyOpening(f.id.leaf, f.opening, changes)
		other := ratchetID{f.id.leaf, ratchetHandshake + ratchetApplication - f.id.kind}
		t.receive[other] = &receiveRatchet{ratchet: f.first[other.kind]}
		t.receive[f.id] = f.old
		changes.Put = append(changes.Put, Piece{Key: t.ratchetKey("recv", other), Data: t.receive[other].Marshal()})
	}
	f.old.take(&f.received)
	changes.Put = append(changes.Put, Piece{Key: t.ratchetKey("recv", f.id), Data: f.old.Marshal()})
}

func (t *secretTree) ratchetKey(kind string, id ratchetID) PieceKey {
	return PieceKey{Kind: kind, A: t.epoch, B: uint64(id.leaf), C: uint64(id.kind)}
}

// pieces returns the whole stored form: seeds and ratchets.
func (t *secretTree) pieces() []Piece {
	out := make([]Piece, 0, len(t.seeds)+len(t.sending)+len(t.receive))
	done := map[*seedBundle]bool{}
	for _, n := range t.nodes() {
		switch b := t.bundles[n]; {
		case b == nil:
			out = append(out, t.seedPiece(n, t.seeds[n]))
		case !done[b]:
			done[b] = true
			out = append(out, t.bundlePiece(b))
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(t.sending), compareRatchetID) {
		out = append(out, Piece{Key: t.ratchetKey("send", id), Data: t.sending[id].Marshal()})
	}
	for _, id := range slices.SortedFunc(maps.Keys(t.receive), compareRatchetID) {
		out = append(out, Piece{Key: t.ratchetKey("recv", id), Data: t.receive[id].Marshal()})
	}
	return out
}

// load takes one piece of the kinds seed, send and recv over; false when it is of another kind or epoch.
func (t *secretTree) load(p Piece) (bool, error) {
	const op = "load secret tree"
	if p.Key.A != t.epoch {
		return false, nil
	}
	id := ratchetID{LeafIndex(p.Key.B), ratchetKind(p.Key.C)}
	switch p.Key.Kind {
	case "seed":
		return true, t.loadSeeds(p)
	case "send", "recv":
		if p.Key.B >= 1<<t.height || id.kind != ratchetHandshake && id.kind != ratchetApplication {
			return false, failf(KindMalformed, op, ErrUnknownValue, "ratchet of leaf %d", p.Key.B)
		}
	default:
		return false, nil
	}
	var err error
	if p.Key.Kind == "send" {
		t.sending[id], err = unmarshalSendRatchet(p.Data)
	} else {
		t.receive[id], err = unmarshalReceiveRatchet(p.Data)
	}
	if err != nil {
		return false, fail(KindMalformed, op, err)
	}
	return true, nil
}

// stopSending forgets the sending ratchets, when the epoch is over. The caller deletes the range {send, epoch}.
func (t *secretTree) stopSending() {
	for _, r := range t.sending {
		r.secret.Wipe()
	}
	clear(t.sending)
}

// wipe forgets everything. The caller deletes the ranges {seed, epoch}, {send, epoch} and {recv, epoch}.
func (t *secretTree) wipe() {
	t.seedTree.wipe()
	clear(t.bundles)
	t.stopSending()
	for _, r := range t.receive {
		r.secret.Wipe()
		for i := range r.skipped {
			r.skipped[i].wipe()
		}
	}
	clear(t.receive)
}
