package mls

import (
	"crypto/hmac"
	"io"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

const (
	signLabelFramedContent = "FramedContentTBS"
	reuseGuardSize         = 4
)

// appendTBS appends FramedContentTBS (RFC 9420 §6.1). groupContext is the encoding of the GroupContext of the
// message's epoch; it counts for members and for those who join by external commit.
func (a *AuthenticatedContent) appendTBS(b, groupContext []byte) []byte {
	b = tlspl.AppendUint16(b, uint16(VersionMLS10))
	b = tlspl.AppendUint16(b, uint16(a.WireFormat))
	b = a.Content.append(b)
	switch a.Content.Sender.Type {
	case SenderMember, SenderNewMemberCommit:
		b = append(b, groupContext...)
	}
	return b
}

func (a *AuthenticatedContent) tbs(groupContext []byte) []byte {
	a.Content.freeze()
	size := len(a.Content.raw) + len(groupContext) + len(a.Auth.Signature) + len(a.Auth.ConfirmationTag) + 32
	return a.appendTBS(make([]byte, 0, size), groupContext)
}

// signContent signs a message (RFC 9420 §6.1). The confirmation tag of a commit is for the caller to add.
func signContent(key *SignatureKey, format WireFormat, content FramedContent, groupContext []byte) (*AuthenticatedContent, error) {
	a := &AuthenticatedContent{WireFormat: format, Content: content}
	a.Content.raw = nil
	sig, err := key.Sign(signLabelFramedContent, a.tbs(groupContext))
	if err != nil {
		return nil, fail(KindBug, "sign message", err)
	}
	a.Auth.Signature = sig
	return a, nil
}

// verifyContent checks the signature of a message under the sender's signature key, and that an application message
// was not sent in the open (RFC 9420 §6.1, §6.2).
func verifyContent(suite Suite, signatureKey []byte, a *AuthenticatedContent, groupContext []byte) error {
	const op = "verify message"
	if a.Content.ContentType == ContentApplication && a.WireFormat == WireFormatPublicMessage {
		return failf(KindInvalid, op, ErrSender, "application data in a PublicMessage")
	}
	err := VerifyWithLabel(suite, signatureKey, signLabelFramedContent, a.tbs(groupContext), a.Auth.Signature)
	if err != nil {
		return fail(KindInvalid, op, err)
	}
	return nil
}

// membershipTag is the MAC by which a PublicMessage shows that a member sent it (RFC 9420 §6.2).
func (s *epochSecrets) membershipTag(suite Suite, a *AuthenticatedContent, groupContext []byte) []byte {
	return suite.MAC(s.membership, a.Auth.append(a.tbs(groupContext), a.Content.ContentType))
}

// sealPublic wraps a signed message as PublicMessage. s may be nil for senders that are no members.
func (s *epochSecrets) sealPublic(suite Suite, a *AuthenticatedContent, groupContext []byte) *PublicMessage {
	m := &PublicMessage{Content: a.Content, Auth: a.Auth}
	if a.Content.Sender.Type == SenderMember {
		m.MembershipTag = s.membershipTag(suite, a, groupContext)
	}
	return m
}

// openPublic checks the membership tag of a member's PublicMessage: ErrMembershipTag. The signature is for
// verifyContent, which needs the sender's key. A public view has no membership key and calls m.authenticated.
func (s *epochSecrets) openPublic(suite Suite, m *PublicMessage, groupContext []byte) (*AuthenticatedContent, error) {
	a := m.authenticated()
	if a.Content.Sender.Type == SenderMember && !hmac.Equal(s.membershipTag(suite, a, groupContext), m.MembershipTag) {
		return nil, fail(KindInvalid, "open PublicMessage", ErrMembershipTag)
	}
	return a, nil
}

// senderData says whose ratchet and which generation protects a PrivateMessage (RFC 9420 §6.3.2).
type senderData struct {
	leaf       LeafIndex
	generation uint32
	reuseGuard [reuseGuardSize]byte
}

func (d *senderData) append(b []byte) []byte {
	b = tlspl.AppendUint32(tlspl.AppendUint32(b, uint32(d.leaf)), d.generation)
	return append(b, d.reuseGuard[:]...)
}

func readSenderData(r *tlspl.Reader) senderData {
	d := senderData{leaf: LeafIndex(r.Uint32()), generation: r.Uint32()}
	copy(d.reuseGuard[:], r.Bytes(reuseGuardSize))
	return d
}

// senderDataKey derives the key and nonce of the sender data from a sample of the ciphertext (RFC 9420 §6.3.2).
func senderDataKey(suite Suite, senderDataSecret Secret, ciphertext []byte) (key, nonce Secret) {
	sample := ciphertext[:min(len(ciphertext), suite.HashLength())]
	return suite.ExpandWithLabel(senderDataSecret, "key", sample, suite.must().nk),
		suite.ExpandWithLabel(senderDataSecret, "nonce", sample, nonceSize)
}

// senderDataAAD returns SenderDataAAD, which is the head of the message up to its content type.
func (m *PrivateMessage) senderDataAAD() []byte {
	b := tlspl.AppendOpaque(make([]byte, 0, len(m.GroupID)+16), m.GroupID)
	return append(tlspl.AppendUint64(b, m.Epoch), byte(m.ContentType))
}

// guarded returns the nonce with the reuse guard mixed in (RFC 9420 §6.3.1).
func (k *messageKey) guarded(guard [reuseGuardSize]byte) []byte {
	nonce := k.nonce.Clone()
	for i, g := range guard {
		nonce[i] ^= g
	}
	return nonce
}

// sealPrivate encrypts a signed message of a member with a key of its sending ratchet (RFC 9420 §6.3). The reuse
// guard comes from rand; padding is a number of zero bytes. The key must not be used again.
func sealPrivate(rand io.Reader, suite Suite, senderDataSecret Secret, a *AuthenticatedContent, key messageKey,
	padding int) (*PrivateMessage, error) {
	const op = "seal PrivateMessage"
	if a.Content.Sender.Type != SenderMember || a.WireFormat != WireFormatPrivateMessage || padding < 0 {
		return nil, fail(KindBug, op, ErrSender)
	}
	d := senderData{leaf: a.Content.Sender.Leaf, generation: key.generation}
	if _, err := io.ReadFull(rand, d.reuseGuard[:]); err != nil {
		return nil, fail(KindBug, op, ErrRandom)
	}
	m := &PrivateMessage{GroupID: a.Content.GroupID, Epoch: a.Content.Epoch, ContentType: a.Content.ContentType,
		AuthenticatedData: a.Content.AuthenticatedData}
	plain := a.Content.appendContent(make([]byte, 0, len(a.Content.raw)+len(a.Auth.Signature)+padding+64))
	plain = a.Auth.append(plain, a.Content.ContentType)
	plain = append(plain, make([]byte, padding)...)
	m.Ciphertext = suite.newAEAD(key.key).Seal(plain[:0], key.guarded(d.reuseGuard), plain, m.appendAAD(nil))
	sdKey, sdNonce := senderDataKey(suite, senderDataSecret, m.Ciphertext)
	m.EncryptedSenderData = suite.newAEAD(sdKey).Seal(nil, sdNonce, d.append(nil), m.senderDataAAD())
	return m, nil
}

// openSenderData decrypts the sender data of a PrivateMessage: ErrDecrypt when no member of the epoch made it.
func openSenderData(suite Suite, senderDataSecret Secret, m *PrivateMessage) (senderData, error) {
	const op = "open sender data"
	key, nonce := senderDataKey(suite, senderDataSecret, m.Ciphertext)
	plain, err := suite.newAEAD(key).Open(nil, nonce, m.EncryptedSenderData, m.senderDataAAD())
	if err != nil {
		return senderData{}, fail(KindInvalid, op, ErrDecrypt)
	}
	return decode("SenderData", plain, readSenderData)
}

// openPrivate decrypts a PrivateMessage with the key that its sender data names. The signature is for verifyContent.
func openPrivate(suite Suite, m *PrivateMessage, d senderData, key messageKey) (*AuthenticatedContent, error) {
	const op = "open PrivateMessage"
	plain, err := suite.newAEAD(key.key).Open(nil, key.guarded(d.reuseGuard), m.Ciphertext, m.appendAAD(nil))
	if err != nil {
		return nil, fail(KindInvalid, op, ErrDecrypt)
	}
	a := &AuthenticatedContent{
		WireFormat: WireFormatPrivateMessage,
		Content: FramedContent{GroupID: m.GroupID, Epoch: m.Epoch, Sender: MemberSender(d.leaf),
			AuthenticatedData: m.AuthenticatedData, ContentType: m.ContentType},
	}
	r := tlspl.NewReader(plain)
	a.Content.readContent(r)
	a.Auth = readFramedContentAuthData(r, m.ContentType)
	var nonZero byte
	for _, b := range r.Rest() {
		nonZero |= b
	}
	if err := r.Close(); err != nil {
		return nil, fail(KindMalformed, op, err)
	}
	if nonZero != 0 {
		return nil, fail(KindInvalid, op, ErrPadding)
	}
	return a, nil
}
