package mls

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const testSuite = SuiteX25519AES128Ed25519

func testSecretTree(height uint) *secretTree {
	return newSecretTree(testSuite, 7, height, bytes.Repeat(Secret{3}, 32))
}

func receiveKey(tree *secretTree, leaf LeafIndex, kind ratchetKind, generation uint32, limits Limits, changes *Changes) (messageKey, error) {
	f, err := tree.findKey(leaf, kind, generation, limits)
	if err != nil {
		return messageKey{}, err
	}
	key := messageKey{generation: f.key.generation, key: f.key.key.Clone(), nonce: f.key.nonce.Clone()}
	f.use(changes)
	return key, nil
}

// stored keeps pieces as a database does.
type stored map[PieceKey]Secret

func (s stored) apply(c *Changes) int {
	c.Apply(s)
	n := 0
	for _, p := range c.Put {
		n += len(p.Data)
	}
	return n
}

func (s stored) tree(t rapid.TB, height uint) *secretTree {
	tree := emptySecretTree(testSuite, 7, height)
	for k, d := range s {
		taken, err := tree.load(Piece{Key: k, Data: d})
		ok(t, "load", err)
		if !taken {
			t.Fatalf("piece %v was not taken", k)
		}
	}
	return tree
}

func storeTree(tree *secretTree) stored {
	s := stored{}
	for _, p := range tree.pieces() {
		s[p.Key] = p.Data
	}
	return s
}

// The model: each generation of each ratchet opens exactly one message, whatever the order, the losses and the
// restarts from stored state, and the stored state is always what the tree in memory is.
func TestSecretTreeModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		height := uint(rapid.IntRange(0, 4).Draw(t, "height"))
		limits := Limits{MaxForward: rapid.IntRange(0, 20).Draw(t, "forward"), MaxSkipped: rapid.IntRange(0, 10).Draw(t, "skipped")}
		sending, receiving := testSecretTree(height), testSecretTree(height)
		sent, got := storeTree(sending), storeTree(receiving)
		keys := map[ratchetID][]messageKey{}
		used := map[ratchetID]map[uint32]bool{}
		next := map[ratchetID]uint32{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			id := ratchetID{LeafIndex(rapid.IntRange(0, 1<<height-1).Draw(t, "leaf")),
				rapid.SampledFrom([]ratchetKind{ratchetHandshake, ratchetApplication}).Draw(t, "kind")}
			if used[id] == nil {
				used[id] = map[uint32]bool{}
			}
			switch rapid.IntRange(0, 3).Draw(t, "action") {
			case 0, 1:
				var changes Changes
				k, err := sending.nextSendKey(id.leaf, id.kind, &changes)
				if err != nil {
					t.Fatal(err)
				}
				if int(k.generation) != len(keys[id]) {
					t.Fatalf("generation %d, want %d", k.generation, len(keys[id]))
				}
				keys[id] = append(keys[id], k)
				sent.apply(&changes)
			case 2:
				if len(keys[id]) == 0 {
					continue
				}
				g := uint32(rapid.IntRange(0, len(keys[id])-1).Draw(t, "generation"))
				want := keys[id][g]
				var changes Changes
				before := storeTree(receiving)
				k, err := receiveKey(receiving, id.leaf, id.kind, g, limits, &changes)
				switch {
				case used[id][g]:
					if !errors.Is(err, ErrReplay) {
						t.Fatalf("replay: %v", err)
					}
				case g >= next[id] && g-next[id] > uint32(limits.MaxForward):
					if !errors.Is(err, ErrTooFarAhead) {
						t.Fatalf("%d ahead: %v", g-next[id], err)
					}
				case err != nil && !(g < next[id] && errors.Is(err, ErrReplay)): // may have been dropped
					t.Fatal(err)
				case err == nil && (!bytes.Equal(k.key, want.key) || !bytes.Equal(k.nonce, want.nonce)):
					t.Fatal("key differs")
				}
				if err != nil {
					sameStored(t, storeTree(receiving), before)
					continue
				}
				used[id][g] = true
				next[id] = max(next[id], g+1)
				if n := len(receiving.receive[id].skipped); n > limits.MaxSkipped {
					t.Fatalf("%d skipped keys are kept", n)
				}
				got.apply(&changes)
			case 3:
				sending, receiving = sent.tree(t, height), got.tree(t, height)
			}
			sameStored(t, storeTree(sending), sent)
			sameStored(t, storeTree(receiving), got)
		}
	})
}

func sameStored(t rapid.TB, got, want stored) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d pieces, want %d", len(got), len(want))
	}
	for k, v := range want {
		if !bytes.Equal(got[k], v) {
			t.Fatalf("piece %v differs", k)
		}
	}
}

// A leaf's first message costs at most one seed a level, a few together, and two ratchets, every further one a piece of some 45 bytes,
// whatever the size of the tree.
func TestMessageCostsOnePiece(t *testing.T) {
	const height = 16
	tree := testSecretTree(height)
	for i := range 4 {
		var changes Changes
		_, err := receiveKey(tree, 777, ratchetApplication, uint32(i), Limits{MaxForward: 10}, &changes)
		ok(t, "receive", err)
		size := 0
		for _, p := range changes.Put {
			size += len(p.Data)
		}
		switch {
		case i == 0 && (len(changes.Put) != (height+seedsTogether-1)/seedsTogether+2 || len(changes.Delete) != 1 || size > 33*height+100):
			t.Fatalf("first message: %d pieces, %d bytes", len(changes.Put), size)
		case i > 0 && (len(changes.Put) != 1 || len(changes.Delete) != 0 || size > 50):
			t.Fatalf("message %d: %d pieces, %d bytes", i, len(changes.Put), size)
		}
	}
}

// The first message of a sender stores less than 1 KB with its keys in a tree of any size, also when others sent before it.
func TestFirstMessagesStayBelowOneKB(t *testing.T) {
	tree := testSecretTree(maxTreeHeight)
	pieces, most := map[PieceKey]Secret{}, 0
	for _, p := range tree.pieces() {
		pieces[p.Key] = p.Data
	}
	rand := testRand(7)
	for i := range 300 {
		leaf := LeafIndex(rand.Intn(1 << maxTreeHeight))
		if i < 40 { // far from each other, then near
			leaf = LeafIndex(uint32(i) << (maxTreeHeight - 1 - i%maxTreeHeight) & (1<<maxTreeHeight - 1))
		}
		if _, opened := tree.receive[ratchetID{leaf, ratchetApplication}]; opened {
			continue
		}
		var changes Changes
		_, err := receiveKey(tree, leaf, ratchetApplication, 0, Limits{MaxForward: 10}, &changes)
		ok(t, "receive", err)
		size := 0
		for _, p := range changes.Put {
			size += len(p.Key.Kind) + 24 + len(p.Data)
		}
		for _, k := range changes.Delete {
			size += len(k.Kind) + 24
		}
		most = max(most, size)
		changes.Apply(pieces)
	}
	if most >= 1000 {
		t.Errorf("a first message stores %d bytes", most)
	}
	// What was stored bit by bit is what is stored whole, and loads to the same.
	whole := map[PieceKey]Secret{}
	for _, p := range tree.pieces() {
		whole[p.Key] = p.Data
	}
	again := emptySecretTree(testSuite, tree.epoch, maxTreeHeight)
	for k, data := range pieces {
		if !bytes.Equal(whole[k], data) {
			t.Fatalf("piece %v differs", k)
		}
		if taken, err := again.load(Piece{k, data}); !taken || err != nil {
			t.Fatalf("piece %v: %v", k, err)
		}
	}
	if len(whole) != len(pieces) || len(again.seeds) != len(tree.seeds) {
		t.Fatalf("%d pieces and %d seeds, want %d and %d", len(pieces), len(again.seeds), len(whole), len(tree.seeds))
	}
	for n, s := range tree.seeds {
		if !bytes.Equal(again.seeds[n], s) {
			t.Fatalf("the seed of node %d differs", n)
		}
	}
}

// Pieces of seeds that are not as they were written are refused; those of before, one for each seed, are read.
func TestBrokenSeedPieces(t *testing.T) {
	tree := testSecretTree(8)
	var changes Changes
	_, err := receiveKey(tree, 5, ratchetApplication, 0, Limits{MaxForward: 10}, &changes)
	ok(t, "receive", err)
	for _, good := range tree.pieces() {
		if good.Key.Kind != "seed" {
			continue
		}
		for name, change := range map[string]func(*Piece){
			"no data": func(p *Piece) { p.Data = nil }, "short": func(p *Piece) { p.Data = p.Data[:len(p.Data)-1] }, "long": func(p *Piece) { p.Data = append(p.Data, 0) },
			"version": func(p *Piece) { p.Data[0] = 9 }, "no seed": func(p *Piece) { p.Data = p.Data[:33]; p.Data[1] = 0 }, "mask": func(p *Piece) { p.Data[1] |= 0x80 },
			"node": func(p *Piece) { p.Key.B = 1 << 20 }, "leaf": func(p *Piece) { p.Key.C = 1 << 20 }, "another leaf": func(p *Piece) { p.Key.C ^= 0xff }, "root": func(p *Piece) { p.Key.B = uint64(rootOf(8)) },
		} {
			p := Piece{good.Key, good.Data.Clone()}
			change(&p)
			fresh := emptySecretTree(testSuite, tree.epoch, 8)
			if _, err := fresh.load(p); err == nil {
				t.Errorf("%v, %s: loaded", good.Key, name)
			}
		}
		fresh := emptySecretTree(testSuite, tree.epoch, 8)
		_, err := fresh.load(good)
		ok(t, "load", err)
		if _, err := fresh.load(good); err == nil {
			t.Error("the same seeds were loaded twice")
		}
	}
	old := emptySecretTree(testSuite, tree.epoch, 8)
	for n, s := range tree.seeds {
		_, err := old.load(tree.seedPiece(n, s))
		ok(t, "load a single seed", err)
	}
	if len(old.seeds) != len(tree.seeds) {
		t.Error("single seeds were not loaded")
	}
}

// Whoever takes the stored state after a message cannot open it any more, nor any before it.
func TestUsedKeysAreGone(t *testing.T) {
	tree := testSecretTree(2)
	var changes Changes
	root := tree.seeds[rootOf(2)].Clone()
	first, err := receiveKey(tree, 1, ratchetApplication, 0, Limits{MaxForward: 10, MaxSkipped: 10}, &changes)
	ok(t, "receive", err)
	leaf, opened := func() (*opening, bool) {
		fresh := newSeedTree(testSuite, 2, root.Clone())
		return fresh.open(1)
	}()
	if !opened {
		t.Fatal("no secret for leaf 1")
	}
	for _, p := range tree.pieces() {
		for name, gone := range map[string]Secret{"root": root, "leaf": leaf.leaf, "key": first.key, "nonce": first.nonce,
			"first application secret": testSuite.ExpandWithLabel(leaf.leaf, "application", nil, 32)} {
			if bytes.Contains(p.Data, gone) {
				t.Errorf("piece %v still holds the %s", p.Key, name)
			}
		}
	}
	if _, found := tree.open(1); found {
		t.Error("the secret of leaf 1 can be derived again")
	}
}

// The key that was found is used once, also when the ratchet has moved since.
func TestFoundKeysDoNotComeBack(t *testing.T) {
	limits := Limits{MaxForward: 10, MaxSkipped: 10}
	for _, opened := range []bool{false, true} {
		tree := testSecretTree(1)
		var changes Changes
		if opened {
			_, err := receiveKey(tree, 0, ratchetApplication, 0, limits, &changes)
			ok(t, "receive", err)
		}
		slow, err := tree.findKey(0, ratchetApplication, 2, limits)
		ok(t, "find", err)
		_, err = receiveKey(tree, 0, ratchetApplication, 5, limits, &changes)
		ok(t, "receive", err)
		slow.use(&changes)
		slow.use(&changes)
		for _, g := range []uint32{2, 5} {
			if _, err := tree.findKey(0, ratchetApplication, g, limits); !errors.Is(err, ErrReplay) {
				t.Errorf("generation %d: %v", g, err)
			}
		}
		for _, g := range []uint32{1, 3, 4, 6} {
			_, err := receiveKey(tree, 0, ratchetApplication, g, limits, &changes)
			ok(t, "receive", err)
		}
	}
}

func TestRatchetBounds(t *testing.T) {
	limits := Limits{}.withDefaults()
	for _, opened := range []bool{false, true} {
		tree := testSecretTree(10)
		var changes Changes
		if opened {
			_, err := receiveKey(tree, 5, ratchetApplication, 0, limits, &changes)
			ok(t, "receive", err)
		}
		before := storeTree(tree)
		start := time.Now()
		for range 1000 {
			if _, err := tree.findKey(5, ratchetApplication, math.MaxUint32, limits); !errors.Is(err, ErrTooFarAhead) {
				t.Fatal(err)
			}
		}
		if each := time.Since(start) / 1000; each > 100*time.Microsecond {
			t.Errorf("refusing generation 2^32-1 takes %v", each)
		}
		sameStored(t, storeTree(tree), before)
	}
	tree := testSecretTree(0)
	if _, err := tree.findKey(0, ratchetApplication, 1001, limits); KindOf(err) != KindLimit {
		t.Errorf("1,001 ahead: %v", err)
	}
	var changes Changes
	_, err := receiveKey(tree, 0, ratchetApplication, 1000, limits, &changes)
	ok(t, "1,000 ahead", err)
	if n := len(tree.receive[ratchetID{0, ratchetApplication}].skipped); n != DefaultMaxSkipped {
		t.Errorf("%d keys are kept, want %d", n, DefaultMaxSkipped)
	}
	if _, err := tree.findKey(0, ratchetApplication, 1000-257, limits); !errors.Is(err, ErrReplay) {
		t.Errorf("dropped key: %v", err)
	}
	if _, err := tree.findKey(0, ratchetApplication, 1000-256, limits); err != nil {
		t.Errorf("oldest kept key: %v", err)
	}
	if _, err := tree.findKey(1, ratchetApplication, 0, limits); !errors.Is(err, ErrUnknownSender) {
		t.Errorf("leaf outside the tree: %v", err)
	}
}

func TestSendRatchetEnds(t *testing.T) {
	r := &sendRatchet{ratchet{next: math.MaxUint32, secret: make(Secret, 32)}}
	k, err := r.advance(testSuite)
	ok(t, "last generation", err)
	if k.generation != math.MaxUint32 {
		t.Fatalf("generation %d", k.generation)
	}
	r, err = unmarshalSendRatchet(r.Marshal())
	ok(t, "restart", err)
	if _, err := r.advance(testSuite); !errors.Is(err, ErrExhausted) {
		t.Fatalf("after the last generation: %v", err)
	}
	last := &receiveRatchet{ratchet: ratchet{next: math.MaxUint32, secret: make(Secret, 32)}}
	n, err := last.find(testSuite, math.MaxUint32, 10, 10)
	ok(t, "last generation", err)
	same(t, "key", n.key.key, k.key)
	last.take(n)
	if _, err := last.find(testSuite, math.MaxUint32, 10, 10); !errors.Is(err, ErrReplay) {
		t.Fatalf("replay of the last generation: %v", err)
	}
}

func TestExporterTree(t *testing.T) {
	tree := newExportTree(testSuite, make(Secret, 32))
	seen := map[string]ComponentID{}
	for _, c := range []ComponentID{0, 1, 2, 0x22, 0x7fff, 0x8000, 0xffff} {
		secret, err := tree.export(c)
		ok(t, "export", err)
		if other, there := seen[string(secret)]; there {
			t.Fatalf("components %d and %d share a secret", c, other)
		}
		seen[string(secret)] = c
		tree, err = unmarshalExportTree(testSuite, tree.Marshal())
		ok(t, "restart", err)
		if _, err := tree.export(c); !errors.Is(err, ErrConsumed) {
			t.Fatalf("second export: %v", err)
		}
		if bytes.Contains(tree.Marshal(), secret) {
			t.Fatal("the stored tree still holds the secret")
		}
	}
}

func TestStoredRatchetsOfOtherVersions(t *testing.T) {
	pieces := storeTree(func() *secretTree {
		tree := testSecretTree(2)
		var changes Changes
		_, err := tree.nextSendKey(0, ratchetApplication, &changes)
		ok(t, "send", err)
		_, err = receiveKey(tree, 1, ratchetApplication, 0, Limits{}, &changes)
		ok(t, "receive", err)
		return tree
	}())
	for k, d := range pieces {
		d = d.Clone()
		d[0]++
		if _, err := emptySecretTree(testSuite, 7, 2).load(Piece{Key: k, Data: d}); !errors.Is(err, ErrStateVersion) {
			t.Errorf("%v of another version: %v", k, err)
		}
	}
}
