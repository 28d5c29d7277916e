package mls

import (
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// messageKey is the key and nonce of one generation of a ratchet. It is used for one message and wiped.
type messageKey struct {
	generation uint32
	key        Secret
	nonce      Secret
}

// Format prints [secret] whatever the verb is.
func (messageKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, secretText) }

func (k *messageKey) wipe() {
	k.key.Wipe()
	k.nonce.Wipe()
}

// ratchet is a hash ratchet of one sender (RFC 9420 §9.1): the secret of the next generation, which is 2^32 when the
// ratchet is exhausted.
type ratchet struct {
	next   uint64
	secret Secret
}

// key derives the message key of the next generation.
func (r *ratchet) key(suite Suite) messageKey {
	g := uint32(r.next)
	return messageKey{
		generation: g,
		key:        suite.deriveTreeSecret(r.secret, "key", g, suite.must().nk),
		nonce:      suite.deriveTreeSecret(r.secret, "nonce", g, nonceSize),
	}
}

// step returns the ratchet one generation on. The receiver keeps its secret.
func (r *ratchet) step(suite Suite) ratchet {
	return ratchet{next: r.next + 1, secret: suite.deriveTreeSecret(r.secret, "secret", uint32(r.next), suite.HashLength())}
}

// sendRatchet is the sending ratchet of an own leaf.
type sendRatchet struct{ ratchet }

// advance returns the key of the next generation and moves on. ErrExhausted after generation 2^32-1.
func (r *sendRatchet) advance(suite Suite) (messageKey, error) {
	if r.next > math.MaxUint32 {
		return messageKey{}, fail(KindLimit, "protect message", ErrExhausted)
	}
	k, next := r.key(suite), r.step(suite)
	r.secret.Wipe()
	r.ratchet = next
	return k, nil
}

// receiveRatchet is the receiving ratchet of a member: what comes next, and the keys of the generations that were
// passed over, in ascending order.
type receiveRatchet struct {
	ratchet
	skipped []messageKey
	taken   uint64 // how often take changed it in this process
}

// received is a receiveRatchet after a message was opened: it takes the place of the old one when the message proves
// good.
type received struct {
	key  messageKey
	next receiveRatchet
}

// find derives the key of a generation without changing the ratchet. At most maxForward generations may lie between
// what comes next and the message, at most maxSkipped keys of skipped generations are kept, the youngest.
func (r *receiveRatchet) find(suite Suite, generation uint32, maxForward, maxSkipped int) (*received, error) {
	const op = "find message key"
	g := uint64(generation)
	if g < r.next {
		i, ok := slices.BinarySearchFunc(r.skipped, generation, func(k messageKey, g uint32) int {
			return compareUint32(k.generation, g)
		})
		if !ok {
			return nil, failf(KindReplay, op, ErrReplay, "generation %d", generation)
		}
		rest := slices.Concat(r.skipped[:i], r.skipped[i+1:])
		return &received{key: r.skipped[i], next: receiveRatchet{ratchet: r.ratchet, skipped: rest}}, nil
	}
	if g-r.next > uint64(maxForward) {
		return nil, failf(KindLimit, op, ErrTooFarAhead, "generation %d, next is %d", generation, r.next)
	}
	at, skipped := r.ratchet, r.skipped
	if g > r.next {
		skipped = slices.Clone(r.skipped)
	}
	for at.next < g {
		if g-at.next <= uint64(maxSkipped) {
			skipped = append(skipped, at.key(suite))
		}
		next := at.step(suite)
		if at.next != r.next {
			at.secret.Wipe()
		}
		at = next
	}
	if n := len(skipped) - maxSkipped; n > 0 {
		skipped = skipped[n:]
	}
	out := &received{key: at.key(suite), next: receiveRatchet{ratchet: at.step(suite), skipped: skipped}}
	if at.next != r.next {
		at.secret.Wipe()
	}
	return out, nil
}

func compareUint32(a, b uint32) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

// take puts the state after the message in the place of r, and forgets the key and everything older that went.
func (r *receiveRatchet) take(n *received) {
	if n.next.next != r.next {
		r.secret.Wipe()
	}
	n.next.taken = r.taken + 1
	*r = n.next
	n.key.wipe()
}

const ratchetVersion = 1

func (r *ratchet) append(b []byte) []byte {
	b = tlspl.AppendUint64(append(b, ratchetVersion), r.next)
	return tlspl.AppendOpaque(b, r.secret)
}

func readRatchet(r *tlspl.Reader) ratchet {
	if v := r.Uint8(); v != ratchetVersion {
		r.Fail(fmt.Errorf("version %d: %w", v, ErrStateVersion))
	}
	out := ratchet{next: r.Uint64(), secret: Secret(r.Opaque(-1)).Clone()}
	if out.next > math.MaxUint32+1 {
		unknownValue(r, "generation", out.next)
	}
	return out
}

// Marshal returns the stored form, versioned.
func (r *sendRatchet) Marshal() Secret { return r.append(nil) }

func unmarshalSendRatchet(b Secret) (*sendRatchet, error) {
	return decode("sending ratchet", b, func(r *tlspl.Reader) *sendRatchet { return &sendRatchet{readRatchet(r)} })
}

// Marshal returns the stored form, versioned: about 50 bytes, and some 35 for each skipped generation.
func (r *receiveRatchet) Marshal() Secret {
	return appendList(r.append(nil), r.skipped, func(k *messageKey, b []byte) []byte {
		b = tlspl.AppendOpaque(tlspl.AppendUint32(b, k.generation), k.key)
		return tlspl.AppendOpaque(b, k.nonce)
	})
}

func unmarshalReceiveRatchet(b Secret) (*receiveRatchet, error) {
	return decode("receiving ratchet", b, func(r *tlspl.Reader) *receiveRatchet {
		return &receiveRatchet{ratchet: readRatchet(r), skipped: readList(r, math.MaxInt, func(r *tlspl.Reader) messageKey {
			return messageKey{generation: r.Uint32(), key: Secret(r.Opaque(-1)).Clone(), nonce: Secret(r.Opaque(-1)).Clone()}
		})}
	})
}
