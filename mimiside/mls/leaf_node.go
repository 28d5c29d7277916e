package mls

import (
	"slices"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// Capabilities says what a client supports (RFC 9420 §7.2). The defaults of the RFC (extensions 1 to 5, proposals
// 1 to 7) are supported without being listed.
type Capabilities struct {
	Versions    []ProtocolVersion
	Suites      []Suite
	Extensions  []ExtensionType
	Proposals   []ProposalType
	Credentials []CredentialType
}

// ReadCapabilities reads Capabilities from a stream.
func ReadCapabilities(r *tlspl.Reader) Capabilities {
	return Capabilities{
		Versions:    readUint16s[ProtocolVersion](r, maxCapabilities),
		Suites:      readUint16s[Suite](r, maxCapabilities),
		Extensions:  readUint16s[ExtensionType](r, maxCapabilities),
		Proposals:   readUint16s[ProposalType](r, maxCapabilities),
		Credentials: readUint16s[CredentialType](r, maxCapabilities),
	}
}

func (c *Capabilities) append(b []byte) []byte {
	b = appendUint16s(b, c.Versions)
	b = appendUint16s(b, c.Suites)
	b = appendUint16s(b, c.Extensions)
	b = appendUint16s(b, c.Proposals)
	return appendUint16s(b, c.Credentials)
}

// Marshal returns the encoding.
func (c *Capabilities) Marshal() []byte { return c.append(nil) }

// UnmarshalCapabilities decodes Capabilities.
func UnmarshalCapabilities(b []byte) (Capabilities, error) {
	return decode("Capabilities", b, ReadCapabilities)
}

// SupportsExtension tells whether t is listed or one of the defaults, application_id to external_senders.
func (c *Capabilities) SupportsExtension(t ExtensionType) bool {
	return t >= ExtensionApplicationID && t <= ExtensionExternalSenders || slices.Contains(c.Extensions, t)
}

// SupportsProposal tells whether t is listed or one of the defaults, add to group_context_extensions.
func (c *Capabilities) SupportsProposal(t ProposalType) bool {
	return t >= ProposalAdd && t <= ProposalGroupContextExtensions || slices.Contains(c.Proposals, t)
}

// SupportsCredential tells whether t is listed: there are no defaults.
func (c *Capabilities) SupportsCredential(t CredentialType) bool {
	return slices.Contains(c.Credentials, t)
}

// Supports tells whether everything that r requires is supported.
func (c *Capabilities) Supports(r *RequiredCapabilities) bool {
	for _, t := range r.Extensions {
		if !c.SupportsExtension(t) {
			return false
		}
	}
	for _, t := range r.Proposals {
		if !c.SupportsProposal(t) {
			return false
		}
	}
	for _, t := range r.Credentials {
		if !c.SupportsCredential(t) {
			return false
		}
	}
	return true
}

// Lifetime is the time a KeyPackage is valid, in seconds since 1970, both ends included (RFC 9420 §7.2).
type Lifetime struct {
	NotBefore uint64
	NotAfter  uint64
}

// Contains tells whether the Unix time now (seconds) is inside.
func (l Lifetime) Contains(now uint64) bool { return l.NotBefore <= now && now <= l.NotAfter }

// LeafNode is a member's place in the ratchet tree (RFC 9420 §7.2). A decoded or signed LeafNode remembers its
// bytes, for hashing: to change one, copy the struct, set the fields and Sign the copy.
type LeafNode struct {
	EncryptionKey []byte
	SignatureKey  []byte
	Credential    Credential
	Capabilities  Capabilities
	Source        LeafNodeSource
	Lifetime      Lifetime // source key_package
	ParentHash    []byte   // source commit
	Extensions    Extensions
	Signature     []byte

	raw []byte
}

// LeafNodeContext is what the signature of a leaf node of source update or commit covers beside the leaf itself.
type LeafNodeContext struct {
	GroupID []byte
	Index   LeafIndex
}

// ReadLeafNode reads a LeafNode from a stream.
func ReadLeafNode(r *tlspl.Reader) LeafNode {
	start := r.Offset()
	l := LeafNode{
		EncryptionKey: r.Opaque(-1),
		SignatureKey:  r.Opaque(-1),
		Credential:    ReadCredential(r),
		Capabilities:  ReadCapabilities(r),
		Source:        LeafNodeSource(r.Uint8()),
	}
	switch l.Source {
	case LeafSourceKeyPackage:
		l.Lifetime = Lifetime{NotBefore: r.Uint64(), NotAfter: r.Uint64()}
	case LeafSourceUpdate:
	case LeafSourceCommit:
		l.ParentHash = r.Opaque(-1)
	default:
		unknownValue(r, "leaf_node_source", uint64(l.Source))
	}
	l.Extensions = ReadExtensions(r)
	l.Signature = r.Opaque(-1)
	l.raw = r.Since(start)
	return l
}

// UnmarshalLeafNode decodes a LeafNode. The result aliases b.
func UnmarshalLeafNode(b []byte) (*LeafNode, error) {
	l, err := decode("LeafNode", b, ReadLeafNode)
	if err != nil {
		return nil, err
	}
	return &l, nil
}

func (l *LeafNode) appendUnsigned(b []byte) []byte {
	b = tlspl.AppendOpaque(b, l.EncryptionKey)
	b = tlspl.AppendOpaque(b, l.SignatureKey)
	b = l.Credential.append(b)
	b = l.Capabilities.append(b)
	b = append(b, byte(l.Source))
	switch l.Source {
	case LeafSourceKeyPackage:
		b = tlspl.AppendUint64(tlspl.AppendUint64(b, l.Lifetime.NotBefore), l.Lifetime.NotAfter)
	case LeafSourceCommit:
		b = tlspl.AppendOpaque(b, l.ParentHash)
	}
	return l.Extensions.append(b)
}

func (l *LeafNode) appendFields(b []byte) []byte {
	return tlspl.AppendOpaque(l.appendUnsigned(b), l.Signature)
}

func (l *LeafNode) append(b []byte) []byte {
	if l.raw != nil {
		return append(b, l.raw...)
	}
	return l.appendFields(b)
}

// Marshal returns the encoding: the very bytes that were decoded or signed. The caller must not change them.
func (l *LeafNode) Marshal() []byte {
	if l.raw != nil {
		return l.raw
	}
	return l.appendFields(nil)
}

const signLabelLeafNode = "LeafNodeTBS"

// tbs returns LeafNodeTBS; ctx is not used for source key_package.
func (l *LeafNode) tbs(ctx LeafNodeContext) []byte {
	var b []byte
	if l.raw != nil {
		unsigned := len(l.raw) - len(l.Signature) - len(tlspl.AppendLength(nil, len(l.Signature)))
		b = append(make([]byte, 0, unsigned+len(ctx.GroupID)+8), l.raw[:unsigned]...)
	} else {
		b = l.appendUnsigned(nil)
	}
	if l.Source != LeafSourceKeyPackage {
		b = tlspl.AppendUint32(tlspl.AppendOpaque(b, ctx.GroupID), uint32(ctx.Index))
	}
	return b
}

// Sign sets SignatureKey and Signature (RFC 9420 §7.2). The context counts for the sources update and commit only.
func (l *LeafNode) Sign(key *SignatureKey, ctx LeafNodeContext) error {
	l.raw = nil
	l.SignatureKey = key.Public()
	sig, err := key.Sign(signLabelLeafNode, l.tbs(ctx))
	if err != nil {
		return fail(KindBug, "sign LeafNode", err)
	}
	l.Signature = sig
	l.raw = l.appendFields(nil)
	return nil
}

// Verify checks the signature under the leaf's own key, nothing else.
func (l *LeafNode) Verify(suite Suite, ctx LeafNodeContext) error {
	if err := VerifyWithLabel(suite, l.SignatureKey, signLabelLeafNode, l.tbs(ctx), l.Signature); err != nil {
		return fail(KindInvalid, "verify LeafNode", err)
	}
	return nil
}
