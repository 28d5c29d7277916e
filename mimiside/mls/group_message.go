package mls

import (
	"bytes"
	"io"
	"time"
)

// parse decodes a received MLSMessage into memory of its own.
func parse(message []byte) (*MLSMessage, error) { return UnmarshalMLSMessage(bytes.Clone(message)) }

// Protect encrypts an application message from an own leaf. padding is a number of zero bytes. The Changes advance
// its sending ratchet: they must be stored before the message is sent. A nil aad becomes an empty SafeAAD where the
// group asks for one.
func (g *Group) Protect(rand io.Reader, leaf LeafIndex, data, aad []byte, padding int) (*Protected, Changes, error) {
	const op = "protect message"
	own, err := g.ownKey(op, leaf)
	if err != nil {
		return nil, Changes{}, err
	}
	if err := g.open(op); err != nil {
		return nil, Changes{}, err
	}
	if aad, err = g.aad(op, aad); err != nil {
		return nil, Changes{}, err
	}
	content := FramedContent{GroupID: g.groupID, Epoch: g.Epoch(), Sender: MemberSender(leaf), AuthenticatedData: aad,
		ContentType: ContentApplication, Application: data}
	a, err := signContent(own.signature, WireFormatPrivateMessage, content, g.cur.encoded)
	if err != nil {
		return nil, Changes{}, err
	}
	m, generation, c, err := g.sealPrivate(rand, a, padding)
	if err != nil {
		return nil, Changes{}, fail(KindBug, op, err)
	}
	return &Protected{Message: m, Epoch: g.Epoch(), Leaf: leaf, Generation: generation}, c, nil
}

// sealPrivate encrypts a signed message with the next key of its sender, an own leaf. All that can fail comes before
// the ratchet moves.
func (g *Group) sealPrivate(rand io.Reader, a *AuthenticatedContent, padding int) (message []byte, generation uint32, c Changes, err error) {
	if padding < 0 {
		return nil, 0, c, failf(KindBug, "pad message", ErrPadding, "%d bytes", padding)
	}
	guard, err := randomBytes(rand, reuseGuardSize)
	if err != nil {
		return nil, 0, c, err
	}
	key, err := g.cur.keys.nextSendKey(a.Content.Sender.Leaf, ratchetKindOf(a.Content.ContentType), &c)
	if err != nil {
		return nil, 0, Changes{}, err
	}
	defer key.wipe()
	m, err := sealPrivate(bytes.NewReader(guard), g.suite, g.cur.secrets.senderData, a, key, padding)
	if err != nil {
		return nil, 0, Changes{}, err
	}
	return m.Message(), key.generation, c, nil
}

// openPrivate decrypts a PrivateMessage and verifies its signature. Nothing changes until the key is used.
func (g *Group) openPrivate(now time.Time, m *PrivateMessage) (*AuthenticatedContent, pastLeaf, *foundKey, error) {
	const op = "open PrivateMessage"
	if !bytes.Equal(m.GroupID, g.groupID) {
		return nil, pastLeaf{}, nil, fail(KindInvalid, op, ErrWrongGroup)
	}
	at, err := g.eraOf(now, m.Epoch)
	if err != nil {
		return nil, pastLeaf{}, nil, err
	}
	if err := at.rules.checkAAD(m.AuthenticatedData); err != nil {
		return nil, pastLeaf{}, nil, err
	}
	d, err := openSenderData(g.suite, at.senderData, m)
	if err != nil {
		return nil, pastLeaf{}, nil, err
	}
	sender := at.leaf(d.leaf)
	if sender.leaf == nil {
		return nil, pastLeaf{}, nil, failf(KindInvalid, op, ErrUnknownSender, "leaf %d", d.leaf)
	}
	if sender.own {
		return nil, pastLeaf{}, nil, failf(KindReplay, op, ErrOwnMessage, "leaf %d", d.leaf)
	}
	key, err := at.keys.findKey(d.leaf, ratchetKindOf(m.ContentType), d.generation, g.cfg.Limits)
	if err != nil {
		return nil, pastLeaf{}, nil, err
	}
	a, err := openPrivate(g.suite, m, d, key.key)
	if err != nil {
		return nil, pastLeaf{}, nil, err
	}
	if err := verifyContent(g.suite, sender.leaf.SignatureKey, a, at.encoded); err != nil {
		return nil, pastLeaf{}, nil, err
	}
	return a, sender, key, nil
}

// Unprotect decrypts an application message, an encoded MLSMessage, of the present epoch or of one that is
// remembered. A message of an own leaf gives ErrOwnMessage, one that was opened before ErrReplay, one of a later
// epoch ErrWrongEpoch with KindEpoch.
func (g *Group) Unprotect(now time.Time, message []byte) (*Application, Changes, error) {
	return g.UnprotectFrom(now, message, nil)
}

// UnprotectFrom is Unprotect of a message of which something is claimed about the sender: claimed gets the leaf that signed it, and when
// it says no the error is ErrSender. Nothing changes then: the message can be opened later. A nil claimed claims nothing.
func (g *Group) UnprotectFrom(now time.Time, message []byte, claimed func(*LeafNode) bool) (*Application, Changes, error) {
	const op = "unprotect message"
	m, err := parse(message)
	if err != nil {
		return nil, Changes{}, err
	}
	if m.WireFormat != WireFormatPrivateMessage || m.Private.ContentType != ContentApplication {
		return nil, Changes{}, failf(KindInvalid, op, ErrWireFormat, "not an application message")
	}
	a, sender, key, err := g.openPrivate(now, m.Private)
	if err != nil {
		return nil, Changes{}, fail(KindInvalid, op, err)
	}
	if claimed != nil && !claimed(sender.leaf) {
		return nil, Changes{}, failf(KindInvalid, op, ErrSender, "leaf %d", a.Content.Sender.Leaf)
	}
	var c Changes
	generation := key.key.generation
	key.use(&c)
	return &Application{
		Sender: a.Content.Sender.Leaf, Leaf: sender.leaf, Epoch: a.Content.Epoch, Generation: generation,
		Data: a.Content.Application, AAD: a.Content.AuthenticatedData,
	}, c, nil
}

// openHandshake opens a proposal or commit of the present epoch in either framing and verifies it as far as its
// sender is known before its content: the signature of those who join is left to the caller, who finds their key
// inside. found is the key of a PrivateMessage, to be used when the message is accepted.
func (g *Group) openHandshake(now time.Time, message []byte, want ContentType) (a *AuthenticatedContent, found *foundKey, err error) {
	const op = "open handshake message"
	m, err := parse(message)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case m.WireFormat == WireFormatPublicMessage && m.Public.Content.ContentType == want:
		a, err = g.openPublic(m.Public)
	case m.WireFormat == WireFormatPrivateMessage && m.Private.ContentType == want:
		if err = g.checkEpoch(m.Private.GroupID, m.Private.Epoch); err == nil {
			a, _, found, err = g.openPrivate(now, m.Private)
		}
	default:
		err = failf(KindInvalid, op, ErrWireFormat, "wire format %d", m.WireFormat)
	}
	if err != nil {
		return nil, nil, fail(KindInvalid, op, err)
	}
	return a, found, nil
}

// checkEpoch refuses handshake messages of other groups and epochs.
func (g *Group) checkEpoch(groupID []byte, epoch uint64) error {
	const op = "check epoch"
	if !bytes.Equal(groupID, g.groupID) {
		return fail(KindInvalid, op, ErrWrongGroup)
	}
	if epoch != g.Epoch() {
		return failf(KindEpoch, op, ErrWrongEpoch, "%d, the group is in %d", epoch, g.Epoch())
	}
	return g.open(op)
}

func (g *Group) openPublic(m *PublicMessage) (*AuthenticatedContent, error) {
	const op = "open PublicMessage"
	c := &m.Content
	if err := g.checkEpoch(c.GroupID, c.Epoch); err != nil {
		return nil, err
	}
	if err := g.cur.rules.checkAAD(c.AuthenticatedData); err != nil {
		return nil, err
	}
	var key []byte
	switch c.Sender.Type {
	case SenderMember:
		leaf := g.cur.tree.leaf(c.Sender.Leaf)
		if leaf == nil {
			return nil, failf(KindInvalid, op, ErrUnknownSender, "leaf %d", c.Sender.Leaf)
		}
		key = leaf.SignatureKey
	case SenderExternal:
		if uint64(c.Sender.Index) >= uint64(len(g.cur.rules.external)) {
			return nil, failf(KindInvalid, op, ErrUnknownSender, "external sender %d", c.Sender.Index)
		}
		key = g.cur.rules.external[c.Sender.Index].SignatureKey
	case SenderNewMemberProposal:
		if c.Proposal == nil || c.Proposal.Type != ProposalAdd {
			return nil, failf(KindInvalid, op, ErrSender, "new member proposes something else than its Add")
		}
		key = c.Proposal.Add.Leaf.SignatureKey
	case SenderNewMemberCommit:
		if c.Commit == nil || c.Commit.Path == nil {
			return nil, failf(KindInvalid, op, ErrPathMissing, "external commit")
		}
		key = c.Commit.Path.Leaf.SignatureKey
	}
	if c.Sender.Type == SenderExternal && c.Commit != nil {
		return nil, failf(KindInvalid, op, ErrSender, "external sender commits")
	}
	a := m.authenticated()
	if g.cur.secrets != nil {
		var err error
		if a, err = g.cur.secrets.openPublic(g.suite, m, g.cur.encoded); err != nil {
			return nil, err
		}
	}
	return a, verifyContent(g.suite, key, a, g.cur.encoded)
}
