package mls

import (
	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// Sender says who sent a message (RFC 9420 §6).
type Sender struct {
	Type  SenderType
	Leaf  LeafIndex // of a member
	Index uint32    // of an external sender: its place in external_senders
}

// MemberSender returns the sender for a member.
func MemberSender(leaf LeafIndex) Sender { return Sender{Type: SenderMember, Leaf: leaf} }

func readSender(r *tlspl.Reader) Sender {
	s := Sender{Type: SenderType(r.Uint8())}
	switch s.Type {
	case SenderMember:
		s.Leaf = LeafIndex(r.Uint32())
	case SenderExternal:
		s.Index = r.Uint32()
	case SenderNewMemberProposal, SenderNewMemberCommit:
	default:
		unknownValue(r, "sender_type", uint64(s.Type))
	}
	return s
}

func (s *Sender) append(b []byte) []byte {
	b = append(b, byte(s.Type))
	switch s.Type {
	case SenderMember:
		b = tlspl.AppendUint32(b, uint32(s.Leaf))
	case SenderExternal:
		b = tlspl.AppendUint32(b, s.Index)
	}
	return b
}

// FramedContent is a message before protection (RFC 9420 §6). ContentType says which of the last three fields
// counts. A decoded one remembers its bytes and must not be changed.
type FramedContent struct {
	GroupID           []byte
	Epoch             uint64
	Sender            Sender
	AuthenticatedData []byte
	ContentType       ContentType
	Application       []byte
	Proposal          *Proposal
	Commit            *Commit

	raw []byte
}

func readFramedContent(r *tlspl.Reader) FramedContent {
	start := r.Offset()
	c := FramedContent{
		GroupID:           r.Opaque(-1),
		Epoch:             r.Uint64(),
		Sender:            readSender(r),
		AuthenticatedData: r.Opaque(-1),
		ContentType:       ContentType(r.Uint8()),
	}
	c.readContent(r)
	c.raw = r.Since(start)
	return c
}

// readContent reads what ContentType says.
func (c *FramedContent) readContent(r *tlspl.Reader) {
	switch c.ContentType {
	case ContentApplication:
		c.Application = r.Opaque(-1)
	case ContentProposal:
		p := ReadProposal(r)
		c.Proposal = &p
	case ContentCommit:
		commit := ReadCommit(r)
		c.Commit = &commit
	default:
		unknownValue(r, "content_type", uint64(c.ContentType))
	}
}

func (c *FramedContent) appendContent(b []byte) []byte {
	switch c.ContentType {
	case ContentApplication:
		return tlspl.AppendOpaque(b, c.Application)
	case ContentProposal:
		return c.Proposal.append(b)
	default:
		return c.Commit.append(b)
	}
}

func (c *FramedContent) appendFields(b []byte) []byte {
	b = tlspl.AppendOpaque(b, c.GroupID)
	b = tlspl.AppendUint64(b, c.Epoch)
	b = c.Sender.append(b)
	b = tlspl.AppendOpaque(b, c.AuthenticatedData)
	return c.appendContent(append(b, byte(c.ContentType)))
}

func (c *FramedContent) append(b []byte) []byte {
	if c.raw != nil {
		return append(b, c.raw...)
	}
	return c.appendFields(b)
}

// freeze remembers the encoding, so that signing, tagging and hashing build it once.
func (c *FramedContent) freeze() {
	if c.raw == nil {
		c.raw = c.appendFields(nil)
	}
}

// FramedContentAuthData is what authenticates a FramedContent (RFC 9420 §6.1).
type FramedContentAuthData struct {
	Signature       []byte
	ConfirmationTag []byte // of a commit
}

func readFramedContentAuthData(r *tlspl.Reader, t ContentType) FramedContentAuthData {
	a := FramedContentAuthData{Signature: r.Opaque(-1)}
	if t == ContentCommit {
		a.ConfirmationTag = r.Opaque(-1)
	}
	return a
}

func (a *FramedContentAuthData) append(b []byte, t ContentType) []byte {
	b = tlspl.AppendOpaque(b, a.Signature)
	if t == ContentCommit {
		b = tlspl.AppendOpaque(b, a.ConfirmationTag)
	}
	return b
}

// AuthenticatedContent is a message with its signature, whatever it was wrapped in (RFC 9420 §6).
type AuthenticatedContent struct {
	WireFormat WireFormat
	Content    FramedContent
	Auth       FramedContentAuthData
}

// ReadAuthenticatedContent reads an AuthenticatedContent from a stream.
func ReadAuthenticatedContent(r *tlspl.Reader) AuthenticatedContent {
	a := AuthenticatedContent{WireFormat: WireFormat(r.Uint16()), Content: readFramedContent(r)}
	a.Auth = readFramedContentAuthData(r, a.Content.ContentType)
	return a
}

// UnmarshalAuthenticatedContent decodes an AuthenticatedContent.
func UnmarshalAuthenticatedContent(b []byte) (*AuthenticatedContent, error) {
	a, err := decode("AuthenticatedContent", b, ReadAuthenticatedContent)
	if err != nil {
		return nil, err
	}
	return &a, nil
}

func (a *AuthenticatedContent) append(b []byte) []byte {
	b = a.Content.append(tlspl.AppendUint16(b, uint16(a.WireFormat)))
	return a.Auth.append(b, a.Content.ContentType)
}

// Marshal returns the encoding.
func (a *AuthenticatedContent) Marshal() []byte { return a.append(nil) }

// ProposalRef returns the reference by which a commit names the proposal that a carries (RFC 9420 §5.2).
func (a *AuthenticatedContent) ProposalRef(suite Suite) ([]byte, error) {
	return RefHash(suite, refLabelProposal, a.Marshal())
}

// PublicMessage is a signed message that is not encrypted (RFC 9420 §6.2).
type PublicMessage struct {
	Content       FramedContent
	Auth          FramedContentAuthData
	MembershipTag []byte // of a member
}

// ReadPublicMessage reads a PublicMessage from a stream.
func ReadPublicMessage(r *tlspl.Reader) PublicMessage {
	m := PublicMessage{Content: readFramedContent(r)}
	m.Auth = readFramedContentAuthData(r, m.Content.ContentType)
	if m.Content.Sender.Type == SenderMember {
		m.MembershipTag = r.Opaque(-1)
	}
	return m
}

func (m *PublicMessage) append(b []byte) []byte {
	b = m.Auth.append(m.Content.append(b), m.Content.ContentType)
	if m.Content.Sender.Type == SenderMember {
		b = tlspl.AppendOpaque(b, m.MembershipTag)
	}
	return b
}

// UnmarshalPublicMessage decodes a PublicMessage (the bare struct, not an MLSMessage).
func UnmarshalPublicMessage(b []byte) (*PublicMessage, error) {
	m, err := decode("PublicMessage", b, ReadPublicMessage)
	if err != nil {
		return nil, err
	}
	return &m, nil
}

// Marshal returns the encoding of the bare struct.
func (m *PublicMessage) Marshal() []byte { return m.append(nil) }

// authenticated returns the message without its membership tag.
func (m *PublicMessage) authenticated() *AuthenticatedContent {
	return &AuthenticatedContent{WireFormat: WireFormatPublicMessage, Content: m.Content, Auth: m.Auth}
}

// PrivateMessage is an encrypted message (RFC 9420 §6.3).
type PrivateMessage struct {
	GroupID             []byte
	Epoch               uint64
	ContentType         ContentType
	AuthenticatedData   []byte
	EncryptedSenderData []byte
	Ciphertext          []byte
}

// ReadPrivateMessage reads a PrivateMessage from a stream.
func ReadPrivateMessage(r *tlspl.Reader) PrivateMessage {
	m := PrivateMessage{GroupID: r.Opaque(-1), Epoch: r.Uint64(), ContentType: ContentType(r.Uint8())}
	if m.ContentType < ContentApplication || m.ContentType > ContentCommit {
		unknownValue(r, "content_type", uint64(m.ContentType))
	}
	m.AuthenticatedData = r.Opaque(-1)
	m.EncryptedSenderData = r.Opaque(-1)
	m.Ciphertext = r.Opaque(-1)
	return m
}

func (m *PrivateMessage) append(b []byte) []byte {
	b = m.appendAAD(b)
	b = tlspl.AppendOpaque(b, m.EncryptedSenderData)
	return tlspl.AppendOpaque(b, m.Ciphertext)
}

// appendAAD appends PrivateContentAAD, which is also the head of the message (RFC 9420 §6.3.1).
func (m *PrivateMessage) appendAAD(b []byte) []byte {
	b = tlspl.AppendUint64(tlspl.AppendOpaque(b, m.GroupID), m.Epoch)
	return tlspl.AppendOpaque(append(b, byte(m.ContentType)), m.AuthenticatedData)
}

// UnmarshalPrivateMessage decodes a PrivateMessage (the bare struct, not an MLSMessage).
func UnmarshalPrivateMessage(b []byte) (*PrivateMessage, error) {
	m, err := decode("PrivateMessage", b, ReadPrivateMessage)
	if err != nil {
		return nil, err
	}
	return &m, nil
}

// Marshal returns the encoding of the bare struct.
func (m *PrivateMessage) Marshal() []byte { return m.append(nil) }

// MLSMessage is what travels (RFC 9420 §6). WireFormat says which of the pointers is set; the body of a message of
// unknown wire format, decoded on its own, is in Unknown.
type MLSMessage struct {
	WireFormat WireFormat
	Public     *PublicMessage
	Private    *PrivateMessage
	Welcome    *Welcome
	GroupInfo  *GroupInfo
	KeyPackage *KeyPackage
	Unknown    []byte
}

// ReadMLSMessage reads an MLSMessage from a stream. One of unknown wire format has no end that could be found there:
// ErrUnknownWireFormat.
func ReadMLSMessage(r *tlspl.Reader) MLSMessage {
	m := readMessageHead(r)
	if !m.readBody(r) {
		r.Fail(ErrUnknownWireFormat)
	}
	return m
}

// UnmarshalMLSMessage decodes an MLSMessage. One of unknown wire format keeps its body in Unknown. The result
// aliases b.
func UnmarshalMLSMessage(b []byte) (*MLSMessage, error) {
	return decode("MLSMessage", b, func(r *tlspl.Reader) *MLSMessage {
		m := readMessageHead(r)
		if !m.readBody(r) {
			m.Unknown = r.Rest()
		}
		return &m
	})
}

func readMessageHead(r *tlspl.Reader) MLSMessage {
	readVersion(r)
	return MLSMessage{WireFormat: WireFormat(r.Uint16())}
}

func (m *MLSMessage) readBody(r *tlspl.Reader) bool {
	switch m.WireFormat {
	case WireFormatPublicMessage:
		v := ReadPublicMessage(r)
		m.Public = &v
	case WireFormatPrivateMessage:
		v := ReadPrivateMessage(r)
		m.Private = &v
	case WireFormatWelcome:
		v := ReadWelcome(r)
		m.Welcome = &v
	case WireFormatGroupInfo:
		v := ReadGroupInfo(r)
		m.GroupInfo = &v
	case WireFormatKeyPackage:
		v := ReadKeyPackage(r)
		m.KeyPackage = &v
	default:
		return false
	}
	return true
}

// Marshal returns the encoding.
func (m *MLSMessage) Marshal() []byte {
	b := appendMessageHead(nil, m.WireFormat)
	switch {
	case m.Public != nil:
		return m.Public.append(b)
	case m.Private != nil:
		return m.Private.append(b)
	case m.Welcome != nil:
		return m.Welcome.append(b)
	case m.GroupInfo != nil:
		return m.GroupInfo.append(b)
	case m.KeyPackage != nil:
		return m.KeyPackage.append(b)
	default:
		return append(b, m.Unknown...)
	}
}

func appendMessageHead(b []byte, f WireFormat) []byte {
	return tlspl.AppendUint16(tlspl.AppendUint16(b, uint16(VersionMLS10)), uint16(f))
}

// Message wraps a PublicMessage as an MLSMessage and encodes it.
func (m *PublicMessage) Message() []byte {
	return m.append(appendMessageHead(nil, WireFormatPublicMessage))
}

// Message wraps a PrivateMessage as an MLSMessage and encodes it.
func (m *PrivateMessage) Message() []byte {
	return m.append(appendMessageHead(nil, WireFormatPrivateMessage))
}

// Message wraps a Welcome as an MLSMessage and encodes it.
func (w *Welcome) Message() []byte { return w.append(appendMessageHead(nil, WireFormatWelcome)) }

// Message wraps a GroupInfo as an MLSMessage and encodes it.
func (g *GroupInfo) Message() []byte { return g.append(appendMessageHead(nil, WireFormatGroupInfo)) }

// Message wraps a KeyPackage as an MLSMessage and encodes it.
func (kp *KeyPackage) Message() []byte {
	return kp.append(appendMessageHead(nil, WireFormatKeyPackage))
}
