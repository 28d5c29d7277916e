package mls

import (
	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// GroupContext is what all members agree on (RFC 9420 §8.1).
type GroupContext struct {
	Version                 ProtocolVersion
	Suite                   Suite
	GroupID                 []byte
	Epoch                   uint64
	TreeHash                []byte
	ConfirmedTranscriptHash []byte
	Extensions              Extensions
}

// ReadGroupContext reads a GroupContext from a stream.
func ReadGroupContext(r *tlspl.Reader) GroupContext {
	return GroupContext{
		Version:                 readVersion(r),
		Suite:                   Suite(r.Uint16()),
		GroupID:                 r.Opaque(-1),
		Epoch:                   r.Uint64(),
		TreeHash:                r.Opaque(-1),
		ConfirmedTranscriptHash: r.Opaque(-1),
		Extensions:              ReadExtensions(r),
	}
}

// UnmarshalGroupContext decodes a GroupContext.
func UnmarshalGroupContext(b []byte) (*GroupContext, error) {
	c, err := decode("GroupContext", b, ReadGroupContext)
	if err != nil {
		return nil, err
	}
	return &c, nil
}

func (c *GroupContext) append(b []byte) []byte {
	b = tlspl.AppendUint16(b, uint16(c.Version))
	b = tlspl.AppendUint16(b, uint16(c.Suite))
	b = tlspl.AppendOpaque(b, c.GroupID)
	b = tlspl.AppendUint64(b, c.Epoch)
	b = tlspl.AppendOpaque(b, c.TreeHash)
	b = tlspl.AppendOpaque(b, c.ConfirmedTranscriptHash)
	return c.Extensions.append(b)
}

// Marshal returns the encoding.
func (c *GroupContext) Marshal() []byte { return c.append(nil) }

// GroupInfo describes the state of a group to those who join (RFC 9420 §12.4.3). A decoded or signed one remembers
// its bytes and must not be changed.
type GroupInfo struct {
	Context         GroupContext
	Extensions      Extensions
	ConfirmationTag []byte
	Signer          LeafIndex
	Signature       []byte

	raw []byte
}

// ReadGroupInfo reads a GroupInfo from a stream.
func ReadGroupInfo(r *tlspl.Reader) GroupInfo {
	start := r.Offset()
	g := GroupInfo{
		Context:         ReadGroupContext(r),
		Extensions:      ReadExtensions(r),
		ConfirmationTag: r.Opaque(-1),
		Signer:          LeafIndex(r.Uint32()),
		Signature:       r.Opaque(-1),
	}
	g.raw = r.Since(start)
	return g
}

// UnmarshalGroupInfo decodes a GroupInfo (the bare struct, not an MLSMessage).
func UnmarshalGroupInfo(b []byte) (*GroupInfo, error) {
	g, err := decode("GroupInfo", b, ReadGroupInfo)
	if err != nil {
		return nil, err
	}
	return &g, nil
}

func (g *GroupInfo) tbs(b []byte) []byte {
	b = g.Context.append(b)
	b = g.Extensions.append(b)
	b = tlspl.AppendOpaque(b, g.ConfirmationTag)
	return tlspl.AppendUint32(b, uint32(g.Signer))
}

func (g *GroupInfo) appendFields(b []byte) []byte {
	return tlspl.AppendOpaque(g.tbs(b), g.Signature)
}

func (g *GroupInfo) append(b []byte) []byte {
	if g.raw != nil {
		return append(b, g.raw...)
	}
	return g.appendFields(b)
}

// Marshal returns the encoding of the bare struct.
func (g *GroupInfo) Marshal() []byte { return g.append(nil) }

const signLabelGroupInfo = "GroupInfoTBS"

// Sign sets Signature with the key of the member Signer.
func (g *GroupInfo) Sign(key *SignatureKey) error {
	g.raw = nil
	sig, err := key.Sign(signLabelGroupInfo, g.tbs(nil))
	if err != nil {
		return fail(KindBug, "sign GroupInfo", err)
	}
	g.Signature = sig
	g.raw = g.appendFields(nil)
	return nil
}

// Verify checks the signature under the signature key of the member Signer.
func (g *GroupInfo) Verify(signatureKey []byte) error {
	if err := VerifyWithLabel(g.Context.Suite, signatureKey, signLabelGroupInfo, g.tbs(nil), g.Signature); err != nil {
		return fail(KindInvalid, "verify GroupInfo", err)
	}
	return nil
}

// EncryptedGroupSecrets are the secrets for one new member (RFC 9420 §12.4.3.1).
type EncryptedGroupSecrets struct {
	NewMember []byte // KeyPackageRef
	Secrets   HPKECiphertext
}

func readEncryptedGroupSecrets(r *tlspl.Reader) EncryptedGroupSecrets {
	return EncryptedGroupSecrets{NewMember: r.Opaque(-1), Secrets: ReadHPKECiphertext(r)}
}

func (s *EncryptedGroupSecrets) append(b []byte) []byte {
	return s.Secrets.append(tlspl.AppendOpaque(b, s.NewMember))
}

// Welcome lets new members in (RFC 9420 §12.4.3.1).
type Welcome struct {
	Suite              Suite
	Secrets            []EncryptedGroupSecrets
	EncryptedGroupInfo []byte
}

// ReadWelcome reads a Welcome from a stream.
func ReadWelcome(r *tlspl.Reader) Welcome {
	return Welcome{Suite: Suite(r.Uint16()), Secrets: readList(r, maxMembers, readEncryptedGroupSecrets),
		EncryptedGroupInfo: r.Opaque(-1)}
}

// UnmarshalWelcome decodes a Welcome (the bare struct, not an MLSMessage).
func UnmarshalWelcome(b []byte) (*Welcome, error) {
	w, err := decode("Welcome", b, ReadWelcome)
	if err != nil {
		return nil, err
	}
	return &w, nil
}

func (w *Welcome) append(b []byte) []byte {
	b = appendList(tlspl.AppendUint16(b, uint16(w.Suite)), w.Secrets, (*EncryptedGroupSecrets).append)
	return tlspl.AppendOpaque(b, w.EncryptedGroupInfo)
}

// Marshal returns the encoding of the bare struct.
func (w *Welcome) Marshal() []byte { return w.append(nil) }

// GroupSecrets is what a Welcome tells one new member in secret (RFC 9420 §12.4.3.1).
type GroupSecrets struct {
	JoinerSecret Secret
	PathSecret   Secret // nil when there is none
	PSKs         []PreSharedKeyID
}

// UnmarshalGroupSecrets decodes GroupSecrets. An empty path secret stays apart from an absent one.
func UnmarshalGroupSecrets(b []byte) (*GroupSecrets, error) {
	return decode("GroupSecrets", b, func(r *tlspl.Reader) *GroupSecrets {
		s := &GroupSecrets{JoinerSecret: r.Opaque(-1)}
		if r.Optional() {
			if s.PathSecret = r.Opaque(-1); s.PathSecret == nil {
				s.PathSecret = Secret{}
			}
		}
		s.PSKs = readList(r, maxPSKs, ReadPreSharedKeyID)
		return s
	})
}

// Marshal returns the encoding.
func (s *GroupSecrets) Marshal() Secret {
	b := tlspl.AppendOpaque(nil, s.JoinerSecret)
	b = tlspl.AppendOptional(b, s.PathSecret != nil, func(b []byte) []byte { return tlspl.AppendOpaque(b, s.PathSecret) })
	return appendList(b, s.PSKs, (*PreSharedKeyID).append)
}
